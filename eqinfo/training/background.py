"""A job in a thread of its own, while the main thread waits and so hears signals.

Python runs signal handlers only in the main thread, between two of its own instructions. A backward pass of a
large model is one call that lasts seconds or minutes.

The whole job is in that one thread. If two threads of a process compute, OpenMP sees more threads than there
are cores, and all of them sleep at every barrier instead of waiting a moment.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import NoReturn, TypeVar

from eqinfo.system.threads import fulfil
from eqinfo.training.devices import keep_memory

R = TypeVar("R")

POLL_S = 0.2
PATIENCE_S = 5.0  # a long call that still runs this long after a request to stop is left


class _Job:
    """What the thread of a job and the thread that waits for it share."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.leave: Callable[[], NoReturn] | None = None  # while the job may be left
        self.is_left = False


_here = threading.local()  # `job`: the job of this thread, if it has one


def in_background(work: Callable[[], R], should_stop: Callable[[], bool]) -> R:
    """The result of a job, or the exception that it raises.

    Args:
        work: the job; asks `should_stop` itself, between its long calls.
        should_stop: asked here too. If it has been true for PATIENCE_S, the job is left in a block of
            `may_be_left`, and ends after it.
    """
    keep_memory()  # before the thread takes memory of its own
    job, future = _Job(), Future[R]()

    def known_here() -> R:
        _here.job = job
        return work()

    thread = threading.Thread(target=fulfil, args=(future, known_here), daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the system has no more threads
        return work()
    asked_at: float | None = None
    try:
        while not wait([future], POLL_S).done:
            if asked_at is None and should_stop():
                asked_at = time.monotonic()
            if asked_at is not None and time.monotonic() - asked_at > PATIENCE_S:
                _leave(job)
        return future.result()
    except BaseException:
        job.is_left = True  # also if Ctrl-C interrupted the wait
        raise


def _leave(job: _Job) -> None:
    """Leave a job, if it may be left now."""
    with job.lock:  # the job does not go on before all is written
        if job.leave:
            job.is_left = True
            job.leave()


@contextmanager
def may_be_left(leave: Callable[[], NoReturn]) -> Iterator[None]:
    """A block that changes nothing that is kept; a job may be left in it.

    Args:
        leave: writes what is kept, and raises the exception that ends the job. The thread that waits for the
            job calls it.
    """
    job: _Job | None = getattr(_here, "job", None)
    if job is None:
        yield
        return
    job.leave = leave
    try:
        yield
    finally:
        with job.lock:
            job.leave = None
        if job.is_left:
            raise SystemExit  # ends the thread; nobody waits for it
