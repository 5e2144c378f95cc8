"""The paper's windows of many frames at a time, in PyTorch: the steps of `paper` on any device.

A lane codes one frame. At each step a lane tries to add one symbol to its window; where a window ends, M1
begins anew, and in encoding the lane goes back to the end of the longest window that it has passed.

Numbers are `Long`: tuples of int64 tensors with 32 bits each, the lowest first, at least 0; so carries fit.
Shapes: B lanes.

What this module does not do: collect codewords and text (`torch_paper_frames`).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from eqinfo.coder.integer_m1 import M1_TOTAL, M1_TOTAL_BITS, N_BYTES, Network
from eqinfo.coder.intervals import PAPER_TOTAL
from eqinfo.coder.paper import END, SPARE_BITS
from eqinfo.coder.torch_m1 import State, TorchM1
from eqinfo.coder.torch_windows import chosen, largest_remainders, picked

Long = tuple[Tensor, ...]

LIMB_BITS = 32
LIMB_MASK = (1 << LIMB_BITS) - 1
PAPER_BITS = PAPER_TOTAL.bit_length() - 1
SHARED = PAPER_TOTAL - N_BYTES - 1  # what is shared after 1 for each symbol
NO_SYMBOL = N_BYTES + 1  # behind the last symbol of a frame; nothing is decoded at a step


def product(a: Long, factor: Tensor) -> Long:
    """The product with a factor below 2**31; one more limb."""
    limbs, carry = [], torch.zeros_like(factor)
    for limb in a:
        total = limb * factor + carry
        limbs.append(total & LIMB_MASK)
        carry = total >> LIMB_BITS
    return (*limbs, carry)


def shifted(a: Long, bits: int) -> Long:
    """The quotient a // 2**bits, for bits in [1, 32)."""
    upper = (*(high << LIMB_BITS - bits & LIMB_MASK for high in a[1:]), torch.zeros_like(a[-1]))
    return tuple(limb >> bits | high for limb, high in zip(a, upper, strict=True))


def added(a: Long, b: Long) -> Long:
    """The sum, modulo 2 to the number of bits."""
    limbs: list[Tensor] = []
    carry = torch.zeros_like(a[0])
    for left, right in zip(a, b, strict=True):
        total = left + right + carry
        limbs.append(total & LIMB_MASK)
        carry = total >> LIMB_BITS
    return tuple(limbs)


def subtracted(a: Long, b: Long) -> tuple[Long, Tensor]:
    """The difference, modulo 2 to the number of bits, and whether a < b."""
    limbs: list[Tensor] = []
    carry = torch.zeros_like(a[0])
    for left, right in zip(a, b, strict=True):
        total = left - right + carry
        limbs.append(total & LIMB_MASK)
        carry = total >> LIMB_BITS  # -1 if the limb has borrowed
    return tuple(limbs), carry < 0


def is_below(a: Long, b: Long) -> Tensor:
    """Whether a < b."""
    return subtracted(a, b)[1]


def column(a: Long) -> Long:
    """Numbers of lanes, (B,), to be met with those of bytes, (B, N_BYTES)."""
    return tuple(limb[:, None] for limb in a)


class Place(NamedTuple):
    """Where the lanes are.

    Attributes:
        m1: M1 after the bytes of the window so far.
        low: of the interval of the window's symbols so far.
        width: of that interval.
        start: of the window: in encoding the offset of its first symbol, in decoding that of its first byte.
        next: in encoding the offset of the next symbol, in decoding that of the next byte.
    """

    m1: State
    low: Long
    width: Long
    start: Tensor
    next: Tensor


