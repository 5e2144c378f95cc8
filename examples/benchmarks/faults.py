"""What every reader of eqinfo does with damaged, truncated, foreign and hostile bytes.

    python faults.py --runs 100000 -o faults.md

Each subject is a small real file, how it is read, and how its checksums are made anew ("resealed"), so that
mutations reach what lies behind them. A damaged file must be read as what it was or refused by an
`EqinfoError` of one line; a resealed one may be read as something else. Anything else is a defect: another
exception, a wrong result, a case of over SLOW_S seconds, or memory beyond MEMORY_BYTES. Mutations are those
of atheris (libFuzzer), guided by the coverage of eqinfo's code.
"""

import argparse
import hashlib
import io
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

try:
    import atheris
except ImportError:
    atheris = None

COMPILED = [
    "kernels",
    "inference",
    "live_kernels",
    "range_coder",
    "predictor",
    "mixing",
]  # numba reads their code
if atheris is not None and "--subject" in sys.argv:
    watched: Any = atheris.instrument_imports(["eqinfo"], [f"eqinfo.{name}" for name in COMPILED])
else:
    watched = nullcontext()
with watched:
    from eqinfo import container, network, random_access, shards, text, tokens
    from eqinfo.codebook import Codebook
    from eqinfo.codec import ArithmeticCodec, CodebookCodec, Codec, WindowCodec
    from eqinfo.container import CRC_BYTES, HEADER_BYTES, frame_seed, trailer
    from eqinfo.errors import EqinfoError
    from eqinfo.frames import FRAME_BYTES, Frame
    from eqinfo.packing import packed_bytes, varint
    from eqinfo.quantise import static

CODEBOOK_HEADER_BYTES = 55
SLOW_S = 5.0
MEMORY_BYTES = 1 << 28  # that all cases of a subject may add to what the process has
MOST_FLIPS = 60_000  # of a larger file, an even share is tried
RANDOM_CASES = 2000
TEXT = b"The quick brown fox, and the lazy dog; the end. " * 3 + b"\xff\0\r\n" + "é".encode()

Reader = Callable[[bytes], object]


@dataclass
class Subject:
    """A kind of file.

    Attributes:
        name: of the kind.
        data: a small real file.
        read: all that a command makes of such a file, comparable by ==.
        reseal: the same bytes with checksums that fit, or None where there are none to make.
        is_checked: whether every change must be noticed; text, for one, may be anything.
    """

    name: str
    data: bytes
    read: Reader
    reseal: Callable[[bytes], bytes] | None = None
    is_checked: bool = True
    sound_sizes: tuple[
        int, ...
    ] = ()  # to which it may be cut: streams that follow one another are a stream less


