"""Batches for M1: long runs of text and short windows, each as BOS and the bytes from its start.

M1 serves two purposes. Arithmetic coding and wide live windows predict bytes after a long context; windows
of a codebook are predicted from their own first bytes alone. So WINDOW_SHARE of each batch are windows, the
rest long runs. A codebook's window starts where another ends, mostly at a word boundary. So after the first
round most windows start at cuts of the draft codebook's parse. The rest start at random, as live windows may
start anywhere.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from eqinfo.codebook.codebook import Codebook
from eqinfo.codebook.parse import encode_compiled
from eqinfo.coder.integer_m1 import BOS
from eqinfo.m1.corpus import Text
from eqinfo.system.arrays import I64

WINDOW_SHARE = 0.25  # share of the rows of a batch that hold windows; the others hold one run each
WINDOW_BYTES = 32
RANDOM_SHARE = 0.25  # share of random window starts, if a codebook gives the others
SPAN_BYTES = 512  # length of a piece of text that is parsed to find starts
MARGIN_BYTES = 64  # at both ends of a span, where cuts may differ from those of the whole text
STARTS_A_SPAN = 16


@dataclass(frozen=True)
class WindowBatches:
    """Inputs and targets of a step, each (batch_size, block_size) int64; targets beyond a document are -1.

    Attributes:
        text: training text.
        codebook: its parse gives the window starts; None for random starts.
        batch_size: B, number of rows; the first WINDOW_SHARE of them hold windows.
        block_size: T, bytes per row, a multiple of WINDOW_BYTES.
        seed: equal seeds and steps give equal batches.
    """

    text: Text
    codebook: Codebook | None
    batch_size: int
    block_size: int
    seed: int

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """The batch of a step."""
        rng = np.random.default_rng((self.seed, step))
        n_rows = round(self.batch_size * WINDOW_SHARE)
        runs = rng.integers(self.text.data.size, size=self.batch_size - n_rows)
        starts = rng.integers(self.text.data.size, size=n_rows * self.block_size // WINDOW_BYTES)
        if self.codebook is not None and self.text.data.size > SPAN_BYTES:
            n_drawn = round(starts.size * (1 - RANDOM_SHARE))
            starts[:n_drawn] = self._parsed_starts(rng, n_drawn, self.codebook)
        windows = window_tensors(self.text, rng.permutation(starts), WINDOW_BYTES)  # (n, WINDOW_BYTES)
        others = window_tensors(self.text, runs, self.block_size)  # (B - n_rows, T)
        idx, targets = (
            torch.cat((short.view(n_rows, self.block_size), long))
            for short, long in zip(windows, others, strict=True)
        )
        return idx, targets

    def _parsed_starts(self, rng: np.random.Generator, n: int, codebook: Codebook) -> I64:
        """Window starts (n,), drawn at random from parses of spans of the text."""
        found: list[I64] = []
        while sum(map(len, found)) < n:
            at = int(rng.integers(self.text.data.size - SPAN_BYTES))
            span = self.text.slice(at, at + SPAN_BYTES)
            ends = np.cumsum(codebook.lengths[encode_compiled(codebook, span.data, span.document_ends)])
            ends = ends[(ends >= MARGIN_BYTES) & (ends < SPAN_BYTES - MARGIN_BYTES)]
            found.append(at + rng.permutation(np.unique(ends))[:STARTS_A_SPAN])
        return np.concatenate(found)[:n]


def window_tensors(text: Text, starts: I64, block_size: int) -> tuple[Tensor, Tensor]:
    """Inputs (BOS, then bytes) and targets (the bytes) of windows at starts (n,), each (n, block_size)."""
    documents = np.searchsorted(text.document_ends, starts, "right")
    left = text.document_ends[documents] - starts
    at = starts[:, None] + np.arange(block_size)
    inside = np.arange(block_size) < left[:, None]
    targets = np.where(inside, text.data[np.minimum(at, text.data.size - 1)].astype(np.int64), -1)
    idx = np.full_like(targets, BOS)
    idx[:, 1:] = np.maximum(targets[:, :-1], 0)
    return torch.from_numpy(idx), torch.from_numpy(targets)
