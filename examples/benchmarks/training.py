"""What a step of M2's training costs on CPUs, and what the choices in it are worth.

    python training.py train.bin -m codebook.eqcb -o training.md

The tokens are real where a model learns, random where only time counts. Variants take turns in one process of
one thread, and are compared by CPU time, which other processes disturb less; memory is that of new processes.
What this script does not do: measure GPUs, or how good a model becomes.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import peers
import torch
import torch.nn.functional as F
from peers import timings
from processes import fresh
from torch import Tensor

from eqinfo.codebook.codebook import Codebook
from eqinfo.formats.model_folder import find_codebook
from eqinfo.m2 import batches as m2_batches
from eqinfo.m2 import loss
from eqinfo.m2.model import GPT, M2_PRESETS, GPTConfig, Spelling
from eqinfo.training import devices, loop
from eqinfo.training.loop import Batches, Budget, Trainer

CPU = torch.device("cpu")
BLOCK_SIZE = 256
LARGE, SMALL = 1 << 16, 1 << 12  # vocabularies
SLICES = (128, 256, 512, 1024)  # tokens at a time
LOSS_TOLERANCE = 0.02  # of gradients, relative; bfloat16 has 8 bits

# By what trains the matrices between layers; the rest is AdamW's at the full rate in all three.
MUON, ADAMW, SLOWER_ADAMW = "Muon", "AdamW", "AdamW at a third of the rate"
LEARNING_RATES = {MUON: (0.003, 0.01, 0.03), ADAMW: (0.001, 0.003, 0.01), SLOWER_ADAMW: (0.003, 0.01, 0.03)}
LAST_STEPS = 10  # whose losses are averaged

# What users can set before they start training; a thread a core is PyTorch's own choice.
THREADS = {
    "1 thread": {"OMP_NUM_THREADS": "1"},
    "2 threads": {"OMP_NUM_THREADS": "2"},
    "2 threads, OMP_WAIT_POLICY=passive": {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"},
}

T = TypeVar("T")


class Scale(NamedTuple):
    """How much to measure."""

    batch_tokens: int
    runs: int  # medians of so many
    steps: int  # of training with each optimiser
    timed_steps: int  # of each process that only takes time
    rounds: int  # of such processes


FULL = Scale(batch_tokens=8192, runs=3, steps=49, timed_steps=8, rounds=3)
QUICK = Scale(batch_tokens=512, runs=1, steps=12, timed_steps=2, rounds=1)


# ---- the loss


class Shape(NamedTuple):
    """What the loss is taken of."""

    n_tokens: int
    n_embd: int
    vocab_size: int


Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def loss_of(slice_tokens: int | None) -> Loss:
    """The chunked loss with so many tokens a slice, or the plain one, which makes all logits at once."""

    def plain(x: Tensor, head: Tensor, targets: Tensor) -> Tensor:
        logits = F.linear(x, head).float()
        return F.cross_entropy(logits, targets, ignore_index=-1, reduction="sum")

    def chunked(x: Tensor, head: Tensor, targets: Tensor) -> Tensor:
        loss.SLICE_ELEMENTS["cpu"], loss.MIN_SLICE_TOKENS = 0, slice_tokens or 0
        return loss.cross_entropy(x, head, targets)

    return chunked if slice_tokens else plain


def random_inputs(shape: Shape) -> tuple[Tensor, Tensor, Tensor]:
    """A stream, an output matrix and targets, the same each time; logits are about normal."""
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
    """CPU time of forward and backward: the plain loss, then each of SLICES; two must agree first."""
    inputs = random_inputs(shape)
    for a, b in zip(gradients(SLICES[1], inputs), gradients(None, inputs), strict=True):
        if not (a - b).norm() <= LOSS_TOLERANCE * b.norm():
            sys.exit(f"{shape}: the losses differ; no figure is printed.")
    found = timings({str(n): partial(gradients, n, inputs) for n in (None, *SLICES)}, runs)
    return [timing.cpu_s for timing in found.values()]


def loss_peak_bytes(shape: Shape, slice_tokens: int | None) -> int:
    """By how much forward and backward raise the peak of this process; it must be a new one."""
    gradients(slice_tokens, random_inputs(Shape(64, 64, 64)))  # what the first use loads
    inputs = random_inputs(shape)
    before = peak_bytes()
    gradients(slice_tokens, inputs)
    return peak_bytes() - before


def peak_bytes() -> int:
    """The largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def losses(scale: Scale) -> Iterator[str]:
    """The tables of time and memory of the loss."""
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
    yield (
        "Of V ids and a stream of some width: CPU time, for slices as a share of the plain loss's. Logits\n"
        "of all tokens never exist in `eqinfo.m2.loss`: it makes those of a slice and takes their gradient\n"
        "at once; how many tokens a slice has in the package is bold. Each slice adds to the gradient of\n"
        "the whole output matrix, so small slices are slow where that matrix is large.\n"
    )
    rows = [row(None, [f"{found[0]:.2f} s" for found in times])]
    rows += [row(n, [f"{found[k] / found[0]:.2f}" for found in times]) for k, n in enumerate(SLICES, 1)]
    yield peers.table(head, rows)

    yield "By how much the same raises the peak memory of a new process, in MB; gradients are in it:\n"
    rows = []
    for n in (None, *SLICES):
        rows.append(row(n, [f"{fresh({}, loss_peak_bytes, shape, n) / 1e6:,.0f}" for shape in shapes]))
    logits = [f"{4 * shape.n_tokens * shape.vocab_size / 1e6:,.0f}" for shape in shapes]
    yield peers.table(head, [*rows, ["*all logits in float32, computed*", *logits]])


