"""Measures what a training step of M2 costs on a CPU, and what the choices in it gain.

    python examples/benchmarks/training.py train.bin -m codebook.eqcb -o training.md

Sections that compare losses use real tokens, sections that compare times random ones. Variants take turns in
one process with one thread and are compared by CPU time, which other programs disturb less than wall-clock
time; memory is measured in new processes. This script does not measure GPUs or the quality of trained models.
"""

import argparse
import math
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pages
import torch
import torch.nn.functional as F
from peers import timings
from processes import children_cpu_s, fresh
from torch import Tensor

from eqinfo.codebook.codebook import Codebook
from eqinfo.coder.integer_m1 import BOS
from eqinfo.formats.model_folder import codebook_path
from eqinfo.m1.model import M1_PRESETS, ByteModel
from eqinfo.m1.train import LEARNING_RATE
from eqinfo.m2 import batches as m2_batches
from eqinfo.m2 import loss
from eqinfo.m2.model import GPT, M2_PRESETS, GPTConfig
from eqinfo.m2.token_bytes import ByteNgrams, Spelling
from eqinfo.training import devices, loop
from eqinfo.training.loop import Batches, Trainer
from eqinfo.training.schedule import Budget

CPU = torch.device("cpu")
BLOCK_SIZE = 256
LARGE, SMALL = 1 << 16, 1 << 12  # vocabulary sizes
SLICES = (128, 256, 512, 1024)  # tokens per slice
LOSS_TOLERANCE = 0.02  # relative error of gradients; bfloat16 has 8 significant bits

# Optimiser of the matrices between layers; AdamW trains the rest at the full learning rate in all three.
MUON, ADAMW, SLOWER_ADAMW = "Muon", "AdamW", "AdamW at a third of the rate"
LEARNING_RATES = {MUON: (0.003, 0.01, 0.03), ADAMW: (0.001, 0.003, 0.01), SLOWER_ADAMW: (0.003, 0.01, 0.03)}
LAST_STEPS = 10  # the final loss is the mean of these

