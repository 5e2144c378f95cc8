"""Text from M2: it continues any bytes, also a prompt that ends inside a window, a word or a character.

A prompt seldom ends where its text would have been cut. So only its first windows are kept, up to a cut some
bytes before the end; the bytes after that cut, the *rest*, may be cut in any way. A *cover* is a sequence of
windows that begins with the rest, and of which only the last goes beyond it: that is a longer window that
begins with what is left of the rest or, if nothing is left, any window, or the end of the text. Covers
exclude each other and one of them must follow, so drawing one of them from M2 continues the prompt exactly.

Codewords are in lexicographic order, so the windows that begin with given bytes are one slice of the logits.
Covers are found in order of their number of windows, those of one number in batches, each batch by one pass.

What this does not do: read files, know terminals, or hold back incomplete UTF-8. Pieces are bytes.
"""

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from eqinfo.codebook import parse
from eqinfo.codebook.codebook import Codebook
from eqinfo.errors import InputError, MismatchError
from eqinfo.formats.token_file import END_OF_TEXT
from eqinfo.m2.model import GPT

# The window that the end of a prompt cuts in two begins less than 32 bytes before it, in our codebook. All of
# 1,500 prompts kept only cuts that their whole text has too if 16 bytes were left, 99.5 % of them if 8 were.
BACK_OFF = 32  # bytes at least that are left to covers
PRUNE = 1e-4  # beginnings of covers are given up below this share of the best with the same bytes
N_AT_A_PLACE = 128  # beginnings that take the same bytes: bounds time and memory where much repeats
N_ROWS = 16  # sequences that are read at once


def stream(
    model: GPT,
    codebook: Codebook,
    prompt: bytes,
    n_bytes: int,
    temperature: float,
    top_k: int | None,
    seed: int,
) -> Iterator[bytes]:
    """The continuation of a prompt, a piece for each window.

    When M2's block is full, it goes on from the last half of the tokens in it. No end of text is put before
    them: blocks begin anywhere in a document when M2 is trained.

    Args:
        model: M2, with plain embeddings, on the device to use.
        codebook: what its tokens mean.
        prompt: any bytes, the beginning of a document; may be empty.
        n_bytes: how many bytes to give, fewer only if M2 ends the text before; the last piece is cut.
        temperature: log-probabilities are divided by it; 1 is M2's own distribution, 0 takes the best.
        top_k: draw from so many of the best only; from all if None.
        seed: of what is drawn.

    Raises:
        InputError: a setting is out of range.
        MismatchError: the model does not belong to the codebook.
    """
    _check_match(model, codebook)
    if not (0 <= temperature < math.inf and n_bytes >= 0 and (top_k is None or top_k >= 1)):
        raise InputError(
            f"generation: a setting is out of range; found {n_bytes} bytes, temperature {temperature}, "
            f"top-k {top_k}, want at least 0, 0 and 1."
        )
    drawn = codewords(model, codebook, prompt, temperature, top_k, seed)
    return _bytes_after(len(prompt), n_bytes, map(codebook.windows.__getitem__, drawn))


def _bytes_after(n_skipped: int, n_bytes: int, windows: Iterator[bytes]) -> Iterator[bytes]:
    """Of the bytes of some windows, n_bytes after the first n_skipped; up to the empty window."""
    while n_bytes and (window := next(windows)):
        piece = window[n_skipped:][:n_bytes]
        n_skipped = max(0, n_skipped - len(window))
        n_bytes -= len(piece)
        if piece:
            yield piece


