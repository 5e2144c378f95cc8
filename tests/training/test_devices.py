import os
import platform
import resource
import signal
import socket
import subprocess
import sys

import pytest
import torch

from eqinfo.errors import InputError, OptionError
from eqinfo.training import devices
from eqinfo.training.devices import keep_memory, peak_flops, pick_device

CPU = torch.device("cpu")
# of two processes of torchrun, the second is killed while the first waits for it
LOST = """
import os, signal, sys
import torch, typer
import torch.distributed as dist
from eqinfo.cli import console
from eqinfo.training.devices import processes
try:
    with console.reporting(), processes(torch.device("cpu")):
        dist.barrier()
        if dist.get_rank():
            os.kill(os.getpid(), signal.SIGKILL)
        dist.all_reduce(torch.ones(1))
except typer.Exit as end:
    sys.exit(end.exit_code)
"""


@pytest.mark.parametrize("missing", ["RANK", "MASTER_PORT"])
def test_what_is_left_of_torchrun_in_the_environment_gets_one_line(missing):
    environment = {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0",
                   "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}  # fmt: skip
    del environment[missing]
    code = (
        "from eqinfo.errors import InputError; from eqinfo.training.devices import *\n"
        "try:\n"
        "    with processes(torch.device('cpu')): pass\n"
        "except InputError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("torchrun: this process cannot join the others (")
    assert f"{missing} " in done.stdout
    assert done.stdout.endswith("Start all with torchrun, or without it unset TORCHELASTIC_RUN_ID.\n")
    assert done.stdout.count("\n") == 1


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
        "from eqinfo.training.background import in_background\n"
        "def pages():\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    torch.ones(1 << 23)\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "found = in_background(lambda: [pages() for _ in range(20)], lambda: False)\n"
        "print(found[-1])"  # the first ones leave memory that is too little
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1000  # of 8,192


@pytest.mark.parametrize("local_rank", ["0", "1"])
def test_a_lost_process_is_told_by_the_first_one_of_each_machine_in_a_line(local_rank):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    torchrun = {"TORCHELASTIC_RUN_ID": "run", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    first, second = (
        subprocess.Popen(
            [sys.executable, "-c", LOST],
            env=os.environ | torchrun | {"MASTER_PORT": port, "RANK": rank, "LOCAL_RANK": local_rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    )
    said = first.communicate(timeout=600)[1], second.communicate(timeout=600)[1]
    assert (first.returncode, second.returncode) == (1, -signal.SIGKILL)
    words = "eqinfo: torchrun: another process ended, perhaps with its machine. If it did not say why, "
    assert [line for line in said[0].splitlines() if line.startswith("eqinfo")] == [
        words + "go on from the last checkpoint with --resume."
    ] * (local_rank == "0")
    assert "Traceback" not in said[0]


def test_devices_are_checked():
    assert pick_device("cpu") == CPU
    with pytest.raises(OptionError, match="unknown device; found tpu"):
        pick_device("tpu")
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
