"""Compares the same M2 trained on bytes, windows and BPE tokens of the same text, as budgets grow.

    python examples/benchmarks/compare_tokenisers.py prepare --work cmp/ --text train.jsonl.zst \
        --valid valid.jsonl.zst --bench alice29.txt asyoulik.txt lcet10.txt
    python examples/benchmarks/compare_tokenisers.py train --work cmp/ --workers 2
    python examples/benchmarks/compare_tokenisers.py time --work cmp/
    python examples/benchmarks/compare_tokenisers.py report --work cmp/ -o results.md

`prepare` makes one folder per vocabulary, with its codebook and token files, which are decoded back and
compared. `train` trains and evaluates the runs of the ladder below, the lowest rungs first. `time` measures
speed and needs an idle machine. `report` writes the page and its figure from the runs that are complete.
Existing results are kept, so every command can be stopped and started again, over several days if need be.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from itertools import islice, product
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import pages
import peers
from matplotlib.figure import Figure

from eqinfo.codebook.codebook import Codebook
from eqinfo.formats import token_file
from eqinfo.formats.codec import CodebookCodec
from eqinfo.formats.eqi import Totals
from eqinfo.formats.model_folder import CODEBOOK_NAME, model_path
from eqinfo.m1 import corpus
from eqinfo.m1 import run as m1_run
from eqinfo.m1 import train as m1_train
from eqinfo.m1.baselines import published
from eqinfo.m1.expand import Candidates, expand
from eqinfo.m1.refit import refit
from eqinfo.m2.model import GPTConfig
from eqinfo.m2.run import shape_of_name
from eqinfo.system.atomic_files import NamedSink, replacing
from eqinfo.text import decompression
from eqinfo.text.frames import Frame, frames_of_pieces

BPE_SAMPLE_BYTES = 64_000_000
BPE_BATCH = 256  # documents
PENALTY = m1_run.Settings().unaligned_penalty  # of a cut inside a word


class Vocabulary(NamedTuple):
    """The tokens of an M2: the rule that chooses the windows, and log2 of their largest number."""

    windows: str
    window_bits: int


VOCABULARIES = {
    "bytes": Vocabulary("bytes", 9),
    "ours-b12": Vocabulary("refitted", 12),
    "bpe-b12": Vocabulary("bpe", 12),
    "published-b12": Vocabulary("published", 12),
    "ours-b14": Vocabulary("refitted", 14),
    "bpe-b14": Vocabulary("bpe", 14),
    "ours-b16": Vocabulary("refitted", 16),
    "bpe-b16": Vocabulary("bpe", 16),
}

KNOWING = "knowing-"  # before the name of a vocabulary: its M2 knows the pairs that BPE never has
BLOCK_SIZE, BATCH_TOKENS = 256, 8192  # of M2
BPE_OF = {"bytes": "bpe-b12", "published-b12": "bpe-b12"}  # what an arm is compared with
BPE_OF |= {
    f"{kind}-b{bits}": f"bpe-b{bits}" for kind in ("ours", "bpe", f"{KNOWING}bpe") for bits in (12, 14, 16)
}

SAME = "same"  # the shape of BPE's M2, on as many tokens or for as many training FLOPs
LARGER = "larger"  # a larger M2, with BPE's FLOPs a byte of text, on BPE's text: so for its training FLOPs

# Single runs that led to the defaults; this script does not repeat them.
TRIED = """## Tried: what M2 may know of its tokens' bytes

Bits/byte on every fourth block of valid, single runs of nano on 1.0 M tokens of 12 bits (ours: 3.87
bytes/token, BPE: 3.37). No script repeats them: they led to the defaults. Differences below 0.003 say little.

