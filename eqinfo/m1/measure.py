"""Measures of a codebook and its M1 on a text: bytes/window, bits/byte, use of windows."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from eqinfo.codebook.codebook import Codebook
from eqinfo.codebook.parse import encode, encode_compiled, is_aligned
from eqinfo.coder.integer_m1 import M1_TOTAL_BITS, Network
from eqinfo.m1.batches import WINDOW_BYTES, window_tensors
from eqinfo.m1.corpus import Text, sample
from eqinfo.m1.model import ByteModel
from eqinfo.system.arrays import I64
from eqinfo.text.frames import Frame

MEASURE_BYTES = 1 << 22  # of a text, in evenly spaced pieces
N_STARTS = 1 << 12  # window starts at which M1 is measured
N_RUNS, RUN_BYTES = 64, 2048  # runs of text on which M1 is measured


@dataclass(frozen=True)
class WindowUse:
    """Uses of each window in a text, and alignment of its cuts; windows that end documents do not count.

    Attributes:
        counts: uses of each codeword, (vocab_size,), the unused codewords of the published rule included.
        n_cuts: cuts inside documents. Ends of frames do not count, as the parse does not choose them.
        n_aligned: number of those at word boundaries.
    """

    counts: I64
    n_cuts: int
    n_aligned: int

    @property
    def n_windows(self) -> int:
        """Number of windows in the text."""
        return int(self.counts.sum())

    @property
    def n_used(self) -> int:
        """Number of different windows."""
        return int(np.count_nonzero(self.counts))

    @property
    def entropy_bits(self) -> float:
        """Entropy of the distribution of windows; at most log2 of how many there are."""
        share = self.counts[self.counts > 0] / self.n_windows
        return float((share * -np.log2(share)).sum())


def window_use(codebook: Codebook, frames: Iterable[Frame]) -> WindowUse:
    """The use of a codebook's windows in a text, given as frames."""
    counts = np.zeros(codebook.vocab_size, np.int64)
    n_cuts = n_aligned = 0
    for frame in frames:
        codewords = encode(codebook, *frame)
        counts += np.bincount(codewords, minlength=codebook.vocab_size)
        ends = np.cumsum(codebook.lengths[codewords])
        cuts = ends[:-1][(codewords[:-1] > 0) & (codewords[1:] > 0)]  # no ends of documents
        view = np.frombuffer(frame.text, np.uint8)
        n_cuts += cuts.size
        n_aligned += int(np.count_nonzero(is_aligned(view[cuts - 1], view[cuts])))
    counts[0] = 0
    return WindowUse(counts, n_cuts, n_aligned)


def bytes_per_window(codebook: Codebook, text: Text) -> float:
    """Bytes per window in up to MEASURE_BYTES of text; windows that end documents do not count."""
    pieces = sample(text, MEASURE_BYTES)
    n_windows = 0
    for piece in pieces:
        ends = piece.document_ends
        n_windows += encode_compiled(codebook, piece.data, ends).size - ends.size
    return sum(piece.data.size for piece in pieces) / n_windows


def bits_by_position(network: Network, codebook: Codebook, text: Text) -> list[float]:
    """M1's bits per byte at each position of a window, at window starts of a text's parse."""
    text = text.slice(0, min(text.data.size, MEASURE_BYTES))
    text = Text(text.data, np.union1d(text.document_ends, text.data.size))  # the slice may end in a document
    codewords = encode_compiled(codebook, text.data, text.document_ends)
    ends = np.cumsum(codebook.lengths[codewords])
    starts = (ends - codebook.lengths[codewords])[codewords > 0]
    starts = starts[:: -(-starts.size // N_STARTS)]
    idx, targets = (t.numpy() for t in window_tensors(text, starts, WINDOW_BYTES))
    inside = targets >= 0
    bits = _bits(network, idx, targets)
    total, count = (bits * inside).sum(0), inside.sum(0)
    return [float(b) for b in total[count > 0] / count[count > 0]]


def run_bits(network: Network, text: Text, n_runs: int = N_RUNS) -> float:
    """M1's bits per byte on long runs of a text."""
    idx, targets = (t.numpy() for t in sample_runs(text, n_runs))
    return float(_bits(network, idx, targets).sum() / np.count_nonzero(targets >= 0))


def _bits(network: Network, idx: I64, targets: I64) -> npt.NDArray[np.float64]:
    """M1's bits for each target, (B, T); 0 where the target is -1."""
    from eqinfo.coder.kernels.m1_step import new_state, run

    state, place = new_state(network), np.arange(idx.shape[1])
    rows = zip(idx.astype(np.uint16), targets, strict=True)
    found = np.stack([run(network, state, row)[place, wanted] for row, wanted in rows])
    return np.where(targets >= 0, M1_TOTAL_BITS - np.log2(found), 0.0)


def float_bits(model: ByteModel, text: Text) -> float:
    """Bits per byte of M1 before quantisation, in float32, on the same runs."""
    idx, targets = sample_runs(text)
    model.eval()
    device = next(model.parameters()).device
    with torch.inference_mode():
        nats = sum(
            float(model.loss(*(part[at : at + 8].to(device) for part in (idx, targets))))
            for at in range(0, N_RUNS, 8)
        )
    return nats / math.log(2) / int((targets >= 0).sum())


def sample_runs(text: Text, n_runs: int = N_RUNS) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets of evenly spaced runs of a text, each (n_runs, RUN_BYTES)."""
    starts = np.arange(n_runs) * text.data.size // n_runs
    return window_tensors(text, starts, RUN_BYTES)


def n_unused(codebook: Codebook, text: Text) -> int:
    """Number of windows that the parse of up to 8 * MEASURE_BYTES of text never uses."""
    used = np.zeros(len(codebook.windows), np.bool_)
    for piece in sample(text, MEASURE_BYTES * 8):
        used[encode_compiled(codebook, piece.data, piece.document_ends)] = True
    return int((~used).sum())
