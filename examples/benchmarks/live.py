"""Measures live windows and arithmetic coding beside general compressors and the paper's rule.

    python examples/benchmarks/live.py alice29.txt asyoulik.txt lcet10.txt valid.jsonl.zst -o live.md

Every stream is decoded back and compared before its size is printed.
"""

import argparse
import io
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import numpy as np
import pages
import peers
from compressors import Compressor, eqi_streams, ppmd

from eqinfo.coder.integer_m1 import BOS, M1_TOTAL_BITS
from eqinfo.coder.kernels.m1_step import new_state, run
from eqinfo.eval.measure import COMPRESSORS
from eqinfo.formats import eqi
from eqinfo.formats.codec import Codec
from eqinfo.formats.model_folder import Model, model_path
from eqinfo.text.frames import Frame, frames_of_bytes, frames_of_pieces

SAMPLE_BYTES = 1 << 17  # first bytes of a text, for bytes per token
WHOLE_BYTES = 1 << 19  # first bytes of a text, for the comparison with compressors
RECORD_BYTES, N_RECORDS = 1024, 64  # per text, evenly spaced
SPEED_BYTES, ROUNDS = 1 << 16, 3
PPMD_ORDERS = (6, 16)

# Bytes per 8-bit token on C4, from the paper's tables; a token of 16 bits holds twice that.
PAPER = {"16": 2.66, "24": 3.15, "32": 3.49, "64": 4.16, "128": 4.61, "ac": 5.49}

# The outcome of the published run: check it after measuring again.
INTRODUCTION = (
    "How small and how fast eqinfo's streams are with M1 running: live windows of 24 to 128 bits, and "
    "arithmetic coding (`ac`). On all four texts `ac` makes smaller streams than gzip, zstd, xz and PPMd, "
    "at about 40 kB/s; windows of 64 bits beat zstd and xz on *valid* only. Every stream was decoded back "
    "and compared; *valid* is held-out text of the kind that M1 was trained on, the other three are from "
    "the Canterbury corpus."
)


def say(words: str) -> None:
    """Print progress to stderr."""
    print(words, file=sys.stderr, flush=True)


@cache
def others() -> dict[str, Compressor]:
    """The general compressors."""
    found = {name: Compressor(*both) for name, both in COMPRESSORS.items()}
    return found | {f"PPMd, order {order}": ppmd(order) for order in PPMD_ORDERS}


class Text:
    """A text to measure on."""

    def __init__(self, path: Path) -> None:
        held_out = peers.read_held_out(path)
        self.name = held_out.name.split(".")[0]
        self.documents = held_out.documents

    def frames(self, n_bytes: int, size: int) -> list[Frame]:
        """The first `n_bytes` bytes in frames of `size` bytes; the end of a single document is not stored."""
        if len(self.documents) == 1:
            return list(frames_of_bytes(io.BytesIO(self.data(n_bytes)), size))
        return list(frames_of_pieces(self._pieces(n_bytes), size))

    def data(self, n_bytes: int) -> bytes:
        """The first `n_bytes` bytes."""
        return b"".join(self.documents)[:n_bytes]

    def _pieces(self, n_bytes: int) -> Iterator[tuple[bytes, bool]]:
        for document in self.documents:
            if n_bytes > 0:
                yield document[:n_bytes], n_bytes >= len(document)
            n_bytes -= len(document)

    def records(self) -> list[bytes]:
        """Evenly spaced pieces of the text."""
        return peers.evenly(b"".join(self.documents), N_RECORDS, RECORD_BYTES)


def packed(codec: Codec, frames: list[Frame]) -> bytes:
    """The stream of frames; ends the program if it does not decode to the same frames."""
    sink = io.BytesIO()
    eqi.compress(frames, sink, codec)
    sink.seek(0)
    found = [(text, list(ends)) for text, ends in eqi.read_frames(sink, codec, codec.name)]
    if found != [(text, list(ends)) for text, ends in frames]:
        raise SystemExit(f"{codec.name}: a text was not restored; no figure is printed.")
    return sink.getvalue()


def payload_bytes_a_byte(codec: Codec, text: Text) -> float:
    """Bytes of text per byte of payload, which is one token of 8 bits."""
    frames = text.frames(SAMPLE_BYTES, codec.frame_bytes)
    packed(codec, frames)  # ends the program if the text is not restored
    size = sum(len(codec.encode(frame)[1]) for frame in frames)
    return sum(len(frame.text) for frame in frames) / size


