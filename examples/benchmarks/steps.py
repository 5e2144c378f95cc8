"""A step of training beside a plain loop; a section of `run.py`.

What this module does not do: look into a step (`training`).
"""

import math
import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import peers
from processes import fresh, peak_mb

from eqinfo.codebook import Codebook
from eqinfo.files import find_codebook

BLOCK_SIZE, STEPS = 256, 6
SHAPES = (  # preset of M2, number of ids, tokens a step
    ("nano", 1 << 12, 4096),
    ("nano", 1 << 16, 4096),
    ("3m", 1 << 12, 4096),
    ("3m", 1 << 12, 16_384),
)
PACKAGES = ("numpy", "torch")


def plain_training(preset: str, vocab_size: int, batch_tokens: int) -> tuple[float, float]:
    """CPU seconds of a step of the plain loop, and peak MB."""
    from plain_gpt import step_seconds

    from eqinfo.model import M2_PRESETS

    took = step_seconds(M2_PRESETS[preset], vocab_size, BLOCK_SIZE, batch_tokens, STEPS)
    return statistics.median(took[1:]), peak_mb()


def our_training(preset: str, vocab_size: int, batch_tokens: int) -> tuple[float, float]:
    """The same of train-m2's loop, with embeddings composed of bytes."""
    import torch
    import training

    from eqinfo import train
    from eqinfo.model import Spelling

    train.WORTH_COMPILING_FLOPS = math.inf
    windows = Codebook.load(find_codebook(None)).windows[:vocab_size]
    config = training.m2_config(preset, vocab_size)
    torch.manual_seed(0)
    trainer = training.trainer_of(config, Spelling(windows, config.n_embd), STEPS)
    batches = training.random_batch(vocab_size, batch_tokens)
    took = []
    for _ in range(STEPS):
        started = time.process_time()
        training.one_step(trainer, batches)
        took.append(time.process_time() - started)
    return statistics.median(took[1:]), peak_mb()


def m1_rate(preset: str) -> float:
    """Bytes a CPU second of training M1."""
    import torch

    from eqinfo import train
    from eqinfo.byte_model import M1_PRESETS, ByteModel
    from eqinfo.m1 import LEARNING_RATE
    from eqinfo.train import Budget, Trainer

    train.WORTH_COMPILING_FLOPS = math.inf
    shape = M1_PRESETS[preset]
    trainer = Trainer(
        ByteModel(shape), Budget(steps=STEPS), shape.step_bytes, LEARNING_RATE, torch.device("cpu")
    )
    rows = torch.randint(97, 123, (shape.batch_size, shape.block_size + 1))
    took = []
    for step in range(STEPS):
        started = time.process_time()
        trainer.run(
            lambda _: (rows[:, :-1], rows[:, 1:]), (step + 1) / STEPS, Path(os.devnull),
            lambda _: None, lambda: False,
        )  # fmt: skip
        took.append(time.process_time() - started)
    return shape.step_bytes / statistics.median(took[1:])


def tables(_: peers.Inputs) -> Iterator[str]:
    """The section."""
    yield f"## Training on one CPU core, blocks of {BLOCK_SIZE}\n"
    yield peers.paragraph(
        "Against a plain loop (`plain_gpt.py`: the shape of M2, AdamW, all logits at once, an "
        "embedding table), each in a new process, bfloat16 in both, without torch.compile in "
        "both. Ours also composes embeddings of bytes and orthogonalises the updates of matrices "
        "(Muon)."
    )
    rows = []
    for preset, vocab_size, batch_tokens in SHAPES:
        ours = fresh({}, our_training, preset, vocab_size, batch_tokens)
        plain = fresh({}, plain_training, preset, vocab_size, batch_tokens)
        rows.append(
            [
                f"{preset}, {vocab_size:,} ids, {batch_tokens:,} tokens a step",
                *(f"{value:.2f}" for value in (1 / ours[0], 1 / plain[0], plain[0] / ours[0])),
                f"{ours[1]:,.0f}",
                f"{plain[1]:,.0f}",
            ]
        )
    head = ["M2", "steps / CPU s", "plain", "ratio", "peak MB", "plain"]
    yield peers.table(head, rows)
    rows = [[preset, f"{fresh({}, m1_rate, preset):,.0f}"] for preset in ("tiny", "500k", "3m")]
    yield peers.table(["M1", "bytes / CPU s"], rows)
    yield "No GPU was at hand; nothing here was measured on one.\n"
