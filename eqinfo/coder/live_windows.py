"""Live windows: windows of 24 to 128 bits, too many to list, coded with M1 running.

The coder divides an interval of 2**window_bits codewords. A node is the part of a window coded so far, and it
has `width` codewords. The stop symbol takes the first; the rest are apportioned over the 256 bytes by M1's
frequencies, in byte order (`reference.shares`). At a window's start every byte gets at least one codeword. A
window goes on while the next byte has a codeword, so it uses all its bits; it also ends where its document or
the text ends. Its codeword is the first of its node. Codeword 0, the empty window, closes a document.

M1 and the coder are reset at each window. With `carry`, M1 is reset at each document only.

`reference` defines this in plain Python, and `kernels/live_windows` holds the loops that run here. All
numbers are integers, so the codewords are the same on every machine.
"""

import numpy as np
import numpy.typing as npt

from eqinfo.coder.integer_m1 import Network
from eqinfo.system.arrays import I64, U8, U64
from eqinfo.text.frames import Bytes

WINDOW_BITS = range(24, 129, 8)  # sizes of live windows
LIMBS_BYTES = 16  # bytes of a codeword in the compiled loops: two uint64


def encode_windows(
    network: Network, text: Bytes, document_ends: npt.ArrayLike, window_bits: int, carry: bool = False
) -> bytes:
    """The windows of a text; each document is cut by itself and closed by codeword 0.

    Args:
        network: M1.
        text: any bytes.
        document_ends: offsets in [0, len(text)], ascending; equal offsets are empty documents. The text after
            the last one is an open document: no codeword 0 follows it.
        window_bits: one of WINDOW_BITS.
        carry: reset M1 at documents only, not at every window.

    Returns:
        Codewords in order, each as window_bits / 8 bytes, big-endian.
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
    """The text of windows, and its document ends.

    Args:
        network: M1.
        payload: codewords as `encode_windows` returns them.
        window_bits: one of WINDOW_BITS.
        text_length: number of bytes in the text.
        carry: as in encoding.

    Raises:
        ValueError: the payload does not decode to text_length bytes.
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


def to_big_endian(codewords: U64, window_bits: int) -> bytes:
    """Codewords as bytes, window_bits / 8 each; codewords are rows of (high, low) halves, (n, 2)."""
    rows = codewords.astype(">u8").view(np.uint8).reshape(-1, LIMBS_BYTES)
    return rows[:, LIMBS_BYTES - window_bits // 8 :].tobytes()


def from_big_endian(payload: bytes, window_bits: int) -> U64:
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


def as_arrays(text: Bytes, document_ends: npt.ArrayLike) -> tuple[U8, I64]:
    """Text (n,) and document ends (k,) as the arrays that the compiled loops take."""
    view = np.frombuffer(text, np.uint8).copy()  # a copy: numba gives read-only arrays a type of their own
    ends = np.array(document_ends, np.int64)
    assert not ends.size or (ends[0] >= 0 and ends[-1] <= view.size and bool(np.all(ends[1:] >= ends[:-1])))
    return view, ends
