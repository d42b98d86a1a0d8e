"""Configurations from files: nested as they are, or flat, a field by its flag's name."""

from dataclasses import dataclass
from typing import Any

import pytest

from eosvos.config import check_different, merged
from eosvos.errors import BadInput


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1
    widths: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Other:
    rate: float = 0.2
    name: str = "a"


@dataclass(frozen=True)
class Outer:
    inner: Inner = Inner()
    other: Other = Other()
    steps: int = 5


@pytest.mark.parametrize(
    "changes",
    [
        {"inner": {"widths": [3]}, "other": {"name": "b"}},
        {"widths": [3], "name": "b"},
        {"inner": {"widths": [3]}, "name": "b"},
        {"other": {"name": "b"}, "widths": [3]},
    ],
)
def test_nested_or_flat(changes: dict[str, Any]) -> None:
    base = Outer(steps=7)
    assert merged(Outer, base, changes, "x.json") == Outer(Inner(widths=(3,)), Other(name="b"), 7)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rate": 1.0}, r"x.json: 'rate' can be inner.rate and other.rate; give the outer one"),
        ({"widths": [3], "inner": {"widths": [4]}}, "x.json: widths: is given twice; leave one out"),
        ({"width": [3]}, "x.json: unknown field 'width'; known are inner, other, steps"),
        ({"steps": "many"}, "x.json: steps"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        merged(Outer, Outer(), changes, "x.json")


@pytest.mark.parametrize(("values", "positive"), [((), False), ((1, 1), False), ((-1,), False), ((0,), True)])
def test_lists_of_different_values(values: tuple[int, ...], positive: bool) -> None:
    with pytest.raises(ValueError, match="steps: needs different values"):
        check_different("steps", values, positive=positive)
    check_different("steps", (0, 1))
