"""Compares the same small M2 trained on bytes, windows and BPE tokens of the same text.

    python examples/benchmarks/compare_tokenisers.py prepare --work cmp/ --text train.jsonl.zst \
        --valid valid.jsonl.zst --bench alice29.txt asyoulik.txt lcet10.txt
    python examples/benchmarks/compare_tokenisers.py train --work cmp/ --tokens 3000000 --workers 2
    python examples/benchmarks/compare_tokenisers.py time --work cmp/ --tokens 3000000
    python examples/benchmarks/compare_tokenisers.py report --work cmp/ --tokens 3000000 -o results.md

`prepare` makes one folder per vocabulary, with its codebook and token files, which are decoded back and
compared. `train` trains and evaluates the runs of the plan below, the most important first. `time` measures
speed and needs an idle machine. `report` writes the page and its figure from the runs that are complete.
Existing results are kept, so every command can be stopped and started again.
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
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from itertools import islice, product
from pathlib import Path
from typing import Literal, NamedTuple

import matplotlib
import numpy as np
import pages
import peers
from matplotlib.figure import Figure

from eqinfo.codebook.codebook import Codebook, Method
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
from eqinfo.m2.model import M2_PRESETS, GPTConfig
from eqinfo.system.atomic_files import NamedSink, replacing
from eqinfo.text import decompression
from eqinfo.text.frames import Frame, frames_of_pieces

BPE_SAMPLE_BYTES = 64_000_000
BPE_BATCH = 256  # documents


class Vocabulary(NamedTuple):
    """The tokens of an M2: which windows there are, and how text is parsed.

    Attributes:
        windows: the rule that chooses them, or the name of another vocabulary with the same windows.
        window_bits: log2 of the largest number of windows.
        unaligned_penalty: penalty of a cut inside a word, in refit and parse.
        method: method of the parse; BPE uses its own.
    """

    windows: str
    window_bits: int
    unaligned_penalty: float = 1.0
    method: Method = "optimal"


VOCABULARIES = {
    "bytes": Vocabulary("bytes", 9),
    "ours-b12": Vocabulary("refitted", 12),
    "bpe-b12": Vocabulary("bpe", 12),
    "published-b12": Vocabulary("published", 12),
    "ours-b12-penalty0": Vocabulary("refitted", 12, 0.0),
    "ours-b12-penalty3": Vocabulary("refitted", 12, 3.0),
    "ours-b12-greedy": Vocabulary("ours-b12", 12, method="greedy"),
    "ours-b14": Vocabulary("refitted", 14),
    "bpe-b14": Vocabulary("bpe", 14),
    "published-b14": Vocabulary("published", 14),
    "ours-b16": Vocabulary("packaged", 16),
    "bpe-b16": Vocabulary("bpe", 16),
    "published-b16": Vocabulary("packaged published", 16, method="greedy"),
}

PRESET, BLOCK_SIZE, BATCH_TOKENS = "nano", 256, 8192  # of M2
VALIDATIONS = 10  # validations per run
WATCHED, WATCHED_BYTES = "watched", 400_000  # validations read this even sample of valid
BASE = "ours-b12"  # its training FLOPs are the budget of all runs with equal FLOPs

Embeddings = Literal["composed", "plain"]
Budget = Literal["flops", "tokens"]

BUDGETS: dict[Budget, str] = {"flops": "equal FLOPs", "tokens": "equal tokens"}

# Single runs that led to the defaults; this script does not repeat them.
TRIED = """## Also tried

Each figure is the bits/byte on valid of one run of 1 M tokens; the choice that was kept is bold. Two seeds of
one setting differed by 0.001.

- number of bytes at each end of a token from which its embedding is composed (ours-b12-penalty3):
  3: 2.148, **4: 2.147**, 8: 2.152, 16: 2.152; with 0.5 M tokens of ours-b14 **4: 2.140**, 8: 2.145
- initial standard deviation of a token's own vector: **0.1: 2.145**, 0.5: 2.147; with 8 bytes
  0.5: 2.152, 1.0: 2.158
- which strings may be windows, with 2 M tokens: one word and the space after it 2.010 at 3.43 bytes/token;
  across words, as shipped, 2.023 at 3.77; with cuts after a space counted as unaligned, so that windows
  begin with a space as BPE's tokens do, 2.030 at 3.85. BPE: 2.001 at 3.37. At a given vocabulary size, more
  bytes/token cost bits/byte, in windows and BPE alike
- greedy parse: 2.162; optimal: 2.156 (ours-b12, 8 bytes)
- masking windows that cannot follow the previous one because the parse would choose the two joined:
  not worth it, for after training they account for 0.2 % of the loss
