"""Plain arithmetic coding of a text by M1's frequencies alone.

Symbols have frequencies of CODER_TOTAL = M1_TOTAL + 1 in all: the end of a document has 1 and comes first,
the 256 bytes follow with M1's frequencies.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from eqinfo.coder.integer_m1 import BOS, Network
from eqinfo.coder.kernels.m1_step import State, step
from eqinfo.coder.kernels.range_coder import (
    CODER_BYTES,
    CODER_TOTAL,
    MAX_RANGE,
    ZERO,
    begin_decoding,
    decode_symbol,
    encode_symbol,
    finish,
    is_whole,
)
from eqinfo.system.jit import compiled

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]

BYTES_A_SYMBOL = 3  # most bytes that a symbol can output: it has at least 20.00001 bits, below 24


@compiled
def encode(network: Network, state: State, text: U8, ends: I64) -> U8:
    """The plain arithmetic code of a text; arguments as in `arithmetic_coding.encode`."""
    out = np.empty(BYTES_A_SYMBOL * (text.size + ends.size) + CODER_BYTES, np.uint8)
    n_out, low, width = np.int64(0), ZERO, MAX_RANGE
    i: Any = 0
    for segment in range(ends.size + 1):
        end: Any = ends[segment] if segment < ends.size else text.size
        symbol: Any = BOS
        while i < end:
            step(network, state, symbol)
            symbol = np.int64(text[i])
            start = np.int64(1)  # the end of a document has [0, 1)
            for byte in range(symbol):
                start += state.frequencies[byte]
            n_out, low, width = encode_symbol(out, n_out, low, width, start, state.frequencies[symbol])
            i += 1
        if segment < ends.size:
            n_out, low, width = encode_symbol(out, n_out, low, width, 0, 1)
    return finish(out, n_out, low, width)


@compiled
def decode(
    network: Network, state: State, payload: U8, text_length: int, n_documents: int
) -> tuple[U8, I64, bool]:
    """Text, document ends, and whether the payload is their code; see `arithmetic_coding.decode`."""
    text, ends = np.empty(text_length, np.uint8), np.empty(n_documents, np.int64)
    n_text = n_ends = np.int64(0)
    interval, n_read = begin_decoding(payload), np.int64(CODER_BYTES)
    symbol: Any = BOS
    while n_text < text_length or n_ends < n_documents:
        if n_read > payload.size + CODER_BYTES:  # damaged: no encoder leaves bytes out
            return text, ends, False
        value = interval[2] // (
            interval[1] // CODER_TOTAL
        )  # a symbol with start <= value < start + frequency
        if value == ZERO:
            if n_ends == n_documents:
                return text, ends, False
            ends[n_ends] = n_text
            n_ends += 1
            symbol = BOS
            n_read = decode_symbol(payload, interval, n_read, 0, 1)
            continue
        if n_text == text_length or value >= CODER_TOTAL:
            return text, ends, False
        step(network, state, symbol)
        start, symbol = np.int64(1), np.int64(0)
        frequency = state.frequencies[0]
        while np.uint64(start + frequency) <= value:
            start += frequency
            symbol += 1
            frequency = state.frequencies[symbol]
        text[n_text] = symbol
        n_text += 1
        n_read = decode_symbol(payload, interval, n_read, start, frequency)
    return text, ends, is_whole(payload, interval, n_read)
