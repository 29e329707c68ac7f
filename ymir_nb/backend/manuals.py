"""An executor's manual: what its ``/img-man`` says of it, read without running anything of it.

The files are a stranger's. They are read within bounds, as plain YAML without aliases, and whatever
is no plain value is refused by name.

Source: YMIR 2.5.0, executor contract, ``/img-man``: a template is there where the function is offered.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from ymir_nb.backend.errors import PreflightFailed
from ymir_nb.backend.untrusted import show

KINDS = ("training", "mining", "infer")
RESERVED = frozenset(
    {"task_id", "class_names", "gpu_id", "pretrained_model_params", "model_params_path", "run_infer", "run_mining"}
)
OBJECT_TYPES: Mapping[int, str] = {2: "det", 3: "semantic-seg", 4: "instance-seg", 50: "multi-modal"}
"""Object types, and the folder of ``/img-man`` that holds their templates where an executor has several."""
CODE_KEYS = ("git_url", "git_branch", "code_config")
MAX_README = 4000
MAX_BRACKETS = 500
_MANIFEST, _README, _CODE = "manifest.yaml", "readme.md", "code-access.yaml"
_TEMPLATES = tuple(f"{kind}-template.yaml" for kind in KINDS)
MANUAL_FILES = (
    *(_TEMPLATES),
    *(f"{folder}/{name}" for folder in OBJECT_TYPES.values() for name in _TEMPLATES),
    *(_MANIFEST, _README, _CODE),
)
"""All files of an ``/img-man`` that mean something."""


@dataclass(frozen=True)
class Manual:
    """What an executor says of itself.

    Parameters
    ----------
    templates : mapping of str to mapping
        Editable parameters with their defaults, for each of ``training``, ``mining`` and ``infer`` that it offers.
    helps : mapping of str to mapping
        The comment behind each parameter, where there is one.
    texts : mapping of str to str
        The templates as they were written; empty for one that was recorded without its text.
    object_type : int
        2 detection, 3 semantic and 4 instance segmentation, 50 multimodal.
    object_types : tuple of int
        All that it offers; `object_type` is one of them.
    livecode : bool
        Whether it can fetch its program with git.
    code : mapping of str to str
        Where it suggests to fetch that from: ``git_url``, ``git_branch``, ``code_config``.
    readme : str
        What it says to people, at most 4,000 characters.
    """

    templates: Mapping[str, Mapping[str, Any]]
    helps: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    object_type: int = 2
    object_types: tuple[int, ...] = (2,)
    livecode: bool = False
    code: Mapping[str, str] = field(default_factory=dict)
    readme: str = ""

    def to_row(self) -> dict[str, Any]:
        """Give it as a record for ``executors.yaml``; what says nothing is left out."""
        row: dict[str, Any] = {"object_type": self.object_type}
        if self.object_types != (self.object_type,):
            row["object_types"] = list(self.object_types)
        if self.livecode:
            row |= {"livecode": True, "code": dict(self.code)}
        if self.readme:
            row["readme"] = self.readme
        return row | {"templates": {kind: self.texts.get(kind) or dict(t) for kind, t in self.templates.items()}}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], *, where: str) -> Manual:
        """Read a record; a template may be its text, or a mapping of parameters to defaults."""
        texts = {kind: text for kind, text in (row.get("templates") or {}).items() if isinstance(text, str)}
        read = {kind: parse_template(text, where=f"{where}, {kind}") for kind, text in texts.items()}
        templates = {
            kind: read[kind][0] if kind in read else dict(value) for kind, value in (row.get("templates") or {}).items()
        }
        object_type = int(row.get("object_type", 2))
        return cls(
            templates=templates,
            helps={kind: helps for kind, (_, helps) in read.items()},
            texts=texts,
            object_type=object_type,
            object_types=tuple(row.get("object_types") or [object_type]),
            livecode=bool(row.get("livecode")),
            code=dict(row.get("code") or {}),
            readme=row.get("readme", ""),
        )


def read_manual(files: Mapping[str, bytes], *, where: str, object_type: int | None = None) -> Manual:
    """Understand the files of an ``/img-man``.

    Parameters
    ----------
    files : mapping of str to bytes
        As `manual_files.read_folder` and `read_archive` give them.
    where : str
        What to call their place in messages.
    object_type : int, optional
        Which one to take of an executor that offers several; by default the first that it names.

    Raises
    ------
    PreflightFailed
        No template, one that is no flat mapping of plain values, or an object type that it does not have.

    Examples
    --------
    >>> manual = read_manual({"infer-template.yaml": b"conf: 0.5  # lowest score"}, where="an example")
    >>> manual.templates, manual.helps
    ({'infer': {'conf': 0.5}}, {'infer': {'conf': 'lowest score'}})
    """
    manifest = _mapping(files, _MANIFEST, where)
    named = _object_types(manifest.get("object_type", 2), where)
    found = {number: texts for number in named if (texts := _template_texts(files, number))}
    if not found:
        names = ", ".join(_TEMPLATES)
        raise PreflightFailed(f"{where} holds no template of an executor. It needs one or more of {names}.")
    chosen = next(iter(found)) if object_type is None else object_type
    if chosen not in found:
        offered = ", ".join(f"{number} ({OBJECT_TYPES[number]})" for number in found)
        raise PreflightFailed(f"{where} has nothing for object type {chosen}; it offers {offered}.")
    read = {kind: parse_template(text, where=f"{where}, {kind}-template.yaml") for kind, text in found[chosen].items()}
    code = _mapping(files, _CODE, where)
    return Manual(
        templates={kind: defaults for kind, (defaults, _) in read.items()},
        helps={kind: helps for kind, (_, helps) in read.items()},
        texts={kind: _tidy(text) for kind, text in found[chosen].items()},
        object_type=chosen,
        object_types=tuple(found),
        livecode=manifest.get("enable_livecode") is True,
        code={key: code[key] for key in CODE_KEYS if isinstance(code.get(key), str) and code[key]},
        readme=_readme(files.get(_README, b"")),
    )


def parse_template(text: str, *, where: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Read a template: its editable parameters with their defaults, and the comment behind each.

    Parameters
    ----------
    text : str
        Lines of ``name: default  # help``. Keys that the caller fills in are left out.
    where : str
        What to call it in messages.

    Raises
    ------
    PreflightFailed
        It is no flat mapping of plain values.

    Examples
    --------
    >>> parse_template("epochs: 3  # rounds over the images", where="an example")
    ({'epochs': 3}, {'epochs': 'rounds over the images'})
    """
    values = _plain_mapping(text, where)
    defaults = {key: value for key, value in values.items() if key not in RESERVED}
    lines = text.splitlines()
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    helps = {}
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        end = value.end_mark
        comment = lines[end.line][end.column :].strip() if end.line == key.start_mark.line else ""
        if key.value in defaults and comment.startswith("#"):
            helps[key.value] = comment.lstrip("#").strip()
    return defaults, helps


