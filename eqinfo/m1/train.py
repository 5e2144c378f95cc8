"""train-m1: text to a model folder, in rounds of training, expanding and refitting.

The folder holds plain files. When the run is complete:

    config.json     settings, versions, facts of the corpus, what was measured
    m1.eqm1         M1 as integers: what live windows and `ac` need
    codebook.eqcb   all that compress and decompress need for windows of up to 20 bits
    published.eqcb  the windows of the published rule from the same M1, to compare with

and until then `corpus/` (the staged text), `checkpoint.pt` and the codebooks of the rounds so far, from
which `resume` continues exactly.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from eqinfo.codebook.codebook import MAX_PENALTY, MAX_WINDOW_BITS, MIN_WINDOW_BITS, Codebook
from eqinfo.coder import integer_m1
from eqinfo.coder.integer_m1 import Network
from eqinfo.errors import FormatError
from eqinfo.formats.model_folder import CODEBOOK_NAME, NETWORK_NAME
from eqinfo.m1 import corpus
from eqinfo.m1.batches import RANDOM_SHARE, WINDOW_BYTES, WINDOW_SHARE, WindowBatches
from eqinfo.m1.expand import expand, live, published
from eqinfo.m1.measure import (
    bits_by_position,
    bytes_per_window,
    float_bits,
    n_unused,
    run_bits,
)
from eqinfo.m1.model import M1_PRESETS, ByteModel
from eqinfo.m1.quantise import quantise, static
from eqinfo.m1.refit import Candidates, refit
from eqinfo.system.signals import undoing
from eqinfo.training import run_folder
from eqinfo.training.loop import Budget, Trainer

Report = Callable[[str, float, str], None]  # a phase, the share of it that is done, a word about it

BASELINE, CORPUS = "published.eqcb", "corpus"
PASSING = (run_folder.CHECKPOINT, "round-*.eqcb", CORPUS)  # what only an incomplete run needs
LEARNING_RATE = 0.02
CALIBRATION_ROWS = 32  # of a batch, to read the ranges of integers off
FIRST_ROUND = 0.35  # of the budget goes to random starts, the rest equally to the start-aware rounds
DRAFT_REFIT_BYTES = 1 << 26  # of text, and
DRAFT_CANDIDATES = 4  # times 2**window_bits, for a codebook that only finds starts
REFIT_BYTES = 1 << 28
MAX_CANDIDATES = 1 << 22  # half of what a trie holds: the other half is for pairs of them


@dataclass(frozen=True)
class Settings:
    """What a run is asked to do; part of config.json, and what a resumed run must agree with."""

    window_bits: int = 16
    preset: str = "3m"
    rounds: int = 1
    steps: int | None = None
    n_bytes: int | None = None
    minutes: float | None = None
    candidates: int = 4
    unaligned_penalty: float = 1.0
    rule: str = "fitted"
    seed: int = 0
    text_field: str = "text"

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            InputError: a setting is out of range.
        """
        run_folder.check_types(self)
        run_folder.check_known(self, {"preset": M1_PRESETS, "rule": ["fitted", "live", "published"]})
        limits = {
            "window_bits": (MIN_WINDOW_BITS, MAX_WINDOW_BITS),
            "rounds": (0, 20),
            "unaligned_penalty": (0, round(MAX_PENALTY)),
            "seed": (0, 2**63 - 1),
        }
        run_folder.check_ranges(self, limits)
        run_folder.check_ranges(self, {"candidates": (2, min(64, MAX_CANDIDATES >> self.window_bits))})
        run_folder.check_positive(self, ("steps", "n_bytes", "minutes"))

    @property
    def budget(self) -> Budget:
        """The training budget."""
        return Budget.of(self.steps, self.n_bytes, M1_PRESETS[self.preset].step_bytes, self.minutes)


def start(sources: Iterable[tuple[str, BinaryIO]], folder: Path, settings: Settings, report: Report) -> None:
    """Make a model folder and stage the corpus in it.

    Raises:
        InputError: the folder exists and is not empty, or the text cannot be used.
    """
    run_folder.refuse_used(folder)
    report("reading text", 0.0, "")
    with undoing(partial(run_folder.remove, folder, CORPUS, run_folder.CONFIG)):
        facts = corpus.stage(sources, folder / CORPUS, settings.text_field)
        config = {"settings": asdict(settings), "corpus": asdict(facts), "batches": _mixture(settings)}
        run_folder.write_config(folder, "m1", config)
    report("reading text", 1.0, f"{facts.train_bytes + facts.valid_bytes:,} bytes")


