"""Token files: codewords as M2 and other trainers read them, and the sidecar that makes them decodable.

`train.bin` is nothing but token ids, little-endian uint16 (window_bits <= 16) or uint32: nanoGPT's format.
`train.bin.json` says which codec they belong to and what they decode to; every field of it is checked.

An id is the codeword of a window of a codebook. What live codecs make has no such items: the payload of each
frame, with zeros to a whole number, is cut into ids of LIVE_ID_BITS bits, high bits first.
"""

import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from eqinfo.codebook import parse
from eqinfo.errors import FormatError
from eqinfo.formats.codec import CodebookCodec, Codec
from eqinfo.formats.eqi import Finder, Sink, Totals, damaged, exactly
from eqinfo.formats.packing import packed_bytes
from eqinfo.system.threads import ordered_map
from eqinfo.text.frames import FRAME_BYTES, MAX_DOCUMENTS, Frame

TOKENS_SUFFIX = ".bin"
FORMAT = "eqinfo tokens"
VERSION = 2
END_OF_TEXT = 0  # the empty window
READ_TOKENS = FRAME_BYTES // 16  # some 400 KB of text; 16 MB at worst, if every window has 255 bytes
LIVE_ID_BITS, MAX_ID_BITS = 16, 32
LIVE_FIELDS = ("unit_bits", "frames")
MAX_SIDECAR_BYTES = 1 << 26  # some 300 GB of text in live frames


