"""The probability of the next bit: M1's, mixed with what the text so far says.

A byte is eight decisions, its high bit first. Each has one probability from many: M1's, that of the byte
after the longest match before, and those of what followed in contexts like this one, as in the
context-mixing compressors lpaq and paq8 (Mahoney 2005). They meet as logits, weighted; the weights learn
with every bit, and begin with M1 and little else: the first bytes of a text cost what they cost M1 alone.

All is in integers, in one order: no float, no thread and no machine can change a bit. `predict` and `update`
serve both directions. What is learned lasts for the whole text, over document ends, where M1 begins anew.

Ranges: probabilities have 16 bits, or 20 when they are coded; logits are in 1/256 and have 12 bits and a
sign; a weight of 1 is 2**16. A weight moves by less than 2**12 a bit, so in texts below 2**28 bytes weights
stay below 2**44; sums of 18 products of an input and 3 weights then stay below 2**62.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from eqinfo.coder.integer_m1 import HASH_MULTIPLIER, M1_TOTAL, M1_TOTAL_BITS, N_BYTES
from eqinfo.system.jit import compiled

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

MAX_TEXT = 1 << 28  # bytes
P_BITS, P_ONE, P_HALF = 16, (1 << 16) - 1, 1 << 15  # probabilities before they are mixed
MAX_LOGIT = 2840  # 1/256: the logit of 1 - 2**-16
N_LOGITS = 2 * MAX_LOGIT + 1
WEIGHT_BITS = 16
RATE_BITS = 20
LEAST_RATE, EXTRA_RATE, EXTRA_BYTES_BITS = 5, 10, 9  # of learning weights: faster in the first kilobytes

# contexts of so many bytes; then come those of this word, and of this word and the one before
CONTEXT_BYTES = (0, 1, 2, 3, 4, 6)
CONTEXT_MASKS = np.array([(1 << 8 * n) - 1 for n in CONTEXT_BYTES], np.uint64)
N_BYTE_CONTEXTS, N_CONTEXTS = len(CONTEXT_BYTES), len(CONTEXT_BYTES) + 2
CHECK_SHIFT, HASH_HALF, EIGHT = np.uint64(20), np.uint64(32), np.uint64(8)
MIN_SLOT_BITS, MAX_SLOT_BITS = 10, 20

NEW = P_HALF << 16 | 1  # a slot that has seen nothing
N_HISTORIES, N_COUNTS = 256, 8
COUNTS = np.array([max(n.bit_length() - 1, 0) for n in range(N_HISTORIES)], np.int64)
# a probability moves 1 / (n + 1.5) of the way, as if each side had been seen half a time before; then 1 / 16
FIRST_SHARES = [(2 << P_BITS) // (2 * n + 3) for n in range(N_COUNTS - 1)]
SHARES = np.array([*FIRST_SHARES, 1 << P_BITS - 4], np.int64)
HISTORY_SHIFT = 6  # what follows a history is common to many contexts, so it moves more slowly

MIN_MATCH, MAX_MATCH = 5, 64  # bytes; what is longer counts as MAX_MATCH - 1
MATCH_SHIFT = 6
MIN_MASK = np.uint64((1 << 8 * MIN_MATCH) - 1)

M1, MATCH, DIRECT, INDIRECT = 0, 1, 2, 2 + N_CONTEXTS  # inputs; the last two have one for each context
N_INPUTS = INDIRECT + N_CONTEXTS
FIRST_WEIGHT = 1 << WEIGHT_BITS - 4  # of all inputs but M1's


class Mixer(NamedTuple):
    """What the text so far has taught, and room to work in.

    A context with the bits of the byte so far has a slot: probability << 16 | check << 8 | history. The
    history is a 1 and then the last bits seen there, up to 7, so it tells their number too. The check tells
    contexts apart that share a slot; the later one takes it.

    Attributes:
        squash: probability in 1/M1_TOTAL of each logit from -MAX_LOGIT on, (N_LOGITS,).
        stretch: logit of each probability in 1/2**16, (2**16,).
        slots: (N_CONTEXTS, a power of two).
        histories: probability of a 1 after each history, (N_CONTEXTS, N_HISTORIES).
        matches: probability that a match goes on, by half its length, (MAX_MATCH / 2,).
        positions: where the bytes with some hash were last followed by something, or 0, (a power of two,).
        weights: of inputs, by how often their contexts have been seen, (N_INPUTS, N_COUNTS).
        node_weights: to add to them, by the bits of the byte so far, (N_BYTES, N_INPUTS).
        byte_weights: likewise, by the byte before, (N_BYTES, N_INPUTS).
        recent: the last 8 bytes as one integer, hashes of this word and the one before, (3,).
        match: where the byte that followed the match is, the match's length or 0, and 256 + that byte, (3,).
        hashes: of the contexts, (N_CONTEXTS,).
        before: sums of M1's frequencies of the bytes before each byte and before the end, (257,).
        at: slots in use for this bit, (N_CONTEXTS,).
        entries: what they hold, or would, (N_CONTEXTS,).
        inputs: logits, (N_INPUTS,).
        counts: which weight each takes, (N_INPUTS,).
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


