"""The probability of the next bit: M1's, mixed with predictions from the text so far.

A byte is eight binary decisions, high bit first. For each bit there are these predictions: M1's; that of the
byte after the longest earlier match; and two for each of 8 or 11 contexts, as in the context-mixing
compressors lpaq and paq8 (Mahoney 2005): what followed the context before (direct), and what followed the
same history of bits in any context of its kind (indirect). Their logits are added with weights that learn
with every bit, by gradient descent on coding cost. At first M1 has weight 1 and the others 1/16: the first
bytes of a text cost what they cost M1 alone. In version 2 `mixer_refinement` corrects the result.

All is in integers and in one order, so no float, thread or machine can change a bit. `predict` and `update`
serve encoding and decoding. The mixer learns over the whole text, across document ends, where M1 is reset.

Ranges: probabilities have 16 bits, mixed ones 20; logits are in 1/256, in [-2840, 2840]; a weight of 1 is
2**16. A weight moves by less than 2**12 a bit in the first 20 KiB and by less than 2**10 from there on, so in
texts below 2**28 bytes weights stay below 2**42, and a sum of 24 products of a logit and 4 weights below
2**61.
"""

from typing import Any

import numpy as np

from eqinfo.coder.integer_m1 import HASH_MULTIPLIER, M1_TOTAL, M1_TOTAL_BITS, N_BYTES
from eqinfo.coder.kernels import mixer_refinement
from eqinfo.coder.kernels.mixer_state import (
    COLUMN,
    CONTEXT_MASKS,
    DIRECT,
    FIRST,
    FOLLOWERS,
    M1,
    MATCH,
    MAX_MATCH,
    N_BYTE_CONTEXTS,
    N_DOUBTS,
    THREE_WORDS,
    TWO_WORDS,
    WEIGHT_BITS,
    Mixer,
)
from eqinfo.coder.kernels.mixer_tables import (
    COUNTS,
    HALF_NODES,
    MAX_LOGIT,
    N_COUNTS,
    N_HISTORIES,
    P_BITS,
    P_HALF,
    P_ONE,
    SHARES,
)
from eqinfo.system.arrays import I64, U8
from eqinfo.system.jit import compiled

# by version: a learning rate is in 2**-RATE_BITS; it falls to the least in so many bytes for each unit
RATE_BITS = (20, 20, 22)  # version 0 is none
LEAST_RATES, EXTRA_RATES, EXTRA_BYTES_BITS = (5, 5, 8), (10, 10, 40), 9
# many contexts share a history, so its probability moves slowly: 1 / 64 or 1 / 128
HISTORY_SHIFTS = (6, 6, 7)

CHECK_SHIFT, HASH_HALF = np.uint64(20), np.uint64(32)  # check: bits 20 to 27 of a key
NOTHING, ONE, EIGHT = np.uint64(0), np.uint64(1), np.uint64(8)
TWO_BYTES, LINE_CONTEXT, FOLLOWERS_CONTEXT = np.uint64(0xFFFF), np.uint64(5 << 40), np.uint64(7 << 40)
LAST_BYTE, BYTE_PLACE = np.uint64(0xFF), np.uint64(24)
MAX_COLUMN, NEW_LINE = 255, 10

NEW = P_HALF << 16 | 1  # a slot that has seen no bit: probability 1/2, history 1
# In version 2 the direct predictions of the last 0 to 2 bytes move 1 / 64 of the way from 7 bits on
N_STEADY, STEADY_SHARE = 3, 1 << P_BITS - 6

MIN_MATCH = 5  # bytes
MATCH_SHIFT = 6  # the probability of a match moves 1 / 64 of the way
MIN_MASK = np.uint64((1 << 8 * MIN_MATCH) - 1)


@compiled
def column_key(line: I64, text: U8) -> Any:
    """The key of the context of the byte above and the column."""
    column = min(line[2] - line[0], MAX_COLUMN)
    above = line[1] + column  # in the line before, if that is so long
    byte = np.uint64(text[above]) if above < line[0] else NOTHING
    return LINE_CONTEXT | np.uint64(column) | byte << EIGHT


