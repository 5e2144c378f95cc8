"""The probability of the next bit: M1's, mixed with predictions from the text so far.

A byte is eight binary decisions, high bit first. For each bit there are 18 predictions: M1's; that of the
byte after the longest earlier match; and two for each of 8 contexts, as in the context-mixing compressors
lpaq and paq8 (Mahoney 2005): what followed the context before (direct), and what followed the same history of
bits in any context of its kind (indirect). Their logits are added with weights that learn with every bit, by
gradient descent on coding cost. At first M1 has weight 1 and the others 1/16: the first bytes of a text cost
what they cost M1 alone.

All is in integers and in one order, so no float, thread or machine can change a bit. `predict` and `update`
serve encoding and decoding. The mixer learns over the whole text, across document ends, where M1 is reset.

Ranges: probabilities have 16 bits, mixed ones 20; logits are in 1/256, in [-2840, 2840]; a weight of 1 is
2**16. A weight moves by less than 2**12 a bit, so in texts below 2**28 bytes weights stay below 2**44, and a
sum of 18 products of a logit and 3 weights below 2**62.
"""

from typing import Any, NamedTuple

import numpy as np

from eqinfo.coder.integer_m1 import HASH_MULTIPLIER, M1_TOTAL_BITS, N_BYTES
from eqinfo.coder.kernels.m1_step import log2
from eqinfo.coder.kernels.mixer_tables import (
    COUNTS,
    MAX_LOGIT,
    N_COUNTS,
    N_HISTORIES,
    P_BITS,
    P_HALF,
    P_ONE,
    SHARES,
    first_histories,
    logistic_tables,
)
from eqinfo.system.arrays import I64, U8, U32, U64
from eqinfo.system.jit import compiled

MAX_TEXT = 1 << 28  # bytes
WEIGHT_BITS = 16  # fraction bits of a weight
RATE_BITS = 20  # a learning rate is in 2**-20
LEAST_RATE, EXTRA_RATE, EXTRA_BYTES_BITS = 5, 10, 9  # the learning rate falls from 15 to 5 in 10 * 2**9 bytes

# The contexts: the last 0 to 6 bytes; then the current word, and the current word with the one before.
CONTEXT_BYTES = (0, 1, 2, 3, 4, 6)
CONTEXT_MASKS = np.array([(1 << 8 * n) - 1 for n in CONTEXT_BYTES], np.uint64)  # the low n bytes of recent[0]
N_BYTE_CONTEXTS, N_CONTEXTS = len(CONTEXT_BYTES), len(CONTEXT_BYTES) + 2
CHECK_SHIFT, HASH_HALF, EIGHT = np.uint64(20), np.uint64(32), np.uint64(8)  # check: bits 20 to 27 of a key
MIN_SLOT_BITS, MAX_SLOT_BITS = 10, 20  # log2 of a context's slots: 4 KiB to 4 MiB

NEW = P_HALF << 16 | 1  # a slot that has seen no bit: probability 1/2, history 1
HISTORY_SHIFT = 6  # a history is shared by many contexts, so its probability moves slowly: 1 / 64

MIN_MATCH, MAX_MATCH = 5, 64  # bytes; longer matches count as MAX_MATCH - 1
MATCH_SHIFT = 6  # the probability of a match moves 1 / 64 of the way
MIN_MASK = np.uint64((1 << 8 * MIN_MATCH) - 1)

# indices of inputs; DIRECT and INDIRECT have one for each context
M1, MATCH, DIRECT, INDIRECT = 0, 1, 2, 2 + N_CONTEXTS
N_INPUTS = INDIRECT + N_CONTEXTS
FIRST_WEIGHT = 1 << WEIGHT_BITS - 4  # 1/16, for all inputs but M1's


