"""A step of training beside a plain loop, and what limits it; a section of `run.py`.

What this module does not do: look into the parts of a step (`training`).
"""

import math
import statistics
import time
from collections.abc import Iterator
from typing import NamedTuple

import peers
import torch
from plain_gpt import step_seconds
from processes import fresh, peak_mb
from torch.profiler import ProfilerActivity, profile, schedule
from training import BLOCK_SIZE, CPU, bf16_is_on, m2_config, one_step, random_batch, trainer_of

from eqinfo.codebook.codebook import Codebook
from eqinfo.coder.integer_m1 import BOS, INNER, WIDTH
from eqinfo.formats.model_folder import find_codebook
from eqinfo.m1.model import M1_PRESETS, ByteModel
from eqinfo.m1.train import LEARNING_RATE
from eqinfo.m2.model import M2_PRESETS, Spelling
from eqinfo.training import devices, loop
from eqinfo.training.loop import Batches, Budget, Trainer

RUNS = 5
SHAPES = (  # preset of M2, number of ids, tokens a step
    ("nano", 1 << 12, 4096),
    ("nano", 1 << 16, 4096),
    ("3m", 1 << 12, 4096),
    ("3m", 1 << 12, 16_384),
    ("3m", 1 << 16, 4096),
)
M1_NAMES = ("tiny", "500k", "3m")
PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"}
PACKAGES = ("numpy", "torch")


class Step(NamedTuple):
    """What a step of training takes."""

    cpu_s: float
    muon: float  # share of the optimiser's step in that
    products: float  # share of matrix products, the optimiser's too
    peak_mb: float


def in_steps(trainer: Trainer, batches: Batches) -> Step:
    """What the steps of a trainer take; one is profiled after those that are timed."""
    took = []
    for _ in range(RUNS + 1):
        started = time.process_time()
        one_step(trainer, batches)
        took.append(time.process_time() - started)
    peak = peak_mb()
    # its events take memory too, and what they keep apart shows as page faults: one step to get used to it
    order = schedule(wait=0, warmup=1, active=1)
    with profile(activities=[ProfilerActivity.CPU], schedule=order, acc_events=True) as profiler:
        for _ in range(2):
            one_step(trainer, batches)
            profiler.step()
    events = [event for event in profiler.key_averages() if not event.key.startswith("ProfilerStep")]
    whole = sum(event.self_cpu_time_total for event in events)
    products = sum(event.self_cpu_time_total for event in events if event.key in PRODUCTS)
    muon = sum(event.cpu_time_total for event in events if event.key == "Optimizer.step#Muon.step")
    return Step(statistics.median(took[1:]), muon / whole, products / whole, peak)


def m2_step(preset: str, vocab_size: int, n_tokens: int) -> Step:
    """A step of M2 in this process, which must be a new one."""
    loop.WORTH_COMPILING_FLOPS = math.inf
    windows = Codebook.load(find_codebook(None)).windows[:vocab_size]
    config = m2_config(preset, vocab_size)
    trainer = trainer_of(config, Spelling(windows, config.n_embd), RUNS + 3)
    return in_steps(trainer, random_batch(vocab_size, n_tokens))


def m1_step(preset: str) -> Step:
    """A step of M1, likewise."""
    loop.WORTH_COMPILING_FLOPS = math.inf
    shape = M1_PRESETS[preset]
    trainer = Trainer(ByteModel(shape), Budget(steps=RUNS + 3), shape.step_bytes, LEARNING_RATE, CPU)
    torch.manual_seed(0)
    rows = torch.randint(97, 123, (shape.batch_size, shape.block_size + 1))
    rows[:, 0] = BOS
    return in_steps(trainer, lambda step: (rows[:, :-1], rows[:, 1:]))


def plain_step(preset: str, vocab_size: int, n_tokens: int, keep_memory: bool) -> Step:
    """A step of the plain loop, likewise; it may keep its memory, as ours does."""
    if keep_memory:
        devices.keep_memory()
    took = step_seconds(M2_PRESETS[preset], vocab_size, BLOCK_SIZE, n_tokens, RUNS + 1)
    return Step(statistics.median(took[1:]), 0, 0, peak_mb())


def bare_rate(m: int, k: int, n: int) -> float:
    """FLOPs a second of a product alone, (m, k) by (n, k) transposed, in the type of those in training."""
    dtype = torch.bfloat16 if bf16_is_on() else torch.float32
    a, b = torch.randn(m, k).to(dtype), torch.randn(n, k).to(dtype)
    took = []
    for _ in range(20):
        started = time.process_time()
        a @ b.T
        took.append(time.process_time() - started)
    return 2 * m * k * n / min(took)