@cache
def logistic_tables() -> tuple[I64, I64]:
    """Squash and stretch of `Mixer`, by integers of 80 bits: rounded the same way everywhere."""
    unit = 1 << 80
    ratio = term = unit  # e**(-1/256), by its power series
    for n in range(1, 12):
        term = -term // (256 * n)
        ratio += term
    powers = [unit]
    for _ in range(MAX_LOGIT):
        powers.append(powers[-1] * ratio >> 80)
    low = [(M1_TOTAL * power + (unit + power) // 2) // (unit + power) for power in powers]
    squash = np.array(low[:0:-1] + [M1_TOTAL - p for p in low], np.int64)
    probabilities = np.arange(1 << P_BITS, dtype=np.int64) << M1_TOTAL_BITS - P_BITS
    return squash, np.searchsorted(squash, probabilities).astype(np.int64) - MAX_LOGIT


@cache
def first_histories() -> list[int]:
    """What a slot that has seen each history says: the beginning of what is learned of histories."""
    found = [P_HALF] * N_HISTORIES
    for history in range(2, N_HISTORIES):
        probability = P_HALF
        for n, bit in enumerate(bin(history)[3:]):
            probability += (P_ONE * int(bit) - probability) * int(SHARES[n]) >> P_BITS
        found[history] = probability
    return found


def new_mixer(text_length: int) -> Mixer:
    """A mixer for a text of so many bytes, which decides how large its tables are."""
    slot_bits = min(max((2 * text_length).bit_length(), MIN_SLOT_BITS), MAX_SLOT_BITS)
    weights = np.full((N_INPUTS, N_COUNTS), FIRST_WEIGHT, np.int64)
    weights[M1] = 1 << WEIGHT_BITS
    lengths = np.arange(MAX_MATCH // 2, dtype=np.int64)
    return Mixer(
        *logistic_tables(),
        slots=np.zeros((N_CONTEXTS, 1 << slot_bits), np.uint32),
        histories=np.tile(np.array(first_histories(), np.int64), (N_CONTEXTS, 1)),
        matches=P_ONE - P_ONE // (2 * lengths + 3),
        positions=np.zeros(1 << slot_bits - 1, np.int64),
        weights=weights,
        node_weights=np.zeros((N_BYTES, N_INPUTS), np.int64),
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
def log2(size: Any) -> Any:
    """Of a power of two."""
    bits = 0
    while 1 << bits < size:
        bits += 1
    return bits


@compiled
def begin_byte(mixer: Mixer, frequencies: I64, text: U8) -> None:
    """Look up what is the same for all bits of the next byte; `text` is known up to where the match is."""
    for i in range(N_BYTES):
        mixer.before[i + 1] = mixer.before[i] + frequencies[i]
    recent, match = mixer.recent, mixer.match
    for k in range(N_CONTEXTS):
        key = recent[1]
        if k < N_BYTE_CONTEXTS:
            key = recent[0] & CONTEXT_MASKS[k]
        elif k > N_BYTE_CONTEXTS:
            key += recent[2] * HASH_MULTIPLIER
        key = (key + np.uint64(k + 1)) * HASH_MULTIPLIER
        mixer.hashes[k] = key ^ key >> HASH_HALF
    match[2] = 256 + np.int64(text[match[0]]) if match[1] else 0


@compiled
def predict(mixer: Mixer, node: Any) -> Any:
    """The probability in 1/M1_TOTAL, in [16, M1_TOTAL - 16], that the next bit is 1.

    Args:
        mixer: after `begin_byte`, and `update` with all bits before.
        node: 1 and then the bits of the byte so far.
    """
    inputs, counts, match, stretch = mixer.inputs, mixer.counts, mixer.match, mixer.stretch
    n_left = 8 - COUNTS[node]  # bits to come
    first = (node << n_left) - N_BYTES  # byte that begins like this
    middle, end = first + (1 << n_left - 1), first + (1 << n_left)
    ones, all_ = mixer.before[end] - mixer.before[middle], mixer.before[end] - mixer.before[first]
    inputs[M1] = stretch[(ones << P_BITS) // all_]
    inputs[MATCH] = 0
    if match[2] >> n_left == node:
        length = min(match[1], MAX_MATCH - 1)
        logit = stretch[mixer.matches[length >> 1]]
        inputs[MATCH] = logit if match[2] >> n_left - 1 & 1 else -logit
        counts[MATCH] = length >> 3
    shift = np.uint64(64 - log2(mixer.slots.shape[1]))
    for k in range(N_CONTEXTS):
        key = (mixer.hashes[k] + np.uint64(node) * HASH_MULTIPLIER) * HASH_MULTIPLIER
        at = np.int64(key >> shift)
        check = np.int64(key >> CHECK_SHIFT) & 255
        entry = np.int64(mixer.slots[k, at])
        if entry >> 8 & 255 != check or entry & 255 == 0:
            entry = NEW | check << 8
        mixer.at[k] = at
        mixer.entries[k] = entry
        count = COUNTS[entry & 255]
        counts[DIRECT + k] = counts[INDIRECT + k] = count
        inputs[DIRECT + k] = stretch[entry >> 16] if count else 0
        inputs[INDIRECT + k] = stretch[mixer.histories[k, entry & 255]] if count else 0
    byte = np.int64(mixer.recent[0]) & 255
    total = np.int64(0)
    for i in range(N_INPUTS):
        weight = mixer.weights[i, counts[i]] + mixer.node_weights[node, i] + mixer.byte_weights[byte, i]
        total += weight * inputs[i]
    mixed: Any = min(max(total >> WEIGHT_BITS, -MAX_LOGIT), MAX_LOGIT)
    mixer.mixed[0] = mixer.squash[mixed + MAX_LOGIT]
    return mixer.mixed[0]


@compiled
def update(mixer: Mixer, node: Any, bit: Any, rate: Any) -> None:
    """Learn from a bit after `predict`."""
    target = P_ONE * bit
    byte = np.int64(mixer.recent[0]) & 255
    error = ((bit << M1_TOTAL_BITS) - mixer.mixed[0] >> M1_TOTAL_BITS - P_BITS) * rate
    for i in range(N_INPUTS):
        change = mixer.inputs[i] * error + (1 << RATE_BITS - 1) >> RATE_BITS
        mixer.weights[i, mixer.counts[i]] += change
        mixer.node_weights[node, i] += change
        mixer.byte_weights[byte, i] += change
    for k in range(N_CONTEXTS):
        entry = mixer.entries[k]
        history, probability = entry & 255, entry >> 16
        probability += (target - probability) * SHARES[COUNTS[history]] >> P_BITS
        known = mixer.histories[k, history]
        mixer.histories[k, history] = known + ((target - known) >> HISTORY_SHIFT)
        history = history << 1 | bit
        if history >= N_HISTORIES:
            history = history & 127 | 128
        mixer.slots[k, mixer.at[k]] = probability << 16 | entry & 0xFF00 | history
    match = mixer.match
    n_left = 8 - COUNTS[node]
    if match[2] >> n_left == node:
        at = min(match[1], MAX_MATCH - 1) >> 1
        right = P_ONE if match[2] >> n_left - 1 & 1 == bit else 0
        mixer.matches[at] += (right - mixer.matches[at]) >> MATCH_SHIFT


@compiled
def end_byte(mixer: Mixer, text: U8, n: Any) -> None:
    """Go on to the next byte, n bytes of the text being known: the words, and the longest match."""
    recent, match, positions = mixer.recent, mixer.match, mixer.positions
    byte = np.uint64(text[n - 1])
    recent[0] = recent[0] << EIGHT | byte
    letter = np.int64(byte) | 32  # in lower case
    if 97 <= letter <= 122 or letter >= 128:  # a to z, or a part of another letter in UTF-8
        recent[1] = (recent[1] + np.uint64(letter)) * HASH_MULTIPLIER
    elif recent[1]:
        recent[2] = recent[1]
        recent[1] = np.uint64(0)
    if match[1] and text[match[0]] == text[n - 1]:
        match[0] += 1
        match[1] += 1
    else:
        match[1] = 0
    if n < MIN_MATCH:
        return
    key = (recent[0] & MIN_MASK) * HASH_MULTIPLIER
    slot = np.int64(key >> np.uint64(64 - log2(positions.size)))
    if not match[1]:
        match[0] = positions[slot]
        length = 0
        while length < min(match[0], MAX_MATCH) and text[match[0] - 1 - length] == text[n - 1 - length]:
            length += 1
        match[1] = length if length >= MIN_MATCH else 0
    positions[slot] = n


@compiled
def learning_rate(n: Any) -> Any:
    """Of weights, in 1/2**RATE_BITS, after n bytes."""
    return LEAST_RATE + max(EXTRA_RATE - (n >> EXTRA_BYTES_BITS), 0)
