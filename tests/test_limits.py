"""Limits of size, so that a file has one idea and a function one job."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
ARGUMENTS = 7
LINES = 300


def files(*folders: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for folder in folders for path in (ROOT / folder).rglob("*.py"))


def too_many_arguments(source: str) -> list[str]:
    """Functions with more than ``ARGUMENTS`` arguments, ``self`` and ``cls`` not counted."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            own = node.args
            every = [*own.posonlyargs, *own.args, *own.kwonlyargs, own.vararg, own.kwarg]
            names = [argument.arg for argument in every if argument is not None]
            if len(names) - (names[:1] in (["self"], ["cls"])) > ARGUMENTS:
                found.append(getattr(node, "name", f"lambda in line {node.lineno}"))
    return found


def test_no_function_takes_more_arguments() -> None:
    found = {file: too_many_arguments((ROOT / file).read_text()) for file in files("cluster", "eosvos")}
    assert {file: names for file, names in found.items() if names} == {}


def test_no_file_has_more_lines() -> None:
    lines = {file: (ROOT / file).read_text().count("\n") for file in files("cluster", "eosvos", "jobs", "tests")}
    assert {file: count for file, count in lines.items() if count > LINES} == {}


def test_arguments_of_every_kind_count() -> None:
    assert too_many_arguments("def f(self, a, b, c, d, e, f, g): ...") == []
    assert too_many_arguments("def f(a, b, /, c, d, *, e, f, g, **h): ...") == ["f"]
    assert too_many_arguments("class A:\n  async def f(self, a, b, c, d, e, f, g, h): ...") == ["f"]
    assert too_many_arguments("lambda a, b, c, d, e, f, g, h: 0") == ["lambda in line 1"]