@dataclass
class Tally:
    """What came of the cases of a subject."""

    counts: dict[str, int] = field(default_factory=dict)
    right: int = 0
    refused: int = 0
    other: int = 0  # resealed or unchecked: read as something else
    slowest_s: float = 0.0
    defects: list[str] = field(default_factory=list)

    def case(self, subject: Subject, kind: str, data: bytes, may_differ: bool) -> None:
        """Read a file, and judge what came of it."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        started = time.monotonic()
        try:
            found = subject.read(data)
        except EqinfoError as error:
            self.refused += 1
            if "\n" in str(error):
                self.defects.append(f"{kind}: more than a line: {error!r}")
        except Exception as error:
            self.defects.append(f"{kind}: {error!r} for {data[:64].hex()}")
        else:
            if found == want(subject):
                self.right += 1
            elif may_differ:
                self.other += 1
            else:
                self.defects.append(f"{kind}: read as something else: {data[:64].hex()}")
        self.slowest_s = max(self.slowest_s, time.monotonic() - started)
        if time.monotonic() - started > SLOW_S:
            self.defects.append(f"{kind}: slow, {data[:64].hex()}")


_WANTED: dict[str, object] = {}


def want(subject: Subject) -> object:
    """What a subject is when nothing is wrong."""
    if subject.name not in _WANTED:
        _WANTED[subject.name] = subject.read(subject.data)
    return _WANTED[subject.name]


# ---- subjects


def small_codebook() -> Codebook:
    """A codebook of 9 bits."""
    words = ["the ", "quick", "brown ", " fox", "lazy", ", and ", "; ", "end", "th"]
    return Codebook(sorted({b""} | {bytes([b]) for b in range(256)} | {w.encode() for w in words}), 9)


def stream(codec: Codec, frames: list[Frame]) -> bytes:
    """A stream of some frames."""
    sink = io.BytesIO()
    container.compress(frames, sink, codec)
    return sink.getvalue()


def read_stream(codec: Codec) -> Reader:
    """All frames of a stream, and the same bytes again by its index."""

    def read(data: bytes) -> object:
        frames = [
            (f.text, list(f.document_ends)) for f in container.read_frames(io.BytesIO(data), codec, "x")
        ]
        ranged = b"".join(random_access.read_range(io.BytesIO(data), codec, "x", 0))
        assert ranged == b"".join(found for found, _ in frames), "a range differs from the whole"
        return frames

    return read


def read_index(codec: Codec) -> Reader:
    """The bytes of a stream by its index alone."""
    return lambda data: b"".join(random_access.read_range(io.BytesIO(data), codec, "x", 3, 120))


def reseal_stream(codec: Codec) -> Callable[[bytes], bytes]:
    """The stream of one frame that has the same payload and lengths, with checksums that fit."""

    def reseal(data: bytes) -> bytes:
        source = io.BytesIO(data)
        header = source.read(HEADER_BYTES)
        try:
            tag, length = container.read_head(source, "x") or (container.STORED, 1)
            head = varint(tag) + varint(length)
            source.read(CRC_BYTES)
            size = length if tag == container.STORED else packed_bytes(tag - 1, codec.unit_bits)
            payload = source.read(min(size, len(data)))
            if len(payload) < size or length > FRAME_BYTES or tag - 1 > codec.most_units(length):
                return data  # refused before any checksum is
            is_stored = tag == container.STORED
            frame = payload if is_stored else codec.decode(tag - 1, payload, length).text
        except (EqinfoError, ValueError):
            return data  # there is nothing that a checksum could fit
        crc = zlib.crc32(head, frame_seed(header, 0))
        crc = zlib.crc32(frame, crc if is_stored else zlib.crc32(payload, crc))
        body = head + crc.to_bytes(CRC_BYTES, "little") + payload
        return header + body + container.END + trailer(header, varint(length) + varint(len(body)))

    return reseal


def reseal_codebook(data: bytes) -> bytes:
    """A codebook file whose CRC-32, the last field of its header, fits."""
    if len(data) < CODEBOOK_HEADER_BYTES:
        return data
    head, body = data[: CODEBOOK_HEADER_BYTES - CRC_BYTES], data[CODEBOOK_HEADER_BYTES:]
    return head + zlib.crc32(body, zlib.crc32(head + bytes(CRC_BYTES))).to_bytes(CRC_BYTES, "little") + body


def reseal_sha(data: bytes) -> bytes:
    """A file whose last 32 bytes are the SHA-256 of what is before."""
    return data[:-32] + hashlib.sha256(data[:-32]).digest()


def reseal_sidecar(data: bytes) -> bytes:
    """A sidecar whose checksum fits."""
    try:
        fields = json.loads(data)
        kept = ("format", "version", "sidecar_crc32")
        facts = {name: value for name, value in fields.items() if name not in kept}
        return json.dumps(fields | {"sidecar_crc32": tokens._crc_of_facts(facts)}).encode()
    except (ValueError, RecursionError, AttributeError, TypeError):
        return data


def read_text(name: str) -> Reader:
    """The documents of a text file by its name."""

    def read(data: bytes) -> object:
        with tempfile.TemporaryDirectory(dir=shared_memory()) as folder:
            path = Path(folder) / name
            path.write_bytes(data)
            with text.open_text(path) as source:
                return list(text.read_pieces(source, name, "text"))

    return read


def shared_memory() -> str | None:
    """A folder in memory, if there is one."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def read_training_tokens(sidecar: bytes | None, ids: bytes | None) -> Reader:
    """What train-m2 makes of token files; one of the two is what is read, the other is as it was."""

    def read(data: bytes) -> object:
        with tempfile.TemporaryDirectory(dir=shared_memory()) as folder:
            path = Path(folder) / "a.bin"
            path.write_bytes(data if ids is None else ids)
            Path(folder, "a.bin.json").write_bytes(data if sidecar is None else sidecar)
            shards.check([path])
            loaded = shards.load([path])
            return [part.tolist() for part in loaded.parts], loaded.original_bytes, loaded.vocab_size

    return read


