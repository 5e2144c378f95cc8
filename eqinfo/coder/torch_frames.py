"""Frames coded in lanes on a device: the payloads of `live_windows`, many at a time.

What this module does not do: compute a step (`torch_windows`), or run steps on a device (`torch_blocks`).
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from eqinfo.coder import live_windows
from eqinfo.coder.integer_m1 import Network
from eqinfo.coder.paper import END
from eqinfo.coder.progress import CODED
from eqinfo.coder.torch_blocks import Array, Blocks, Tensors, compiled
from eqinfo.coder.torch_m1 import State
from eqinfo.coder.torch_windows import Lanes, TorchWindows
from eqinfo.system.arrays import I64, U64
from eqinfo.text.frames import Frame

Flags = npt.NDArray[np.bool_]
Payload = tuple[bytes, int]  # of a frame, and the length of its text in bytes

BLOCK_STEPS = 64  # a multiple of 8


class FrameCoder:
    """Codes up to `lanes` frames at a time, a byte of each at each step.

    Args:
        network: M1.
        window_bits: of `live_windows.WINDOW_BITS`.
        lanes: B; with int8 at least `torch_m1.LEAST_LANES`.
        device: where to compute.
        is_int8: how matrix products are made; see `torch_m1`.
        is_compiled: whether steps are compiled by torch.compile.

    Attributes:
        steps: the computation of a step.
        way: how it is computed, in words.
    """

    def __init__(
        self,
        network: Network,
        window_bits: int,
        lanes: int,
        device: torch.device,
        is_int8: bool = False,
        is_compiled: bool = False,
    ) -> None:
        self.lanes, self.window_bits = lanes, window_bits
        self.way = way(is_int8, is_compiled)
        self.steps = TorchWindows(network, window_bits, device, is_int8)
        self._encode, self._decode = (
            compiled(step, is_compiled) for step in (self.steps.encode, self.steps.decode)
        )
        self._encoding: Blocks | None = None
        self._decoding: Blocks | None = None
        self._codewords: Tensor | None = None  # of the lanes to decode, (limbs, B, room for windows)

    def encode(self, frames: Sequence[Frame]) -> list[bytes]:
        """What `live_windows.encode_windows` returns for each of up to B frames."""
        lengths = self._lengths([len(frame.text) for frame in frames])
        n_blocks = _n_blocks(lengths)
        text = np.zeros((self.lanes, n_blocks * BLOCK_STEPS), np.uint8)
        is_start = np.zeros(text.shape, np.bool_)  # where a document begins, and after the text
        for lane, (string, ends) in enumerate(frames):
            text[lane, : len(string)] = np.frombuffer(string, np.uint8)
            is_start[lane, [0, *ends, len(string)]] = True
        parts: list[tuple[I64, Array, Flags]] = []  # of a block: see `by_lane`

        def give(number: int, inputs: list[Array]) -> None:
            inputs[0][:], inputs[1][:] = text[:, _steps(number)], is_start[:, _steps(number)]

        def take(number: int, outputs: list[Array]) -> None:
            codewords, begins = outputs  # (limbs, B, T) and (B, T)
            at = np.arange(number * BLOCK_STEPS, (number + 1) * BLOCK_STEPS)
            is_end = begins & (at > 0) & (at <= lengths[:, None])  # of the window before
            parts.append((is_end.sum(1), codewords[:, is_end], is_start[:, _steps(number)][is_end]))
            _count(lengths, number)

        if self._encoding is None:
            room = self._new(torch.uint8), self._new(torch.bool)
            self._encoding = Blocks(self._encode_block, _tensors(self.steps.begin(self.lanes)), [*room])
        self._encoding.run(n_blocks, give, take)
        lanes = zip(frames, by_lane(parts), strict=False)
        return [
            live_windows.to_big_endian(_closed(frame, codewords, is_last), self.window_bits)
            for frame, (codewords, is_last) in lanes
        ]

    def decode(self, payloads: Sequence[Payload]) -> list[Frame | ValueError]:
        """What `live_windows.decode_windows` returns for each of up to B payloads, or the error it raises.

        Raises:
            ValueError: a payload is not a whole number of windows.
        """
        lengths = self._lengths([length for _, length in payloads])
        n_blocks = _n_blocks(lengths)
        found = [live_windows.from_big_endian(payload, self.window_bits) for payload, _ in payloads]
        has_text: list[Flags] = [np.any(codewords, axis=1) for codewords in found]
        self._load([codewords[mask] for codewords, mask in zip(found, has_text, strict=True)])
        text = np.empty((self.lanes, n_blocks * BLOCK_STEPS), np.uint8)
        begins = np.empty((self.lanes, text.shape[1] // 8), np.uint8)  # a bit for each step

        def take(number: int, outputs: list[Array]) -> None:
            text[:, _steps(number)] = outputs[0]
            begins[:, _steps(number, 8)] = np.packbits(outputs[1], axis=1)
            _count(lengths, number)

        assert self._decoding is not None
        self._decoding.run(n_blocks, lambda number, inputs: None, take)
        lanes = zip(payloads, has_text, text, begins, strict=False)
        return [
            _decoded(string[:length], np.unpackbits(bits, count=length + 1) > 0, mask)
            for (_, length), mask, string, bits in lanes
        ]

    def _encode_block(self, state: Tensors, inputs: Tensors) -> tuple[Tensors, Tensors]:
        """The state after a block, the codewords before each step, and whether the step begins a window."""
        lanes, (text, is_start) = _lanes(state), inputs
        codewords, begins = [], []
        for step in range(BLOCK_STEPS):
            codewords.append(torch.stack(lanes.at))
            lanes, begin = self._encode(lanes, text[:, step].long(), is_start[:, step])
            begins.append(begin)
        return _tensors(lanes), [torch.stack(codewords, 2), torch.stack(begins, 1)]

    def _decode_block(self, state: Tensors, _: Tensors) -> tuple[Tensors, Tensors]:
        """The state after a block, its bytes, and whether they begin windows: the last tensor counts."""
        lanes, n_begun, rows = _lanes(state[:-1]), state[-1], self._codewords
        assert rows is not None
        text, begins = [], []
        for _step in range(BLOCK_STEPS):
            at = n_begun.clamp(max=rows.shape[2] - 1)[:, None]
            codeword = tuple(limb.gather(1, at).squeeze(1) for limb in rows)
            lanes, byte, begin = self._decode(lanes, codeword)
            n_begun = n_begun + begin
            text.append(byte.to(torch.uint8))
            begins.append(begin)
        return [*_tensors(lanes), n_begun], [torch.stack(text, 1), torch.stack(begins, 1)]

    def _load(self, found: list[U64]) -> None:
        """Move the codewords of lanes, rows of (high, low) halves without those of 0, to the device."""
        most = max((len(codewords) for codewords in found), default=0)
        if self._codewords is None or self._codewords.shape[2] <= most:
            # a power of two, so that few batches need more; behind a lane's codewords there is a 0
            shape = self.steps.n_limbs, self.lanes, 1 << most.bit_length()
            self._decoding = self._codewords = None  # frees their memory first
            self._codewords = torch.zeros(shape, dtype=torch.int64, device=self.steps.device)
            state = [*_tensors(self.steps.begin(self.lanes)), self._codewords.new_zeros(self.lanes)]
            self._decoding = Blocks(self._decode_block, state, [])
        rows = np.zeros((self.lanes, self._codewords.shape[2]), np.uint64)
        for k, limb in enumerate(self._codewords):
            for lane, codewords in enumerate(found):
                rows[lane, : len(codewords)] = codewords[:, 1 - k]
                rows[lane, len(codewords) :] = 0
            limb.copy_(torch.from_numpy(rows.view(np.int64)))

    def _lengths(self, lengths: Sequence[int]) -> I64:
        """Lengths of the lanes' texts, (B,); -1 for lanes without a frame."""
        assert 0 < len(lengths) <= self.lanes
        return np.array([*lengths, *[-1] * (self.lanes - len(lengths))])

    def _new(self, dtype: torch.dtype) -> Tensor:
        """Room for a number of each step of a block."""
        return torch.zeros((self.lanes, BLOCK_STEPS), dtype=dtype, device=self.steps.device)


