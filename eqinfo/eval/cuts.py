"""A text in its windows: as strings that people can read, and as a picture.

What this module does not do: colour them on a terminal (`cli.display`).
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from eqinfo.codebook import parse
from eqinfo.codebook.codebook import Codebook
from eqinfo.errors import InputError
from eqinfo.eval.drawing import CHARACTER, HEIGHT, MARGIN, Piece, boxes, svg, text
from eqinfo.formats.token_file import END_OF_TEXT
from eqinfo.text.frames import Frame

MAX_DRAWN = 1 << 14  # most windows in a picture
LINE, LINE_HEIGHT = 80, HEIGHT + 26  # characters in a line of a picture; pixels
END_OF_LINE = "↵"


def windows_of(codebook: Codebook, frames: Iterable[Frame]) -> Iterator[tuple[int, bytes]]:
    """The codeword and the bytes of each window of a text; those that end documents are empty."""
    for frame in frames:
        for codeword in parse.encode(codebook, *frame).tolist():
            yield codeword, codebook.windows[codeword]


def readable(window: bytes) -> str:
    r"""A window as people read it: bytes that are no characters as \\xNN, line ends with a mark.

    >>> readable(b"a\n\xff")
    'a↵\n\\xff'
    """
    words = window.decode("utf-8", "backslashreplace").replace("\n", f"{END_OF_LINE}\n")
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in words)


def readable_name(name: str) -> str:
    """The name of a file as a figure shows it, on one line."""
    return readable(os.fsencode(name)).replace("\n", "")


@dataclass
class Counts:
    """How many windows of how many bytes were shown."""

    windows: int = 0
    text_bytes: int = 0

    def __str__(self) -> str:
        rate = self.text_bytes / max(self.windows, 1)
        return f"{self.windows:,} window{'s' * (self.windows != 1)}, {rate:.2f} bytes/window"


def shown(codebook: Codebook, frames: Iterable[Frame], counts: Counts) -> Iterator[str]:
    """The windows of a text as people read them, counted; a line ends where a document does."""
    last = "\n"
    for codeword, window in windows_of(codebook, frames):
        if codeword != END_OF_TEXT:
            counts.windows += 1
            counts.text_bytes += len(window)
            last = readable(window)
            yield last
        elif not last.endswith("\n"):
            yield (last := "\n")


def picture(codebook: Codebook, frames: Iterable[Frame], title: str) -> bytes:
    """An SVG of a text in its windows, each with its number.

    Raises:
        InputError: the text has too many windows.
    """
    lines, n_windows, last = [list[Piece]()], 0, b""
    for codeword, window in windows_of(codebook, frames):
        if codeword == END_OF_TEXT:
            lines.append([])
            last = b""
            continue
        n_windows += 1
        if n_windows > MAX_DRAWN:
            raise InputError(
                f"{title}: too long to draw; want at most {MAX_DRAWN} windows. Give a part of it."
            )
        words = readable(window).replace("\n", "")
        if last.endswith(b"\n") or sum(len(piece.words) for piece in lines[-1]) + len(words) > LINE:
            lines.append([])
        cuts_word = bool(last) and not parse.is_aligned(last[-1], window[0])
        lines[-1].append(Piece(words, str(codeword), cuts_word))
        last = window
    name = readable_name(title)
    heading = f"{name}: {n_windows:,} windows of {codebook.window_bits} bits, each with its number"
    parts, y = [text(MARGIN, 34, heading, more='font-weight="600"')], 44
    for line in filter(None, lines):
        parts += boxes(y, line, "eqinfo")
        y += LINE_HEIGHT
    longest = max(LINE // 2, *(sum(len(piece.words) for piece in line) for line in lines))
    return svg(2 * MARGIN + longest * CHARACTER, y + 4, name, parts).encode()
