"""Whether there is a GPU to use, asked without starting torch where that is possible."""

import ctypes
import sys

from eqinfo.errors import OptionError

DEVICES = ("auto", "cpu", "cuda")


def check_device(name: str) -> None:
    """Raises OptionError if a device is unknown, or is `cuda` and no GPU can be used."""
    if name not in DEVICES:
        raise OptionError(f"--device: unknown device; found {name}, want auto, cpu or cuda.")
    if name == "cuda" and not is_usable():
        raise OptionError("--device: no usable GPU in this machine. Use --device cpu.")


def is_usable() -> bool:
    """Whether torch can use a GPU."""
    if not has_driver():
        return False
    import torch

    return torch.cuda.is_available()


def has_driver() -> bool:
    """Whether the driver of NVIDIA's GPUs is installed, without which torch uses none."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True
