"""Frames coded by the paper's rule in lanes on a device: the payloads of `paper`, many at a time.

How many steps a frame takes is not known beforehand, so blocks run until all lanes have ended.

What this module does not do: compute a step (`torch_paper`), or run steps on a device (`torch_blocks`).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from eqinfo.coder import live_windows
from eqinfo.coder.integer_m1 import Network
from eqinfo.coder.paper import END
from eqinfo.coder.progress import CODED
from eqinfo.coder.torch_blocks import Array, Blocks, Tensors, compiled
from eqinfo.coder.torch_frames import BLOCK_STEPS, Flags, Payload, by_lane, symbols_of, way
from eqinfo.coder.torch_m1 import State
from eqinfo.coder.torch_paper import LIMB_BITS, LIMB_MASK, NO_SYMBOL, Long, Place, TorchPaper
from eqinfo.system.arrays import I64
from eqinfo.text.frames import Frame

MANY_BLOCKS = 1 << 40  # more than any text takes


class PaperCoder:
    """Codes up to `lanes` frames at a time; like `torch_frames.FrameCoder`, by the paper's rule."""

    def __init__(
        self,
        network: Network,
        window_bits: int,
        lanes: int,
        device: torch.device,
        is_int8: bool = False,
        is_compiled: bool = False,
    ) -> None:
        self.lanes, self.window_bits, self.way = lanes, window_bits, way(is_int8, is_compiled)
        self.steps = TorchPaper(network, window_bits, device, is_int8)
        self._encode, self._decode = (
            compiled(step, is_compiled) for step in (self.steps.encode, self.steps.decode)
        )
        self._encoding: Blocks | None = None
        self._decoding: Blocks | None = None
        self._symbols = self._new(1, torch.int16)  # of the lanes to encode, (B, room)
        self._codewords = self._new(1)[None]  # of the lanes to decode, low and high limbs, (2, B, room)
        self._lengths, self._n_windows = self._new(), self._new()  # of the lanes to decode, (B,)

    def encode(self, frames: Sequence[Frame]) -> list[bytes]:
        """What `paper.encode_windows` returns for each of up to B frames."""
        rows = [*map(symbols_of, frames)]
        self._load_symbols(rows)
        parts: list[tuple[I64, Array, Flags]] = []
        coded = 0

        def take(_: int, outputs: list[Array]) -> bool:
            nonlocal coded
            codewords, ends, at, is_done = outputs  # (2, B, T), (B, T), (B,) and (B,)
            parts.append((ends.sum(1), codewords[:, ends], ends[ends]))
            CODED[0] += at.sum() - coded
            coded = at.sum()
            return bool(is_done.all())

        assert self._encoding is not None
        self._encoding.run(MANY_BLOCKS, lambda number, inputs: None, take)
        found = [
            np.ascontiguousarray(codewords.T[:, ::-1]).view(np.uint64) for codewords, _ in by_lane(parts)
        ]
        return [live_windows.to_big_endian(rows, self.window_bits) for rows in found[: len(frames)]]

    def decode(self, payloads: Sequence[Payload]) -> list[Frame | ValueError]:
        """What `paper.decode_windows` returns for each of up to B payloads, or the error it raises.

        Raises:
            ValueError: a payload is not a whole number of windows.
        """
        found = [live_windows.from_big_endian(payload, self.window_bits) for payload, _ in payloads]
        self._load_codewords(found, [length for _, length in payloads])
        parts: list[tuple[I64, Array, Flags]] = []
        ends: list[list[int]] = [[] for _ in range(self.lanes)]
        n_bytes = np.zeros(self.lanes, np.int64)
        has_failed = np.zeros(self.lanes, np.bool_)

        def take(_: int, outputs: list[Array]) -> bool:
            symbols, is_wrong, is_done = outputs  # (B, T), (B,) and (B,)
            is_byte = (symbols != END) & (symbols != NO_SYMBOL)
            parts.append((is_byte.sum(1), (symbols[is_byte] - 1).astype(np.uint8)[None], is_byte[is_byte]))
            before = np.cumsum(is_byte, 1)
            for lane, step in zip(*np.nonzero(symbols == END), strict=True):
                ends[lane].append(int(n_bytes[lane] + before[lane, step]))
            n_bytes[:] += before[:, -1]
            CODED[0] += before[:, -1].sum()
            has_failed[:] |= is_wrong
            return bool(is_done.all())

        assert self._decoding is not None
        self._decoding.run(MANY_BLOCKS, lambda number, inputs: None, take)
        results: list[Frame | ValueError] = []
        for (_, length), (text, _), lane_ends, failed in zip(
            payloads, by_lane(parts), ends, has_failed, strict=False
        ):
            if failed:
                results.append(ValueError("more windows than the text has"))
            elif text.size != length:
                results.append(ValueError("fewer bytes of text than there should be"))
            else:
                results.append(Frame(text.tobytes(), lane_ends))
        return results

    def _encode_block(self, state: Tensors, _: Tensors) -> tuple[Tensors, Tensors]:
        """The state after a block; codewords, whether windows end, places in the text, whether lanes end."""
        n = self.steps.n_limbs
        place, best, cell = _place(state[: -1 - n]), state[-1 - n], tuple(state[-n:])
        codewords, ends = [], []
        for _step in range(BLOCK_STEPS):
            symbol = self._symbols.gather(1, place.next[:, None]).squeeze(1).long()
            place, best, cell, end, codeword = self._encode(place, best, cell, symbol)
            codewords.append(_packed(codeword))
            ends.append(end)
        outputs = [torch.stack(codewords, 2), torch.stack(ends, 1), place.next, symbol == NO_SYMBOL]
        return [*_tensors(place), best, *cell], outputs

    def _decode_block(self, state: Tensors, _: Tensors) -> tuple[Tensors, Tensors]:
        """The state after a block; its symbols, and whether lanes have failed, and have ended."""
        place, n_read = _place(state[:-1]), state[-1]
        symbols, failures = [], []
        for _step in range(BLOCK_STEPS):
            at = n_read.clamp(max=self._codewords.shape[2] - 1)[:, None]
            codeword = self._unpacked(*(limb.gather(1, at).squeeze(1) for limb in self._codewords))
            is_done = n_read >= self._n_windows
            place, symbol, end, is_empty = self._decode(place, codeword, self._lengths, is_done)
            n_read = n_read + end
            symbols.append(symbol.to(torch.int16))
            failures.append(is_empty)
        is_done = n_read >= self._n_windows
        return [*_tensors(place), n_read], [torch.stack(symbols, 1), torch.stack(failures).any(0), is_done]

    def _load_symbols(self, rows: list[Array]) -> None:
        """Move the symbols of lanes to the device, with NO_SYMBOL behind them."""
        most = max(row.size for row in rows)
        if self._encoding is None or self._symbols.shape[1] <= most:
            self._encoding = None
            self._symbols = self._new(1 << most.bit_length(), torch.int16).fill_(NO_SYMBOL)
            state = [
                *_tensors(self.steps.begin(self.lanes)),
                *(self._new() for _ in range(1 + self.steps.n_limbs)),
            ]
            self._encoding = Blocks(self._encode_block, state, [])
        symbols = np.full(self._symbols.shape, NO_SYMBOL, np.int16)
        for lane, row in enumerate(rows):
            symbols[lane, : row.size] = row
        self._symbols.copy_(torch.from_numpy(symbols))

    def _load_codewords(self, found: list[Array], lengths: list[int]) -> None:
        """Move the codewords of lanes, rows of (high, low) halves, and lengths of texts to the device."""
        most = max(len(codewords) for codewords in found)
        if self._decoding is None or self._codewords.shape[2] <= most:
            self._decoding = None
            self._codewords = torch.stack([self._new(1 << most.bit_length())] * 2)
            self._decoding = Blocks(
                self._decode_block, [*_tensors(self.steps.begin(self.lanes)), self._new()], []
            )
        room = np.zeros(self._codewords.shape, np.uint64)
        for lane, codewords in enumerate(found):
            room[:, lane, : len(codewords)] = codewords.T[::-1]
        self._codewords.copy_(torch.from_numpy(room.view(np.int64)))
        padding = [0] * (self.lanes - len(found))
        self._lengths.copy_(torch.tensor([*lengths, *padding]))
        self._n_windows.copy_(torch.tensor([*map(len, found), *padding]))

    def _new(self, room: int | None = None, dtype: torch.dtype = torch.int64) -> Tensor:
        """Room for a number of each lane, or for several."""
        shape = (self.lanes,) if room is None else (self.lanes, room)
        return torch.zeros(shape, dtype=dtype, device=self.steps.device)

    def _unpacked(self, low: Tensor, high: Tensor) -> Long:
        """The inverse of `_packed`."""
        limbs = [part >> shift & LIMB_MASK for part in (low, high) for shift in (0, LIMB_BITS)]
        return tuple([*limbs, torch.zeros_like(low)][: self.steps.n_limbs])


def _packed(codeword: Long) -> Tensor:
    """A codeword of up to 128 bits as two limbs of 64 bits, the lowest first, (2, B)."""
    limbs = [*codeword, *[torch.zeros_like(codeword[0])] * 4]
    return torch.stack([limbs[k] | limbs[k + 1] << LIMB_BITS for k in (0, 2)])


def _tensors(place: Place) -> Tensors:
    return [*place.m1, *place.low, *place.width, place.start, place.next]


def _place(tensors: Tensors) -> Place:
    """The inverse of `_tensors`."""
    limbs = tensors[3:-2]
    half = len(limbs) // 2
    return Place(State(*tensors[:3]), tuple(limbs[:half]), tuple(limbs[half:]), tensors[-2], tensors[-1])