def tables(_: peers.Inputs) -> Iterator[str]:
    """The section."""
    yield f"## Training on one CPU core, blocks of {BLOCK_SIZE}\n"
    m2 = [fresh({}, m2_step, *shape) for shape in SHAPES]
    m1 = [fresh({}, m1_step, name) for name in M1_NAMES]
    yield from beside_plain(m2)
    yield from limits(m2, m1)
    rates = ", ".join(
        f"{name} {M1_PRESETS[name].step_bytes / step.cpu_s:,.0f}"
        for name, step in zip(M1_NAMES, m1, strict=True)
    )
    yield peers.paragraph(
        f"M1 in bytes a CPU second: {rates}. *tiny* has the layer of *500k*, smaller tables and an eighth of "
        "the batch, so what a step costs whatever its batch weighs eight times as much."
    )
    yield "Nothing here was measured on a GPU.\n"


def name_of(preset: str, vocab_size: int, n_tokens: int) -> str:
    """A shape of M2 and its batch, in words."""
    return f"M2 {preset}, {vocab_size:,} ids, {n_tokens:,} tokens"


def beside_plain(m2: list[Step]) -> Iterator[str]:
    """Steps of M2 and of the plain loop."""
    yield peers.paragraph(
        "The plain loop is `plain_gpt.py`: the shape of M2, AdamW, all logits at once, an embedding "
        "table. Each in a new process, on random ids, bfloat16 in both where the machine has it, "
        "torch.compile in neither. Ours also composes embeddings of bytes and orthogonalises the updates "
        "of matrices (Muon). In *kept* the plain process keeps the memory that it frees, as ours does "
        "(`devices.keep_memory`). Times of both as multiples of ours: above 1, ours is faster."
    )
    rows = []
    for shape, ours in zip(SHAPES, m2, strict=True):
        others = [fresh({}, plain_step, *shape, keep) for keep in (False, True)]
        rows.append(
            [
                name_of(*shape), f"{1 / ours.cpu_s:.2f}",
                *(f"{step.cpu_s / ours.cpu_s:.2f}" for step in others),
                *(f"{step.peak_mb:,.0f}" for step in (ours, *others)),
            ]
        )  # fmt: skip
    head = ["", "steps / CPU s", "plain", "plain, kept", "peak MB", "plain", "plain, kept"]
    yield peers.table(head, rows)


def limits(m2: list[Step], m1: list[Step]) -> Iterator[str]:
    """How near a step is to the products in it."""
    yield peers.paragraph(
        "What limits a step are the products of its model, at the rate of a product alone. The FLOPs are "
        "those of the model; *products* is the share of a step in matrix products, Muon's as well, by the "
        "profiler, *Muon* that of its optimiser's step. What is left is passes over memory, one operation "
        "of PyTorch after another: norms, casts to bfloat16, softmax, gates."
    )
    found = []  # name, step, FLOPs of it, and the shape of its largest product but the head
    for (preset, vocab_size, n_tokens), step in zip(SHAPES, m2, strict=True):
        shape = m2_config(preset, vocab_size)
        product = n_tokens, shape.n_embd, 4 * shape.n_embd
        found.append((name_of(preset, vocab_size, n_tokens), step, shape.training_flops * n_tokens, product))
    for name, step in zip(M1_NAMES, m1, strict=True):
        n_bytes = M1_PRESETS[name].step_bytes
        flops, product = M1_PRESETS[name].training_flops * n_bytes, (n_bytes, WIDTH, 3 * INNER)
        found.append((f"M1 {name}, {n_bytes:,} bytes", step, flops, product))
    rows = []
    for name, step, flops, product in found:
        bare, rate = fresh({}, bare_rate, *product), flops / step.cpu_s
        rows.append(
            [
                name, f"{step.cpu_s:.3f}", f"{flops / 1e9:.1f}", f"{rate / 1e9:.0f}", f"{bare / 1e9:.0f}",
                f"{rate / bare:.0%}", f"{step.products:.0%}", f"{step.muon:.0%}",
            ]
        )  # fmt: skip
    head = ["", "step, CPU s", "GFLOP", "GFLOP/s", "product alone", "of it", "products", "Muon"]
    yield peers.table(head, rows)
