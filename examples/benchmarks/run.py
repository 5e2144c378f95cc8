"""Speed and memory beside peers, in one run: tokens, streams, training, and how cost grows.

    python run.py --train train.jsonl.zst --valid valid.jsonl.zst --texts a.txt b.txt --cache cache -o page.md

Whatever is timed is decoded back and compared first. Contestants take turns, so that a busy spell of the
machine hits everyone; figures are medians, and CPU time where one thread works. Peers have as many entries as
the codebook has windows, and learnt them from the same text.
"""

import argparse
import hashlib
import io
import lzma
import math
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import brotli
import peers
import pyppmd
import sentencepiece
import zstandard
from peers import Timing, timings
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from eqinfo import container, parse
from eqinfo.codebook import Codebook
from eqinfo.codec import Codec
from eqinfo.files import find_codebook
from eqinfo.frames import frames_of_bytes, ordered_map
from eqinfo.models import Model

RUNS = 3
VOCAB_SIZE = 1 << 16
BPE_BYTES, UNIGRAM_BYTES = 20_000_000, 5_000_000  # of text that peers learn from
LARGE_BYTES, SLOW_PEER_BYTES, FRAME = 100_000_000, 4_000_000, 1 << 20
STREAM_BYTES = 500_000
BLOCK_SIZE, BATCH_TOKENS, STEPS = 256, 4096, 6
GROWTH = (1, 10, 100, 1000)  # MB
SLOW = ("tokenizers", "sentencepiece")  # measured on less text

Contestant = tuple[Callable[[bytes], Any], Callable[[Any], bytes]]  # text to ids, and back


def say(words: str) -> None:
    """Tell of progress."""
    print(time.strftime("%H:%M:%S"), words, file=sys.stderr, flush=True)


# ---- tokens


def unigram(text: Path, cache: Path) -> Tokenizer:
    """A byte-level Unigram tokeniser of `tokenizers`, from the cache if it is there."""
    path = cache / "unigram.json"
    if not path.exists():
        say("training Unigram (tokenizers)")
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.UnigramTrainer(
            vocab_size=VOCAB_SIZE, initial_alphabet=alphabet, show_progress=False
        )
        documents = (document.decode(errors="replace") for document in peers.sample(text, UNIGRAM_BYTES))
        tokenizer.train_from_iterator(documents, trainer)
        tokenizer.save(str(path))
    return Tokenizer.from_file(str(path))


def sentencepiece_of(text: Path, cache: Path) -> sentencepiece.SentencePieceProcessor:
    """A Unigram model of sentencepiece that loses nothing, from the cache if it is there."""
    path = cache / "sentencepiece.model"
    if not path.exists():
        say("training sentencepiece")
        lines = (
            line
            for document in peers.sample(text, UNIGRAM_BYTES)
            for line in document.decode(errors="replace").split("\n")
        )
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=lines, model_prefix=str(path.with_suffix("")), vocab_size=VOCAB_SIZE,
            byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
            add_dummy_prefix=False, num_threads=1, hard_vocab_limit=False, minloglevel=2,
        )  # fmt: skip
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


def contestants(codebook: Codebook, train: Path, cache: Path) -> dict[str, Contestant]:
    """Everyone who makes ids of text, in one thread."""
    bpe = peers.bpe("words", VOCAB_SIZE, train, cache, BPE_BYTES)
    encoding, theirs, pieces = peers.tiktoken_of(bpe), unigram(train, cache), sentencepiece_of(train, cache)

    def eqinfo_of(method: str) -> Contestant:
        chosen = replace(codebook, method=method)
        return partial(parse.encode, chosen), partial(parse.decode, chosen)

    def tokenizers_of(tokenizer: Tokenizer) -> Contestant:
        return (
            lambda text: tokenizer.encode(text.decode(), add_special_tokens=False).ids,
            lambda ids: tokenizer.decode(ids, skip_special_tokens=False).encode(),
        )

    return {
        "eqinfo, optimal": eqinfo_of("optimal"),
        "eqinfo, greedy": eqinfo_of("greedy"),
        "tiktoken, BPE": (lambda text: encoding.encode_ordinary(text.decode()), encoding.decode_bytes),
        "tokenizers, BPE": tokenizers_of(bpe.tokenizer),
        "tokenizers, Unigram": tokenizers_of(theirs),
        "sentencepiece, Unigram": (
            lambda text: pieces.encode(text.decode()),
            lambda ids: pieces.decode(ids).encode(),
        ),
    }


