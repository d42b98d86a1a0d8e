"""Logging to MLflow from a thread, so that work never waits for a server that does not answer."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from functools import partial

import requests
from mlflow.exceptions import MlflowException

from cluster.tracking.run import Tracker, one_line
from eosvos.errors import BadInput

log = logging.getLogger(__name__)

TOO_SLOW, TOO_MANY = 408, 429
"""The HTTP statuses below 500 of what may work later."""
SILENCE = 20.0
"""Seconds without an answer after which nobody waits for MLflow any more."""


class BackgroundTracker:
    """Logs in order.

    What is logged again, after an answer that was lost or by the same command again, is there once.

    Attributes:
        run_id: of the run; None until it is open.
        failed: what the run ends as; set by whoever finds out.
        all_logged: whether nothing was left when it was closed.
        refused: what MLflow will never take, and why.
    """

    def __init__(
        self, open_run: Callable[[], Tracker], retry_every: float = 2.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Opens the run in the thread, too.

        Args:
            open_run: called until it works.
            retry_every: seconds until what failed is tried again.
            clock: gives seconds.
        """
        self._open_run, self._retry_every, self._clock = open_run, retry_every, clock
        self._tracker: Tracker | None = None
        self._waiting: queue.SimpleQueue[Callable[[Tracker], None] | None] = queue.SimpleQueue()
        self._last_answer = clock()
        self._given_up, self._all_done = threading.Event(), threading.Event()
        self.failed = self.all_logged = False
        self.refused: list[str] = []
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    @property
    def run_id(self) -> str | None:
        return None if self._tracker is None else self._tracker.run_id

    def do(self, log: Callable[[Tracker], None]) -> None:
        """Calls ``log`` with the tracker when its turn comes, and again until that works; twice must be as once."""
        self._waiting.put(log)

    def close(self, silence: float = SILENCE) -> bool:
        """Ends the run when all is logged, and waits for it.

        Returns:
            ``all_logged``: False where there was no answer for ``silence`` seconds.
        """
        self._last_answer = self._clock()
        self.do(lambda tracker: tracker.end(failed=self.failed))
        self._waiting.put(None)
        while not (all_logged := self._all_done.wait(0.05)):
            if self._clock() - self._last_answer > silence:
                self._given_up.set()
                break
        self.all_logged = all_logged and self._tracker is not None
        return self.all_logged

    def _work(self) -> None:
        self._until_it_works(self._open)
        tracker = self._tracker
        while tracker is not None and not self._given_up.is_set() and (log := self._waiting.get()) is not None:
            self._until_it_works(partial(log, tracker))
        if not self._given_up.is_set():
            self._all_done.set()
        elif tracker is not None:
            tracker.stop_watching()

    def _open(self) -> None:
        self._tracker = self._open_run()

    def _until_it_works(self, call: Callable[[], None]) -> None:
        answers = True
        while not self._given_up.is_set():
            try:
                call()
            except Exception as error:
                if _temporary(error):
                    if answers:
                        log.warning("MLflow does not answer, the work goes on (%s)", one_line(error))
                    answers = False
                    self._given_up.wait(self._retry_every)
                    continue
                self.refused.append(one_line(error))
            if not answers:
                log.info("MLflow answers again")
            self._last_answer = self._clock()
            return


def _temporary(error: Exception) -> bool:
    """Whether the same request may work later."""
    if isinstance(error, BadInput) and error.__cause__ is not None:  # of a run that could not be opened
        error = error.__cause__  # type: ignore[assignment]
    if isinstance(error, MlflowException):
        status: int = error.get_http_status_code()  # type: ignore[no-untyped-call] # 500 where there was no answer
    elif isinstance(error, requests.HTTPError) and error.response is not None:  # of an artifact
        status = error.response.status_code
    else:
        return isinstance(error, (ConnectionError, TimeoutError, requests.ConnectionError, requests.Timeout))
    return status >= 500 or status in (TOO_SLOW, TOO_MANY)
