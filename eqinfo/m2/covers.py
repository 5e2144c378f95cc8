"""The ways the end of a prompt can be cut into windows (its covers), and the KV cache that M2 reads with.

A prompt seldom ends where its text would have been cut. So `generate` keeps only the first windows of a
prompt, and the bytes after them, the *rest*, may be cut in any way. A *cover* of the rest is a sequence of
windows:

- All but the last lie inside the rest, one after the other from its beginning.
- The last begins with the remaining bytes of the rest and is longer than they are. If no bytes remain,
  the last is any window, or the end of the text.

The text that follows the first windows begins with exactly one cover, so a cover drawn from M2 continues the
prompt without bias. Codewords are in lexicographic order, so the windows that begin with given bytes are one
slice of the logits. The search is breadth first, by number of windows, and prunes improbable prefixes.

What this module does not do: choose a cover or go on after it (`generate`).
"""

import math
from bisect import bisect_right
from typing import NamedTuple

import torch
from torch import Tensor

from eqinfo.codebook.codebook import Codebook
from eqinfo.errors import InputError
from eqinfo.m2.model import GPT
from eqinfo.m2.token_bytes import MAX_TOKENS

PRUNE_NATS = -math.log(1e-4)  # a prefix this much less probable than the best one is dropped
MAX_RANKED = 128  # prefixes kept for each number of bytes: bounds time and memory in repetitive text
N_ROWS = 16  # prefixes in a batch