def pieces_of(text: bytes) -> list[bytes]:
    """A text in frames that end with lines."""
    found, start = [], 0
    while start < len(text):
        end = text.rfind(b"\n", start, start + FRAME) + 1 or min(len(text), start + FRAME)
        found.append(text[start:end])
        start = end
    return found


def measured(
    who: dict[str, Contestant], text: bytes, times: int
) -> Iterator[tuple[str, float, float, float]]:
    """Of each: its name, MB a CPU second of encoding and of decoding, and bytes for each id."""
    work: dict[str, Callable[[], object]] = {}
    sizes, ids_of = {}, {}
    for name, (encode, decode) in who.items():
        parts = pieces_of(text[:SLOW_PEER_BYTES] if name.startswith(SLOW) else text)
        ids = [encode(part) for part in parts]
        if [decode(part) for part in ids] != parts:
            say(f"{name} does not give all of the text back")
            name_of = f"{name} (lossy)"
        else:
            name_of = name
        sizes[name], ids_of[name] = sum(map(len, parts)), (name_of, sum(map(len, ids)))
        work[f"{name} encode"] = lambda e=encode, p=parts: [e(part) for _ in range(times) for part in p]
        work[f"{name} decode"] = lambda d=decode, i=ids: [d(part) for _ in range(times) for part in i]
    found = timings(work, RUNS)
    for name in who:
        rate = [sizes[name] * times / 1e6 / found[f"{name} {way}"].cpu_s for way in ("encode", "decode")]
        yield ids_of[name][0], rate[0], rate[1], sizes[name] / ids_of[name][1]


def token_tables(codebook: Codebook, train: Path, cache: Path, text: bytes) -> Iterator[str]:
    """Text to ids and back."""
    who = contestants(codebook, train, cache)
    yield f"## Text to ids and back, {VOCAB_SIZE:,} entries, one thread\n"
    yield (
        f"MB a CPU second, in pieces of 1 MiB; eqinfo and tiktoken on {len(text) / 1e6:.0f} MB, others on "
        f"{SLOW_PEER_BYTES / 1e6:.0f} MB of the same.\nThe text is what all learnt from. BPE learnt from "
        f"{BPE_BYTES / 1e6:.0f} MB of it, Unigram from {UNIGRAM_BYTES / 1e6:.0f} MB. Ratio: eqinfo,\n"
        "optimal, to this. A memory copy is what no decoder can beat.\n"
    )
    head = ["", "text to ids", "ratio", "ids to text", "ratio", "bytes/id"]
    rows = list(measured(who, text, 1))
    copied = timings({"copy": partial(bytearray, text)}, RUNS)["copy"].cpu_s
    table = [
        [name, f"{e:.1f}", f"{rows[0][1] / e:.2f}", f"{d:.0f}", f"{rows[0][2] / d:.2f}", f"{per_id:.2f}"]
        for name, e, d, per_id in rows
    ]
    yield peers.table(head, [*table, ["*memory copy*", "", "", f"{len(text) / 1e6 / copied:.0f}", "", ""]])
    for size, times in ((1 << 10, 200), (1 << 16, 4)):
        say(f"tokens, {size}")
        part = text[: text.rindex(b" ", 0, size)].decode(errors="ignore").encode()
        rows = list(measured(who, part, times))
        yield f"### An input of {size >> 10} KB, model loaded, microseconds a call\n"
        head = ["", "text to ids", "ratio", "ids to text", "ratio"]
        table = []
        for name, e, d, _ in rows:
            ratios = rows[0][1] / e, rows[0][2] / d
            table.append(
                [
                    name,
                    f"{len(part) / e:,.0f}",
                    f"{ratios[0]:.2f}",
                    f"{len(part) / d:,.0f}",
                    f"{ratios[1]:.2f}",
                ]
            )
        yield peers.table(head, table)


