"""Generation: M2 continues any bytes, even if they end inside a window, a word or a character.

M2 reads the first windows of a prompt. The bytes after them may be cut in any way: one cover of them is drawn
(`covers`), then window after window.

What this module does not do: read files, know terminals, or hold back incomplete UTF-8. Pieces are bytes.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from eqinfo.codebook import parse
from eqinfo.codebook.codebook import Codebook
from eqinfo.errors import InputError, MismatchError
from eqinfo.formats.token_file import END_OF_TEXT
from eqinfo.m2.covers import Context, covers
from eqinfo.m2.model import GPT

# In our codebook, the window that a prompt's end falls into begins less than 32 bytes before that end. All
# of 1,500 prompts kept only cuts that their whole text has too if 16 bytes were left, 99.5 % if 8 were.
BACK_OFF = 32  # the least number of bytes that are left to covers
LEAST_TEMPERATURE = 1e-6  # in float32, log-probabilities divided by less may be no numbers


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

    When M2's block is full, generation goes on from the last half of its tokens. No end of text is put before
    them, because blocks begin anywhere in a document in training.

    Args:
        model: M2, with plain embeddings, on the device to use.
        codebook: the windows that are its tokens.
        prompt: any bytes, the beginning of a document; may be empty.
        n_bytes: length of the continuation, 0 or more. It is shorter only if M2 ends the text.
        temperature: logits are divided by it; 1 is M2's own distribution, 0 takes the most probable token.
        top_k: draw from the top_k most probable tokens, 1 or more; from all if None.
        seed: of the random numbers.

    Raises:
        InputError: a setting is out of range.
        MismatchError: the model does not belong to the codebook.
    """
    found, want = model.config.vocab_size, len(codebook.windows)
    if found != want:
        raise MismatchError(
            f"generation: a model of another vocabulary; found {found} tokens, want the {want} windows "
            "of the codebook. Use the codebook it was trained with."
        )
    if not (0 <= temperature < math.inf and n_bytes >= 0 and (top_k is None or top_k >= 1)):
        raise InputError(
            f"generation: a setting is out of range; found {n_bytes} bytes, temperature {temperature}, "
            f"top-k {top_k}, want at least 0, 0 and 1."
        )
    drawn = codewords(model, codebook, prompt, temperature, top_k, seed)
    return _bytes_after(len(prompt), n_bytes, map(codebook.windows.__getitem__, drawn))


def _bytes_after(n_skipped: int, n_bytes: int, windows: Iterator[bytes]) -> Iterator[bytes]:
    """The n_bytes bytes after the first n_skipped bytes of some windows; fewer if the empty window comes."""
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
    """The codewords of a prompt and its continuation. The end of the text, if it is drawn, is the last one.

    Temperature and top_k apply first to whole covers, then to each window. `stream` describes the arguments.
    """
    rng = np.random.default_rng(seed)
    block_size = model.config.block_size
    kept, rest = split(codebook, prompt, block_size - 1)
    yield from kept
    *before, token = [END_OF_TEXT, *kept][len(rest) - block_size :]  # room for a token a byte of the rest
    context = Context(model, before)
    found = covers(context, token, codebook, rest)
    chosen = draw(torch.cat([cover.log_p for cover in found]), temperature, top_k, rng)
    for cover in found:
        if chosen < cover.log_p.numel():
            break
        chosen -= cover.log_p.numel()
    yield from cover.inside
    for inner in (token, *cover.inside):
        context.read(inner)
    token = cover.low + chosen
    while True:
        yield token
        if token == END_OF_TEXT:
            return
        token = draw(context.read(token), temperature, top_k, rng)


def split(codebook: Codebook, prompt: bytes, max_rest: int) -> tuple[list[int], bytes]:
    """The codewords of the first windows of a prompt, and the bytes after them, which are left to covers.

    Windows are kept up to the last cut that is BACK_OFF bytes or more before the end.

    Args:
        codebook: to cut with.
        prompt: any bytes.
        max_rest: the most bytes to leave. If that cut leaves more (in a block of less than some 64 tokens, or
            with very long windows), the prompt is cut exactly max_rest bytes before its end.
    """
    cut = parse.encode(codebook, prompt)
    ends = np.cumsum(codebook.lengths[cut])
    n_kept = int(np.searchsorted(ends, len(prompt) - BACK_OFF, "right"))
    at = int(ends[n_kept - 1]) if n_kept else 0
    if len(prompt) - at > max_rest:
        at = len(prompt) - max_rest
        cut = parse.encode(codebook, prompt[:at])
        n_kept = cut.size
    return cut[:n_kept].tolist(), prompt[at:]


def draw(log_p: Tensor, temperature: float, top_k: int | None, rng: np.random.Generator) -> int:
    """An index of log_p (n,), drawn in proportion to exp(log_p / temperature) from the top_k best."""
    if temperature < LEAST_TEMPERATURE or top_k == 1:
        return int(log_p.argmax())
    indices = None
    if top_k is not None and top_k < log_p.numel():
        log_p, indices = log_p.topk(top_k)
    p = ((log_p - log_p.max()) / temperature).softmax(-1)
    cumulative = p.double().cumsum(-1)  # inversion: torch.multinomial takes fifty times as long
    at = torch.searchsorted(cumulative, rng.random() * cumulative[-1], right=True).clamp(max=len(p) - 1)
    return int(at if indices is None else indices[at])