class Mixer(NamedTuple):
    """What was learned from the text so far, and scratch arrays.

    A context together with the bits of the current byte has a slot: probability << 16 | check << 8 | history.
    The history is a 1 and then the last bits seen there, up to 7: it gives their number too. The check tells
    contexts apart that hash to one slot; the later one takes it over.

    Attributes:
        squash: probability in 1/M1_TOTAL of each logit from -MAX_LOGIT on, (2 * MAX_LOGIT + 1,).
        stretch: logit of each probability in 1/2**16, (2**16,).
        slots: hash table of each context, (N_CONTEXTS, a power of two).
        histories: probability of a 1 after each history, (N_CONTEXTS, N_HISTORIES).
        matches: probability that a match goes on, by half its length, (MAX_MATCH / 2,).
        positions: offset after the last MIN_MATCH bytes with each hash, or 0, (a power of two,).
        weights: of each input, by the number of bits its context has seen, (N_INPUTS, N_COUNTS).
        node_weights: added to them, by the bits of the current byte, (N_BYTES, N_INPUTS).
        byte_weights: added to them, by the byte before, (N_BYTES, N_INPUTS).
        recent: the last 8 bytes as one integer, and hashes of the current word and the one before, (3,).
        match: offset of the byte after the match, length of the match or 0, and 256 + that byte or 0, (3,).
        hashes: of the contexts, (N_CONTEXTS,).
        before: cumulative frequencies of M1: of the bytes before each byte, and of all, (257,).
        at: slot of each context for this bit, (N_CONTEXTS,).
        entries: contents of these slots, or NEW, (N_CONTEXTS,).
        inputs: logit of each prediction, (N_INPUTS,).
        counts: column of `weights` for each input, (N_INPUTS,).
        mixed: the mixed probability in 1/M1_TOTAL, (1,).
    """

    squash: I64
    stretch: I64
    slots: U32
    histories: I64
    matches: I64
    positions: I64
    weights: I64
    node_weights: I64
    byte_weights: I64
    recent: U64
    match: I64
    hashes: U64
    before: I64
    at: I64
    entries: I64
    inputs: I64
    counts: I64
    mixed: I64