def thread_table(codebook: Codebook, text: bytes) -> Iterator[str]:
    """One and two threads, by the clock."""
    parts = pieces_of(text)
    ids = [parse.encode(codebook, part) for part in parts]

    def encode(threads: int) -> object:
        return list(ordered_map(partial(parse.encode, codebook), parts, threads))

    def decode(threads: int) -> object:
        return list(ordered_map(partial(parse.decode, codebook), ids, threads))

    found = timings({f"{f.__name__} {n}": partial(f, n) for f in (encode, decode) for n in (1, 2)}, RUNS)

    def shown(timing: Timing) -> str:
        return f"{len(text) / 1e6 / timing.wall_s:.0f} MB/s, {timing.cpu_s / timing.wall_s:.1f}"

    yield "### eqinfo in threads, by the clock\n"
    yield "Beside it, how many cores were had: other work on the machine takes them.\n"
    rows = [
        [f"{n} threads" if n > 1 else "1 thread"]
        + [shown(found[f"{way} {n}"]) for way in ("encode", "decode")]
        for n in (1, 2)
    ]
    yield peers.table(["", "text to ids", "ids to text"], rows)


STARTS = {
    "eqinfo": "from eqinfo import parse; from eqinfo.codebook import Codebook; from eqinfo.files import "
    "find_codebook; from pathlib import Path; ids = parse.encode(Codebook.load(find_codebook(None)), {text})",
    "tokenizers, BPE": "from tokenizers import Tokenizer; "
    "ids = Tokenizer.from_file('{cache}/bpe-words-65536.json').encode({text}.decode()).ids",
    "sentencepiece, Unigram": "from sentencepiece import SentencePieceProcessor as S; "
    "ids = S(model_file='{cache}/sentencepiece.model').encode({text}.decode())",
    "python alone": "pass",
}


def start_table(text: bytes, cache: Path) -> Iterator[str]:
    """CPU time of a new process that encodes 1 KB."""
    part = text[:1024].decode(errors="ignore").encode()

    def run(command: list[str]) -> None:
        subprocess.run(command, input=part, check=True, capture_output=True)

    work = {
        name: partial(run, [sys.executable, "-c", code.format(text=repr(part), cache=cache)])
        for name, code in STARTS.items()
    }
    work["the command `eqinfo compress`"] = partial(run, [sys.executable, "-m", "eqinfo", "compress"])
    found = {}
    for name, start in work.items():
        took = []
        for _ in range(2 * RUNS):
            before = children_cpu_s()
            start()
            took.append(children_cpu_s() - before)
        found[name] = statistics.median(took[1:])
    yield "### Start-up: a new process that loads a model of 65,536 entries and encodes 1 KB\n"
    yield peers.table(["", "CPU s"], [[name, f"{cpu_s:.2f}"] for name, cpu_s in found.items()])


