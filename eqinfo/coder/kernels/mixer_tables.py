"""Tables of the context mixer: the logistic function and its inverse, and how fast probabilities learn.

Computed with integers, so they are the same on every machine.
"""

from functools import cache

import numpy as np

from eqinfo.coder.integer_m1 import M1_TOTAL, M1_TOTAL_BITS
from eqinfo.system.arrays import I16, I64, U16

P_BITS, P_ONE, P_HALF = 16, (1 << 16) - 1, 1 << 15  # of probabilities before mixing
MAX_LOGIT = 2840  # 1/256: the logit of 1 - 2**-16

N_HISTORIES, N_COUNTS = 256, 8  # a history is a 1 and 0 to 7 bits: 8 counts
COUNTS = np.array([max(n.bit_length() - 1, 0) for n in range(N_HISTORIES)], np.int64)
# of each node, a 1 and then the bits of its half of the byte, in [1, 16): 0b1_0110_01 gives 0b1_01
HALF_NODES = np.arange(N_HISTORIES, dtype=np.int64)
for _n in range(4):
    HALF_NODES[16 << _n : 32 << _n] = 1 << _n | np.arange(16 << _n) & (1 << _n) - 1

# A curve of the refinement: probabilities at logits a unit of 256 apart, from -MAX_LOGIT on
POINT_BITS = 8
N_POINTS = (2 * MAX_LOGIT >> POINT_BITS) + 2  # the last one is beyond MAX_LOGIT

# After n bits a probability moves 1 / (n + 1.5) of the way to the next bit (the KT estimator: as if each
# value had been seen half a time before), and 1 / 16 of the way from 7 bits on.
FIRST_SHARES = [(2 << P_BITS) // (2 * n + 3) for n in range(N_COUNTS - 1)]
SHARES = np.array([*FIRST_SHARES, 1 << P_BITS - 4], np.int64)


@cache
def logistic_tables() -> tuple[I64, I16]:
    """Squash and stretch of `Mixer`, computed with integers of 80 bits: the same on every machine."""
    unit = 1 << 80
    ratio = term = unit  # e**(-1/256), by its power series
    for n in range(1, 12):
        term = -term // (256 * n)
        ratio += term
    powers = [unit]  # powers[k] / 2**80 is e**(-k/256)
    for _ in range(MAX_LOGIT):
        powers.append(powers[-1] * ratio >> 80)
    low = [(M1_TOTAL * power + (unit + power) // 2) // (unit + power) for power in powers]
    squash = np.array(low[:0:-1] + [M1_TOTAL - p for p in low], np.int64)  # from -MAX_LOGIT up
    probabilities = np.arange(1 << P_BITS, dtype=np.int64) << M1_TOTAL_BITS - P_BITS
    # stretch: the least logit with this probability or more
    return squash, (np.searchsorted(squash, probabilities) - MAX_LOGIT).astype(np.int16)


@cache
def first_histories() -> list[int]:
    """Initial probability of a 1 after each history: that of a slot that has seen just this history."""
    found = [P_HALF] * N_HISTORIES
    for history in range(2, N_HISTORIES):
        probability = P_HALF
        for n, bit in enumerate(bin(history)[3:]):  # without "0b" and the leading 1
            probability += (P_ONE * int(bit) - probability) * int(SHARES[n]) >> P_BITS
        found[history] = probability
    return found


@cache
def first_points() -> U16:
    """The curve that changes nothing: the probability in 1/2**16 of the logit of each point."""
    squash, _ = logistic_tables()
    logits = np.minimum(np.arange(N_POINTS) << POINT_BITS, 2 * MAX_LOGIT)  # from -MAX_LOGIT up
    points: U16 = (squash[logits] >> M1_TOTAL_BITS - P_BITS).astype(np.uint16)  # below 2**16
    return points
