"""How much of its inputs a command has read or coded."""

import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from eqinfo.cli import console

if TYPE_CHECKING:
    from eqinfo.text.frames import Frame

BAR_AFTER_S = 1.0


def with_progress(
    frames: Iterable["Frame"], names: list[Path], quiet: bool, n_text: int | None = None
) -> Iterator["Frame"]:
    """Yields the same frames; after BAR_AFTER_S a bar on the terminal shows how much is done.

    Args:
        frames: read from the inputs, or decoded from them.
        names: of the inputs.
        quiet: show no bar.
        n_text: bytes of text in all, which the bar shows. If None, it shows bytes of the inputs as they are,
            compressed ones too, if all are plain files, and else bytes of text.
    """
    if quiet or not console.is_terminal(sys.stderr):
        yield from frames
        return
    from eqinfo.cli import display
    from eqinfo.coder.progress import CODED

    n_input = _size(names) if n_text is None else None
    n_yielded, finished, share = 0, 0, 1.0  # bytes of text, and those of the bar for each
    coded_before, read_before = int(CODED[0]), console.InputFile.n_read

    def done() -> int:
        """The bytes that are done; where M1 runs, also inside a frame."""
        return int((int(CODED[0]) - coded_before or finished) * share)

    with display.bytes_bar(console.shown(names[0]), n_text or n_input, done, BAR_AFTER_S):
        for frame in frames:
            n_yielded += len(frame.text)
            if n_input is not None:
                share = (console.InputFile.n_read - read_before) / max(n_yielded, 1)
            yield frame
            finished = n_yielded


@contextmanager
def reading(names: list[Path], report: Callable[[float], None]) -> Iterator[None]:
    """While the block reads its inputs, reports the share that it has read, a percent at a time.

    Args:
        names: of the inputs. If some are no plain files, nothing is reported.
        report: receives shares in (0, 1).
    """
    n_input, read_before, told = _size(names) or 0, console.InputFile.n_read, 0

    def tell() -> None:
        nonlocal told
        percent = 100 * (console.InputFile.n_read - read_before) // n_input
        if told < percent < 100:
            told = percent
            report(percent / 100)

    if n_input:
        console.InputFile.on_read = tell
    try:
        yield
    finally:
        console.InputFile.on_read = None


def _size(names: list[Path]) -> int | None:
    """Bytes of inputs that are plain files; None if some are none."""
    if console.STANDARD in names and sys.stdin is None:  # whoever opens it will say so
        return None
    found = [os.fstat(0) if name == console.STANDARD else name.stat() for name in names]
    return sum(each.st_size for each in found) if all(stat.S_ISREG(each.st_mode) for each in found) else None