def _mixture(settings: Settings) -> dict[str, float]:
    """What batches are made of, for config.json: long runs, and windows; see `windows`."""
    return {
        "run_bytes": M1_PRESETS[settings.preset].block_size,
        "window_bytes": WINDOW_BYTES,
        "window_share": WINDOW_SHARE,
        "random_share_of_window_starts": RANDOM_SHARE,
    }


def run(
    folder: Path, device: torch.device, report: Report, should_stop: Callable[[], bool]
) -> dict[str, Any]:
    """Train from where the folder stands, and complete it.

    Args:
        folder: as `start` leaves it, or as an interrupted `run` does.
        device: to train and expand on.
        report: is told of progress.
        should_stop: asked after each step; if true, a checkpoint is written and KeyboardInterrupt raised.

    Returns:
        The contents of config.json.

    Raises:
        FormatError: the folder holds no run.
        MismatchError: its checkpoint does not belong to it.
        InputError: training failed.
    """
    config = read_config(folder)
    if "measured" in config:
        run_folder.remove(folder, *PASSING)  # if it was killed before it did
        report("training", 1.0, "The run is complete already.")
        return config
    this = _Run(folder, Settings(**config["settings"]), device, report, should_stop)
    drafts: dict[str, float] = {}
    draft: Codebook | None = None
    for n in range(this.settings.rounds):
        this.train(FIRST_ROUND + (1 - FIRST_ROUND) * n / this.settings.rounds, draft)
        draft = this.draft(n)
        drafts[f"draft of round {n + 1}"] = bytes_per_window(draft, this.valid_text)
    this.train(1.0, draft)
    codebook, measured = this.finish(drafts)
    config = config | {"fingerprint": codebook.fingerprint.hex(), "measured": measured}
    run_folder.write_config(folder, "m1", config)
    run_folder.remove(folder, *PASSING)
    return config


