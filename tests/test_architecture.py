import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "ymir_nb"

FLOORS = {
    "A": """
        analysis assignment boxes calibration comparable comparison confusion contest dataset diagnosis
        errors event_records iou_sweep label_review labels learning_curves marks masks matching metrics
        model_card names objectlab operating_points ops ordering outcomes overlaps pairing polygons
        precision resampling run_lengths scaling segmentations semantic slices stopping strategies tables
        voc_precision
    """,
    "B": """
        contract contract_annotations contract_assets detections embeddings event_files failures fitting
        formats gathering git gpu_queue gpus imagefiles images livecode manual_files manuals many_files
        monitor notebooks objects outbox package_info packages parameters pinned_images progress
        public_executors reports results runners runs sandbox shared_folder sources store tasks
        training_results untrusted verified weights
    """,
    "C": """
        building executors hidden jobs label_book model_imports models projects workspace
    """,
    "D": """
        arms collecting evaluation exporting importing inference mining reviewing rounds simulation steps
        training verification
    """,
}
FLOOR = {module: floor for floor, modules in FLOORS.items() for module in modules.split()}


def imports(path: Path) -> set[str]:
    """Modules of this project that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in found if name.startswith("ymir_nb")}


def backend_module(name: str) -> str | None:
    parts = name.split(".")
    return parts[2] if len(parts) > 2 and parts[1] == "backend" else None


BACKEND = sorted(
    path for path in (PACKAGE / "backend").rglob("*.py") if path.name != "__init__.py" or path.parent.name != "backend"
)


@pytest.mark.parametrize("path", BACKEND, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_the_floors(path):
    own = path.relative_to(PACKAGE / "backend").parts[0].removesuffix(".py")
    assert own in FLOOR, f"{own} has no floor: add it to FLOORS"
    for name in imports(path):
        other = backend_module(name)
        if other in FLOOR:
            assert FLOOR[other] <= FLOOR[own], f"{own} (floor {FLOOR[own]}) imports {other} (floor {FLOOR[other]})"
        assert name.split(".")[1:2] in ([], ["backend"], ["executor"]), f"{own} imports {name}, which is above it"


@pytest.mark.parametrize("path", sorted((PACKAGE / "widgets").glob("*.py")), ids=lambda path: path.name)
def test_widgets_stand_on_the_core_alone(path):
    for name in imports(path):
        other = backend_module(name)
        assert other is None or FLOOR.get(other) == "A", f"{path.name} imports {name}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "executor").rglob("*.py")), ids=lambda path: path.name)
def test_the_executor_imports_nothing_of_the_others(path):
    assert {name for name in imports(path) if not name.startswith("ymir_nb.executor")} <= {"ymir_nb"}


def test_the_core_opens_no_file_and_starts_no_process():
    for module in FLOORS["A"].split():
        package = PACKAGE / "backend" / module
        for path in sorted(package.glob("*.py")) if package.is_dir() else [package.with_suffix(".py")]:
            names = {
                node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                if isinstance(node, ast.Call)
            }
            assert not names & {"open", "Popen", "read_text", "read_bytes", "write_text", "write_bytes"}, path


def test_import_ymir_nb_is_cheap():
    heavy = "{'torch', 'docker', 'dvc', 'papermill', 'bokeh', 'pandas'}"
    code = f"import sys, ymir_nb; print(sorted({{m.split('.')[0] for m in sys.modules}} & {heavy}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_loads():
    import ymir_nb

    for name in ymir_nb.__all__:
        assert getattr(ymir_nb, name) is not None
    with pytest.raises(AttributeError, match="import_dataset"):
        _ = ymir_nb.no_such_thing


def test_environment_yml_installs_what_pyproject_names():
    conda_names = {"pytorch": "torch", "docker-py": "docker", "python-build": "build"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {
        r.lower().replace("_", "-")
        for group in (project["dependencies"], *project["optional-dependencies"].values())
        for r in group
    }
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(entry["pip"] for entry in listed if isinstance(entry, dict))
    found = set()
    for entry in [*(e for e in listed if isinstance(e, str)), *pip]:
        name, bound, version = entry.partition(">=")
        found.add(f"{conda_names.get(name, name)}{bound}{version}".lower().replace("_", "-"))
    assert found - {"python>=3.11", "pip", "-e ."} == wanted


def test_the_tested_pins_satisfy_the_ranges():
    from packaging.requirements import Requirement

    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    pins = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for group in (project["dependencies"], *project["optional-dependencies"].values()):
        for text in group:
            requirement = Requirement(text)
            assert pins[requirement.name.lower().replace("_", "-")] in requirement.specifier, text