class TorchPaper:
    """The steps for windows of one size.

    Args:
        network: M1.
        window_bits: of `live_windows.WINDOW_BITS`.
        device: where to compute.
        is_int8: how matrix products are made; see `torch_m1`.
    """

    def __init__(self, network: Network, window_bits: int, device: torch.device, is_int8: bool) -> None:
        self.device, self.m1 = device, TorchM1(network, device, is_int8)
        bits = window_bits + SPARE_BITS
        self.n_limbs = bits // LIMB_BITS + 1  # a number of up to 2**bits
        self.whole = tuple(
            self._number((1 << bits) >> LIMB_BITS * k & LIMB_MASK) for k in range(self.n_limbs)
        )
        below_cell = [(1 << SPARE_BITS) - 1, *[0] * (self.n_limbs - 1)]
        self.below_cell = tuple(self._number(limb) for limb in below_cell)  # one less than a cell

    def begin(self, lanes: int) -> Place:
        """The state of lanes before their first step."""
        nothing = torch.zeros((self.n_limbs + 2, lanes), dtype=torch.int64, device=self.device)
        low, width = nothing[: self.n_limbs], tuple(limb.repeat(lanes) for limb in self.whole)
        return Place(self.m1.begin(lanes), tuple(low), width, nothing[-2], nothing[-1])

    def encode(
        self, place: Place, best: Tensor, cell: Long, symbol: Tensor
    ) -> tuple[Place, Tensor, Long, Tensor, Long]:
        """One step of encoding.

        Args:
            place: the state before.
            best: offset of the end of the longest window that the text has begun with so far, int64 (B,).
            cell: its codeword.
            symbol: at the offset place.next, int64 (B,); NO_SYMBOL behind the text.

        Returns:
            State, best and cell after the step; whether a window ends, and its codeword.
        """
        share, start = self._table(place.m1)
        # a cell that belongs to no child lies across the start of one; the first such start counts
        inner = self._starts(place.width, start)  # of each byte from the node's low, each (B, N_BYTES)
        inner = added(tuple(limb.expand_as(start) for limb in column(place.low)), inner)
        first, end = self._cells(place.low, place.width)
        cells = shifted(inner, SPARE_BITS)
        is_across = (inner[0] & (1 << SPARE_BITS) - 1) != 0
        is_across &= ~is_below(cells, self._wide(first, start)) & is_below(cells, self._wide(end, start))
        byte = self.m1.bytes.expand_as(is_across).masked_fill(~is_across, N_BYTES).amin(1).long()
        is_window = (byte < N_BYTES) & (place.next > place.start)
        own = tuple(picked(limb, byte.clamp(max=N_BYTES - 1)) for limb in cells)
        best, cell = torch.where(is_window, place.next, best), chosen(is_window, own, cell)
        low, width = self._narrowed(place, share, start, symbol.clamp(max=N_BYTES))
        child_first, child_end = self._cells(low, width)
        is_last = symbol == NO_SYMBOL  # an open text ends with the last cell of its interval
        is_full = ~is_last & ~is_below(child_first, child_end)
        is_end = (symbol == END) & ~is_full
        last = subtracted(end, (torch.ones_like(best), *[torch.zeros_like(best)] * (self.n_limbs - 1)))[0]
        codeword = chosen(is_last, last, chosen(is_full, cell, child_first))
        ends = (is_last & (place.next > place.start)) | is_full | is_end
        following = torch.where(is_full, best, torch.where(is_last, place.next, place.next + 1))
        place = self._moved(place, low, width, symbol, ends | is_last, following)
        return place, best, cell, ends, codeword

    def decode(
        self, place: Place, codeword: Long, length: Tensor, is_done: Tensor
    ) -> tuple[Place, Tensor, Tensor, Tensor]:
        """One step of decoding.

        Args:
            place: the state before.
            codeword: of the window.
            length: bytes of the text, int64 (B,).
            is_done: whether there is no codeword left, bool (B,).

        Returns:
            The state after it; the symbol that was decoded, or NO_SYMBOL; whether the window ends; whether
            it is empty, which no window is.
        """
        share, start = self._table(place.m1)
        high = (torch.zeros_like(codeword[0]), *codeword[:-1])  # codeword * 2**32, of which 28 are wanted
        scaled = shifted((*high, codeword[-1]), LIMB_BITS - SPARE_BITS)[: self.n_limbs]
        offset = subtracted(scaled, place.low)[0]
        is_after = is_below(self._wide(offset, start), self._starts(place.width, start))
        symbol = N_BYTES - is_after.sum(1)
        low, width = self._narrowed(place, share, start, symbol)
        first, end = self._cells(low, width)
        is_over = is_below(codeword, first) | ~is_below(codeword, end)
        is_over |= (symbol != END) & (place.next == length)
        is_over |= is_done
        is_end = (symbol == END) & ~is_over
        is_empty = is_over & (place.next == place.start) & ~is_done
        following = torch.where(is_over | is_end, place.next, place.next + 1)
        place = self._moved(place, low, width, symbol, is_over | is_end, following)
        return place, symbol.masked_fill(is_over, NO_SYMBOL), (is_over | is_end) & ~is_done, is_empty

    def _moved(
        self, place: Place, low: Long, width: Long, symbol: Tensor, ends: Tensor, following: Tensor
    ) -> Place:
        """The state after a symbol, or at the start of a window where one ends."""
        byte = (symbol - 1).clamp(0, N_BYTES - 1)
        m1 = self.m1.begun(self.m1.read(place.m1.states, place.m1.history, byte), ends)
        whole = tuple(limb.expand_as(ends) for limb in self.whole)
        low = tuple(limb.masked_fill(ends, 0) for limb in low)
        return Place(
            m1, low, chosen(ends, whole, width), torch.where(ends, following, place.start), following
        )

    def _table(self, m1: State) -> tuple[Tensor, Tensor]:
        """Frequencies of the bytes, of PAPER_TOTAL, and those before each: int64 (B, N_BYTES)."""
        products = m1.frequencies.long() * SHARED
        left = SHARED - (products >> M1_TOTAL_BITS).sum(1, keepdim=True)
        is_more = largest_remainders((products & M1_TOTAL - 1).int(), left, self.m1.bytes)
        share = (products >> M1_TOTAL_BITS) + is_more + 1
        return share, share.cumsum(1) - share + 1  # the end of a document comes first, with 1

    def _starts(self, width: Long, start: Tensor) -> Long:
        """Where the intervals of bytes start, from the node's low; each (B, N_BYTES)."""
        return shifted(product(column(width), start), PAPER_BITS)[:-1]

    def _narrowed(self, place: Place, share: Tensor, start: Tensor, symbol: Tensor) -> tuple[Long, Long]:
        """The interval after a symbol."""
        byte = (symbol - 1).clamp(min=0)
        before = picked(start, byte).masked_fill(symbol == END, 0)
        after = (before + picked(share, byte)).masked_fill(symbol == END, 1)
        first, end = (shifted(product(place.width, n), PAPER_BITS)[:-1] for n in (before, after))
        return added(place.low, first), subtracted(end, first)[0]

    def _cells(self, low: Long, width: Long) -> tuple[Long, Long]:
        """The first codeword whose cell lies inside an interval, and the one after the last."""
        rounded = added(low, tuple(limb.expand_as(low[0]) for limb in self.below_cell))
        return shifted(rounded, SPARE_BITS), shifted(added(low, width), SPARE_BITS)

    def _wide(self, a: Long, like: Tensor) -> Long:
        """Numbers of lanes, for each byte."""
        return tuple(limb.expand_as(like) for limb in column(a))

    def _number(self, value: int) -> Tensor:
        return torch.tensor([value], dtype=torch.int64, device=self.device)
