"""How fast text becomes ids and ids become text, beside two BPE libraries; streams in threads; start-up.

    python speed.py valid.jsonl.zst alice29.txt --bpe-text mix.jsonl --bpe-cache bpe/ -o speed.md

Everyone works on the same documents, already in memory in the form they take (bytes here, str there), and
gives what a user needs: an array or list of ids, and text. All ids are decoded back and compared first. Runs
take turns, so a busy spell of the machine hits everyone; figures are medians.
"""

import argparse
import io
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import peers
import tiktoken

from eqinfo import container, parse
from eqinfo.codebook import Codebook
from eqinfo.codec import CodebookCodec
from eqinfo.files import find_codebook
from eqinfo.frames import Frame, frames_of_pieces

RUNS = 7
STREAM_BYTES = 32_000_000  # enough frames for threads to share
STARTUP_BYTES = 1024

# GPT-2's pattern as tiktoken writes it, without backtracking
WORDS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"


class Timing(NamedTuple):
    """Medians over the runs, in seconds."""

    wall_s: float
    cpu_s: float


def timings(contestants: dict[str, Callable[[], object]], runs: int) -> dict[str, Timing]:
    """How long each takes; they take turns, after one turn that is not counted."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for turn in range(runs + 1):
        for name, work in contestants.items():
            started = time.perf_counter(), time.process_time()
            work()
            if turn:
                found[name].append((time.perf_counter() - started[0], time.process_time() - started[1]))
    return {name: Timing(*map(statistics.median, zip(*times, strict=True))) for name, times in found.items()}


def tiktoken_of(bpe: peers.Bpe) -> tiktoken.Encoding:
    """The same vocabulary for tiktoken; its ranks are the ids, which follow the order of the merges."""
    ranks = {token: rank for rank, token in enumerate(peers.token_bytes(bpe.tokenizer))}
    return tiktoken.Encoding("bpe", pat_str=WORDS, mergeable_ranks=ranks, special_tokens={})


def rates(documents: list[bytes], codebook: Codebook, bpe: peers.Bpe, runs: int) -> Iterator[str]:
    """The table of single-threaded speed."""
    texts = [document.decode() for document in documents]
    n_bytes = sum(map(len, documents))
    ours = {method: replace(codebook, method=method) for method in ("optimal", "greedy")}
    theirs, encoding = bpe.tokenizer, tiktoken_of(bpe)

    def frames() -> Iterator[Frame]:
        return frames_of_pieces((document, True) for document in documents)

    def encode(codebook: Codebook) -> list[parse.Codewords]:
        return [parse.encode(codebook, *frame) for frame in frames()]

    ids = encode(ours["optimal"])
    their_ids = [found.ids for found in theirs.encode_batch_fast(texts, add_special_tokens=False)]
    tiktoken_ids = [encoding.encode_ordinary(text) for text in texts]
    whole = b"".join(documents)
    decoded = [
        b"".join(parse.decode(codebook, part) for part in ids),
        b"".join(parse.decode(codebook, part) for part in encode(ours["greedy"])),
        "".join(theirs.decode_batch(their_ids, skip_special_tokens=False)).encode(),
        b"".join(map(encoding.decode_bytes, tiktoken_ids)),
    ]
    if any(text != whole for text in decoded):
        sys.exit("something did not decode back to the text; no figure is printed.")

    found = timings(
        {
            "eqinfo encode, optimal": lambda: encode(ours["optimal"]),
            "eqinfo encode, greedy": lambda: encode(ours["greedy"]),
            "tokenizers encode_batch_fast": lambda: [
                found.ids for found in theirs.encode_batch_fast(texts, add_special_tokens=False)
            ],
            "tiktoken encode_ordinary": lambda: [encoding.encode_ordinary(text) for text in texts],
            "eqinfo decode": lambda: [parse.decode(codebook, part) for part in ids],
            "tokenizers decode_batch": lambda: theirs.decode_batch(their_ids, skip_special_tokens=False),
            "tiktoken decode_bytes": lambda: [encoding.decode_bytes(part) for part in tiktoken_ids],
        },
        runs,
    )
    rows = []
    for name, timing in found.items():
        task = "encode" if "encode" in name else "decode"
        peers_s = [found[peer].cpu_s for peer in found if peer.startswith(("tok", "tik")) and task in peer]
        ratios = [f"{peer_s / timing.cpu_s:.2f}" for peer_s in peers_s]
        load = f"{timing.cpu_s / timing.wall_s:.2f}"
        rows.append([name, f"{n_bytes / timing.cpu_s / 1e6:.1f}", *ratios, load])
    yield f"## Ids and text, one thread, {n_bytes / 1e6:.1f} MB in {len(documents)} documents\n"
    yield "By CPU time, which other processes disturb less; the last column is 1 where there were none.\n"
    yield peers.table(["", "MB / CPU s", "/ tokenizers", "/ tiktoken", "CPU s / wall s"], rows)


def streams(documents: list[bytes], codebook: Codebook, runs: int) -> Iterator[str]:
    """The table of whole streams, in one thread and in two."""
    text = b"".join(documents)
    text *= -(-STREAM_BYTES // len(text))

    def compress(threads: int) -> bytes:
        sink = io.BytesIO()
        container.compress(frames_of_pieces([(text, False)]), sink, CodebookCodec(codebook), threads)
        return sink.getvalue()

    def decompress(threads: int) -> bytes:
        found = container.read_frames(io.BytesIO(stream), CodebookCodec(codebook), "stream", threads)
        return b"".join(frame.text for frame in found)

    stream = compress(1)
    if compress(2) != stream or decompress(1) != text or decompress(2) != text:
        sys.exit("a stream did not come back, or depends on threads; no figure is printed.")
    found = timings(
        {
            "compress": lambda: compress(1),
            "compress -T 2": lambda: compress(2),
            "decompress": lambda: decompress(1),
            "decompress -T 2": lambda: decompress(2),
        },
        runs,
    )
    rows = [
        [name, f"{len(text) / timing.wall_s / 1e6:.1f}", f"{timing.cpu_s / timing.wall_s:.2f}"]
        for name, timing in found.items()
    ]
    yield f"## .eqi streams in memory, checksums included, {len(text) / 1e6:.1f} MB\n"
    yield "By the clock. Two threads give the same bytes, and need two free cores to be faster.\n"
    yield peers.table(["", "MB/s", "CPU s / wall s"], rows)


def startup(document: bytes, model: Path | None, runs: int) -> Iterator[str]:
    """The table of CPU time for a small input, the process's start included."""
    text = document[:STARTUP_BYTES]
    chosen = [] if model is None else ["-m", str(model)]
    packed = b""

    def cpu_s(command: list[str], data: bytes) -> float:
        nonlocal packed
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        packed = subprocess.run(
            [sys.executable, *command], input=data, capture_output=True, check=True
        ).stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def median(command: list[str], data: bytes) -> str:
        return f"{statistics.median([cpu_s(command, data) for _ in range(runs + 1)][1:]):.2f}"

    rows = [["python -c pass", median(["-c", "pass"], b"")]]
    rows.append(["eqinfo compress", median(["-m", "eqinfo", "compress", *chosen], text)])
    rows.append(["eqinfo decompress", median(["-m", "eqinfo", "decompress", *chosen], packed)])
    if packed != text:
        sys.exit("the command did not give the text back; no figure is printed.")
    yield f"## CPU time of a command on {len(text):,} bytes, its start-up included\n"
    yield peers.table(["", "user + system s"], rows)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("texts", nargs="+", type=Path, help="UTF-8: plain, .jsonl, either .gz or .zst")
    parser.add_argument("-m", "--model", type=Path, help="folder or .eqcb; default: that in the package")
    parser.add_argument("--bpe-text", type=Path, required=True, help="what to train BPE on")
    parser.add_argument("--bpe-cache", type=Path, required=True, help="folder that keeps trained BPE")
    parser.add_argument("--text-field", default="text", help="field of JSONL records")
    parser.add_argument("--runs", type=int, default=RUNS, help="medians of so many")
    parser.add_argument("-o", "--output", type=Path, help="write the page to a file as well")
    args = parser.parse_args()

    codebook = Codebook.load(find_codebook(args.model))
    bpe = peers.bpe("words", codebook.vocab_size, args.bpe_text, args.bpe_cache, None, args.text_field)
    documents = [
        document for path in args.texts for document in peers.read_held_out(path, args.text_field).documents
    ]
    parts = [
        "# Speed\n",
        f"Medians of {args.runs} runs that took turns. Larger is better, but for CPU time.\n",
        peers.provenance(sys.argv, ("numba", "numpy", "tiktoken", "tokenizers"))
        + f"- codebook {codebook.fingerprint.hex()[:16]}, {codebook.vocab_size:,} windows; BPE of as many "
        "entries, pre-tokenised as in GPT-2, for both peers\n",
        *rates(documents, codebook, bpe, args.runs),
        *streams(documents, codebook, args.runs),
        *startup(documents[0], args.model, args.runs),
    ]
    peers.publish(parts, args.output)


if __name__ == "__main__":
    main()
