"""Draws text in its windows as SVG: each in a box, with a bar where a cut falls inside a word.

What this module does not do: cut text (`cuts`), or draw figures of runs (`curves`).
"""

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

# One light panel under everything, so that pictures read alike on light and dark pages.
PANEL, INK, FAINT, RED = "#ffffff", "#1f2328", "#59636e", "#cf222e"
BLUES = "#b6e3ff", "#ddf4ff"  # of neighbouring boxes
CHARACTER, HEIGHT, MARGIN = 10, 30, 20  # pixels: the width of a character, the height of a box


def text(x: float, y: float, words: str, size: int = 14, fill: str = INK, more: str = "") -> str:
    """A line of text in an SVG, its baseline at (x, y)."""
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{fill}" {more}>{escape(words)}</text>'


def svg(width: int, height: int, title: str, parts: Iterable[str]) -> str:
    """A whole SVG on a light panel."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="system-ui, sans-serif" role="img">\n<title>{escape(title)}</title>\n'
        f'<rect x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8" fill="{PANEL}" '
        'stroke="#d1d9e0"/>'
    )
    return "\n".join([head, *parts, "</svg>\n"])


class Piece(NamedTuple):
    """A piece of a line of text: its words, not none; what stands below; whether it begins inside a word."""

    words: str
    below: str = ""
    cuts_word: bool = False


def boxes(y: int, pieces: Sequence[Piece], kind: str, fills: tuple[str, str] = BLUES) -> list[str]:
    """A line of text in its pieces, with a bar before those that begin inside a word.

    Args:
        y: of the upper edge of the boxes.
        pieces: of the line; a space is drawn as a dot.
        kind: the class of the pieces.
        fills: colours of neighbouring boxes.
    """
    parts, x = list[str](), MARGIN
    for k, piece in enumerate(pieces):
        width = len(piece.words) * CHARACTER
        parts.append(
            f'<rect x="{x + 1}" y="{y}" width="{width - 2}" height="{HEIGHT}" rx="4" fill="{fills[k % 2]}"/>'
        )
        fixed = (
            f'class="{kind}" font-family="ui-monospace, Menlo, Consolas, monospace" '
            f'textLength="{width - 4}" lengthAdjust="spacingAndGlyphs"'
        )
        parts.append(text(x + 2, y + 20, piece.words.replace(" ", "·"), 15, more=fixed))
        if piece.below:
            middle = x + width / 2
            parts.append(text(middle, y + HEIGHT + 13, piece.below, 9, FAINT, 'text-anchor="middle"'))
        if piece.cuts_word and k:
            parts.append(f'<rect x="{x - 1.5}" y="{y - 3}" width="3" height="{HEIGHT + 6}" fill="{RED}"/>')
        x += width
    return parts
