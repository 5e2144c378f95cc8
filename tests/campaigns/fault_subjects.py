"""The kinds of files that eqinfo reads: for each a small valid file and the reader that commands use.

This module does not damage the files or judge the outcomes (`faults`).
"""

import atexit
import gzip
import hashlib
import io
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import count
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest import mock
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import torch
import zstandard

from eqinfo.codebook import codebook as codebooks
from eqinfo.codebook.codebook import Codebook
from eqinfo.coder import integer_m1
from eqinfo.errors import EqinfoError
from eqinfo.eval import measure, tables
from eqinfo.eval.held_out import read_held_out
from eqinfo.formats import eqi, eqi_index, foreign_ids, listing, token_file
from eqinfo.formats.codec import ArithmeticCodec, CodebookCodec, Codec, WindowCodec
from eqinfo.formats.eqi import CRC_BYTES, HEADER_BYTES, frame_seed, trailer
from eqinfo.formats.model_folder import Model
from eqinfo.formats.packing import packed_bytes, read_varint, varint
from eqinfo.m1 import corpus
from eqinfo.m1 import run as m1_run
from eqinfo.m1 import train as m1_train
from eqinfo.m1.batches import WindowBatches
from eqinfo.m1.quantise import static
from eqinfo.m2 import batches as m2_batches
from eqinfo.m2 import metrics
from eqinfo.m2 import run as m2_run
from eqinfo.m2 import start as m2_start
from eqinfo.m2 import train as m2_train
from eqinfo.m2.model import GPT, M2_PRESETS, GPTConfig
from eqinfo.m2.trained import load_m2
from eqinfo.text import decompression, documents
from eqinfo.text.frames import FRAME_BYTES, Frame
from eqinfo.training import run_folder
from eqinfo.training.loop import Trainer
from eqinfo.training.schedule import Budget

CPU = torch.device("cpu")
TEXT = b"The quick brown fox, and the lazy dog; the end. " * 3 + b"\xff\0\r\n" + "é".encode()
FRAMES = [Frame(TEXT, [20, len(TEXT)])]
Reader = Callable[[bytes], object]
Resealer = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Subject:
    """A kind of file.

    Attributes:
        name: name of the kind.
        data: a small valid file.
        read: reads a file as the command does; results are compared by ==.
        reseal: recomputes the checksums of a file; None if it has none.
        is_checked: whether checksums must reveal every change; plain text has none.
        sound_sizes: sizes in bytes to which it may be truncated and stay valid, such as whole streams.
        bombs: small files that claim or expand to large sizes, by description.
    """

    name: str
    data: bytes
    read: Reader
    reseal: Resealer | None = None
    is_checked: bool = True
    sound_sizes: tuple[int, ...] = ()
    bombs: dict[str, Callable[[], bytes]] = field(default_factory=dict)


# ---- files in folders


@cache
def sandbox() -> Path:
    """The temporary folder of this process, in memory if possible; readers may write nowhere else."""
    base = "/dev/shm" if Path("/dev/shm").is_dir() else None
    folder, owner = Path(tempfile.mkdtemp(prefix="eqinfo-faults-", dir=base)), os.getpid()

    @atexit.register
    def remove() -> None:
        if os.getpid() == owner:  # not a fork
            shutil.rmtree(folder, ignore_errors=True)

    return folder


def in_folder(name: str, use: Callable[[Path], object], others: dict[str, bytes] | None = None) -> Reader:
    """A reader that writes the data to one file of a folder and reads the folder; no new file may remain.

    Args:
        name: path of that file in the folder.
        use: reads the folder.
        others: the other files of the folder, by path.
    """
    files = {**(others or {}), name: b""}
    left: dict[str, tuple[int, int]] = {}

    def read(data: bytes) -> object:
        folder = sandbox() / "case"
        if not left or left != _last_left:  # the folder belongs to another subject, or its files were changed
            shutil.rmtree(folder, ignore_errors=True)
            for path, contents in files.items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(contents)
            left.clear()
            left.update(files_in(sandbox()))
            left.pop(f"case/{name}")
        (folder / name).write_bytes(data)
        try:
            return use(folder)
        finally:
            _last_left.clear()
            _last_left.update(files_in(sandbox()))
            _last_left.pop(f"case/{name}", None)
            assert _last_left.keys() <= left.keys(), f"files appeared: {_last_left.keys() - left.keys()}"

    return read


