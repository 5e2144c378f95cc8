"""What the context mixer knows: its versions, its tables, and how a mixer begins.

Version 1 is in streams of the codec `live ac`, version 2 in those of `live ac 2`; both stay readable. Version
2 has three contexts more, one more set of weights, slower steps of learning, and a refinement of the result.

What this module does not do: predict or learn (`context_mixer`, `mixer_refinement`).
"""

from typing import NamedTuple

import numpy as np

from eqinfo.coder.integer_m1 import N_BYTES
from eqinfo.coder.kernels.mixer_tables import (
    N_COUNTS,
    P_ONE,
    first_histories,
    first_points,
    logistic_tables,
)
from eqinfo.system.arrays import I16, I64, U16, U32, U64

NO_MIXER, FIRST, SECOND = 0, 1, 2  # versions; without a mixer M1's probabilities are coded as they are

MAX_TEXT = 1 << 28  # bytes
WEIGHT_BITS = 16  # fraction bits of a weight

# The contexts: the last 0 to 6 bytes; the current word; and this with the one word before. Version 2 adds the
# word with the two before; the byte above in a text of lines, and the column; and what followed the last two
# bytes before.
CONTEXT_BYTES = (0, 1, 2, 3, 4, 6)
CONTEXT_MASKS = np.array([(1 << 8 * n) - 1 for n in CONTEXT_BYTES], np.uint64)  # the low n bytes of recent[0]
N_BYTE_CONTEXTS = len(CONTEXT_BYTES)
WORD, TWO_WORDS, THREE_WORDS, COLUMN, FOLLOWERS = range(N_BYTE_CONTEXTS, N_BYTE_CONTEXTS + 5)
N_CONTEXTS = {NO_MIXER: 1, FIRST: TWO_WORDS + 1, SECOND: FOLLOWERS + 1}
MIN_SLOT_BITS = 10  # log2 of a context's slots: at least 4 KiB
MAX_SLOT_BITS = {NO_MIXER: 20, FIRST: 20, SECOND: 21}  # at most 4 MiB, and 8 MiB

MAX_MATCH = 64  # bytes; longer matches count as MAX_MATCH - 1

# Indices of inputs. Then come the direct predictions, one for each context, and the indirect ones.
M1, MATCH, DIRECT = 0, 1, 2
FIRST_WEIGHT = 1 << WEIGHT_BITS - 4  # 1/16, for all inputs but M1's
N_DOUBTS = 8  # how sure M1 is of its likeliest byte: classes of probability 1/2, 1/4, ... that it errs
N_FORESIGHTS = 9 * N_DOUBTS  # what the match and M1 foresee: nothing, 0 or 1 each; and how surely

MAX_CURVE_BITS = 16  # log2 of the curves of a refinement


