"""How a command ends when it is told to: what is half done is undone, and its status names the signal.

Ctrl-C (SIGINT), SIGTERM and SIGHUP (the terminal was closed) end a command where it stands. No exception is
raised for that: in the middle of an import, of a compilation or of the end of a thread Python would print it
or lose it. Training asks to be told instead. A signal that is ignored from the start, as nohup does, stays
ignored.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any]

_NUMBERS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_undo: list[Callable[[], None]] = []  # of what is half done now, innermost last


def status(number: int) -> int:
    """The exit status after a signal, as shells count."""
    return 128 + number


@contextmanager
def undoing(undo: Callable[[], None]) -> Iterator[None]:
    """Undo what the block did if it fails, or if the process is told to end before it is through.

    Args:
        undo: may be called at any moment of the block, and more than once.
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
    """From now on end where the program stands when told to, and quietly when a reader goes away."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    _handle(_end)


def _end(number: int, _: FrameType | None) -> None:
    for undo in reversed(_undo):
        with suppress(Exception):
            undo()
    os._exit(status(number))


def _handle(handler: Handler) -> dict[int, Any]:
    """Install a handler for the signals that are not ignored; what handled them before."""
    return {
        number: signal.signal(number, handler)
        for number in _NUMBERS
        if signal.getsignal(number) != signal.SIG_IGN
    }


@contextmanager
def stop_requests(tell: Callable[[], None]) -> Iterator[Callable[[], int]]:
    """The first signal that asked to stop, 0 while there is none; Ctrl-C after it ends without an answer.

    Others are often sent twice: by a shell and by its terminal, or by `timeout`.

    Args:
        tell: is called when the first one arrives.
    """
    asked = 0

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if not asked:
            asked = number
            with suppress(RuntimeError):  # it came in the middle of other words
                tell()
        elif number == signal.SIGINT:
            _end(number, frame)

    before = _handle(on_signal)
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
