"""Live coding: M1 runs, and its frequencies divide the codewords of windows too wide for a codebook.

A node is what has been coded of a window; it has `width` codewords. The stop symbol takes the first, and the
rest is apportioned over the 256 bytes by M1's frequencies, in byte order (`shares`); at a window's start,
where the width is 2**window_bits, every byte has at least one. A window goes on while the next byte has a
share, so it fills its bits: nothing is padded. It also ends where a document or the text ends. Its codeword
is the first of its node; codeword 0, the empty window, closes a document.

M1 and the coder begin anew at each window. With `carry` M1 reads on until the document ends, and only the
coder begins anew. Without windows (`ac`) one range coder codes a text in a row: a symbol for a document's
end, with frequency 1, or a byte with M1's frequency, of network.TOTAL + 1 in all.

`encode_plainly` and `decode_plainly` are the definition of windows, symbol by symbol; `live_kernels` holds
the same loops compiled. All is in integers, so the results are the same everywhere, always.
"""

import numpy as np
import numpy.typing as npt

from eqinfo.coder.integer_m1 import Network
from eqinfo.text.frames import Bytes

WINDOW_BITS = range(24, 129, 8)  # that live windows may have
LIMBS_BYTES = 16  # of a codeword in the compiled loops


def encode_windows(
    network: Network, text: Bytes, document_ends: npt.ArrayLike, window_bits: int, carry: bool = False
) -> bytes:
    """The windows of a text, each document cut by itself and closed by codeword 0.

    Args:
        network: M1.
        text: of any bytes.
        document_ends: offsets in [0, len(text)], ascending, of the document ends in the text; equal ones
            are empty documents. Text after the last one is left open: no codeword 0 follows it.
        window_bits: of WINDOW_BITS.
        carry: let M1 read on across windows.

    Returns:
        Codewords, window_bits / 8 bytes each, the most significant first.
    """
    from eqinfo.coder.kernels import live_windows as kernels

    assert window_bits in WINDOW_BITS
    view, ends = as_arrays(text, document_ends)
    work, largest = kernels.new_work(network), kernels.largest_rest(window_bits)
    codewords = kernels.encode_windows(network, work, view, ends, largest, carry)
    return to_big_endian(codewords, window_bits)


def decode_windows(
    network: Network, payload: bytes, window_bits: int, text_length: int, carry: bool = False
) -> tuple[bytes, list[int]]:
    """Text and document ends of windows.

    Args:
        network: M1.
        payload: as `encode_windows` gives it.
        window_bits: of WINDOW_BITS.
        text_length: bytes of the text.
        carry: as in encoding.

    Raises:
        ValueError: the payload is not of a text of this length.
    """
    from eqinfo.coder.kernels import live_windows as kernels

    assert window_bits in WINDOW_BITS
    codewords = from_big_endian(payload, window_bits)
    work, largest = kernels.new_work(network), kernels.largest_rest(window_bits)
    text, ends = kernels.decode_windows(network, work, codewords, largest, text_length, carry)
    if text.size != text_length:
        raise ValueError(
            f"{'more' if text.size > text_length else 'fewer'} bytes of text than there should be"
        )
    return text.tobytes(), ends.tolist()


def to_big_endian(codewords: npt.NDArray[np.uint64], window_bits: int) -> bytes:
    """Codewords (n, 2), the higher half first, as window_bits / 8 bytes each."""
    rows = codewords.astype(">u8").view(np.uint8).reshape(-1, LIMBS_BYTES)
    return rows[:, LIMBS_BYTES - window_bits // 8 :].tobytes()


def from_big_endian(payload: bytes, window_bits: int) -> npt.NDArray[np.uint64]:
    """The inverse of `to_big_endian`.

    Raises:
        ValueError: the payload is not a whole number of windows.
    """
    size = window_bits // 8
    if len(payload) % size:
        raise ValueError("not a whole number of windows")
    rows = np.zeros((len(payload) // size, LIMBS_BYTES), np.uint8)
    rows[:, LIMBS_BYTES - size :] = np.frombuffer(payload, np.uint8).reshape(-1, size)
    return rows.view(">u8").astype(np.uint64)


def as_arrays(
    text: Bytes, document_ends: npt.ArrayLike
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Text and document ends as arrays of one type for the compiled loops."""
    view = np.frombuffer(text, np.uint8).copy()  # a constant array would be another type
    ends = np.array(document_ends, np.int64)
    assert not ends.size or (ends[0] >= 0 and ends[-1] <= view.size and bool(np.all(ends[1:] >= ends[:-1])))
    return view, ends