- peak learning rate 0.005: 2.174, **0.01: 2.156**, 0.02: 2.162 (ours-b12, 8 bytes)
"""

B12 = ("bytes", "ours-b12", "bpe-b12", "published-b12")
B14 = ("ours-b14", "bpe-b14", "published-b14")
B16 = ("ours-b16", "bpe-b16", "published-b16")
VARIED = """- penalty0, penalty3: penalty of a cut inside a word, instead of 1, in refit and parse
- greedy: the windows of ours-b12 with greedy parse
"""
VARIANTS = ("ours-b12-penalty0", "ours-b12-penalty3", "ours-b12-greedy")
# The runs in their order: each row combines vocabularies, embeddings, budgets and seeds. A run that is in an
# earlier row is not repeated.
PLAN: list[tuple[tuple[str, ...], tuple[Embeddings, ...], tuple[Budget, ...], tuple[int, ...]]] = [
    (B12, ("composed",), ("flops",), (0,)),
    (B12, ("plain",), ("flops",), (0,)),
    (B14, ("composed",), ("flops",), (0,)),
    (B12, ("composed",), ("tokens",), (0,)),
    (B12, ("composed",), ("flops",), (1,)),
    (B16, ("composed",), ("flops",), (0,)),
    (B14, ("composed",), ("flops",), (1,)),
    (B12, ("plain",), ("tokens",), (0,)),
    (VARIANTS, ("composed",), ("flops",), (0,)),
    (B14, ("plain",), ("flops",), (0,)),
    (B14, ("composed",), ("tokens",), (0,)),
    (B12, ("plain",), ("flops",), (1,)),
]


class Texts(NamedTuple):
    """The texts for training and measuring; `watched` is a sample of valid."""

    train: Path
    watched: Path
    valid: Path
    bench: list[Path]

    @property
    def by_name(self) -> dict[str, Path]:
        """Each text by the name of its token file; train comes last, so its file completes a vocabulary."""
        held_out = {WATCHED: self.watched, "valid": self.valid} | {path.stem: path for path in self.bench}
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
    bits, penalty = vocabulary.window_bits, vocabulary.unaligned_penalty
    match vocabulary.windows:
        case "bytes":
            return Codebook([b"", *(bytes([byte]) for byte in range(256))], bits, "greedy")
        case "packaged":
            return Codebook.load(model_path(None) / CODEBOOK_NAME)
        case "packaged published":
            return Codebook.load(model_path(None) / m1_run.BASELINE)
        case "published":
            return published(m1_run.load_m1(model_path(None)), bits, lambda _: None)
        case "refitted":
            return refit(candidates(bits), training_text(work, train), bits, penalty, lambda _: None)
        case "bpe":
            entries = peers.token_bytes(bpe_of(vocabulary, work, train).tokenizer)
            return Codebook([b"", *sorted(entries)], bits, "greedy")
        case other:
            return replace(Codebook.load(work / other / CODEBOOK_NAME), method=vocabulary.method)


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


def write_watched(valid: Path, path: Path) -> None:
    """Write an even sample of the documents of valid as JSONL."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, force=True) as sink:
        for document in peers.sample(valid, WATCHED_BYTES):
            sink.write(json.dumps({"text": document.decode()}).encode() + b"\n")


def prepare(work: Path, names: list[str], texts: Texts) -> None:
    """Complete the folders of the named vocabularies."""
    write_watched(texts.valid, texts.watched)
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
        for text_name, text_path in texts.by_name.items():
            write_tokens(text_path, folder / f"{text_name}.bin", codebook, bpe)
        shown = [f"{text_name} {bytes_per_token(folder, text_name):.3f}" for text_name in texts.by_name]
        say(f"{name}: {len(codebook.windows):,} windows; bytes/token {', '.join(shown)}")


def bytes_per_token(folder: Path, text_name: str) -> float:
    """Bytes per token of a token file, counting the ids that end documents, since M2 reads them."""
    sidecar = token_file.Sidecar.load(token_file.sidecar_path(folder / f"{text_name}.bin"))
    return sidecar.original_bytes / sidecar.tokens


# ---- train: runs and their scores


class Run(NamedTuple):
    """The training of one M2; both budgets share a run where their numbers of tokens are equal."""

    vocabulary: str
    embeddings: Embeddings
    n_tokens: int
    seed: int

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.vocabulary}-{self.embeddings}-{self.n_tokens}-seed{self.seed}"

    def folder(self, work: Path) -> Path:
        """The run folder of train-m2."""
        return work / "runs" / self.name

    def score_path(self, work: Path, text_name: str) -> Path:
        """The file with the output of `eqinfo eval` on a text."""
        return work / "scores" / self.name / f"{text_name}.json"

    def measured(self, work: Path) -> dict[str, float] | None:
        """The measurements of train-m2; None until the run is complete."""
        path = self.folder(work) / "config.json"
        found: dict[str, float] | None = (
            json.loads(path.read_bytes()).get("measured") if path.exists() else None
        )
        return found


