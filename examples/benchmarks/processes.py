"""Runs functions in new processes, and measures their time and memory.

Contestants import this module, and imports count as their start-up and memory, so it imports little.
"""

import os
import resource
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class Spent(NamedTuple):
    """Wall-clock seconds, and CPU seconds summed over all threads of the process."""

    wall_s: float
    cpu_s: float


def spent(work: Callable[[], T]) -> tuple[T, Spent]:
    """The result of `work`, and the time it took."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    found = work()
    return found, Spent(time.perf_counter() - wall_s, time.process_time() - cpu_s)


def total(parts: Iterable[Spent]) -> Spent:
    """The sum of several times."""
    return Spent(*map(sum, zip(*parts, strict=True)))


def fresh(environment: dict[str, str], work: Callable[..., T], *args: object) -> T:
    """The result of `work` in a new process, which has one thread unless `environment` sets more."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    shown = [arg for arg in args if isinstance(arg, str | int | Path)]
    print(time.strftime("%H:%M:%S"), work.__name__, *shown, *environment.values(), file=sys.stderr)
    before = dict(os.environ)
    os.environ.update({"OMP_NUM_THREADS": "1"} | environment)
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), end_with_parent) as pool:
            return pool.submit(work, *args).result()
    finally:
        os.environ.clear()
        os.environ.update(before)


def end_with_parent() -> None:
    """Make this process exit when its parent ends, even by SIGKILL."""
    import multiprocessing
    import threading

    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def peak_mb(process: int | str = "self") -> float:
    """The peak resident memory of a process in MB, since its exec; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmHWM")), 0.0)


def children_cpu_s() -> float:
    """CPU time of all child processes that have ended, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def python_cpu_s(arguments: Iterable[object], **options: Any) -> float:
    """CPU seconds of a new Python process, which must succeed.

    Args:
        arguments: of Python.
        options: of `subprocess.run`.
    """
    import subprocess

    before = children_cpu_s()
    subprocess.run([sys.executable, *map(str, arguments)], check=True, **options)
    return children_cpu_s() - before
