"""Signals for programs that a test starts."""

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eqinfo.errors import argument

STOPPING = "stopping: writing a checkpoint, for --resume. Press Ctrl-C again to stop without one.\n"


def stopped(message: str, command: str, folder: Path) -> bool:
    """Whether a message is that of a training that a signal stopped: what was written, and how to go on."""
    written = re.escape(f"{STOPPING}stopped: {folder}/checkpoint.pt holds step ")
    go_on = re.escape(f". Go on with: eqinfo {command} -o {argument(folder)} --resume\n")
    return re.fullmatch(rf"{written}\d+{go_on}", message) is not None


@contextmanager
def heard(number: int) -> Iterator[None]:
    """Programs started in the block do not ignore the signal, even if this process does, as under nohup."""
    before = signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(number, before)
