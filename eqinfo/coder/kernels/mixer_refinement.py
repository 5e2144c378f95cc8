"""Secondary estimation: what a mixed probability has meant so far where the last one or two bytes were these.

For each context, here a hash of the last bytes and the bits of the current byte, a curve maps the mixed logit
to a probability. It begins as the logistic function itself, and the point of it that is nearest to the logit
moves to each bit coded there. So it corrects what the mixer gets wrong in this context again and again. The
result is the mean of the mixer's probability, with half of the weight, and those of two curves.

As in paq8's adaptive probability maps (Mahoney 2005), in integers. Points have 16 bits, results 20.
"""

from typing import Any

import numpy as np

from eqinfo.coder.integer_m1 import HASH_MULTIPLIER, M1_TOTAL, M1_TOTAL_BITS
from eqinfo.coder.kernels.mixer_state import Mixer
from eqinfo.coder.kernels.mixer_tables import MAX_LOGIT, P_BITS, P_ONE, POINT_BITS
from eqinfo.system.jit import compiled

UNIT = 1 << POINT_BITS  # between the logits of two points
POINT_SHIFT = 5  # a point moves 1 / 32 of the way to each bit
BYTE_MASKS = np.array([0xFF, 0xFFFF], np.uint64)  # the contexts: the last byte; the last two
BYTE_SHIFT = np.uint64(8)
MIN_P = 16  # as of the mixer: no bit costs more than 16 bits


@compiled
def refined(mixer: Mixer, logit: Any, node: Any) -> Any:
    """The refined probability in 1/M1_TOTAL, in [MIN_P, M1_TOTAL - MIN_P], that the next bit is 1.

    Args:
        mixer: `mixer.mixed[0]` is the mixer's own probability.
        logit: the mixer's, in [-MAX_LOGIT, MAX_LOGIT].
        node: 1 and then the bits of the byte so far.
    """
    points = mixer.points
    place = logit + MAX_LOGIT  # in [0, 2 * MAX_LOGIT]: left is at most N_POINTS - 2
    left, share = place >> POINT_BITS, place & UNIT - 1
    total = 2 * mixer.mixed[0]  # below 2**21
    for k in range(2):
        key = (mixer.recent[0] & BYTE_MASKS[k]) << BYTE_SHIFT | np.uint64(node)
        curve = np.int64(key * HASH_MULTIPLIER >> mixer.curve_shift)  # the top 7 to 16 bits
        low, high = np.int64(mixer.curves[k, curve, left]), np.int64(mixer.curves[k, curve, left + 1])
        # between the two points, on the straight line; in [0, 2**16)
        found = low * (UNIT - share) + high * share >> POINT_BITS
        total += found << M1_TOTAL_BITS - P_BITS
        points[k] = curve
    points[2] = left + (share >> POINT_BITS - 1)  # the nearer point
    return min(max(total >> 2, MIN_P), M1_TOTAL - MIN_P)


@compiled
def learn(mixer: Mixer, bit: Any) -> None:
    """Move the points that `refined` used last to the bit."""
    points, target = mixer.points, P_ONE * bit
    for k in range(2):
        point = np.int64(mixer.curves[k, points[k], points[2]])
        # stays in [0, P_ONE]: the difference rounds down, at most to the target
        mixer.curves[k, points[k], points[2]] = point + (target - point >> POINT_SHIFT)
