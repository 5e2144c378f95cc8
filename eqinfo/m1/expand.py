"""M1 to windows: the most probable strings as candidates, and the windows of two rules that need no text.

The live rule is that of `live`, listed in full: one definition, two speeds. The other is the paper's.
"""

import os

import numpy as np
import numpy.typing as npt

from eqinfo.codebook.codebook import MAX_WINDOW_BYTES, Codebook
from eqinfo.coder import intervals
from eqinfo.coder.integer_m1 import M1_TOTAL, Network
from eqinfo.errors import InputError
from eqinfo.m1.refit import Candidates, OnProgress
from eqinfo.system.threads import ordered_map

MAX_BYTES = 32  # of a candidate or a window of the published rule
EXPAND_BATCH = 4096  # strings that M1 reads for a floor
CHUNK = 512  # strings that a thread reads at a time


def next_byte_frequencies(network: Network, strings: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Frequencies (n, 256), adding up to M1_TOTAL, of the byte after each of n strings, (n, length)."""
    from eqinfo.coder.kernels.m1_step import after_strings, new_state

    def read(chunk: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
        return after_strings(network, new_state(network), chunk)

    # in order, since neighbours share what need be read only once
    order = np.lexsort(strings.T[::-1]) if strings.shape[1] else np.arange(len(strings))
    chunks = np.array_split(strings[order], -(-len(strings) // CHUNK))
    found = np.empty((len(strings), 256), np.int64)
    found[order] = np.concatenate(list(ordered_map(read, chunks, os.cpu_count() or 1)))
    return found


def expand(network: Network, n_candidates: int, on_progress: OnProgress) -> Candidates:
    """The most probable strings under M1, and all single bytes.

    Level by level: P(child) <= P(parent), so a string below the least probability still wanted has no
    descendants that count. That floor only rises, and each level is read in falling order of probability.

    Args:
        network: M1.
        n_candidates: how many strings to return, about; ties and single bytes come on top.
        on_progress: told after every batch.
    """
    found: list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]] = []  # strings (n, length), log_p (n,)
    pool = np.empty(0)  # the log_p of the best strings so far
    floor = -np.inf
    level, level_log_p = np.empty((1, 0), np.uint8), np.zeros(1)
    n_read = 0
    for _ in range(MAX_BYTES):
        children: list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]] = []
        order = np.argsort(-level_log_p, kind="stable")
        for at in range(0, order.size, EXPAND_BATCH):
            batch = order[at : at + EXPAND_BATCH]
            batch = batch[level_log_p[batch] >= floor]
            if not batch.size:
                break
            next_log_p = np.log(next_byte_frequencies(network, level[batch]) / M1_TOTAL)
            log_p = level_log_p[batch, None] + next_log_p
            parent, byte = np.nonzero(log_p >= floor)
            strings = np.concatenate((level[batch][parent], byte[:, None].astype(np.uint8)), axis=1)
            children.append((strings, log_p[parent, byte]))
            pool = np.concatenate((pool, log_p[parent, byte]))
            if pool.size > n_candidates:
                pool = np.partition(pool, -n_candidates)[-n_candidates:]
                floor = float(pool[0])
            n_read += batch.size
            on_progress(min(0.99, n_read / n_candidates))
        if not children:
            break
        level = np.concatenate([strings for strings, _ in children])
        level_log_p = np.concatenate([log_p for _, log_p in children])
        found.append((level, level_log_p))
        keep = level_log_p >= floor
        level, level_log_p = level[keep], level_log_p[keep]
    best = {
        string.tobytes(): float(p)
        for level, level_log_p in found
        for string, p in zip(level, level_log_p, strict=True)
        if p >= floor or len(string) == 1
    }
    on_progress(1.0)
    candidates = sorted(best)
    return Candidates(candidates, np.array([best[string] for string in candidates]))


def published(network: Network, window_bits: int, on_progress: OnProgress) -> Codebook:
    """The windows of EqualInfoAC as the paper defines it, as a codebook with greedy parse.

    The window of a codeword is the longest string whose coder interval still contains the interval of
    `window_bits` binary digits that the codeword names: more bytes are added while one fits. Several
    codewords may name one string; they are the unused ones here, and pay for single bytes and the empty
    window where the rule gives them none.
    """
    windows = {b""} | {bytes([byte]) for byte in range(256)}
    strings = np.empty((1, 0), np.uint8)
    low, width = np.zeros(1, np.int64), np.array([1 << intervals.PRECISION_BITS])
    n_done = 0
    for _ in range(MAX_BYTES):
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
    windows.update(string.tobytes() for string in strings)  # as long as a window may be
    on_progress(1.0)
    return Codebook(sorted(windows), window_bits, "greedy")


def live(network: Network, window_bits: int, on_progress: OnProgress) -> Codebook:
    """The windows of live coding (`live.shares`) as a codebook with greedy parse: the same codewords.

    Every string that has a codeword is a window, for the stop symbol takes the first one of its node.

    Raises:
        InputError: a window would be longer than a codebook's may be.
    """
    windows = [b""]
    strings, rest = np.empty((1, 0), np.uint8), np.array([(1 << window_bits) - 1])
    while len(strings):
        levels = []
        for at in range(0, len(strings), EXPAND_BATCH):
            batch = slice(at, at + EXPAND_BATCH)
            least = int(not strings.shape[1])  # at the start every byte has a codeword before the others
            shared = rest[batch, None] - 256 * least
            shares = intervals.apportion(next_byte_frequencies(network, strings[batch]), shared) + least
            parent, byte = np.nonzero(shares)
            longer = np.concatenate((strings[batch][parent], byte[:, None].astype(np.uint8)), axis=1)
            windows += [string.tobytes() for string in longer]
            has_more = shares[parent, byte] > 1
            levels.append((longer[has_more], shares[parent, byte][has_more] - 1))
            on_progress(min(0.99, len(windows) / (1 << window_bits)))
        strings, rest = (np.concatenate(parts) for parts in zip(*levels, strict=True))
        if strings.shape[1] > MAX_WINDOW_BYTES:
            raise InputError(
                f"live rule: a window of {window_bits} bits is longer than {MAX_WINDOW_BYTES} bytes. "
                "Train M1 on more text."
            )
    on_progress(1.0)
    return Codebook(sorted(windows), window_bits, "greedy")
