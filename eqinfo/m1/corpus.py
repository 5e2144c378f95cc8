"""Training text on disk: written once, then memory-mapped, so it may be larger than memory.

Text from files, pipes and compressed files becomes two flat files of bytes, `train` and `valid`, each with
a file of document ends. About HELD_OUT of the units go to `valid` (`text.hold_out`), up to MAX_VALID_BYTES;
more of them go nowhere, so that the text which `compress --hold-out 1%` holds out trains no M1. A few per
cent of the units then take another shape (`augment`).
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np

from eqinfo.errors import FormatError, InputError
from eqinfo.m1.augment import augmented
from eqinfo.system.arrays import I64, U8
from eqinfo.text.documents import read_pieces
from eqinfo.text.hold_out import is_held_out, units_of_pieces

HELD_OUT = Fraction(1, 100)
SIDES = "train", "valid"
MAX_VALID_BYTES = 1 << 23


@dataclass(frozen=True)
class Facts:
    """Sizes and SHA-256 of a staged corpus; the hash covers the text of both sides in input order."""

    documents: int
    train_bytes: int
    valid_bytes: int
    sha256: str


@dataclass(frozen=True)
class Text:
    """Bytes (n,) and the ascending offsets at which documents end."""

    data: U8
    document_ends: I64

    def slice(self, start: int, stop: int) -> "Text":
        """The text in [start, stop); document ends in (start, stop] stay document ends."""
        first, last = np.searchsorted(self.document_ends, [start, stop], "right")
        return Text(self.data[start:stop], self.document_ends[first:last] - start)


class _Side:
    """Writer of one of the two texts."""

    def __init__(self, folder: Path, name: str) -> None:
        self._text, self._ends = (folder / name).open("wb"), (folder / f"{name}.ends").open("wb")
        self.n_bytes = self._last_end = 0

    def write(self, data: bytes) -> None:
        self._text.write(data)
        self.n_bytes += len(data)

    def end_document(self) -> None:
        if self.n_bytes > self._last_end:  # empty documents are dropped
            self._ends.write(np.int64(self.n_bytes).astype("<i8").tobytes())
            self._last_end = self.n_bytes

    def close(self) -> None:
        self.end_document()
        self._text.close()
        self._ends.close()


def stage(
    sources: Iterable[tuple[str, BinaryIO]],
    folder: Path,
    text_field: str,
    as_jsonl: bool = False,
    skip_bad: bool = False,
) -> Facts:
    """Write the corpus files into a folder; `facts.json` comes last and marks them complete.

    Args:
        sources: names and open files, as `text.read_pieces` takes them.
        folder: made if missing.
        text_field: field of JSONL records that holds the text.
        as_jsonl: read JSONL under any name.
        skip_bad: pass over records without text.

    Raises:
        InputError: there is no text, or it cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    digest, documents = hashlib.sha256(), 0
    with closing(_Side(folder, "train")) as train, closing(_Side(folder, "valid")) as valid:
        previous = train
        for unit, ends_document in _units(sources, text_field, as_jsonl, skip_bad):
            shaped = augmented(unit)
            digest.update(shaped)
            side = valid if is_held_out(unit, HELD_OUT) else train
            if side is not previous:  # the document went on at the other side: its pieces are not contiguous
                side.end_document()
            if side is train or valid.n_bytes < MAX_VALID_BYTES:
                side.write(shaped)
            if ends_document:
                side.end_document()
                documents += 1
            previous = side
    if not train.n_bytes + valid.n_bytes:
        raise InputError("corpus: no text in any of the inputs. Check the files.")
    if not (train.n_bytes and valid.n_bytes):
        _hold_out_tail(folder)
    n_train, n_valid = ((folder / name).stat().st_size for name in ("train", "valid"))
    facts = Facts(documents, n_train, n_valid, digest.hexdigest())
    (folder / "facts.json").write_text(json.dumps(asdict(facts)))
    return facts


def checksum(
    sources: Iterable[tuple[str, BinaryIO]], text_field: str, as_jsonl: bool = False, skip_bad: bool = False
) -> str:
    """The `sha256` in the facts of a corpus of these sources, read as by `stage`; nothing is written."""
    digest = hashlib.sha256()
    for unit, _ in _units(sources, text_field, as_jsonl, skip_bad):
        digest.update(augmented(unit))
    return digest.hexdigest()


def _units(
    sources: Iterable[tuple[str, BinaryIO]], text_field: str, as_jsonl: bool, skip_bad: bool
) -> Iterator[tuple[bytes, bool]]:
    """Units of the text, each with whether its document ends there; arguments are those of `stage`."""
    for name, source in sources:
        yield from units_of_pieces(read_pieces(source, name, text_field, as_jsonl, skip_bad))


def _hold_out_tail(folder: Path) -> None:
    """Move the last 1/20 of a small corpus to `valid`, if all of its units went to one side."""
    data = (folder / "train").read_bytes() + (folder / "valid").read_bytes()  # either is empty
    ends = np.concatenate([np.fromfile(folder / f"{name}.ends", "<i8") for name in ("train", "valid")])
    n = max(1, len(data) - len(data) // 20)
    (folder / "train").write_bytes(data[:n])
    (folder / "valid").write_bytes(data[n:])
    np.append(ends[ends < n], n).astype("<i8").tofile(folder / "train.ends")
    (ends[ends > n] - n).astype("<i8").tofile(folder / "valid.ends")


def load(folder: Path) -> tuple[Text, Text, Facts]:
    """Training text, held-out text and facts of a staged corpus; the texts are memory-mapped.

    Raises:
        FormatError: the files do not fit together.
        OSError: the folder holds no complete corpus.
    """
    where = folder / "facts.json"
    try:
        facts = Facts(**json.loads(where.read_bytes()))
        sizes = facts.train_bytes, facts.valid_bytes
        if not all(type(size) is int for size in sizes):
            raise ValueError("no sizes")
    except (ValueError, TypeError, RecursionError):
        raise FormatError(f"{where}: damaged. Start a new run.") from None
    train, valid = (_load_side(folder / name, size) for name, size in zip(SIDES, sizes, strict=True))
    return train, valid, facts


def _load_side(path: Path, want: int) -> Text:
    """One of the two texts; `want` is its size in bytes."""
    ends_path = path.with_name(f"{path.name}.ends")
    found, ends = path.stat().st_size, np.fromfile(ends_path, "<i8")
    if found != want:
        raise FormatError(f"{path}: damaged; found {found} bytes, want {want}. Start a new run.")
    if np.diff(ends, prepend=0).min(initial=1) <= 0 or ends[-1:].tolist() != ([want] if want else []):
        raise FormatError(f"{ends_path}: damaged; not where documents end. Start a new run.")
    return Text(np.memmap(path, np.uint8, "r") if want else np.empty(0, np.uint8), ends)


def sample(text: Text, n_bytes: int) -> list[Text]:
    """About n_bytes of a text in evenly spaced pieces of up to 1 MiB; all of a shorter text."""
    piece, size = 1 << 20, text.data.size
    n_pieces = -(-size // piece) if n_bytes >= size else max(1, n_bytes // piece)
    starts = [size * k // n_pieces for k in range(n_pieces)]
    return [text.slice(start, min(start + piece, size)) for start in starts]