def new_mixer(text_length: int) -> Mixer:
    """A mixer for a text of text_length bytes, which decides the size of its tables."""
    # more than 2 slots for each byte of text, up to the largest table
    slot_bits = min(max((2 * text_length).bit_length(), MIN_SLOT_BITS), MAX_SLOT_BITS)
    weights = np.full((N_INPUTS, N_COUNTS), FIRST_WEIGHT, np.int64)
    weights[M1] = 1 << WEIGHT_BITS
    lengths = np.arange(MAX_MATCH // 2, dtype=np.int64)
    return Mixer(
        *logistic_tables(),
        slots=np.zeros((N_CONTEXTS, 1 << slot_bits), np.uint32),  # all empty: a history in use is at least 1
        histories=np.tile(np.array(first_histories(), np.int64), (N_CONTEXTS, 1)),
        matches=P_ONE - P_ONE // (2 * lengths + 3),  # about 1 - 1 / (length + 3)
        positions=np.zeros(1 << slot_bits - 1, np.int64),  # 0 is none: real ones are at least MIN_MATCH
        weights=weights,
        node_weights=np.zeros((N_BYTES, N_INPUTS), np.int64),  # row 0 is unused: nodes are in [1, 256)
        byte_weights=np.zeros((N_BYTES, N_INPUTS), np.int64),
        recent=np.zeros(3, np.uint64),
        match=np.zeros(3, np.int64),
        hashes=np.zeros(N_CONTEXTS, np.uint64),
        before=np.zeros(N_BYTES + 1, np.int64),
        at=np.zeros(N_CONTEXTS, np.int64),
        entries=np.zeros(N_CONTEXTS, np.int64),
        inputs=np.zeros(N_INPUTS, np.int64),
        counts=np.zeros(N_INPUTS, np.int64),
        mixed=np.zeros(1, np.int64),
    )


@compiled
def begin_byte(mixer: Mixer, frequencies: I64, text: U8) -> None:
    """Compute what all bits of the next byte share: M1's sums, context hashes, and the match's byte.

    Args:
        mixer: after `end_byte` for all bytes before.
        frequencies: M1's, of the next byte, (256,).
        text: the bytes so far; nothing after them is read.
    """
    for i in range(N_BYTES):
        mixer.before[i + 1] = mixer.before[i] + frequencies[i]  # before[256] becomes M1_TOTAL
    recent, match = mixer.recent, mixer.match
    for k in range(N_CONTEXTS):
        key = recent[1]  # the current word, and no more if k is N_BYTE_CONTEXTS
        if k < N_BYTE_CONTEXTS:
            key = recent[0] & CONTEXT_MASKS[k]
        elif k > N_BYTE_CONTEXTS:
            key += recent[2] * HASH_MULTIPLIER
        key = (key + np.uint64(k + 1)) * HASH_MULTIPLIER
        mixer.hashes[k] = key ^ key >> HASH_HALF  # else low bits depend on the key's low bits alone
    match[2] = 256 + np.int64(text[match[0]]) if match[1] else 0  # shifted, 256 + byte is a node; 0 is none


@compiled
def predict(mixer: Mixer, node: Any) -> Any:
    """The probability in 1/M1_TOTAL, in [16, M1_TOTAL - 16], that the next bit is 1.

    Args:
        mixer: after `begin_byte`, and `update` with all bits before.
        node: 1 and then the bits of the byte so far.
    """
    inputs, counts, match, stretch = mixer.inputs, mixer.counts, mixer.match, mixer.stretch
    n_left = 8 - COUNTS[node]  # bits of this byte still to come
    first = (node << n_left) - N_BYTES  # lowest byte value with these high bits
    middle, end = first + (1 << n_left - 1), first + (1 << n_left)  # a 1 next: bytes [middle, end)
    ones, all_ = mixer.before[end] - mixer.before[middle], mixer.before[end] - mixer.before[first]
    inputs[M1] = stretch[(ones << P_BITS) // all_]  # in [0, 2**16): ones < all_, as no frequency is 0
    inputs[MATCH] = 0  # without a match its weights neither count nor learn
    # the match predicts its byte while the bits so far agree
    if match[2] >> n_left == node:
        length = min(match[1], MAX_MATCH - 1)
        logit = stretch[mixer.matches[length >> 1]]
        inputs[MATCH] = logit if match[2] >> n_left - 1 & 1 else -logit  # a logit above 0 is for a 1
        counts[MATCH] = length >> 3  # in [0, N_COUNTS)
    shift = np.uint64(64 - log2(mixer.slots.shape[1]))  # the top 10 to 20 bits of a key are the slot
    for k in range(N_CONTEXTS):
        key = (mixer.hashes[k] + np.uint64(node) * HASH_MULTIPLIER) * HASH_MULTIPLIER
        at = np.int64(key >> shift)
        check = np.int64(key >> CHECK_SHIFT) & 255  # bits 20 to 27; the slot's are 44 and above
        entry = np.int64(mixer.slots[k, at])
        # an empty slot, or one of another context, starts anew
        if entry >> 8 & 255 != check or entry & 255 == 0:
            entry = NEW | check << 8
        mixer.at[k] = at
        mixer.entries[k] = entry
        count = COUNTS[entry & 255]
        counts[DIRECT + k] = counts[INDIRECT + k] = count
        inputs[DIRECT + k] = stretch[entry >> 16] if count else 0  # no bits seen: no prediction
        inputs[INDIRECT + k] = stretch[mixer.histories[k, entry & 255]] if count else 0
    byte = np.int64(mixer.recent[0]) & 255  # the byte before
    total = np.int64(0)
    for i in range(N_INPUTS):
        # a text below MAX_TEXT keeps each weight below 2**44, so the sum cannot overflow
        weight = mixer.weights[i, counts[i]] + mixer.node_weights[node, i] + mixer.byte_weights[byte, i]
        total += weight * inputs[i]  # below 2**62 in size
    mixed: Any = min(max(total >> WEIGHT_BITS, -MAX_LOGIT), MAX_LOGIT)
    mixer.mixed[0] = mixer.squash[mixed + MAX_LOGIT]
    return mixer.mixed[0]


@compiled
def update(mixer: Mixer, node: Any, bit: Any, rate: Any) -> None:
    """Learn from a bit after `predict`.

    Args:
        mixer: after `predict` for this bit.
        node: as in `predict`.
        bit: 0 or 1.
        rate: learning rate of the weights in 2**-RATE_BITS.
    """
    target = P_ONE * bit  # not 2**16: a slot has 16 bits for a probability
    byte = np.int64(mixer.recent[0]) & 255
    # above 0 if the bit is 1, else below 0; below 2**20 in size, as the rate is at most 15
    error = ((bit << M1_TOTAL_BITS) - mixer.mixed[0] >> M1_TOTAL_BITS - P_BITS) * rate
    for i in range(N_INPUTS):
        # the gradient of the coding cost: input times error
        change = mixer.inputs[i] * error + (1 << RATE_BITS - 1) >> RATE_BITS  # rounded; below 2**12
        mixer.weights[i, mixer.counts[i]] += change  # M1's column is always 0
        mixer.node_weights[node, i] += change
        mixer.byte_weights[byte, i] += change
    for k in range(N_CONTEXTS):
        entry = mixer.entries[k]
        history, probability = entry & 255, entry >> 16
        probability += (target - probability) * SHARES[COUNTS[history]] >> P_BITS  # stays in [0, P_ONE]
        known = mixer.histories[k, history]
        mixer.histories[k, history] = known + ((target - known) >> HISTORY_SHIFT)
        history = history << 1 | bit
        if history >= N_HISTORIES:  # keep the last 7 bits
            history = history & 127 | 128
        mixer.slots[k, mixer.at[k]] = probability << 16 | entry & 0xFF00 | history  # below 2**32
    match = mixer.match
    n_left = 8 - COUNTS[node]
    if match[2] >> n_left == node:  # `predict` used the match for this bit
        at = min(match[1], MAX_MATCH - 1) >> 1
        right = P_ONE if match[2] >> n_left - 1 & 1 == bit else 0
        mixer.matches[at] += (right - mixer.matches[at]) >> MATCH_SHIFT


@compiled
def end_byte(mixer: Mixer, text: U8, n: Any) -> None:
    """Update words and the longest match after a byte; n bytes of the text are known."""
    recent, match, positions = mixer.recent, mixer.match, mixer.positions
    byte = np.uint64(text[n - 1])
    recent[0] = recent[0] << EIGHT | byte
    letter = np.int64(byte) | 32  # in lower case
    if 97 <= letter <= 122 or letter >= 128:  # a to z, or a part of another letter in UTF-8
        recent[1] = (recent[1] + np.uint64(letter)) * HASH_MULTIPLIER
    elif recent[1]:  # a word ends; further separators keep it as the one before
        recent[2] = recent[1]
        recent[1] = np.uint64(0)
    # a match goes on while its bytes agree; else look up the last place with the same MIN_MATCH bytes
    if match[1] and text[match[0]] == text[n - 1]:
        match[0] += 1  # still below n, so its byte is known
        match[1] += 1
    else:
        match[1] = 0
    if n < MIN_MATCH:
        return  # recent[0] does not hold MIN_MATCH bytes yet
    key = (recent[0] & MIN_MASK) * HASH_MULTIPLIER
    slot = np.int64(key >> np.uint64(64 - log2(positions.size)))
    if not match[1]:
        match[0] = positions[slot]
        length = 0
        # hashes may collide, so compare bytes, from the last backwards
        while length < min(match[0], MAX_MATCH) and text[match[0] - 1 - length] == text[n - 1 - length]:
            length += 1
        match[1] = length if length >= MIN_MATCH else 0  # shorter: none, or a collision of hashes
    positions[slot] = n  # only after the look-up: nothing matches itself


@compiled
def learning_rate(n: Any) -> Any:
    """The learning rate of the weights after n bytes, in 2**-RATE_BITS."""
    return LEAST_RATE + max(EXTRA_RATE - (n >> EXTRA_BYTES_BITS), 0)
