"""Adaptive arithmetic coding of a text: probabilities from M1 mixed with those of the text so far.

Each byte follows an end-of-document flag; "no" has probability M1_TOTAL / (M1_TOTAL + 1), as in plain coding.
The eight bits of the byte come next, high bit first, each with the probability that `context_mixer` predicts.
M1 is reset where a document ends, the mixer only where a text begins.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from eqinfo.coder.integer_m1 import BOS, M1_TOTAL, N_BYTES, Network
from eqinfo.coder.kernels.context_mixer import (
    Mixer,
    begin_byte,
    end_byte,
    learning_rate,
    predict,
    update,
)
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

BIT_TOTAL = M1_TOTAL + 1  # total frequency for one bit: `ones` for a 1, the rest for a 0; CODER_TOTAL, signed
BYTES_A_BYTE = 19  # most output of a byte: 8 bits of probability 16 / BIT_TOTAL and its flag, 129 bits


@compiled
def encode(network: Network, state: State, mixer: Mixer, text: U8, ends: I64) -> U8:
    """The adaptive arithmetic code of a text; arguments as in `arithmetic_coding.encode`."""
    out = np.empty(BYTES_A_BYTE * (text.size + ends.size) + CODER_BYTES, np.uint8)
    n_out, low, width = np.int64(0), ZERO, MAX_RANGE
    i: Any = 0
    for segment in range(ends.size + 1):
        end: Any = ends[segment] if segment < ends.size else text.size
        symbol: Any = BOS
        while i < end:
            step(network, state, symbol)
            symbol = np.int64(text[i])
            n_out, low, width = encode_symbol(out, n_out, low, width, 1, M1_TOTAL)  # no document ends here
            begin_byte(mixer, state.frequencies, text)
            for shift in range(7, -1, -1):
                # node: a 1 and then the bits of this byte so far, in [1, 256)
                node, bit = (N_BYTES | symbol) >> shift + 1, symbol >> shift & 1
                ones = predict(mixer, node)
                start, frequency = (0, ones) if bit else (ones, BIT_TOTAL - ones)
                n_out, low, width = encode_symbol(out, n_out, low, width, start, frequency)
                update(mixer, node, bit, learning_rate(i))
            i += 1
            end_byte(mixer, text, i)
        if segment < ends.size:
            n_out, low, width = encode_symbol(out, n_out, low, width, 0, 1)
    return finish(out, n_out, low, width)


@compiled
def decode(
    network: Network, state: State, mixer: Mixer, payload: U8, text_length: int, n_documents: int
) -> tuple[U8, I64, bool]:
    """Text, document ends, and whether the payload is their code; see `arithmetic_coding.decode`."""
    text, ends = np.empty(text_length, np.uint8), np.empty(n_documents, np.int64)
    n_text = n_ends = np.int64(0)
    interval, n_read = begin_decoding(payload), np.int64(CODER_BYTES)
    symbol: Any = BOS
    while n_text < text_length or n_ends < n_documents:
        if n_read > payload.size + CODER_BYTES:  # damaged: no encoder leaves bytes out
            return text, ends, False
        if interval[2] // (interval[1] // CODER_TOTAL) == ZERO:
            if n_ends == n_documents:
                return text, ends, False
            ends[n_ends] = n_text
            n_ends += 1
            symbol = BOS
            n_read = decode_symbol(payload, interval, n_read, 0, 1)
            continue
        if n_text == text_length:
            return text, ends, False
        n_read = decode_symbol(payload, interval, n_read, 1, M1_TOTAL)
        step(network, state, symbol)
        begin_byte(mixer, state.frequencies, text)
        node: Any = 1
        while node < N_BYTES:
            ones = predict(mixer, node)
            bit = np.int64(interval[2] // (interval[1] // CODER_TOTAL) < np.uint64(ones))
            start, frequency = (0, ones) if bit else (ones, BIT_TOTAL - ones)
            n_read = decode_symbol(payload, interval, n_read, start, frequency)
            update(mixer, node, bit, learning_rate(n_text))
            node = node << 1 | bit
        symbol = node - N_BYTES
        text[n_text] = symbol
        n_text += 1
        end_byte(mixer, text, n_text)
    return text, ends, is_whole(payload, interval, n_read)
