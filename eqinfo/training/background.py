"""A thread that computes while the main thread waits, so that a long computation can be interrupted.

Python runs signal handlers only in the main thread, between two of its own instructions. A backward pass of a
large model is one call that lasts seconds or minutes; a main thread that only waits hears signals meanwhile.
"""

import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

R = TypeVar("R")
Task = Callable[[], Any]
Result = tuple[Any, BaseException | None]

POLL_S = 0.2
PATIENCE_S = 5.0  # what still runs this long after a request to stop is given up


class Background:
    """One thread, for one computation at a time. It ends with this object."""

    def __init__(self) -> None:
        self._tasks, self._results = SimpleQueue[Task | None](), SimpleQueue[Result]()
        thread = threading.Thread(target=_work, args=(self._tasks, self._results), daemon=True)
        self._has_thread = False
        with suppress(RuntimeError):  # the system has no more threads: the main one computes
            thread.start()
            self._has_thread = True
        weakref.finalize(self, self._tasks.put, None)

    def call(self, task: Callable[[], R], should_stop: Callable[[], bool] = lambda: False) -> R:
        """The result of a task, or the exception that it raises.

        Args:
            task: runs in the thread.
            should_stop: if it has been true for PATIENCE_S, the task is given up: nobody waits for its end.

        Raises:
            KeyboardInterrupt: the task was given up.
        """
        if not self._has_thread:
            return task()
        self._tasks.put(task)
        asked_at: float | None = None
        while True:
            with suppress(Empty):
                result, error = self._results.get(timeout=POLL_S)
                if error is not None:
                    raise error
                return result  # type: ignore[no-any-return]
            if asked_at is None and should_stop():
                asked_at = time.monotonic()
            if asked_at is not None and time.monotonic() - asked_at > PATIENCE_S:
                raise KeyboardInterrupt


def _work(tasks: SimpleQueue[Task | None], results: SimpleQueue[Result]) -> None:
    """Computes tasks, one after another, until None comes."""
    while (task := tasks.get()) is not None:
        try:
            results.put((task(), None))
        except BaseException as error:  # raised again in the main thread
            results.put((None, error))
        del task  # it may hold a batch, or the process group