class Context:
    """The tokens that M2 has read, with their KV cache.

    Attributes:
        tokens: what was read, at most block_size tokens.
        cache: their keys and values, (n_layer, 2, 1, n_head, block_size, n_embd / n_head).
    """

    def __init__(self, model: GPT, tokens: list[int]) -> None:
        self.model = model
        self.cache = new_cache(model, 1, model.config.block_size)
        self._restart(tokens)

    def _restart(self, tokens: list[int]) -> None:
        """Empty the cache, then read tokens in one pass."""
        self.tokens = tokens
        if tokens:
            read(self.model, [tokens], self.cache)

    def read(self, token: int) -> Tensor:
        """Log-probabilities (vocab_size,) of the token after this one."""
        if len(self.tokens) == self.model.config.block_size:  # full: positions begin anew with the last half
            self._restart(self.tokens[-(len(self.tokens) // 2) :])
        log_p = read(self.model, [[token]], self.cache, [self.tokens])
        self.tokens.append(token)
        return log_p[0]


def new_cache(model: GPT, n_rows: int, n_positions: int) -> Tensor:
    """An empty KV cache, (n_layer, 2, n_rows, n_head, n_positions, n_embd / n_head)."""
    config = model.config
    shape = config.n_layer, 2, n_rows, config.n_head, n_positions, config.n_embd // config.n_head
    return model.head.weight.new_empty(shape)


def read(model: GPT, idx: list[list[int]], cache: Tensor, before: list[list[int]] | None = None) -> Tensor:
    """Log-probabilities (B, vocab_size) of the next token after M2 has read a batch of tokens.

    Args:
        model: M2, with plain embeddings.
        idx: the tokens, (B, T); T must be 1 unless there are none before.
        cache: keys and values of the n positions before in its first B rows; those of idx are added.
        before: all tokens before them, (B, n); None means none.

    Raises:
        InputError: a probability is NaN, because weights are NaN or too large.
    """
    before = before or [[] for _ in idx]
    n = len(before[0])
    cache = cache[:, :, : len(idx)]
    past = [(keys[:, :, :n], values[:, :, :n]) for keys, values in cache]  # each (B, n_head, n, head_size)
    tails = [row[-MAX_TOKENS:] for row in before]
    tokens, last = (torch.tensor(rows, dtype=torch.long, device=cache.device) for rows in (idx, tails))
    logits, presents = model.extend(tokens, past, last)  # (B, vocab_size)
    for layer, present in zip(cache, presents, strict=True):
        for old, new in zip(layer, present, strict=True):
            old[:, :, n : n + len(idx[0])] = new
    log_p = logits.float().log_softmax(-1)
    if log_p[:, 0].isnan().any():  # softmax spreads one NaN to the whole row
        raise InputError("generation: the model gives no probabilities; its weights are not sound.")
    return log_p


class Cover(NamedTuple):
    """Covers that differ only in their last window.

    Attributes:
        inside: codewords of the windows before the last.
        low: the last window is one of the codewords [low, low + n).
        log_p: log-probability in nats of the whole cover for each of these, (n,).
    """

    inside: tuple[int, ...]
    low: int
    log_p: Tensor


class Prefix(NamedTuple):
    """The beginning of a cover: windows that lie inside the rest.

    Attributes:
        inside: their codewords.
        n_bytes: their length in bytes.
        log_p: their log-probability in nats.
        cache: keys and values of the token before these windows and of the windows but the last, which M2
            has not read yet, (n_layer, 2, n_head, len(inside), n_embd / n_head).
    """

    inside: tuple[int, ...]
    n_bytes: int
    log_p: float
    cache: Tensor


Ranks = list[tuple[float, tuple[int, ...]]]  # log-probabilities and windows of prefixes, the best first


def covers(context: Context, last: int, codebook: Codebook, rest: bytes) -> list[Cover]:
    """All covers of the rest, except those that pruning drops.

    Args:
        context: what M2 has read.
        last: the token between the context and the rest, not read yet.
        codebook: of vocab_size windows.
        rest: fewer bytes than positions are free in the context's block.
    """
    model, n = context.model, len(context.tokens)
    ways = [_ways(codebook, rest[n_bytes:]) for n_bytes in range(len(rest) + 1)]
    cache = new_cache(model, N_ROWS, n + len(rest) + 1)
    cache[..., :n, :] = context.cache[..., :n, :]  # the same for all rows
    ranked: list[Ranks] = [[] for _ in ways]  # by the number of bytes
    best_cover = -math.inf
    found: list[Cover] = []
    level = [Prefix((), 0, 0.0, cache[:, :, 0, :, n:n])]  # all prefixes of one number of windows
    while level:
        longer: list[Prefix] = []
        for start in range(0, len(level), N_ROWS):
            rows = level[start : start + N_ROWS]
            depth = len(rows[0].inside)  # the same for all rows of a level
            cache[:, :, : len(rows), :, n : n + depth] = torch.stack([row.cache for row in rows], 2)
            tokens = [[*context.tokens, last, *row.inside] for row in rows]
            log_p = read(model, [row[-1:] for row in tokens], cache, [row[:-1] for row in tokens])
            for i, row in enumerate(rows):
                low, high, inner = ways[row.n_bytes]
                # A window of [low, high) completes the cover; one of `inner` makes the prefix longer.
                found.append(Cover(row.inside, low, log_p[i, low:high] + row.log_p))
                best_cover = max(best_cover, float(found[-1].log_p.logsumexp(0)))
                # a copy, because the next batch overwrites the row; shared by all prefixes that it begins
                now_read = cache[:, :, i, :, n : n + depth + 1].clone()
                for codeword, p in zip(inner, log_p[i, inner].tolist(), strict=True):
                    n_bytes = row.n_bytes + len(codebook.windows[codeword])
                    longer.append(Prefix((*row.inside, codeword), n_bytes, row.log_p + p, now_read))
        level = _pruned(longer, ranked, best_cover)
    return found


def _pruned(longer: list[Prefix], ranked: list[Ranks], best_cover: float) -> list[Prefix]:
    """The prefixes to extend further.

    A prefix is dropped if its log-probability is more than PRUNE_NATS below that of the best prefix of as
    many bytes or of the best cover, or if MAX_RANKED prefixes of as many bytes are better.

    Args:
        longer: prefixes, all of the same number of windows.
        ranked: the best prefixes so far for each number of bytes; updated.
        best_cover: the greatest log-probability of a `Cover` so far, summed over its last windows.
    """
    for prefix in longer:
        ranked[prefix.n_bytes].append((prefix.log_p, prefix.inside))
    for ranks in ranked:
        ranks.sort(reverse=True)
        del ranks[MAX_RANKED:]
    if ranked[-1]:
        best_cover = max(best_cover, ranked[-1][0][0])  # it has all bytes, so any window completes it
    return [
        prefix
        for prefix in longer
        if (prefix.log_p, prefix.inside) >= ranked[prefix.n_bytes][-1]
        and prefix.log_p >= max(best_cover, ranked[prefix.n_bytes][0][0]) - PRUNE_NATS
    ]


def _ways(codebook: Codebook, left: bytes) -> tuple[int, int, list[int]]:
    """The windows that can come next where some bytes of the rest are left.

    Returns:
        The codewords [low, high) of the windows that begin with these bytes and are longer (of all windows if
        no bytes are left); and the codewords of the windows that lie inside these bytes, shortest first.
    """
    windows = codebook.windows
    low = bisect_right(windows, left) if left else 0
    high = bisect_right(windows, left, low, key=lambda window: window[: len(left)])
    inner = (left[:k] for k in range(1, min(len(left), codebook.max_window_bytes) + 1))
    return low, high, [codebook.codewords[window] for window in inner if window in codebook.codewords]