@compiled
def begin_byte(mixer: Mixer, frequencies: I64, text: U8) -> None:
    """Compute what all bits of the next byte share: M1's sums, context hashes, and the match's byte.

    Args:
        mixer: after `end_byte` for all bytes before.
        frequencies: M1's, of the next byte, (256,).
        text: the bytes so far; nothing after them is read.
    """
    most = np.int64(0)
    for i in range(N_BYTES):
        mixer.before[i + 1] = mixer.before[i] + frequencies[i]  # before[256] becomes M1_TOTAL
    for i in range(N_BYTES):  # a loop of its own: the processor takes several at once
        most = max(most, frequencies[i])
    best = 0
    while frequencies[best] < most:  # the first of equal ones
        best += 1
    doubt = 0  # how often the probability of all others must double to reach M1_TOTAL, and no more than 7
    while doubt < N_DOUBTS - 1 and M1_TOTAL - frequencies[best] < M1_TOTAL >> doubt + 1:
        doubt += 1
    mixer.likeliest[0], mixer.likeliest[1] = N_BYTES + best, doubt
    recent, match = mixer.recent, mixer.match
    for k in range(mixer.hashes.size):
        key = recent[1]  # the current word, and no more if k is WORD
        if k < N_BYTE_CONTEXTS:
            key = recent[0] & CONTEXT_MASKS[k]
        elif k == TWO_WORDS:
            key += recent[2] * HASH_MULTIPLIER
        elif k == THREE_WORDS:
            key += (recent[2] + recent[3] * HASH_MULTIPLIER) * HASH_MULTIPLIER
        elif k == COLUMN:
            key = column_key(mixer.line, text)
        elif k == FOLLOWERS:
            pair = recent[0] & TWO_BYTES
            key = FOLLOWERS_CONTEXT | np.uint64(mixer.followers[pair]) | (pair & LAST_BYTE) << BYTE_PLACE
        key = (key + np.uint64(k + 1)) * HASH_MULTIPLIER
        mixer.hashes[k] = key ^ key >> HASH_HALF  # else low bits depend on the key's low bits alone
    match[2] = 256 + np.int64(text[match[0]]) if match[1] else 0  # shifted, 256 + byte is a node; 0 is none


@compiled
def foreseen(byte: Any, node: Any, n_left: Any) -> Any:
    """1 + the next bit of a byte, given as 256 + its value, if it agrees with the node; else 0."""
    return 1 + (byte >> n_left - 1 & 1) if byte >> n_left == node else 0


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
    by_match, sureness = foreseen(match[2], node, n_left), mixer.likeliest[1]
    if by_match:
        length = min(match[1], MAX_MATCH - 1)
        ahead = np.int64(stretch[mixer.matches[length >> 1]])
        inputs[MATCH] = ahead if by_match == 2 else -ahead  # a logit above 0 is for a 1
        counts[MATCH] = length >> 3  # in [0, N_COUNTS)
        sureness = min(length >> 2, N_DOUBTS - 1)  # of the match, rather than of M1
    n_contexts = mixer.hashes.size
    # version 1 looks each bit up anywhere; version 2 the four bits of half a byte among 16 slots side by side
    within = 0 if mixer.version == FIRST else HALF_NODES[node]
    is_new_key = mixer.version == FIRST or node == 1 or node >> 4 == 1
    for k in range(n_contexts):
        if is_new_key:
            mixer.keys[k] = (mixer.hashes[k] + np.uint64(node) * HASH_MULTIPLIER) * HASH_MULTIPLIER
        key = mixer.keys[k]
        at = np.int64(key >> mixer.slot_shift) ^ within  # the top 10 to 21 bits; the last 4 differ by bits
        check = np.int64(key >> CHECK_SHIFT) & 255  # bits 20 to 27; the slot's are 43 and above
        entry = np.int64(mixer.slots[k, at])
        # an empty slot, or one of another context, starts anew
        if entry >> 8 & 255 != check or entry & 255 == 0:
            entry = NEW | check << 8
        mixer.at[k] = at
        mixer.entries[k] = entry
        count = COUNTS[entry & 255]
        counts[DIRECT + k] = counts[DIRECT + n_contexts + k] = count
        inputs[DIRECT + k] = stretch[entry >> 16] if count else 0  # no bits seen: no prediction
        inputs[DIRECT + n_contexts + k] = stretch[mixer.histories[k, entry & 255]] if count else 0
    byte = np.int64(mixer.recent[0]) & 255  # the byte before
    foresight = 3 * by_match + foreseen(mixer.likeliest[0], node, n_left)  # in [0, 9)
    row = mixer.mixed[1] = foresight * N_DOUBTS + sureness
    total = np.int64(0)
    for i in range(inputs.size):
        # a text below MAX_TEXT keeps each weight below 2**42, so the sum cannot overflow
        weight = mixer.weights[i, counts[i]] + mixer.node_weights[node, i] + mixer.byte_weights[byte, i]
        total += (weight + mixer.foresight_weights[row, i]) * inputs[i]  # below 2**61 in size
    logit: Any = min(max(total >> WEIGHT_BITS, -MAX_LOGIT), MAX_LOGIT)
    mixer.mixed[0] = mixer.squash[logit + MAX_LOGIT]
    if mixer.version == FIRST:
        return mixer.mixed[0]
    return mixer_refinement.refined(mixer, logit, node)


