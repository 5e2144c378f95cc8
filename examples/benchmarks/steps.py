"""The section of `run.py` on training steps: beside a plain loop, and beside their matrix products.

The parts of a step are measured by `training`.
"""

import statistics
import time
from collections.abc import Iterator
from typing import NamedTuple

import pages
import peers
import torch
from plain_gpt import step_seconds
from processes import fresh, peak_mb
from torch.profiler import ProfilerActivity, profile, schedule
from training import BLOCK_SIZE, bf16_is_on, m1_training, m2_config, one_step, random_batch, trainer_of

from eqinfo.codebook.codebook import Codebook
from eqinfo.coder.integer_m1 import INNER, WIDTH
from eqinfo.formats.model_folder import codebook_path
from eqinfo.m1.model import M1_PRESETS
from eqinfo.m2.model import M2_PRESETS
from eqinfo.training import devices
from eqinfo.training.loop import Batches, Trainer

RUNS = 5
SHAPES = (  # preset of M2, number of ids, tokens per step
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
    """The costs of a training step."""

    cpu_s: float
    muon: float  # share of Muon's step
    products: float  # share of matrix products, including Muon's
    peak_mb: float


def in_steps(trainer: Trainer, batches: Batches) -> Step:
    """The costs of a trainer's steps: median time and peak memory, then one profiled step."""
    took = []
    for _ in range(RUNS + 1):
        started = time.process_time()
        one_step(trainer, batches)
        took.append(time.process_time() - started)
    peak = peak_mb()
    # the profiler's events take memory, so it starts after the peak is read; its first step is a warm-up
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
    """The costs of a step of M2, in this process, which must be new."""
    windows = Codebook.load(codebook_path(None)).windows[:vocab_size]
    config = m2_config(preset, vocab_size)
    trainer = trainer_of(config, windows, RUNS + 3)
    return in_steps(trainer, random_batch(vocab_size, n_tokens))


def m1_step(preset: str) -> Step:
    """The costs of a step of M1, in this process, which must be new."""
    return in_steps(*m1_training(preset, RUNS + 3))


def plain_step(preset: str, vocab_size: int, n_tokens: int, keep_memory: bool) -> Step:
    """The costs of a step of the plain loop, in this process, which must be new.

    Args:
        preset: preset of M2 whose shape is used.
        vocab_size: number of ids.
        n_tokens: tokens per step.
        keep_memory: whether the process keeps freed memory, as eqinfo does.
    """
    if keep_memory:
        devices.keep_memory()
    took = step_seconds(M2_PRESETS[preset], vocab_size, BLOCK_SIZE, n_tokens, RUNS + 1)
    return Step(statistics.median(took[1:]), 0, 0, peak_mb())


def bare_rate(m: int, k: int, n: int) -> float:
    """FLOPs per second of the product of (m, k) and (n, k) transposed, in the dtype of training."""
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
    yield pages.paragraph(
        f"M1 reads, in bytes per CPU second: {rates}. *tiny* has the layer of *500k* with smaller tables and "
        "an eighth of the batch, so the fixed cost of a step weighs eight times as much."
    )
    yield "No GPU was used.\n"


def name_of(preset: str, vocab_size: int, n_tokens: int) -> str:
    """The name of a row: preset, vocabulary size and batch."""
    return f"M2 {preset}, {vocab_size:,} ids, {n_tokens:,} tokens"


def beside_plain(m2: list[Step]) -> Iterator[str]:
    """The table of steps of M2 and of the plain loop."""
    yield pages.paragraph(
        "The baseline is `plain_gpt.py`: a transformer of M2's shape with an embedding table, trained by "
        "AdamW on all logits at once. Every run is a new process on random ids, for both without "
        "torch.compile and with bfloat16 where the machine has it. M2 also composes its embeddings from "
        "bytes and orthogonalises the updates of matrices (Muon). In *plain, kept* the baseline keeps freed "
        "memory for reuse, as eqinfo does (`devices.keep_memory`). The first two columns *plain* are "
        "the baseline's step time divided by eqinfo's: above 1, eqinfo is faster. The last two are its peak "
        "memory in MB."
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
    head = ["", "steps per CPU s", "plain", "plain, kept", "peak MB", "plain", "plain, kept"]
    yield pages.table(head, rows)


def limits(m2: list[Step], m1: list[Step]) -> Iterator[str]:
    """The table of steps beside their matrix products."""
    yield pages.paragraph(
        "How near a step comes to the speed of its matrix products: *GFLOP/s* is the model's FLOPs divided "
        "by the time of a step, *product alone* the rate of its largest matrix product outside the output "
        "matrix, run by itself, and *of it* the quotient of the two. By PyTorch's profiler, *products* is "
        "the share of a step in matrix products, those of Muon included, and *Muon* the share of the "
        "optimiser's step. The rest is bound by memory: norms, casts to bfloat16, softmax, gates."
    )
    found = []  # name, step, its FLOPs, and the shape (m, k, n) of its largest product except the head
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
    yield pages.table(head, rows)
