import platform
import resource
import subprocess
import sys

import pytest
import torch

from eqinfo.errors import InputError, OptionError
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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked to keep memory")
def test_memory_that_a_thread_frees_is_kept_too():
    code = (
        "import resource, torch\n"
        "from eqinfo.training.background import Background\n"
        "from eqinfo.training.devices import keep_memory\n"
        "def pages():\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    torch.ones(1 << 23)\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "keep_memory()\n"
        "aside = Background()\n"
        "print([aside.call(pages) for _ in range(20)][-1])"  # the first ones leave memory that is too little
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1000  # of 8,192


def test_devices_are_checked():
    assert pick_device("cpu") == CPU
    with pytest.raises(OptionError, match="unknown device; found tpu"):
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
        ("NVIDIA L40", 181e12),
        ("NVIDIA GH200 480GB", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA RTX A1000", None),
        ("GeForce GTX 1080", None),
    ):
        monkeypatch.setattr(devices.torch.cuda, "get_device_name", lambda _, name=name: name)
        assert peak_flops(torch.device("cuda")) == want
