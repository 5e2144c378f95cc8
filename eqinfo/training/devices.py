"""Devices and processes: which ones to train on, what they can do, how they share the work."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist

from eqinfo.errors import InputError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # parameters of mallopt, from malloc.h

# Dense bfloat16 FLOP/s as the makers state them, by what the device's name contains.
PEAK_FLOPS = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "B200": 2250e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10G": 70e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}


def pick_device(name: str) -> torch.device:
    """The device that `auto`, `cpu` or `cuda` stands for.

    Raises:
        InputError: there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise InputError(f"--device: unknown device; found {name}, want auto, cpu or cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device: no usable GPU in this machine. Use --device cpu.")
    return torch.device(name)


def rank_and_world() -> tuple[int, int]:
    """Which of the processes of torchrun this is, and how many they are; without torchrun the only one."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


@contextmanager
def processes(device: torch.device) -> Iterator[tuple[torch.device, bool]]:
    """The device of this process, and whether it is the first; under torchrun it joins the others."""
    if not dist.is_torchelastic_launched():
        yield device, True
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device, dist.get_rank() == 0
    finally:
        dist.destroy_process_group()


def keep_memory() -> None:
    """Have this process keep the memory that it frees, for the next step; only glibc can be asked to.

    By default a large tensor goes back to the system when it is freed, and a new one is mapped and zeroed at
    its first use, page after page: up to half of the time of a step.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)  # never


def bfloat16(device: torch.device) -> AbstractContextManager[Any]:
    """Autocast to bfloat16 where the hardware multiplies it fast, else nothing."""
    fast = device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16) if fast else nullcontext()


def peak_flops(device: torch.device) -> float | None:
    """FLOP/s of a known GPU; None for others and for CPUs."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((flops for known, flops in PEAK_FLOPS.items() if known in name), None)