def read_tensors(data: bytes) -> object:
    """What resuming and eval make of a file of tensors."""
    import torch

    from eqinfo.train import load_tensors

    with tempfile.TemporaryDirectory(dir=shared_memory()) as folder:
        path = Path(folder) / "a.pt"
        path.write_bytes(data)
        state = load_tensors(path, torch.device("cpu"))
    return {
        name: value.tolist() if isinstance(value, torch.Tensor) else value for name, value in state.items()
    }


def tensors() -> bytes:
    """A small file of tensors."""
    import torch

    from eqinfo.train import save_tensors

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.pt"
        save_tensors({"step": 3, "time_s": 1.5, "weights": torch.arange(12.0).view(3, 4)}, path)
        return path.read_bytes()


def subjects() -> Iterator[Callable[[], Subject]]:
    """All kinds of files; made when asked for, as some import much."""
    codebook = small_codebook()
    windows = CodebookCodec(codebook)
    byte_counts = np.bincount(np.frombuffer(TEXT, np.uint8), minlength=256)
    m1 = static(byte_counts)
    frames = [Frame(TEXT, [20, len(TEXT)])]
    wide, arithmetic = WindowCodec(m1, 24, False, "live"), ArithmeticCodec(m1, "live")
    plain = ArithmeticCodec(m1, "published")
    for name, codec in {"9 bits": windows, "24 bits": wide, "ac": arithmetic, "ac, published": plain}.items():
        data = stream(codec, frames)
        yield lambda n=name, c=codec, d=data: Subject(f".eqi, {n}", d, read_stream(c), reseal_stream(c))
    stored = stream(windows, [Frame(bytes(range(0, 256, 3)))])
    yield lambda: Subject(".eqi, stored", stored, read_stream(windows), reseal_stream(windows))
    first, second = (
        stream(windows, [Frame(TEXT[:60]), Frame(TEXT[60:90])]),
        stream(windows, [Frame(TEXT[90:])]),
    )
    yield lambda: Subject(
        ".eqi, joined, several frames", first + second, read_stream(windows), sound_sizes=(len(first),)
    )
    yield lambda: Subject(
        ".eqi by its index, --range", stream(windows, [Frame(TEXT)]), read_index(windows), None, False
    )
    yield lambda: Subject(
        ".eqcb", codebook.to_bytes(), lambda data: Codebook.from_bytes(data).windows, reseal_codebook, True
    )
    yield lambda: Subject(
        ".eqm1",
        network.to_bytes(m1),
        lambda data: network.to_bytes(network.from_bytes(data, "x")),
        reseal_sha,
    )
    sink = io.BytesIO()
    _, sidecar = tokens.write(iter(frames), sink, windows)
    ids, facts = sink.getvalue(), sidecar.to_json()

    def decoded(data: bytes, said: bytes) -> object:
        found = tokens.read(io.BytesIO(data), tokens.Sidecar.from_json(said, "x"), windows, "x")
        return [(frame.text, list(frame.document_ends)) for frame in found]

    yield lambda: Subject(".bin, decompress", ids, lambda data: decoded(data, facts))
    yield lambda: Subject(".bin.json, decompress", facts, lambda data: decoded(ids, data), reseal_sidecar)
    yield lambda: Subject(".bin, train-m2", ids, read_training_tokens(facts, None))
    yield lambda: Subject(".bin.json, train-m2", facts, read_training_tokens(None, ids), reseal_sidecar)
    live_sink = io.BytesIO()
    _, live_sidecar = tokens.write(iter(frames), live_sink, wide)

    def live_decoded(said: bytes) -> object:
        found = tokens.read(live_sink, tokens.Sidecar.from_json(said, "x"), wide, "x")
        return [(frame.text, list(frame.document_ends)) for frame in found]

    yield lambda: Subject(".bin.json of live windows", live_sidecar.to_json(), live_decoded, reseal_sidecar)
    foreign = b'{"vocab_size": 512, "original_bytes": 152}'
    yield lambda: Subject("sidecar from elsewhere", foreign, read_training_tokens(None, ids), None, False)
    yield lambda: Subject("checkpoint.pt, m2.pt", tensors(), read_tensors, reseal_sha)
    lines = b'{"text": "to be"}\n{"text": "or not \\ud800"}\n'
    for name, data in {
        "a.jsonl": lines,
        "a.gz": _gzip(TEXT),
        "a.zst": _zstd(TEXT),
        "a.jsonl.zst": _zstd(lines),
    }.items():
        yield lambda n=name, d=data: Subject(f"text, {n[1:]}", d, read_text(n), None, False)


