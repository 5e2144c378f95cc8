"""Arithmetic coding of a text, compiled: adaptive, or plain, by M1's frequencies alone.

Frequencies add up to CODER_TOTAL = M1_TOTAL + 1. The end of a document has frequency 1 and comes first. In
plain coding the 256 bytes follow with M1's frequencies. In adaptive coding each byte follows an
end-of-document flag, whose "no" has the other M1_TOTAL; the eight bits of the byte come next, high bit first,
each with the probability that `context_mixer` predicts. M1 is reset where a document ends, the mixer only
where a text begins.
"""

from typing import Any

import numpy as np

from eqinfo.coder.integer_m1 import BOS, M1_TOTAL, N_BYTES, Network
from eqinfo.coder.kernels import range_coder as rc
from eqinfo.coder.kernels.context_mixer import begin_byte, end_byte, learning_rate, predict, update
from eqinfo.coder.kernels.m1_step import State, step
from eqinfo.coder.kernels.mixer_state import NO_MIXER, Mixer
from eqinfo.system.arrays import I64, U8
from eqinfo.system.jit import compiled

BIT_TOTAL = M1_TOTAL + 1  # total frequency for one bit: `ones` for a 1, the rest for a 0; CODER_TOTAL, signed
# output bytes that a byte of text can cost: 8 bits of probability 16 / BIT_TOTAL and a flag, 129 bits in all
MAX_BYTE_OUTPUT = 19


@compiled
def encode(network: Network, state: State, mixer: Mixer, text: U8, ends: I64) -> U8:
    """The arithmetic code of a text; see `arithmetic_coding.encode`. Plain if the mixer is NO_MIXER."""
    out = np.empty(MAX_BYTE_OUTPUT * (text.size + ends.size) + rc.CODER_BYTES, np.uint8)
    n_out, low, width = np.int64(0), rc.ZERO, rc.MAX_RANGE  # the first interval is all of [0, 1) but 2**-64
    i: Any = 0
    for segment in range(ends.size + 1):  # one document each; the last is open
        end: Any = ends[segment] if segment < ends.size else text.size
        symbol: Any = BOS  # resets M1
        while i < end:
            step(network, state, symbol)  # sets the frequencies of text[i]
            symbol = np.int64(text[i])
            if mixer.version != NO_MIXER:
                n_out, low, width = rc.encode_symbol(out, n_out, low, width, 1, M1_TOTAL)  # no end here
                begin_byte(mixer, state.frequencies, text)  # reads text below offset i only
                for shift in range(7, -1, -1):
                    # node: a 1 and then the bits of this byte so far, in [1, 256)
                    node, bit = (N_BYTES | symbol) >> shift + 1, symbol >> shift & 1
                    ones = predict(mixer, node)
                    start, frequency = (0, ones) if bit else (ones, BIT_TOTAL - ones)  # each is 16 or more
                    n_out, low, width = rc.encode_symbol(out, n_out, low, width, start, frequency)
                    update(mixer, node, bit, learning_rate(i, mixer.version))  # a decoder knows the bit now
                end_byte(mixer, text, i + 1)
            else:
                before = np.int64(1)  # the end of a document comes before the bytes
                for byte in range(symbol):
                    before += state.frequencies[byte]
                n_out, low, width = rc.encode_symbol(
                    out, n_out, low, width, before, state.frequencies[symbol]
                )
            i += 1
            state.coded[0] += 1
        if segment < ends.size:  # the last segment, which is open, has no end to code
            n_out, low, width = rc.encode_symbol(out, n_out, low, width, 0, 1)
    return rc.finish(out, n_out, low, width)


@compiled
def decode(
    network: Network,
    state: State,
    mixer: Mixer,
    payload: U8,
    text_length: int,
    n_documents: int,
) -> tuple[U8, I64, bool]:
    """Text, document ends, and whether the payload is their code; see `arithmetic_coding.decode`."""
    text, ends = np.empty(text_length, np.uint8), np.empty(n_documents, np.int64)
    n_text = n_ends = np.int64(0)  # the rest of text and ends is unset
    interval, n_read = rc.begin_decoding(payload), np.int64(rc.CODER_BYTES)
    symbol: Any = BOS
    while n_text < text_length or n_ends < n_documents:
        if n_read > payload.size + rc.CODER_BYTES:  # damaged: no encoder leaves bytes out
            return text, ends, False
        value = interval[2] // (interval[1] // rc.CODER_TOTAL)  # which symbol's [start, start + frequency)
        if value == rc.ZERO:  # the end of a document
            if n_ends == n_documents:  # damaged: one end too many
                return text, ends, False
            ends[n_ends] = n_text
            n_ends += 1
            symbol = BOS
            n_read = rc.decode_symbol(payload, interval, n_read, 0, 1)
            continue
        if n_text == text_length or value >= rc.CODER_TOTAL:  # damaged: too many bytes, or no symbol here
            return text, ends, False
        step(network, state, symbol)
        if mixer.version != NO_MIXER:
            n_read = rc.decode_symbol(payload, interval, n_read, 1, M1_TOTAL)
            begin_byte(mixer, state.frequencies, text)
            node: Any = 1
            while node < N_BYTES:  # until 8 bits follow the leading 1
                ones = predict(mixer, node)
                bit = np.int64(interval[2] // (interval[1] // rc.CODER_TOTAL) < np.uint64(ones))
                start, frequency = (0, ones) if bit else (ones, BIT_TOTAL - ones)
                n_read = rc.decode_symbol(payload, interval, n_read, start, frequency)
                update(mixer, node, bit, learning_rate(n_text, mixer.version))
                node = node << 1 | bit
            symbol = node - N_BYTES
            text[n_text] = symbol
            end_byte(mixer, text, n_text + 1)
        else:
            before, symbol = np.int64(1), np.int64(0)  # the loop stops at 255 or before: value < CODER_TOTAL
            while np.uint64(before + state.frequencies[symbol]) <= value:
                before += state.frequencies[symbol]
                symbol += 1
            text[n_text] = symbol
            n_read = rc.decode_symbol(payload, interval, n_read, before, state.frequencies[symbol])
        n_text += 1
        state.coded[0] += 1
    return text, ends, rc.is_whole(payload, interval, n_read)  # damage in the last symbol shows here
