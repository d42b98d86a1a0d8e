"""How far a long work is: a bar on a terminal, elsewhere a line now and then."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from eosvos.text import time_left

log = logging.getLogger(__name__)

EVERY_SECONDS = 10.0
"""Between two lines where the output is no terminal."""


@contextmanager
def progress_bar(work: str, total: int, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Yields a function that is told how much more is done.

    Args:
        work: what is done, such as ``encoding``.
        total: how much there is in all, of any unit.
        done: of it, before the beginning.
    """
    console = Console()
    if not console.is_terminal:
        yield _lines(work, total, done)
        return
    columns = TextColumn(work), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    with Progress(*columns, TextColumn("left"), console=console) as bar:
        task = bar.add_task(work, total=total, completed=done)
        yield lambda more: bar.advance(task, more)


def _lines(work: str, total: int, before: int) -> Callable[[int], None]:
    started = said = time.monotonic()
    done = 0

    def advance(more: int) -> None:
        nonlocal done, said
        done += more
        now = time.monotonic()
        if now - said >= EVERY_SECONDS:
            said = now
            left = total - before - done
            log.info("%s: %d of %d, %s", work, before + done, total, time_left(now - started, done, left))

    return advance
