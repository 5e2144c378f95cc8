"""The distribution of the byte after a prompt, from the covers of the prompt's end."""

from collections import defaultdict

import numpy as np
import numpy.typing as npt
import torch

from eqinfo.codebook.codebook import Codebook
from eqinfo.formats.token_file import END_OF_TEXT
from eqinfo.m2.covers import Context, covers
from eqinfo.m2.generate import split
from eqinfo.m2.model import GPT


@torch.inference_mode()
def next_byte_probabilities(model: GPT, codebook: Codebook, prompt: bytes) -> npt.NDArray[np.float64]:
    """The probability of each byte value after a prompt, and of the end of the text, (257,)."""
    block_size = model.config.block_size
    kept, rest = split(codebook, prompt, block_size - 1)
    *before, last = [END_OF_TEXT, *kept][len(rest) - block_size :]
    slices: defaultdict[tuple[int, int], float | npt.NDArray[np.float64]] = defaultdict(float)
    for cover in covers(Context(model, before), last, codebook, rest):
        n_left = len(rest) - sum(len(codebook.windows[codeword]) for codeword in cover.inside)
        slices[cover.low, n_left] += cover.log_p.double().exp().cpu().numpy()
    mass = np.zeros(257)
    for (low, n_left), p in slices.items():
        windows = codebook.windows[low : low + np.size(p)]
        mass += np.bincount([window[n_left] if window else 256 for window in windows], p, 257)
    p_next: npt.NDArray[np.float64] = mass / mass.sum()
    return p_next