def vocabularies(work: Path) -> list[str]:
    """The names of the prepared vocabularies."""
    return [name for name in VOCABULARIES if (work / name / "train.bin.json").exists()]


def held_out(folder: Path) -> list[str]:
    """The names of the held-out texts of a vocabulary."""
    names = {path.stem for path in folder.glob("*.bin")} - {"train", "valid", WATCHED}
    return ["valid", *sorted(names)]


@lru_cache
def codebook_of(work: Path, vocabulary: str) -> Codebook:
    """The codebook of a prepared vocabulary."""
    return Codebook.load(work / vocabulary / CODEBOOK_NAME)


def training_flops(work: Path, vocabulary: str) -> int:
    """Training FLOPs per token."""
    n_windows = len(codebook_of(work, vocabulary).windows)
    return GPTConfig(n_windows, BLOCK_SIZE, *M2_PRESETS[PRESET]).training_flops


def planned(work: Path, base_tokens: int, only: re.Pattern[str]) -> dict[Run, list[Budget]]:
    """All runs of the plan in its order, each with its budgets."""
    flops = {name: training_flops(work, name) for name in vocabularies(work)}
    runs: dict[Run, list[Budget]] = {}
    for names, ways, budgets, seeds in PLAN:
        for seed, budget, way, name in product(seeds, budgets, ways, names):
            if name not in flops or not only.search(f"{name}-{way}-{budget}-seed{seed}"):
                continue
            share = flops[BASE] / flops[name] if budget == "flops" else 1.0
            shared = runs.setdefault(Run(name, way, round(base_tokens * share), seed), [])
            if budget not in shared:
                shared.append(budget)
    return runs


class Command(NamedTuple):
    """A description, the arguments of eqinfo, and the file for its stdout."""

    what: str
    arguments: list[str]
    output: Path


def training(run: Run, work: Path) -> Command:
    """The command that starts or resumes the training of a run."""
    folder, data = run.folder(work), work / run.vocabulary
    arguments = ["train-m2", f"{data / 'train.bin'}", "-o", f"{folder}"]
    arguments += ["--model", f"{data / CODEBOOK_NAME}", "--valid", f"{data / WATCHED}.bin"]
    arguments += ["--preset", PRESET, "--tokens", f"{run.n_tokens}", "--block-size", f"{BLOCK_SIZE}"]
    arguments += ["--batch-tokens", f"{BATCH_TOKENS}", "--validations", f"{VALIDATIONS}"]
    arguments += ["--seed", f"{run.seed}", "-q"]
    if run.embeddings == "plain":
        arguments.append("--plain-embeddings")
    if (folder / "config.json").exists():
        arguments.append("--resume")
    elif folder.exists():  # killed before its config was written
        shutil.rmtree(folder)
    return Command("training", arguments, Path(os.devnull))


def scoring(run: Run, work: Path, text_name: str, output: Path) -> Command:
    """The command that evaluates a run on a text."""
    path = work / run.vocabulary / f"{text_name}.bin"
    arguments = ["eval", f"{run.folder(work)}", "--text", f"{path}", "--json"]
    return Command(f"scoring {text_name}", arguments, output)


def commands(run: Run, work: Path) -> Iterator[Command]:
    """The remaining commands of a run; take each one after the previous one has ended."""
    if run.measured(work) is None:
        yield training(run, work)
    for text_name in held_out(work / run.vocabulary):
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
            [sys.executable, "-m", "eqinfo", *command.arguments],
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
    """Complete runs that differ only in their seeds, with their measurements."""

    vocabulary: str
    embeddings: Embeddings
    budgets: list[Budget]
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


def read_score(path: Path) -> dict[str, float]:
    """The result of eval for one run on one text."""
    (found,) = json.loads(path.read_bytes())["m2"]
    score: dict[str, float] = found
    return score


def complete_rows(work: Path, plan: dict[Run, list[Budget]], texts: list[str]) -> list[Row]:
    """The complete rows of the table, in the order of VOCABULARIES."""
    rows: dict[Run, Row] = {}
    for run, budgets in sorted(plan.items(), key=lambda item: list(VOCABULARIES).index(item[0].vocabulary)):
        facts, paths = run.measured(work), {name: run.score_path(work, name) for name in texts}
        if facts is None or not all(path.exists() for path in paths.values()):
            continue
        row = rows.setdefault(run._replace(seed=0), Row(run.vocabulary, run.embeddings, budgets))
        row.runs.append(run)
        row.measured.append(facts)
        row.scores.append({name: read_score(path) for name, path in paths.items()})
    return list(rows.values())