@dataclass(frozen=True)
class Sidecar:
    """What `<token file>.json` holds, besides the format's name and version and a checksum of all this.

    Attributes:
        vocab_size: 2**window_bits, one more than the largest id there can be.
        window_bits: size of an id in bits.
        fingerprint: of the codec, in hexadecimal.
        tokens: how many ids the file holds.
        original_bytes: size of the text they decode to.
        documents: how many of them are END_OF_TEXT.
        end_of_text: the id that ends a document.
        crc32: of the token file.
        unit_bits: of a live codec; 0 for codebooks.
        frames: of a live codec: bytes of text, document ends, units and crc32 of the text of each frame.
    """

    vocab_size: int
    window_bits: int
    fingerprint: str
    tokens: int
    original_bytes: int
    documents: int
    end_of_text: int
    crc32: int
    unit_bits: int = 0
    frames: list[list[int]] = field(default_factory=list)

    @property
    def frame_ids(self) -> list[int]:
        """How many ids each of `frames` has."""
        return [-(-units * self.unit_bits // LIVE_ID_BITS) for _, _, units, _ in self.frames]

    def to_json(self) -> bytes:
        """The contents of the file."""
        facts = {
            name: value for name, value in asdict(self).items() if self.unit_bits or name not in LIVE_FIELDS
        }
        facts["sidecar_crc32"] = _crc_of_facts(facts)
        frames = facts.pop("frames", None)
        text = json.dumps({"format": FORMAT, "version": VERSION, **facts}, indent=2)
        if frames is not None:  # a line
            text = f'{text[:-2]},\n  "frames": {json.dumps(frames)}\n}}'
        return text.encode() + b"\n"

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
            raise FormatError(
                f"{where}: another version of the format; found {version!r:.9}, want {VERSION}."
            )
        crc = fields.pop("sidecar_crc32", None)
        types = dict.fromkeys(cls.__dataclass_fields__, int) | {"fingerprint": str, "frames": list}
        if "unit_bits" not in fields:
            types = {name: kind for name, kind in types.items() if name not in LIVE_FIELDS}
        sound = {name: type(value) for name, value in fields.items()} == types and all(
            type(frame) is list and [type(n) for n in frame] == [int] * 4 and min(frame) >= 0
            for frame in fields.get("frames", [])
        )
        if not sound:
            raise FormatError(f"{where}: damaged; fields are missing, unknown or of another type.")
        if crc != _crc_of_facts(fields):
            raise damaged(where, "its checksum does not match")
        found = cls(**fields)
        if not re.fullmatch("[0-9a-f]{64}", found.fingerprint):
            raise damaged(where, f"found fingerprint {found.fingerprint[:16]!r}")
        if not 1 <= found.window_bits <= MAX_ID_BITS or found.vocab_size != 1 << found.window_bits:
            raise damaged(where, f"found {found.vocab_size} ids of {found.window_bits} bits")
        return found

    @classmethod
    def load(cls, path: Path) -> "Sidecar":
        """What a sidecar file says.

        Raises:
            FormatError: as `from_json`.
            OSError: it cannot be read.
        """
        with path.open("rb") as file:
            return cls.from_json(file.read(MAX_SIDECAR_BYTES), str(path))


def _crc_of_facts(facts: dict[str, Any]) -> int:
    """The checksum of a sidecar's fields, whatever their order and layout."""
    return zlib.crc32(json.dumps(facts, sort_keys=True).encode())


def sidecar_path(path: Path) -> Path:
    """Where the sidecar of a token file is: its name and `.json`."""
    return Path(f"{path}.json")


def token_type(window_bits: int) -> np.dtype[np.unsignedinteger]:
    """How an id is stored."""
    return np.dtype("<u2" if window_bits <= 16 else "<u4")


def write(frames: Iterable[Frame], sink: Sink, codec: Codec, threads: int = 1) -> tuple[Totals, Sidecar]:
    """Write the token ids of a text.

    Args:
        frames: none of them empty.
        sink: where the ids go; the sidecar is returned, to be written when they are safe.
        codec: what to code with.
        threads: how many frames to work on at a time; the output is the same.
    """
    totals, crc, n_ids, listed = Totals(), 0, 0, list[list[int]]()
    for frame, units, ids in ordered_map(partial(_encode, codec), frames, threads):
        data = ids.tobytes()
        sink.write(data)
        crc = zlib.crc32(data, crc)
        n_ids += ids.size
        totals.original_bytes += len(frame.text)
        totals.compressed_bytes += len(data)
        totals.windows += units
        totals.documents += len(frame.document_ends)
        listed.append([len(frame.text), len(frame.document_ends), units, zlib.crc32(frame.text)])
    return totals, _sidecar(codec, totals, n_ids, crc, listed)


def _sidecar(codec: Codec, totals: Totals, n_ids: int, crc: int, frames: list[list[int]]) -> Sidecar:
    """What there is to say of a token file."""
    is_live = not isinstance(codec, CodebookCodec)
    bits = LIVE_ID_BITS if is_live else codec.unit_bits
    return Sidecar(
        vocab_size=1 << bits,
        window_bits=bits,
        fingerprint=codec.fingerprint.hex(),
        tokens=n_ids,
        original_bytes=totals.original_bytes,
        documents=totals.documents,
        end_of_text=END_OF_TEXT,
        crc32=crc,
        unit_bits=codec.unit_bits if is_live else 0,
        frames=frames if is_live else [],
    )


def _encode(codec: Codec, frame: Frame) -> tuple[Frame, int, npt.NDArray[np.unsignedinteger]]:
    """A frame, its units and its token ids."""
    if isinstance(codec, CodebookCodec):
        codewords = parse.encode(codec.codebook, *frame)
        return frame, codewords.size, codewords.astype(token_type(codec.unit_bits))
    units, payload = codec.encode(frame)
    padded = payload + bytes(-len(payload) % (LIVE_ID_BITS // 8))
    return frame, units, np.frombuffer(padded, ">u2").astype("<u2")


def read(source: BinaryIO, sidecar: Sidecar, finder: Finder, where: str) -> Iterator[Frame]:
    """The text of a token file. All ids are checked before the first frame is given.

    Args:
        source: the ids; seekable, for they are read twice.
        sidecar: what is said of them.
        finder: what finds their codec.
        where: name of the file, for messages.

    Raises:
        FormatError: file and sidecar do not fit.
        MismatchError: made with another codec.
    """
    try:
        fingerprint = bytes.fromhex(sidecar.fingerprint)
    except ValueError:
        raise damaged(where, f"found fingerprint {sidecar.fingerprint[:16]!r} in its sidecar") from None
    codec = finder.find(sidecar.unit_bits or sidecar.window_bits, fingerprint, where)
    dtype = token_type(sidecar.window_bits)
    size, want = source.seek(0, os.SEEK_END), sidecar.tokens * dtype.itemsize
    if size != want:
        raise FormatError(f"{where}: size does not fit its sidecar; found {size} bytes, want {want}.")
    if isinstance(codec, CodebookCodec):
        return _read_windows(source, sidecar, codec, where)
    return _read_live(source, sidecar, codec, where)


def _chunks(
    source: BinaryIO, sidecar: Sidecar, where: str, sizes: Iterable[int]
) -> Iterator[npt.NDArray[np.unsignedinteger]]:
    """The ids of a token file, so many at a time."""
    dtype = token_type(sidecar.window_bits)
    source.seek(0)
    for size in sizes:
        yield np.frombuffer(exactly(source, size * dtype.itemsize, where), dtype)


def _check(found: Sidecar, sidecar: Sidecar, where: str) -> None:
    """Raises FormatError if a sidecar does not say what was found."""
    for name, value in asdict(found).items():
        if getattr(sidecar, name) != value:
            raise damaged(
                where, f"{name} differs from its sidecar; found {value}, want {getattr(sidecar, name)}"
            )


def _read_windows(source: BinaryIO, sidecar: Sidecar, codec: CodebookCodec, where: str) -> Iterator[Frame]:
    """The text of codewords of a codebook."""
    n, lengths = sidecar.tokens, codec.codebook.lengths
    sizes = [min(READ_TOKENS, n - start) for start in range(0, n, READ_TOKENS)]
    totals, crc = Totals(windows=n), 0
    for ids in _chunks(source, sidecar, where, sizes):
        crc = zlib.crc32(ids.data, crc)
        if int(ids.max()) >= lengths.size:
            raise damaged(where, f"found id {ids.max()}, want less than {lengths.size}")
        totals.original_bytes += int(lengths[ids].sum())
        totals.documents += int(np.count_nonzero(ids == END_OF_TEXT))
    _check(_sidecar(codec, totals, n, crc, []), sidecar, where)
    for ids in _chunks(source, sidecar, where, sizes):
        ends = np.cumsum(lengths[ids])[np.flatnonzero(ids == END_OF_TEXT)]
        yield Frame(parse.decode(codec.codebook, ids), ends.tolist())


def _read_live(source: BinaryIO, sidecar: Sidecar, codec: Codec, where: str) -> Iterator[Frame]:
    """The text of payloads of a live codec, in the frames that the sidecar lists."""
    for length, n_documents, units, _ in sidecar.frames:
        if length > FRAME_BYTES or n_documents > MAX_DOCUMENTS or units > codec.most_units(length):
            raise damaged(where, f"found {units} units for {length} bytes")
    sizes = sidecar.frame_ids
    if sum(sizes) != sidecar.tokens:
        raise damaged(where, f"its frames are of {sum(sizes)} ids; found {sidecar.tokens}")
    totals, crc = Totals(), 0
    for ids, (length, n_documents, _, _) in zip(
        _chunks(source, sidecar, where, sizes), sidecar.frames, strict=True
    ):
        crc = zlib.crc32(ids.data, crc)
        totals.original_bytes += length
        totals.documents += n_documents
    _check(_sidecar(codec, totals, sidecar.tokens, crc, sidecar.frames), sidecar, where)
    chunks = _chunks(source, sidecar, where, sizes)
    for ids, (length, n_documents, units, text_crc) in zip(chunks, sidecar.frames, strict=True):
        payload, n_bytes = ids.astype(">u2").tobytes(), packed_bytes(units, codec.unit_bits)
        try:
            frame = codec.decode(units, payload[:n_bytes], length)
        except ValueError as error:
            raise damaged(where, str(error)) from None
        if len(frame.document_ends) != n_documents or any(payload[n_bytes:]):
            raise damaged(where, f"found {len(frame.document_ends)} documents, want {n_documents}")
        if zlib.crc32(frame.text) != text_crc:
            raise damaged(where, "its text is not what its sidecar says")
        yield frame
