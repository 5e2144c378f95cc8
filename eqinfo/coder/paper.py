"""EqualInfoAC, the windows of the paper, to compare with: plain Python, and slow.

M1's frequencies are rounded to 14 bits, with 1 for a symbol that ends a document. They narrow an interval of
integers of window_bits + SPARE_BITS bits. A codeword names a cell: the integers whose high window_bits bits
are the codeword. Symbols are added while the coder's interval holds a cell. The window of a codeword is the
longest string whose interval holds its cell; a string is no window if each of its cells belongs to a longer
string. The encoder takes the longest window, and the first of its codewords.

This repairs the rule that was published, whose decoder (appendix D.5 of the paper) reads a character too many
where one fits the zeros at the end of a window; `examples/benchmarks/published.py` counts such windows.

The symbol that ends a document also ends its window. The last window of an open document may be shorter than
that of its codeword: the decoder stops after text_length bytes.
"""

from bisect import bisect_right
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from eqinfo.coder.integer_m1 import BOS, Network
from eqinfo.coder.intervals import PAPER_TOTAL, narrow, paper_frequencies
from eqinfo.coder.progress import CODED
from eqinfo.coder.reference import Reader
from eqinfo.text.frames import Bytes, Frame, pieces_of_frames

SPARE_BITS = 28  # one symbol narrows an interval by up to 14 bits; 14 more keep rounding errors small
END = 0  # the symbol that ends a document; a byte's symbol is 1 + its value


def encode_windows(
    network: Network, text: Bytes, document_ends: npt.ArrayLike, window_bits: int, carry: bool = False
) -> bytes:
    """The windows of a text; arguments and result are those of `live_windows.encode_windows`."""
    tables, codewords = _Tables(network, carry), []
    frame = Frame(np.frombuffer(text, np.uint8).tobytes(), np.asarray(document_ends, np.int64).tolist())
    for document, ends in pieces_of_frames([frame]):
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
    """The text of windows, and its document ends; arguments are those of `live_windows.decode_windows`.

    Raises:
        ValueError: the payload does not decode to text_length bytes.
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
    """The codewords whose cells lie inside an interval."""
    return range(-(-low >> SPARE_BITS), low + width >> SPARE_BITS)


def _longest_window(tables: "_Tables", symbols: list[int], at: int, window_bits: int) -> tuple[int, int]:
    """Length and codeword of the longest window that symbols[at:], which is not empty, begin with."""
    low, width = 0, 1 << window_bits + SPARE_BITS
    nodes = []
    for end in range(at, len(symbols)):
        table, symbol = tables.after(symbols[at:end]), symbols[end]
        nodes.append((low, width, table))
        low, width = narrow(low, width, table[symbol], table[symbol + 1] - table[symbol], PAPER_TOTAL)
        if not _cells(low, width):
            break
    else:  # any byte may follow an open text: its last cell, as the first ones may be END's
        return len(symbols) - at, _cells(low, width)[0 if symbols[-1] == END else -1]
    # A cell that belongs to no child lies across the start of one. Some node has such a cell: as long as no
    # child starts inside a cell, all intervals consist of whole cells, and every child has one.
    for length in range(len(nodes) - 1, 0, -1):
        low, width, table = nodes[length]
        starts = (low + width * start // PAPER_TOTAL for start in table[1:-1])
        inside = _cells(low, width)
        for start in starts:
            if start % (1 << SPARE_BITS) and start >> SPARE_BITS in inside:
                return length, start >> SPARE_BITS
    raise AssertionError("no window")


def _window(tables: "_Tables", codeword: int, window_bits: int, most: int) -> list[int]:
    """The symbols of a codeword's window, with at most `most` bytes."""
    low, width = 0, 1 << window_bits + SPARE_BITS
    symbols: list[int] = []
    while not symbols or symbols[-1] != END:
        table = tables.after(symbols)
        offset = (codeword << SPARE_BITS) - low
        # the child that holds the first number of the cell
        symbol = bisect_right(table, ((offset + 1) * PAPER_TOTAL - 1) // width) - 1
        low, width = narrow(low, width, table[symbol], table[symbol + 1] - table[symbol], PAPER_TOTAL)
        if codeword not in _cells(low, width) or (symbol != END and len(symbols) == most):
            break
        symbols.append(symbol)
    return symbols


class _Tables:
    """Cumulative frequencies (258 numbers) after each prefix of the current window."""

    def __init__(self, network: Network, carry: bool) -> None:
        self._reader, self._carry = Reader(network), carry

    def begin(self) -> None:
        """Start a document, or a window without `carry`: M1 is reset."""
        self._known = [self._read(BOS)]  # after 0, 1, ... symbols of the window, as far as M1 has read

    def end_window(self, length: int) -> None:
        """Start the next window, `length` symbols after the start of the last one."""
        CODED[0] += length
        self._known = self._known[length:]
        if not self._carry or not self._known:
            self.begin()

    def after(self, symbols: list[int]) -> list[int]:
        """The table after a prefix of the window; prefixes must come in order of length."""
        if len(symbols) == len(self._known):
            self._known.append(self._read(symbols[-1] - 1))
        return self._known[len(symbols)]

    def _read(self, symbol: int) -> list[int]:
        frequencies = np.concatenate(([0], self._reader.read(symbol)))
        return [0, *accumulate(paper_frequencies(frequencies[None])[0].tolist())]
