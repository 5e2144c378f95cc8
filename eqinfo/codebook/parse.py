"""Cutting text into windows: the decoder is a table, so the encoder may choose.

`optimal` takes the cut of least cost: one per window plus `unaligned_penalty` per cut inside a word, ties
going to fewer unaligned cuts, then to the longer window. With penalty 0 that is the fewest windows, and
among those the most cuts at word boundaries. `greedy` takes the longest match, as the paper does.

`cut` is the definition, in plain Python; `kernels` holds the same two loops compiled, for texts where
compiled code pays for its start-up. Both give the same codewords, always: costs are integers.
"""

import numpy as np
import numpy.typing as npt

from eqinfo.codebook.codebook import PENALTY_UNIT, Codebook
from eqinfo.text.frames import Bytes

Codewords = npt.NDArray[np.uint32]

# A segment's cost is windows * WINDOW_COST + unaligned cuts * (penalty + 1): the "+ 1" is the tie-break and
# can never add up to a window, as segments are shorter than 2**26 bytes. The largest cost is
# 2**26 * (2**26 + 1000 * 2**26), below 2**62.
MAX_SEGMENT_BYTES = 1 << 26
WINDOW_COST = MAX_SEGMENT_BYTES

COMPILED_FROM = 1 << 21  # bytes x longest window: up to here plain Python is done before numba is imported


def _word_bytes() -> npt.NDArray[np.bool_]:
    """Which of the 256 byte values belong to words: letters, digits, and all of UTF-8 beyond ASCII."""
    return np.array([value >= 0x80 or chr(value).isalnum() for value in range(256)])


WORD_BYTES = _word_bytes()


def is_aligned(before: int, after: int) -> bool:
    """Whether a cut between two bytes falls at a word boundary: not between two word bytes."""
    return not (WORD_BYTES[before] and WORD_BYTES[after])


def unaligned_cost(penalty: float) -> int:
    """The cost of an unaligned cut whose price in windows is `penalty`, in [0, 1000]."""
    return round(penalty * PENALTY_UNIT) * (WINDOW_COST // PENALTY_UNIT) + 1


def cut(codebook: Codebook, text: bytes) -> list[bytes]:
    """The windows of one segment: the definition of both parses.

    Args:
        codebook: the windows, the method and the penalty.
        text: at most MAX_SEGMENT_BYTES bytes; both ends are cuts that cost nothing.
    """
    known, longest, n = codebook.codewords, codebook.max_window_bytes, len(text)
    length = [1] * n  # of the window that starts at each position
    if codebook.method == "greedy":
        for i in range(n):
            length[i] = next(k for k in range(min(longest, n - i), 0, -1) if text[i : i + k] in known)
    else:
        unaligned = unaligned_cost(codebook.unaligned_penalty)
        cost = [0] * (n + 1)  # of text[i:], with the cut before it
        for i in range(n - 1, -1, -1):
            best = None
            for k in range(min(longest, n - i), 0, -1):
                if (best is None or cost[i + k] < best) and text[i : i + k] in known:
                    best, length[i] = cost[i + k], k
            assert best is not None  # all single bytes are windows
            cost[i] = best + WINDOW_COST
            if i and not is_aligned(text[i - 1], text[i]):
                cost[i] += unaligned
    windows, i = [], 0
    while i < n:
        windows.append(text[i : i + length[i]])
        i += length[i]
    return windows


def _pays(codebook: Codebook, size: int) -> bool:
    """Whether compiled code is worth its start: for this text, or for all so far with this codebook."""
    codebook.work[0] += size * codebook.max_window_bytes
    return codebook.work[0] >= COMPILED_FROM


def encode(codebook: Codebook, text: Bytes, document_ends: npt.ArrayLike = ()) -> Codewords:
    """The codewords of a text, each document cut by itself and closed by codeword 0.

    Args:
        codebook: what to cut with.
        text: at most MAX_SEGMENT_BYTES bytes, of any value.
        document_ends: offsets in [0, len(text)], ascending, of the document ends in the text; equal ones
            are empty documents. Text after the last one is left open: no codeword 0 follows it.

    Returns:
        Codewords, uint32, in order. The same for every machine and thread count.
    """
    view = np.frombuffer(text, np.uint8)
    ends = np.asarray(document_ends, np.int64)
    if _pays(codebook, view.size):
        return encode_compiled(codebook, view, ends)
    codewords: list[int] = []
    for start, end in zip([0, *ends.tolist()], [*ends.tolist(), view.size], strict=True):
        codewords += map(codebook.codewords.__getitem__, cut(codebook, view[start:end].tobytes()))
        codewords.append(0)
    return np.array(codewords[:-1], np.uint32)  # nothing closes the text after the last document


def encode_compiled(
    codebook: Codebook, text: npt.NDArray[np.uint8], document_ends: npt.NDArray[np.int64]
) -> Codewords:
    """`encode` by compiled code, whatever the size."""
    from eqinfo.codebook.kernels.parse import encode_greedy, encode_optimal

    ends = document_ends
    assert text.size <= MAX_SEGMENT_BYTES
    assert not ends.size or (ends[0] >= 0 and ends[-1] <= text.size and bool(np.all(ends[1:] >= ends[:-1])))
    if codebook.method == "greedy":
        return encode_greedy(text, ends, *codebook.trie)
    unaligned = unaligned_cost(codebook.unaligned_penalty)
    longest = codebook.max_window_bytes
    return encode_optimal(text, ends, *codebook.trie, longest, WORD_BYTES, WINDOW_COST, unaligned)


def decode(codebook: Codebook, codewords: npt.NDArray[np.unsignedinteger]) -> bytes:
    """The bytes of a sequence of codewords, each below `len(codebook.windows)`.

    Raises:
        IndexError: a codeword is not in the codebook.
    """
    if not codewords.size or not _pays(codebook, codewords.size):
        return b"".join(map(codebook.windows.__getitem__, codewords.tolist()))
    from eqinfo.codebook.kernels import decode as kernel

    return kernel.decode(codewords, *codebook.rows).tobytes()
