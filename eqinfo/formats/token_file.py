"""Token files, from which M2 and other trainers read ids, and the sidecar that makes them decodable.

`train.bin` is token ids alone, unsigned little-endian integers: of 16 bits, as nanoGPT's, if window_bits is
at most 16, otherwise of 32. Its sidecar `train.bin.json` says which codec (`codec`) the ids belong to.

Ids of a codebook are codewords, a window each: the codewords of all frames, one after another. Id 0, the
empty window, ends a document. window_bits is the codebook's.

Ids of a live codec (any other) are pieces of payloads. window_bits is LIVE_ID_BITS = 16: the payload of each
frame, and a zero byte after it if its number of bytes is odd, is cut into pairs of bytes, and an id is
256 * first + second. To decode them, the sidecar lists the frames.

The sidecar is a JSON object of the attributes of `Sidecar` (for a codebook without "unit_bits" and "frames"),
"format": "eqinfo tokens", "version": 2, and "sidecar_crc32": the CRC-32 of the JSON text of the attributes
alone, on one line, sorted by name, with ", " between items and ": " after names, as by Python's
json.dumps(attributes, sort_keys=True). A reader refuses missing and unknown fields, and a sidecar that
differs from its token file.
"""

import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from eqinfo.codebook import parse
from eqinfo.errors import FormatError, check_version, damaged
from eqinfo.formats.codec import CodebookCodec, Codec, Finder
from eqinfo.formats.eqi import Sink, read_exactly
from eqinfo.formats.id_file import token_type
from eqinfo.formats.lane_codec import LaneCodec, mapped
from eqinfo.formats.packing import packed_bytes
from eqinfo.system.arrays import Ids
from eqinfo.text.frames import FRAME_BYTES, MAX_DOCUMENTS, Frame

TOKENS_SUFFIX = ".bin"
FORMAT = "eqinfo tokens"
VERSION = 2
END_OF_TEXT = 0  # the empty window
READ_TOKENS = FRAME_BYTES // 16  # about 400 KB of text; 16 MB at worst, if every window has 255 bytes
LIVE_ID_BITS, MAX_ID_BITS = 16, 32
MAX_SIDECAR_BYTES = 1 << 26  # about 300 GB of text in live frames


