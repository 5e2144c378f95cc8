"""Frames coded in lanes on a device by plain arithmetic coding: the codes of `arithmetic_coding`.

What this module does not do: compute a step (`torch_plain_code`), or run steps on a device (`torch_blocks`).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eqinfo.coder.integer_m1 import M1_TOTAL_BITS, Network
from eqinfo.coder.kernels import range_coder as rc
from eqinfo.coder.paper import END
from eqinfo.coder.progress import CODED
from eqinfo.coder.torch_blocks import Array, Blocks, Tensors, compiled
from eqinfo.coder.torch_frames import BLOCK_STEPS, Flags, by_lane, symbols_of, way
from eqinfo.coder.torch_m1 import State
from eqinfo.coder.torch_plain_code import MAX_SHIFTS, Interval, TorchPlainCode
from eqinfo.system.arrays import I64
from eqinfo.text.frames import Frame

Code = tuple[bytes, int, int]  # of a frame, the length of its text in bytes, and the number of document ends


class CodeCoder:
    """Codes up to `lanes` frames at a time; like `torch_frames.FrameCoder`, by plain arithmetic coding."""

    def __init__(
        self,
        network: Network,
        lanes: int,
        device: torch.device,
        is_int8: bool = False,
        is_compiled: bool = False,
    ) -> None:
        self.lanes, self.way = lanes, way(is_int8, is_compiled)
        self.steps = TorchPlainCode(network, device, is_int8)
        self._encode, self._decode = (
            compiled(step, is_compiled) for step in (self.steps.encode, self.steps.decode)
        )
        self._encoding: Blocks | None = None
        self._decoding: Blocks | None = None
        self._codes = torch.zeros(0)  # of the lanes to decode, uint8 (B, room)
        self._n_symbols = self._new()  # of the lanes to decode, (B,)

    def encode(self, frames: Sequence[Frame]) -> list[bytes]:
        """The code of each of up to B frames."""
        rows = [*map(symbols_of, frames)]
        lengths = np.zeros(self.lanes, np.int64)
        lengths[: len(rows)] = [row.size for row in rows]
        n_blocks = max(1, -(-int(lengths.max()) // BLOCK_STEPS))
        symbols = np.zeros((self.lanes, n_blocks * BLOCK_STEPS), np.int16)
        for lane, row in enumerate(rows):
            symbols[lane, : row.size] = row
        parts: list[tuple[I64, Array, Flags]] = []
        last = np.zeros((2, self.lanes), np.int64)  # low and width after the last symbol
        last[1] = -1

        def give(number: int, inputs: list[Array]) -> None:
            inputs[0][:] = symbols[:, number * BLOCK_STEPS : (number + 1) * BLOCK_STEPS]

        def take(number: int, outputs: list[Array]) -> None:
            carried, n_leaving, low, after = outputs  # (B, T) each, and low and width (2, B, T)
            at = np.arange(number * BLOCK_STEPS, (number + 1) * BLOCK_STEPS)
            is_used = at < lengths[:, None]
            is_told = is_used & (carried | (n_leaving > 0))
            told = np.stack((carried[is_told], n_leaving[is_told], low[is_told]))
            parts.append((is_told.sum(1), told, is_told[is_told]))
            lanes = np.flatnonzero((lengths > at[0]) & (lengths <= at[-1] + 1))
            last[:, lanes] = after[:, lanes, lengths[lanes] - 1 - at[0]]
            CODED[0] += is_used.sum()

        if self._encoding is None:
            room = torch.zeros((self.lanes, BLOCK_STEPS), dtype=torch.int16, device=self.steps.device)
            self._encoding = Blocks(self._encode_block, _tensors(self.steps.begin(self.lanes)), [room])
        self._encoding.run(n_blocks, give, take)
        lanes = zip(by_lane(parts), last.view(np.uint64).T, strict=True)
        return [_joined(told, *end) for (told, _), end in lanes][: len(frames)]

    def decode(self, codes: Sequence[Code]) -> list[Frame | ValueError]:
        """The frame of each of up to B codes, or the error that `arithmetic_coding.decode` raises."""
        # a document end takes more than 20 bits, so a damaged number of them is found before the work
        sizes = [
            length + n_documents if n_documents * M1_TOTAL_BITS <= 8 * (len(code) + 1) else 0
            for code, length, n_documents in codes
        ]
        self._load([code for code, _, _ in codes], sizes)
        n_blocks = max(1, -(-max(sizes) // BLOCK_STEPS))
        symbols = np.empty((self.lanes, n_blocks * BLOCK_STEPS), np.int16)
        is_wrong, final = np.zeros(self.lanes, np.bool_), np.zeros((4, self.lanes), np.int64)

        def take(number: int, outputs: list[Array]) -> None:
            symbols[:, number * BLOCK_STEPS : (number + 1) * BLOCK_STEPS] = outputs[0]
            is_wrong[:] |= outputs[1]
            final[:] = outputs[2]
            CODED[0] += np.clip(np.array(sizes) - number * BLOCK_STEPS, 0, BLOCK_STEPS).sum()

        assert self._decoding is not None
        self._decoding.run(n_blocks, lambda number, inputs: None, take)
        return [
            _decoded(code, symbols[lane, : sizes[lane]], bool(is_wrong[lane]), final[:, lane])
            for lane, code in enumerate(codes)
        ]

    def _encode_block(self, state: Tensors, inputs: Tensors) -> tuple[Tensors, Tensors]:
        """The state after a block; carries, bytes that leave, low with them, and low and width afterwards."""
        interval, told, after = _interval(state), [], []
        for step in range(BLOCK_STEPS):
            interval, *found = self._encode(interval, inputs[0][:, step].long())
            told.append(found)
            after.append(torch.stack((interval.low, interval.width)))
        return _tensors(interval), [
            *(torch.stack(each, 1) for each in zip(*told, strict=True)),
            torch.stack(after, 2),
        ]

    def _decode_block(self, state: Tensors, _: Tensors) -> tuple[Tensors, Tensors]:
        """The state after a block; its symbols, lanes that are wrong; low, width, offset and bytes read."""
        interval, n_read, n_done = _interval(state[:-2]), state[-2], state[-1]
        symbols, wrong = [], []
        for _step in range(BLOCK_STEPS):
            at = n_read.clamp(max=self._codes.shape[1] - MAX_SHIFTS)[:, None]
            coming = [
                self._codes.gather(1, at + k).squeeze(1).long() << 8 * (MAX_SHIFTS - 1 - k)
                for k in range(MAX_SHIFTS)
            ]
            is_done = n_done >= self._n_symbols
            interval, symbol, n, is_wrong = self._decode(interval, coming[0] | coming[1] | coming[2], is_done)
            n_read, n_done = n_read + n, n_done + 1
            symbols.append(symbol.to(torch.int16))
            wrong.append(is_wrong)
        final = torch.stack((interval.low, interval.width, interval.offset, n_read))
        return [*_tensors(interval), n_read, n_done], [
            torch.stack(symbols, 1),
            torch.stack(wrong).any(0),
            final,
        ]

    def _load(self, codes: list[bytes], n_symbols: list[int]) -> None:
        """Move codes to the device, with zeros behind them, and the numbers of symbols to decode."""
        most = max(map(len, codes)) + rc.CODER_BYTES + MAX_SHIFTS
        if self._decoding is None or self._codes.shape[1] < most:
            self._decoding = None
            room = 1 << most.bit_length()
            self._codes = torch.zeros((self.lanes, room), dtype=torch.uint8, device=self.steps.device)
            state = [*_tensors(self.steps.begin(self.lanes)), self._new(), self._new()]
            self._decoding = Blocks(self._decode_block, state, [])
        rows = np.zeros(self._codes.shape, np.uint8)
        for lane, code in enumerate(codes):
            rows[lane, : len(code)] = np.frombuffer(code, np.uint8)
        self._codes.copy_(torch.from_numpy(rows))
        self._n_symbols.copy_(torch.tensor([*n_symbols, *[0] * (self.lanes - len(codes))]))
        first = np.ascontiguousarray(rows[:, : rc.CODER_BYTES]).view(">u8")[:, 0].astype(np.uint64)
        self._decoding.first[-3].copy_(
            torch.from_numpy(first.view(np.int64))
        )  # the offset from low, which is 0
        self._decoding.first[-2].fill_(rc.CODER_BYTES)

    def _new(self) -> Tensor:
        """Room for a number of each lane."""
        return torch.zeros(self.lanes, dtype=torch.int64, device=self.steps.device)


def _joined(told: Array, low: Any, width: Any) -> bytes:
    """The code of a lane: the bytes that left the interval, carries added, and the last ones.

    Args:
        told: of steps, whether a 1 is carried, how many bytes leave, a number that begins with them, (3, n).
        low: of the last interval.
        width: of the last interval.
    """
    carried, counts, numbers = told
    tops = numbers.view(np.uint64).astype(">u8").view(np.uint8).reshape(-1, 8)[:, :MAX_SHIFTS]
    out = np.append(
        np.zeros(1, np.int64), tops[np.arange(MAX_SHIFTS) < counts[:, None]]
    )  # 0: never carried to
    np.add.at(out, np.cumsum(counts) - counts, carried)  # to the last byte before those of the step
    value, n_last = rc.last_bytes(low, width)
    out[-1] += value < low
    while (over := np.flatnonzero(out > 255)).size:
        out[over] -= 256
        out[over - 1] += 1
    assert out[0] == 0
    return out[1:].astype(np.uint8).tobytes() + int(value).to_bytes(8, "big")[:n_last]


def _decoded(code: Code, symbols: Array, is_wrong: bool, final: I64) -> Frame | ValueError:
    """The frame of a lane, if its code is exactly what encoding gives."""
    payload, length, n_documents = code
    is_byte = symbols != END
    low, width, offset = final[:3].view(np.uint64)
    interval = np.array([low, width, offset])
    n_found = int(is_byte.sum()), int(symbols.size - is_byte.sum())
    is_whole = rc.is_whole(np.frombuffer(payload, np.uint8).copy(), interval, np.int64(final[3]))
    if is_wrong or n_found != (length, n_documents) or not is_whole:
        return ValueError(f"not the code of {length} bytes and {n_documents} document ends")
    ends = np.cumsum(is_byte)[~is_byte]
    return Frame((symbols[is_byte] - 1).astype(np.uint8).tobytes(), ends.tolist())


def _tensors(interval: Interval) -> Tensors:
    return [*interval.m1, *interval[1:]]


def _interval(tensors: Tensors) -> Interval:
    """The inverse of `_tensors`."""
    return Interval(State(*tensors[:3]), *tensors[3:])
