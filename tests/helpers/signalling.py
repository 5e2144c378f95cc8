"""Signals to programs that a test starts."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

STOPPING = "stopping: writing a checkpoint, for --resume. Press Ctrl-C again to stop without one.\n"


@contextmanager
def heard(number: int) -> Iterator[None]:
    """Programs started in the block hear a signal; background jobs and nohup hand down ignored ones."""
    before = signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(number, before)