@torch.inference_mode()
def codewords(
    model: GPT, codebook: Codebook, prompt: bytes, temperature: float, top_k: int | None, seed: int
) -> Iterator[int]:
    """The codewords of a prompt and its continuation, until the end of the text is drawn; that comes last.

    Temperature and top_k apply to whole covers first, then to window after window.

    Args:
        model: as in `stream`; likewise the others.
        codebook: of vocab_size windows.
        prompt: the bytes that the windows begin with.
        temperature: at least 0.
        top_k: at least 1, or None.
        seed: of what is drawn.
    """
    rng = np.random.default_rng(seed)
    kept, rest = split(codebook, prompt, model.config.block_size - 1)
    yield from kept
    context = _Context(model, [END_OF_TEXT, *kept], len(rest))
    covers = _covers(context, codebook, rest, PRUNE)
    chosen = draw(torch.cat([cover.log_p for cover in covers]), temperature, top_k, rng)
    for cover in covers:
        if chosen < cover.log_p.numel():
            break
        chosen -= cover.log_p.numel()
    yield from cover.inside
    for codeword in (context.unread, *cover.inside):
        context.read(codeword)
    codeword = cover.low + chosen
    while True:
        yield codeword
        if codeword == END_OF_TEXT:
            return
        codeword = draw(context.read(codeword), temperature, top_k, rng)


@torch.inference_mode()
def next_byte_probabilities(
    model: GPT, codebook: Codebook, prompt: bytes, prune: float = PRUNE
) -> npt.NDArray[np.float64]:
    """The distribution of the byte after a prompt, (257,): of each byte value, and of the end of the text.

    Args:
        model: M2, with plain embeddings, on the device to use.
        codebook: what its tokens mean.
        prompt: any bytes; may be empty.
        prune: beginnings of covers are given up below this share of the best with the same bytes; with 0
            none is given up, which is exact and takes a time exponential in the back-off.

    Raises:
        MismatchError: the model does not belong to the codebook.
    """
    _check_match(model, codebook)
    kept, rest = split(codebook, prompt, model.config.block_size - 1)
    context = _Context(model, [END_OF_TEXT, *kept], len(rest))
    slices: defaultdict[tuple[int, int], float | npt.NDArray[np.float64]] = defaultdict(float)
    for cover in _covers(context, codebook, rest, prune):
        slices[cover.low, cover.at] += cover.log_p.double().exp().cpu().numpy()
    mass = np.zeros(257)
    for (low, at), p in slices.items():
        n_left = len(rest) - at
        windows = codebook.windows[low : low + np.size(p)]
        mass += np.bincount([window[n_left] if window else 256 for window in windows], p, 257)
    p_next: npt.NDArray[np.float64] = mass / mass.sum()
    return p_next


def split(codebook: Codebook, prompt: bytes, n_most: int) -> tuple[list[int], bytes]:
    """The codewords of a prompt that are kept, and the rest.

    Windows are kept up to the last cut that is BACK_OFF bytes or more before the end.

    Args:
        codebook: to cut with.
        prompt: any bytes.
        n_most: bytes of the rest at most. Where such a cut leaves more, which takes a block of less than some
            64 tokens or a codebook of very long windows, there is a cut at just that many bytes.
    """
    cut = parse.encode(codebook, prompt)
    ends = np.cumsum(codebook.lengths[cut])
    n_kept = int(np.searchsorted(ends, len(prompt) - BACK_OFF, "right"))
    at = int(ends[n_kept - 1]) if n_kept else 0
    if len(prompt) - at > n_most:
        at = len(prompt) - n_most
        cut = parse.encode(codebook, prompt[:at])
        n_kept = cut.size
    return cut[:n_kept].tolist(), prompt[at:]


def draw(log_p: Tensor, temperature: float, top_k: int | None, rng: np.random.Generator) -> int:
    """An index of log_p (n,), drawn in proportion to exp(log_p / temperature) from the top_k best."""
    if temperature == 0 or top_k == 1:
        return int(log_p.argmax())
    indices = None
    if top_k is not None and top_k < log_p.numel():
        log_p, indices = log_p.topk(top_k)
    p = ((log_p - log_p.max()) / temperature).softmax(-1)
    cumulative = p.double().cumsum(-1)  # torch.multinomial takes fifty times as long
    at = torch.searchsorted(cumulative, rng.random() * cumulative[-1], right=True).clamp(max=len(p) - 1)
    return int(at if indices is None else indices[at])