def quality(work: Path, rows: list[Row], texts: list[str]) -> Iterator[str]:
    """The table of bits/byte and the facts of each run."""
    head = ["tokeniser", "embeddings", "budget", "seeds", "tokens, M", "text, MB", "training, s"]
    shown = []
    for row in rows:
        n_tokens = row.measured[0]["training_tokens"]
        sizes = [bytes_per_token(work / row.vocabulary, name) for name in ("train", "valid")]
        seconds = statistics.fmean(facts["training_s"] for facts in row.measured)
        budgets = ", ".join(BUDGETS[budget] for budget in row.budgets)
        cells = [row.vocabulary, row.embeddings, budgets, f"{len(row.runs)}", f"{n_tokens / 1e6:.2f}"]
        cells += [f"{n_tokens * sizes[0] / 1e6:.1f}", f"{seconds:,.0f}", f"{sizes[1]:.3f}"]
        cells += [row.shown(name, "bits_per_byte", 3) for name in texts]
        shown.append([*cells, row.shown("valid", "word_perplexity", 0)])
    yield "## Bits/byte\n"
    yield pages.paragraph(
        "Bits/byte on held-out texts: smaller is better. With several seeds, the mean ± half the range. "
        "*Text* is the amount of text that the training tokens decode to. Bytes/token and word perplexity "
        "are measured on valid."
    )
    yield pages.table([*head, "bytes/token", *texts, "word perplexity"], shown)


def opponent(vocabulary: str) -> str:
    """The BPE vocabulary of the same width, at least 12 bits, to compare a vocabulary with."""
    return f"bpe-b{max(12, VOCABULARIES[vocabulary].window_bits)}"


def percent(value: float, reference: float) -> str:
    """The relative difference from the reference, in percent."""
    return f"{value / reference - 1:+.1%}"


def compared(rows: list[Row], budget: Budget) -> Iterator[str]:
    """The table of differences from BPE and from bytes on valid, for one budget."""
    known = {(row.vocabulary, row.embeddings): row for row in rows if budget in row.budgets}
    shown = []
    for (vocabulary, embeddings), row in known.items():
        cells = []
        for other_name in (opponent(vocabulary), "bytes"):
            other = known.get((other_name, embeddings))
            if other is None or other is row:
                cells += ["", ""]
                continue
            difference = row.mean("valid", "bits_per_byte") - other.mean("valid", "bits_per_byte")
            perplexities = (of.mean("valid", "word_perplexity") for of in (row, other))
            cells += [f"{difference:+.3f}", percent(*perplexities)]
        shown.append([vocabulary, embeddings, *cells])
    if shown:
        yield f"## Differences on valid, with {BUDGETS[budget]}\n"
        yield "Differences from BPE of the same width (b12 for bytes) and from bytes; negative is better.\n"
        head = ["tokeniser", "embeddings", "bits/byte - BPE's", "word perplexity to BPE's"]
        yield pages.table([*head, "bits/byte - bytes'", "word perplexity to bytes'"], shown)


def speeds(work: Path, names: list[str]) -> Iterator[str]:
    """The table of speed."""
    rates = {name: found for name in names if (found := median_rates(work, name))}
    shown = []
    for name, found in rates.items():
        theirs, row = rates.get(opponent(name), found), [name]
        for rate, value in found.items():
            row += [f"{value:,.0f}", "" if theirs is found else percent(value, theirs[rate])]
        shown.append(row)
    if shown:
        yield "## Speed in bytes of text per second\n"
        yield pages.paragraph(
            "Measured by `eqinfo eval` in one thread, with the tokenisers taking turns; medians. The "
            "columns beside give the difference from BPE with tokens of the same width (b12 for bytes). "
            "Embeddings and budgets make no difference here, because a finished M2 stores plain matrices."
        )
        yield pages.table(["tokeniser", "scoring", "to BPE's", "generation", "to BPE's"], shown)


def validations(run: Run, work: Path) -> list[tuple[int, float]]:
    """The validations of a run: step and bits/byte."""
    lines = map(json.loads, (run.folder(work) / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], line["valid_bits_per_byte"]) for line in lines if "valid_bits_per_byte" in line]