class Mixer(NamedTuple):
    """What was learned from the text so far, and scratch arrays.

    A context together with the bits of the current byte has a slot: probability << 16 | check << 8 | history.
    The history is a 1 and then the last bits seen there, up to 7: it gives their number too. The check tells
    contexts apart that hash to one slot; the later one takes it over.

    Attributes:
        version: FIRST or SECOND. Arrays that only the second one reads are small in the first.
        slot_shift: 64 less the log2 of the slots of a context; so many bits of a hash are left out.
        curve_shift: 64 less the log2 of the curves of a context.
        squash: probability in 1/M1_TOTAL of each logit from -MAX_LOGIT on, (2 * MAX_LOGIT + 1,).
        stretch: logit of each probability in 1/2**16, (2**16,).
        slots: hash table of each context, (n_contexts, a power of two).
        histories: probability of a 1 after each history, (n_contexts, 256).
        matches: probability that a match goes on, by half its length, (MAX_MATCH / 2,).
        positions: offset after the last MIN_MATCH bytes with each hash, or 0, (a power of two,).
        weights: of each input, by the number of bits its context has seen, (n_inputs, N_COUNTS).
        node_weights: added to them, by the bits of the current byte, (N_BYTES, n_inputs).
        byte_weights: added to them, by the byte before, (N_BYTES, n_inputs).
        foresight_weights: added to them, by what match and M1 foresee, (N_FORESIGHTS, n_inputs); 0 in
            version 1.
        curves: of the refinement, (2, a power of two, N_POINTS).
        followers: the last two bytes that followed each pair of bytes, (2**16,).
        recent: the last 8 bytes as one integer, and hashes of the current word and the two before, (4,).
        line: offsets of the line and of the line before, and of the next byte, (3,).
        match: offset of the byte after the match, length of the match or 0, and 256 + that byte or 0, (3,).
        likeliest: 256 + M1's likeliest byte, and its class of doubt, (2,).
        hashes: of the contexts, (n_contexts,).
        keys: slots and checks of the contexts: in version 2 with the bits before this half of the byte, else
            with all before this bit, (n_contexts,).
        before: cumulative frequencies of M1: of the bytes before each byte, and of all, (257,).
        at: slot of each context for this bit, (n_contexts,).
        entries: contents of these slots, or NEW, (n_contexts,).
        inputs: logit of each prediction, (n_inputs,).
        counts: column of `weights` for each input, (n_inputs,).
        mixed: the mixed probability in 1/M1_TOTAL, and the row of `foresight_weights`, (2,).
        points: curve of each context of the refinement, and the point on both that learns, (3,).
    """

    version: int
    slot_shift: np.uint64
    curve_shift: np.uint64
    squash: I64
    stretch: I16
    slots: U32
    histories: I64
    matches: I64
    positions: I64
    weights: I64
    node_weights: I64
    byte_weights: I64
    foresight_weights: I64
    curves: U16
    followers: U16
    recent: U64
    line: I64
    match: I64
    likeliest: I64
    hashes: U64
    keys: U64
    before: I64
    at: I64
    entries: I64
    inputs: I64
    counts: I64
    mixed: I64
    points: I64


def new_mixer(text_length: int, version: int) -> Mixer:
    """A mixer for a text of text_length bytes, which decides the size of its tables."""
    # more than 2 slots for each byte of text, in version 2 more than 4, up to the largest table
    fitting = (2 * max(version, 1) * text_length).bit_length()
    slot_bits = min(max(fitting, MIN_SLOT_BITS), MAX_SLOT_BITS[version])
    curve_bits = min(slot_bits - 3, MAX_CURVE_BITS) if version == SECOND else 1
    n_contexts = N_CONTEXTS[version]
    n_inputs = DIRECT + 2 * n_contexts
    weights = np.full((n_inputs, N_COUNTS), FIRST_WEIGHT, np.int64)
    weights[M1] = 1 << WEIGHT_BITS
    lengths = np.arange(MAX_MATCH // 2, dtype=np.int64)
    squash, stretch = logistic_tables()
    return Mixer(
        version,
        np.uint64(64 - slot_bits),
        np.uint64(64 - curve_bits),
        squash,
        stretch,
        slots=np.zeros((n_contexts, 1 << slot_bits), np.uint32),  # all empty: a history in use is at least 1
        histories=np.tile(np.array(first_histories(), np.int64), (n_contexts, 1)),
        matches=P_ONE - P_ONE // (2 * lengths + 3),  # about 1 - 1 / (length + 3)
        positions=np.zeros(1 << slot_bits - 1, np.int64),  # 0 is none: real ones are at least MIN_MATCH
        weights=weights,
        node_weights=np.zeros((N_BYTES, n_inputs), np.int64),  # row 0 is unused: nodes are in [1, 256)
        byte_weights=np.zeros((N_BYTES, n_inputs), np.int64),
        foresight_weights=np.zeros((N_FORESIGHTS, n_inputs), np.int64),
        curves=np.tile(first_points(), (2, 1 << curve_bits, 1)),
        followers=np.zeros(1 << 16 if version == SECOND else 1, np.uint16),
        recent=np.zeros(4, np.uint64),
        line=np.zeros(3, np.int64),
        match=np.zeros(3, np.int64),
        likeliest=np.zeros(2, np.int64),
        hashes=np.zeros(n_contexts, np.uint64),
        keys=np.zeros(n_contexts, np.uint64),
        before=np.zeros(N_BYTES + 1, np.int64),
        at=np.zeros(n_contexts, np.int64),
        entries=np.zeros(n_contexts, np.int64),
        inputs=np.zeros(n_inputs, np.int64),
        counts=np.zeros(n_inputs, np.int64),
        mixed=np.zeros(2, np.int64),
        points=np.zeros(3, np.int64),
    )