_last_left: dict[str, tuple[int, int]] = {}


def files_in(folder: Path) -> dict[str, tuple[int, int]]:
    """Modification time in ns and size in bytes of each file below a folder, by relative path."""
    found = {}
    for at, _, names in os.walk(folder):
        for name in names:
            path = f"{at}/{name}"
            facts = os.stat(path)  # noqa: PTH116 - faster than Path, and every case does it
            found[path[len(str(folder)) + 1 :]] = facts.st_mtime_ns, facts.st_size
    return found


# ---- streams


def stream(codec: Codec, frames: list[Frame]) -> bytes:
    """The frames as an .eqi stream."""
    sink = io.BytesIO()
    eqi.compress(frames, sink, codec)
    return sink.getvalue()


def read_stream(codec: Codec, data: bytes) -> object:
    """All frames of a stream, read in sequence and checked against a read by the index."""
    frames = frame_list(eqi.read_frames(io.BytesIO(data), codec, "x"))
    ranged = b"".join(eqi_index.read_range(io.BytesIO(data), codec, "x", 0))
    assert ranged == b"".join(found for found, _ in frames), "a range differs from the whole"
    return frames


def frame_list(frames: Iterator[Frame]) -> list[tuple[bytes, list[int]]]:
    """The frames as a list that can be compared."""
    return [(frame.text, list(frame.document_ends)) for frame in frames]


def reseal_streams(codec: Codec, data: bytes) -> bytes:
    """Streams with the same payloads and lengths, but recomputed checksums and index."""
    source, found = io.BytesIO(data), b""
    while len(header := source.read(HEADER_BYTES)) == HEADER_BYTES:
        found, index = found + header, b""
        for number in count():
            try:
                frame = resealed_frame(codec, source, frame_seed(header, number))
            except (EqinfoError, ValueError):
                break
            if frame is None:
                break
            length, contents = frame
            index += varint(length) + varint(len(contents))
            found += contents
        found += eqi.END + trailer(header, index)
        source.read(len(trailer(header, index)))
    return found + header


def resealed_frame(codec: Codec, source: io.BytesIO, seed: int) -> tuple[int, bytes] | None:
    """The text length of the next frame, and the frame with its checksum recomputed; None after the last."""
    head = eqi.read_head(source, "x")
    if head is None:
        return None
    tag, length = head
    source.read(CRC_BYTES)
    if length > FRAME_BYTES or tag - 1 > codec.most_units(length):
        raise ValueError("refused before the checksum is read")
    is_stored = tag == eqi.STORED
    payload = eqi.read_exactly(source, length if is_stored else packed_bytes(tag - 1, codec.unit_bits), "x")
    crc = zlib.crc32(payload, zlib.crc32(varint(tag) + varint(length), seed))
    if not is_stored:
        crc = zlib.crc32(codec.decode(tag - 1, payload, length).text, crc)
    return length, varint(tag) + varint(length) + crc.to_bytes(CRC_BYTES, "little") + payload


def reseal_index(data: bytes) -> bytes:
    """A stream with the checksum of its index recomputed, whatever the index says."""
    size = read_varint(reversed(data))
    end = len(data) - len(varint(size))
    index = data[max(0, end - CRC_BYTES - size) : end - CRC_BYTES]
    return data[: end - CRC_BYTES - len(index)] + trailer(data[:HEADER_BYTES], index)