def _gzip(data: bytes) -> bytes:
    import gzip

    return gzip.compress(data, mtime=0)


def _zstd(data: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


# ---- campaigns


def flips(data: bytes, every: int) -> Iterator[bytes]:
    """A file with each of its bits changed, or one in so many."""
    for bit in range(0, 8 * len(data), every):
        altered = bytearray(data)
        altered[bit // 8] ^= 1 << bit % 8
        yield bytes(altered)


def hostile(rng: random.Random) -> bytes:
    """Random bytes, some after a magic number, some with huge varints."""
    start = rng.choice(
        [b"", b"EQI\1\x09", b"EQI\1\x18", b"EQI\1\x08", b"EQCB\1\x09", b"EQM1\1\0\0\0", b"{", b"PK\3\4"]
    )
    middle = rng.choice([b"", b"\xff" * 8 + b"\x7f", varint(1 << 60) * 3])
    return start + middle + rng.randbytes(rng.randrange(200))


def exhaustive(subject: Subject, tally: Tally, most: int) -> None:
    """Every flip and truncation, extensions, random bytes; of large files an even share."""
    size = len(subject.data)
    every = -(-8 * size // most)
    for data in flips(subject.data, every):
        tally.case(subject, "flips", data, not subject.is_checked)
    for kept in range(0, size, every):
        tally.case(
            subject, "truncations", subject.data[:kept], not subject.is_checked or kept in subject.sound_sizes
        )
    rng = random.Random(subject.name)
    for _ in range(min(RANDOM_CASES, most)):
        tally.case(subject, "random", hostile(rng), True)
    for more in (b"\0", b"\n", subject.data, b"EQI"):
        tally.case(subject, "extensions", subject.data + more, True)


def mutate(subject: Subject, tally: Tally, runs: int, seconds: int, finish: Callable[[], None]) -> None:
    """Mutations guided by coverage: each as it is and, where that can be, resealed. Ends the process."""
    started = time.monotonic()

    def one(data: bytes) -> None:
        if tally.counts.get("mutations", 0) >= runs or time.monotonic() - started > seconds:
            finish()
            os._exit(0)  # libFuzzer has no other end
        is_sound = len(data) in subject.sound_sizes and subject.data.startswith(data)
        tally.case(subject, "mutations", data, not subject.is_checked or is_sound)
        if subject.reseal is not None:
            tally.case(subject, "resealed", subject.reseal(data), True)

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "seed").write_bytes(subject.data)
        options = [f"-max_len={2 * len(subject.data) + 64}", "-seed=1", "-rss_limit_mb=0", "-verbosity=0"]
        atheris.Setup([sys.argv[0], *options, f"-malloc_limit_mb={MEMORY_BYTES >> 20}", folder], one)
        atheris.Fuzz()


def run_subject(number: int, runs: int, seconds: int, most: int) -> None:
    """Do all campaigns of a subject and print what came of them."""
    subject, tally = list(subjects())[number](), Tally()
    want(subject)
    before = peak_bytes()
    exhaustive(subject, tally, most)

    def finish() -> None:
        grown = peak_bytes() - before
        if grown > MEMORY_BYTES:
            tally.defects.append(f"memory: {grown:,} bytes more than at first")
        facts = {"name": subject.name, "size": len(subject.data), "grown_mb": grown / 1e6}
        print(json.dumps(facts | vars(tally)), flush=True)

    if runs and atheris is not None:
        mutate(subject, tally, runs, seconds, finish)
    finish()


def peak_bytes() -> int:
    """The largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def of_subject(number: int, arguments: list[str]) -> dict[str, Any]:
    """What came of a subject, in a process of its own."""
    command = [sys.executable, __file__, "--subject", str(number), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"name"')]
    if not lines:
        defect = f"subject {number} ended with {done.returncode}: {done.stderr[-2000:]}"
        return {"name": str(number), "size": 0, "grown_mb": 0.0} | vars(Tally(defects=[defect]))
    return json.loads(lines[-1])  # type: ignore[no-any-return]


KINDS = ["flips", "truncations", "random", "extensions", "mutations", "resealed"]


def row(found: dict[str, Any]) -> list[str]:
    """What came of a subject, for the table."""
    cells = [f"{found['counts'].get(kind, 0):,}" for kind in KINDS]
    outcomes = [f"{found[name]:,}" for name in ("refused", "right", "other")]
    return [
        found["name"],
        f"{found['size']:,}",
        *cells,
        *outcomes,
        str(len(found["defects"])),
        f"{1000 * found['slowest_s']:,.0f}",
        f"{found['grown_mb']:,.0f}",
    ]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=100_000, help="mutations of each kind of file, at most")
    parser.add_argument(
        "--seconds", type=int, default=60, help="for the mutations of each kind of file, at most"
    )
    parser.add_argument("--flips", type=int, default=MOST_FLIPS, help="of each kind of file, at most")
    parser.add_argument("--subject", type=int, help="only this one, and print what came of it as JSON")
    parser.add_argument("-o", "--output", type=Path, help="write the page to a file as well")
    args = parser.parse_args()
    if args.subject is not None:
        run_subject(args.subject, args.runs, args.seconds, args.flips)
        return
    import peers

    chosen = ["--runs", str(args.runs), "--seconds", str(args.seconds), "--flips", str(args.flips)]
    found = []
    for number in range(len(list(subjects()))):
        found.append(of_subject(number, chosen))
        print(found[-1]["name"], found[-1]["counts"], *found[-1]["defects"][:3], sep="\n  ", file=sys.stderr)
    head = [
        "file",
        "bytes",
        *KINDS,
        "refused",
        "as it was",
        "else",
        "**defects**",
        "slowest, ms",
        "memory, MB",
    ]
    parts = [
        "# Faults\n",
        "What the readers of eqinfo do with files that are damaged, truncated, foreign or hostile. A case\n"
        "ends in one line that says what is wrong (refused), in what the file was (as it was), or, where\n"
        "nothing vouches for the bytes or their checksums were made anew (resealed), in something else. A\n"
        "defect is anything else: another exception, a wrong result, more than a line, over "
        f"{SLOW_S:.0f} s or\n{MEMORY_BYTES >> 20} MB.\n",
        peers.provenance(sys.argv, ("atheris", "numpy", "torch", "zstandard"))
        + "- mutations by atheris, guided by coverage of eqinfo's Python code, as many as fit the time\n"
        f"- of files of over {args.flips // 8:,} bytes an even share of flips and truncations\n",
        peers.table(head, [row(each) for each in found]),
        "Slowest is the longest case, the first use of a compiled loop included; memory is what the process\n"
        "grew by in all cases. The index of a stream holds lengths and sizes only, so a range read by it\n"
        "checks the frames it reads and no others; `decompress` without `--range` checks everything.\n",
    ]
    defects = [f"- {each['name']}: {defect}\n" for each in found for defect in each["defects"][:5]]
    peers.publish([*parts, *(["## Defects\n", *defects] if defects else [])], args.output)
    sys.exit(bool(defects))


if __name__ == "__main__":
    main()
