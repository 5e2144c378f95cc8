"""Threads: work on several items at a time, and work that the main thread only waits for."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ordered_map(function: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """What `map` gives, computed in threads; at most two items a thread are in flight."""
    items = iter(items)
    for item in items:
        yield function(item)  # alone, so that tables made on first use are made once
        break
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


def aside(function: Callable[..., R], *arguments: Any) -> R:
    """What a function returns that takes long in compiled code: it runs in a thread of its own.

    Python handles signals in the main thread and between two steps of its own, so that one must only wait.
    """
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *arguments).result()
