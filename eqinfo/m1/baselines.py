"""Baseline: the codebook of the published rule, EqualInfoAC, from M1 alone without any text."""

import numpy as np

from eqinfo.codebook.codebook import Codebook
from eqinfo.coder import intervals
from eqinfo.coder.integer_m1 import Network
from eqinfo.m1.expand import EXPAND_BATCH, MAX_BYTES, OnProgress, next_byte_frequencies


def published(network: Network, window_bits: int, on_progress: OnProgress) -> Codebook:
    """The windows of EqualInfoAC as the paper defines it, as a codebook with greedy parse.

    A codeword is an interval of `window_bits` binary digits. Its window is the longest string whose coder
    interval contains that interval. Several codewords may have one window: all but one of them are unused
    here. Single bytes and the empty window, which every codebook needs, take some of these.

    Args:
        network: M1.
        window_bits: size of a codeword.
        on_progress: called after every batch.
    """
    windows = {b""} | {bytes([byte]) for byte in range(256)}
    strings = np.empty((1, 0), np.uint8)
    low, width = np.zeros(1, np.int64), np.array([1 << intervals.PRECISION_BITS])
    n_done = 0
    for _ in range(MAX_BYTES):  # strings of one length at a time, each with its interval
        levels = []
        for at in range(0, len(strings), EXPAND_BATCH):
            batch = slice(at, at + EXPAND_BATCH)
            frequency = intervals.paper_frequencies(next_byte_frequencies(network, strings[batch]))
            start = np.cumsum(frequency, 1) - frequency
            total = np.array(intervals.PAPER_TOTAL)
            inner = intervals.narrow(low[batch, None], width[batch, None], start, frequency, total)
            n_inner = intervals.n_codewords(*inner, window_bits)
            left = intervals.n_codewords(low[batch], width[batch], window_bits) - n_inner.sum(1)
            windows.update(string.tobytes() for string in strings[batch][left > 0])
            parent, byte = np.nonzero(n_inner)
            longer = np.concatenate((strings[batch][parent], byte[:, None].astype(np.uint8)), axis=1)
            levels.append((longer, inner[0][parent, byte], inner[1][parent, byte]))
            n_done += int(left.sum())
            on_progress(min(0.99, n_done / (1 << window_bits)))
        strings, low, width = (np.concatenate(parts) for parts in zip(*levels, strict=True))
        if not len(strings):
            break
    windows.update(string.tobytes() for string in strings)  # strings that reached MAX_BYTES
    on_progress(1.0)
    return Codebook(sorted(windows), window_bits, "greedy")
