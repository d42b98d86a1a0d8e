"""What is imported is declared: by the base install for the science, by the extras for the cluster and the tests."""

import ast
import re
import sys
import tomllib
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import eosvos

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DECLARED = {"base": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
OURS = {"eosvos", "cluster", "jobs", "tests"}
UNIX_ALONE = {"fcntl", "grp", "pwd", "resource", "termios"}
PLOTS = re.compile(r"^(from|import) matplotlib\b", re.MULTILINE)
"""Figures that need matplotlib belong to the cluster's reports; with the base install nothing imports them."""


def _name(requirement: str) -> str:
    """``ray[data]>=2.60`` -> ``ray``, as package indices write names."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", requirement)[0]).lower()


def _imported(path: Path) -> set[str]:
    """Packages that a file imports anywhere, but for those of Python and of this project."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names - OURS - set(sys.stdlib_module_names)


def _of_figures() -> set[Path]:
    """Files that need matplotlib, and those of the same folder that import one of them."""
    files = set((ROOT / "eosvos" / "figures").glob("*.py"))
    found = {path for path in files if PLOTS.search(path.read_text())}
    while True:
        modules = [f"eosvos.figures.{path.stem}" for path in found] + [
            f"eosvos.figures import {path.stem}" for path in found
        ]
        more = {path for path in files if any(re.search(rf"{name}\b", path.read_text()) for name in modules)}
        if more <= found:
            return found
        found |= more


def _undeclared(files: set[Path], *extras: str) -> dict[str, set[str]]:
    """File -> packages that it imports and that no requirement of the extras brings by itself."""
    declared = {_name(requirement) for extra in extras for requirement in DECLARED[extra]}
    distributions = packages_distributions()
    missing = {
        str(path.relative_to(ROOT)): {
            package
            for package in _imported(path)
            if not declared & {_name(distribution) for distribution in distributions.get(package, [package])}
        }
        for path in files
    }
    return {path: packages for path, packages in missing.items() if packages}


def _science() -> set[Path]:
    return set((ROOT / "eosvos").rglob("*.py")) - _of_figures()


def test_the_science_needs_the_base_install_alone() -> None:
    assert _undeclared(_science(), "base") == {}


def test_nothing_of_the_base_install_imports_a_plot() -> None:
    plots = {f"eosvos.figures.{path.stem}" for path in _of_figures()}
    assert "eosvos.figures.style" in plots
    for path in _science():
        modules = {node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)}
        assert not modules & plots, path


def test_the_cluster_and_the_jobs_need_the_extra() -> None:
    files = {path for floor in ("cluster", "jobs") for path in (ROOT / floor).rglob("*.py")} | _of_figures()
    benchmark = ROOT / "jobs" / "benchmark_scores.py"  # its reference is OpenCV
    assert _undeclared(files - {benchmark}, "base", "cluster") == {}
    assert _undeclared({benchmark}, "base", "cluster", "dev") == {}


def test_tests_need_all() -> None:
    found = _undeclared(set((ROOT / "tests").rglob("*.py")), "base", "cluster", "dev")
    # Only to make its figures anew; it is in no package index.
    assert found == {"tests/eosvos/metrics/test_official_scores.py": {"davis2017"}}


@pytest.mark.parametrize("extra", ["base", "cluster"])
def test_nothing_is_declared_that_nothing_needs(extra: str) -> None:
    files = {path for floor in ("eosvos", "cluster", "jobs") for path in (ROOT / floor).rglob("*.py")}
    distributions = packages_distributions()
    used = {_name(own) for path in files for package in _imported(path) for own in distributions.get(package, [])}
    used.add("psutil")  # MLflow's system metrics import it, and MLflow does not bring it
    assert {_name(requirement) for requirement in DECLARED[extra]} <= used


@pytest.mark.parametrize("floor", ["eosvos", "cluster"])
def test_importing_needs_nothing_that_windows_has_not(floor: str) -> None:
    found = {
        (str(path.relative_to(ROOT)), name)
        for path in (ROOT / floor).rglob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert {(path, name) for path, name in found if name in UNIX_ALONE} == set()


def _all_needed() -> set[str]:
    """The requirements, what they require on this machine, and so on."""
    todo = [Requirement(requirement) for requirements in DECLARED.values() for requirement in requirements]
    needed: set[str] = set()
    seen: set[str] = set()
    while todo:
        requirement = todo.pop()
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        needed.add(_name(requirement.name))
        for text in distribution(requirement.name).requires or []:
            inner = Requirement(text)
            extras = ("", *requirement.extras)
            if inner.marker is None or any(inner.marker.evaluate({"extra": extra}) for extra in extras):
                todo.append(inner)
    return needed


def test_all_versions_are_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = [_name(line) for line in lines if line and not line.startswith("#")]
    assert len(set(pinned)) == len(pinned)
    assert _all_needed() <= set(pinned)


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["version"], citation["license"]) == (eosvos.__version__, PROJECT["license"])
