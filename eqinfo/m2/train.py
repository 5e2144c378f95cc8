"""train-m2: token files to a language model over windows, in a run folder."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from eqinfo.errors import FormatError
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
    new_model,
    read_config,
    shape_of,
)
from eqinfo.m2.start import check_sharing, load_data
from eqinfo.m2.trained import load_weights
from eqinfo.training import run_folder
from eqinfo.training.checkpoint import save_tensors
from eqinfo.training.devices import enter, in_all, peak_flops
from eqinfo.training.loop import Trainer
from eqinfo.training.run_folder import CHECKPOINT, Report

METRICS = "metrics.jsonl"
PASSING = (STAGED,)  # needed until the run is complete
VALIDATION_SHARE = 0.02  # of the time of training, for all validations but the last, of all data
STEP_COST = 3  # time of a training step / time to measure the loss of as many tokens


def run(
    folder: Path, device: torch.device, report: Report, should_stop: Callable[[], bool]
) -> dict[str, Any]:
    """Continue a run and complete it.

    Args:
        folder: after `start`, or after an interrupted `run`.
        device: of this process.
        report: receives progress.
        should_stop: asked during and after each step; if true, the run saves a checkpoint and raises
            KeyboardInterrupt.

    Returns:
        The contents of config.json.

    Raises:
        FormatError: the folder holds no run, or its data have changed.
        MismatchError: the checkpoint is of another run.
        InputError: training failed.
        PeerError: another process of torchrun failed.
    """
    config = read_config(folder)

    def train() -> dict[str, Any]:
        enter(device)  # this is another thread
        return {"measured": in_all(lambda: _Run(folder, config, device, report, should_stop)).train()}

    return run_folder.complete(folder, "m2", config, train, PASSING, report, should_stop)


class _Run:
    """A run in its folder, in one process of it."""

    def __init__(
        self,
        folder: Path,
        config: dict[str, Any],
        device: torch.device,
        report: Report,
        should_stop: Callable[[], bool],
    ) -> None:
        self.folder, self.report, self.should_stop = folder, report, should_stop
        self.settings = Settings(**config["settings"])
        check_sharing(self.settings)
        files = {side: [Path(name) for name in data["files"]] for side, data in config["data"].items()}
        self.data = load_data(files, self.settings)
        for side, data in self.data.items():
            found, want = data.n_tokens, config["data"][side]["tokens"]
            if (found, data.sidecar.fingerprint) != (want, config["fingerprint"]):
                raise FormatError(f"{data.name}: not the data this run began with. Start a new run.")
        self.config, self.codebook = config, codebook_of(load_codec(folder, config))
        self.shape = shape_of(self.settings, self.data["train"], self.codebook)
        torch.manual_seed(self.settings.seed)
        self.tokens_a_step = self.settings.batch_size * self.settings.block_size
        self.trainer = Trainer(
            new_model(config, self.shape, self.codebook),
            self.settings.budget,
            self.tokens_a_step,
            self.settings.lr,
            device,
            self.settings.accumulate,
        )
        self.checkpoint = folder / CHECKPOINT
        if self.checkpoint.exists():
            self.trainer.load(self.checkpoint)
        self.metrics = Metrics(folder / METRICS)
        self.peak_flops = peak_flops(device)
        if self.trainer.rank == 0:
            self.metrics.forget_after(self.trainer.step)

    def train(self) -> dict[str, Any]:
        """Train to the end of the budget; the measurements of the weights that are kept, for config.json."""
        batches = TokenBatches(
            self.data["train"], self.settings.block_size, self.settings.batch_size, self.settings.seed
        )
        n = max(1, self.settings.validations) if "valid" in self.data else 1
        if (steps := self.trainer.budget.steps) is not None:  # at most one after each step
            n = min(n, max(1, steps - self.trainer.budget.from_step))
        self.report("training", self.trainer.progress, "")  # the first step may take long
        done = [line for line in self._validations() if line["step"] > self.trainer.budget.from_step]
        for k in range(len(done) + 1, n + 1):
            self.trainer.run(batches, k / n, self.checkpoint, self._on_step, self.should_stop)
            self.trainer.save(self.checkpoint)  # first, so m2.pt never has weights of a later step
            self._validate()
        rates = self._rates(self.trainer.step / self.trainer.time_s if self.trainer.step else 0.0)
        return self._measured() | {
            "training_steps": self.trainer.step,
            "training_tokens": self.trainer.step * self.tokens_a_step,
            "training_s": round(self.trainer.time_s, 1),
            **rates,
        }

    def _validations(self) -> list[dict[str, float]]:
        """The metrics lines of validations up to this step."""
        return [line for line in self.metrics.up_to(self.trainer.step) if "valid_loss" in line]

    def _validate(self) -> None:
        """Measure the loss on a sample of the validation data; keep the weights if they are the best so far.

        Without such data, the last weights are kept.
        """
        lines = self._validations()
        if lines and lines[-1]["step"] == self.trainer.step:  # a long step passes several validations
            return
        if "valid" in self.data and self.settings.validations:
            valid, block_size = self.data["valid"], self.settings.block_size
            blocks = self._sample(valid.n_blocks(block_size), lines)
            n_tokens = min(len(blocks) * block_size, valid.n_tokens)
            loss = self._loss("validating", self.trainer.model, blocks) / n_tokens
            line = {"valid_tokens": n_tokens, "valid_loss": loss, **self._bits("valid_bits_per_byte", loss)}
            words = ", ".join(f"{name} {value:.4f}" for name, value in line.items() if name != "valid_tokens")
            self.report("validating", 1.0, f"step {self.trainer.step}, {words}")
            is_best = loss <= min((line["valid_loss"] for line in lines), default=math.inf)
        else:
            line, is_best = {}, self.trainer.progress == 1
        if self.trainer.rank == 0:
            if is_best:
                state = self.trainer.model.plain()
                save_tensors({name: w.to(torch.bfloat16) for name, w in state.items()}, self.folder / WEIGHTS)
            if line:
                self.metrics.add(step=self.trainer.step, **line)
        if self.trainer.world > 1:
            dist.barrier()  # every process reads these files
        elif self.should_stop():
            self.trainer.stop(self.checkpoint)

    def _sample(self, n_blocks: int, lines: list[dict[str, float]]) -> list[int]:
        """The blocks of the validation data to measure, evenly spaced, the same ones in every validation.

        Args:
            n_blocks: how many there are.
            lines: of the validations before. The first validation decides how many blocks are measured.
        """
        if lines:
            n_tokens = lines[0].get("valid_tokens", math.inf)
        else:
            steps = (self.trainer.step - self.trainer.budget.from_step) / self.trainer.progress
            n_tokens = VALIDATION_SHARE * STEP_COST * steps * self.tokens_a_step / self.settings.validations
        n = max(1, math.ceil(min(n_tokens / self.settings.block_size, n_blocks)))
        return [n_blocks * k // n for k in range(n)]

    def _loss(self, phase: str, model: GPT, blocks: Sequence[int]) -> float:
        """The loss in nats, summed over some blocks of the validation data; counts as time of training."""
        valid = self.data["valid"]

        def task() -> float:
            return total_nats(model, valid, blocks, lambda share: self.report(phase, share, ""))

        return self.trainer.aside(task, self.checkpoint)

    def _measured(self) -> dict[str, float]:
        """The loss of the kept weights on all validation data, and that of training at the end."""
        losses = [line["loss"] for line in self.metrics.up_to(self.trainer.step) if "loss" in line]
        last = losses[-max(1, len(losses) // 10) :]
        figures = {}
        if last:
            figures["train_loss"] = sum(last) / len(last)
            figures |= self._bits("train_bits_per_byte", figures["train_loss"])
        if not (lines := self._validations()):
            return figures
        valid = self.data["valid"]
        figures["best_step"] = int(min(reversed(lines), key=lambda line: line["valid_loss"])["step"])
        model = load_weights(self.folder, self.config, self.shape, self.codebook, self.trainer.device)
        blocks = range(valid.n_blocks(self.settings.block_size))
        loss = self._loss("validating all", model, blocks) / valid.n_tokens
        self.report("validating all", 1.0, f"valid_loss {loss:.4f}")
        return figures | {"valid_loss": loss, **self._bits("valid_bits_per_byte", loss)}

    def _bits(self, name: str, loss: float) -> dict[str, float]:
        """A loss in nats/token as bits/byte, under a name; nothing if the bytes are unknown."""
        data = self.data["valid" if name.startswith("valid") else "train"]
        return {name: loss / math.log(2) / data.bytes_per_token} if data.bytes_per_token else {}

    def _on_step(self, trainer: Trainer[GPT]) -> None:
        """Write a step's line of metrics and report progress."""
        rates = self._rates(trainer.steps_per_s)
        loss = {"loss": trainer.loss_nats, **self._bits("bits_per_byte", trainer.loss_nats)}
        n_tokens = trainer.step * self.tokens_a_step
        if trainer.rank == 0:
            self.metrics.add(step=trainer.step, tokens=n_tokens, **loss, time_s=trainer.time_s, **rates)
        words = [f"step {trainer.step}", f"loss {trainer.loss_nats:.3f}"]
        words += [f"{loss['bits_per_byte']:.3f} bits/byte"] if "bits_per_byte" in loss else []
        words += [f"{rates['tokens_per_s']:,.0f} tokens/s"]
        words += [f"MFU {rates['mfu']:.1%}"] if "mfu" in rates else []
        words += [f"{rates['bytes_per_s']:,.0f} bytes/s"] if "bytes_per_s" in rates else []
        self.report("training", trainer.progress, ", ".join(words))  # a narrow terminal leaves out the last

    def _rates(self, steps_per_s: float) -> dict[str, float]:
        """Tokens and bytes per second; on known GPUs the MFU, the share of their peak FLOP/s in use."""
        tokens_per_s = steps_per_s * self.tokens_a_step
        rates = {"tokens_per_s": tokens_per_s}
        if ratio := self.data["train"].bytes_per_token:
            rates["bytes_per_s"] = tokens_per_s * ratio
        if self.peak_flops:
            rates["mfu"] = tokens_per_s * self.shape.training_flops / (self.peak_flops * self.trainer.world)
        return rates