class _Run:
    """A run in its folder: what its phases share."""

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        device: torch.device,
        report: Report,
        should_stop: Callable[[], bool],
    ) -> None:
        self.folder, self.settings = folder, settings
        self._report, self._should_stop = report, should_stop
        self.train_text, self.valid_text, _ = corpus.load(folder / CORPUS)
        torch.manual_seed(settings.seed)
        self.shape = M1_PRESETS[settings.preset]
        model, n_bytes = ByteModel(self.shape), self.shape.step_bytes
        self.trainer = Trainer(model, settings.budget, n_bytes, LEARNING_RATE, device)
        if (folder / run_folder.CHECKPOINT).exists():
            self.trainer.load(folder / run_folder.CHECKPOINT)

    def report(self, phase: str, share: float, word: str = "") -> None:
        """Tell of progress, and stop here if asked to: the last checkpoint is where this phase began."""
        self._report(phase, share, word)
        if self._should_stop():
            raise KeyboardInterrupt

    def train(self, until: float, draft: Codebook | None) -> None:
        """Train M1 until a share of the budget is spent, on the starts of a parse with the draft."""
        if not self.shape.n_layer:  # a static distribution is counted
            return
        self.trainer.run(
            self._batches(draft), until, self.folder / run_folder.CHECKPOINT, self._on_step, self._should_stop
        )
        self.trainer.save(self.folder / run_folder.CHECKPOINT)

    def _batches(self, draft: Codebook | None) -> WindowBatches:
        shape = self.shape
        return WindowBatches(self.train_text, draft, shape.batch_size, shape.block_size, self.settings.seed)

    def network(self) -> Network:
        """M1 as it is, as integers."""
        if not self.shape.n_layer:
            pieces = corpus.sample(self.train_text, self.train_text.data.size)
            return static(np.sum([np.bincount(piece.data, minlength=256) for piece in pieces], axis=0))
        idx, _ = self._batches(None)(0)
        return quantise(self.trainer.model, idx[-CALIBRATION_ROWS:].t().to(self.trainer.device))

    def _on_step(self, trainer: Trainer[ByteModel]) -> None:
        bits, rate = trainer.loss_nats / np.log(2), trainer.step * self.shape.step_bytes / trainer.time_s
        self._report("training", trainer.progress, f"{bits:.3f} bits/byte, {rate:,.0f} bytes/s")

    def draft(self, n: int) -> Codebook:
        """The codebook of M1 as it is, to find starts with in round n + 1; made once."""
        path = self.folder / f"round-{n}.eqcb"
        if not path.exists():
            candidates = self._expand(self.network(), DRAFT_CANDIDATES, f" for round {n + 1}")
            run_folder.write_file(
                path, self._refit(candidates, DRAFT_REFIT_BYTES, f" for round {n + 1}").to_bytes()
            )
        return Codebook.load(path)

    def _expand(self, integers: Network, candidates: int, suffix: str = "") -> Candidates:
        n = candidates << self.settings.window_bits
        word = f"{n:,} candidates"
        return expand(integers, n, lambda share: self.report("expanding" + suffix, share, word))

    def _refit(self, candidates: Candidates, n_bytes: int, suffix: str = "") -> Codebook:
        texts = corpus.sample(self.train_text, n_bytes)
        bits, penalty = self.settings.window_bits, self.settings.unaligned_penalty
        return refit(candidates, texts, bits, penalty, lambda share: self.report("refitting" + suffix, share))

    def finish(self, drafts: dict[str, float]) -> tuple[Codebook, dict[str, Any]]:
        """Compile M1 and write the model; the codebook asked for, and what was measured."""
        bits = self.settings.window_bits
        integers = self.network()
        candidates = self._expand(integers, self.settings.candidates)
        ours = self._refit(candidates, REFIT_BYTES)
        paper = published(integers, bits, lambda share: self.report("published rule", share))
        top = Codebook([b"", *candidates.best((1 << bits) - 1).strings], bits, "greedy")
        optimal = replace(top, method="optimal", unaligned_penalty=self.settings.unaligned_penalty)
        rows = {
            "published rule, greedy": paper,
            "most probable strings, greedy": top,
            "most probable strings, optimal": optimal,
            "refitted, optimal": ours,
        }
        codebook = {"published": paper, "fitted": ours}.get(self.settings.rule)
        if codebook is None:
            codebook = live(integers, bits, lambda share: self.report("live rule", share))
            rows["live rule, greedy"] = codebook
        measured = {
            "bytes_per_window": drafts
            | {name: bytes_per_window(codebook, self.valid_text) for name, codebook in rows.items()},
            "windows_unused": {
                "of the published rule's codewords": (1 << bits) - len(paper.windows),
                "of the codebook, by 32 MiB of the training text": n_unused(ours, self.train_text),
            },
            "bits_per_byte_by_position": bits_by_position(integers, ours, self.valid_text),
            "bits_per_byte": self._bits_per_byte(integers),
            "training_steps": self.trainer.step,
            "training_s": round(self.trainer.time_s, 1),
        }
        run_folder.write_file(self.folder / NETWORK_NAME, integer_m1.to_bytes(integers))
        run_folder.write_file(self.folder / BASELINE, paper.to_bytes())
        run_folder.write_file(self.folder / CODEBOOK_NAME, codebook.to_bytes())
        return codebook, measured

    def _bits_per_byte(self, integers: Network) -> dict[str, float]:
        """What becoming integers costs, on long runs of the held-out text."""
        bits = {"integers": run_bits(integers, self.valid_text)}
        if self.shape.n_layer:
            bits = {"floats": float_bits(self.trainer.model, self.valid_text)} | bits
        return bits


def tables(config: dict[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """What a run measured, for people: titles, each with rows of a name and a figure."""
    measured = config["measured"]
    by_position = measured["bits_per_byte_by_position"]
    return [
        (
            "M1 on held-out text, bits/byte by position in the window",
            [(f"byte {i + 1}", f"{bits:.3f}") for i, bits in enumerate(by_position) if i < 8 or i % 8 == 7],
        ),
        (
            f"bytes/window on held-out text, {config['settings']['window_bits']} bits",
            [(name, f"{value:.3f}") for name, value in measured["bytes_per_window"].items()],
        ),
        (
            "M1 on long runs of held-out text, bits/byte",
            [(f"in {name}", f"{bits:.4f}") for name, bits in measured.get("bits_per_byte", {}).items()],
        ),
        ("windows unused", [(name, f"{n:,}") for name, n in measured["windows_unused"].items()]),
    ]


def load_m1(folder: Path) -> Network:
    """M1 of a complete model folder.

    Raises:
        FormatError: the folder is incomplete, of another version or damaged.
    """
    read_config(folder)
    if not (folder / NETWORK_NAME).exists():
        raise FormatError(f"{folder}: incomplete; {NETWORK_NAME} is missing. Complete the run with --resume.")
    return integer_m1.load(folder / NETWORK_NAME)


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a model folder.

    Raises:
        FormatError: there is none, or it is damaged or of another version.
    """
    config = run_folder.read_config(folder, "m1")
    with run_folder.refusing(folder):
        config["settings"] = asdict(Settings(**config["settings"]))
        if "measured" in config:
            tables(config)
    return config
