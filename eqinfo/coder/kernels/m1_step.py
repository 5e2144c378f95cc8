"""The compiled step of an integer M1: one byte in, the frequencies of the next byte out.

Ranges that keep every intermediate from overflowing (each with a sign on top):

- weights have 7 bits, and the vectors that meet them 13: a sum of at most 256 products is below 2**28;
- scales have 31 bits, so a scaled sum is below 2**59 before it is shifted down;
- the stream is clipped to 22 bits; states have 23.

Inner loops have constant lengths: only then does the compiler use the processor's instruction for sums of
16-bit products.
"""

from typing import Any, NamedTuple

import numpy as np

from eqinfo.coder.integer_m1 import (
    BOS,
    EXP_STEPS,
    HASH_MULTIPLIER,
    INNER,
    KEEP_RANGE,
    M1_TOTAL,
    MIXED,
    N_BYTES,
    NGRAM_BYTES,
    ROW,
    WIDTH,
    Network,
)
from eqinfo.coder.progress import CODED
from eqinfo.system.arrays import I8, I16, I32, I64, U8, U16, U64
from eqinfo.system.jit import compiled

SCALE_BITS = 28  # scales are in units of 2**-28
ROUNDING = 1 << SCALE_BITS - 1  # half a unit, to round by
MAX_STREAM = (1 << 22) - 1  # in any unit: the stream is normalised before each use
MAX_INPUT = (1 << 13) - 1  # of the vectors that matrices are multiplied with
MAX_VALUE = (1 << 15) - 1  # of values and gates, in 1/2048
UNIT_BITS = 9  # the root mean square of a normalised vector is 2**9
STATE_BITS = 8  # fraction bits that states have beyond those of values
PRODUCT_SHIFT = 17  # from state times gate, in 1/2**22, to inputs of the output matrix, in 1/32
N_NGRAMS, LONGEST = len(NGRAM_BYTES), max(NGRAM_BYTES)
HISTORY_MASK = np.uint64((1 << 8 * LONGEST) - 1)
NGRAM_MASKS = np.array([(1 << 8 * n) - 1 for n in NGRAM_BYTES], np.uint64)
EXP_BITS = EXP_STEPS.bit_length() - 1
MAX_BELOW = 25 * EXP_STEPS - 1  # logits are at most so far below the largest: there 2**-x is 0 in 24 bits


class State(NamedTuple):
    """The state of M1 after the bytes of a window so far, and scratch arrays.

    Attributes:
        states: recurrent state of each layer, in 1/2**19, (L, INNER).
        history: the last 8 bytes as one integer, the latest in the lowest bits, 0 before the window, (1,).
        frequencies: of the next byte, (256,), each at least 1; they add up to M1_TOTAL.
        stream: scratch, the residual stream, (WIDTH,).
        unit: scratch, the normalised stream, (WIDTH,).
        mixed: scratch, rows of the n-gram tables, (MIXED,).
        inner: scratch, gated states, (INNER,).
        sums: scratch, results of matrix-vector products, (3 INNER,).
        coded: `progress.CODED`; the coders' loops add the bytes of text that they have coded, (1,).
    """

    states: I32
    history: U64
    frequencies: I64
    stream: I32
    unit: I16
    mixed: I16
    inner: I16
    sums: I32
    coded: I64


def new_state(network: Network) -> State:
    """An empty state; the first `step` must read BOS."""
    return State(
        states=np.zeros((network.n_layer, INNER), np.int32),
        history=np.zeros(1, np.uint64),
        frequencies=np.zeros(N_BYTES, np.int64),
        stream=np.zeros(WIDTH, np.int32),
        unit=np.zeros(WIDTH, np.int16),
        mixed=np.zeros(MIXED, np.int16),
        inner=np.zeros(INNER, np.int16),
        sums=np.zeros(3 * INNER, np.int32),
        coded=CODED,
    )


@compiled
def clipped(value: Any, low: Any, high: Any) -> Any:
    """The number in [low, high] closest to value."""
    return min(max(value, low), high)


@compiled
def log2(size: Any) -> Any:
    """The base-2 logarithm of a power of two."""
    bits = 0
    while 1 << bits < size:
        bits += 1
    return bits


@compiled
def scaled(total: Any, scale: Any) -> Any:
    """A sum of products times its scale, in units of 2**-28, rounded: the result in the next step's unit."""
    return (np.int64(total) * np.int64(scale) + ROUNDING) >> SCALE_BITS  # product below 2**59


