"""The definition of a codebook's codewords: its trie as an arithmetic coder, symbol by symbol.

At a node the stop symbol has frequency 1 if the string is a window, and a byte has the number of windows
below. They add up to the width of the node, so narrowing is addition: nothing rounds, no codeword is wasted.
"""

from bisect import bisect_left

import numpy as np

from eqinfo.codebook.codebook import Codebook


def frequencies(codebook: Codebook, prefix: bytes) -> list[int]:
    """The frequencies at a prefix's node of the codebook: of the stop symbol, then of the 256 bytes."""
    bounds = [bisect_left(codebook.windows, prefix + bytes([byte])) for byte in range(256)]
    after = prefix.rstrip(b"\xff")
    end = after[:-1] + bytes([after[-1] + 1]) if after else None
    bounds.append(bisect_left(codebook.windows, end) if end else len(codebook.windows))
    return [int(prefix in codebook.codewords), *np.diff(bounds).tolist()]


def encode_window(codebook: Codebook, window: bytes) -> int:
    """The codeword of a window, by narrowing symbol by symbol and ending with the stop symbol."""
    low, width = 0, len(codebook.windows)
    for at in range(len(window) + 1):
        symbol = window[at] + 1 if at < len(window) else 0
        at_node = frequencies(codebook, window[:at])
        assert sum(at_node) == width
        low, width = low + sum(at_node[:symbol]), at_node[symbol]
    assert width == 1  # it is a window
    return low


def decode_window(codebook: Codebook, codeword: int) -> bytes:
    """The window of a codeword below len(codebook.windows), by descending to its stop symbol."""
    window, low = b"", 0
    while True:
        at_node = frequencies(codebook, window)
        symbol = 0
        while low + at_node[symbol] <= codeword:
            low += at_node[symbol]
            symbol += 1
        if symbol == 0:
            return window
        window += bytes([symbol - 1])
