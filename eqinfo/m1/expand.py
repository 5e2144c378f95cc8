"""M1 to candidates: the most probable strings at the start of a window.

Integer frequencies of M1 become float log-probabilities here. They only rank strings, so a rounding error may
change the choice of windows, never the decoding.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from eqinfo.coder.integer_m1 import M1_TOTAL, Network
from eqinfo.system.arrays import I32, I64, U8
from eqinfo.system.threads import ordered_map

OnProgress = Callable[[float], None]  # called with the progress, in [0, 1]

MAX_BYTES = 32  # length of a candidate or of a window of the published rule
EXPAND_BATCH = 4096  # strings that M1 reads between two updates of the floor
CHUNK = 512  # strings per call in a thread


@dataclass(frozen=True)
class Candidates:
    """Strings in lexicographic order, with M1's log-probability of each at a window's start."""

    strings: list[bytes]
    log_p: npt.NDArray[np.float64]  # nats

    def best(self, n: int, worth: I64 | None = None) -> "Candidates":
        """The n candidates with the highest worth; single bytes rank first.

        >>> Candidates([b"a", b"ab", b"b"], np.log([0.3, 0.2, 0.1])).best(2).strings
        [b'a', b'b']

        Args:
            n: at least the number of single bytes.
            worth: of each candidate, (len(strings),); probability ranks candidates of equal worth, or all if
                this is None.
        """
        keys = (-self.log_p,) if worth is None else (-self.log_p, -worth)
        longer = np.fromiter((len(string) > 1 for string in self.strings), np.bool_, len(self.strings))
        kept = np.sort(np.lexsort((*keys, longer))[:n])
        return Candidates([self.strings[i] for i in kept], self.log_p[kept])


def next_byte_frequencies(network: Network, strings: U8) -> I64:
    """Frequencies of the next byte after each string.

    Args:
        network: M1.
        strings: of one length, (n, length).

    Returns:
        (n, 256); each row adds up to M1_TOTAL.
    """
    from eqinfo.coder.kernels.m1_step import after_strings, new_state

    def read(chunk: U8) -> I32:
        return after_strings(network, new_state(network), chunk)

    # Sorted, so that strings of a chunk share prefixes, which M1 reads once.
    order = np.lexsort(strings.T[::-1]) if strings.shape[1] else np.arange(len(strings))
    chunks = np.array_split(strings[order], -(-len(strings) // CHUNK))
    found = np.empty((len(strings), 256), np.int64)
    found[order] = np.concatenate(list(ordered_map(read, chunks, torch.get_num_threads())))
    return found


def expand(network: Network, n_candidates: int, on_progress: OnProgress) -> Candidates:
    """The most probable strings under M1, and all single bytes.

    Breadth-first search, a level per string length. The floor is the n_candidates-th highest probability so
    far. P(child) <= P(parent), so a string below the floor has no descendant above it and is not expanded.
    Each level is read from the most probable string on, so that the floor rises early.

    Args:
        network: M1.
        n_candidates: number of strings to return; ties and single bytes come on top.
        on_progress: called after every batch.
    """
    found: list[tuple[U8, npt.NDArray[np.float64]]] = []  # per level: strings (n, length), log_p (n,)
    pool = np.empty(0)  # log_p of the best n_candidates strings so far
    floor = -np.inf
    level, level_log_p = np.empty((1, 0), np.uint8), np.zeros(1)
    n_read = 0
    for _ in range(MAX_BYTES):
        children: list[tuple[U8, npt.NDArray[np.float64]]] = []
        order = np.argsort(-level_log_p, kind="stable")
        for at in range(0, order.size, EXPAND_BATCH):
            batch = order[at : at + EXPAND_BATCH]
            batch = batch[level_log_p[batch] >= floor]
            if not batch.size:
                break
            next_log_p = np.log(next_byte_frequencies(network, level[batch]) / M1_TOTAL)
            log_p = level_log_p[batch, None] + next_log_p  # (batch, 256)
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