def children_cpu_s() -> float:
    """CPU time of processes that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# ---- streams


def stream_coders(model: Model) -> dict[str, Contestant]:
    """Compressors, ours among them."""

    def ours(codec: Codec) -> Contestant:
        def compress(text: bytes) -> bytes:
            sink = io.BytesIO()
            container.compress(frames_of_bytes(io.BytesIO(text), codec.frame_bytes), sink, codec)
            return sink.getvalue()

        def decompress(data: bytes) -> bytes:
            return b"".join(frame.text for frame in container.read_frames(io.BytesIO(data), codec, "x"))

        return compress, decompress

    ppmd = {"max_order": 16, "mem_size": 1 << 26, "variant": "I"}
    return {
        "eqinfo, b = 16": ours(model.codec(None, False, "live")),
        "eqinfo, ac": ours(model.codec("ac", False, "live")),
        "zstd -3": (zstandard.ZstdCompressor(3).compress, zstandard.ZstdDecompressor().decompress),
        "zstd -19": (zstandard.ZstdCompressor(19).compress, zstandard.ZstdDecompressor().decompress),
        "xz -9": (partial(lzma.compress, preset=9), lzma.decompress),
        "brotli 11": (partial(brotli.compress, quality=11), brotli.decompress),
        "PPMd, order 16": (partial(pyppmd.compress, **ppmd), partial(pyppmd.decompress, **ppmd)),
    }


def stream_tables(texts: dict[str, bytes]) -> Iterator[str]:
    """Compression ratio and speed."""
    yield "## Streams, one thread\n"
    yield "MB a CPU second; `ac` was run once. A stream of eqinfo has checksums and an index.\n"
    for title, text in texts.items():
        coders, packed, found = stream_coders(Model(None)), {}, {}
        for name, (compress, decompress) in coders.items():
            runs = 1 if name.startswith("eqinfo, ac") else RUNS
            taken = []
            for _ in range(runs):
                clocks = [time.process_time()]
                packed[name] = compress(text)
                clocks.append(time.process_time())
                if decompress(packed[name]) != text:
                    sys.exit(f"{name} did not give the text back; no figure is printed.")
                taken.append((clocks[1] - clocks[0], time.process_time() - clocks[1]))
            found[name] = [len(text) / 1e6 / statistics.median(times) for times in zip(*taken, strict=True)]
        yield f"### {title}, {len(text) / 1e6:.2f} MB\n"
        rows = [
            [name, f"{len(text) / len(packed[name]):.2f}", *(f"{rate:.3g}" for rate in found[name])]
            for name in coders
        ]
        yield peers.table(["", "ratio", "compress", "decompress"], rows)


# ---- training


def fresh(work: Callable[..., Any], *arguments: object) -> Any:
    """What a function returns in a new process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def peak_mb(process: int | str = "self") -> float:
    """The largest resident size of a process so far, in MB, without that of its parent; 0 if it is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmHWM")), 0.0)


def plain_training(preset: str, vocab_size: int) -> tuple[float, float]:
    """CPU seconds of a step of the plain loop, and peak MB."""
    from plain_gpt import step_seconds

    from eqinfo.model import M2_PRESETS

    took = step_seconds(M2_PRESETS[preset], vocab_size, BLOCK_SIZE, BATCH_TOKENS, STEPS)
    return statistics.median(took[1:]), peak_mb()


def our_training(preset: str, vocab_size: int) -> tuple[float, float]:
    """The same of train-m2's loop, with embeddings composed of bytes."""
    import torch
    import training

    from eqinfo import train
    from eqinfo.model import Spelling

    train.WORTH_COMPILING_FLOPS = math.inf
    windows = Codebook.load(find_codebook(None)).windows[:vocab_size]
    config = training.m2_config(preset, vocab_size)
    torch.manual_seed(0)
    trainer = training.trainer_of(config, Spelling(windows, config.n_embd), STEPS)
    batches = training.random_batch(vocab_size, BATCH_TOKENS)
    took = []
    for _ in range(STEPS):
        started = time.process_time()
        training.one_step(trainer, batches)
        took.append(time.process_time() - started)
    return statistics.median(took[1:]), peak_mb()


def m1_rate(preset: str) -> float:
    """Bytes a CPU second of training M1."""
    import torch

    from eqinfo import train
    from eqinfo.byte_model import M1_PRESETS, ByteModel
    from eqinfo.m1 import LEARNING_RATE
    from eqinfo.train import Budget, Trainer

    train.WORTH_COMPILING_FLOPS = math.inf
    shape = M1_PRESETS[preset]
    trainer = Trainer(
        ByteModel(shape), Budget(steps=STEPS), shape.step_bytes, LEARNING_RATE, torch.device("cpu")
    )
    rows = torch.randint(97, 123, (shape.batch_size, shape.block_size + 1))
    took = []
    for step in range(STEPS):
        started = time.process_time()
        trainer.run(
            lambda _: (rows[:, :-1], rows[:, 1:]), (step + 1) / STEPS, Path(os.devnull),
            lambda _: None, lambda: False,
        )  # fmt: skip
        took.append(time.process_time() - started)
    return shape.step_bytes / statistics.median(took[1:])


