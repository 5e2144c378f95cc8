"""Live windows of many frames at a time, in PyTorch: the steps of `kernels/live_windows` on any device.

A lane codes one frame. At each step every lane codes one byte, by the arithmetic of `kernels/shares` in
tensors, and M1 reads it (`torch_m1`). A lane whose frame has ended idles: what it computes is not used.

Design choices:

- that a window is full shows at its next byte, which gets no codeword. The same step codes that byte at a
  window's start, by tables: M1 after BOS is always the same;
- a step of decoding gives one byte, as codewords 0 are left out: they end documents and hold no text.

Integers of up to 128 bits are `Limbs`: int64 that stand for unsigned numbers, the lowest first; one for
windows of up to 64 bits, else two. Shapes: B lanes, T steps.

What this module does not do: cut texts into steps, or collect codewords (`torch_frames`).
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from eqinfo.coder.integer_m1 import M1_TOTAL, M1_TOTAL_BITS, N_BYTES, Network
from eqinfo.coder.reference import shares
from eqinfo.coder.torch_m1 import State, TorchM1
from eqinfo.system.arrays import I64

Limbs = tuple[Tensor, ...]

LIMB_BITS = 64
SIGN = -(1 << LIMB_BITS - 1)  # flipped, unsigned numbers are in the order of signed ones
HALF_LIMB_MASK = (1 << LIMB_BITS // 2) - 1
KEPT_MASK = (
    1 << LIMB_BITS - M1_TOTAL_BITS
) - 1  # bits of a limb that stay when it is shifted by M1_TOTAL_BITS


def is_below(a: Limbs, b: Limbs) -> Tensor:
    """Whether a < b."""
    result = (a[0] ^ SIGN) < (b[0] ^ SIGN)
    for left, right in zip(a[1:], b[1:], strict=True):
        result = ((left ^ SIGN) < (right ^ SIGN)) | ((left == right) & result)
    return result


def is_zero(a: Limbs) -> Tensor:
    """Whether a is 0."""
    return a[0] == 0 if len(a) == 1 else (a[0] | a[1]) == 0


def wide_sum(a: Limbs, b: Limbs) -> Limbs:
    """The sum, modulo 2 to the number of bits."""
    low = a[0] + b[0]
    return (low, *(a[1] + b[1] + is_below((low,), (b[0],)).long() for _ in a[1:]))  # carries 1 if low wrapped


def wide_difference(a: Limbs, b: Limbs) -> Limbs:
    """The difference, modulo 2 to the number of bits."""
    return (a[0] - b[0], *(a[1] - b[1] - is_below((a[0],), (b[0],)).long() for _ in a[1:]))


def wide_product(a: Limbs, factor: Tensor) -> Limbs:
    """The product with a factor below 2**31, modulo 2 to the number of bits."""
    if len(a) == 1:
        return (a[0] * factor,)
    lower = (a[0] & HALF_LIMB_MASK) * factor  # below 2**63
    upper = (a[0] >> 32 & HALF_LIMB_MASK) * factor + (lower >> 32)
    return upper << 32 | lower & HALF_LIMB_MASK, a[1] * factor + (upper >> 32)


def quotient_of(rest: Limbs) -> Limbs:
    """The quotient rest // M1_TOTAL."""
    shifted = [limb >> M1_TOTAL_BITS & KEPT_MASK for limb in rest]
    for high, at in zip(rest[1:], range(len(rest)), strict=False):
        shifted[at] = shifted[at] | high << LIMB_BITS - M1_TOTAL_BITS
    return tuple(shifted)


def one_more(a: Limbs) -> Limbs:
    """The sum a + 1."""
    return wide_sum(a, tuple(torch.full_like(limb, k == 0) for k, limb in enumerate(a)))


def one_less(a: Limbs) -> Limbs:
    """The difference a - 1."""
    return wide_difference(a, tuple(torch.full_like(limb, k == 0) for k, limb in enumerate(a)))


def chosen(condition: Tensor, a: Limbs, b: Limbs) -> Limbs:
    """The number a where the condition holds, else b."""
    return tuple(torch.where(condition, left, right) for left, right in zip(a, b, strict=True))


def at(table: Limbs, byte: Tensor) -> Limbs:
    """The numbers of a table, each limb (N_BYTES,), at bytes (B,)."""
    return tuple(limb[byte] for limb in table)


def picked(rows: Tensor, byte: Tensor) -> Tensor:
    """The number of each row, (B, N_BYTES), at its byte, (B,)."""
    return rows.gather(1, byte[:, None]).squeeze(1)


def limbs_of(numbers: Sequence[int], n_limbs: int) -> I64:
    """Python's integers as limbs, (n_limbs, n)."""
    rows = [[number >> LIMB_BITS * k & (1 << LIMB_BITS) - 1 for number in numbers] for k in range(n_limbs)]
    return np.array(rows, np.uint64).view(np.int64)


def largest_remainders(remainders: Tensor, left: Tensor, bytes_: Tensor) -> Tensor:
    """Which bytes have the largest remainders, `left` of them in each lane, the lower first if equal.

    Args:
        remainders: below M1_TOTAL, int32 (B, N_BYTES).
        left: below N_BYTES, (B, 1).
        bytes_: 0 to 255, int32.
    """
    keys = remainders << 8 | N_BYTES - 1 - bytes_  # no two keys are equal
    least = keys.sort(1, descending=True).values.gather(1, left.clamp(0, N_BYTES - 1))
    return keys > least  # the first key that is not one of them


