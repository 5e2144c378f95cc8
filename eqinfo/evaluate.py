"""What a codebook and its M1 are worth on a text."""

import numpy as np
import torch

from eqinfo.codebook import Codebook
from eqinfo.corpus import Text, sample
from eqinfo.model import GPT
from eqinfo.parse import encode_compiled
from eqinfo.train import bfloat16
from eqinfo.windows import window_tensors

MEASURE_BYTES = 1 << 22  # of a text, evenly spaced


def bytes_per_window(codebook: Codebook, text: Text) -> float:
    """Bytes for each window in up to MEASURE_BYTES of text; the windows that end documents do not count."""
    pieces = sample(text, MEASURE_BYTES)
    n_windows = 0
    for piece in pieces:
        ends = piece.document_ends
        n_windows += encode_compiled(codebook, piece.data, ends).size - ends.size
    return sum(piece.data.size for piece in pieces) / n_windows


def bits_by_position(model: GPT, codebook: Codebook, text: Text) -> list[float]:
    """M1's bits per byte at each position after the window starts of a text's parse."""
    text = text.slice(0, min(text.data.size, MEASURE_BYTES))
    ends = np.cumsum(codebook.lengths[encode_compiled(codebook, text.data, text.document_ends)])
    starts = np.unique(np.append(0, ends))[:-1]
    starts = starts[:: -(-starts.size // 16384)]
    device = next(model.parameters()).device
    total = torch.zeros(model.config.block_size, dtype=torch.float64)
    count = torch.zeros_like(total)
    model.eval()
    for part in np.array_split(starts, -(-starts.size // 2048)):
        idx, targets = window_tensors(text, part, model.config.block_size)
        with torch.inference_mode(), bfloat16(device):
            log_p = model(idx.to(device)).float().log_softmax(-1).cpu()
        inside = targets >= 0
        nats = -log_p.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
        total += (nats * inside).double().sum(0)
        count += inside.sum(0)
    return [float(bits) for bits in (total / count.clamp(min=1) / np.log(2))]


def n_unused(codebook: Codebook, text: Text) -> int:
    """How many windows the parse of up to 8 * MEASURE_BYTES of text never uses."""
    used = np.zeros(len(codebook.windows), np.bool_)
    for piece in sample(text, MEASURE_BYTES * 8):
        used[encode_compiled(codebook, piece.data, piece.document_ends)] = True
    return int((~used).sum())