# Settings that users can choose; PyTorch's default is one thread per core.
THREADS = {
    "1 thread": {"OMP_NUM_THREADS": "1"},
    "2 threads": {"OMP_NUM_THREADS": "2"},
    "2 threads, OMP_WAIT_POLICY=passive": {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"},
} | {
    f"2 threads, GOMP_SPINCOUNT={n}": {"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": str(n)}
    for n in (300, 1000, 3000, 30_000)
}

T = TypeVar("T")


class Scale(NamedTuple):
    """Sizes and repetitions of the measurements."""

    batch_tokens: int
    runs: int  # turns of which the median is taken
    steps: int  # training steps with each optimiser
    timed_steps: int  # steps in each process of the sections on threads and torch.compile
    rounds: int  # processes per setting of threads


FULL = Scale(batch_tokens=8192, runs=3, steps=49, timed_steps=8, rounds=3)
QUICK = Scale(batch_tokens=512, runs=1, steps=12, timed_steps=2, rounds=1)


# ---- the loss


class Shape(NamedTuple):
    """The shape of the inputs of the loss."""

    n_tokens: int
    n_embd: int
    vocab_size: int


Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def loss_of(slice_tokens: int | None) -> Loss:
    """The sliced loss with `slice_tokens` per slice, or the plain loss, which computes all logits at once."""

    def plain(x: Tensor, head: Tensor, targets: Tensor) -> Tensor:
        logits = F.linear(x, head).float()
        return F.cross_entropy(logits, targets, ignore_index=-1, reduction="sum")

    def chunked(x: Tensor, head: Tensor, targets: Tensor) -> Tensor:
        loss.SLICE_ELEMENTS["cpu"], loss.MIN_SLICE_TOKENS = 0, slice_tokens or 0
        return loss.cross_entropy(x, head, targets)

    return chunked if slice_tokens else plain


def random_inputs(shape: Shape) -> tuple[Tensor, Tensor, Tensor]:
    """A stream, an output matrix and targets from a fixed seed; logits have about unit variance."""
    torch.manual_seed(0)
    x = torch.randn(shape.n_tokens, shape.n_embd, requires_grad=True)
    head = torch.empty(shape.vocab_size, shape.n_embd).normal_(std=shape.n_embd**-0.5).requires_grad_()
    return x, head, torch.randint(shape.vocab_size, (shape.n_tokens,))


def gradients(slice_tokens: int | None, inputs: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
    """The mean loss and its gradients by the stream and by the output matrix, as `Trainer` takes them."""
    x, head, targets = inputs
    x.grad = head.grad = None
    with devices.bfloat16(CPU):
        mean = loss_of(slice_tokens)(*inputs) / len(targets)
    torch.autograd.backward(mean)
    assert x.grad is not None
    assert head.grad is not None
    return [mean.detach(), x.grad, head.grad]


def loss_cpu_s(shape: Shape, runs: int) -> list[float]:
    """CPU time of forward and backward of the plain loss, then of each of SLICES, after comparing two."""
    inputs = random_inputs(shape)
    for a, b in zip(gradients(SLICES[1], inputs), gradients(None, inputs), strict=True):
        if not (a - b).norm() <= LOSS_TOLERANCE * b.norm():
            sys.exit(f"{shape}: the losses differ; no figure is printed.")
    found = timings({str(n): partial(gradients, n, inputs) for n in (None, *SLICES)}, runs)
    return [timing.cpu_s for timing in found.values()]


def loss_peak_bytes(shape: Shape, slice_tokens: int | None) -> int:
    """The growth of this process's peak memory by forward and backward; the process must be new."""
    gradients(slice_tokens, random_inputs(Shape(64, 64, 64)))  # loads what the first call needs
    inputs = random_inputs(shape)
    before = peak_bytes()
    gradients(slice_tokens, inputs)
    return peak_bytes() - before


def peak_bytes() -> int:
    """The peak resident memory of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def losses(scale: Scale) -> Iterator[str]:
    """The section on the loss: time and memory."""
    shapes = [Shape(scale.batch_tokens, n_embd, v) for v in (SMALL, LARGE) for n_embd in (128, 512)]
    chosen = [max(loss.MIN_SLICE_TOKENS, loss.SLICE_ELEMENTS["cpu"] // shape.vocab_size) for shape in shapes]
    head = ["", *(f"V {shape.vocab_size:,}, width {shape.n_embd}" for shape in shapes)]

    def row(slice_tokens: int | None, shown: list[str]) -> list[str]:
        if slice_tokens is None:
            return ["plain, all at once", *shown]
        pairs = zip(shown, chosen, strict=True)
        return [f"slices of {slice_tokens}", *(f"**{a}**" if n == slice_tokens else a for a, n in pairs)]

    times = [fresh({}, loss_cpu_s, shape, scale.runs) for shape in shapes]
    yield f"## The loss: forward and backward of {scale.batch_tokens:,} tokens\n"
    yield pages.paragraph(
        "CPU time of the loss and its gradients for V ids and a stream of the given width. The first row is "
        "in seconds, the others are shares of it. `eqinfo.m2.loss` computes the logits of one slice of "
        "tokens at a time with their gradient, so the logits of all tokens never exist at once. The slice "
        "that the package uses is bold. Each slice adds to the gradient of the whole output matrix, so "
        "small slices are slow where that matrix is large."
    )
    rows = [row(None, [f"{found[0]:.2f} s" for found in times])]
    rows += [row(n, [f"{found[k] / found[0]:.2f}" for found in times]) for k, n in enumerate(SLICES, 1)]
    yield pages.table(head, rows)

    yield "The growth of a new process's peak memory by the same work, in MB, gradients included:\n"
    rows = []
    for n in (None, *SLICES):
        rows.append(row(n, [f"{fresh({}, loss_peak_bytes, shape, n) / 1e6:,.0f}" for shape in shapes]))
    logits = [f"{4 * shape.n_tokens * shape.vocab_size / 1e6:,.0f}" for shape in shapes]
    yield pages.table(head, [*rows, ["*all logits in float32, computed*", *logits]])


# ---- a step of training


def trainer_of(config: GPTConfig, windows: list[bytes] | None, steps: int, lr: float = 0.01) -> Trainer:
    """A trainer with a new model that knows windows' bytes, but not cuts; nothing if windows is None."""
    knowing = [] if windows is None else [kind(windows, config.n_embd) for kind in (Spelling, ByteNgrams)]
    return Trainer(GPT(config, *knowing), Budget(steps=steps), 0, lr, CPU)


def m2_config(preset: str, vocab_size: int) -> GPTConfig:
    """The shape of a preset of M2."""
    return GPTConfig(vocab_size, BLOCK_SIZE, *M2_PRESETS[preset])


def m1_training(
    preset: str, steps: int, device: torch.device = CPU, step_bytes: int = 0
) -> tuple[Trainer[ByteModel], Batches]:
    """A trainer with a new M1, and batches that are the same random letters in every step.

    Args:
        preset: of M1.
        steps: how many there will be.
        device: to train on.
        step_bytes: what the trainer takes a step for; from some size on it compiles the model.
    """
    shape = M1_PRESETS[preset]
    trainer = Trainer(ByteModel(shape), Budget(steps=steps), step_bytes, LEARNING_RATE, device)
    torch.manual_seed(0)
    rows = torch.randint(97, 123, (shape.batch_size, shape.block_size + 1))
    rows[:, 0] = BOS
    return trainer, lambda step: (rows[:, :-1], rows[:, 1:])


def random_batch(vocab_size: int, n_tokens: int) -> Batches:
    """Batches that are the same random ids in every step."""
    torch.manual_seed(0)
    blocks = torch.randint(vocab_size, (max(1, n_tokens // BLOCK_SIZE), BLOCK_SIZE + 1))
    return lambda step: (blocks[:, :-1], blocks[:, 1:])


def one_step(trainer: Trainer, batches: Batches) -> float:
    """Train for one step without writing a checkpoint; the loss in nats."""
    steps = trainer.budget.steps
    assert steps is not None
    nowhere = Path(os.devnull)
    trainer.run(batches, (trainer.step + 1) / steps, nowhere, lambda _: None, lambda: False)
    return trainer.loss_nats


def composing_cpu_s(preset: str, codebook: Path | None, scale: Scale) -> list[float]:
    """CPU time of a step with composed embeddings, of composing alone, and of a step with plain ones."""
    windows = Codebook.load(codebook_path(codebook)).windows
    config = m2_config(preset, len(windows))
    batches = random_batch(len(windows), scale.batch_tokens)
    steps = scale.runs + 1
    composed = trainer_of(config, windows, steps)
    plain = trainer_of(config, None, steps)

    def compose() -> None:
        parts = [part for part in composed.model.composed(batches(0)[0]) if part.requires_grad]
        torch.autograd.backward(parts, [torch.ones_like(part) for part in parts])
        composed.model.zero_grad(set_to_none=True)

    work: dict[str, Callable[[], object]] = {
        "composed": partial(one_step, composed, batches),
        "composing": compose,
        "plain": partial(one_step, plain, batches),
    }
    return [timing.cpu_s for timing in timings(work, scale.runs).values()]


def embeddings(codebooks: list[Path | None], scale: Scale) -> Iterator[str]:
    """The section on the cost of composing embeddings."""
    rows = []
    for codebook in codebooks:
        vocab_size = len(Codebook.load(codebook_path(codebook)).windows)
        for preset in ("nano", "3m"):
            step, composing, plain = fresh({}, composing_cpu_s, preset, codebook, scale)
            row = [f"{step:.2f}", f"{composing:.3f}", f"{composing / step:.1%}", f"{step / plain:.3f}"]
            rows.append([f"{preset}, {vocab_size:,} windows", *row])
    yield f"## Byte-composed embeddings: their share of a step of {scale.batch_tokens:,} tokens\n"
    yield pages.paragraph(
        "*Composing* is `GPT.composed`, forward and backward. Its larger part, the spelling, costs the same "
        "whatever the batch size, so its share falls as the batch grows. The last column divides the step by "
        "one with plain embeddings, so it also counts the optimiser's work on the byte vectors."
    )
    yield pages.table(["", "step, CPU s", "composing, CPU s", "share", "step / plain step"], rows)


# ---- optimisers


def with_optimiser(trainer: Trainer, name: str) -> Trainer:
    """The trainer with Muon replaced by another optimiser with the same weight decay."""
    if name == MUON:
        return trainer
    kinds = [type(optimiser) for optimiser in trainer.optimisers]
    muon = kinds.index(torch.optim.Muon)
    matrices = trainer.optimisers[muon].param_groups[0]["params"]
    lr = trainer.optimisers[muon].defaults["lr"]
    adamw = torch.optim.AdamW(matrices, lr, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    if name == SLOWER_ADAMW:
        adamw.register_step_pre_hook(take_a_third)
    trainer.optimisers[muon] = adamw
    return trainer


def take_a_third(optimiser: torch.optim.Optimizer, *_: object) -> None:
    """Divide the learning rate that `Trainer` has just set by 3; runs before each step."""
    for group in optimiser.param_groups:
        group["lr"] /= 3


class Trained(NamedTuple):
    """The result of training with one optimiser and learning rate."""

    nats: float  # per token, mean of the last steps
    step_cpu_s: float


def trained(tokens: Path, codebook: Path, scale: Scale) -> dict[str, list[Trained]]:
    """The results of each optimiser, by learning rate; all trainers take turns."""
    windows = Codebook.load(codebook).windows
    config = m2_config("nano", len(windows))
    batches = batches_of(tokens, scale)
    trainers = {}
    for name, rates in LEARNING_RATES.items():
        for lr in rates:
            torch.manual_seed(0)
            trainer = trainer_of(config, windows, scale.steps, lr)
            trainers[name, lr] = with_optimiser(trainer, name)
    steps: dict[tuple[str, float], list[Trained]] = {key: [] for key in trainers}
    for _ in range(scale.steps):
        for key, trainer in trainers.items():
            started = time.process_time()
            nats = one_step(trainer, batches)
            steps[key].append(Trained(nats, time.process_time() - started))
    found: dict[str, list[Trained]] = {name: [] for name in LEARNING_RATES}
    for (name, _), taken in steps.items():
        nats_of, cpu_s_of = zip(*taken, strict=True)
        found[name].append(Trained(statistics.mean(nats_of[-LAST_STEPS:]), statistics.median(cpu_s_of)))
    return found


def batches_of(tokens: Path, scale: Scale) -> Batches:
    """Batches of real tokens, shuffled with seed 0."""
    return m2_batches.TokenBatches(
        m2_batches.load([tokens]), BLOCK_SIZE, max(1, scale.batch_tokens // BLOCK_SIZE), 0
    )


def optimisers(tokens: Path, codebook: Path, scale: Scale) -> Iterator[str]:
    """The section on optimisers."""
    found = fresh({}, trained, tokens, codebook, scale)
    rows = []
    for name, results in found.items():
        best = min(result.nats for result in results)
        for lr, (nats, cpu_s) in zip(LEARNING_RATES[name], results, strict=True):
            shown = f"**{nats:.3f}**" if nats == best else f"{nats:.3f}"
            rows.append([name, f"{lr:g}", shown, f"{cpu_s:.3f}"])
    yield f"## Optimisers: M2 nano on {scale.steps * scale.batch_tokens:,} real tokens\n"
    yield pages.paragraph(
        f"Mean loss of the last {LAST_STEPS} of {scale.steps} steps, all on unseen text, with one seed for "
        "all. The optimisers differ only for the matrices between layers and have the same weight decay; "
        "AdamW trains embeddings, output matrix and norms in every row. The gain of Muon is larger than "
        "that of tuning AdamW's learning rate; its step takes 2 to 4 % longer."
    )
    yield pages.table(["matrices by", "learning rate", "nats/token", "step, CPU s"], rows)


# ---- threads


@contextmanager
def busy_process(wanted: bool) -> Iterator[None]:
    """Run a busy process beside the block, if wanted."""
    if not wanted:
        yield
        return
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        other.kill()
        other.wait()


def machine_cpu_s() -> float:
    """CPU time of all processes since boot; NaN without /proc."""
    try:
        line = Path("/proc/stat").read_text().splitlines()[0]
    except OSError:
        return math.nan
    user, nice, system, _, _, irq, soft_irq = map(int, line.split()[1:8])
    return (user + nice + system + irq + soft_irq) / os.sysconf("SC_CLK_TCK")


def m2_rate(tokens: Path, codebook: Path, scale: Scale) -> tuple[float, float]:
    """Steps of M2 nano per second, and how many cores others keep busy; see `steps_per_s`."""
    windows = Codebook.load(codebook).windows
    trainer = trainer_of(m2_config("nano", len(windows)), windows, scale.timed_steps + 1)
    return steps_per_s(trainer, batches_of(tokens, scale), scale)


def m1_rate(tokens: Path, codebook: Path, scale: Scale) -> tuple[float, float]:
    """Steps of the M1 that train-m1 makes by default, on random letters; see `m2_rate`."""
    return steps_per_s(*m1_training("3m", scale.timed_steps + 1), scale)


def steps_per_s(trainer: Trainer[Any], batches: Batches, scale: Scale) -> tuple[float, float]:
    """Steps per second of wall-clock time, and the number of cores that other processes kept busy."""
    one_step(trainer, batches)
    clocks = (time.monotonic, time.process_time, machine_cpu_s)
    before = [clock() for clock in clocks]
    for _ in range(scale.timed_steps):
        one_step(trainer, batches)
    wall_s, own_s, all_s = (clock() - then for clock, then in zip(clocks, before, strict=True))
    return scale.timed_steps / wall_s, max(0.0, all_s - own_s) / wall_s


def threads(tokens: Path, codebook: Path, scale: Scale) -> Iterator[str]:
    """The section on threads, alone and beside a busy process."""
    columns = [(rate, busy) for rate in (m2_rate, m1_rate) for busy in (False, True)]
    found: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
    for _ in range(scale.rounds):
        for setting, environment in THREADS.items():
            for k, (rate, busy) in enumerate(columns):
                with busy_process(busy):
                    found[setting, k].append(fresh(environment, rate, tokens, codebook, scale))
    medians = {
        key: [statistics.median(each) for each in zip(*runs, strict=True)] for key, runs in found.items()
    }
    rows = []
    for setting in THREADS:
        relative = [medians[setting, k][0] / medians["1 thread", k][0] for k in range(len(columns))]
        rows.append([setting, *(f"{ratio:.2f}" for ratio in relative)])
    others = [statistics.mean(medians[setting, k][1] for setting in THREADS) for k in range(len(columns))]
    rows.append(["cores that others kept busy", *(f"{n:.1f}" for n in others)])
    yield f"## Threads: M2 nano and M1 3m, {os.cpu_count()} cores\n"
    yield pages.paragraph(
        f"Speed beside that of one thread: {scale.timed_steps} steps in a new process, medians of "
        f"{scale.rounds} processes. In *beside one*, a second process computes all the time; in *alone* it "
        "does not. `GOMP_SPINCOUNT` says how long a thread spins before it sleeps."
    )
    yield pages.table(["", "M2, alone", "M2, beside one", "M1, alone", "M1, beside one"], rows)


# ---- torch.compile


class Compiled(NamedTuple):
    """CPU seconds with torch.compile on or off."""

    first_step_s: float
    step_s: float


def compiling_cpu_s(tokens: Path, codebook: Path, scale: Scale) -> list[Compiled]:
    """CPU time until after the first step, and of a later step: with torch.compile off, then on."""
    windows = Codebook.load(codebook).windows
    config = m2_config("nano", len(windows))
    batches = batches_of(tokens, scale)
    steps = scale.timed_steps + 1
    first_s, trainers = [], []
    for flops in (math.inf, -1.0):
        loop.WORTH_COMPILING_FLOPS["cpu"] = flops
        started = cpu_with_children_s()
        trainer = trainer_of(config, windows, steps)
        one_step(trainer, batches)
        first_s.append(cpu_with_children_s() - started)
        trainers.append(trainer)
    later = timings(
        {"off": partial(one_step, trainers[0], batches), "on": partial(one_step, trainers[1], batches)},
        scale.timed_steps - 1,
    )
    return [Compiled(first, timing.cpu_s) for first, timing in zip(first_s, later.values(), strict=True)]


def cpu_with_children_s() -> float:
    """CPU time of this process and of those it has waited for, such as a C++ compiler."""
    return time.process_time() + children_cpu_s()


def compiling(tokens: Path, codebook: Path, scale: Scale) -> Iterator[str]:
    """The section on torch.compile."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {"TORCHINDUCTOR_CACHE_DIR": cache, "TORCHINDUCTOR_COMPILE_THREADS": "1"}
        off, on = fresh(environment, compiling_cpu_s, tokens, codebook, scale)
    rows = [
        ["off", f"{off.first_step_s:.1f}", f"{off.step_s:.2f}", ""],
        ["on", f"{on.first_step_s:.1f}", f"{on.step_s:.2f}", f"{on.step_s / off.step_s:.2f}"],
    ]
    yield f"## torch.compile: M2 nano, {scale.batch_tokens:,} tokens a step\n"
    yield pages.paragraph(
        "CPU seconds of one thread, the C++ compiler included, starting with empty caches. *To the first "
        "step* counts building the trainer and its first step; *a step* is a later one."
    ).rstrip()
    config = m2_config("nano", len(Codebook.load(codebook).windows))
    if on.step_s < off.step_s:
        steps = (on.first_step_s - off.first_step_s) / (off.step_s - on.step_s)
        flops = steps * scale.batch_tokens * config.training_flops
        yield f"Compiling is repaid after {steps:,.0f} steps, {flops:.1e} FLOPs.\n"
    else:
        yield "Compiling is not repaid.\n"
    yield pages.table(["torch.compile", "to the first step", "a step", "on / off"], rows)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("tokens", type=Path, help="token file with its sidecar, to train on")
    parser.add_argument(
        "-m", "--model", type=Path, required=True, help="codebook of the tokens: folder or .eqcb"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, to test the script")
    parser.add_argument("-o", "--output", type=Path, help="write the page to a file as well")
    parser.add_argument(
        "--only", nargs="+", metavar="SECTION", help="measure these again and replace them in the page of -o"
    )
    args = parser.parse_args()

    if args.only and args.output is None:
        parser.error("--only needs -o, the page with the other sections.")
    scale = QUICK if args.quick else FULL
    codebook = codebook_path(args.model)
    fingerprint = Codebook.load(codebook).fingerprint.hex()
    if m2_batches.load([args.tokens]).sidecar.fingerprint != fingerprint:
        sys.exit("-m: not the codebook of these tokens.")
    sections: dict[str, Callable[[], Iterator[str]]] = {
        "losses": partial(losses, scale),
        "embeddings": partial(embeddings, [None, codebook], scale),
        "optimisers": partial(optimisers, args.tokens, codebook, scale),
        "threads": partial(threads, args.tokens, codebook, scale),
        "compiling": partial(compiling, args.tokens, codebook, scale),
    }
    clocks = (time.monotonic, cpu_with_children_s, machine_cpu_s)
    before = [clock() for clock in clocks]
    found = ["\n".join(sections[name]()) for name in args.only or sections]
    wall_s, own_s, all_s = (clock() - then for clock, then in zip(clocks, before, strict=True))
    provenance = (
        pages.provenance(sys.argv, ("torch", "numpy"))
        + f"- codebook of the tokens {fingerprint[:16]}; bfloat16 {'on' if bf16_is_on() else 'off'}\n"
        f"- run at niceness {os.nice(0)}; meanwhile other work kept {(all_s - own_s) / wall_s:.1f} of the "
        "cores busy on\n  average, so ratios mean more than absolute figures\n"
    )
    parts = [
        "# Training\n",
        # the outcome of the published run: check it after measuring again
        pages.paragraph(
            "What one training step of M2 costs on a CPU, and what each choice in it gains. The sliced loss "
            "needs a small part of the plain loss's memory and, with 65,536 ids and width 128, less time; "
            "byte-composed embeddings cost 1 to 4 % of a step; Muon reaches a lower loss than AdamW; threads "
            "that spin for a moment before they sleep are, alone on a machine, 10 to 60 % faster than those "
            "that sleep at once, beside a busy process up to 24 % slower. "
            f"Figures are medians of {scale.runs} runs in turns, in CPU time of one thread, unless a section "
            "says otherwise; smaller is better, except of speeds. A section that was measured again "
            "later names its own commit; the others were measured at the commit below."
        ),
        provenance,
        *found,
    ]
    if args.only:
        page = args.output.read_text()
        for section in found:
            page = with_section(page, f"{section}\nThis section was measured by itself:\n\n{provenance}")
        parts = [page]
    pages.publish(parts, args.output)


def with_section(page: str, section: str) -> str:
    """The page with the section of this title replaced, or with the section put first if it is new."""
    head, *others = (part.rstrip("\n") for part in re.split("(?m)^(?=## )", page))
    titles = [other.partition("\n")[0] for other in others]
    title = section.partition("\n")[0]
    if title in titles:
        others[titles.index(title)] = section.rstrip("\n")
    else:
        others.insert(0, section.rstrip("\n"))
    return "\n\n".join([head, *others]) + "\n"


def bf16_is_on() -> bool:
    """Whether `Trainer` uses bfloat16 on this machine."""
    with devices.bfloat16(CPU):
        return torch.is_autocast_enabled("cpu")


if __name__ == "__main__":
    main()