@compiled
def update(mixer: Mixer, node: Any, bit: Any, rate: Any) -> None:
    """Learn from a bit after `predict`.

    Args:
        mixer: after `predict` for this bit.
        node: as in `predict`.
        bit: 0 or 1.
        rate: learning rate of the weights in 2**-RATE_BITS.
    """
    version, inputs, n_contexts = mixer.version, mixer.inputs, mixer.hashes.size
    is_first = version == FIRST
    target = P_ONE * bit  # not 2**16: a slot has 16 bits for a probability
    byte, row = np.int64(mixer.recent[0]) & 255, mixer.mixed[1]
    # above 0 if the bit is 1, else below 0; below 2**22 in size, as the rate is at most 48
    error = ((bit << M1_TOTAL_BITS) - mixer.mixed[0] >> M1_TOTAL_BITS - P_BITS) * rate
    rate_bits = RATE_BITS[version]
    count_bits = rate_bits if is_first else rate_bits + 1  # `weights` move by half in version 2
    for i in range(inputs.size):
        # the gradient of the coding cost: input times error, below 2**34; a change, rounded, is below 2**12
        change = inputs[i] * error + (1 << rate_bits - 1) >> rate_bits
        mixer.node_weights[node, i] += change
        mixer.byte_weights[byte, i] += change
        if not is_first:
            mixer.foresight_weights[row, i] += change
        change = inputs[i] * error + (1 << count_bits - 1) >> count_bits
        mixer.weights[i, mixer.counts[i]] += change  # M1's column is always 0
    history_shift = HISTORY_SHIFTS[version]
    for k in range(n_contexts):
        entry = mixer.entries[k]
        history, probability = entry & 255, entry >> 16
        share = SHARES[COUNTS[history]]
        if k < N_STEADY and not is_first and COUNTS[history] == N_COUNTS - 1:
            share = STEADY_SHARE
        probability += (target - probability) * share >> P_BITS  # stays in [0, P_ONE]
        known = mixer.histories[k, history]
        mixer.histories[k, history] = known + ((target - known) >> history_shift)
        history = history << 1 | bit
        if history >= N_HISTORIES:  # keep the last 7 bits
            history = history & 127 | 128
        mixer.slots[k, mixer.at[k]] = probability << 16 | entry & 0xFF00 | history  # below 2**32
    match = mixer.match
    by_match = foreseen(match[2], node, 8 - COUNTS[node])
    if by_match:  # `predict` used the match for this bit
        at = min(match[1], MAX_MATCH - 1) >> 1
        right = P_ONE if by_match == 1 + bit else 0
        mixer.matches[at] += (right - mixer.matches[at]) >> MATCH_SHIFT
    if not is_first:
        mixer_refinement.learn(mixer, bit)


@compiled
def end_byte(mixer: Mixer, text: U8, n: Any) -> None:
    """Update words, lines and the longest match after a byte; n bytes of the text are known."""
    recent, match, positions = mixer.recent, mixer.match, mixer.positions
    byte = np.uint64(text[n - 1])
    if mixer.version != FIRST:
        pair = recent[0] & TWO_BYTES
        mixer.followers[pair] = (np.uint64(mixer.followers[pair]) << EIGHT | byte) & TWO_BYTES
    recent[0] = recent[0] << EIGHT | byte
    line = mixer.line
    line[2] = n
    if byte == NEW_LINE:
        line[1], line[0] = line[0], n
    letter = np.int64(byte) | 32  # in lower case
    if 97 <= letter <= 122 or letter >= 128:  # a to z, or a part of another letter in UTF-8
        recent[1] = (recent[1] + np.uint64(letter)) * HASH_MULTIPLIER
    elif recent[1]:  # a word ends; further separators keep it as the one before
        recent[3] = recent[2]
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
    slot = np.int64(key >> mixer.slot_shift + ONE)  # half as many positions as slots
    if not match[1]:
        match[0] = positions[slot]
        length = 0
        # hashes may collide, so compare bytes, from the last backwards
        while length < min(match[0], MAX_MATCH) and text[match[0] - 1 - length] == text[n - 1 - length]:
            length += 1
        match[1] = length if length >= MIN_MATCH else 0  # shorter: none, or a collision of hashes
    positions[slot] = n  # only after the look-up: nothing matches itself


@compiled
def learning_rate(n: Any, version: Any) -> Any:
    """The learning rate of the weights after n bytes, in 2**-RATE_BITS."""
    return LEAST_RATES[version] + max(EXTRA_RATES[version] - (n >> EXTRA_BYTES_BITS), 0)
