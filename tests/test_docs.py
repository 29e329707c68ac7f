import dataclasses
import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import ymir_nb
from ymir_nb.backend.formats import FORMATS
from ymir_nb.backend.strategies import STRATEGIES
from ymir_nb.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_names_every_command():
    table = README.split("## The command")[1].split("## Architecture")[0]
    for name, entry in COMMANDS.items():
        for word in (name, *(entry if isinstance(entry, dict) else ())):
            assert re.search(rf"`(\w+ )?{word}[` ]", table), word


def test_the_readme_names_every_format_strategy_and_widget():
    from ymir_nb import widgets

    for name in (*FORMATS, *STRATEGIES, *(w for w in widgets.__all__ if w[0].isupper())):
        assert name in README, name


def test_the_readme_names_every_isolation_setting_and_state_of_a_job():
    from typing import get_args

    from ymir_nb.backend.jobs import State
    from ymir_nb.backend.runners import Isolation

    for name in (*(field.name for field in dataclasses.fields(Isolation)), *get_args(State)):
        assert f"`{name}`" in README, name


def test_the_first_lines_call_what_there_is():
    code = README.split("## The first notebook's lines")[1].split("```")[1]
    for name in re.findall(r"ym\.(\w+)", code):
        assert name in ymir_nb.__all__


def test_make_alone_lists_its_commands(run):
    listed = run("make", cwd=ROOT)
    for name in ("demo", "test", "lab", "check"):
        assert f"make {name}" in listed


def test_no_file_names_the_address_of_a_registry(run):
    marks = "index-url|/simple/|registry *= *http|resolved.*: *.http"
    found = run("git", "grep", "-nE", marks, "--", ".", ":!tests/test_docs.py", cwd=ROOT, check=False)
    assert found == ""


MODULES = sorted(
    info.name
    for info in pkgutil.walk_packages(ymir_nb.__path__, "ymir_nb.")
    if "__main__" not in info.name and "supervisor" not in info.name
)


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name, tmp_path):
    module = importlib.import_module(name)
    outcome = doctest.testmod(module, extraglobs={"tmp": tmp_path}, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert outcome.failed == 0
