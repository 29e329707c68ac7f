import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(*command, cwd):
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    target = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", target, ROOT, cwd=target)
    return next(target.glob("*.whl"))


def test_the_wheel_carries_templates_notebooks_static_files_and_the_executors_manual(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, suffix in (("templates", "*.ipynb"), ("notebooks", "*.ipynb")):
        for path in (ROOT / folder).glob(suffix):
            assert f"ymir_nb/{folder}/{path.name}" in names
    for folder in ("widgets/static", "executor/img-man"):
        for path in (ROOT / "ymir_nb" / folder).iterdir():
            assert f"ymir_nb/{folder}/{path.name}" in names
    assert "ymir_nb/py.typed" in names
    assert not [name for name in names if "helmets/" in name or name.startswith("tests/")]


@pytest.mark.slow
def test_the_wheel_works_in_a_clean_environment(wheel, tmp_path, draw):
    run(sys.executable, "-m", "venv", tmp_path / "env", cwd=tmp_path)
    python = tmp_path / "env" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", wheel, cwd=tmp_path)
    command = tmp_path / "env" / "bin" / "ymir-nb"
    assert "evaluate" in run(command, "--help", cwd=tmp_path)
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(draw(1))
    run(command, "init", "ws", cwd=tmp_path)
    assert '"n_images": 1' in run(command, "-w", "ws", "import", "pool", photos, "--json", cwd=tmp_path)
    code = (
        "from ymir_nb.backend import notebooks, rounds; import ymir_nb as ym\n"
        "print(*(notebooks.parameters_of(notebooks.template(stem)).keys() for stem in rounds.TEMPLATES.values()))\n"
        "print(ym.browse(ym.Workspace.open('ws').dataset('pool'))._repr_mimebundle_()[0]['text/html'][:60])"
    )
    assert "workspace" in run(python, "-W", "ignore", "-c", code, cwd=tmp_path)
