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

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from eqinfo.coder.integer_m1 import BOS, N_BYTES, TOTAL, TOTAL_BITS, Network
from eqinfo.coder.intervals import narrow
from eqinfo.text.frames import Bytes

if TYPE_CHECKING:
    pass

WINDOW_BITS = range(24, 129, 8)  # that live windows may have
LIMBS_BYTES = 16  # of a codeword in the compiled loops


def shares(frequencies: Sequence[int], rest: int, is_start: bool) -> list[int]:
    """How many of a node's codewords each byte has; they add up to `rest`.

    Largest remainders: each byte has the whole part of rest * frequency / TOTAL, and the bytes with the
    largest remainders, of equal ones the lower bytes, one more. The quotient of rest and TOTAL takes no part
    in remainders, so it is kept apart: then they fit 20 bits however wide a window is.

    Args:
        frequencies: of the 256 bytes, each at least 1, adding up to TOTAL.
        rest: codewords of the node beside the stop symbol's.
        is_start: of a window: then each byte first has one codeword, and rest is at least 256.
    """
    least = int(is_start)
    quotient, small = divmod(rest - least * N_BYTES, TOTAL)
    products = [small * frequency for frequency in frequencies]
    left = small - sum(product // TOTAL for product in products)
    order = sorted(range(N_BYTES), key=lambda byte: (-(products[byte] % TOTAL), byte))
    first = set(order[:left])
    return [
        least + quotient * frequency + product // TOTAL + (byte in first)
        for byte, (frequency, product) in enumerate(zip(frequencies, products, strict=True))
    ]


class Reader:
    """M1 reading symbols one by one, for the codings in plain Python."""

    def __init__(self, network: Network) -> None:
        from eqinfo.coder.kernels.m1_step import new_state

        self._network, self._state = network, new_state(network)

    def read(self, symbol: int) -> "npt.NDArray[np.int64]":
        """The frequencies (256,) after one more byte, or after BOS alone."""
        from eqinfo.coder.kernels.m1_step import step

        step(self._network, self._state, symbol)
        return self._state.frequencies.copy()


def documents(text: bytes, document_ends: npt.ArrayLike) -> Iterator[tuple[bytes, bool]]:
    """The documents of a text, each with whether it ends; the last does not, and may be empty."""
    ends = np.asarray(document_ends, np.int64).tolist()
    for start, end in zip([0, *ends], ends, strict=False):
        yield text[start:end], True
    yield text[ends[-1] if ends else 0 :], False


def encode_plainly(
    network: Network, text: bytes, document_ends: npt.ArrayLike, window_bits: int, carry: bool = False
) -> list[int]:
    """The codewords of `encode_windows`, by narrowing symbol by symbol."""
    reader, codewords = Reader(network), []
    for document, ends in documents(text, document_ends):
        frequencies, at = reader.read(BOS), 0
        while at < len(document):
            if not carry:
                frequencies = reader.read(BOS)
            low, width, start = 0, 1 << window_bits, at
            while at < len(document):
                at_node = [1, *shares(frequencies.tolist(), width - 1, at == start)]
                symbol = document[at] + 1
                if not at_node[symbol]:
                    break
                low, width = narrow(low, width, sum(at_node[:symbol]), at_node[symbol], width)
                frequencies = reader.read(document[at])
                at += 1
            codewords.append(low)
        codewords += [0] * ends
    return codewords


def decode_plainly(
    network: Network, codewords: list[int], window_bits: int, carry: bool = False
) -> tuple[bytes, list[int]]:
    """Text and document ends of codewords below 2**window_bits, by descending to stop symbols."""
    reader, text, document_ends = Reader(network), bytearray(), list[int]()
    frequencies = reader.read(BOS)
    for codeword in codewords:
        if not carry:
            frequencies = reader.read(BOS)
        low, width, start = 0, 1 << window_bits, len(text)
        while codeword != low:
            at_node = [1, *shares(frequencies.tolist(), width - 1, len(text) == start)]
            symbol, before = 0, 0
            while low + before + at_node[symbol] <= codeword:
                before += at_node[symbol]
                symbol += 1
            low, width = narrow(low, width, before, at_node[symbol], width)
            text.append(symbol - 1)
            frequencies = reader.read(symbol - 1)
        if codeword == 0:
            document_ends.append(len(text))
            frequencies = reader.read(BOS)
    return bytes(text), document_ends


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
    view, ends = _checked(text, document_ends)
    work, largest = kernels.new_work(network), kernels.largest_rest(window_bits)
    codewords = kernels.encode_windows(network, work, view, ends, largest, carry)
    return pack(codewords, window_bits)


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
    codewords = unpack(payload, window_bits)
    work, largest = kernels.new_work(network), kernels.largest_rest(window_bits)
    text, ends = kernels.decode_windows(network, work, codewords, largest, text_length, carry)
    if text.size != text_length:
        raise ValueError(
            f"{'more' if text.size > text_length else 'fewer'} bytes of text than there should be"
        )
    return text.tobytes(), ends.tolist()


def encode_ac(network: Network, text: Bytes, document_ends: npt.ArrayLike) -> bytes:
    """The plain arithmetic code of a text; the arguments are those of `encode_windows`.

    Returns:
        All bytes that have left the coder, and then the fewest that, followed by zeros, are in its interval.
    """
    from eqinfo.coder.kernels import range_coder
    from eqinfo.coder.kernels.m1_step import new_state

    view, ends = _checked(text, document_ends)
    return range_coder.encode_ac(network, new_state(network), view, ends).tobytes()


def decode_ac(
    network: Network, payload: bytes, text_length: int, n_documents: int
) -> tuple[bytes, list[int]]:
    """Text and document ends of a plain arithmetic code.

    Args:
        network: M1.
        payload: as `encode_ac` gives it.
        text_length: bytes of the text.
        n_documents: how many documents end in it.

    Raises:
        ValueError: the payload is not of a text of this length with so many document ends.
    """
    from eqinfo.coder.kernels import range_coder
    from eqinfo.coder.kernels.m1_step import new_state

    what = "not the code of so many bytes and documents"
    if n_documents * TOTAL_BITS > 8 * (len(payload) + 1):  # the bits that leave the coder
        raise ValueError(what)
    view = np.frombuffer(payload, np.uint8).copy()
    text, ends, is_right = range_coder.decode_ac(network, new_state(network), view, text_length, n_documents)
    if not is_right:
        raise ValueError(what)
    return text.tobytes(), ends.tolist()


def pack(codewords: npt.NDArray[np.uint64], window_bits: int) -> bytes:
    """Codewords (n, 2), the higher half first, as window_bits / 8 bytes each."""
    rows = codewords.astype(">u8").view(np.uint8).reshape(-1, LIMBS_BYTES)
    return rows[:, LIMBS_BYTES - window_bits // 8 :].tobytes()


def unpack(payload: bytes, window_bits: int) -> npt.NDArray[np.uint64]:
    """The inverse of `pack`.

    Raises:
        ValueError: the payload is not a whole number of windows.
    """
    size = window_bits // 8
    if len(payload) % size:
        raise ValueError("not a whole number of windows")
    rows = np.zeros((len(payload) // size, LIMBS_BYTES), np.uint8)
    rows[:, LIMBS_BYTES - size :] = np.frombuffer(payload, np.uint8).reshape(-1, size)
    return rows.view(">u8").astype(np.uint64)


def _checked(
    text: Bytes, document_ends: npt.ArrayLike
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Text and document ends as arrays of one type for the compiled loops."""
    view = np.frombuffer(text, np.uint8).copy()  # a constant array would be another type
    ends = np.array(document_ends, np.int64)
    assert not ends.size or (ends[0] >= 0 and ends[-1] <= view.size and bool(np.all(ends[1:] >= ends[:-1])))
    return view, ends
