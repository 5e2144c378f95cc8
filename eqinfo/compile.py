"""M1 to windows: the most probable strings as candidates, or the paper's windows by its published rule."""

import numpy as np
import numpy.typing as npt
import torch

from eqinfo import coder
from eqinfo.codebook import Codebook
from eqinfo.model import BOS, GPT, KeyValue
from eqinfo.refit import Candidates, OnProgress
from eqinfo.train import bfloat16

EXPAND_BATCH = 4096  # strings that M1 reads at once


@torch.inference_mode()
def next_byte_log_p(model: GPT, strings: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Log-probabilities in nats (n, 256) of the byte after each of n strings, (n, length).

    Each distinct beginning is read once: the strings are put in order, and their trie is walked level by
    level, keys and values being gathered from the levels above.
    """
    device = next(model.parameters()).device
    n, length = strings.shape
    order = np.lexsort(strings.T[::-1]) if length else np.arange(n)
    strings = strings[order]
    differs = np.ones((n, length), np.bool_)
    differs[1:] = np.maximum.accumulate(strings[1:] != strings[:-1], axis=1)
    # at each level: the node of each string, and the first string of each node
    node = [np.zeros(n, np.int64), *(np.cumsum(column) - 1 for column in differs.T)]
    first = [np.zeros(1, np.int64), *(np.flatnonzero(column) for column in differs.T)]
    config = model.config
    empty = torch.empty(1, config.n_head, 0, config.n_embd // config.n_head, device=device)
    levels: list[list[KeyValue]] = []
    for depth in range(length + 1):
        tokens = strings[first[depth], depth - 1].astype(np.int64) if depth else np.array([BOS])
        above = [torch.from_numpy(node[d][first[depth]]).to(device) for d in range(depth)]
        past = [
            (_gathered(levels, above, layer, 0, empty), _gathered(levels, above, layer, 1, empty))
            for layer in range(config.n_layer)
        ]
        with bfloat16(device):
            logits, present = model.extend(torch.from_numpy(tokens).to(device), past)
        levels.append(present)
    log_p = logits[:, :BOS].double().log_softmax(-1).cpu().numpy()
    result = np.empty((n, BOS))
    result[order] = log_p[node[length]]
    return result


def _gathered(
    levels: list[list[KeyValue]], nodes: list[torch.Tensor], layer: int, which: int, empty: torch.Tensor
) -> torch.Tensor:
    """The keys (0) or values (1) that a layer has for the nodes above, one position a level."""
    parts = [level[layer][which][at] for level, at in zip(levels, nodes, strict=True)]
    return torch.cat(parts, 2) if parts else empty


def expand(model: GPT, n_candidates: int, on_progress: OnProgress) -> Candidates:
    """The most probable strings under M1, and all single bytes.

    Level by level: P(child) <= P(parent), so a string below the least probability still wanted has no
    descendants that count. That floor only rises, and each level is read in falling order of probability.

    Args:
        model: M1, on the device to use.
        n_candidates: how many strings to return, about; ties and single bytes come on top.
        on_progress: told after every batch.
    """
    model.eval()
    found: list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]] = []  # strings (n, length), log_p (n,)
    pool = np.empty(0)  # the log_p of the best strings so far
    floor = -np.inf
    level, level_log_p = np.empty((1, 0), np.uint8), np.zeros(1)
    n_read = 0
    for _ in range(model.config.block_size):
        children: list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]] = []
        order = np.argsort(-level_log_p, kind="stable")
        for at in range(0, order.size, EXPAND_BATCH):
            batch = order[at : at + EXPAND_BATCH]
            batch = batch[level_log_p[batch] >= floor]
            if not batch.size:
                break
            log_p = level_log_p[batch, None] + next_byte_log_p(model, level[batch])
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


def published(model: GPT, window_bits: int, on_progress: OnProgress) -> Codebook:
    """The windows of EqualInfoAC as the paper defines it, as a codebook with greedy parse.

    The window of a codeword is the longest string whose coder interval still contains the interval of
    `window_bits` binary digits that the codeword names: more bytes are added while one fits. Several
    codewords may name one string; they are the unused ones here, and pay for single bytes and the empty
    window where the rule gives them none.
    """
    model.eval()
    windows = {b""} | {bytes([byte]) for byte in range(256)}
    strings = np.empty((1, 0), np.uint8)
    low, width = np.zeros(1, np.int64), np.array([1 << coder.PRECISION_BITS])
    n_done = 0
    for _ in range(model.config.block_size):
        levels = []
        for at in range(0, len(strings), EXPAND_BATCH):
            batch = slice(at, at + EXPAND_BATCH)
            frequency = coder.quantise(np.exp(next_byte_log_p(model, strings[batch])))
            start = np.cumsum(frequency, 1) - frequency
            total = np.array(coder.TOTAL)
            inner = coder.narrow(low[batch, None], width[batch, None], start, frequency, total)
            n_inner = coder.n_codewords(*inner, window_bits)
            left = coder.n_codewords(low[batch], width[batch], window_bits) - n_inner.sum(1)
            windows.update(string.tobytes() for string in strings[batch][left > 0])
            parent, byte = np.nonzero(n_inner)
            longer = np.concatenate((strings[batch][parent], byte[:, None].astype(np.uint8)), axis=1)
            levels.append((longer, inner[0][parent, byte], inner[1][parent, byte]))
            n_done += int(left.sum())
            on_progress(min(0.99, n_done / (1 << window_bits)))
        strings, low, width = (np.concatenate(parts) for parts in zip(*levels, strict=True))
        if not len(strings):
            break
    windows.update(string.tobytes() for string in strings)  # as long as M1's context
    on_progress(1.0)
    return Codebook(sorted(windows), window_bits, "greedy")
