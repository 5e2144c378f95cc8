"""M1 to windows: the most probable strings as candidates, and the windows of two rules that need no text.

The live rule is that of `live`, listed in full: one definition, two speeds. The other is the paper's.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eqinfo.coder.integer_m1 import TOTAL, Network
from eqinfo.system.threads import ordered_map

OnProgress = Callable[[float], None]  # is told the share that is done, in [0, 1]

MAX_BYTES = 32  # of a candidate or a window of the published rule
EXPAND_BATCH = 4096  # strings that M1 reads for a floor
CHUNK = 512  # strings that a thread reads at a time


@dataclass(frozen=True)
class Candidates:
    """Strings in lexicographic order with M1's log-probability of each at a window's start."""

    strings: list[bytes]
    log_p: npt.NDArray[np.float64]  # nats

    def best(self, n: int, counts: npt.NDArray[np.int64] | None = None) -> "Candidates":
        """The n with the highest counts, among equals those M1 expects most; and all single bytes."""
        keys = (-self.log_p,) if counts is None else (-self.log_p, -counts)
        longer = np.fromiter((len(string) > 1 for string in self.strings), np.bool_, len(self.strings))
        kept = np.sort(np.lexsort((*keys, longer))[:n])
        return Candidates([self.strings[i] for i in kept], self.log_p[kept])


def next_byte_frequencies(network: Network, strings: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Frequencies (n, 256), adding up to TOTAL, of the byte after each of n strings, (n, length)."""
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
            next_log_p = np.log(next_byte_frequencies(network, level[batch]) / TOTAL)
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