@dataclass(frozen=True)
class Sidecar:
    """The contents of a sidecar.

    Attributes:
        vocab_size: 2**window_bits; every id is less.
        window_bits: size of an id in bits, in [1, 32].
        fingerprint: the codec's, 64 lower-case hexadecimal digits.
        tokens: number of ids in the file.
        original_bytes: size of the text in bytes.
        documents: number of document ends.
        end_of_text: the id that ends a document: END_OF_TEXT.
        crc32: CRC-32 of the token file.
        unit_bits: of a live codec; 0 for a codebook.
        frames: of a live codec, for each frame: size of its text in bytes, number of document ends, number
            of units, CRC-32 of its text.
    """

    vocab_size: int
    window_bits: int
    fingerprint: str
    tokens: int
    original_bytes: int
    documents: int = 0
    end_of_text: int = END_OF_TEXT
    crc32: int = 0
    unit_bits: int = 0
    frames: list[list[int]] = field(default_factory=list)

    @property
    def frame_ids(self) -> list[int]:
        """The number of ids of each of `frames`."""
        return [-(-units * self.unit_bits // LIVE_ID_BITS) for _, _, units, _ in self.frames]

    def check_size(self, size: int, where: str) -> None:
        """Raises FormatError if the ids of the file `where` have another size in bytes."""
        want = self.tokens * token_type(self.window_bits).itemsize
        if size != want:
            word = "shorter" if size < want else "longer"
            raise FormatError(
                f"{where}: {word} than its sidecar says; found {size} bytes, want {want}. Make it again."
            )

    def find_codec(self, finder: Finder, where: str) -> Codec:
        """The codec that made the ids of the file `where`; raises what the finder raises."""
        return finder.find_codec(self.unit_bits or self.window_bits, bytes.fromhex(self.fingerprint), where)

    def to_json(self) -> bytes:
        """The contents of the file."""
        facts = asdict(self)
        if not self.unit_bits:
            del facts["unit_bits"], facts["frames"]
        facts["sidecar_crc32"] = _crc_of_facts(facts)
        frames = facts.pop("frames", None)
        text = json.dumps({"format": FORMAT, "version": VERSION, **facts}, indent=2)
        if frames is not None:  # all on one line
            text = f'{text[:-2]},\n  "frames": {json.dumps(frames)}\n}}'
        return text.encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes, where: str) -> "Sidecar":
        """The sidecar with these contents; the inverse of `to_json`.

        Raises:
            FormatError: the contents are damaged, or those of another format or version.
        """
        try:
            facts = json.loads(data)
        except (ValueError, RecursionError):
            raise FormatError(f"{where}: not JSON, so no sidecar of a token file.") from None
        if not isinstance(facts, dict) or facts.pop("format", None) != FORMAT:
            raise FormatError(f"{where}: not the sidecar of a token file.")
        check_version(where, facts.pop("version", None), VERSION)
        crc = facts.pop("sidecar_crc32", None)
        whole: dict[str, Any] = {"unit_bits": 0, "frames": []} | facts
        types = dict.fromkeys(cls.__dataclass_fields__, int) | {"fingerprint": str, "frames": list}
        if {name: type(value) for name, value in whole.items()} != types or not all(
            type(frame) is list and [type(n) for n in frame] == [int] * 4 for frame in whole["frames"]
        ):
            raise damaged(where, "fields are missing, unknown or of another type")
        numbers = (number for number in whole.values() if type(number) is int)
        if not all(0 <= number < 1 << 63 for number in chain(numbers, *whole["frames"])):
            raise damaged(where, "a number is out of range")
        if crc != _crc_of_facts(facts):
            raise damaged(where, "its checksum does not match")
        found = cls(**whole)
        if not re.fullmatch("[0-9a-f]{64}", found.fingerprint):
            raise damaged(where, f"found fingerprint {found.fingerprint[:16]!r}")
        if not 1 <= found.window_bits <= MAX_ID_BITS or found.vocab_size != 1 << found.window_bits:
            raise damaged(where, f"found {found.vocab_size} ids of {found.window_bits} bits")
        return found

    @classmethod
    def load(cls, path: Path) -> "Sidecar":
        """The sidecar in a file.

        Raises:
            FormatError: as `from_json`.
            OSError: the file cannot be read.
        """
        return cls.from_json(sidecar_bytes(path), str(path))


def _crc_of_facts(facts: dict[str, Any]) -> int:
    """The checksum of a sidecar's fields, the same for any order and layout."""
    return zlib.crc32(json.dumps(facts, sort_keys=True).encode())


def sidecar_path(path: Path) -> Path:
    """Path of the sidecar of a token file."""
    return Path(f"{path}.json")


def sidecar_bytes(path: Path) -> bytes:
    """The contents of a sidecar, at most as many as one of ours has."""
    with path.open("rb") as file:
        return file.read(MAX_SIDECAR_BYTES)


def write(frames: Iterable[Frame], sink: Sink, codec: Codec, threads: int = 1) -> Sidecar:
    """Write the token ids of a text; the result is to be written beside them when they are safe.

    Args:
        frames: each with text or a document end.
        sink: the token file.
        codec: codes the frames.
        threads: number of frames to code at a time; the output is the same for any.
    """
    crc, n_ids, listed = 0, 0, list[list[int]]()

    def many(lanes: LaneCodec, batch: list[Frame]) -> Iterator[tuple[Frame, int, Ids]]:
        return map(partial(_encode, codec), batch, lanes.encode_batch(batch, threads))

    for frame, units, ids in mapped(partial(_encode, codec), many, frames, lambda _: codec, threads):
        sink.write(data := ids.tobytes())
        crc = zlib.crc32(data, crc)
        n_ids += ids.size
        listed.append([len(frame.text), len(frame.document_ends), units, zlib.crc32(frame.text)])
    n_bytes, n_documents = (sum(frame[column] for frame in listed) for column in (0, 1))
    return _sidecar(codec, n_bytes, n_documents, n_ids, crc, listed)


def _sidecar(
    codec: Codec, n_bytes: int, n_documents: int, n_ids: int, crc: int, frames: list[list[int]]
) -> Sidecar:
    """The sidecar of a token file; `frames` matters for live codecs only."""
    is_live = not isinstance(codec, CodebookCodec)
    bits = LIVE_ID_BITS if is_live else codec.unit_bits
    return Sidecar(
        vocab_size=1 << bits,
        window_bits=bits,
        fingerprint=codec.fingerprint.hex(),
        tokens=n_ids,
        original_bytes=n_bytes,
        documents=n_documents,
        crc32=crc,
        unit_bits=codec.unit_bits if is_live else 0,
        frames=frames if is_live else [],
    )


def _encode(codec: Codec, frame: Frame, coded: tuple[int, bytes] | None = None) -> tuple[Frame, int, Ids]:
    """A frame, its units and its token ids; `coded` is what the codec's `encode` returns, if known."""
    if isinstance(codec, CodebookCodec):
        codewords = parse.encode(codec.codebook, *frame)
        return frame, codewords.size, codewords.astype(token_type(codec.unit_bits))
    units, payload = coded or codec.encode(frame)
    padded = payload + bytes(-len(payload) % (LIVE_ID_BITS // 8))
    return frame, units, np.frombuffer(padded, ">u2").astype("<u2")


def read(source: BinaryIO, sidecar: Sidecar, finder: Finder, where: str) -> Iterator[Frame]:
    """The text of a token file, after a first pass that checks all ids.

    Args:
        source: the ids; seekable, as they are read twice.
        sidecar: the file's.
        finder: finds the codec.
        where: name of the file, for messages.

    Raises:
        FormatError: the file and its sidecar do not fit each other.
        MismatchError: the file was made with another codec.
    """
    codec = sidecar.find_codec(finder, where)
    sidecar.check_size(source.seek(0, os.SEEK_END), where)
    if isinstance(codec, CodebookCodec):
        return _read_windows(source, sidecar, codec, where)
    return _read_live(source, sidecar, codec, where)


def _chunks(source: BinaryIO, sidecar: Sidecar, where: str, sizes: Iterable[int]) -> Iterator[Ids]:
    """The ids of a token file from its start, `sizes` ids at a time."""
    dtype = token_type(sidecar.window_bits)
    source.seek(0)
    for size in sizes:
        yield np.frombuffer(read_exactly(source, size * dtype.itemsize, where), dtype)


def _check(found: Sidecar, sidecar: Sidecar, where: str) -> None:
    """Raises FormatError if a sidecar differs from the one that its token file should have."""
    for name, value in asdict(found).items():
        if getattr(sidecar, name) != value:
            want = getattr(sidecar, name)
            raise damaged(where, f"{name} differs from its sidecar; found {value}, want {want}")


def _read_windows(source: BinaryIO, sidecar: Sidecar, codec: CodebookCodec, where: str) -> Iterator[Frame]:
    """The text of a codebook's token file, READ_TOKENS windows a frame."""
    n, lengths = sidecar.tokens, codec.codebook.lengths
    sizes = [min(READ_TOKENS, n - start) for start in range(0, n, READ_TOKENS)]
    n_bytes = n_documents = crc = 0
    for ids in _chunks(source, sidecar, where, sizes):
        crc = zlib.crc32(ids.data, crc)
        if int(ids.max()) >= lengths.size:
            raise damaged(where, f"found id {ids.max()}, want less than {lengths.size}")
        n_bytes += int(lengths[ids].sum())
        n_documents += int(np.count_nonzero(ids == END_OF_TEXT))
    _check(_sidecar(codec, n_bytes, n_documents, n, crc, []), sidecar, where)
    for ids in _chunks(source, sidecar, where, sizes):
        ends = np.cumsum(lengths[ids])[np.flatnonzero(ids == END_OF_TEXT)]
        yield Frame(parse.decode(codec.codebook, ids), ends.tolist())


def _read_live(source: BinaryIO, sidecar: Sidecar, codec: Codec, where: str) -> Iterator[Frame]:
    """The text of a live codec's token file, in the frames that its sidecar lists."""
    for length, n_documents, units, _ in sidecar.frames:
        if length > FRAME_BYTES or n_documents > MAX_DOCUMENTS or units > codec.most_units(length):
            raise damaged(where, f"found {units} units for {length} bytes")
    sizes = sidecar.frame_ids
    if sum(sizes) != sidecar.tokens:
        raise damaged(where, f"its frames have {sum(sizes)} ids; found {sidecar.tokens}")
    crc = 0
    for ids in _chunks(source, sidecar, where, sizes):
        crc = zlib.crc32(ids.data, crc)
    n_bytes, n_documents = (sum(frame[column] for frame in sidecar.frames) for column in (0, 1))
    _check(_sidecar(codec, n_bytes, n_documents, sidecar.tokens, crc, sidecar.frames), sidecar, where)
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
