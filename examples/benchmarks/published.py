"""Counts the windows that the paper's rule would misread, and what the repair of `--rule published` costs.

    python examples/benchmarks/published.py alice29.txt

The paper's rule (Lester et al., 2024, section 3.3 and appendix D.5): a window takes bytes as long as the
shortest bits whose continuations all lie in its interval are at most window_bits; zeros fill them up. The
decoder reads bytes from the number that these bits and endless zeros are, encodes them again, and reads on as
long as the result is the same bits: "the most input characters possible" are in a window. But only characters
of the text were tried. Often one fits the zeros that is not the next one of the text, and the decoder reads
it: the window is misread.

The arithmetic is exact: frequencies add up to 2**14, so after n bytes an interval is two integers, in units
of 2**(-14 n). Nothing of eqinfo's coders is used here but M1's frequencies, rounded to 14 bits. For the
repair, the whole text is coded by `coder.paper`, decoded, and compared.
"""

import argparse
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

from eqinfo.coder import paper
from eqinfo.coder.integer_m1 import BOS, Network
from eqinfo.coder.intervals import PAPER_TOTAL, paper_frequencies
from eqinfo.coder.reference import Reader
from eqinfo.formats.model_folder import Model, model_path

MODELS = ("default", "english")
WINDOW_BITS = (24, 64)
SYMBOL_BITS = PAPER_TOTAL.bit_length() - 1


class Interval:
    """The interval [low, low + width) of a string, in units of 2**-bits of the unit interval.

    >>> Interval(3, 2, 3).code(8)  # 3/8 to 5/8: the bits 011, and zeros
    (3, 96)
    """

    def __init__(self, low: int, width: int, bits: int) -> None:
        self.low, self.width, self.bits = low, width, bits

    def part(self, table: list[int], symbol: int) -> "Interval":
        """The part of a symbol, by a table of cumulative frequencies."""
        low = (self.low << SYMBOL_BITS) + self.width * table[symbol]
        return Interval(low, self.width * (table[symbol + 1] - table[symbol]), self.bits + SYMBOL_BITS)

    def code(self, window_bits: int) -> tuple[int, int] | None:
        """Length of the shortest bits all of whose continuations lie inside, and those bits and zeros.

        Returns:
            The length, and an integer of window_bits bits; None if the length is above window_bits.
        """
        for length in range(max(0, self.bits - self.width.bit_length()), window_bits + 1):
            unit = max(0, self.bits - length)  # log2 of such a cell
            low, width = (x << max(0, length - self.bits) for x in (self.low, self.width))
            first = -(-low >> unit)
            if first + 1 << unit <= low + width:
                return length, first << window_bits - length
        return None

    def symbol_at(self, table: list[int], codeword: int, window_bits: int) -> int:
        """The symbol in whose part a codeword's number lies, which lies in this interval."""
        finer, coarser = max(0, self.bits - window_bits), max(0, window_bits - self.bits)
        offset, width = (codeword << finer) - (self.low << coarser), self.width << coarser
        return bisect_right(table, offset * PAPER_TOTAL // width) - 1


class Tables:
    """Cumulative frequencies of the 256 bytes (257 numbers), after each byte of a window."""

    def __init__(self, network: Network) -> None:
        self._reader = Reader(network)

    def read(self, symbol: int) -> list[int]:
        """The table after one more byte, or after BOS, which begins a window."""
        return [0, *accumulate(paper_frequencies(self._reader.read(symbol)[None])[0].tolist())]


def windows(network: Network, text: bytes, window_bits: int) -> Iterator[bool]:
    """The windows of a text by the paper's rule, but the last, which the end of the text cuts short.

    Yields:
        Whether the decoder reads on after its bytes.
    """
    tables, at = Tables(network), 0
    while True:
        inside, table, length = Interval(0, 1, 0), tables.read(BOS), 0
        while at + length < len(text):
            longer = inside.part(table, text[at + length])
            if longer.code(window_bits) is None:
                break
            inside, table, length = longer, tables.read(text[at + length]), length + 1
        else:
            return
        code = inside.code(window_bits)
        assert code is not None
        one_more = inside.part(table, inside.symbol_at(table, code[1], window_bits)).code(window_bits)
        yield one_more is not None and one_more[1] == code[1]
        at += length


def repaired(network: Network, text: bytes, window_bits: int) -> int:
    """The number of windows that `--rule published` makes of a text, which is decoded and compared."""
    payload = paper.encode_windows(network, text, [], window_bits)
    assert paper.decode_windows(network, payload, window_bits, len(text)) == (text, [])
    return len(payload) * 8 // window_bits


def main() -> None:
    """Print a row for each model and size of window."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--bytes", type=int, help="take the first ones only")
    given = parser.parse_args()
    text = given.text.read_bytes()[: given.bytes]
    print(f"{given.text.name}, {len(text):,} bytes\n")
    print("| M1 | window bits | misread | bytes a window | repaired | costs |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name in MODELS:
        network = Model(model_path(Path(name))).network
        for bits in WINDOW_BITS:
            found = list(windows(network, text, bits))
            # of both the last window too, which the end of the text cuts short
            theirs, ours = len(text) / (len(found) + 1), len(text) / repaired(network, text, bits)
            share, costs = sum(found) / len(found), 1 - ours / theirs
            print(f"| {name} | {bits} | {share:.1%} | {theirs:.3f} | {ours:.3f} | {costs:.2%} |", flush=True)


if __name__ == "__main__":
    main()
