"""train-m2: token files to a language model over windows, in a run folder."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from eqinfo.errors import FormatError, InputError
from eqinfo.m2.batches import TokenBatches
from eqinfo.m2.measure import total_nats
from eqinfo.m2.metrics import Metrics
from eqinfo.m2.model import GPT
from eqinfo.m2.run import (
    STAGED,
    WEIGHTS,
    Settings,
    codebook_of,
    load_codec,
    load_data,
    ngrams_of,
    read_config,
    shape_of,
)
from eqinfo.m2.token_bytes import Spelling
from eqinfo.training import run_folder
from eqinfo.training.checkpoint import save_tensors
from eqinfo.training.devices import peak_flops
from eqinfo.training.loop import Trainer
from eqinfo.training.run_folder import CHECKPOINT, Report

METRICS = "metrics.jsonl"
PASSING = (CHECKPOINT, STAGED)  # needed until the run is complete


def run(
    folder: Path, device: torch.device, report: Report, should_stop: Callable[[], bool]
) -> dict[str, Any]:
    """Continue a run and complete it.

    Args:
        folder: after `start`, or after an interrupted `run`.
        device: of this process.
        report: receives progress.
        should_stop: asked after each step; if true, the run saves a checkpoint and raises KeyboardInterrupt.

    Returns:
        The contents of config.json.

    Raises:
        FormatError: the folder holds no run, or its data have changed.
        MismatchError: the checkpoint is of another run.
        InputError: training failed.
    """
    if dist.is_initialized():
        dist.barrier()  # the first process makes the folder
    config = read_config(folder)

    def train() -> dict[str, Any]:
        return {"measured": _Run(folder, config, device, report).train(should_stop)}

    return run_folder.complete(folder, "m2", config, train, PASSING, report)


class _Run:
    """A run in its folder, in one process of it."""

    def __init__(self, folder: Path, config: dict[str, Any], device: torch.device, report: Report) -> None:
        self.folder, self.report = folder, report
        self.settings = Settings(**config["settings"])
        files = {side: [Path(name) for name in data["files"]] for side, data in config["data"].items()}
        self.data = load_data(files, self.settings)
        for side, data in self.data.items():
            found, want = data.n_tokens, config["data"][side]["tokens"]
            if (found, data.sidecar.fingerprint) != (want, config["fingerprint"]):
                raise FormatError(f"{data.name}: not the data this run began with. Start a new run.")
        train = self.data["train"]
        codebook = codebook_of(load_codec(folder, config))
        self.shape = shape_of(self.settings, train, codebook)
        torch.manual_seed(self.settings.seed)
        spelling, ngrams = None, ngrams_of(self.settings, self.shape, codebook)
        if ngrams is not None and codebook is not None:
            spelling = Spelling(codebook.windows, self.shape.n_embd)
        size = self.settings.batch_size
        self.tokens_a_step = size * self.settings.block_size
        model = GPT(self.shape, spelling, ngrams)
        self.trainer = Trainer(
            model,
            self.settings.budget,
            self.tokens_a_step,
            self.settings.lr,
            device,
            self.settings.accumulate,
        )
        if size % (self.trainer.world * self.settings.accumulate):
            raise InputError(
                f"--batch-tokens: {size} blocks cannot be shared equally by {self.trainer.world} processes "
                f"with --accumulate {self.settings.accumulate}."
            )
        if (folder / CHECKPOINT).exists():
            self.trainer.load(folder / CHECKPOINT)
        self.metrics = Metrics(folder / METRICS)
        self.peak_flops = peak_flops(device)
        if self.trainer.rank == 0:
            self.metrics.forget_after(self.trainer.step)
        if self.trainer.world > 1:
            dist.barrier()

    def train(self, should_stop: Callable[[], bool]) -> dict[str, Any]:
        """Train to the end of the budget and write the weights; the measurements, for config.json."""
        batches = TokenBatches(
            self.data["train"], self.settings.block_size, self.settings.batch_size, self.settings.seed
        )
        n = max(1, self.settings.validations)
        for k in range(len(self._validations()) + 1, n + 1):
            self.trainer.run(batches, k / n, self.folder / CHECKPOINT, self._on_step, should_stop)
            self._validate()
        self.trainer.save(self.folder / CHECKPOINT)
        if self.trainer.rank == 0:
            state = self.trainer.model.plain()
            save_tensors({name: w.to(torch.bfloat16) for name, w in state.items()}, self.folder / WEIGHTS)
        last = self._validations()[-1:]
        return {name: value for line in last for name, value in line.items() if name != "step"} | {
            "training_steps": self.trainer.step,
            "training_tokens": self.trainer.step * self.tokens_a_step,
            "training_s": round(self.trainer.time_s, 1),
            **self._rates(self.trainer.step / self.trainer.time_s if self.trainer.step else 0.0),
        }

    def _validations(self) -> list[dict[str, float]]:
        """The metrics lines of validations up to this step."""
        return [line for line in self.metrics.up_to(self.trainer.step) if "valid_loss" in line]

    def _validate(self) -> None:
        """Measure the loss on all validation data, if there are any; write its line of metrics."""
        if "valid" not in self.data or not self.settings.validations:
            return
        valid = self.data["valid"]
        nats = total_nats(self.trainer.model, valid)
        figures = {"valid_loss": nats / valid.n_tokens}
        if n_bytes := valid.sidecar.original_bytes:
            figures["valid_bits_per_byte"] = nats / math.log(2) / n_bytes
        if self.trainer.rank == 0:
            self.metrics.add(step=self.trainer.step, **figures)
        words = [f"{name} {value:.4f}" for name, value in figures.items()]
        self.report("validating", self.trainer.progress, ", ".join(words))

    def _on_step(self, trainer: Trainer[GPT]) -> None:
        """Write a step's line of metrics and report progress."""
        rates = self._rates(trainer.steps_per_s)
        loss: dict[str, float] = {"loss": trainer.loss_nats}
        if ratio := self.data["train"].bytes_per_token:
            loss["bits_per_byte"] = trainer.loss_nats / math.log(2) / ratio
        n_tokens = trainer.step * self.tokens_a_step
        if trainer.rank == 0:
            self.metrics.add(step=trainer.step, tokens=n_tokens, **loss, time_s=trainer.time_s, **rates)
        words = [f"step {trainer.step}", f"loss {trainer.loss_nats:.3f}"]
        words += [f"{loss['bits_per_byte']:.3f} bits/byte"] if "bits_per_byte" in loss else []
        words += [f"{rates['tokens_per_s']:,.0f} tokens/s"]
        words += [f"{rates['bytes_per_s']:,.0f} bytes/s"] if "bytes_per_s" in rates else []
        words += [f"MFU {rates['mfu']:.1%}"] if "mfu" in rates else []
        self.report("training", trainer.progress, ", ".join(words))

    def _rates(self, steps_per_s: float) -> dict[str, float]:
        """Tokens and bytes per second; on known GPUs the MFU, the share of their peak FLOP/s in use."""
        tokens_per_s = steps_per_s * self.tokens_a_step
        rates = {"tokens_per_s": tokens_per_s}
        if ratio := self.data["train"].bytes_per_token:
            rates["bytes_per_s"] = tokens_per_s * ratio
        if self.peak_flops:
            rates["mfu"] = tokens_per_s * self.shape.training_flops / (self.peak_flops * self.trainer.world)
        return rates
