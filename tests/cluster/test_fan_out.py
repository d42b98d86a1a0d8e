"""Many small Ray tasks: all items once, few at a time, tries again, in the order in which they end."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray

from cluster import fan_out
from cluster.fan_out import ATTEMPTS, FanOut
from eosvos.errors import BadInput

pytestmark = pytest.mark.usefixtures("ray_here")


def _submit(function: Callable[[int], Any]) -> Callable[[int], Any]:
    task = ray.remote(num_cpus=0.5, max_retries=0)(function)
    return lambda item: task.remote(item)


def _work(folder: Path, fails: dict[int, int] | None = None, error: Exception | None = None) -> Callable[[int], int]:
    """Squares an item; fails as often as ``fails`` says, and leaves a file for each try."""

    def work(item: int) -> int:
        tries = len(list(folder.glob(f"{item}-*")))
        (folder / f"{item}-{tries}").touch()
        if tries < (fails or {}).get(item, 0):
            raise error or RuntimeError("no luck")
        return item * item

    return work


def _tries(folder: Path) -> dict[int, int]:
    items = [int(path.name.split("-")[0]) for path in folder.iterdir()]
    return {item: items.count(item) for item in sorted(set(items))}


def test_every_item_ends_once_and_no_more_than_allowed_run(tmp_path: Path) -> None:
    def running(item: int) -> int:
        """How many run beside this one, and this one."""
        (tmp_path / str(item)).touch()
        time.sleep(0.05)
        count = len(list(tmp_path.iterdir()))
        (tmp_path / str(item)).unlink()
        return count

    found = {}
    work: FanOut[int, int] = FanOut(_submit(running), range(7), at_once=2)
    while work.unfinished:
        found |= {ended.item: ended.result for ended in work.poll(10)}
    assert sorted(found) == list(range(7))
    assert max(found.values()) <= 2  # of four that the CPUs would take
    assert work.poll() == []


def test_one_at_once_is_in_order(tmp_path: Path) -> None:
    work: FanOut[int, int] = FanOut(_submit(_work(tmp_path)), (3, 1, 2), at_once=1)
    assert [ended.item for ended in work] == [3, 1, 2]


def test_what_ends_first_is_given_first(tmp_path: Path) -> None:
    def wait(item: int) -> int:
        while item == 1 and not (tmp_path / "go").exists():
            time.sleep(0.01)
        return item

    ends = iter(FanOut[int, int](_submit(wait), (1, 2), at_once=2))
    assert next(ends).item == 2
    (tmp_path / "go").touch()
    assert [ended.item for ended in ends] == [1]


def test_a_failure_is_tried_again_and_then_stands(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Item 1 fails twice and works, item 2 always fails: both are named each time that they are tried again."""
    caplog.set_level(logging.INFO)
    work: FanOut[int, int] = FanOut(
        _submit(_work(tmp_path, {1: ATTEMPTS - 1, 2: ATTEMPTS})),
        range(3),
        at_once=2,
        describe=lambda item: f"no. {item}",
    )
    ended = {one.item: one for one in work}
    assert (ended[0].result, ended[1].result) == (0, 1)
    assert ended[0].error is None
    assert "no luck" in str(ended[2].error)
    with pytest.raises(RuntimeError, match="no luck"):
        _ = ended[2].result
    assert _tries(tmp_path) == {0: 1, 1: ATTEMPTS, 2: ATTEMPTS}
    for item in (1, 2):
        assert caplog.text.count(f"no. {item}: failed, and is tried again (RuntimeError: no luck)") == ATTEMPTS - 1


def test_bad_input_is_not_tried_again(tmp_path: Path) -> None:
    work: FanOut[int, int] = FanOut(_submit(_work(tmp_path, {1: 1}, BadInput("file: broken"))), (1, 2), at_once=2)
    ended = {one.item: one for one in work}
    assert isinstance(ended[1].error, BadInput)
    assert str(ended[1].error) == "file: broken"
    assert ended[2].result == 4
    assert _tries(tmp_path) == {1: 1, 2: 1}


def test_it_is_said_when_nothing_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(fan_out, "WAIT_SECONDS", 0.05)

    def wait(item: int) -> int:
        while not (tmp_path / "go").exists():
            time.sleep(0.01)
        return item

    work: FanOut[int, int] = FanOut(_submit(wait), (5,), at_once=1, describe=lambda item: f"no. {item}")
    assert work.poll() == []
    ends = iter(work)
    handler = _Touch(tmp_path / "go")
    logging.getLogger(fan_out.__name__).addHandler(handler)
    try:
        assert next(ends).result == 5
    finally:
        logging.getLogger(fan_out.__name__).removeHandler(handler)
    assert "CPUs are free; waiting for no. 5" in caplog.text


class _Touch(logging.Handler):
    """Makes a file when something is logged."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        self._path.touch()