def _template_texts(files: Mapping[str, bytes], object_type: int) -> dict[str, str]:
    """Give the templates of an object type: those of its own folder, or else those that stand alone."""
    for prefix in (f"{OBJECT_TYPES[object_type]}/", ""):
        names = {kind: f"{prefix}{kind}-template.yaml" for kind in KINDS}
        texts = {kind: _text(files[name], name) for kind, name in names.items() if name in files}
        if texts:
            return texts
    return {}


def _object_types(given: Any, where: str) -> list[int]:
    """Read the manifest's object type, one or a list of them."""
    numbers = given if isinstance(given, list) and given else [given]
    for number in numbers:
        if type(number) is not int or number not in OBJECT_TYPES:
            known = ", ".join(f"{n} ({name})" for n, name in OBJECT_TYPES.items())
            raise PreflightFailed(f"{where}, {_MANIFEST}: object_type is {show(given)}; it must be of {known}.")
    return list(dict.fromkeys(numbers))


def _mapping(files: Mapping[str, bytes], name: str, where: str) -> dict[str, Any]:
    return _plain_mapping(_text(files[name], name), f"{where}, {name}") if name in files else {}


def _plain_mapping(text: str, where: str) -> dict[str, Any]:
    """Read YAML that is a flat mapping; aliases are refused, since a few of them can stand for gigabytes."""
    if text.count("[") + text.count("{") > MAX_BRACKETS:  # nested, they take the parser quadratic time
        raise PreflightFailed(f"{where} holds over {MAX_BRACKETS} lists and mappings. A template is flat.")
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise PreflightFailed(f"{where} uses YAML's anchors and aliases. Write the values out.")
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise PreflightFailed(f"{where} is no YAML: {' '.join(str(error).split())[:300]}. Mend it.") from error
    data = {} if data is None else data
    if not isinstance(data, dict):
        raise PreflightFailed(f"{where} must be a flat mapping of parameter to default, not {type(data).__name__}.")
    for key, value in data.items():
        if not isinstance(key, str):
            raise PreflightFailed(f"{where}: the name {show(key)} is no text. Write it in quotes.")
        if not _is_plain(value):
            raise PreflightFailed(
                f"{where}: {key} is {show(value)}; a default is a number, text, true, false or a list."
            )
    return data


def _is_plain(value: Any) -> bool:
    """Tell whether JSON can hold a value."""
    if isinstance(value, list):
        return all(_is_plain(item) for item in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    return value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


def _tidy(text: str) -> str:
    """Drop what would keep a text from being written as readable lines, where its meaning stays."""
    tidy = "".join(f"{line.expandtabs().rstrip()}\n" for line in text.splitlines())
    return tidy if yaml.safe_load(tidy) == yaml.safe_load(text) else text


def _readme(data: bytes) -> str:
    text = data.decode("utf-8", errors="replace")
    return "".join(c for c in text if c.isprintable() or c == "\n").strip()[:MAX_README]


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PreflightFailed(f"{name} is no text in UTF-8 ({error.reason} at byte {error.start}).") from error
