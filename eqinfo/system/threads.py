"""Threads: work on several items at a time, and compiled loops that leave signals alone."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ordered_map(function: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """The results of `map(function, items)`, in order, computed in threads.

    At most two items a thread are in flight, so memory stays bounded.

    >>> list(ordered_map(abs, [-3, 1, -2], threads=2))
    [3, 1, 2]
    """
    items = iter(items)
    yield from map(function, islice(items, 1))  # the first item alone: what it caches is computed once
    if threads == 1:
        yield from map(function, items)
        return
    from concurrent.futures import Future, ThreadPoolExecutor

    pool = ThreadPoolExecutor(threads)
    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            while pending and (len(pending) >= 2 * threads or pending[0].done()):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def in_thread(function: Callable[..., R], *arguments: Any) -> R:
    """The result of a function, computed in a new thread.

    Python runs signal handlers in the main thread, between two of its own instructions. A long compiled loop
    there would delay them; while the main thread only waits, they run at once.
    """
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *arguments).result()