def draw(work: Path, rows: list[Row], path: Path) -> None:
    """Draw bits/byte on the sample of valid against FLOPs, for composed embeddings and the first seed."""
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "eqinfo", "font.size": 9}):
        figure = Figure(figsize=(6.4, 4), layout="constrained")
        axes = figure.add_subplot()
        for row in rows:
            if row.embeddings == "composed" and "flops" in row.budgets and row.vocabulary not in VARIANTS:
                flops = training_flops(work, row.vocabulary) * BATCH_TOKENS
                curve = [(step * flops, bits) for step, bits in validations(row.runs[0], work)]
                twin = re.sub("b1[46]", "b12", row.vocabulary)  # determines the colour
                style = {"b14": ".--", "b16": ".:"}.get(row.vocabulary[-3:], ".-")
                colour = f"C{B12.index(twin)}"
                axes.plot(*zip(*curve, strict=True), style, color=colour, label=row.vocabulary)
        axes.set_xscale("log")
        axes.set_xlabel("training FLOPs")
        axes.set_ylabel("bits/byte, sample of valid")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.lines:
            axes.legend(frameon=False)
        figure.savefig(path, metadata={"Date": None})


def report(work: Path, plan: dict[Run, list[Budget]], base_tokens: int, output: Path | None) -> None:
    """Write the page and its figure."""
    texts = held_out(work / BASE)
    rows = complete_rows(work, plan, texts)
    n_runs = sum(len(row.runs) for row in rows)
    if not n_runs:
        sys.exit("no run is complete yet.")
    configs = [
        json.loads((run.folder(work) / "config.json").read_bytes()) for row in rows for run in row.runs
    ]
    commits = sorted({str(config["git_commit"])[:12] for config in configs})
    n_layer, n_head, n_embd = M2_PRESETS[PRESET]
    flops = base_tokens * training_flops(work, BASE)
    parts = [
        "# What windows are worth to a language model\n",
        # the outcome of the published run: check it after measuring again
        pages.paragraph(
            f"The same small M2 ({PRESET}: {n_layer} layers of width {n_embd}, {n_head} heads) was trained "
            "on one text, given as bytes, as windows by the paper's rule (*published*), as eqinfo's windows "
            "(*ours*) and as BPE tokens. With equal training FLOPs and composed embeddings, ours are at "
            "most 0.02 bits/byte worse than BPE on *valid*, clearly better than published windows and "
            "bytes, and generate more text per second than BPE. Every token file was decoded back and "
            "compared with its text. The end of a name gives the width of the tokens: b12, b14 and b16 have "
            "at most 2^12, 2^14 and 2^16 tokens."
        ),
        pages.provenance(sys.argv, ("matplotlib", "numpy", "tokenizers", "torch"))
        + f"- {n_runs} runs at commit {', '.join(commits)}; {BATCH_TOKENS:,} tokens a step in blocks of "
        f"{BLOCK_SIZE}\n"
        f"- equal tokens: {base_tokens:,}; equal FLOPs: {flops:.2e}, the training FLOPs of {BASE} on "
        "that many tokens, with output matrix and attention, without composing embeddings (once a step)\n"
        "- bytes: "
        f"{len(codebook_of(work, 'bytes').windows)} tokens\n"
        "- published: the paper's rule with greedy parse; ours: refitted windows with optimal parse; both "
        "made from the M1 in the package, at b16 the codebooks in the package\n"
        + VARIED
        * any(row.vocabulary in VARIANTS for row in rows)
        + "- bpe: merges inside words, pre-tokenised as in GPT-2, trained on a sample of "
        f"{BPE_SAMPLE_BYTES / 1e6:.0f} MB of the text\n"
        "- embeddings: composed from the bytes of the tokens, or plain\n",
        *quality(work, rows, texts),
        *(part for budget in BUDGETS for part in compared(rows, budget)),
        *speeds(work, vocabularies(work)),
        TRIED,
    ]
    if output is not None:
        figure = output.with_suffix(".svg")
        draw(work, rows, figure)
        parts.append(f"## During training\n\n![bits/byte against training FLOPs]({figure.name})\n")
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
    common.add_argument(
        "--tokens",
        type=int,
        default=3_000_000,
        help=f"training tokens of {BASE}; others follow from the budgets",
    )
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
        watched = args.work / f"{WATCHED}.jsonl"
        prepare(args.work, names, Texts(args.text, watched, args.valid, args.bench))
        return
    plan = planned(args.work, args.tokens, only)
    try:
        if args.command == "train":
            train(args.work, plan, args.workers)
        elif args.command == "time":
            take_times(args.work, plan, args.turns, args.on)
        else:
            report(args.work, plan, args.tokens, args.output)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
