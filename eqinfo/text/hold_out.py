"""Holds out a share of a text for validation, by the checksums of its documents.

A unit is a document, or 64 KiB of a longer one. Its checksum decides whether it is held out, so copies of a
document are never split between training and validation, and the same text is split in the same way again.
Empty documents stay in training.
"""

import tempfile
import zlib
from collections.abc import Iterable, Iterator
from fractions import Fraction

from eqinfo.system.atomic_files import errors_name

UNIT_BYTES = 1 << 16
MEMORY_BYTES = 1 << 26  # of units put aside; more of them go to a temporary file
TEMPORARY = "a temporary file in TMPDIR"  # what errors name


def units_of_pieces(pieces: Iterable[tuple[bytes, bool]]) -> Iterator[tuple[bytes, bool]]:
    """Units, each with whether its document ends there: a document, or UNIT_BYTES of a longer one.

    Args:
        pieces: of documents, as `documents.read_pieces` gives them.
    """
    unit = bytearray()
    for piece, ends_document in pieces:
        unit += piece
        start = 0
        while len(unit) - start > UNIT_BYTES:
            yield bytes(unit[start : start + UNIT_BYTES]), False
            start += UNIT_BYTES
        del unit[:start]
        if ends_document:
            yield bytes(unit), True
            unit.clear()


def is_held_out(unit: bytes, share: Fraction) -> bool:
    """Whether a unit is for validation, as about this share is: its checksum decides, so copies agree."""
    return bool(unit) and zlib.crc32(unit) % share.denominator < share.numerator


class Aside:
    """Units that are held out, put aside while the others are read; a context manager.

    Args:
        share: of the units, about.
    """

    def __init__(self, share: Fraction) -> None:
        self._share, self._file = share, tempfile.SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115 - __exit__ closes it
        self._n_held = self._n_kept = 0

    def __enter__(self) -> "Aside":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def kept(self, pieces: Iterable[tuple[bytes, bool]]) -> Iterator[tuple[bytes, bool]]:
        """The pieces that are not held out. Where a unit of a document is, the document ends."""
        is_open = was_held = False
        for unit, ends_document in units_of_pieces(pieces):
            is_held = is_held_out(unit, self._share)
            if is_open and is_held != was_held:  # the document goes on at the other side
                if was_held:
                    self._put(b"", True)
                else:
                    yield b"", True
            if is_held:
                self._put(unit, ends_document)
                self._n_held += 1
            else:
                yield unit, ends_document
                self._n_kept += 1
            is_open, was_held = not ends_document, is_held

    def one_sided(self) -> str:
        """After all are read: what the share holds if one side has nothing; else nothing."""
        if not self._n_held:
            return "no document"
        return "" if self._n_kept else "every document"

    def _put(self, unit: bytes, ends_document: bool) -> None:
        with errors_name(TEMPORARY):
            self._file.write((len(unit) << 1 | ends_document).to_bytes(4, "little") + unit)

    def pieces(self) -> Iterator[tuple[bytes, bool]]:
        """The units that were put aside, in order."""
        with errors_name(TEMPORARY):
            self._file.seek(0)
            while head := self._file.read(4):
                size, ends_document = divmod(int.from_bytes(head, "little"), 2)
                yield self._file.read(size), bool(ends_document)