def symbols_of(frame: Frame) -> Array:
    """The bytes of a frame, each as 1 + its value, with END where a document ends, int16 (n,)."""
    return np.insert(np.frombuffer(frame.text, np.uint8).astype(np.int16) + 1, [*frame.document_ends], END)


def way(is_int8: bool, is_compiled: bool) -> str:
    """How steps are computed, in words."""
    return f"{'int8' if is_int8 else 'float64'} products{', compiled' if is_compiled else ''}"


def _n_blocks(lengths: I64) -> int:
    """The number of blocks that texts take: a step for each byte, one for the last window's end."""
    return -(-(int(lengths.max()) + 1) // BLOCK_STEPS)


def _steps(number: int, per: int = 1) -> slice:
    """The steps of a block, or the groups of `per` steps."""
    return slice(number * BLOCK_STEPS // per, (number + 1) * BLOCK_STEPS // per)


def _count(lengths: I64, number: int) -> None:
    """Count the bytes of a block for a progress bar."""
    CODED[0] += np.clip(lengths - number * BLOCK_STEPS, 0, BLOCK_STEPS).sum()


def _tensors(lanes: Lanes) -> Tensors:
    return [*lanes.m1, *lanes.at, *lanes.rest]


def _lanes(tensors: Tensors) -> Lanes:
    """The inverse of `_tensors`."""
    m1, limbs = State(*tensors[:3]), tensors[3:]
    return Lanes(m1, tuple(limbs[: len(limbs) // 2]), tuple(limbs[len(limbs) // 2 :]))


def by_lane(parts: list[tuple[I64, Array, Flags]]) -> Iterator[tuple[Array, Flags]]:
    """The codewords of each lane (limbs, n), and which are a document's last, or the text's (n,).

    Args:
        parts: of each block, the number of windows that end in each lane, their codewords (limbs, n), one
            lane after another, and whether a document begins behind them (n,).
    """
    total = np.sum([counts for counts, _, _ in parts], axis=0)
    starts = np.cumsum(total) - total
    codewords = np.empty((len(parts[0][1]), total.sum()), parts[0][1].dtype)
    is_last = np.empty(total.sum(), np.bool_)
    free = starts.copy()
    for counts, numbers, flags in parts:
        before = np.cumsum(counts) - counts
        place = np.repeat(free - before, counts) + np.arange(flags.size)
        codewords[:, place], is_last[place] = numbers, flags
        free += counts
    for start, end in zip(starts, free, strict=True):
        yield codewords[:, start:end], is_last[start:end]


def _closed(frame: Frame, codewords: Array, is_last: Flags) -> U64:
    """Codewords as rows of (high, low) halves, and a 0 for each document end."""
    rows = np.zeros((codewords.shape[1], 2), np.uint64)
    rows[:, 1] = codewords[0].view(np.uint64)
    if len(codewords) > 1:
        rows[:, 0] = codewords[1].view(np.uint64)
    ends = np.array(frame.document_ends, np.int64)
    boundaries = np.unique(ends[ends > 0])  # a window ends at each of them, and at the text's end
    n_before = np.concatenate(([0], np.flatnonzero(is_last) + 1))  # windows before 0 and the boundaries
    return np.insert(rows, n_before[np.searchsorted(boundaries, ends, "right")], 0, axis=0)


def _decoded(text: Array, begins: Flags, has_text: Flags) -> Frame | ValueError:
    """The frame of a lane.

    Args:
        text: (n,).
        begins: whether each byte begins a window, and whether one would after the text, (n + 1,).
        has_text: of all codewords, which are not 0.
    """
    starts = np.flatnonzero(begins)
    n_windows = np.count_nonzero(has_text)
    if begins[-1] and starts.size == n_windows + 1:
        ends = starts[np.cumsum(has_text)[~has_text]]  # of documents: where the next window begins
        return Frame(text.tobytes(), ends.tolist())
    few = "fewer" if np.count_nonzero(begins[:-1]) > n_windows else "more"
    return ValueError(f"{few} bytes of text than there should be")
