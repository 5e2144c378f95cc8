"""Threads: work on several items at a time, and compiled loops that leave signals alone."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, TypeVar

from eqinfo.system.notes import note

T = TypeVar("T")
R = TypeVar("R")

CGROUP = Path("/sys/fs/cgroup")  # that of a container, as it sees it
# where it tells its CPU time in each period, and the period, both in microseconds: of version 2, and of 1
QUOTAS = (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"])

if TYPE_CHECKING:
    from concurrent.futures import Future

    Jobs = SimpleQueue[tuple[Future[R], T] | None]  # a result to come, and the item that it is of


def n_cores() -> int:
    """The number of cores that this process may use; in a container, those that its quota of time keeps busy.

    More threads would use up the quota early, and then all of them would stand still.
    """
    n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for files in QUOTAS:
        with suppress(OSError, ValueError):  # another system, or no quota: "max"
            quota, period = map(int, " ".join((CGROUP / name).read_text() for name in files).split())
            n = min(n, -(-quota // period)) if quota > 0 else n
    return n


def ordered_map(function: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """The results of `map(function, items)`, in order, computed in threads.

    At most two items a thread are in flight, so memory stays bounded. If taking an item raises an error, it
    comes after the results of the items before.

    >>> list(ordered_map(abs, [-3, 1, -2], threads=2))
    [3, 1, 2]
    """
    items = iter(items)
    yield from map(function, islice(items, 1))  # the first item alone: what it caches is computed once
    if threads == 1:
        yield from map(function, items)
        return
    from concurrent.futures import Future

    jobs: Jobs[R, T] = SimpleQueue()
    workers, limit = list[Thread](), threads
    pending: deque[Future[R]] = deque()
    failed = list[Exception]()
    try:
        for item in _until_failure(items, failed):
            if len(workers) < limit:
                workers += (started := list(_started(partial(_work, function, jobs), 1)))
                if not started:
                    limit = len(workers)
                    note(f"threads: the system gives {limit} of {threads}; going on with those.")
            if not workers:
                yield function(item)
                continue
            pending.append(Future())
            jobs.put((pending[-1], item))
            while pending and (len(pending) >= 2 * limit or pending[0].done()):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
        if failed:
            raise failed[0]
    finally:
        for future in pending:
            future.cancel()
        for _ in workers:
            jobs.put(None)
        for worker in workers:
            worker.join()


def _until_failure(items: Iterator[T], failed: list[Exception]) -> Iterator[T]:
    """The same items; if taking one raises an error, it goes to the list, and they end."""
    try:
        yield from items
    except Exception as error:
        failed.append(error)


def _work(function: Callable[[T], R], jobs: "Jobs[R, T]") -> None:
    """What a thread does: jobs, until it gets None."""
    while (job := jobs.get()) is not None:
        future, item = job
        if future.set_running_or_notify_cancel():
            fulfil(future, function, item)


def fulfil(future: "Future[R]", function: Callable[..., R], *arguments: Any) -> None:
    """Give a future the result of a function, or its error, which is raised where the result is wanted."""
    try:
        future.set_result(function(*arguments))
    except BaseException as error:
        future.set_exception(error)


def _started(work: Callable[[], object], n: int) -> Iterator[Thread]:
    """Up to n threads that do the work: fewer, perhaps none, where the system gives no more."""
    for _ in range(n):
        thread = Thread(target=work)
        try:
            thread.start()
        except RuntimeError:
            return
        yield thread


def available(n: int) -> int:
    """How many more threads the system gives at this moment, at most n."""
    end = Event()
    workers = list(_started(end.wait, n))
    end.set()
    for worker in workers:
        worker.join()
    return len(workers)


def in_thread(function: Callable[..., R], *arguments: Any) -> R:
    """The result of a function, computed in a new thread; in this one where the system gives no more.

    Python runs signal handlers in the main thread, between two of its own instructions. A long compiled loop
    there would delay them; while the main thread only waits, they run at once.
    """
    from concurrent.futures import Future

    future: Future[R] = Future()
    workers = list(_started(partial(fulfil, future, function, *arguments), 1))
    if not workers:
        return function(*arguments)
    try:
        return future.result()
    finally:
        workers[0].join()
