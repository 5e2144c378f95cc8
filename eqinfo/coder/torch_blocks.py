"""A block of steps on a device, run again and again while the host works on the block before.

On a GPU a block is one CUDA graph, captured once: its many small operations start by one call, and copies to
and from the host run beside it. On a CPU the same operations run one by one.
"""

from collections.abc import Callable
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[Any]
Tensors = list[Tensor]


def compiled(step: Callable[..., Any], is_compiled: bool) -> Callable[..., Any]:
    """A step, compiled by torch.compile or as it is."""
    return torch.compile(step, fullgraph=True, dynamic=False) if is_compiled else step


class Blocks:
    """A block of steps on a device, which runs again and again; the tensors keep their places.

    Args:
        block: a function of state and inputs that returns the state after them and the outputs.
        state: tensors on the device, changed in place.
        inputs: tensors on the device, written before each block.
    """

    def __init__(
        self, block: Callable[[Tensors, Tensors], tuple[Tensors, Tensors]], state: Tensors, inputs: Tensors
    ) -> None:
        self.state, self.inputs, self._block = state, inputs, block
        self.first = [tensor.clone() for tensor in state]
        self._is_cuda = state[0].device.type == "cuda"
        if self._is_cuda:
            self._capture()
        else:
            self.outputs = self._step()
        # two of each, so that the host reads one while the device writes the other
        self._given, self._taken = (
            [self._on_host(each) for _ in range(2)] for each in (inputs, self.outputs)
        )

    def run(
        self,
        n_blocks: int,
        give: Callable[[int, list[Array]], None],
        take: Callable[[int, list[Array]], bool | None],
    ) -> None:
        """Run blocks from the first state on.

        Args:
            n_blocks: how many at most.
            give: writes the inputs of a block, named by its number, to arrays.
            take: reads the outputs of a block from arrays, which later blocks overwrite; if it returns true,
                no further block is needed.
        """
        for tensor, first in zip(self.state, self.first, strict=True):
            tensor.copy_(first)
        done: list[Any] = [None, None]
        for number in range(n_blocks + 1):
            if number < n_blocks:
                half = number % 2
                give(number, [tensor.numpy() for tensor in self._given[half]])
                self._run_one(self._given[half], self._taken[half])
                done[half] = torch.cuda.current_stream().record_event() if self._is_cuda else None
            if number:
                half = (number - 1) % 2
                if self._is_cuda:
                    done[half].synchronize()
                if take(number - 1, [tensor.numpy() for tensor in self._taken[half]]):
                    return

    def _run_one(self, given: Tensors, taken: Tensors) -> None:
        for tensor, source in zip(self.inputs, given, strict=True):
            tensor.copy_(source, non_blocking=True)
        if self._is_cuda:
            self._graph.replay()
        else:
            self.outputs = self._step()
        for tensor, source in zip(taken, self.outputs, strict=True):
            tensor.copy_(source, non_blocking=True)

    def _step(self) -> Tensors:
        """Run the block's operations one by one; its outputs."""
        with torch.no_grad():
            after, outputs = self._block(self.state, self.inputs)
            for tensor, new in zip(self.state, after, strict=True):
                tensor.copy_(new)
        return outputs

    def _capture(self) -> None:
        """Record the block's operations, to be run by one call."""
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # libraries set themselves up outside the graph
            self._step()
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self.outputs = self._step()

    def _on_host(self, tensors: Tensors) -> Tensors:
        """Tensors of the same shapes that the device can read and write while the host works."""
        return [torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=self._is_cuda) for tensor in tensors]
