"""The training loop of M1 and M2; it knows no model.

- A batch is a pure function of the step. So a checkpoint needs no random state and no data position: weights,
  optimiser states, step and time are enough to resume a run exactly.
- The learning rate is a pure function of progress (`schedule`).
- Muon trains the matrices of the layers, Adagrad the tables of which a step touches few rows, AdamW the rest.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Generic, NoReturn, Protocol, Self, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from eqinfo.errors import InputError, MismatchError, PeerError
from eqinfo.training.background import may_be_left
from eqinfo.training.checkpoint import first_line, load_tensors, save_tensors
from eqinfo.training.devices import bfloat16, compiled, rank_and_world
from eqinfo.training.schedule import Budget, learning_rate


class Trainable(Protocol):
    """The part of a model that the loop uses; the last five methods are those of `nn.Module`.

    Attributes:
        config: the shape; its `training_flops` are the FLOPs per token of training.
        blocks: the layers, whose matrices Muon updates.
    """

    config: Any
    blocks: nn.ModuleList

    def sparse_parameters(self) -> list[nn.Parameter]:
        """Tables of which a step uses, and updates, a few rows only. Their gradients are sparse."""

    def composed(self, idx: Tensor, /) -> tuple[Tensor, ...]:
        """What M2 computes once a step for all calls of `loss` on parts of a batch; M1 has nothing such."""

    def loss(self, idx: Tensor, targets: Tensor, /, *composed: Any, **_: Any) -> Tensor:
        """Loss in nats, summed over targets that are not -1."""

    def to(self, device: torch.device, /) -> Self: ...  # noqa: D102 - nn.Module's
    def train(self, mode: bool = True, /) -> Self: ...  # noqa: D102 - nn.Module's
    def parameters(self) -> Iterator[nn.Parameter]: ...  # noqa: D102 - nn.Module's
    def state_dict(self) -> dict[str, Any]: ...  # noqa: D102 - nn.Module's
    def load_state_dict(self, state: Mapping[str, Any], /) -> object: ...  # noqa: D102 - nn.Module's


Model = TypeVar("Model", bound=Trainable)
R = TypeVar("R")

Batches = Callable[[int], tuple[Tensor, Tensor]]  # step -> inputs and targets, each (B, T) int64

CHECKPOINT_EVERY_S = 120.0  # by the clock on the wall
SMOOTHING_STEPS = 50  # in the loss that people watch
SPARSE_RATE = 10.0  # times the learning rate: a row moves only in steps that touch it, and less each time
# torch.compile takes a minute of a CPU core; these are a quarter of an hour of one, and on a GPU some seconds
WORTH_COMPILING_FLOPS = {"cpu": 1e14, "cuda": 1e15}


class Trainer(Generic[Model]):
    """A model in training: model, optimisers, step and time.

    Under torchrun every process has a trainer. Each computes the gradient of its rows of every batch; the sum
    of the gradients updates every copy of the model, so the copies stay equal.
    """

    step: int
    time_s: float
    loss_nats: float

    def __init__(
        self,
        model: Model,
        budget: Budget,
        tokens_a_step: int,
        lr: float,
        device: torch.device,
        accumulate: int = 1,
    ) -> None:
        self.model: Model = model.to(device)
        self.budget = budget
        self.device = device
        self.accumulate = accumulate
        self.rank, self.world = rank_and_world()
        self.step, self.time_s, self.loss_nats = 0, 0.0, float("nan")
        self.smooth_nats, self._n_seen, self._steps_s = 0.0, 0, 0.0  # since this process started
        self._saved_at = time.monotonic()
        self.optimisers = configure_optimizers(model, lr)
        self.dense = _parameters_except(model, model.sparse_parameters())
        flops = model.config.training_flops * tokens_a_step * (budget.steps or 0)
        self._is_to_compile = flops > WORTH_COMPILING_FLOPS[device.type] or (budget.minutes or 0) >= 10
        self._loss: Callable[..., Tensor] = model.loss

    @property
    def progress(self) -> float:
        """The share of the budget that is spent."""
        return self.budget.progress(self.step, self.time_s)

    @property
    def steps_per_s(self) -> float:
        """Steps per second since this process started or resumed the run; 0 before its first step."""
        return self._n_seen / self._steps_s if self._n_seen else 0.0

    def run(
        self,
        batches: Batches,
        until: float,
        checkpoint: Path,
        on_step: Callable[["Trainer[Model]"], None],
        should_stop: Callable[[], bool],
    ) -> None:
        """Train until the progress reaches `until`.

        Args:
            batches: called with the step; inputs and targets, each (B, T) int64.
            until: in [0, 1].
            checkpoint: path; written every CHECKPOINT_EVERY_S seconds and before KeyboardInterrupt.
            on_step: called after every step.
            should_stop: called after every step, in every process. `in_background` leaves a long step.

        Raises:
            InputError: the loss is not finite; the checkpoint stays as it was.
            KeyboardInterrupt: should_stop returned true in a process; it says what was written.
        """
        self.model.train()
        while self.progress < until:
            started = time.monotonic()
            for optimiser in self.optimisers:
                for group in optimiser.param_groups:
                    group["lr"] = optimiser.defaults["lr"] * learning_rate(self.progress)
            with self._may_be_left(checkpoint):
                if self._is_to_compile:
                    self._loss = compiled(self.model.loss, self.device, should_stop)
                    self._is_to_compile = False
                loss = self._gradients(*batches(self.step))
            torch.nn.utils.clip_grad_norm_(self.dense, 1.0)
            for optimiser in self.optimisers:
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
            spent_s = time.monotonic() - started
            clock_and_stop = torch.tensor([spent_s, float(should_stop())], device=self.device)
            facts = torch.cat([loss.view(1), clock_and_stop])  # (3,)
            self.loss_nats, summed_s, stop = self._summed(facts).tolist()
            if not self.loss_nats < float("inf"):
                if self.rank:
                    raise PeerError("the first process says so")
                raise InputError(
                    f"training: the loss is not finite at step {self.step}. "
                    "Start a new run, with a lower learning rate (train-m2: --lr)."
                )
            self.step += 1
            self.time_s += summed_s / self.world
            self._steps_s += summed_s / self.world
            if self.step == self.budget.from_step + 1:  # a step that compiles would use up the warm-up
                self.budget = replace(self.budget, from_s=self.time_s)
            self._n_seen += 1
            weight = 1 / min(self._n_seen, SMOOTHING_STEPS)
            self.smooth_nats += weight * (self.loss_nats - self.smooth_nats)
            on_step(self)
            if stop:
                self.stop(checkpoint)
            if time.monotonic() - self._saved_at > CHECKPOINT_EVERY_S:
                self.save(checkpoint)

    def stop(self, checkpoint: Path) -> NoReturn:
        """Write a checkpoint and raise KeyboardInterrupt, which says what was written."""
        self.save(checkpoint)
        raise KeyboardInterrupt(f"{checkpoint} holds step {self.step:,}")

    def aside(self, task: Callable[[], R], checkpoint: Path) -> R:
        """The result of a task that is no step, such as a validation; its time counts as training time.

        Every process runs the task. It leaves the model as it is; `run` describes the checkpoint.
        """
        started = time.monotonic()
        with self._may_be_left(checkpoint):
            result = task()
        spent_s = torch.tensor(time.monotonic() - started, device=self.device)
        self.time_s += self._summed(spent_s).item() / self.world
        return result

    def _may_be_left(self, checkpoint: Path) -> AbstractContextManager[None]:
        """A block that changes no weight. If it is left, a checkpoint is written."""
        if self.world > 1:  # it waits for other processes, which must not be left alone
            return nullcontext()
        return may_be_left(lambda: self.stop(checkpoint))

    def _summed(self, facts: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.world > 1:
            dist.all_reduce(facts)
        return facts

    def _gradients(self, idx: Tensor, targets: Tensor) -> Tensor:
        """Compute the gradients of the mean loss of a batch; this process's share of that loss, ()."""
        n_targets = int((targets >= 0).sum())
        mine = slice(self.rank, None, self.world)
        parts = zip(idx[mine].chunk(self.accumulate), targets[mine].chunk(self.accumulate), strict=True)
        # Composed once per step: the parts sum their gradients in the leaves, and one backward pass goes on.
        # All processes compose for the whole batch, so that their gradients have the same rows.
        composed = self.model.composed(idx.to(self.device))
        leaves = [tensor.detach().requires_grad_(tensor.requires_grad) for tensor in composed]
        total = torch.zeros((), device=self.device)
        for part in parts:
            inputs, outputs = (t.to(self.device, non_blocking=True) for t in part)  # (B / world / parts, T)
            with bfloat16(self.device):
                loss = self._loss(inputs, outputs, *leaves) / n_targets
            torch.autograd.backward(loss)
            total += loss.detach()
        if any(tensor.requires_grad for tensor in composed):
            torch.autograd.backward(
                [tensor for tensor in composed if tensor.requires_grad],
                [leaf.grad for leaf in leaves if leaf.requires_grad],
            )
        if self.world > 1:
            pending = [dist.all_reduce(_values(p), async_op=True) for p in self.model.parameters()]
            for work in pending:
                work.wait()
        return total

    def save(self, path: Path) -> None:
        """Write a checkpoint atomically; under torchrun the first process alone writes."""
        if self.rank:
            return
        state = {
            "step": self.step,
            "time_s": self.time_s,
            "budget": asdict(self.budget),
            "model": self.model.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
        }
        save_tensors(state, path)
        self._saved_at = time.monotonic()

    def load(self, path: Path) -> None:
        """Restore a checkpoint. Under another budget than its own, the schedule begins anew.

        Raises:
            MismatchError: it is damaged or of another model.
        """
        state = load_tensors(path, self.device)
        try:
            self.model.load_state_dict(state["model"])
            for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(saved)
            self.step, self.time_s = state["step"], state["time_s"]
            if type(self.step) is not int or self.step < 0 or not 0 <= self.time_s < float("inf"):
                raise ValueError(f"step {self.step!r} after {self.time_s!r} s")
            before = Budget(**state.get("budget", asdict(self.budget)))
            self.budget = self.budget.extended(before, self.step, self.time_s)
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise MismatchError(f"{path}: not a checkpoint of this model ({first_line(error)}).") from None


def _values(parameter: nn.Parameter) -> Tensor:
    """The gradient of a parameter; of a sparse one, its rows."""
    gradient = parameter.grad
    assert gradient is not None
    return gradient._values() if gradient.is_sparse else gradient


def _parameters_except(model: Trainable, others: Sequence[nn.Parameter]) -> list[nn.Parameter]:
    """The parameters of a model that are none of these."""
    return [p for p in model.parameters() if all(p is not other for other in others)]


def configure_optimizers(model: Trainable, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for embeddings, head and norms, Adagrad for n-grams."""
    hidden = [p for p in model.blocks.parameters() if p.dim() == 2]
    sparse = model.sparse_parameters()
    rest = _parameters_except(model, [*hidden, *sparse])
    optimisers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    ]
    if hidden:
        optimisers.append(torch.optim.Muon(hidden, lr=lr, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"))
    if sparse:
        # Adagrad warns that it does not check its sparse tensors unless that was said.
        torch.sparse.check_sparse_tensor_invariants.disable()  # type: ignore[no-untyped-call]
        optimisers.append(torch.optim.Adagrad(sparse, lr=SPARSE_RATE * lr))
    return optimisers
