"""Token files: codewords as M2 and other trainers read them, and the sidecar that makes them decodable.

`train.bin` is nothing but token ids, little-endian uint16 (window_bits <= 16) or uint32: nanoGPT's format.
`train.bin.json` says which codebook they belong to and what they decode to; every field of it is checked.
"""

import json
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from eqinfo import parse
from eqinfo.codebook import Codebook
from eqinfo.container import Sink, Totals, damaged, exactly
from eqinfo.errors import FormatError, MismatchError
from eqinfo.frames import FRAME_BYTES, Frame, ordered_map

FORMAT = "eqinfo tokens"
VERSION = 1
END_OF_TEXT = 0  # the empty window
READ_TOKENS = FRAME_BYTES // 16  # some 400 KB of text; 16 MB at worst, if every window has 255 bytes
MAX_SIDECAR_BYTES = 1 << 16


@dataclass(frozen=True)
class Sidecar:
    """What `<token file>.json` holds, besides the format's name and version.

    Attributes:
        vocab_size: 2**window_bits, one more than the largest id there can be.
        window_bits: size of a codeword in bits.
        fingerprint: of the codebook, in hexadecimal.
        tokens: how many ids the file holds.
        original_bytes: size of the text they decode to.
        documents: how many of them are END_OF_TEXT.
        end_of_text: the id that ends a document.
        crc32: of the token file.
    """

    vocab_size: int
    window_bits: int
    fingerprint: str
    tokens: int
    original_bytes: int
    documents: int
    end_of_text: int
    crc32: int

    def to_json(self) -> bytes:
        """The contents of the file."""
        return json.dumps({"format": FORMAT, "version": VERSION, **asdict(self)}, indent=2).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes, where: str) -> "Sidecar":
        """What `to_json` wrote.

        Raises:
            FormatError: anything else.
        """
        try:
            fields = json.loads(data)
        except (ValueError, RecursionError):
            raise FormatError(f"{where}: not JSON, so no sidecar of a token file.") from None
        if not isinstance(fields, dict) or fields.pop("format", None) != FORMAT:
            raise FormatError(f"{where}: not the sidecar of a token file.")
        if (version := fields.pop("version", None)) != VERSION:
            raise FormatError(f"{where}: another version of the format; found {version}, want {VERSION}.")
        types = {name: field.type for name, field in cls.__dataclass_fields__.items()}
        if {name: type(value) for name, value in fields.items()} != types:
            raise FormatError(f"{where}: damaged; fields are missing, unknown or of another type.")
        return cls(**fields)

    @classmethod
    def load(cls, path: Path) -> "Sidecar":
        """What a sidecar file says.

        Raises:
            FormatError: as `from_json`.
            OSError: it cannot be read.
        """
        with path.open("rb") as file:
            return cls.from_json(file.read(MAX_SIDECAR_BYTES), str(path))


def sidecar_path(path: Path) -> Path:
    """Where the sidecar of a token file is: its name and `.json`."""
    return Path(f"{path}.json")


def token_type(window_bits: int) -> np.dtype[np.unsignedinteger]:
    """How an id is stored."""
    return np.dtype("<u2" if window_bits <= 16 else "<u4")


def write(
    frames: Iterable[Frame], sink: Sink, codebook: Codebook, threads: int = 1
) -> tuple[Totals, Sidecar]:
    """Write the token ids of a text.

    Args:
        frames: none of them empty.
        sink: where the ids go; the sidecar is returned, to be written when they are safe.
        codebook: what to cut with.
        threads: how many frames to work on at a time; the output is the same.
    """
    totals, crc = Totals(), 0
    dtype = token_type(codebook.window_bits)
    for frame, data in ordered_map(partial(_encode, codebook, dtype), frames, threads):
        sink.write(data)
        crc = zlib.crc32(data, crc)
        totals.original_bytes += len(frame.text)
        totals.compressed_bytes += len(data)
        totals.windows += len(data) // dtype.itemsize
        totals.documents += len(frame.document_ends)
    sidecar = _sidecar(codebook, totals, crc)
    return totals, sidecar


def _sidecar(codebook: Codebook, totals: Totals, crc: int) -> Sidecar:
    """What there is to say of a token file."""
    return Sidecar(
        vocab_size=codebook.vocab_size,
        window_bits=codebook.window_bits,
        fingerprint=codebook.fingerprint.hex(),
        tokens=totals.windows,
        original_bytes=totals.original_bytes,
        documents=totals.documents,
        end_of_text=END_OF_TEXT,
        crc32=crc,
    )


def _encode(codebook: Codebook, dtype: npt.DTypeLike, frame: Frame) -> tuple[Frame, bytes]:
    """A frame and its token ids."""
    return frame, parse.encode(codebook, *frame).astype(dtype).tobytes()


def read(source: BinaryIO, sidecar: Sidecar, codebook: Codebook, where: str) -> Iterator[Frame]:
    """The text of a token file. The whole file is checked before the first frame is given.

    Args:
        source: the ids; seekable, for they are read twice.
        sidecar: what is said of them.
        codebook: what they were made with.
        where: name of the file, for messages.

    Raises:
        FormatError: file and sidecar do not fit.
        MismatchError: made with another codebook.
    """
    if sidecar.fingerprint != codebook.fingerprint.hex():
        raise MismatchError(
            f"{where}: made with another codebook; found fingerprint {sidecar.fingerprint[:16]}, "
            f"want {codebook.fingerprint.hex()[:16]}. Name the model it was made with (-m)."
        )
    dtype = token_type(codebook.window_bits)
    size, want = source.seek(0, os.SEEK_END), sidecar.tokens * dtype.itemsize
    if size != want:
        raise FormatError(f"{where}: size does not fit its sidecar; found {size} bytes, want {want}.")

    def chunks() -> Iterator[npt.NDArray[np.unsignedinteger]]:
        source.seek(0)
        for start in range(0, sidecar.tokens, READ_TOKENS):
            n = min(READ_TOKENS, sidecar.tokens - start)
            yield np.frombuffer(exactly(source, n * dtype.itemsize, where), dtype)

    lengths = codebook.lengths
    totals, crc = Totals(windows=sidecar.tokens), 0
    for ids in chunks():
        crc = zlib.crc32(ids.data, crc)
        if int(ids.max()) >= lengths.size:
            raise damaged(where, f"found id {ids.max()}, want less than {lengths.size}")
        totals.original_bytes += int(lengths[ids].sum())
        totals.documents += int(np.count_nonzero(ids == END_OF_TEXT))
    found = _sidecar(codebook, totals, crc)
    for name, value in asdict(found).items():
        if getattr(sidecar, name) != value:
            raise damaged(
                where, f"{name} differs from its sidecar; found {value}, want {getattr(sidecar, name)}"
            )
    for ids in chunks():
        ends = np.cumsum(lengths[ids])[np.flatnonzero(ids == END_OF_TEXT)]
        yield Frame(parse.decode(codebook, ids), ends.tolist())