def divide(frequencies: Tensor, rest: Limbs, bytes_: Tensor) -> tuple[Limbs, Tensor]:
    """Apportion the codewords of each lane's node over the bytes: `shares.divide` inside a window.

    Args:
        frequencies: M1's, int32 (B, N_BYTES).
        rest: codewords of the node, less the stop symbol's, each limb (B,).
        bytes_: 0 to 255, int32.

    Returns:
        rest // M1_TOTAL, and how many codewords each byte has beyond this times its frequency, int32.
    """
    small = (rest[0] & M1_TOTAL - 1)[:, None]
    products = small * frequencies  # below 2**40
    floors = (products >> M1_TOTAL_BITS).int()
    left = small - floors.sum(1, keepdim=True)
    is_more = largest_remainders((products & M1_TOTAL - 1).int(), left, bytes_)
    return quotient_of(rest), floors + is_more.int()


class Lanes(NamedTuple):
    """The state of the lanes.

    Attributes:
        m1: M1 after the bytes of the window so far.
        at: of the window: in encoding the codeword of its bytes so far; in decoding the codeword's offset
            from the node's first, 0 where the window ends. Each limb (B,).
        rest: codewords of the node, less the stop symbol's, each limb (B,).
    """

    m1: State
    at: Limbs
    rest: Limbs


class TorchWindows:
    """The steps for windows of one size.

    Args:
        network: M1.
        window_bits: of `live_windows.WINDOW_BITS`.
        device: where to compute.
        is_int8: how matrix products are made; see `torch_m1`.
    """

    def __init__(self, network: Network, window_bits: int, device: torch.device, is_int8: bool) -> None:
        self.device, self.n_limbs = device, -(-window_bits // LIMB_BITS)
        self.m1 = TorchM1(network, device, is_int8)
        at_start = shares(self.m1.start.frequencies[0].tolist(), (1 << window_bits) - 1, True)

        def table(numbers: Sequence[int]) -> Limbs:
            return tuple(torch.from_numpy(limbs_of(numbers, self.n_limbs)).to(device))

        # by byte at a window's start: codewords before its own, and its node's less the stop symbol's
        self.starts = table([0, *accumulate(at_start)][:N_BYTES])
        self.rests = table([share - 1 for share in at_start])

    def begin(self, lanes: int) -> Lanes:
        """The state of lanes before their first step, where a window begins."""
        limbs = torch.zeros((2, self.n_limbs, lanes), dtype=torch.int64, device=self.device)
        return Lanes(self.m1.begin(lanes), tuple(limbs[0]), tuple(limbs[1]))

    def encode(self, lanes: Lanes, byte: Tensor, is_start: Tensor) -> tuple[Lanes, Tensor]:
        """One step of encoding.

        Args:
            lanes: the state before.
            byte: of each lane's text, int64 (B,).
            is_start: whether a document begins at it, bool (B,).

        Returns:
            The state after it; whether it begins a window, so that `lanes.at` is the one before it.
        """
        frequencies = lanes.m1.frequencies
        quotient, beyond = divide(frequencies, lanes.rest, self.m1.bytes)
        is_before = self.m1.bytes < byte[:, None]  # (B, N_BYTES)
        before = (frequencies * is_before).sum(1)
        start = wide_sum(wide_product(quotient, before), self._widened((beyond * is_before).sum(1)))
        share = self._share(quotient, frequencies, beyond, byte)
        begins = is_start | is_zero(share)  # no codeword for the byte: the window is full
        # the stop symbol's codeword comes before those of all bytes
        low = chosen(begins, at(self.starts, byte), wide_sum(lanes.at, start))
        rest = chosen(begins, at(self.rests, byte), one_less(share))
        return Lanes(self._read(lanes.m1, byte, begins), one_more(low), rest), begins

    def decode(self, lanes: Lanes, codeword: Limbs) -> tuple[Lanes, Tensor, Tensor]:
        """One step of decoding.

        Args:
            lanes: the state before.
            codeword: each lane's next one, not 0, which is taken if a window ends here.

        Returns:
            The state after it, the byte that was decoded, int64 (B,), and whether it begins a window.
        """
        frequencies, begins = lanes.m1.frequencies, is_zero(lanes.at)
        quotient, beyond = divide(frequencies, lanes.rest, self.m1.bytes)
        before = frequencies.cumsum(1, dtype=torch.int32) - frequencies
        start = wide_product(tuple(limb[:, None] for limb in quotient), before)
        start = wide_sum(start, self._widened((beyond.cumsum(1, dtype=torch.int32) - beyond).long()))
        start = chosen(begins[:, None], self.starts, start)  # of each byte, each limb (B, N_BYTES)
        offset = one_less(chosen(begins, codeword, lanes.at))  # from the first byte's
        is_after = is_below(tuple(limb[:, None] for limb in offset), start)
        byte = (N_BYTES - 1 - is_after.sum(1)).clamp(min=0)  # byte 0 starts at 0
        offset = wide_difference(offset, tuple(picked(limb, byte) for limb in start))
        share = self._share(quotient, frequencies, beyond, byte)
        rest = chosen(begins, at(self.rests, byte), one_less(share))
        return Lanes(self._read(lanes.m1, byte, begins), offset, rest), byte, begins

    def _share(self, quotient: Limbs, frequencies: Tensor, beyond: Tensor, byte: Tensor) -> Limbs:
        """The codewords of a byte inside a window."""
        product = wide_product(quotient, picked(frequencies, byte))
        return wide_sum(product, self._widened(picked(beyond, byte).long()))

    def _widened(self, number: Tensor) -> Limbs:
        """Numbers below 2**63 as Limbs."""
        return (number, *[torch.zeros_like(number)] * (self.n_limbs - 1))

    def _read(self, m1: State, byte: Tensor, begins: Tensor) -> State:
        """M1 after a byte, which follows BOS where a window begins."""
        states = torch.where(begins[:, None], self.m1.start.states, m1.states)
        return self.m1.read(states, m1.history.masked_fill(begins, 0), byte)