class _Context:
    """Tokens that M2 has read, with their keys and values.

    Attributes:
        unread: the last token given; reading it gives the first log-probabilities.
        tokens: those that are read.
        memory: their keys and values, (n_layer, 2, 1, n_head, block_size, n_embd / n_head).
    """

    def __init__(self, model: GPT, tokens: list[int], n_more: int) -> None:
        """Read all but the last of some tokens; of too many the last, so that n_more fit into the block."""
        self.model = model
        self.memory = _new_memory(model, 1, model.config.block_size)
        *before, self.unread = tokens[-(model.config.block_size - n_more) :]
        self._begin(before)

    def _begin(self, tokens: list[int]) -> None:
        """Read tokens at once, from position 0."""
        self.tokens = tokens
        if tokens:
            _read(self.model, [tokens], self.memory, 0)

    def read(self, token: int) -> Tensor:
        """Log-probabilities (vocab_size,) of what follows one more token."""
        if len(self.tokens) == self.model.config.block_size:
            self._begin(self.tokens[-(len(self.tokens) // 2) :])
        log_p = _read(self.model, [[token]], self.memory, len(self.tokens))
        self.tokens.append(token)
        return log_p[0]


def _new_memory(model: GPT, n_rows: int, n_positions: int) -> Tensor:
    """Room for keys and values, (n_layer, 2, n_rows, n_head, n_positions, n_embd / n_head)."""
    config = model.config
    shape = config.n_layer, 2, n_rows, config.n_head, n_positions, config.n_embd // config.n_head
    return model.head.weight.new_empty(shape)


def _read(model: GPT, idx: list[list[int]], memory: Tensor, n: int) -> Tensor:
    """Log-probabilities (B, vocab_size) after reading the tokens idx (B, T) at positions [n, n + T).

    Keys and values are taken from the first B rows of `memory`, up to position n, and written to it from
    there on.

    Raises:
        InputError: these are no numbers, for the weights are none, or too large.
    """
    memory = memory[:, :, : len(idx)]
    past = [(keys[:, :, :n], values[:, :, :n]) for keys, values in memory]
    logits, presents = model.extend(torch.tensor(idx, device=memory.device), past)
    for layer, present in zip(memory, presents, strict=True):
        for old, new in zip(layer, present, strict=True):
            old[:, :, n : n + len(idx[0])] = new
    log_p = logits.float().log_softmax(-1)
    if log_p[:, 0].isnan().any():  # one that is no number makes all of them none
        raise InputError("generation: the model gives no probabilities; its weights are not sound.")
    return log_p


@dataclass(frozen=True)
class _Cover:
    """Covers that differ in their last window only; see the module's docstring.

    Attributes:
        inside: codewords of the windows before the last, which lie inside the rest.
        at: how many bytes of the rest they take.
        low: codeword of the first window that may come last.
        log_p: of the windows from there on that may, log-probability in nats of the whole cover, (n,).
    """

    inside: tuple[int, ...]
    at: int
    low: int
    log_p: Tensor


@dataclass(frozen=True)
class _Beginning:
    """Windows inside the rest, from which covers go on.

    Attributes:
        inside: their codewords.
        at: how many bytes of the rest they take.
        log_p: their log-probability in nats.
        memory: keys and values of the token before them and of all of them but the last, which is unread,
            (n_layer, 2, n_head, len(inside), n_embd / n_head).
    """

    inside: tuple[int, ...]
    at: int
    log_p: float
    memory: Tensor


def _covers(context: _Context, codebook: Codebook, rest: bytes, prune: float) -> list[_Cover]:
    """All covers of the rest, but for those whose beginnings are not `_worth_it`."""
    model, n = context.model, len(context.tokens)
    ways = [_ways(codebook, rest[at:]) for at in range(len(rest) + 1)]
    memory = _new_memory(model, N_ROWS, n + len(rest) + 1)
    memory[..., :n, :] = context.memory[..., :n, :]
    ranked: list[list[tuple[float, tuple[int, ...]]]] = [[] for _ in ways]
    best_cover = -math.inf
    covers: list[_Cover] = []
    level = [_Beginning((), 0, 0.0, memory[:, :, 0, :, n:n])]
    while level:
        longer: list[_Beginning] = []
        for start in range(0, len(level), N_ROWS):
            rows = level[start : start + N_ROWS]
            depth = len(rows[0].inside)
            memory[:, :, : len(rows), :, n : n + depth] = torch.stack([row.memory for row in rows], 2)
            unread = [[row.inside[-1] if depth else context.unread] for row in rows]
            log_p = _read(model, unread, memory, n + depth)
            for i, row in enumerate(rows):
                low, high, inner = ways[row.at]
                covers.append(_Cover(row.inside, row.at, low, log_p[i, low:high] + row.log_p))
                best_cover = max(best_cover, float(covers[-1].log_p.logsumexp(0)))
                read = memory[:, :, i, :, n : n + depth + 1].clone()
                for codeword, p in zip(inner, log_p[i, inner].tolist(), strict=True):
                    at = row.at + len(codebook.windows[codeword])
                    longer.append(_Beginning((*row.inside, codeword), at, row.log_p + p, read))
        level = _worth_it(longer, ranked, best_cover, prune) if prune else longer
    return covers


def _worth_it(
    longer: list[_Beginning],
    ranked: list[list[tuple[float, tuple[int, ...]]]],
    best_cover: float,
    prune: float,
) -> list[_Beginning]:
    """The beginnings to go on from.

    A beginning is given up if it is less probable than `prune` times the best one that takes the same bytes
    or than `prune` times the best covers, or if there are N_AT_A_PLACE better ones that take the same bytes.

    Args:
        longer: all with the same number of windows.
        ranked: log-probability and windows of the best so far, for each number of bytes; brought up to date.
        best_cover: the greatest log-probability of covers so far that differ in their last window only.
        prune: in (0, 1].
    """
    for beginning in longer:
        ranked[beginning.at].append((beginning.log_p, beginning.inside))
    for ranks in ranked:
        ranks.sort(reverse=True)
        del ranks[N_AT_A_PLACE:]
    if ranked[-1]:
        best_cover = max(best_cover, ranked[-1][0][0])  # whatever follows, it covers the rest
    return [
        b
        for b in longer
        if (b.log_p, b.inside) >= ranked[b.at][-1]
        and b.log_p >= max(best_cover, ranked[b.at][0][0]) + math.log(prune)
    ]


def _ways(codebook: Codebook, left: bytes) -> tuple[int, int, list[int]]:
    """How bytes that are left can go on.

    Returns:
        The codewords [low, high) of the windows that begin with them and are longer, or of all if none are
        left; and the codewords of the windows that they begin with, shortest first.
    """
    windows = codebook.windows
    low = bisect_right(windows, left) if left else 0
    high = bisect_right(windows, left, low, key=lambda window: window[: len(left)])
    prefixes = (left[:k] for k in range(1, min(len(left), codebook.max_window_bytes) + 1))
    return low, high, [codebook.codewords[prefix] for prefix in prefixes if prefix in codebook.codewords]


def _check_match(model: GPT, codebook: Codebook) -> None:
    """Whether a model's tokens are the windows of a codebook.

    Raises:
        MismatchError: there are more of the ones than of the others.
    """
    found, want = model.config.vocab_size, len(codebook.windows)
    if found != want:
        raise MismatchError(
            f"generation: a model of another vocabulary; found {found} tokens, want the {want} windows "
            "of the codebook. Use the codebook it was trained with."
        )
