"""Signal handling: remove partial output, then let the signal end the process.

A shell shows the status 128 + the signal's number, and its loop over files ends with the command that Ctrl-C
ended: it does so only if the signal itself ended the process.

SIGINT (Ctrl-C), SIGTERM, SIGHUP (the terminal was closed) and SIGXCPU (the time of `ulimit -t` is over) end a
command at once. The handler raises no exception, because Python prints or loses one that is raised during an
import, a compilation or the end of a thread. Training does not end at once: it polls `stop_requests`, to
write a checkpoint first. A signal that was ignored when the program started, as under nohup, stays ignored.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

Handler = Callable[[int, FrameType | None], Any]

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGXCPU")
_NUMBERS = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]  # other systems lack some
_undo: list[Callable[[], None]] = []  # removes partial output; the innermost block's is last


class Stopped(BaseException):
    """The job has stopped, as a signal asked: the program cleans up and then calls `end_by`."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def undoing(undo: Callable[[], None]) -> Iterator[None]:
    """Call `undo` if the block raises an exception or a signal ends the process inside it.

    Args:
        undo: removes the block's partial output. It may be called at any moment of the block, and twice.
    """
    _undo.append(undo)
    try:
        yield
    except BaseException:
        undo()
        raise
    finally:
        _undo.remove(undo)


def end_on_signals() -> None:
    """Install the handlers, and let SIGPIPE end the program, so that it ends quietly when its reader does."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    _handle(_end)


def _end(number: int, _: FrameType | None) -> None:
    """The handler: remove partial output and end."""
    for undo in reversed(_undo):
        with suppress(Exception):
            undo()
    end_by(number)


def end_by(number: int) -> NoReturn:
    """End the process by a signal."""
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
    os._exit(128 + number)  # if the signal is blocked


def _handle(handler: Handler) -> dict[int, Any]:
    """Install a handler for the signals that are not ignored; returns the previous handler of each."""
    return {
        number: signal.signal(number, handler)
        for number in _NUMBERS
        if signal.getsignal(number) != signal.SIG_IGN
    }


@contextmanager
def broken_pipes_are_errors() -> Iterator[None]:
    """In the block, in this thread, writing to a pipe that nobody reads is an OSError and no signal."""
    pipe = getattr(signal, "SIGPIPE", None)
    if pipe is None:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [pipe])
    try:
        yield
    finally:
        if pipe in signal.sigpending():  # a write sends it to its own thread
            signal.sigwait([pipe])
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def held_back() -> Iterator[None]:
    """In the block, which writes what no one can undo, signals wait until its end."""
    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield
        return
    came = list[int]()
    before = _handle(lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came[:1]:
            signal.raise_signal(number)


@contextmanager
def stop_requests(tell: Callable[[], None]) -> Iterator[Callable[[], int]]:
    """In the block, signals do not end the process but are recorded, for the block to stop by itself.

    A second Ctrl-C ends the process at once. Other repeated signals do not, as they often come twice: from a
    shell and its terminal, or from `timeout`.

    Args:
        tell: called when the first signal arrives.

    Yields:
        A function that returns the number of the first signal, 0 if none has arrived.
    """
    asked = 0

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if not asked:
            asked = number
            with suppress(RuntimeError):  # `tell` prints, and the signal came during another print
                tell()
        elif number == signal.SIGINT:
            _end(number, frame)

    before = _handle(on_signal)
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