# ---- a step of training


def trainer_of(config: GPTConfig, spelling: Spelling | None, steps: int, lr: float = 0.01) -> Trainer:
    """A model in training, as train-m2 makes it."""
    return Trainer(GPT(config, spelling), Budget(steps=steps), 0, lr, CPU)


def m2_config(preset: str, vocab_size: int) -> GPTConfig:
    """The shape of M2."""
    return GPTConfig(vocab_size, BLOCK_SIZE, *M2_PRESETS[preset])


def random_batch(vocab_size: int, n_tokens: int) -> Batches:
    """The same random ids for every step."""
    torch.manual_seed(0)
    blocks = torch.randint(vocab_size, (max(1, n_tokens // BLOCK_SIZE), BLOCK_SIZE + 1))
    return lambda step: (blocks[:, :-1], blocks[:, 1:])


def one_step(trainer: Trainer, batches: Batches) -> float:
    """Train for a step; its loss. No checkpoint is written."""
    steps = trainer.budget.steps
    assert steps is not None
    nowhere = Path(os.devnull)
    trainer.run(batches, (trainer.step + 1) / steps, nowhere, lambda _: None, lambda: False)
    return trainer.loss_nats


def composing_cpu_s(preset: str, codebook: Path | None, scale: Scale) -> list[float]:
    """CPU time of a step with composed embeddings, of composing alone, and of a step with plain ones."""
    loop.WORTH_COMPILING_FLOPS = math.inf
    windows = Codebook.load(find_codebook(codebook)).windows
    config = m2_config(preset, len(windows))
    batches = random_batch(len(windows), scale.batch_tokens)
    steps = scale.runs + 1
    composed = trainer_of(config, Spelling(windows, config.n_embd), steps)
    plain = trainer_of(config, None, steps)
    leaf_gradients = [torch.randn(config.vocab_size, config.n_embd) for _ in range(2)]

    def compose() -> None:
        torch.autograd.backward(composed.model.matrices(), leaf_gradients)
        composed.model.zero_grad(set_to_none=True)

    work: dict[str, Callable[[], object]] = {
        "composed": partial(one_step, composed, batches),
        "composing": compose,
        "plain": partial(one_step, plain, batches),
    }
    return [timing.cpu_s for timing in timings(work, scale.runs).values()]


def embeddings(codebooks: list[Path | None], scale: Scale) -> Iterator[str]:
    """The table of what composing embeddings costs."""
    rows = []
    for codebook in codebooks:
        vocab_size = len(Codebook.load(find_codebook(codebook)).windows)
        for preset in ("nano", "3m"):
            step, composing, plain = fresh({}, composing_cpu_s, preset, codebook, scale)
            row = [f"{step:.2f}", f"{composing:.3f}", f"{composing / step:.1%}", f"{step / plain:.3f}"]
            rows.append([f"{preset}, {vocab_size:,} windows", *row])
    yield f"## Byte-composed embeddings: their share of a step of {scale.batch_tokens:,} tokens\n"
    yield (
        "`GPT.matrices`, forward and backward, once a step however large the batch: its share falls as the\n"
        "batch grows. The last column also counts what the optimiser does for the vectors of bytes.\n"
    )
    yield peers.table(["", "step, CPU s", "composing, CPU s", "share", "step / plain step"], rows)


# ---- optimisers


def with_optimiser(trainer: Trainer, name: str) -> Trainer:
    """The same trainer with another optimiser in Muon's place; weight decay stays where it was."""
    if name == MUON:
        return trainer
    matrices = trainer.optimisers[0].param_groups[0]["params"]
    adamw = torch.optim.AdamW(matrices, trainer.lr, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    if name == SLOWER_ADAMW:
        adamw.register_step_pre_hook(take_a_third)
    trainer.optimisers[0] = adamw
    return trainer


def take_a_third(optimiser: torch.optim.Optimizer, *_: object) -> None:
    """Lower the learning rate that `Trainer` has just set, before a step."""
    for group in optimiser.param_groups:
        group["lr"] /= 3


class Trained(NamedTuple):
    """What came of a learning rate."""

    nats: float  # a token, mean of the last steps
    step_cpu_s: float


def trained(tokens: Path, codebook: Path, scale: Scale) -> dict[str, list[Trained]]:
    """What came of each optimiser and learning rate; all of them take turns."""
    loop.WORTH_COMPILING_FLOPS = math.inf
    windows = Codebook.load(codebook).windows
    config = m2_config("nano", len(windows))
    batches = batches_of(tokens, scale)
    trainers = {}
    for name, rates in LEARNING_RATES.items():
        for lr in rates:
            torch.manual_seed(0)
            trainer = trainer_of(config, Spelling(windows, config.n_embd), scale.steps, lr)
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
    """Batches of real tokens in their seeded order."""
    return m2_batches.TokenBatches(
        m2_batches.load([tokens]), BLOCK_SIZE, max(1, scale.batch_tokens // BLOCK_SIZE), 0
    )


def optimisers(tokens: Path, codebook: Path, scale: Scale) -> Iterator[str]:
    """The table of what Muon is worth."""
    found = fresh({}, trained, tokens, codebook, scale)
    rows = []
    for name, results in found.items():
        best = min(result.nats for result in results)
        for lr, (nats, cpu_s) in zip(LEARNING_RATES[name], results, strict=True):
            shown = f"**{nats:.3f}**" if nats == best else f"{nats:.3f}"
            rows.append([name, f"{lr:g}", shown, f"{cpu_s:.3f}"])
    yield f"## Optimisers: M2 nano on {scale.steps * scale.batch_tokens:,} real tokens\n"
    yield (
        f"Mean loss of the last {LAST_STEPS} of {scale.steps} steps, all on text not seen before; one seed,\n"
        "the same for all. The optimisers differ for the matrices between layers, with the same weight\n"
        "decay; embeddings, output matrix and norms are AdamW's. Muon wins by more than a better rate for\n"
        "the matrices does, and its step takes no longer.\n"
    )
    yield peers.table(["matrices by", "learning rate", "nats/token", "step, CPU s"], rows)


# ---- threads


@contextmanager
def busy_process(wanted: bool) -> Iterator[None]:
    """Another process that computes for as long as the block runs."""
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
    """CPU time of all processes since the machine began, as far as the system tells."""
    try:
        line = Path("/proc/stat").read_text().splitlines()[0]
    except OSError:
        return math.nan
    user, nice, system, _, _, irq, soft_irq = map(int, line.split()[1:8])
    return (user + nice + system + irq + soft_irq) / os.sysconf("SC_CLK_TCK")


def training_rate(tokens: Path, codebook: Path, scale: Scale) -> tuple[float, float]:
    """Tokens a second by the clock, and how many cores other processes kept busy meanwhile."""
    loop.WORTH_COMPILING_FLOPS = math.inf
    windows = Codebook.load(codebook).windows
    config = m2_config("nano", len(windows))
    trainer = trainer_of(config, Spelling(windows, config.n_embd), scale.timed_steps + 1)
    batches = batches_of(tokens, scale)
    one_step(trainer, batches)
    clocks = (time.monotonic, time.process_time, machine_cpu_s)
    before = [clock() for clock in clocks]
    for _ in range(scale.timed_steps):
        one_step(trainer, batches)
    wall_s, own_s, all_s = (clock() - then for clock, then in zip(clocks, before, strict=True))
    return scale.timed_steps * scale.batch_tokens / wall_s, max(0.0, all_s - own_s) / wall_s


def threads(tokens: Path, codebook: Path, scale: Scale) -> Iterator[str]:
    """The table of what threads are worth, alone and beside another process."""
    keys = [(name, busy) for name in THREADS for busy in (False, True)]
    found: dict[tuple[str, bool], list[tuple[float, float]]] = {key: [] for key in keys}
    for _ in range(scale.rounds):
        for name, busy in keys:
            with busy_process(busy):
                found[name, busy].append(fresh(THREADS[name], training_rate, tokens, codebook, scale))
    rows = []
    for name in THREADS:
        row = [name]
        for busy in (False, True):
            rates, others = zip(*found[name, busy], strict=True)
            row += [f"{statistics.median(rates):,.0f}", f"{statistics.median(others):.1f}"]
        rows.append(row)
    yield f"## Threads: M2 nano, {scale.batch_tokens:,} tokens a step, {os.cpu_count()} cores\n"
    yield (
        f"Tokens a second by the clock, {scale.timed_steps} steps in a new process, medians of "
        f"{scale.rounds}; beside\n"
        "each, how many cores other processes kept busy at that time. *Alone* is only as alone as the\n"
        "machine was; *beside one* has a process more that only computes.\n"
    )
    yield peers.table(["", "alone", "others, cores", "beside one", "others, cores"], rows)


# ---- torch.compile


class Compiled(NamedTuple):
    """What compiling costs and saves, in CPU seconds."""

    first_step_s: float
    step_s: float


def compiling_cpu_s(tokens: Path, codebook: Path, scale: Scale) -> list[Compiled]:
    """With torch.compile off, then on: the trainer made and its first step, and a later step."""
    windows = Codebook.load(codebook).windows
    config = m2_config("nano", len(windows))
    batches = batches_of(tokens, scale)
    steps = scale.timed_steps + 1
    first_s, trainers = [], []
    for flops in (math.inf, -1.0):
        loop.WORTH_COMPILING_FLOPS = flops
        started = cpu_with_children_s()
        trainer = trainer_of(config, Spelling(windows, config.n_embd), steps)
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
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def compiling(tokens: Path, codebook: Path, scale: Scale) -> Iterator[str]:
    """The table of what torch.compile is worth."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {"TORCHINDUCTOR_CACHE_DIR": cache, "TORCHINDUCTOR_COMPILE_THREADS": "1"}
        off, on = fresh(environment, compiling_cpu_s, tokens, codebook, scale)
    rows = [
        ["off", f"{off.first_step_s:.1f}", f"{off.step_s:.2f}", ""],
        ["on", f"{on.first_step_s:.1f}", f"{on.step_s:.2f}", f"{on.step_s / off.step_s:.2f}"],
    ]
    yield f"## torch.compile: M2 nano, {scale.batch_tokens:,} tokens a step\n"
    yield (
        "CPU seconds of one thread, the C++ compiler included, nothing in its caches: of making the trainer\n"
        "with its first step, and of a later step."
    )
    config = m2_config("nano", len(Codebook.load(codebook).windows))
    if on.step_s < off.step_s:
        steps = (on.first_step_s - off.first_step_s) / (off.step_s - on.step_s)
        flops = steps * scale.batch_tokens * config.training_flops
        yield f"Compiling is repaid after {steps:,.0f} steps, {flops:.1e} FLOPs.\n"
    else:
        yield "Compiling is not repaid.\n"
    yield peers.table(["torch.compile", "to the first step", "a step", "on / off"], rows)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("tokens", type=Path, help="token file with its sidecar, to learn from")
    parser.add_argument("-m", "--model", type=Path, required=True, help="its codebook: folder or .eqcb")
    parser.add_argument("--quick", action="store_true", help="small sizes, to try the script")
    parser.add_argument("-o", "--output", type=Path, help="write the page to a file as well")
    parser.add_argument("--only", nargs="+", metavar="SECTION", help="measure these anew in the page of -o")
    args = parser.parse_args()

    if args.only and args.output is None:
        parser.error("--only needs -o, the page that holds the rest.")
    scale = QUICK if args.quick else FULL
    codebook = find_codebook(args.model)
    fingerprint = Codebook.load(codebook).fingerprint.hex()
    if m2_batches.load([args.tokens]).fingerprint != fingerprint:
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
        peers.provenance(sys.argv, ("torch", "numpy"))
        + f"- codebook of the tokens {fingerprint[:16]}; bfloat16 {'on' if bf16_is_on() else 'off'}\n"
        f"- run at niceness {os.nice(0)}; meanwhile other work kept {(all_s - own_s) / wall_s:.1f} of the "
        "cores busy on\n  average, so ratios mean more than absolute figures\n"
    )
    parts = [
        "# Training\n",
        "What a step of training costs on a CPU, and what the choices in it are worth. Figures are\n"
        f"medians of {scale.runs} turns, in one thread, by CPU time, where nothing else is said. Smaller is\n"
        "better, but for tokens a second. A section that was measured anew by itself says so; the others\n"
        "are of the commit named here.\n",
        provenance,
        *found,
    ]
    if args.only:
        page = args.output.read_text()
        for section in found:
            page = with_section(page, f"{section}\nMeasured by itself:\n\n{provenance}")
        parts = [page]
    peers.publish(parts, args.output)


def with_section(page: str, section: str) -> str:
    """A page with a section in the place of the one with its title, or before all others."""
    head, *others = (part.rstrip("\n") for part in re.split("(?m)^(?=## )", page))
    titles = [other.partition("\n")[0] for other in others]
    title = section.partition("\n")[0]
    if title in titles:
        others[titles.index(title)] = section.rstrip("\n")
    else:
        others.insert(0, section.rstrip("\n"))
    return "\n\n".join([head, *others]) + "\n"


def bf16_is_on() -> bool:
    """Whether `Trainer` multiplies in bfloat16 on this machine."""
    with devices.bfloat16(CPU):
        return torch.is_autocast_enabled("cpu")


if __name__ == "__main__":
    main()
