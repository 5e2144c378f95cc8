"""What M1 is trained on: BOS, then the bytes from a window's start, to the end of the block or document.

In use, windows start where windows end, mostly at word boundaries. So after the first round the starts
come from parses with the codebook so far; a few per cent stay random, for M1 must also know what to do
where the parse had no good choice.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from eqinfo.codebook import Codebook
from eqinfo.corpus import Text
from eqinfo.model import BOS
from eqinfo.parse import encode_compiled

RANDOM_SHARE = 0.05  # of the starts, where a codebook gives the others
SPAN_BYTES = 512  # parsed at a random place to find starts in
MARGIN_BYTES = 64  # at both ends of a span, where its cuts are not those of the whole text
STARTS_A_SPAN = 16


@dataclass(frozen=True)
class WindowBatches:
    """Inputs and targets of a step, each (batch_size, block_size); targets beyond a document are -1.

    Attributes:
        text: to draw from.
        codebook: whose parse gives the starts; None for random starts.
        batch_size: number of windows.
        block_size: bytes of each.
        seed: the same seed and step give the same batch.
    """

    text: Text
    codebook: Codebook | None
    batch_size: int
    block_size: int
    seed: int

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """The batch of a step."""
        rng = np.random.default_rng((self.seed, step))
        starts = rng.integers(self.text.data.size, size=self.batch_size)
        if self.codebook is not None and self.text.data.size > SPAN_BYTES:
            n_drawn = round(self.batch_size * (1 - RANDOM_SHARE))
            starts[:n_drawn] = self._parsed_starts(rng, n_drawn, self.codebook)
        return window_tensors(self.text, starts, self.block_size)

    def _parsed_starts(self, rng: np.random.Generator, n: int, codebook: Codebook) -> npt.NDArray[np.int64]:
        """N starts of windows in the parse of the text, at random."""
        found: list[npt.NDArray[np.int64]] = []
        while sum(map(len, found)) < n:
            at = int(rng.integers(self.text.data.size - SPAN_BYTES))
            span = self.text.slice(at, at + SPAN_BYTES)
            ends = np.cumsum(codebook.lengths[encode_compiled(codebook, span.data, span.document_ends)])
            ends = ends[(ends >= MARGIN_BYTES) & (ends < SPAN_BYTES - MARGIN_BYTES)]
            found.append(at + rng.permutation(np.unique(ends))[:STARTS_A_SPAN])
        return np.concatenate(found)[:n]


def window_tensors(text: Text, starts: npt.NDArray[np.int64], block_size: int) -> tuple[Tensor, Tensor]:
    """Inputs (BOS, then bytes) and targets (the bytes) of the windows that begin at the starts."""
    documents = np.searchsorted(text.document_ends, starts, "right")
    left = text.document_ends[documents] - starts
    at = starts[:, None] + np.arange(block_size)
    inside = np.arange(block_size) < left[:, None]
    targets = np.where(inside, text.data[np.minimum(at, text.data.size - 1)].astype(np.int64), -1)
    idx = np.full_like(targets, BOS)
    idx[:, 1:] = np.maximum(targets[:, :-1], 0)
    return torch.from_numpy(idx), torch.from_numpy(targets)