@compiled
def square_root(n: Any) -> Any:
    """The largest integer whose square is at most n, for n in [0, 2**60)."""
    root = np.int64(np.sqrt(np.float64(n)))  # a guess; the loops make it exact on any machine
    while root * root > n:  # root is at most 2**30, its square 2**60
        root -= 1
    while (root + 1) * (root + 1) <= n:
        root += 1
    return root


@compiled
def rms_norm(stream: I32, unit: I16) -> None:
    """RMS norm: write the stream (WIDTH,), scaled to root mean square 2**UNIT_BITS, to unit (WIDTH,)."""
    total = np.int64(0)  # below 192 * 2**44
    for i in range(WIDTH):
        total += np.int64(stream[i]) * np.int64(stream[i])
    root = max(square_root((total << 8) // WIDTH), 1)  # 16 times the root mean square
    multiplier = (1 << UNIT_BITS + 4 + 24) // root  # 2**UNIT_BITS / root mean square, in 1/2**24
    for i in range(WIDTH):
        value = (np.int64(stream[i]) * multiplier + (1 << 23)) >> 24  # product below 2**59
        unit[i] = clipped(value, -MAX_INPUT, MAX_INPUT)  # fits without clipping if root is at least 7


@compiled
def matrix_vector(matrix: I8, vector: I16, sums: I32, length: Any) -> None:
    """Write matrix (n, length) times vector (length,) to sums (n,); callers pass a constant length."""
    for i in range(matrix.shape[0]):
        total = np.int32(0)  # at most 256 * 127 * (2**13 - 1), below 2**28
        for j in range(length):
            total = np.int32(total + np.int32(np.int32(matrix[i, j]) * np.int32(vector[j])))
        sums[i] = total


@compiled
def embed(network: Network, state: State, symbol: Any) -> None:
    """Set the stream to the embedding of a symbol plus the mixed rows of the n-grams that end with it."""
    stream, mixed, sums = state.stream, state.mixed, state.sums
    for i in range(WIDTH):
        stream[i] = network.embedding[symbol, i]  # int16, so within the stream's 22 bits
    n_rows = network.tables.shape[0] // N_NGRAMS  # of one table: a power of 2, or 0 without tables
    if n_rows == 0:
        return
    shift = np.uint64(64 - log2(n_rows))  # n_rows is at least 2, so the shift is below 64
    for k in range(N_NGRAMS):
        # multiplicative hashing: the high bits of the product name a row of the k-th table
        key = (state.history[0] & NGRAM_MASKS[k]) * HASH_MULTIPLIER  # modulo 2**64
        row = np.int64(key >> shift) + k * n_rows
        for i in range(ROW):
            mixed[k * ROW + i] = network.tables[row, i]
    matrix_vector(network.mix, mixed, sums, MIXED)  # sums[:WIDTH], each below 192 * 2**14
    for i in range(WIDTH):
        value = stream[i] + scaled(sums[i], network.mix_scale[i])
        stream[i] = clipped(value, -MAX_STREAM, MAX_STREAM)


@compiled
def layer(network: Network, state: State, at: Any) -> None:
    """Add to the stream what layer `at` makes of it: a gated linear recurrence, state by state."""
    stream, inner, sums, states = state.stream, state.inner, state.sums, state.states[at]
    scale, bias = network.input_scale[at], network.input_bias[at]
    rms_norm(stream, state.unit)
    matrix_vector(network.inputs[at], state.unit, sums, WIDTH)  # sums: keeps, values, gates, INNER each
    for i in range(INNER):
        keep = scaled(sums[i], scale[i]) + bias[i]  # in 1/128, as `forget` expects
        share = np.int64(network.forget[clipped(keep, -KEEP_RANGE, KEEP_RANGE - 1) + KEEP_RANGE])
        value = scaled(sums[INNER + i], scale[INNER + i]) + bias[INNER + i]
        value = clipped(value, -MAX_VALUE, MAX_VALUE) << STATE_BITS  # below 2**23, in 1/2**19
        # state += (value - state) * share, where share is the sigmoid of -keep, from a table
        states[i] += ((value - states[i]) * share + (1 << 15)) >> 16  # between state and value: below 2**23
        gate = scaled(sums[2 * INNER + i], scale[2 * INNER + i]) + bias[2 * INNER + i]
        # the output is the state times its rectified gate
        product = (np.int64(states[i]) >> STATE_BITS) * clipped(gate, 0, MAX_VALUE)  # below 2**30
        inner[i] = clipped((product + (1 << PRODUCT_SHIFT - 1)) >> PRODUCT_SHIFT, -MAX_INPUT, MAX_INPUT)
    matrix_vector(network.output[at], inner, sums, INNER)  # overwrites sums[:WIDTH]: keeps, used up by now
    for i in range(WIDTH):
        value = stream[i] + scaled(sums[i], network.output_scale[at, i])
        stream[i] = clipped(value, -MAX_STREAM, MAX_STREAM)


@compiled
def copy_states(source: I32, target: I32) -> None:
    """Copy the states of all layers, (n_layer, INNER), in loops, which numba compiles sooner than slices."""
    for layer_at in range(source.shape[0]):
        for unit in range(INNER):
            target[layer_at, unit] = source[layer_at, unit]


@compiled
def step(network: Network, state: State, symbol: Any) -> None:
    """Read one symbol, a byte or BOS, which resets M1; `state.frequencies` become those of the next byte."""
    if symbol == BOS:
        state.states[:] = 0
        state.history[0] = 0  # n-grams do not reach back beyond BOS
    else:
        state.history[0] = (state.history[0] << np.uint64(8) | np.uint64(symbol)) & HISTORY_MASK
    embed(network, state, symbol)
    for at in range(network.inputs.shape[0]):
        layer(network, state, at)
    rms_norm(state.stream, state.unit)
    logits, frequencies = state.sums, state.frequencies  # logits are the first 256 of sums
    matrix_vector(network.head, state.unit, logits, WIDTH)
    top: Any = -(1 << 40)  # below every logit
    best = 0
    for i in range(N_BYTES):
        logit = scaled(logits[i], network.head_scale[i]) + network.head_bias[i]
        logits[i] = clipped(logit, -(1 << 24), 1 << 24)  # in 1/1024 bit
        top = max(top, np.int64(logits[i]))
    # probabilities are proportional to 2**(logit - top); the table holds the fraction's power, a shift the
    # rest
    total = np.int64(0)
    for i in range(N_BYTES):
        below: Any = min(top - np.int64(logits[i]), MAX_BELOW)
        frequencies[i] = np.int64(network.exp2[below & EXP_STEPS - 1]) >> (below >> EXP_BITS)
        total += frequencies[i]  # the largest logit alone gives 2**24
    # each byte gets 1, and the rest in proportion, rounded down; what rounding leaves goes to the likeliest
    multiplier = (np.int64(M1_TOTAL - N_BYTES) << 32) // total  # total is in [2**24, 2**32]
    left = np.int64(M1_TOTAL)
    for i in range(N_BYTES):
        frequencies[i] = 1 + (frequencies[i] * multiplier >> 32)  # product below 2**24 * 2**28
        left -= frequencies[i]
        if logits[i] == top:
            best = i  # the last one, if several logits are the largest
    frequencies[best] += left  # at most 256


@compiled
def run(network: Network, state: State, symbols: U16) -> I32:
    """The frequencies (n, 256) after each of n symbols, bytes and BOS, read in order."""
    found = np.empty((symbols.size, N_BYTES), np.int32)  # frequencies are below 2**20
    for i in range(symbols.size):
        step(network, state, np.int64(symbols[i]))
        for byte in range(N_BYTES):
            found[i, byte] = state.frequencies[byte]
    return found


@compiled
def after_strings(network: Network, state: State, strings: U8) -> I32:
    """The frequencies (n, 256) of the next byte after each of n strings at a window's start.

    Args:
        network: M1.
        state: scratch.
        strings: (n, length); a prefix that a string shares with the one before is not read again.
    """
    n, length = strings.shape
    found = np.empty((n, N_BYTES), np.int32)
    states = np.empty((length + 1, *state.states.shape), np.int32)  # after 0, 1, ... bytes of the string
    history = np.empty(length + 1, np.uint64)
    for i in range(n):
        at = -1  # read from BOS on
        if i:  # go back to the state after the shared prefix; the last byte is always read
            at = 0
            while at < length - 1 and strings[i, at] == strings[i - 1, at]:
                at += 1
            copy_states(
                states[at], state.states
            )  # saved for the string before, which has the same first `at` bytes
            state.history[0] = history[at]
        for k in range(at, length):
            step(network, state, BOS if k < 0 else np.int64(strings[i, k]))
            copy_states(state.states, states[k + 1])
            history[k + 1] = state.history[0]
        for byte in range(N_BYTES):
            found[i, byte] = state.frequencies[byte]
    return found
