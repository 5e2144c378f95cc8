"""Augmentation: a few per cent of the training documents take a shape of users' text that corpora lack.

Windows are chosen by their use in the training text. Without CR LF, capitals, tabs or wrapped lines in it,
text in these shapes would be cut into far more windows. Nothing is random: a document's checksum decides.
"""

import re
import textwrap
import zlib
from functools import partial

# Of a thousand documents, these; a third of those with CR LF are wrapped as well.
CRLF, WRAPPED, CAPITALS, TABS = range(30), range(20, 40), range(40, 50), range(50, 60)
WIDTHS = range(72, 81)  # of wrapped lines
INDENT_SIZES = 8, 4, 2  # spaces a level
_INDENT = re.compile(r"^ +(?=\S)", re.MULTILINE)


def augmented(document: bytes) -> bytes:
    r"""A document as it is, or in another shape, where it has what the shape changes.

    >>> augmented(b"chapter 29 begins"), augmented(b"chapter 30 begins"), augmented(b"line 14\nof text\n")
    (b'chapter 29 begins', b'CHAPTER 30 BEGINS', b'line 14\r\nof text\r\n')

    Args:
        document: of any bytes; a piece of a long one.
    """
    checksum = zlib.crc32(document)
    place = checksum * 1000 >> 32
    if place >= TABS.stop:
        return document
    text = document.decode("utf-8", "surrogateescape")
    if place in CAPITALS and sum(c.isascii() and c.isalpha() for c in text) > 0.7 * len(text):
        text = text.upper()
    if place in TABS:
        text = _tabbed(text)
    if place in WRAPPED:
        text = _wrapped(text, WIDTHS[checksum % len(WIDTHS)])
    if place in CRLF and "\r" not in text:
        text = text.replace("\n", "\r\n")
    return text.encode("utf-8", "surrogateescape")


def _wrapped(text: str, width: int) -> str:
    """Its lines wrapped, if most of the text is in lines that are wider."""
    lines = text.split("\n")
    if 2 * sum(len(line) for line in lines if len(line) > width) < len(text):
        return text
    wrapper = textwrap.TextWrapper(
        width, expand_tabs=False, replace_whitespace=False, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(wrapper.fill(line) if len(line) > width else line for line in lines)


def _tabbed(text: str) -> str:
    """Its indentation by tabs, if a fifth of its lines are indented, by 2, 4 or 8 spaces a level."""
    indents = [len(found) for found in _INDENT.findall(text)]
    if 5 * len(indents) < text.count("\n") or not indents:
        return text
    for size in INDENT_SIZES:
        if sum(n % size == 0 for n in indents) >= 0.9 * len(indents):
            return _INDENT.sub(partial(_tabs, size), text)
    return text


def _tabs(size: int, spaces: re.Match[str]) -> str:
    """As many tabs as fit, then spaces."""
    tabs, rest = divmod(len(spaces[0]), size)
    return "\t" * tabs + " " * rest
