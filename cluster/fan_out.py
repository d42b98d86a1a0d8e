"""Many Ray tasks of one kind: a bounded number at once, failures tried again, results in the order they end."""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import ray

from cluster.failures import last_line
from cluster.session import bad_input_in

Item = TypeVar("Item")
Result = TypeVar("Result")
log = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often an item is tried before it counts as failed."""
WAIT_SECONDS = 60.0
"""After so long without an end it is said that there is none."""


@dataclass(frozen=True)
class Ended(Generic[Item, Result]):
    """An item whose task has ended for good.

    Attributes:
        item: which.
        outcome: what the task returned, or what its last try raised: a BadInput where one is the cause.
    """

    item: Item
    outcome: Result | Exception

    @property
    def error(self) -> Exception | None:
        """None where the item has a result."""
        return self.outcome if isinstance(self.outcome, Exception) else None

    @property
    def result(self) -> Result:
        """What the task returned. Raises the error where there is one."""
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class FanOut(Generic[Item, Result]):
    """Runs a Ray task for each of many items, in their order; a failed one is tried again after all others.

    Iterating gives each item as it ends, until all have; ``poll`` gives those that have ended meanwhile. Bad input is
    not tried again.

    Attributes:
        at_once: tasks that are with Ray at once; may be changed on the way.
    """

    def __init__(
        self,
        submit: Callable[[Item], Any],
        items: Sequence[Item],
        at_once: int,
        attempts: int = ATTEMPTS,
        describe: Callable[[Item], str] = str,
    ) -> None:
        """Submits nothing yet.

        Args:
            submit: starts an item's task and returns its reference. Give the task ``max_retries=0``: Ray would try
                again for ever what does not fit into memory.
            items: of the work; different ones.
            at_once: tasks that are with Ray at once, at least 1.
            attempts: how often an item is tried.
            describe: an item's name in messages.
        """
        self.at_once = at_once
        self._submit, self._attempts, self._describe = submit, attempts, describe
        self._waiting = deque(items)
        self._pending: dict[Any, Item] = {}
        self._tries: Counter[Item] = Counter()

    @property
    def unfinished(self) -> bool:
        """Whether an item has not ended for good."""
        return bool(self._waiting or self._pending)

    def poll(self, timeout: float = 0.0) -> list[Ended[Item, Result]]:
        """The items that have ended since the last call, and sees to it that others run.

        Args:
            timeout: seconds to wait until one has ended; none of them may have, then.
        """
        deadline = time.monotonic() + timeout
        ended: list[Ended[Item, Result]] = []
        self._fill()
        while self._pending and not ended:
            tasks = list(self._pending)
            if not ray.wait(tasks, num_returns=1, timeout=max(deadline - time.monotonic(), 0))[0]:
                break
            for task in ray.wait(tasks, num_returns=len(tasks), timeout=0)[0]:
                item = self._pending.pop(task)
                outcome = self._outcome(item, task)
                if outcome is None:
                    self._waiting.append(item)
                else:
                    ended.append(outcome)
            self._fill()
        return ended

    def __iter__(self) -> Iterator[Ended[Item, Result]]:
        """Each item as it ends, until all have. It is said when none does for a minute."""
        while self.unfinished:
            ended = self.poll(WAIT_SECONDS)
            if not ended and self._pending:
                free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
                names = ", ".join(map(self._describe, self._pending.values()))
                log.info("nothing has ended for a minute; %g CPUs are free; waiting for %s", free.get("CPU", 0), names)
            yield from ended

    def stop(self) -> None:
        """Ends the tasks that run, and begins no other. They must be such that an end in their midst does no harm."""
        for task in self._pending:
            ray.cancel(task, force=True)
        self._waiting.clear()
        self._pending.clear()

    def _fill(self) -> None:
        while self._waiting and len(self._pending) < self.at_once:
            item = self._waiting.popleft()
            self._pending[self._submit(item)] = item

    def _outcome(self, item: Item, task: Any) -> Ended[Item, Result] | None:
        """None where the item is to be tried again."""
        try:
            return Ended(item, ray.get(task))
        except Exception as error:
            self._tries[item] += 1
            bad = bad_input_in(error)
            if bad is None and self._tries[item] < self._attempts:
                log.info("%s: failed, and is tried again (%s)", self._describe(item), last_line(error))
                return None
            return Ended(item, bad or error)
