"""train-m1: text to a model folder, in rounds of training, expanding and refitting."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eqinfo.codebook.codebook import Codebook
from eqinfo.codebook.hugging_face import tokenizer_files
from eqinfo.coder import integer_m1
from eqinfo.coder.integer_m1 import Network
from eqinfo.formats.model_folder import CODEBOOK_NAME, NETWORK_NAME, codebook_name
from eqinfo.m1 import corpus
from eqinfo.m1.baselines import published
from eqinfo.m1.batches import WindowBatches
from eqinfo.m1.expand import Candidates, expand
from eqinfo.m1.measure import bits_by_position, bytes_per_window, float_bits, n_unused, run_bits
from eqinfo.m1.model import M1_PRESETS, ByteModel
from eqinfo.m1.quantise import quantise, static
from eqinfo.m1.refit import refit
from eqinfo.m1.run import BASELINE, CORPUS, DRAFTS, Settings, read_config
from eqinfo.training import run_folder
from eqinfo.training.loop import Trainer
from eqinfo.training.run_folder import CHECKPOINT, Report

PASSING = (CHECKPOINT, DRAFTS, CORPUS)  # needed until the run is complete
LEARNING_RATE = 0.02
CALIBRATION_ROWS = 32  # rows of a batch that calibrate the integers
FIRST_ROUND = 0.35  # share of the budget for random starts; the start-aware rounds get the rest, equally
DRAFT_REFIT_BYTES = 1 << 26  # a draft codebook only finds window starts: less text
DRAFT_CANDIDATES = 4  # and fewer candidates, times 2**window_bits
REFIT_BYTES = 1 << 29


def run(
    folder: Path, device: torch.device, report: Report, should_stop: Callable[[], bool]
) -> dict[str, Any]:
    """Continue a run and complete it.

    Args:
        folder: after `start`, or after an interrupted `run`.
        device: for training.
        report: receives progress.
        should_stop: asked during and after each step; if true, the run saves a checkpoint and raises
            KeyboardInterrupt.

    Returns:
        The contents of config.json.

    Raises:
        FormatError: the folder holds no run.
        MismatchError: the checkpoint is of another run.
        InputError: training failed.
    """
    config = read_config(folder)

    def train() -> dict[str, Any]:
        return _Run(folder, Settings(**config["settings"]), device, report, should_stop).rounds()

    return run_folder.complete(folder, "m1", config, train, PASSING, report, should_stop)


class _Run:
    """A run in its folder: state that the phases share."""

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
        if (folder / CHECKPOINT).exists():
            self.trainer.load(folder / CHECKPOINT)

    def rounds(self) -> dict[str, Any]:
        """Train in rounds and write the model; the fingerprint and the measurements, for config.json."""
        drafts: dict[str, float] = {}
        draft: Codebook | None = None
        for n in range(self.settings.rounds):
            self._train(FIRST_ROUND + (1 - FIRST_ROUND) * n / self.settings.rounds, draft)
            draft = self._draft(n)
            drafts[f"draft of round {n + 1}"] = bytes_per_window(draft, self.valid_text)
        self._train(1.0, draft)
        return self._finish(drafts)

    def _report_phase(self, phase: str, share: float, word: str = "") -> None:
        """Report progress; a request to stop ends the run here, and it resumes from a checkpoint."""
        self._report(phase, share, word)
        if self._should_stop():
            self.trainer.stop(self.folder / CHECKPOINT)

    def _train(self, until: float, draft: Codebook | None) -> None:
        """Train M1 up to a share of the budget; windows start where the draft's parse puts them."""
        if not self.shape.n_layer:  # a static distribution is counted
            return
        checkpoint = self.folder / CHECKPOINT
        self._report("training", self.trainer.progress, "")  # the first step may take long
        self.trainer.run(self._batches(draft), until, checkpoint, self._on_step, self._should_stop)
        self.trainer.save(checkpoint)

    def _batches(self, draft: Codebook | None) -> WindowBatches:
        shape = self.shape
        return WindowBatches(self.train_text, draft, shape.batch_size, shape.block_size, self.settings.seed)

    def _network(self) -> Network:
        """M1 at this point of the training, as integers."""
        if not self.shape.n_layer:
            pieces = corpus.sample(self.train_text, self.train_text.data.size)
            return static(np.sum([np.bincount(piece.data, minlength=256) for piece in pieces], axis=0))
        idx, _ = self._batches(None)(0)
        return quantise(self.trainer.model, idx[-CALIBRATION_ROWS:].t().to(self.trainer.device))

    def _on_step(self, trainer: Trainer[ByteModel]) -> None:
        bits, rate = trainer.smooth_nats / np.log(2), trainer.steps_per_s * self.shape.step_bytes
        words = f"step {trainer.step}, {bits:.3f} bits/byte, {rate:,.0f} bytes/s"
        self._report("training", trainer.progress, words)

    def _draft(self, n: int) -> Codebook:
        """The codebook that finds window starts in round n + 1; made once, then read from the folder."""
        path = self.folder / f"round-{n}.eqcb"
        if not path.exists():
            suffix = f" for round {n + 1}"
            bits = self.settings.window_bits
            candidates = self._expand(self._network(), DRAFT_CANDIDATES, bits, suffix)
            draft = self._refit(candidates, DRAFT_REFIT_BYTES, bits, suffix)
            run_folder.write_file(path, draft.to_bytes())
        return Codebook.load(path)

    def _expand(self, integers: Network, candidates: int, bits: int, suffix: str = "") -> Candidates:
        n = candidates << bits
        word = f"{n:,} candidates"
        return expand(integers, n, lambda share: self._report_phase("expanding" + suffix, share, word))

    def _refit(self, candidates: Candidates, n_bytes: int, bits: int, suffix: str = "") -> Codebook:
        texts, penalty = corpus.sample(self.train_text, n_bytes), self.settings.unaligned_penalty
        phase = "refitting" + suffix
        return refit(candidates, texts, bits, penalty, lambda share: self._report_phase(phase, share))

    def _finish(self, drafts: dict[str, float]) -> dict[str, Any]:
        """Write M1 as integers, the codebook and the baseline; measure them on held-out text."""
        bits = self.settings.window_bits
        integers = self._network()
        widths = self.settings.widths
        candidates = self._expand(integers, self.settings.candidates, max(widths))
        refitted = {}
        for width in widths:
            suffix = f" for {width} bits" if len(widths) > 1 else ""
            own = candidates.best(self.settings.candidates << width)
            refitted[width] = self._refit(own, REFIT_BYTES, width, suffix)
        ours = refitted[bits]
        paper = published(integers, bits, lambda share: self._report_phase("published rule", share))
        top = Codebook([b"", *candidates.best((1 << bits) - 1).strings], bits, "greedy")
        optimal = replace(top, method="optimal", unaligned_penalty=self.settings.unaligned_penalty)
        rows = {
            "published rule, greedy": paper,
            "most probable strings, greedy": top,
            "most probable strings, optimal": optimal,
            "refitted, optimal": ours,
        } | {f"refitted, optimal, {width} bits": refitted[width] for width in widths[1:]}
        bytes_a_window = dict(drafts)
        for n, (name, codebook) in enumerate(rows.items()):
            self._report_phase("measuring", n / (len(rows) + 1))
            bytes_a_window[name] = bytes_per_window(codebook, self.valid_text)
        self._report_phase("measuring", len(rows) / (len(rows) + 1))
        codebook = paper if self.settings.rule == "published" else ours
        measured = {
            "bytes_per_window": bytes_a_window,
            "windows_unused": {
                "of the published rule's codewords": (1 << bits) - len(paper.windows),
                "of the codebook, by 32 MiB of the training text": n_unused(codebook, self.train_text),
            },
            "bits_per_byte_by_position": bits_by_position(integers, codebook, self.valid_text),
            "bits_per_byte": self._bits_per_byte(integers),
            "training_steps": self.trainer.step,
            "training_s": round(self.trainer.time_s, 1),
        }
        self._report_phase("measuring", 1.0)
        run_folder.write_file(self.folder / NETWORK_NAME, integer_m1.to_bytes(integers))
        run_folder.write_file(self.folder / BASELINE, paper.to_bytes())
        for width in widths[1:]:
            run_folder.write_file(self.folder / codebook_name(width), refitted[width].to_bytes())
        if codebook.method == "optimal":
            for name, data in tokenizer_files(codebook).items():
                run_folder.write_file(self.folder / name, data)
        run_folder.write_file(self.folder / CODEBOOK_NAME, codebook.to_bytes())
        return {"fingerprint": codebook.fingerprint.hex(), "measured": measured}

    def _bits_per_byte(self, integers: Network) -> dict[str, float]:
        """M1's loss on long runs of held-out text, before and after quantisation."""
        bits = {"integers": run_bits(integers, self.valid_text)}
        if self.shape.n_layer:
            bits = {"floats": float_bits(self.trainer.model, self.valid_text)} | bits
        return bits
