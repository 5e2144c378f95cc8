"""Items worked on in threads."""

import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from launch import without_threads

import eqinfo
from eqinfo.errors import InputError
from eqinfo.system import threads as threads_module
from eqinfo.system.threads import n_cores, ordered_map


@pytest.mark.parametrize(
    ("files", "n"),
    [
        ({}, 6),
        ({"cpu.max": "max 100000\n"}, 6),
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "250000 100000\n"}, 3),
        ({"cpu.max": "1000 100000\n"}, 1),
        ({"cpu.max": "900000 100000\n"}, 6),
        ({"cpu.max": "odd\n"}, 6),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 6),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "400000\n"}, 6),
    ],
)
def test_cores_are_those_that_the_process_may_use_and_its_quota_keeps_busy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: dict[str, str], n: int
) -> None:
    (tmp_path / "cpu").mkdir()
    for name, words in files.items():
        (tmp_path / name).write_text(words)
    monkeypatch.setattr(threads_module, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 2, 3, 5, 7, 9})
    assert n_cores() == n


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_an_ordered_map_keeps_the_order_and_works_on_few_items_at_a_time(threads: int) -> None:
    taken = given_out = 0
    lead = []

    def items() -> Iterator[int]:
        nonlocal taken
        for item in range(60):
            taken += 1
            yield item

    def work(item: int) -> int:
        time.sleep(0.003 if item % 7 == 0 else 0)
        return item * item

    for item, result in enumerate(ordered_map(work, items(), threads)):
        given_out += 1
        lead.append(taken - given_out)
        assert result == item * item
    assert given_out == 60
    assert max(lead) <= 2 * threads


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_an_item_that_cannot_be_taken_fails_after_the_results_before_it(threads: int) -> None:
    def items() -> Iterator[int]:
        yield from range(20)
        raise InputError("no more")

    found = list[int]()
    with pytest.raises(InputError, match="no more"):
        found.extend(ordered_map(abs, items(), threads))
    assert found == list(range(20))


def test_no_more_threads_are_started_than_there_are_items() -> None:
    workers = set[int]()

    def work(item: int) -> int:
        time.sleep(0.01)
        workers.add(threading.get_ident())
        return threading.active_count()

    before = threading.active_count()
    assert max(ordered_map(work, range(4), 1000)) <= before + 3  # the first item is worked on in this thread
    assert len(workers) <= 4


def with_few_threads() -> None:
    """Let a program start few threads: each has a stack of 4 GB in an address space of 14 GB."""
    for what, size in ((resource.RLIMIT_STACK, 1 << 32), (resource.RLIMIT_AS, 14 << 30)):
        resource.setrlimit(what, (size, resource.getrlimit(what)[1]))


@pytest.mark.parametrize(("limit", "numbers"), [(without_threads, range(1)), (with_few_threads, range(1, 4))])
def test_work_goes_on_with_the_threads_that_there_are(limit: Callable[[], None], numbers: range) -> None:
    code = (
        "from eqinfo.system import notes, threads\n"
        "notes.listen(lambda words, kind: print(words))\n"
        "print(sum(threads.ordered_map(abs, range(100), 8)), threads.in_thread(abs, -3))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, preexec_fn=limit)
    told, result = done.stdout.splitlines()
    assert done.stderr == ""
    assert told in [f"threads: the system gives {n} of 8; going on with those." for n in numbers]
    assert result == "4950 3"


def test_commands_work_without_more_threads(model: Path, tmp_path: Path) -> None:
    text = os.urandom(3 << 20)
    (tmp_path / "text").write_bytes(text)
    words = ["--preset", "tiny", "--window-bits", "9", "--rounds", "0", "--steps", "2", "--device", "cpu"]
    for command in (
        ["compress", "-m", model, "-T", "4", "text"],
        ["decompress", "-m", model, "-T", "4", "text.eqi", "-o", "again"],
        ["train-m1", "text", "-o", "run", "-q", *words],
        ["compress", "-m", "run", "--window-bits", "ac", "run/config.json", "-T", "2"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "eqinfo", *map(str, command)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(eqinfo.__file__).parents[1]), "OMP_NUM_THREADS": "4"},
            capture_output=True,
            preexec_fn=without_threads,
        )
        assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "again").read_bytes() == text


def test_an_ordered_map_that_fails_leaves_no_thread() -> None:
    def work(item: int) -> int:
        if item == 5:
            raise InputError("five")
        return item

    before = threading.active_count()  # pytest may have threads of its own
    with pytest.raises(InputError, match="five"):
        list(ordered_map(work, range(100), 3))
    assert threading.active_count() <= before
