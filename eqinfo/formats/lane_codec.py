"""Frames coded together, on a GPU: the payloads of `codec.WindowCodec` and `ArithmeticCodec`, bit for bit.

What this module does not do: compute (`coder.torch_choice`). It imports torch only where frames are coded.
"""

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeVar

from eqinfo.formats.codec import ArithmeticCodec, Codec, WindowCodec
from eqinfo.system.notes import note, warn
from eqinfo.system.threads import ordered_map
from eqinfo.text.frames import Frame

if TYPE_CHECKING:
    from eqinfo.coder.torch_choice import Coder

T = TypeVar("T")
R = TypeVar("R")

LANE_BYTES = 1 << 30  # of text to code at a time: 8,192 lanes of windows; more are hardly faster
# Text for each thread that pays for a GPU: it takes a minute, about as long as a core for a third of this.
ENOUGH_BYTES = 1 << 23
NO_DEVICE = ""  # the compiled loops, from now on


def can_batch(codec: WindowCodec | ArithmeticCodec) -> bool:
    """Whether frames can be coded together: an adaptive code and `carry` run on the CPU alone."""
    return not codec.carry if isinstance(codec, WindowCodec) else codec.rule == "published"


class LaneCodec(Codec):
    """A codec whose frames are coded together where a GPU is faster; one alone is coded on the CPU.

    Args:
        codec: one of which `can_batch` is true; payloads are the same.
        device: "cuda"; "auto" uses a GPU if there is one and enough text to pay for it; "cpu" computes the
            same on the CPU, slowly.
        lanes: the most frames to code at a time.

    Attributes:
        lanes: how many frames to gather for a batch; smaller if the device has not enough memory for more.
    """

    def __init__(self, codec: WindowCodec | ArithmeticCodec, device: str, lanes: int | None = None) -> None:
        self.unit_bits, self.fingerprint, self.name = codec.unit_bits, codec.fingerprint, codec.name
        self.frame_bytes = codec.frame_bytes
        self._codec, self._device = codec, device
        self.lanes = LANE_BYTES // codec.frame_bytes if lanes is None else lanes
        self._frame_coder: Coder | None = None

    @property
    def is_used(self) -> bool:
        """Whether the device codes frames: it has done so, and not been given up."""
        return self._frame_coder is not None

    def encode(self, frame: Frame) -> tuple[int, bytes]:  # noqa: D102 - see Codec
        return self._codec.encode(frame)

    def decode(self, units: int, payload: bytes, text_length: int) -> Frame:  # noqa: D102 - see Codec
        return self._codec.decode(units, payload, text_length)

    def most_units(self, text_length: int) -> int:  # noqa: D102 - see Codec
        return self._codec.most_units(text_length)

    def encode_batch(self, frames: Sequence[Frame], threads: int = 1) -> list[tuple[int, bytes]]:
        """What `encode` returns for each frame."""
        if self._pays(len(frames), threads):
            payloads = self._in_lanes(lambda coder, part: coder.encode(part), frames)
            if payloads is not None:
                if isinstance(self._codec, ArithmeticCodec):
                    payloads = [*map(self._codec.payload_of, frames, payloads)]
                return [(len(payload) * 8 // self.unit_bits, payload) for payload in payloads]
        return list(ordered_map(self.encode, frames, threads))

    def decode_batch(
        self, payloads: Sequence[tuple[int, bytes, int]], threads: int = 1
    ) -> list[Frame | ValueError]:
        """What `decode` returns for each payload, or the error that it raises.

        Args:
            payloads: the arguments of `decode`.
            threads: number of payloads to decode at a time where the device is not used.
        """
        if self._pays(len(payloads), threads):
            items = [self._item_or_error(payload, length) for _, payload, length in payloads]
            sound = [item for item in items if not isinstance(item, ValueError)]
            found = self._in_lanes(lambda coder, part: coder.decode(part), sound)
            if found is not None:
                rest = iter(found)
                return [item if isinstance(item, ValueError) else next(rest) for item in items]
        return list(ordered_map(self._frame_or_error, payloads, threads))

    def _item_or_error(self, payload: bytes, length: int) -> Any:
        """What the coder in lanes takes for a payload."""
        if isinstance(self._codec, WindowCodec):
            return payload, length
        try:
            code, n_documents = self._codec.code_of(payload)
        except ValueError as error:
            return error
        return code, length, n_documents

    def _frame_or_error(self, arguments: tuple[int, bytes, int]) -> Frame | ValueError:
        try:
            return self.decode(*arguments)
        except ValueError as error:
            return error

    def _pays(self, n_frames: int, threads: int) -> bool:
        """Whether to code so many frames on the device."""
        least = ENOUGH_BYTES * threads if self._device == "auto" else 1
        return self._device != NO_DEVICE and n_frames * self.frame_bytes >= least

    def _in_lanes(self, code: Callable[[Any, Sequence[T]], list[R]], items: Sequence[T]) -> list[R] | None:
        """What `code` returns for all items, a batch at a time; None if the device cannot do it."""
        done: list[R] = []
        while len(done) < len(items):
            part = self._first_batch(code, items[len(done) :])
            if part is None:
                self._device, self.lanes = NO_DEVICE, ENOUGH_BYTES // self.frame_bytes
                return None
            if not part:  # here no traceback holds tensors any more
                self._use_fewer()
            done += part
        return done

    def _first_batch(self, code: Callable[[Any, Sequence[T]], list[R]], items: Sequence[T]) -> list[R] | None:
        """What `code` returns for the first items; none if memory is short, None if there is no device."""
        import torch

        try:
            coder = self._coder_for(len(items))
            return None if coder is None else code(coder, items[: coder.lanes])
        except torch.OutOfMemoryError:
            return []

    def _use_fewer(self) -> None:
        """Halve the number of lanes, as the device has not enough memory."""
        self.lanes = self.lanes // 2
        self._forget_coder()
        note(f"device: not enough memory; going on with {self.lanes} frames at a time.")

    def _forget_coder(self) -> None:
        """Free the memory of the coder, which refers to itself."""
        self._frame_coder = None
        gc.collect()

    def _coder_for(self, n_frames: int) -> "Coder | None":
        """A coder for so many frames, or for as many as there may be; None if the device cannot be used."""
        import torch

        from eqinfo.coder.torch_choice import frame_coder
        from eqinfo.coder.torch_m1 import LEAST_LANES

        device = torch.device("cpu" if self._device == "cpu" else "cuda")
        if device.type == "cuda" and not torch.cuda.is_available():
            return None
        least = LEAST_LANES if device.type == "cuda" else 1
        if self.lanes < least:
            warn("device: the GPU has not enough memory. Going on on the CPU.")
            return None
        lanes = max(least, min(self.lanes, 1 << (n_frames - 1).bit_length()))
        if self._frame_coder is None or self._frame_coder.lanes < lanes:
            self._forget_coder()
            codec, bits = self._codec, self.unit_bits if isinstance(self._codec, WindowCodec) else None
            self._frame_coder = frame_coder(codec.network, bits, lanes, device, codec.rule)
            if self._frame_coder is None:
                warn("device: the GPU does not give the numbers of the CPU. Going on on the CPU.")
        return self._frame_coder


def mapped(
    one: Callable[[T], R],
    many: Callable[[LaneCodec, list[T]], Iterable[R]],
    items: Iterable[T],
    codec_of: Callable[[T], Codec],
    threads: int,
) -> Iterator[R]:
    """A result for each item, in order: by `one`, or for items of a LaneCodec by `many`.

    Args:
        one: makes the result of an item; called in threads.
        many: makes the results of a batch.
        items: read as they are needed.
        codec_of: the codec that an item is coded with.
        threads: number of items at a time.
    """

    def lanes_of(item: T) -> LaneCodec | None:
        codec = codec_of(item)
        return codec if isinstance(codec, LaneCodec) else None

    for codec, group in groupby(items, lanes_of):
        if codec is None:
            yield from ordered_map(one, group, threads)
        else:
            for batch in _batches(group, codec):
                yield from many(codec, batch)


def _batches(items: Iterator[T], codec: LaneCodec) -> Iterator[list[T]]:
    """Items in lists of as many as the codec takes; if they raise an error, those before it come first."""
    batch: list[T] = []
    try:
        for item in items:
            batch.append(item)
            if len(batch) >= codec.lanes:
                yield batch
                batch = []
    except Exception:
        yield batch
        raise
    if batch:
        yield batch
