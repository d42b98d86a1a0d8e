"""What is said of long work where nobody looks at a terminal."""

import logging

import pytest

from cluster import progress_bar as module
from cluster.progress_bar import progress_bar


@pytest.mark.parametrize(("seconds", "said"), [(0.0, ["encoding: 4 of 9, ", "encoding: 9 of 9, "]), (100.0, [])])
def test_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, seconds: float, said: list[str]
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(module, "EVERY_SECONDS", seconds)
    with progress_bar("encoding", 9, done=3) as advance:
        advance(1)
        advance(5)
    assert [line.partition(", ")[0] + ", " for line in caplog.messages] == said
    assert all(line.endswith("0:00 left") for line in caplog.messages)
