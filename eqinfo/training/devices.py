"""Devices and processes: which ones to train on, and what they can do; `loop` divides a batch among them."""

import ctypes
import importlib
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from eqinfo.errors import InputError, LostPeerError, PeerError
from eqinfo.system import notes
from eqinfo.system.gpu import check_device
from eqinfo.system.threads import available, n_cores
from eqinfo.training.checkpoint import first_line

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # parameters of mallopt, from malloc.h

R = TypeVar("R")

# Dense bfloat16 FLOP/s from the data sheets, by words of the device name. The first match counts.
PEAK_FLOPS = {
    "GH200": 989e12,
    "H200": 989e12,
    "H100 NVL": 835e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "B200": 2250e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "A10G": 70e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}


def pick_device(name: str) -> torch.device:
    """The device for `auto` (a GPU if there is one), `cpu` or `cuda`; torch keeps to the threads there are.

    Raises:
        OptionError: the name is unknown, or there is no GPU.
    """
    # with more threads than there are, OpenMP ends the process
    torch.set_num_threads(1 + available(min(torch.get_num_threads(), n_cores()) - 1))
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    check_device(name)
    return torch.device(name)


def rank_and_world() -> tuple[int, int]:
    """Rank and number of the processes of torchrun; (0, 1) without torchrun."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


@contextmanager
def processes(device: torch.device) -> Iterator[tuple[torch.device, bool]]:
    """Device of this process, and whether its rank is 0; the process group of torchrun lasts as long.

    Raises:
        InputError: the processes do not find each other.
        LostPeerError: another process ended while this one waited for it.
    """
    if not dist.is_torchelastic_launched():
        yield device, True
        return
    # Imported later, by an optimiser, this module would hold the group for good, in default arguments: its
    # threads would outlive it, and one that still has to free a tensor while Python exits aborts the process.
    importlib.import_module("torch.distributed.nn")
    try:
        if device.type == "cuda":
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            enter(device)
            dist.init_process_group("nccl", device_id=device)  # or it would connect, and fail, later
        else:
            dist.init_process_group("gloo")
    except (LookupError, RuntimeError, ValueError) as error:
        raise InputError(
            f"torchrun: this process cannot join the others ({first_line(error)}). "
            "Start all with torchrun, or without it unset TORCHELASTIC_RUN_ID."
        ) from None
    try:
        yield device, dist.get_rank() == 0
    except RuntimeError as error:
        if not re.search("gloo|nccl|Connection (closed|reset)", str(error), re.IGNORECASE):
            raise
        raise LostPeerError(
            "torchrun: another process ended, perhaps with its machine. "
            "If it did not say why, go on from the last checkpoint with --resume."
        ) from None
    finally:
        dist.destroy_process_group()


def enter(device: torch.device) -> None:
    """Make a GPU of several the one of this thread: objects for other processes are sent from there."""
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)


def in_first(task: Callable[[], None]) -> None:
    """Do a task in the first process, while the others wait.

    Raises:
        PeerError: in the others, if the task failed in the first.
    """
    rank, world = rank_and_world()
    is_done = [False]
    try:
        if rank == 0:
            task()
        is_done = [True]
    finally:
        if world > 1:
            dist.broadcast_object_list(is_done)
    if not is_done[0]:
        raise PeerError("the first process failed")


def in_all(task: Callable[[], R]) -> R:
    """The result of a task that every process does; all go on only if none failed.

    Raises:
        PeerError: the task failed in another process; if it failed in several, one of them raises its error.
    """
    rank, world = rank_and_world()
    if world == 1:
        return task()
    errors: list[Any] = [None] * world
    result, error = None, None
    try:
        result = task()
    except Exception as caught:
        error = caught
    dist.all_gather_object(errors, error is not None)
    if True not in errors:
        return result  # type: ignore[return-value]
    if error is not None and errors.index(True) == rank:
        raise error
    raise PeerError("another process failed")


def keep_memory() -> None:
    """Tell glibc to keep freed memory for the next step; other C libraries ignore this.

    By default glibc returns a large freed tensor to the system. The system then maps and zeroes the pages of
    the next tensor one by one, which takes up to half of the time of a step.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)  # never
        libc.mallopt(M_ARENA_MAX, 1)  # the arenas of threads would return it all the same


def bfloat16(device: torch.device) -> AbstractContextManager[Any]:
    """Autocast to bfloat16 on hardware with fast bfloat16 products; elsewhere a context without effect."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16) if fast else nullcontext()


def compiled(
    function: Callable[..., Tensor], device: torch.device, should_stop: Callable[[], bool]
) -> Callable[..., Tensor]:
    """A function that torch.compile compiles in its first call; where that fails, the function as it is.

    Args:
        function: of tensors on the device.
        device: where torch.compile is tried.
        should_stop: if true, nothing is said: Ctrl-C ends compilers too.
    """
    # no news for a user: a CUDA toolkit without a GPU, and Python 3.13.0's slower checks
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", "Guards may run slower", RuntimeWarning)
    reason = ""
    try:
        torch.compile(torch.neg)(torch.zeros(1, device=device))
    except Exception as error:  # of the compiler, the linker, the loader, the file system ...
        reason = first_line(error)
    if rank_and_world()[0] == 0 and not should_stop():
        if reason:
            notes.warn(
                f"training: slower, as torch.compile does not work here ({reason}). "
                "It needs a C++ compiler and Python's header files."
            )
        else:
            notes.explain_wait("training: compiling the model; the first step takes about a minute.")
    return function if reason else torch.compile(function)


def peak_flops(device: torch.device) -> float | None:
    """Peak FLOP/s of a device; None if unknown."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((flops for known, flops in PEAK_FLOPS.items() if re.search(rf"\b{known}\b", name)), None)