def rows(ways: dict[str, Callable[[Text], float]], texts: list[Text], digits: int) -> list[list[str]]:
    """A table row for each way to compress: its figure for each text."""
    found = []
    for name, figure in ways.items():
        say(name)
        found.append([name, *(f"{figure(text):.{digits}f}" for text in texts)])
    return found


def windows(model: Model, published: Model, texts: list[Text]) -> Iterator[str]:
    """The table of bytes per 8-bit token."""
    yield f"## Bytes of text per 8-bit token, first {SAMPLE_BYTES:,} bytes\n"
    yield pages.paragraph(
        "Larger is better; a token of 16 bits holds twice as many bytes. Rows *published* use the paper's "
        "rule with our M1; the row *16, published* uses the M1 that the codebook was made with. In rows "
        "*carry*, M1 keeps its state from window to window. The paper's figures are for C4 and an M1 of "
        "1.457 bits/byte."
    )
    codecs = {"16, codebook": model.codec(None, carry=False, rule="live")}
    codecs |= {bits: model.codec(bits, carry=False, rule="live") for bits in ("24", "32", "64", "128")}
    codecs |= {f"{bits}, carry": model.codec(bits, carry=True, rule="live") for bits in ("24", "64")}
    codecs |= {"ac": model.codec("ac", carry=False, rule="live")}
    codecs |= {"16, published": published.codec(None, carry=False, rule="live")}
    codecs |= {
        f"{bits}, published": model.codec(bits, carry=False, rule="published")
        for bits in ("24", "32", "64", "128", "ac")
    }
    table = rows({name: partial(payload_bytes_a_byte, codec) for name, codec in codecs.items()}, texts, 2)
    for row in table:
        paper = PAPER.get(row[0].split(",")[0])
        row.append(f"{paper:.2f}" if paper and "published" in row[0] else "")
    yield pages.table(["window bits", *(text.name for text in texts), "paper, C4"], table)


def whole(model: Model, texts: list[Text]) -> Iterator[str]:
    """The table of bits/byte beside compressors."""
    yield f"## Bits per byte of the streams, first {WHOLE_BYTES:,} bytes\n"
    yield "Size of the stream in bits, divided by the size of the text in bytes: smaller is better.\n"

    def ours(codec: Codec, text: Text) -> float:
        frames = text.frames(WHOLE_BYTES, codec.frame_bytes)
        return 8 * len(packed(codec, frames)) / sum(len(frame.text) for frame in frames)

    def theirs(compressor: Compressor, text: Text) -> float:
        data = text.data(WHOLE_BYTES)
        return 8 * compressor.size(data) / len(data)

    ways = {
        f"eqinfo, {bits}": partial(ours, model.codec(bits, carry=False, rule="live"))
        for bits in ("ac", "16", "64")
    }
    ways |= {name: partial(theirs, compressor) for name, compressor in others().items()}
    yield pages.table(["", *(text.name for text in texts)], rows(ways, texts, 3))


def records(model: Model, texts: list[Text]) -> Iterator[str]:
    """The table of short records."""
    yield f"## Compression ratio of records of {RECORD_BYTES:,} bytes, {N_RECORDS} of a text\n"
    yield pages.paragraph(
        "Each record is compressed by itself: larger is better. A record of eqinfo is a whole stream with "
        "header, checksums and index, which take 31 bytes, and 16 for each further frame."
    )

    def ratio(compressor: Compressor, text: Text) -> float:
        found = text.records()
        return sum(map(len, found)) / compressor.total_size(found)

    ours = {
        f"eqinfo, {bits}": eqi_streams(model.codec(bits, carry=False, rule="live")) for bits in ("ac", "16")
    }
    ways = {name: partial(ratio, compressor) for name, compressor in (ours | others()).items()}
    yield pages.table(["", *(text.name for text in texts)], rows(ways, texts, 2))


