"""Windows by the paper's rule (EqualInfoAC) at any width, for comparison: plain Python, and slow.

M1's frequencies are rounded to 14 bits, with 1 for a symbol that ends a document, and narrow an interval of
numbers of window_bits + SPARE_BITS binary digits. A codeword names those that begin with its window_bits
digits, a cell. Symbols are added while a cell fits inside the coder's interval. The window of a codeword is
the longest string whose interval holds its cell, as in the codebooks of `compile.published`; so strings
without a cell that no longer string has are no windows. The encoder takes the longest window, and the first
of its codewords.

The symbol that ends a document also ends its window. The last window of a text that stays open may be
shorter than its codeword's: the decoder stops where the text does.
"""

from bisect import bisect_right
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from eqinfo.coder.integer_m1 import BOS, Network
from eqinfo.coder.intervals import PAPER_TOTAL, narrow, paper_frequencies
from eqinfo.coder.reference import Reader, documents
from eqinfo.text.frames import Bytes

SPARE_BITS = 28  # 14 by which one symbol may narrow the shortest interval with a cell, and 14 to round in
END = 0  # the symbol that ends a document; that of a byte is one more than the byte


def encode_windows(
    network: Network, text: Bytes, document_ends: npt.ArrayLike, window_bits: int, carry: bool = False
) -> bytes:
    """The windows of a text; arguments and result are those of `live.encode_windows`."""
    tables, codewords = _Tables(network, carry), []
    for document, ends in documents(np.frombuffer(text, np.uint8).tobytes(), document_ends):
        symbols, at = [byte + 1 for byte in document] + [END] * ends, 0
        tables.begin()
        while at < len(symbols):
            length, codeword = _longest_window(tables, symbols, at, window_bits)
            codewords.append(codeword)
            tables.end_window(length)
            at += length
    return b"".join(codeword.to_bytes(window_bits // 8, "big") for codeword in codewords)


def decode_windows(
    network: Network, payload: bytes, window_bits: int, text_length: int, carry: bool = False
) -> tuple[bytes, list[int]]:
    """Text and document ends of windows; arguments are those of `live.decode_windows`.

    Raises:
        ValueError: the payload is not of a text of this length.
    """
    size = window_bits // 8
    if len(payload) % size:
        raise ValueError("not a whole number of windows")
    tables, text, document_ends = _Tables(network, carry), bytearray(), list[int]()
    tables.begin()
    for at in range(0, len(payload), size):
        codeword = int.from_bytes(payload[at : at + size], "big")
        symbols = _window(tables, codeword, window_bits, text_length - len(text))
        if not symbols:
            raise ValueError("more windows than the text has")
        tables.end_window(len(symbols))
        if symbols[-1] == END:
            document_ends.append(len(text) + len(symbols) - 1)
            tables.begin()
        text += bytes(symbol - 1 for symbol in symbols if symbol != END)
    if len(text) != text_length:
        raise ValueError("fewer bytes of text than there should be")
    return bytes(text), document_ends


def _cells(low: int, width: int) -> range:
    """The codewords whose cells are in an interval."""
    return range(-(-low >> SPARE_BITS), low + width >> SPARE_BITS)


def _longest_window(tables: "_Tables", symbols: list[int], at: int, window_bits: int) -> tuple[int, int]:
    """Length and codeword of the longest window of the symbols from `at` on, of which there are some."""
    low, width = 0, 1 << window_bits + SPARE_BITS
    nodes = []
    for end in range(at, len(symbols)):
        table, symbol = tables.after(symbols[at:end]), symbols[end]
        nodes.append((low, width, table))
        low, width = narrow(low, width, table[symbol], table[symbol + 1] - table[symbol], PAPER_TOTAL)
        if not _cells(low, width):
            break
    else:  # beyond an open text anything may follow but the end of a document, whose cells are the first
        return len(symbols) - at, _cells(low, width)[0 if symbols[-1] == END else -1]
    # A cell that no symbol has lies across the start of one. There is one: before the first node with a start
    # inside a cell all intervals end where cells do, and a symbol without a cell follows only on such a node.
    for length in range(len(nodes) - 1, 0, -1):
        low, width, table = nodes[length]
        starts = (low + width * start // PAPER_TOTAL for start in table[1:-1])
        inside = _cells(low, width)
        for start in starts:
            if start % (1 << SPARE_BITS) and start >> SPARE_BITS in inside:
                return length, start >> SPARE_BITS
    raise AssertionError("no window")


def _window(tables: "_Tables", codeword: int, window_bits: int, most: int) -> list[int]:
    """The symbols of a codeword, at most so many bytes."""
    low, width = 0, 1 << window_bits + SPARE_BITS
    symbols: list[int] = []
    while not symbols or symbols[-1] != END:
        table = tables.after(symbols)
        offset = (codeword << SPARE_BITS) - low
        symbol = (
            bisect_right(table, ((offset + 1) * PAPER_TOTAL - 1) // width) - 1
        )  # of the cell's first number
        low, width = narrow(low, width, table[symbol], table[symbol + 1] - table[symbol], PAPER_TOTAL)
        if codeword not in _cells(low, width) or (symbol != END and len(symbols) == most):
            break
        symbols.append(symbol)
    return symbols


class _Tables:
    """Sums of the frequencies before each symbol, and of all, after each beginning of a window."""

    def __init__(self, network: Network, carry: bool) -> None:
        self._reader, self._carry = Reader(network), carry

    def begin(self) -> None:
        """Begin a document."""
        self._known = [self._read(BOS)]  # after 0, 1, ... symbols; of all that M1 has read

    def end_window(self, length: int) -> None:
        """Begin another window, after so many symbols of the last one."""
        self._known = self._known[length:]
        if not self._carry or not self._known:
            self.begin()

    def after(self, symbols: list[int]) -> list[int]:
        """The table after a beginning of the window; that of one symbol less was asked for before."""
        if len(symbols) == len(self._known):
            self._known.append(self._read(symbols[-1] - 1))
        return self._known[len(symbols)]

    def _read(self, symbol: int) -> list[int]:
        frequencies = np.concatenate(([0], self._reader.read(symbol)))
        return [0, *accumulate(paper_frequencies(frequencies[None])[0].tolist())]