| tried | ours | BPE | kept |
| --- | ---: | ---: | --- |
| embeddings by id only | 2.214 | | |
| trie spelling at half weight, no n-grams | 2.152 | | yes |
| and n-grams of 3, 5, 7 bytes, 32,768 rows each, by SparseAdam at the common rate | 2.093 | 2.063 | |
| ... at 10 times the rate | 2.055 | | |
| ... at 30 times the rate | 2.077 | | |
| ... by Adagrad at 10 times the rate | 2.041 | 2.014 | yes |
| and n-grams of 2 to 7 bytes, 32,768 rows each | 2.006 | | |
| ... sharing 131,072 rows | 2.017 | 1.980 | yes |
| ... and of 9 and 12 bytes | 2.035 | | no |
| ... and of the text since the start of the last, the last two, the last three words | 2.019 | 1.983 | no |
| ... of cuts that tie, the one of frequent windows (on all of valid 2.001, before 2.009) | | | yes |
| ... the same, by prices 1 + 0.05 (x - 1), x = -log2 of a share / its mean (all of valid 1.994) | | | no |
| ... windows cut by x alone, at 3.86 bytes/token (all of valid 1.994) | | | no |
| ... windows chosen by their uses alone (3.82 bytes/token) | 2.011 | | no |
| ... windows chosen and cut with a penalty of 3 for a cut inside a word (3.86 bytes/token) | 2.009 | | no |
| ... what cannot follow lowered, in scoring (1/16 of valid; without: 1.997, 1.962) | 1.985 | 1.954 | |
| ... and in training (all of valid; without: 1.999, 1.987; BPE's is knowing-bpe) | 1.983 | 1.976 | yes |
| ... n-grams at the output too (1/4 of valid; without: 1.982, 1.987) | 1.971 | 1.975 | no |
| ... the same after 4 M tokens (without: 1.732) | 1.723 | | |
| ... the same at 16 bits, 1 M tokens (without: 1.840) | 1.847 | | |
| ... a third vector of each row for the values of attention as well | 1.967 | | no |
| ... each input and a learned share of the one before it | 1.977 | 1.981 | no |
| ... cautious weight decay that falls to 0 | 1.983 | | no |
| ... a token's shape, its lower case, its first and its last word in the spelling | 1.983 | 1.989 | no |
| ... steps of 4,096 tokens, which take 17 % more time | 1.959 | 1.963 | no |

So an M2 that knows bytes is 0.20 bits/byte better than one that does not, for the same FLOPs. BPE gains
more from it than windows do: with n-grams of 2 to 7 bytes it was ahead by 0.037 at 12 bits, with 13 % fewer
bytes in a token, before ties went to frequent windows. Runs on nearly the same tokens, and of two seeds,
differ by up to 0.005. What cannot follow the last token costs an M2 that does not know it 0.012 bits/byte
after 1 M tokens and 0.007 after 4 M (BPE's: 0.008 and 0.004); what cannot follow the last five, 0.015 and
0.009 (BPE's: no more), but that depends on too many tokens for a list. A step of 8,192 random ids took 0.79
to 0.82 s of CPU time, with the spelling alone 0.76 s (nano, 4,096 windows, n-grams of 3, 5 and 7 bytes);
lowering logits took 0.4 ms for 512 of its tokens, whose products with the output matrix took 2.5 ms.
N-grams at the output (a second vector of each row, at a quarter, added after the last norm) help at 12 bits
and harm at 16, so they were left. Smaller steps gain what 17 % more tokens gain by the slope of the ladder.
"""


# the outcome of the published runs: say it here, after measuring again
OUTCOME = "\n".join(
    map(
        pages.paragraph,
        (
            "With equal training FLOPs a small language model learns English at least as well from "
            "eqinfo's windows as from BPE's tokens, on every budget tried: at 12 bits it is ahead by 0.005 "
            "bits/byte after 1 M tokens and 0.003 after 4 M (two seeds each) and by 0.010 after 16 M, at "
            "14 bits by 0.020 and 0.016 after 1 M and 4 M, at 16 bits by 0.026 after 1 M (nano, *valid*). "
            "A window holds 15, 28 and 48 % more text than a token. Word perplexity is 49 to 58 % below that "
            "of bytes.",
            "It knows which windows no cut has side by side. An M2 that is told the same of BPE's tokens "
            "(*knowing-bpe*), which is not usual, is ahead of windows by 0.006 and 0.005 at 12 bits after "
            "1 M and 4 M tokens and level after 16 M, and behind by 0.009 at 14 bits, by 0.021 at 16. "
            "With a larger M2, which costs as many FLOPs a byte of text as BPE's, windows of 12 bits are "
            "behind by 0.030 after 1 M tokens and 0.020 after 4 M. Two runs that differ in nothing but their "
            "seed differ by up to 0.005. Models and budgets are small; larger ones were not run.",
        ),
    )
)


class Rung(NamedTuple):
    """Runs with one budget.

    Attributes:
        shape: a preset of M2.
        n_tokens: what BPE and ours train on; the other arms train for as many FLOPs.
        seeds: one run each.
        bits: widths of the tokens; bytes and published windows are compared at 12.
    """

    shape: str
    n_tokens: int
    seeds: tuple[int, ...]
    bits: tuple[int, ...]


LADDER = (
    Rung("nano", 1_000_000, (0, 1), (12, 14, 16)),
    Rung("nano", 4_000_000, (0, 1), (12, 14, 16)),
    Rung("3m", 4_000_000, (0,), (12, 14, 16)),
    Rung("nano", 16_000_000, (0,), (12, 14, 16)),
    Rung("3m", 16_000_000, (0,), (12, 14, 16)),
    Rung("nano", 64_000_000, (0,), (12,)),
)


class Texts(NamedTuple):
    """The texts for training and measuring."""

    train: Path
    valid: Path
    bench: list[Path]

    @property
    def by_name(self) -> dict[str, Path]:
        """Each text by the name of its token file; train comes last, so its file completes a vocabulary."""
        held_out = {"valid": self.valid} | {path.stem: path for path in self.bench}
        return held_out | {"train": self.train}


# ---- prepare: vocabularies and token files


def say(words: str) -> None:
    """Print progress to stderr."""
    print(words, file=sys.stderr, flush=True)


@lru_cache(1)
def candidates(window_bits: int) -> Candidates:
    """The candidates for a refit, from the M1 in the package."""
    return expand(
        m1_run.load_m1(model_path(None)), m1_run.Settings().candidates << window_bits, lambda _: None
    )


def training_text(work: Path, train: Path) -> list[corpus.Text]:
    """The sample of the training text for refits; the corpus is staged once."""
    folder = work / "corpus"
    if not (folder / "facts.json").exists():
        say(f"staging {train.name}")
        with decompression.open_text(train) as source:
            corpus.stage([(train.name, source)], folder, "text")
    return corpus.sample(corpus.load(folder)[0], m1_train.REFIT_BYTES)


def bpe_of(vocabulary: Vocabulary, work: Path, train: Path) -> peers.Bpe:
    """BPE with one entry less than the vocabulary, for the end of text."""
    return peers.bpe("words", (1 << vocabulary.window_bits) - 1, train, work / "bpe", BPE_SAMPLE_BYTES)


def make_codebook(vocabulary: Vocabulary, work: Path, train: Path) -> Codebook:
    """The codebook of a vocabulary; BPE's lists its entries in sorted order and is not used to parse."""
    bits = vocabulary.window_bits
    match vocabulary.windows:
        case "bytes":
            return Codebook([b"", *(bytes([byte]) for byte in range(256))], bits, "greedy")
        case "published":
            return published(m1_run.load_m1(model_path(None)), bits, lambda _: None)
        case "refitted":
            return refit(candidates(bits), training_text(work, train), bits, PENALTY, lambda _: None)
        case "bpe":
            entries = peers.token_bytes(bpe_of(vocabulary, work, train).tokenizer)
            return Codebook([b"", *sorted(entries)], bits, "greedy")
        case other:
            raise ValueError(other)


def frames(path: Path) -> Iterator[Frame]:
    """The frames of a text, as `eqinfo compress --tokens` makes them."""
    return frames_of_pieces((document, True) for document in peers.read_documents(path))


def write_bpe(path: Path, sink: NamedSink, codebook: Codebook, bpe: peers.Bpe) -> token_file.Sidecar:
    """Write the BPE tokens of a text as ids of the codebook; the sidecar."""
    ranks = np.array([codebook.codewords[entry] for entry in peers.token_bytes(bpe.tokenizer)])
    dtype = token_file.token_type(codebook.window_bits)
    totals, crc = Totals(), 0
    documents = peers.read_documents(path)
    while batch := [document.decode() for document in islice(documents, BPE_BATCH)]:
        found = bpe.tokenizer.encode_batch_fast(batch, add_special_tokens=False)
        ids = np.concatenate([np.append(ranks[part.ids], token_file.END_OF_TEXT) for part in found])
        data = ids.astype(dtype).tobytes()
        sink.write(data)
        crc = zlib.crc32(data, crc)
        totals.original_bytes += int(codebook.lengths[ids].sum())
        totals.windows += ids.size
        totals.documents += len(batch)
    return token_file.Sidecar(
        vocab_size=codebook.vocab_size,
        window_bits=codebook.window_bits,
        fingerprint=codebook.fingerprint.hex(),
        tokens=totals.windows,
        original_bytes=totals.original_bytes,
        documents=totals.documents,
        end_of_text=token_file.END_OF_TEXT,
        crc32=crc,
    )


def digest(found: Iterable[Frame]) -> bytes:
    """SHA-256 of a text and of its document ends, independent of the division into frames."""
    whole, ends, at = hashlib.sha256(), hashlib.sha256(), 0
    for frame in found:
        whole.update(frame.text)
        ends.update(np.array([at + end for end in frame.document_ends], "<i8").tobytes())
        at += len(frame.text)
    return whole.digest() + ends.digest()


@lru_cache
def digest_of_file(path: Path) -> bytes:
    """The digest of a text file, cached."""
    return digest(frames(path))


def write_tokens(path: Path, target: Path, codebook: Codebook, bpe: peers.Bpe | None) -> None:
    """Write the token file of a text and its sidecar, unless they exist, and check that it decodes back."""
    sidecar_path = token_file.sidecar_path(target)
    if sidecar_path.exists():
        return
    with replacing(target, force=True) as sink:
        if bpe is None:
            _, sidecar = token_file.write(frames(path), sink, CodebookCodec(codebook))
        else:
            sidecar = write_bpe(path, sink, codebook, bpe)
    with target.open("rb") as source:
        if digest(token_file.read(source, sidecar, CodebookCodec(codebook), str(target))) != digest_of_file(
            path
        ):
            sys.exit(f"{target}: did not decode back to {path.name}.")
    with replacing(sidecar_path) as sink:
        sink.write(sidecar.to_json())


def prepare(work: Path, names: list[str], texts: Texts) -> None:
    """Complete the folders of the named vocabularies."""
    for name in names:
        vocabulary, folder = VOCABULARIES[name], work / name
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / CODEBOOK_NAME
        if not path.exists():
            say(f"{name}: codebook")
            codebook = make_codebook(vocabulary, work, texts.train)
            with replacing(path) as sink:
                sink.write(codebook.to_bytes())
        codebook = Codebook.load(path)
        bpe = bpe_of(vocabulary, work, texts.train) if vocabulary.windows == "bpe" else None
        if bpe is not None:
            bpe.tokenizer.save(str(folder / "tokenizer.json"))
        for text_name, text_path in texts.by_name.items():
            write_tokens(text_path, folder / f"{text_name}.bin", codebook, bpe)
        shown = [f"{text_name} {bytes_per_token(folder, text_name):.3f}" for text_name in texts.by_name]
        say(f"{name}: {len(codebook.windows):,} windows; bytes/token {', '.join(shown)}")


def folder_of(work: Path, vocabulary: str) -> Path:
    """The folder of a vocabulary; with and without KNOWING it is the same."""
    return work / vocabulary.removeprefix(KNOWING)


def bytes_per_token(folder: Path, text_name: str) -> float:
    """Bytes per token of a token file, counting the ids that end documents, since M2 reads them."""
    sidecar = token_file.Sidecar.load(token_file.sidecar_path(folder / f"{text_name}.bin"))
    return sidecar.original_bytes / sidecar.tokens


# ---- train: runs and their scores


class Run(NamedTuple):
    """The training of one M2.

    Attributes:
        vocabulary: of its tokens.
        shape: a name that train-m2 --preset takes.
        n_tokens: that it trains on.
        seed: of weights and data order.
    """

    vocabulary: str
    shape: str
    n_tokens: int
    seed: int

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.vocabulary}-{self.shape}-{self.n_tokens}-seed{self.seed}"

    def folder(self, work: Path) -> Path:
        """The run folder of train-m2."""
        return work / "runs" / self.name

    def score_path(self, work: Path, text_name: str) -> Path:
        """The file with the output of `eqinfo eval` on a text."""
        return work / "scores" / self.name / f"{text_name}.json"

    def config(self, work: Path) -> GPTConfig:
        """The shape of its model."""
        return config_of(len(codebook_of(work, self.vocabulary).windows), self.shape)

    def measured(self, work: Path) -> dict[str, float] | None:
        """The measurements of train-m2; None until the run is complete."""
        path = self.folder(work) / "config.json"
        found: dict[str, float] | None = (
            json.loads(path.read_bytes()).get("measured") if path.exists() else None
        )
        return found


def config_of(vocab_size: int, shape: str) -> GPTConfig:
    """The shape of a model."""
    return GPTConfig(vocab_size, BLOCK_SIZE, *shape_of_name(shape))


def flops_per_token(config: GPTConfig) -> int:
    """FLOPs to read a token, with output matrix and attention: a third of those to train on it."""
    return config.training_flops // 3


def vocabularies(work: Path) -> list[str]:
    """The names of the prepared vocabularies."""
    return [name for name in VOCABULARIES if (work / name / "train.bin.json").exists()]


def held_out(folder: Path) -> list[str]:
    """The names of the held-out texts of a vocabulary."""
    return ["valid", *sorted({path.stem for path in folder.glob("*.bin")} - {"train", "valid"})]


@lru_cache
def codebook_of(work: Path, vocabulary: str) -> Codebook:
    """The codebook of a prepared vocabulary."""
    return Codebook.load(folder_of(work, vocabulary) / CODEBOOK_NAME)


def larger_shape(work: Path, vocabulary: str, shape: str) -> str:
    """The shape with about as many FLOPs a byte as BPE's M2 of another shape.

    The width grows first, in steps of twice the heads, then layers as far as they bring it nearer.
    """
    bpe = BPE_OF[vocabulary]
    n_windows, n_theirs = (len(codebook_of(work, name).windows) for name in (vocabulary, bpe))
    longer = bytes_per_token(work / vocabulary, "train") / bytes_per_token(work / bpe, "train")
    wanted = flops_per_token(config_of(n_theirs, shape)) * longer
    n_layer, n_head, n_embd = shape_of_name(shape)
    shapes = [
        f"{layers}x{n_head}x{width}"
        for layers in range(n_layer, 2 * n_layer)
        for width in range(n_embd, 2 * n_embd, 2 * n_head)
    ]
    return min(shapes, key=lambda name: abs(flops_per_token(config_of(n_windows, name)) - wanted))


class Arm(NamedTuple):
    """Runs that differ in their seeds only.

    Attributes:
        rung: of the ladder.
        vocabulary: of its tokens.
        match: SAME or LARGER.
    """

    rung: Rung
    vocabulary: str
    match: str


def planned(work: Path, rungs: Iterable[Rung], only: re.Pattern[str]) -> dict[Run, Arm]:
    """All runs of the ladder in their order, each with its arm."""
    known, runs = set(vocabularies(work)), dict[Run, Arm]()
    for rung in rungs:
        names = [(f"{kind}-b{bits}", SAME) for bits in rung.bits for kind in ("ours", "bpe")]
        names += [("bytes", SAME), ("published-b12", SAME)]
        names += [(f"{KNOWING}bpe-b{bits}", SAME) for bits in rung.bits]
        names += [(f"ours-b{bits}", LARGER) for bits in rung.bits]
        for seed, (name, match) in product(rung.seeds, names):
            arm = Arm(rung, name, match)
            if {name.removeprefix(KNOWING), BPE_OF[name]} <= known and only.search(
                f"{name}-{match}-{rung.shape}-{rung.n_tokens}-seed{seed}"
            ):
                runs[run_of(arm, work, seed)] = arm
    return runs


def run_of(arm: Arm, work: Path, seed: int) -> Run:
    """The run of an arm: for the training FLOPs of BPE's of its rung."""
    rung, name = arm.rung, arm.vocabulary
    shape = rung.shape if arm.match == SAME else larger_shape(work, name, rung.shape)
    sizes = [len(codebook_of(work, each).windows) for each in (BPE_OF[name], name)]
    theirs, ours = config_of(sizes[0], rung.shape).training_flops, config_of(sizes[1], shape).training_flops
    return Run(name, shape, round(rung.n_tokens * theirs / ours), seed)


class Command(NamedTuple):
    """A description, the arguments of Python, and the file for its stdout."""

    what: str
    arguments: list[str]
    output: Path


def program(run: Run, work: Path) -> list[str]:
    """The arguments of Python for eqinfo on a run."""
    if run.vocabulary.startswith(KNOWING):
        return [f"{Path(__file__).with_name('knowing_bpe.py')}", f"{folder_of(work, run.vocabulary)}"]
    return ["-m", "eqinfo"]


def training(run: Run, work: Path) -> Command:
    """The command that starts or resumes the training of a run."""
    folder, data = run.folder(work), folder_of(work, run.vocabulary)
    arguments = [*program(run, work), "train-m2", f"{data / 'train.bin'}", "-o", f"{folder}"]
    arguments += ["--model", f"{data / CODEBOOK_NAME}", "--preset", run.shape, "--tokens", f"{run.n_tokens}"]
    arguments += ["--block-size", f"{BLOCK_SIZE}", "--batch-tokens", f"{BATCH_TOKENS}"]
    arguments += ["--seed", f"{run.seed}", "-q"]
    if (folder / "config.json").exists():
        arguments.append("--resume")
    elif folder.exists():  # killed before its config was written
        shutil.rmtree(folder)
    return Command("training", arguments, Path(os.devnull))


def scoring(run: Run, work: Path, text_name: str, output: Path) -> Command:
    """The command that evaluates a run on a text."""
    path = folder_of(work, run.vocabulary) / f"{text_name}.bin"
    arguments = [*program(run, work), "eval", f"{run.folder(work)}", "--text", f"{path}", "--json"]
    return Command(f"scoring {text_name}", arguments, output)


def commands(run: Run, work: Path) -> Iterator[Command]:
    """The remaining commands of a run; take each one after the previous one has ended."""
    if run.measured(work) is None:
        yield training(run, work)
    for text_name in held_out(folder_of(work, run.vocabulary)):
        target = run.score_path(work, text_name)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_suffix(".part")
            yield scoring(run, work, text_name, partial)
            partial.replace(target)


def start(command: Command, log: Path) -> subprocess.Popen[bytes]:
    """Start a command with one thread, in a session of its own, so that Ctrl-C reaches only this process."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    with command.output.open("wb") as output, log.open("ab") as errors:
        return subprocess.Popen(
            [sys.executable, *command.arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            env=environment,
            start_new_session=True,
        )


def train(work: Path, runs: Iterable[Run], workers: int) -> None:
    """Complete the runs, `workers` in parallel; Ctrl-C stops them with checkpoints to resume from."""
    (work / "runs").mkdir(exist_ok=True)
    waiting = deque((run, commands(run, work)) for run in runs)
    running: dict[subprocess.Popen[bytes], tuple[Run, Iterator[Command]]] = {}
    n_failed = 0

    def go_on(run: Run, left: Iterator[Command]) -> None:
        command = next(left, None)
        if command is not None:
            say(f"{datetime.now():%H:%M:%S} {run.name}: {command.what}")
            running[start(command, work / "runs" / f"{run.name}.log")] = run, left

    try:
        while waiting or running:
            while waiting and len(running) < workers:
                go_on(*waiting.popleft())
            for process in [process for process in running if process.poll() is not None]:
                run, left = running.pop(process)
                if process.returncode:
                    n_failed += 1
                    say(f"{run.name}: failed with status {process.returncode}; see runs/{run.name}.log")
                else:
                    go_on(run, left)
            time.sleep(0.2)
    finally:
        for process in running:
            process.send_signal(signal.SIGINT)
        for process in running:
            process.wait()
    if n_failed:
        sys.exit(f"{n_failed} runs failed.")


# ---- time: speed in turns


def take_times(work: Path, runs: Iterable[Run], turns: int, text_name: str) -> None:
    """Evaluate one complete run per vocabulary, in turns, so that a busy period affects all of them."""
    chosen: dict[str, Run] = {}
    for run in runs:
        if run.measured(work) is not None:
            chosen.setdefault(run.vocabulary, run)
    for turn, (vocabulary, run) in product(range(turns), chosen.items()):
        target = work / "times" / vocabulary / f"{turn}.json"
        if not target.exists():
            say(f"turn {turn}: {run.name}")
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_suffix(".part")
            if start(scoring(run, work, text_name, partial), work / "runs" / f"{run.name}.log").wait():
                sys.exit(f"{run.name}: eval failed; see runs/{run.name}.log")
            partial.replace(target)


def median_rates(work: Path, vocabulary: str) -> dict[str, float]:
    """Median bytes per second of scoring and of generation; empty if nothing was measured."""
    found = [read_score(path) for path in sorted((work / "times" / vocabulary).glob("*.json"))]
    names = ("scoring_bytes_per_s", "generation_bytes_per_s")
    return {name: statistics.median(score[name] for score in found) for name in names} if found else {}


# ---- report: the page and its figure


@dataclass
class Row:
    """The complete runs of an arm, with their measurements."""

    arm: Arm
    runs: list[Run] = field(default_factory=list)
    measured: list[dict[str, float]] = field(default_factory=list)
    scores: list[dict[str, dict[str, float]]] = field(default_factory=list)  # by text

    def mean(self, text_name: str, name: str) -> float:
        """The mean of a figure on a text over the seeds."""
        return statistics.fmean(score[text_name][name] for score in self.scores)

    def shown(self, text_name: str, name: str, digits: int) -> str:
        """The mean as text, with half the range if there are several seeds."""
        values = [score[text_name][name] for score in self.scores]
        spread = f" ± {(max(values) - min(values)) / 2:.{digits}f}" if len(values) > 1 else ""
        return f"{statistics.fmean(values):.{digits}f}{spread}"

    def training_flops(self, work: Path) -> float:
        """FLOPs of the training of a run."""
        return self.runs[0].config(work).training_flops * self.measured[0]["training_tokens"]


def read_score(path: Path) -> dict[str, float]:
    """The result of eval for one run on one text."""
    (found,) = json.loads(path.read_bytes())["m2"]
    score: dict[str, float] = found
    return score


def complete_rows(work: Path, plan: dict[Run, Arm], texts: list[str]) -> dict[Arm, Row]:
    """The arms with complete runs, in the order of the ladder."""
    rows: dict[Arm, Row] = {}
    for run, arm in plan.items():
        facts, paths = run.measured(work), {name: run.score_path(work, name) for name in texts}
        if facts is None or not all(path.exists() for path in paths.values()):
            continue
        row = rows.setdefault(arm, Row(arm))
        row.runs.append(run)
        row.measured.append(facts)
        row.scores.append({name: read_score(path) for name, path in paths.items()})
    return rows


def ladder(work: Path, rows: dict[Arm, Row], texts: list[str]) -> Iterator[str]:
    """The table of all arms, a rung after the other."""
    head = ["rung", "tokens", "M2", "seeds", "tokens, M", "text, MB", "PFLOPs", "kFLOPs/byte", "bytes/token"]
    shown = []
    for arm, row in rows.items():
        run, n_tokens = row.runs[0], row.measured[0]["training_tokens"]
        sizes = [bytes_per_token(folder_of(work, arm.vocabulary), name) for name in ("train", "valid")]
        cost = flops_per_token(run.config(work)) / sizes[1]
        theirs = rows.get(Arm(arm.rung, BPE_OF[arm.vocabulary], SAME))
        differences = ["", ""]
        if theirs is not None and theirs is not row:
            differences = [
                f"{row.mean('valid', 'bits_per_byte') - theirs.mean('valid', 'bits_per_byte'):+.3f}",
                percent(*(of.mean("valid", "word_perplexity") for of in (row, theirs))),
            ]
        shown.append(
            [
                f"{arm.rung.shape}, {arm.rung.n_tokens / 1e6:g} M", arm.vocabulary,
                run.shape, f"{len(row.runs)}", f"{n_tokens / 1e6:.2f}", f"{n_tokens * sizes[0] / 1e6:.1f}",
                f"{row.training_flops(work) / 1e15:.4g}", f"{cost / 1e3:,.0f}", f"{sizes[1]:.3f}",
                *(row.shown(name, "bits_per_byte", 3) for name in texts), differences[0],
                row.shown("valid", "word_perplexity", 0), differences[1],
            ]
        )  # fmt: skip
    yield "## The ladder\n"
    yield pages.paragraph(
        "Bits/byte on held-out texts: smaller is better. With several seeds, the mean ± half the range. All "
        "arms of a rung that are compared have the same training FLOPs, with output matrix and attention. "
        "Ours and BPE of one width have as many tokens too; bytes and published windows are compared with "
        "BPE of 12 bits. Where M2 has another shape than its rung, it is as much larger as our windows are "
        "longer than BPE's tokens: it reads as much text for the same training FLOPs, and costs as many "
        "FLOPs a byte (kFLOPs/byte, forward) when it is used. *Text* is what the training tokens decode to."
    )
    head += [*texts, "- BPE's", "word perplexity", "to BPE's"]
    yield pages.table(head, shown)


def percent(value: float, reference: float) -> str:
    """The relative difference from the reference, in percent."""
    return f"{value / reference - 1:+.1%}"


def speeds(work: Path, names: list[str]) -> Iterator[str]:
    """The table of speed."""
    rates = {name: found for name in names if (found := median_rates(work, name))}
    shown = []
    for name, found in rates.items():
        theirs, row = rates.get(BPE_OF[name], found), [name]
        for rate, value in found.items():
            row += [f"{value:,.0f}", "" if theirs is found else percent(value, theirs[rate])]
        shown.append(row)
    if shown:
        yield "## Speed in bytes of text per second\n"
        yield pages.paragraph(
            "Measured by `eqinfo eval` in one thread, nano, with the tokenisers taking turns; medians. The "
            "columns beside give the difference from BPE with tokens of the same width (b12 for bytes)."
        )
        yield pages.table(["tokeniser", "scoring", "to BPE's", "generation", "to BPE's"], shown)


def draw(work: Path, rows: Iterable[Row], path: Path) -> None:
    """Draw bits/byte on valid against training FLOPs, a line for each arm."""
    lines: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for row in rows:
        arm = row.arm
        point = row.training_flops(work), row.mean("valid", "bits_per_byte")
        lines.setdefault((arm.vocabulary, arm.rung.shape, arm.match), []).append(point)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "eqinfo", "font.size": 9}):
        figure = Figure(figsize=(6.4, 4.4), layout="constrained")
        axes = figure.add_subplot()
        for (vocabulary, shape, match), points in lines.items():
            kind, _, bits = vocabulary.rpartition("-")
            colour = f"C{('', 'ours', 'bpe', 'published', f'{KNOWING}bpe').index(kind)}"
            style = {"b14": "--", "b16": ":"}.get(bits, "-")
            label = f"{vocabulary}, {shape}" + (", larger" if match == LARGER else "")
            marker = "*" if match == LARGER else {"nano": "o", "3m": "s"}.get(shape, "^")
            axes.plot(*zip(*points, strict=True), marker + style, color=colour, label=label, markersize=5)
        axes.set_xscale("log")
        axes.set_xlabel("training FLOPs")
        axes.set_ylabel("bits/byte, valid")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=6, ncols=2)
        figure.savefig(path, metadata={"Date": None})


def report(work: Path, plan: dict[Run, Arm], output: Path | None) -> None:
    """Write the page and its figure."""
    texts = held_out(work / "ours-b12")
    rows = complete_rows(work, plan, texts)
    n_runs = sum(len(row.runs) for row in rows.values())
    if not n_runs:
        sys.exit("no run is complete yet.")
    runs = [run for row in rows.values() for run in row.runs]
    configs = [json.loads((run.folder(work) / "config.json").read_bytes()) for run in runs]
    commits = sorted({str(config["git_commit"])[:12] for config in configs})
    parts = [
        "# What windows are worth to a language model\n",
        OUTCOME,
        pages.provenance(sys.argv, ("matplotlib", "numpy", "tokenizers", "torch"))
        + f"- {n_runs} runs at commit {', '.join(commits)}; {BATCH_TOKENS:,} tokens a step in blocks of "
        f"{BLOCK_SIZE}\n"
        "- bytes: 257 tokens; b12, b14, b16: at most 2^12, 2^14 and 2^16\n"
        "- published: the paper's rule with greedy parse; ours: refitted windows with optimal parse; both "
        "from candidates of the M1 in the package, refitted to the training text\n"
        "- bpe: merges inside words, pre-tokenised as in GPT-2, trained on a sample of "
        f"{BPE_SAMPLE_BYTES / 1e6:.0f} MB of the training text\n"
        "- every M2 knows the bytes of its tokens, whatever the tokens: trie spelling and byte n-grams\n"
        "- ours and published: M2 knows which windows no cut has side by side, from the codebook; "
        "knowing-bpe: it knows the same of BPE's tokens (`knowing_bpe.py`); bpe: it does not, as is usual\n"
        "- every token file was decoded back and compared with its text\n",
        *ladder(work, rows, texts),
        *speeds(work, vocabularies(work)),
        TRIED,
    ]
    if output is not None:
        figure = output.with_suffix(".svg")
        draw(work, rows.values(), figure)
        parts.insert(-1, f"![bits/byte against training FLOPs]({figure.name})\n")
    pages.publish(parts, output)


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--work", type=Path, required=True, help="folder of vocabularies and runs")
    common.add_argument("--only", type=re.compile, default="", help="regular expression; only matching names")
    preparing = commands.add_parser("prepare", parents=[common], help="make codebooks and token files")
    preparing.add_argument("--text", type=Path, required=True, help="JSONL to train on")
    preparing.add_argument("--valid", type=Path, required=True, help="JSONL to validate on")
    preparing.add_argument("--bench", type=Path, nargs="+", required=True, help="texts to measure on")
    common.add_argument("--rungs", type=int, default=len(LADDER), help="only so many rungs, the lowest ones")
    training = commands.add_parser("train", parents=[common], help="train and evaluate the runs of the plan")
    training.add_argument("--workers", type=int, default=1, help="runs in parallel")
    timing = commands.add_parser("time", parents=[common], help="measure speed on an idle machine")
    timing.add_argument("--turns", type=int, default=3, help="turns of which the median is taken")
    timing.add_argument("--on", default="asyoulik", help="text to measure speed on")
    reporting = commands.add_parser("report", parents=[common], help="write the page and its figure")
    reporting.add_argument(
        "-o", "--output", type=Path, help="page to write; the figure has the same name with .svg"
    )
    return parser.parse_args()


def main() -> None:
    """Run the command line."""
    args = arguments()
    only = re.compile(args.only)
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell may have set them to be ignored
        signal.signal(number, signal.default_int_handler)
    if args.command == "prepare":
        names = [name for name in VOCABULARIES if only.search(name)]
        prepare(args.work, names, Texts(args.text, args.valid, args.bench))
        return
    plan = planned(args.work, LADDER[: args.rungs], only)
    try:
        if args.command == "train":
            train(args.work, plan, args.workers)
        elif args.command == "time":
            take_times(args.work, plan, args.turns, args.on)
        else:
            report(args.work, plan, args.output)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
