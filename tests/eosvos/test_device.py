"""Which device computes."""

import pytest

from eosvos.device import Device, choose_device
from eosvos.errors import BadInput

CASES: list[tuple[Device, bool, bool, str]] = [
    ("auto", True, True, "cuda"),
    ("auto", False, True, "cpu"),
    ("auto", False, False, "cpu"),
    ("cpu", True, True, "cpu"),
    ("mps", True, True, "mps"),
    ("cuda", True, False, "cuda"),
]


@pytest.mark.parametrize(("name", "cuda", "mps", "expected"), CASES)
def test_the_device(monkeypatch: pytest.MonkeyPatch, name: Device, cuda: bool, mps: bool, expected: str) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: cuda)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: mps)
    assert choose_device(name) == expected


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch, name: Device) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    with pytest.raises(BadInput, match=f"^--device {name}: this machine has none; choose one of auto, cpu$"):
        choose_device(name)
