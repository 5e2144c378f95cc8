"""Signals for programs that a test starts."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

STOPPING = "stopping: writing a checkpoint, for --resume. Press Ctrl-C again to stop without one.\n"


@contextmanager
def heard(number: int) -> Iterator[None]:
    """Programs started in the block do not ignore the signal, even if this process does, as under nohup."""
    before = signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(number, before)