def training_tables() -> Iterator[str]:
    """A step of training beside a plain loop."""
    yield f"## Training on one CPU core, {BATCH_TOKENS:,} tokens a step, blocks of {BLOCK_SIZE}\n"
    yield (
        "Against a plain loop (`plain_gpt.py`: the shape of M2, AdamW, all logits at once, an embedding\n"
        "table), each in a new process, bfloat16 in both, without torch.compile in both. Ours also composes\n"
        "embeddings of bytes and orthogonalises the updates of matrices (Muon).\n"
    )
    rows = []
    for preset, vocab_size in (("nano", 1 << 12), ("nano", 1 << 16), ("3m", 1 << 12)):
        say(f"training {preset} {vocab_size}")
        ours, plain = fresh(our_training, preset, vocab_size), fresh(plain_training, preset, vocab_size)
        rows.append(
            [
                f"{preset}, {vocab_size:,} ids",
                *(f"{value:.2f}" for value in (1 / ours[0], 1 / plain[0], plain[0] / ours[0])),
                f"{ours[1]:,.0f}",
                f"{plain[1]:,.0f}",
            ]
        )
    head = ["M2", "steps / CPU s", "plain", "ratio", "peak MB", "plain"]
    yield peers.table(head, rows)
    rows = [[preset, f"{fresh(m1_rate, preset):,.0f}"] for preset in ("tiny", "500k", "3m")]
    yield peers.table(["M1", "bytes / CPU s"], rows)
    yield "No GPU was at hand; nothing here was measured on one.\n"


# ---- growth


def piped(text: bytes, megabytes: int) -> list[str]:
    """CPU seconds a MB and peak MB of compress and of decompress, as new processes that stream."""
    with tempfile.TemporaryDirectory() as folder:
        whole, packed = Path(folder) / "a", Path(folder) / "a.eqi"
        digest = hashlib.sha256()
        with whole.open("wb") as file:
            for _ in range(megabytes):
                digest.update(text[:1_000_000])
                file.write(text[:1_000_000])
        cells = []
        for words in (["compress", "-q", str(whole)], ["decompress", "-qf", str(packed)]):
            before, peak = children_cpu_s(), 0.0
            with subprocess.Popen([sys.executable, "-m", "eqinfo", *words]) as process:
                while process.poll() is None:
                    peak = max(peak, peak_mb(process.pid))
                    time.sleep(0.01)
            if process.returncode:
                sys.exit("a command failed; no figure is printed.")
            cells += [f"{(children_cpu_s() - before) / megabytes:.4f}", f"{peak:,.0f}"]
        if hashlib.sha256(whole.read_bytes()).digest() != digest.digest():
            sys.exit("a file did not come back; no figure is printed.")
    return cells


