"""Imports only go down: jobs -> cluster -> eosvos, the science knows neither Ray nor MLflow, no job knows another."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ("eosvos", "cluster", "jobs")
FORBIDDEN = {"eosvos": {"ray", "mlflow", "cluster", "jobs"}, "cluster": {"jobs"}, "jobs": {"jobs"}}
"""What no file of a floor may import. Jobs are scripts: one that imports another names it with or without ``jobs.``."""


def _imported(source: str) -> set[str]:
    """Every module that is imported anywhere in a file, in functions too; relative imports start with a dot."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("import_module", "__import__") and node.args and isinstance(node.args[0], ast.Constant):
                found.add(str(node.args[0].value))
    return found


def violations(floor: str, source: str, jobs: set[str]) -> set[str]:
    """What a file on ``floor`` imports and must not; ``jobs`` are the names of the scripts in jobs/."""
    forbidden = FORBIDDEN[floor] | (jobs if floor == "jobs" else set())
    return {name for name in _imported(source) if name.startswith(".") or name.split(".")[0] in forbidden}


def _files() -> list[Path]:
    return [path for floor in FLOORS for path in sorted((ROOT / floor).rglob("*.py"))]


def _jobs() -> set[str]:
    return {path.stem for path in (ROOT / "jobs").glob("*.py") if path.stem != "__init__"}


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_only_go_down(floor: str) -> None:
    files = [path for path in _files() if path.relative_to(ROOT).parts[0] == floor]
    assert files
    found = {str(path.relative_to(ROOT)): violations(floor, path.read_text(), _jobs()) for path in files}
    assert {path: names for path, names in found.items() if names} == {}


BAD = {
    "import ray": ("eosvos", "ray"),
    "import numpy, ray.data": ("eosvos", "ray.data"),
    "from mlflow.tracking import MlflowClient": ("eosvos", "mlflow.tracking"),
    "def late():\n    from cluster import config": ("eosvos", "cluster"),
    "import importlib\nimportlib.import_module('ray.train')": ("eosvos", "ray.train"),
    "try:\n    import jobs.meta_train as m\nexcept ImportError:\n    pass": ("cluster", "jobs.meta_train"),
    "from jobs import evaluate": ("jobs", "jobs"),
    "import evaluate": ("jobs", "evaluate"),
    "from . import evaluate": ("jobs", "."),
}


@pytest.mark.parametrize("source", BAD)
def test_the_check_finds_what_it_looks_for(source: str) -> None:
    floor, name = BAD[source]
    assert violations(floor, source, {"evaluate"}) == {name}


def test_the_check_lets_pass_what_is_allowed() -> None:
    assert not violations(
        "eosvos", "import array, rays\nfrom eosvos.model import config\nx = 'import ray'", {"evaluate"}
    )
    assert not violations("cluster", "import ray\nimport mlflow\nfrom eosvos import cli\nimport cluster.config", {"a"})
    assert not violations(
        "jobs", "import ray\nfrom cluster import evaluation\nfrom eosvos.cli import run", {"evaluate"}
    )


BELOW = {
    "experiments": {"training", "evaluation", "sweep", "tracking"},
    "sweep": {"evaluation", "tracking"},
    "training": {"tracking"},
    "evaluation": {"tracking"},
    "tracking": set(),
    "": set(),
}
"""Of each sub-package of cluster/, and of its files: which sub-packages it may import from. Files are for all."""


def _room(module: str) -> str:
    """The sub-package that a module is in, such as ``cluster.training``; a file beside them is one of its own."""
    floor, *names = module.split(".")
    return ".".join([floor, *names[:1]])


@pytest.mark.parametrize("room", BELOW)
def test_imports_between_rooms_only_go_down(room: str) -> None:
    files = sorted((ROOT / "cluster" / room).rglob("*.py") if room else (ROOT / "cluster").glob("*.py"))
    assert files
    forbidden = {f"cluster.{other}" for other in BELOW if other not in {room, "", *BELOW[room]}}
    upwards = {
        f"{path.relative_to(ROOT)}: {module}"
        for path in files
        for module in _imported(path.read_text())
        if _room(module) in forbidden
    }
    assert upwards == set()


def test_every_sub_package_of_the_cluster_is_a_room() -> None:
    folders = {path.parent.name for path in (ROOT / "cluster").glob("*/*.py")}
    assert folders == {room for room in BELOW if room}


def test_sub_packages_have_no_cycle() -> None:
    imported: dict[str, set[str]] = {}
    for floor in ("eosvos", "cluster"):
        for path in (ROOT / floor).rglob("*.py"):
            room = _room(".".join(path.relative_to(ROOT).with_suffix("").parts))
            rooms = {_room(module) for module in _imported(path.read_text()) if module.split(".")[0] == floor}
            imported.setdefault(room, set()).update(rooms - {room})
    assert len(list(TopologicalSorter(imported).static_order())) >= len(imported)  # raises CycleError


def test_no_kind_of_training_is_told_by_its_type() -> None:
    files = [path for floor in ("cluster", "jobs") for path in (ROOT / floor).rglob("*.py")]
    assert [str(path) for path in files if re.search(r"isinstance\(.*Training", path.read_text())] == []
