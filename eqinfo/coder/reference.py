"""The definition of live windows: symbol by symbol, in plain Python, and slow.

`live_windows` runs compiled loops, which must give exactly the codewords of `encode_plainly` and the text of
`decode_plainly`. Only tests call these two: they are kept in the package because they are the definition.
`paper` uses `Reader`, `torch_windows` uses `shares`.
"""

from collections.abc import Sequence

from eqinfo.coder.integer_m1 import BOS, M1_TOTAL, N_BYTES, Network
from eqinfo.coder.intervals import narrow
from eqinfo.system.arrays import I64
from eqinfo.text.frames import Frame, pieces_of_frames


def shares(frequencies: Sequence[int], rest: int, is_start: bool) -> list[int]:
    """The number of a node's codewords that each byte gets, 256 of them; they add up to `rest`.

    Largest remainders: each byte gets floor(rest * frequency / M1_TOTAL) codewords; those left over go one
    each to the bytes with the largest remainders, ties to the lower byte. With rest = quotient * M1_TOTAL
    + small, only `small` decides the remainders, so they fit 20 bits however wide a window is.

    Args:
        frequencies: M1's, of the 256 bytes, each at least 1, adding up to M1_TOTAL.
        rest: codewords of the node, less the one of the stop symbol; at least 256 if is_start.
        is_start: whether a window starts here; then each byte gets one codeword before the rest is shared.
    """
    least = int(is_start)
    quotient, small = divmod(rest - least * N_BYTES, M1_TOTAL)
    products = [small * frequency for frequency in frequencies]
    left = small - sum(product // M1_TOTAL for product in products)
    order = sorted(range(N_BYTES), key=lambda byte: (-(products[byte] % M1_TOTAL), byte))
    first = set(order[:left])
    return [
        least + quotient * frequency + product // M1_TOTAL + (byte in first)
        for byte, (frequency, product) in enumerate(zip(frequencies, products, strict=True))
    ]


class Reader:
    """M1 reading symbols one by one, for the coders in plain Python."""

    def __init__(self, network: Network) -> None:
        from eqinfo.coder.kernels.m1_step import new_state

        self._network, self._state = network, new_state(network)

    def read(self, symbol: int) -> "I64":
        """M1's frequencies (256,) of the next byte, after one more byte or after BOS, which resets M1."""
        from eqinfo.coder.kernels.m1_step import step

        step(self._network, self._state, symbol)
        return self._state.frequencies.copy()


def encode_plainly(
    network: Network, text: bytes, document_ends: Sequence[int], window_bits: int, carry: bool = False
) -> list[int]:
    """The codewords of `live_windows.encode_windows`, by narrowing symbol by symbol."""
    reader, codewords = Reader(network), []
    for document, is_closed in pieces_of_frames([Frame(text, document_ends)]):
        frequencies, at = reader.read(BOS), 0
        while at < len(document):
            if not carry:
                frequencies = reader.read(BOS)
            low, width, start = 0, 1 << window_bits, at
            while at < len(document):
                at_node = [1, *shares(frequencies.tolist(), width - 1, at == start)]
                symbol = document[at] + 1
                if not at_node[symbol]:  # the window is full
                    break
                low, width = narrow(low, width, sum(at_node[:symbol]), at_node[symbol], width)
                frequencies = reader.read(document[at])
                at += 1
            codewords.append(low)
        codewords += [0] * is_closed
    return codewords


def decode_plainly(
    network: Network, codewords: list[int], window_bits: int, carry: bool = False
) -> tuple[bytes, list[int]]:
    """The text and document ends of codewords below 2**window_bits, by descending to stop symbols."""
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