def counted_codebook(text: bytes, window_bits: int, longest: int) -> Codebook:
    """The substrings that would save most, up to 2**window_bits windows."""
    counts: Counter[bytes] = Counter()
    for length in sorted({2, 3, 4, 5, 6, 8, 11, 16, 23, 32, 64, 128, 255}):
        if length <= longest:
            counts.update(text[i : i + length] for i in range(0, len(text) - length, 1 + length // 4))
    windows = {b""} | {bytes([b]) for b in range(256)}
    best = sorted(counts, key=lambda window: (-counts[window] * (len(window) - 1), window))
    windows |= set(best[: (1 << window_bits) - len(windows)])
    return Codebook(sorted(windows), window_bits)


def growth_tables(text: bytes) -> Iterator[str]:
    """How cost grows with the text, with the window, and with the longest window."""
    yield "## How cost grows\n"
    yield "The files repeat a megabyte of text, which is in the caches after the first.\n"
    rows = []
    for megabytes in GROWTH:
        say(f"growth, {megabytes} MB")
        rows.append([f"{megabytes:,} MB", *piped(text, megabytes)])
    head = [
        "text, `eqinfo` on files, -T 1",
        "compress, CPU s/MB",
        "peak MB",
        "decompress, CPU s/MB",
        "peak MB",
    ]
    yield peers.table(head, rows)
    rows, sample, read = [], text[:1_000_000], text[:4_000_000]
    shapes = [(b, 16) for b in (9, 10, 12, 14, 16, 18, 20)] + [
        (16, longest) for longest in (4, 8, 32, 64, 128, 255)
    ]
    for window_bits, longest in shapes:
        codebook = counted_codebook(sample, window_bits, longest)
        ids = parse.encode(codebook, read)
        if parse.decode(codebook, ids) != read:
            sys.exit("a text did not come back; no figure is printed.")
        found = timings(
            {"in": partial(parse.encode, codebook, read), "out": partial(parse.decode, codebook, ids)}, RUNS
        )
        rates = [f"{len(read) / 1e6 / found[way].cpu_s:.1f}" for way in ("in", "out")]
        table_mb = sum(array.nbytes for array in codebook.trie[:2]) / 1e6
        rows.append(
            [f"b = {window_bits}, longest window {codebook.max_window_bytes}", *rates, f"{table_mb:.1f}"]
        )
    yield "Codebooks of counted substrings, made for this table; MB a CPU second.\n"
    yield peers.table(["", "text to ids", "ids to text", "table of the trie, MB"], rows)


SECTIONS = ("tokens", "streams", "training", "growth")

LIMITS = """## What limits each path

- *Ids to text* is bound by memory: a lookup and a copy of some bytes for each id, to be read beside the
  memory copy above.
- *Text to ids, optimal* is bound by steps of the trie: from each byte the parse follows all windows that
  start there. So cost grows with how deep the trie is, and with its table once that leaves the cache.
  Greedy takes those steps once a window, not once a byte.
- *`ac` and live windows* are bound by arithmetic: M1 runs for every byte.
- *Start-up* is Python's imports and the listing of the codebook, in which every window is checked.
"""


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--train", type=Path, required=True, help="JSONL: what peers learn from, and text to cut"
    )
    parser.add_argument("--valid", type=Path, required=True, help="JSONL: text that nobody has seen")
    parser.add_argument("--texts", type=Path, nargs="+", required=True, help="more of it, plain")
    parser.add_argument("--cache", type=Path, required=True, help="folder that keeps peers and sections")
    parser.add_argument(
        "--only", nargs="*", choices=SECTIONS, default=SECTIONS, help="sections to measure anew"
    )
    parser.add_argument("--megabytes", type=int, default=LARGE_BYTES // 1_000_000, help="of text to ids")
    parser.add_argument("-o", "--output", type=Path, help="write the page to a file as well")
    args = parser.parse_args()

    cache = args.cache.absolute()
    cache.mkdir(parents=True, exist_ok=True)
    codebook = Codebook.load(find_codebook(None))
    text = b"\n".join(peers.sample(args.train, args.megabytes * 1_000_000))
    valid = b"\n".join(peers.read_documents(args.valid))[:STREAM_BYTES]
    others = b"".join(path.read_bytes() for path in args.texts)[:STREAM_BYTES]
    makers: dict[str, Callable[[], Iterator[str]]] = {
        "tokens": lambda: chain(
            token_tables(codebook, args.train, cache, text),
            thread_table(codebook, text),
            start_table(text, cache),
        ),
        "streams": lambda: stream_tables({"valid": valid, "+".join(p.stem for p in args.texts): others}),
        "training": training_tables,
        "growth": lambda: growth_tables(text),
    }  # fmt: skip
    for name in args.only:
        say(name)
        (cache / f"{name}.md").write_text("\n".join(makers[name]()))
    parts = [
        "# Benchmarks\n",
        f"Medians of {RUNS} runs that took turns, after one that is not counted. Commit and command are "
        "those\n"
        "of the sections named after `--only`, if it is there; the others are kept from earlier runs.\n",
        peers.provenance(
            sys.argv,
            (
                "numba",
                "numpy",
                "torch",
                "tiktoken",
                "tokenizers",
                "sentencepiece",
                "zstandard",
                "brotli",
                "pyppmd",
            ),
        ),
        *((cache / f"{name}.md").read_text() for name in SECTIONS if (cache / f"{name}.md").exists()),
        LIMITS,
    ]
    peers.publish(parts, args.output)


if __name__ == "__main__":
    main()
