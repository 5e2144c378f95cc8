"""What terminals receive."""

import os
from collections.abc import Iterator
from contextlib import suppress


def received(screen: int) -> Iterator[bytes]:
    """What a pseudo-terminal receives, a read at a time, until its other side is closed; then closes it."""
    with suppress(OSError):  # how Linux says that the other side is closed
        while data := os.read(screen, 1 << 16):
            yield data
    os.close(screen)