def or_as_it_is(reseal: Resealer) -> Resealer:
    """A resealer that returns data unchanged where `reseal` cannot parse it."""

    def resealed(data: bytes) -> bytes:
        try:
            return reseal(data)
        except (EqinfoError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return data

    return resealed


def streams() -> Iterator[Subject]:
    """Streams of every codec, and the readers that use the index."""
    ours, m1_ = CodebookCodec(small_codebook()), small_network()
    codecs = {
        "9 bits": ours,
        "24 bits": WindowCodec(m1_, 24),
        "32 bits, carry": WindowCodec(m1_, 32, carry=True),
        "24 bits, published": WindowCodec(m1_, 24, rule="published"),
        "ac": ArithmeticCodec(m1_),
        "ac, published": ArithmeticCodec(m1_, "published"),
    }
    huge = varint(1 << 60)
    for name, codec in codecs.items():
        frames = [Frame(TEXT[:12], [5])] if name == "24 bits, published" else FRAMES
        header = eqi.stream_header(codec)
        most = varint(codec.most_units(FRAME_BYTES) + 1) + varint(FRAME_BYTES)
        bombs = {
            "claims 2**60 units for 2**60 bytes": partial(bytes, header + huge * 2 + bytes(CRC_BYTES)),
            "claims the largest frame, truncated": partial(bytes, header + most + bytes(1000)),
        }
        yield Subject(
            f".eqi, {name}", stream(codec, frames), partial(read_stream, codec),
            or_as_it_is(partial(reseal_streams, codec)), bombs=bombs,
        )  # fmt: skip
    yield Subject(
        ".eqi, stored", stream(ours, [Frame(bytes(range(0, 256, 3)))]), partial(read_stream, ours),
        or_as_it_is(partial(reseal_streams, ours)),
    )  # fmt: skip
    first = stream(ours, [Frame(TEXT[:60]), Frame(TEXT[60:90])])
    joined = first + stream(ours, [Frame(TEXT[90:])])
    yield Subject(
        ".eqi, joined, several frames", joined, partial(read_stream, ours),
        or_as_it_is(partial(reseal_streams, ours)), sound_sizes=(len(first),),
    )  # fmt: skip
    claims = eqi.stream_header(ours) + eqi.END + varint(1 << 60)[::-1]
    bombs = {"claims an index of 2**60 bytes": partial(bytes, claims)}
    yield Subject(
        ".eqi, --range", first,
        lambda data: b"".join(eqi_index.read_range(io.BytesIO(data), ours, "x", 3, 80)),
        or_as_it_is(reseal_index), is_checked=False, bombs=bombs,
    )  # fmt: skip
    yield Subject(
        ".eqi, --list", first, lambda data: list(listing.of_file(io.BytesIO(data), ours, Path("x"))),
        or_as_it_is(reseal_index), is_checked=False, bombs=bombs,
    )  # fmt: skip


# ---- models


@cache
def small_codebook() -> Codebook:
    """A codebook of 9 bits."""
    words = ["the ", "quick", "brown ", " fox", "lazy", ", and ", "; ", "end", "th"]
    return Codebook(sorted({b""} | {bytes([b]) for b in range(256)} | {w.encode() for w in words}), 9)


@cache
def small_network() -> integer_m1.Network:
    """An M1 that gives every byte a fixed probability."""
    return static(np.bincount(np.frombuffer(TEXT, np.uint8), minlength=256))


def round_trip(folder: Path, window_bits: str | None, data: bytes) -> object:
    """The stream that `compress -m` makes of a text; checks that `decompress -m` restores the text."""
    packed = stream(Model(folder).codec(window_bits, False, "live"), [Frame(data)])
    found = b"".join(frame.text for frame in eqi.read_frames(io.BytesIO(packed), Model(folder), "x"))
    assert found == data, "another text came back"
    return packed


CODEBOOK_HEADER_BYTES = codebooks._HEADER.size


def reseal_codebook(data: bytes) -> bytes:
    """A codebook file with its CRC-32, the last field of the header, recomputed."""
    if len(data) < CODEBOOK_HEADER_BYTES:
        return data
    head, body = data[: CODEBOOK_HEADER_BYTES - CRC_BYTES], data[CODEBOOK_HEADER_BYTES:]
    return head + zlib.crc32(body, zlib.crc32(head + bytes(CRC_BYTES))).to_bytes(CRC_BYTES, "little") + body


def codebook_file(lists: bytes, n: int, window_bits: int = 9) -> bytes:
    """A codebook file that claims n windows and holds any lists; all checksums match where possible."""
    size = len(lists) - 2 * n
    try:
        windows = codebooks._windows(lists, n, size)
    except ValueError:
        windows = []
    fingerprint = Codebook.fingerprint.func(SimpleNamespace(window_bits=window_bits, windows=windows))
    fields = b"EQCB", 1, window_bits, 0, 1024, n, max(size, 0), fingerprint, 0
    return reseal_codebook(codebooks._HEADER.pack(*fields) + zstandard.compress(lists))


def reseal_sha(data: bytes) -> bytes:
    """A file with its last 32 bytes replaced by the SHA-256 of the bytes before them."""
    return data[:-32] + hashlib.sha256(data[:-32]).digest()


def most_windows() -> bytes:
    """A codebook file of a few kilobytes with the largest number of windows, of the greatest length."""
    windows = {b""} | {bytes([byte]) for byte in range(256)}
    counters = range((1 << codebooks.MAX_WINDOW_BITS) - len(windows))
    return Codebook(sorted(windows | {b"a" * 29 + n.to_bytes(3, "big") for n in counters}), 20).to_bytes()


def models() -> Iterator[Subject]:
    """The two files of a model folder, as compress and decompress read them."""
    codebook, m1_ = small_codebook(), small_network()
    read = in_folder("codebook.eqcb", lambda folder: round_trip(folder, None, TEXT))
    header, n = codebooks._HEADER, 1 << codebooks.MAX_WINDOW_BITS
    bombs: dict[str, Callable[[], bytes]] = {
        "claims 2**32 - 1 windows": lambda: reseal_codebook(
            header.pack(b"EQCB", 1, 9, 0, 0, 2**32 - 1, 2**32 - 1, bytes(32), 0) + zstandard.compress(b"")
        ),
        "claims 2**20 windows of 255 bytes": lambda: codebook_file(
            bytes(n) + b"\xff" * n + bytes(255 * n), n, 20
        ),
        "the most and the longest windows": most_windows,
    }
    yield Subject("codebook.eqcb, -m", codebook.to_bytes(), read, reseal_codebook, bombs=bombs)
    lists = zstandard.ZstdDecompressor().decompress(codebook.to_bytes()[header.size :])
    yield Subject(
        "codebook.eqcb, of any lists", lists, lambda data: read(codebook_file(data, len(codebook.windows))),
        is_checked=False,
    )  # fmt: skip
    yield Subject(
        "m1.eqm1, -m", integer_m1.to_bytes(m1_),
        in_folder("m1.eqm1", lambda folder: [round_trip(folder, bits, TEXT[:6]) for bits in ("24", "ac")]),
        reseal_sha, bombs={"claims tables of 2**20 rows": lambda: b"EQM1\x01\x08\x14\0" + bytes(1000)},
    )  # fmt: skip


# ---- token files


def reseal_sidecar(data: bytes) -> bytes:
    """A sidecar with its checksum recomputed."""
    fields = json.loads(data)
    kept = ("format", "version", "sidecar_crc32")
    facts = {name: value for name, value in fields.items() if name not in kept}
    return json.dumps(fields | {"sidecar_crc32": token_file._crc_of_facts(facts)}).encode()


def decoded(codec: Codec, folder: Path) -> object:
    """Read a token file as decompress does."""
    path = folder / "a.bin"
    with path.open("rb") as source:
        sidecar = token_file.Sidecar.load(token_file.sidecar_path(path))
        return frame_list(token_file.read(source, sidecar, codec, "x"))


def loaded(folder: Path) -> object:
    """Read a token file as train-m2 does."""
    paths = [folder / "a.bin"]
    m2_batches.check(paths)
    found = m2_batches.load(paths)
    blocks = [block.tolist() for block in found.blocks(range(min(found.n_blocks(16), 9)), 16)]
    return blocks, found.n_tokens, found.sidecar


def measured_on(folder: Path) -> object:
    """Read a token file as `eval --text` does."""
    with (folder / "a.bin").open("rb") as source:
        found = read_held_out(source, folder / "a.bin", "text", [folder])
    return found.data, found.document_ends, found.words


def listed(codec: Codec, folder: Path) -> object:
    """Read a token file as --list does."""
    with (folder / "a.bin").open("rb") as source:
        return [replace(row, file="") for row in listing.of_file(source, codec, folder / "a.bin")]


def token_files() -> Iterator[Subject]:
    """Token files and sidecars, of eqinfo and of other programs, as each command reads them."""
    reseal = or_as_it_is(reseal_sidecar)
    ours, live = CodebookCodec(small_codebook()), WindowCodec(small_network(), 24)
    model = {"codebook.eqcb": small_codebook().to_bytes()}
    for kind, codec in (("", ours), (" of live windows", live)):
        sink = io.BytesIO()
        sidecar = token_file.write(iter(FRAMES), sink, codec)
        ids, facts = sink.getvalue(), sidecar.to_json()
        huge = replace(sidecar, tokens=1 << 60, original_bytes=1 << 60).to_json()
        bombs = {"claims 2**60 ids": partial(bytes, huge)}
        uses = {"decompress": partial(decoded, codec)}
        if codec is ours:
            uses |= {"train-m2": loaded, "eval --text": measured_on, "--list": partial(listed, codec)}
        for use, read in uses.items():
            if use != "--list":  # which reads the sidecar only
                beside = model | {"a.bin.json": facts}
                yield Subject(f".bin{kind}, {use}", ids, in_folder("a.bin", read, beside))
            sidecar_read = in_folder("a.bin.json", read, model | {"a.bin": ids})
            yield Subject(f".bin.json{kind}, {use}", facts, sidecar_read, reseal, bombs=bombs)
    foreign = b'{"vocab_size": 512, "original_bytes": 152, "end_of_text": 0}'
    numbers = np.arange(64, dtype="<u2").tobytes()
    header = np.array([*next(iter(foreign_ids.LLM_C_TYPES)), 64], "<i4").tobytes()
    llm_c = header.ljust(foreign_ids.LLM_C_HEADER_BYTES, b"\0")
    yield Subject(
        ".bin.json from elsewhere, train-m2", foreign, in_folder("a.bin.json", loaded, {"a.bin": numbers}),
        is_checked=False,
    )  # fmt: skip
    yield Subject(
        ".bin of llm.c, train-m2", llm_c + numbers, in_folder("a.bin", loaded, {"a.bin.json": foreign}),
        is_checked=False,
    )  # fmt: skip


# ---- folders of runs


def stop() -> bool:
    """Stop a run at once."""
    return True


def silent(phase: str, share: float, word: str) -> None:
    """A report of progress that is ignored."""


def small_m2() -> AbstractContextManager[object]:
    """Make the smallest preset of M2 smaller for as long as the context lasts: 100,000 models are made."""
    return mock.patch.dict(M2_PRESETS, nano=(1, 1, 8))


def interrupt(*arguments: object) -> None:
    """Stands in for Trainer and stops; a Mock would keep every model alive until garbage collection."""
    raise KeyboardInterrupt


def resumed(module: ModuleType, folder: Path) -> object:
    """Read a run folder as --resume does, up to its checkpoint, which is a subject of its own."""
    with mock.patch.object(module, "Trainer", interrupt), small_m2():
        try:
            return json.dumps(module.run(folder, CPU, silent, stop))
        except KeyboardInterrupt:
            return json.dumps(module.read_config(folder))


def staged(folder: Path) -> object:
    """Read the corpus of a train-m1 run as --resume does; the texts and a first batch."""
    train, valid, _ = corpus.load(folder / m1_run.CORPUS)
    batch = WindowBatches(train, None, 4, 64, 0)(0)
    return [part.data.tolist() for part in (train, valid)], [tensor.tolist() for tensor in batch]


def figures(folder: Path) -> object:
    """Read and truncate metrics.jsonl as --resume does; the lines read, and the file left."""
    found = metrics.Metrics(folder / m2_train.METRICS)
    lines = found.up_to(1)
    found.forget_after(0)
    return lines, found.path.read_bytes()


def evaluated(folder: Path) -> object:
    """Evaluate a run folder as eval does without a text."""
    with small_m2():
        measure.read_configs([folder])
        document = measure.measure([folder], None, CPU, silent)
        return document.to_json(), str(tables.tables(document)).encode()


def weights(folder: Path) -> object:
    """Load the weights of a run as eval does."""
    with small_m2():
        return {name: value.tolist() for name, value in load_m2(folder, CPU).model.state_dict().items()}


def files_of(make: Callable[[Path], None]) -> dict[str, bytes]:
    """The files that a run leaves in its folder, by path."""
    folder = sandbox() / "case"
    shutil.rmtree(folder, ignore_errors=True)
    make(folder)
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    shutil.rmtree(folder)
    return found


def m1_folder(folder: Path, is_complete: bool) -> None:
    """Make a run folder of train-m1, just started or complete."""
    settings = m1_run.Settings(window_bits=9, preset="unigram", steps=1)
    m1_run.start([("x", io.BytesIO(TEXT))], folder, settings, silent)
    if is_complete:
        m1_train.run(folder, CPU, silent, lambda: False)


def m2_folder(folder: Path, is_complete: bool) -> None:
    """Make a run folder of train-m2, just started or complete."""
    folder.mkdir()
    ids = folder / "a.bin"
    with ids.open("wb") as sink:
        sidecar = token_file.write(iter(FRAMES), sink, CodebookCodec(small_codebook()))
    token_file.sidecar_path(ids).write_bytes(sidecar.to_json())
    (folder / "model.eqcb").write_bytes(small_codebook().to_bytes())
    settings = m2_run.Settings("nano", block_size=8, batch_tokens=64, steps=2, validations=1, token_bits=3)
    with small_m2(), suppress(KeyboardInterrupt):
        m2_start.start([ids], [ids], folder, settings, folder / "model.eqcb")
        m2_train.run(folder, CPU, silent, lambda: not is_complete)


def run_folders() -> Iterator[Subject]:
    """The files of run folders, as --resume and eval read them."""
    for name, module, make in (("train-m1", m1_train, m1_folder), ("train-m2", m2_train, m2_folder)):
        begun, complete = (files_of(partial(make, is_complete=flag)) for flag in (False, True))
        uses = {run_folder.CONFIG: partial(resumed, module)}
        uses |= {f"{m1_run.CORPUS}/{each}": staged for each in ("facts.json", "train", "train.ends")}
        uses |= {m2_train.METRICS: figures}
        for path in filter(begun.__contains__, uses):
            read = in_folder(path, uses[path], begun)
            yield Subject(f"{path} of {name}, --resume", begun[path], read, is_checked=False)
        yield Subject(
            f"config.json of {name}, eval", complete["config.json"],
            in_folder("config.json", evaluated, complete), is_checked=False,
        )  # fmt: skip
        path, read, reseal = {
            m1_train: (
                m1_run.BASELINE,
                lambda folder: round_trip(folder / m1_run.BASELINE, None, TEXT),
                reseal_codebook,
            ),
            m2_train: (m2_run.WEIGHTS, weights, reseal_sha),
        }[module]
        use = "-m" if module is m1_train else "eval"
        yield Subject(f"{path}, {use}", complete[path], in_folder(path, read, complete), reseal)


def checkpoints() -> Iterator[Subject]:
    """The checkpoint of a model so small that every bit of the file can be flipped."""
    trainer = Trainer(GPT(GPTConfig(2, 4, 0, 1, 2)), Budget(2), 8, 0.01, CPU)
    path = sandbox() / "checkpoint.pt"
    batch = torch.zeros(2, 4, dtype=torch.int64)
    with suppress(KeyboardInterrupt):
        trainer.run(lambda step: (batch, batch), 1.0, path, lambda trainer: None, stop)
    data = path.read_bytes()
    path.unlink()

    def read(folder: Path) -> object:
        trainer.load(folder / path.name)
        return trainer.step, trainer.time_s, {k: v.tolist() for k, v in trainer.model.state_dict().items()}

    def packed() -> bytes:
        sink = io.BytesIO()
        with ZipFile(io.BytesIO(data)) as whole, ZipFile(sink, "w", ZIP_DEFLATED) as archive:
            for part in whole.infolist():
                is_pickle = part.filename.endswith(".pkl")
                archive.writestr(part.filename, whole.read(part) if is_pickle else bytes(1 << 25))
        return reseal_sha(sink.getvalue()[:-2] + (32).to_bytes(2, "little") + bytes(32))

    bombs = {"parts that unpack to 33 MB each": packed}
    yield Subject("checkpoint.pt, --resume", data, in_folder(path.name, read), reseal_sha, bombs=bombs)


# ---- text


def read_text(folder: Path) -> object:
    """Hashes of the documents of the one text in a folder."""
    (path,) = folder.iterdir()
    with decompression.open_text(path) as source:
        return hashed(documents.read_pieces(source, path.name, "text"))


def hashed(pieces: Iterator[tuple[bytes, bool]]) -> list[str]:
    """The SHA-256 of each document, computed piece by piece because documents may be long."""
    digests, digest = list[str](), hashlib.sha256()
    for piece, is_end in pieces:
        digest.update(piece)
        if is_end:
            digests.append(digest.hexdigest())
            digest = hashlib.sha256()
    return digests


def texts() -> Iterator[Subject]:
    """Text files, plain and compressed, as commands read them."""
    lines = b'{"text": "to be"}\n{"text": "or not \\ud800"}\n'
    block, last = ((1 << 20 | 1 << 1 | bit).to_bytes(3, "little") + b"a" for bit in (0, 1))  # 128 KiB of a
    zstd_bomb = {
        "16 KB that expand to 524 MB": lambda: b"\x28\xb5\x2f\xfd\0\x38" + block * 4000 + last,
        "a window of 2 GB": lambda: b"\x28\xb5\x2f\xfd\0\xa8" + block + last,
    }
    gzip_bomb = {"1 MB that expand to 268 MB": lambda: gzip.compress(bytes(1 << 28), 1, mtime=0)}
    line_bombs = {
        "a line of 268 MB": lambda: b'{"text": "' + b"a" * (1 << 28),
        "a million open brackets": lambda: b"[" * 1_000_000,
    }
    for name, data, bombs in (
        ("a.jsonl", lines, line_bombs),
        ("a.gz", gzip.compress(TEXT, mtime=0), gzip_bomb),
        ("a.zst", zstandard.ZstdCompressor(write_checksum=True).compress(TEXT), zstd_bomb),
        ("a.jsonl.zst", zstandard.ZstdCompressor(write_checksum=True).compress(lines), zstd_bomb),
    ):
        yield Subject(f"text, {name[1:]}", data, in_folder(name, read_text), is_checked=False, bombs=bombs)


GROUPS = (streams, models, token_files, run_folders, checkpoints, texts)


def subjects() -> list[Subject]:
    """All subjects."""
    return [subject for group in GROUPS for subject in group()]