def entropy(model: Model, texts: list[Text]) -> Iterator[str]:
    """The table of the coder's own cost above M1's cross-entropy."""
    yield f"## Arithmetic coding beside M1's cross-entropy, first {SAMPLE_BYTES:,} bytes\n"
    yield pages.paragraph(
        "*M1* is the model's cross-entropy. *Plain* is `--rule published`, which codes with M1's "
        "frequencies alone: *plain / M1* is what the coder itself adds. *ac* also adapts to the text. "
        "Smaller is better."
    )
    plain, adaptive = (model.codec("ac", carry=False, rule=rule) for rule in ("published", "live"))
    rows = []
    for text in texts:
        data = np.frombuffer(text.data(SAMPLE_BYTES), np.uint8)
        symbols = np.append(np.uint16(BOS), data[:-1])
        found = run(model.network, new_state(model.network), symbols)[np.arange(data.size), data]
        bits = float((M1_TOTAL_BITS - np.log2(found)).mean())
        sizes = [8 * len(codec.encode(Frame(data.tobytes()))[1]) / data.size for codec in (plain, adaptive)]
        rows.append(
            [text.name, f"{bits:.4f}", f"{sizes[0]:.4f}", f"{sizes[0] / bits:.5f}", f"{sizes[1]:.4f}"]
        )
    yield pages.table(["", "M1, bits/byte", "plain, bits/byte", "plain / M1", "ac, bits/byte"], rows)


def best_s(function: Callable[[], object]) -> float:
    """The shortest wall-clock time of ROUNDS runs, in seconds."""
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return min(times)


def speed(model: Model, text: Text) -> Iterator[str]:
    """The table of speeds."""
    yield f"## Speed on the first {SPEED_BYTES:,} bytes of {text.name}: kB/s, one thread, best of {ROUNDS}\n"
    data, rows = text.data(SPEED_BYTES), []
    ways = {
        f"eqinfo, {bits}{', published' * (rule == 'published')}": model.codec(bits, carry=False, rule=rule)
        for rule, widths in (("live", ("ac", "24", "32", "64", "128", "16")), ("published", ("24", "ac")))
        for bits in widths
    }
    for name, codec in ways.items():
        say(f"speed, {name}")
        frame = Frame(data)
        units, payload = codec.encode(frame)
        encode_s = best_s(partial(codec.encode, frame))
        decode_s = best_s(partial(codec.decode, units, payload, len(data)))
        rows.append([name, *(f"{len(data) / 1e3 / s:,.0f}" for s in (encode_s, decode_s))])
    for name, (compress, decompress) in others().items():
        small = compress(data)
        times = best_s(partial(compress, data)), best_s(partial(decompress, small))
        rows.append([name, *(f"{len(data) / 1e3 / s:,.0f}" for s in times)])
    yield pages.table(["", "compress", "decompress"], rows)


ON_GPUS = """
`eqinfo compress --window-bits 64 --device cuda` codes thousands of frames of 128 KiB side by side, a
byte of each at a time, and `decompress` restores them so. M1 is integers all through, so a stream has
the same bytes wherever it was made, and either machine restores it; before the first frame 300
steps are compared with the CPU's. By default (`--device auto`) a GPU is used from 8 MiB of text for
each thread on. It runs windows of 24 to 128 bits, and by `--rule published` also `ac`. Otherwise `ac`
runs on the CPU, and so does `--carry`. No GPU has run any of it yet: [what is expected](gpu.md).
"""


def on_gpus() -> Iterator[str]:
    """The section on GPUs, on which this script measures nothing."""
    yield "## On a GPU\n"
    yield pages.paragraph(ON_GPUS.strip())


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("texts", type=Path, nargs="+", help="plain text or JSONL, also .zst")
    parser.add_argument("-m", "--model", type=Path, help="default: the model in the package")
    parser.add_argument("-o", "--output", type=Path, help="write the page to this file as well")
    args = parser.parse_args()
    model, texts = Model(args.model), [Text(path) for path in args.texts]
    published = Model(model_path(args.model) / "published.eqcb")
    parts = [
        "# Live windows and arithmetic coding, measured\n",
        pages.paragraph(INTRODUCTION),
        pages.provenance(sys.argv, ("pyppmd",)),
    ]
    for section in (
        whole(model, texts),
        records(model, texts),
        windows(model, published, texts),
        entropy(model, texts),
        speed(model, texts[0]),
        on_gpus(),
    ):
        parts += section
    pages.publish(parts, args.output)


if __name__ == "__main__":
    main()
