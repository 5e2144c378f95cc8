import platform
import resource

import pytest
import torch

from eqinfo.errors import InputError
from eqinfo.training import devices
from eqinfo.training.devices import keep_memory, peak_flops, pick_device

CPU = torch.device("cpu")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked to keep memory")
def test_freed_memory_is_kept_and_needs_no_new_pages():
    keep_memory()
    new_pages = []
    for _ in range(20):  # tensors are aligned, so what the first ones leave may be a little too small
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(1 << 24)  # 64 MiB, 16,384 pages
        new_pages.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    assert new_pages[-1] < 1000


def test_devices_are_checked():
    assert pick_device("cpu") == CPU
    with pytest.raises(InputError, match="unknown device; found tpu"):
        pick_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no usable GPU"):
            pick_device("cuda")


def test_gpus_are_known_by_the_most_telling_part_of_their_name(monkeypatch):
    assert peak_flops(torch.device("cpu")) is None
    for name, want in (
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("GeForce GTX 1080", None),
    ):
        monkeypatch.setattr(devices.torch.cuda, "get_device_name", lambda _, name=name: name)
        assert peak_flops(torch.device("cuda")) == want
