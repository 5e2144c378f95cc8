"""Compares the same M2 trained on bytes, windows and BPE tokens of the same text, as budgets grow.

    python examples/benchmarks/compare_tokenisers.py prepare --work cmp/ --text train.jsonl.zst \
        --valid valid.jsonl.zst --bench alice29.txt asyoulik.txt lcet10.txt --kinds broad-valid.jsonl.zst
    python examples/benchmarks/compare_tokenisers.py train --work cmp/ --workers 2
    python examples/benchmarks/compare_tokenisers.py time --work cmp/
    python examples/benchmarks/compare_tokenisers.py report --work cmp/ -o results.md

`prepare` makes one folder per vocabulary, with its codebook and token files, which are decoded back and
compared. `train` trains and evaluates the runs of the ladder (`ladder.py`), the lowest rungs first. `time`
measures speed and needs an idle machine. `report` writes the page and its figure (`ladder_page.py`) from the
runs that are complete. Existing results are kept, so every command can be stopped and started again, over
several days if need be.

`report --mixed mix/` adds runs on text of all kinds:

    python examples/mix.py train.jsonl.zst broad-train.jsonl.zst --megabytes 120 -o all.jsonl
    python examples/benchmarks/contamination.py all.jsonl valid.jsonl.zst broad-valid.jsonl.zst \
        alice29.txt asyoulik.txt lcet10.txt --clean mix.jsonl
    python examples/benchmarks/compare_tokenisers.py prepare --work mix/ --text mix.jsonl ... # as above
    python examples/benchmarks/compare_tokenisers.py train --work mix/ \
        --only '^(ours|bpe)-b1[24]-same-nano-4000000-seed0'
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import lru_cache
from itertools import islice, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import peers
from kinds_page import group
from ladder import (
    BATCH_TOKENS,
    BLOCK_SIZE,
    BPE_SAMPLE_BYTES,
    GROUP_CHARACTERS,
    KNOWING,
    LADDER,
    VOCABULARIES,
    Run,
    Vocabulary,
    bytes_per_token,
    folder_of,
    held_out,
    planned,
)
from ladder_page import write_page

from eqinfo.codebook.codebook import Codebook
from eqinfo.formats import token_file
from eqinfo.formats.codec import CodebookCodec
from eqinfo.formats.eqi import Totals
from eqinfo.formats.id_file import token_type
from eqinfo.formats.model_folder import CODEBOOK_NAME, model_path
from eqinfo.m1 import corpus
from eqinfo.m1 import run as m1_run
from eqinfo.m1 import train as m1_train
from eqinfo.m1.baselines import published
from eqinfo.m1.expand import Candidates, expand
from eqinfo.m1.refit import refit
from eqinfo.system.atomic_files import NamedSink, replacing
from eqinfo.text import decompression
from eqinfo.text.frames import Frame, frames_of_pieces

BPE_BATCH = 256  # documents
PENALTY = m1_run.Settings().unaligned_penalty  # of a cut inside a word


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


def write_kinds(path: Path, folder: Path) -> list[Path]:
    """Write a JSONL file for each group of kinds: GROUP_CHARACTERS, from the start of each kind alike."""
    texts: dict[str, dict[str, list[str]]] = {}
    for kind, text in peers.read_kinds(path):
        texts.setdefault(group(kind), {}).setdefault(kind, []).append(text)
    folder.mkdir(parents=True, exist_ok=True)
    for name, kinds in texts.items():
        with (folder / f"{name}.jsonl").open("w") as target:
            for documents in kinds.values():
                room = GROUP_CHARACTERS // len(kinds)
                for text in documents:
                    if room:
                        print(json.dumps({"text": text[:room]}), file=target)
                        room -= len(text[:room])
    return [folder / f"{name}.jsonl" for name in texts]


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
    dtype = token_type(codebook.window_bits)
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
            sidecar = token_file.write(frames(path), sink, CodebookCodec(codebook))
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


# ---- train: runs and their scores


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
    preparing.add_argument("--kinds", type=Path, help="JSONL of other kinds of text to measure on")
    common.add_argument("--rungs", type=int, default=len(LADDER), help="only so many rungs, the lowest ones")
    training = commands.add_parser("train", parents=[common], help="train and evaluate the runs of the plan")
    training.add_argument("--workers", type=int, default=1, help="runs in parallel")
    timing = commands.add_parser("time", parents=[common], help="measure speed on an idle machine")
    timing.add_argument("--turns", type=int, default=3, help="turns of which the median is taken")
    timing.add_argument("--on", default="asyoulik", help="text to measure speed on")
    reporting = commands.add_parser("report", parents=[common], help="write the page and its figure")
    reporting.add_argument("--mixed", type=Path, help="folder of runs on text of all kinds, to show as well")
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
        kinds = write_kinds(args.kinds, args.work / "kinds") if args.kinds else []
        prepare(args.work, names, Texts(args.text, args.valid, [*args.bench, *kinds]))
        return
    plan = planned(args.work, LADDER[: args.rungs], only)
    if not plan:
        sys.exit(f"{args.work}: no run of that name. Prepare its vocabulary, and BPE's of its bits, first.")
    try:
        if args.command == "train":
            train(args.work, plan, args.workers)
        elif args.command == "time":
            take_times(args.work, plan, args.turns, args.on)
        else:
            mixed_plan = planned(args.mixed, LADDER, only) if args.mixed else {}
            write_page(args.work, plan, args.mixed, mixed_plan, args.output)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
