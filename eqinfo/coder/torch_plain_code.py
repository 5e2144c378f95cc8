"""Plain arithmetic coding of many frames at a time, in PyTorch: `kernels/range_coder` by M1's frequencies.

A lane codes one frame, one symbol at a step: a byte, or the end of a document. Encoding gives the bytes that
leave the interval at each step, and carries, which the host adds up; decoding takes bytes in.

Numbers of 64 bits are int64 tensors that stand for unsigned ones. Shapes: B lanes.

What this module does not do: collect bytes and text (`torch_code_frames`).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from eqinfo.coder.integer_m1 import M1_TOTAL, Network
from eqinfo.coder.paper import END
from eqinfo.coder.torch_m1 import State, TorchM1
from eqinfo.coder.torch_windows import is_below, picked

TOTAL = M1_TOTAL + 1  # sum of all frequencies: of the bytes, and 1 for the end of a document
MAX_SHIFTS = 3  # bytes that can leave at a step: its width is at least 2**35
SHIFT_MASK = (1 << 63) - 1


class Interval(NamedTuple):
    """The coder's state in each lane.

    Attributes:
        m1: M1 after the bytes of the document so far.
        low: start of the interval, modulo 2**64.
        width: of the interval, in [2**56, 2**64).
        offset: in decoding the code's offset from low; else 0.
    """

    m1: State
    low: Tensor
    width: Tensor
    offset: Tensor


def quotient(a: Tensor, b: Tensor) -> Tensor:
    """The quotient a // b of a number of 64 bits and one in [1, 2**62)."""
    found = (a >> 1 & SHIFT_MASK) // b << 1
    rest = a - found * b  # below 2 b + 1, so signed
    return found + (rest >= b) + (rest >= 2 * b)


class TorchPlainCode:
    """The steps.

    Args:
        network: M1.
        device: where to compute.
        is_int8: how matrix products are made; see `torch_m1`.
    """

    def __init__(self, network: Network, device: torch.device, is_int8: bool) -> None:
        self.device, self.m1 = device, TorchM1(network, device, is_int8)

    def begin(self, lanes: int) -> Interval:
        """The state of lanes before their first step; the offset is not read yet."""
        low, width, offset = torch.zeros((3, lanes), dtype=torch.int64, device=self.device)
        return Interval(self.m1.begin(lanes), low, width - 1, offset)  # the largest number of 64 bits

    def encode(self, interval: Interval, symbol: Tensor) -> tuple[Interval, Tensor, Tensor, Tensor]:
        """One step of encoding a symbol, END or 1 + a byte, int64 (B,).

        Returns:
            The state after it; whether a 1 is carried to the bytes before; how many bytes leave, at most
            MAX_SHIFTS; a number that begins with them.
        """
        byte = (symbol - 1).clamp(min=0)
        before = (interval.m1.frequencies * (self.m1.bytes < byte[:, None])).sum(1) + 1
        start, frequency = self._of_symbol(interval.m1, symbol == END, before, byte)
        part = quotient(interval.width, torch.full_like(byte, TOTAL))
        low, width = interval.low + part * start, part * frequency
        is_carried = is_below((low,), (interval.low,))
        n_leaving = self._n_leaving(width)
        m1 = self._read(interval.m1, symbol == END, byte)
        after = Interval(m1, low << 8 * n_leaving, width << 8 * n_leaving, interval.offset)
        return after, is_carried, n_leaving, low

    def decode(
        self, interval: Interval, coming: Tensor, is_done: Tensor
    ) -> tuple[Interval, Tensor, Tensor, Tensor]:
        """One step of decoding.

        Args:
            interval: the state before.
            coming: the next MAX_SHIFTS bytes of the code as one number, int64 (B,).
            is_done: lanes that stay as they are.

        Returns:
            The state after it, the symbol, how many bytes were taken, and whether the code has no symbol.
        """
        part = quotient(interval.width, torch.full_like(coming, TOTAL))
        value = quotient(interval.offset, part)
        starts = interval.m1.frequencies.cumsum(1, dtype=torch.int32) - interval.m1.frequencies + 1
        symbol = (starts <= value[:, None]).sum(1)  # END if no byte starts at the value or before
        byte = (symbol - 1).clamp(min=0)
        start, frequency = self._of_symbol(interval.m1, symbol == END, picked(starts, byte).long(), byte)
        low, width = interval.low + part * start, part * frequency
        offset = interval.offset - part * start
        is_wrong = (value >= TOTAL) | ~is_below((offset,), (width,))
        n = self._n_leaving(width)
        offset = offset << 8 * n | coming >> 8 * (MAX_SHIFTS - n)
        after = Interval(self._read(interval.m1, symbol == END, byte), low << 8 * n, width << 8 * n, offset)
        n = n.masked_fill(is_done, 0)
        kept = Interval(
            after.m1, *(torch.where(is_done, a, b) for a, b in zip(interval[1:], after[1:], strict=True))
        )
        return kept, symbol, n, is_wrong & ~is_done

    def _of_symbol(self, m1: State, is_end: Tensor, before: Tensor, byte: Tensor) -> tuple[Tensor, Tensor]:
        """Start and frequency of a symbol; the end of a document comes first, with 1."""
        frequency = picked(m1.frequencies, byte).long()
        return before.masked_fill(is_end, 0), frequency.masked_fill(is_end, 1)

    def _n_leaving(self, width: Tensor) -> Tensor:
        """How many bytes leave the interval, so that its width is 2**56 or more."""
        top = width >> 40 & (1 << 24) - 1  # the highest three bytes
        return (top < 1 << 16).long() + (top < 1 << 8) + (top < 1)

    def _read(self, m1: State, is_end: Tensor, byte: Tensor) -> State:
        """M1 after a byte; where a document ends it begins anew."""
        return self.m1.begun(self.m1.read(m1.states, m1.history, byte), is_end)
