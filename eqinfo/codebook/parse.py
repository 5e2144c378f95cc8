"""Parsing: text to codewords and back.

Any sequence of codewords can be decoded, so the encoder may choose where to cut:

- `optimal` takes the cut of least cost: 1 for each window and `unaligned_penalty` for each cut inside a word.
  With penalty 0 that is the fewest windows. Many cuts tie, and language models learn frequent windows better.
  So a rare window costs a little more, 1/16,384 for each quarter bit of its rarity (`Codebook.rarities`).
  What ties even so goes to the longer last window, then to the longer one before it.
- `greedy` takes the longest match at each position, as the paper does.

`cut` defines both in plain Python. `kernels/parse` holds the same two loops compiled, for texts long enough
to pay for importing numba. Costs are integers, so both give the same codewords on every machine.

>>> from eqinfo.codebook.codebook import Codebook
>>> windows = sorted([b"", *(bytes([b]) for b in range(256)), b"ab", b"abc", b"a b"])
>>> codebook = Codebook(windows, window_bits=9)
>>> windows[98:103]
[b'a', b'a b', b'ab', b'abc', b'b']
>>> encode(codebook, b"abcab").tolist()
[101, 100]
"""

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from eqinfo.codebook.codebook import PENALTY_UNIT, Codebook
from eqinfo.system.arrays import I64, U8, U32, Ids
from eqinfo.text.frames import Bytes

Codewords = U32

WINDOW_COST = 16 * PENALTY_UNIT  # costs are in 1/WINDOW_COST window
DEAREST_CUT = 63.0  # windows; a larger penalty counts as this one, so that costs fit their bits
MAX_SEGMENT_BYTES = 1 << 26  # of a call, which takes up to 8 bytes of memory for each

# Plain Python takes about as long for this much work, in bytes * longest window, as importing numba does.
COMPILED_FROM = 1 << 21
_work = 0  # what this process has parsed and decoded, in the same unit

# Which byte values belong to words: ASCII letters and digits, and all bytes of other characters in UTF-8.
WORD_BYTES = np.array([value >= 0x80 or chr(value).isalnum() for value in range(256)])


def is_aligned(before: Any, after: Any) -> Any:
    """Whether a cut falls at a word boundary: the bytes before and after it are not both word bytes.

    Args:
        before: a byte value, or an array of them.
        after: likewise, of the same shape.
    """
    return ~(WORD_BYTES[before] & WORD_BYTES[after])


def penalty_cost(penalty: float) -> int:
    """A penalty in windows, in [0, 1000], as a cost."""
    return WINDOW_COST // PENALTY_UNIT * round(min(penalty, DEAREST_CUT) * PENALTY_UNIT)


def window_cost(codebook: Codebook, codeword: int) -> int:
    """The cost of a window by itself: WINDOW_COST and its rarity, less the penalties that it saves.

    A text has so many pairs of neighbouring word bytes. Each is inside a window or has a cut inside, so the
    penalties of all cuts are a constant of the text less one penalty for each pair inside a window.
    """
    penalty = penalty_cost(codebook.unaligned_penalty)
    saved = penalty * sum(not is_aligned(a, b) for a, b in pairwise(codebook.windows[codeword]))
    return WINDOW_COST + (codebook.rarities[codeword] if codebook.rarities else 0) - saved


def cut(codebook: Codebook, text: bytes) -> list[bytes]:
    """The windows that a document is cut into: the definition of both parses.

    Args:
        codebook: the windows, the method and the penalty.
        text: at most MAX_SEGMENT_BYTES bytes; its two ends cost nothing.
    """
    known, longest, n = codebook.codewords, codebook.max_window_bytes, len(text)
    if codebook.method == "greedy":
        windows, i = [], 0
        while i < n:
            k = next(k for k in range(min(longest, n - i), 0, -1) if text[i : i + k] in known)
            windows.append(text[i : i + k])
            i += k
        return windows
    penalty = penalty_cost(codebook.unaligned_penalty)
    rarities = codebook.rarities or bytes(len(codebook.windows))
    # by end: least cost of text[:end], with the penalty of a cut there; length of the last window
    cost, last = [0], [0]
    for end in range(1, n + 1):
        costs = {
            k: cost[end - k] + WINDOW_COST + rarities[known[text[end - k : end]]]
            for k in range(min(longest, end), 0, -1)
            if text[end - k : end] in known
        }
        last.append(min(costs, key=lambda k: costs[k]))  # of equal costs, the first: the longest
        is_inside = end < n and not is_aligned(text[end - 1], text[end])
        cost.append(costs[last[end]] + (penalty if is_inside else 0))
    windows, end = [], n
    while end:
        windows.append(text[end - last[end] : end])
        end -= last[end]
    return windows[::-1]


def _pays(codebook: Codebook, size: int) -> bool:
    """Whether to use compiled code: this process has now done enough work to pay for importing numba."""
    global _work
    _work += size * codebook.max_window_bytes
    return _work >= COMPILED_FROM


def encode(codebook: Codebook, text: Bytes, document_ends: npt.ArrayLike = ()) -> Codewords:
    """The codewords of a text; each document is parsed by itself and closed by codeword 0.

    Args:
        codebook: the windows, the method and the penalty.
        text: at most MAX_SEGMENT_BYTES bytes, of any value.
        document_ends: offsets in [0, len(text)], ascending; equal offsets are empty documents. The text after
            the last one is an open document: no codeword 0 follows it.

    Returns:
        Codewords in order, (n,).
    """
    view = np.frombuffer(text, np.uint8)
    ends = np.asarray(document_ends, np.int64)
    if _pays(codebook, view.size):
        return encode_compiled(codebook, view, ends)
    codewords: list[int] = []
    for start, end in zip([0, *ends.tolist()], [*ends.tolist(), view.size], strict=True):
        codewords += map(codebook.codewords.__getitem__, cut(codebook, view[start:end].tobytes()))
        codewords.append(0)
    return np.array(codewords[:-1], np.uint32)  # without the 0 that would close the open document


def encode_compiled(codebook: Codebook, text: U8, ends: I64) -> Codewords:
    """The result of `encode`, by compiled code whatever the size; arrays of uint8 (n,) and int64 (k,)."""
    from eqinfo.codebook.kernels.parse import encode_greedy, encode_optimal

    assert text.size <= MAX_SEGMENT_BYTES
    assert not ends.size or (ends[0] >= 0 and ends[-1] <= text.size and bool(np.all(ends[1:] >= ends[:-1])))
    if codebook.method == "greedy":
        return encode_greedy(text, ends, *codebook.trie)
    penalty = penalty_cost(codebook.unaligned_penalty)
    longest = codebook.max_window_bytes
    return encode_optimal(text, ends, *codebook.trie, codebook.slot_rarities, longest, penalty)


def decode(codebook: Codebook, codewords: Ids) -> bytes:
    """The text of codewords (n,), each below `len(codebook.windows)`.

    Raises:
        IndexError: a codeword is not in the codebook.
    """
    if not codewords.size or not _pays(codebook, codewords.size):
        return b"".join(map(codebook.windows.__getitem__, codewords.tolist()))
    from eqinfo.codebook.kernels.decode import decode as decode_compiled

    return decode_compiled(codewords, *codebook.rows).tobytes()
