"""M1 to codebook: expand its most probable strings, refit them to real text; or the published rule.

This is where floats end and integers begin: M1's probabilities propose and weigh windows here, and what
leaves is a sorted list of byte strings. Nothing below ever sees a float.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from eqinfo import coder, kernels
from eqinfo.codebook import Codebook
from eqinfo.corpus import Text
from eqinfo.model import BOS, GPT, KeyValue
from eqinfo.parse import WINDOW_COST, WORD_BYTES, unaligned_cost
from eqinfo.train import bfloat16

OnProgress = Callable[[float], None]  # is told the share that is done, in [0, 1]

EXPAND_BATCH = 4096  # strings that M1 reads at once
KEEP = 0.6  # of the windows survives a pass of the refit
PRIOR = 0.1  # M1's say in a window's count, in windows per window of text


@dataclass(frozen=True)
class Candidates:
    """Strings in lexicographic order with M1's log-probability of each at a window's start."""

    strings: list[bytes]
    log_p: npt.NDArray[np.float64]  # nats


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


def refit(
    candidates: Candidates,
    texts: Sequence[Text],
    window_bits: int,
    unaligned_penalty: float,
    on_progress: OnProgress,
) -> Codebook:
    """The codebook of the candidates that real text uses most.

    The text is parsed with all candidates, the least used are dropped, and again until 2**window_bits are
    left. A window's score is its count plus what M1 expects, which ranks the many that are rarely used.

    Args:
        candidates: must include all single bytes.
        texts: to parse; not necessarily what M1 was trained on.
        window_bits: of the codebook.
        unaligned_penalty: of the parse, here and in the codebook's own default.
        on_progress: told after every text.
    """
    wanted = (1 << window_bits) - 1  # the empty window comes on top
    strings, prior = candidates.strings, np.exp(candidates.log_p)
    assert len(strings) >= wanted
    n_passes = max(1, int(np.ceil(np.log(wanted / len(strings)) / np.log(KEEP))))
    for done in range(n_passes):
        counts = count_windows(strings, texts, unaligned_penalty, _part_of(on_progress, done, n_passes))
        score = counts + PRIOR * counts.sum() * prior
        single = np.fromiter((len(string) == 1 for string in strings), np.bool_, len(strings))
        score[single] = np.inf
        n_kept = max(wanted, int(len(strings) * KEEP)) if done < n_passes - 1 else wanted
        kept = np.sort(np.argsort(-score, kind="stable")[:n_kept])
        strings, prior = [strings[i] for i in kept], prior[kept]
    return Codebook([b"", *strings], window_bits, "optimal", unaligned_penalty)


def _part_of(on_progress: OnProgress, done: int, n: int) -> OnProgress:
    """A reporter of one of n equal parts, after `done` of them."""
    return lambda share: on_progress((done + share) / n)


def count_windows(
    strings: list[bytes], texts: Sequence[Text], unaligned_penalty: float, on_progress: OnProgress
) -> npt.NDArray[np.int64]:
    """How often the cut of least cost uses each string (n,); strings sorted, all single bytes among them."""
    lengths = np.fromiter(map(len, strings), np.int64, len(strings))
    blob, offsets = np.frombuffer(b"".join(strings), np.uint8), np.append(0, np.cumsum(lengths))
    trie = kernels.build_trie(blob, offsets)
    assert trie[0].size  # the number of candidates is bounded
    unaligned = unaligned_cost(unaligned_penalty)
    counts = np.zeros(len(strings), np.int64)
    for done, text in enumerate(texts, 1):
        codewords = kernels.encode_optimal(
            text.data, text.document_ends[:0], *trie, WORD_BYTES, WINDOW_COST, unaligned
        )
        counts += np.bincount(codewords, minlength=len(strings))
        on_progress(done / len(texts))
    return counts


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
