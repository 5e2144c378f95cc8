"""Tests of the benchmarks: measuring processes, pieces of text, and the counts on the page."""

import importlib
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest

from eqinfo.codebook.codebook import Codebook

FOLDER = Path(__file__).parents[1] / "examples" / "benchmarks"
PROJECT = tomllib.loads((FOLDER.parents[1] / "pyproject.toml").read_text())["project"]

PARENT = """
import os, sys, time
from processes import fresh
if __name__ == "__main__":
    fresh({}, time.sleep, 60)
"""


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch):
    """A function that imports a module of the benchmarks."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


def ps(*options: str) -> list[str]:
    return subprocess.run(["ps", *options], capture_output=True, check=False, text=True).stdout.split()


def children(process: int) -> list[str]:
    """The ids of the child processes."""
    return ps("-o", "pid=", "--ppid", str(process))


def is_alive(process: str) -> bool:
    return any(not state.startswith("Z") for state in ps("-o", "stat=", "-p", process))


def until(condition, seconds: float = 30.0):
    """Wait until a condition is true; its last value."""
    end = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def test_a_process_that_measures_ends_with_the_one_that_started_it(tmp_path: Path):
    (tmp_path / "parent.py").write_text(PARENT)
    environment = os.environ | {"PYTHONPATH": str(FOLDER)}
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "parent.py"], env=environment, stderr=subprocess.DEVNULL
    )
    assert until(lambda: len(children(parent.pid)) >= 2)  # the worker and multiprocessing's own helper
    started = children(parent.pid)
    time.sleep(1)  # the worker sleeps by now
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert until(lambda: not any(map(is_alive, started)))


def test_a_new_process_returns_the_result_and_has_the_environment(load):
    processes = load("processes")
    assert processes.fresh({"RAYON_NUM_THREADS": "2"}, os.getenv, "RAYON_NUM_THREADS") == "2"
    assert processes.fresh({}, os.getpid) != os.getpid()


@pytest.mark.parametrize("size", [1 << 10, 1 << 16])
def test_pieces_join_to_the_text_and_end_with_words(load, tmp_path: Path, size: int):
    text = ("naïve words " * 20000).encode()
    (tmp_path / "text").write_bytes(text)
    task = load("tokenisers").Task(tmp_path / "text", len(text) // 2, size, 1 << 17)
    pieces = [piece for group in task.groups() for piece in group]
    assert b"".join(pieces) == text[: len(text) // 2].decode(errors="ignore").encode()
    assert all(piece.endswith(b" ") and size - 12 < len(piece) <= size for piece in pieces[:-1])


def test_steps_of_the_trie_are_those_of_its_windows(load):
    limits = load("limits")
    windows = sorted({b"", b"abc", b"abcdefg", b"b"} | {bytes([byte]) for byte in range(256)})
    table, _, root = Codebook(windows, 9).trie
    text = np.frombuffer(b"abcdxbc", np.uint8)
    starts = {window[:n] for window in windows for n in range(1, len(window) + 1)}

    def steps(at: int) -> int:
        """Slots read by a walk from a byte: one per matching prefix of a window, and one for the mismatch."""
        n = 1
        while text[at : at + n].tobytes() in starts and at + n < text.size:
            n += 1
        return n

    assert limits.steps_of_all(text, table, root) == sum(map(steps, range(text.size)))
    longest = [0, 3, 4, 5, 6]  # abc|d|x|b|c
    assert limits.steps_of_longest(text, table, root) == sum(map(steps, longest))


def test_a_chain_of_loads_goes_through_the_whole_table(load):
    limits = load("limits")
    following = limits.one_cycle(100)
    assert [limits.chain(following, n) == 0 for n in range(1, 101)] == [False] * 99 + [True]


def test_numbers_have_three_digits_and_no_exponent(load):
    digits = load("pages").digits
    assert [digits(value) for value in (1000.4, 999, 99.96, 1, 0.03664, 41861)] == [
        "1,000", "999", "100", "1.00", "0.0366", "41,861",
    ]  # fmt: skip


def test_every_section_of_the_page_can_be_made(load):
    for section in load("run").SECTIONS:
        module = load(section)
        assert callable(module.tables)
        required = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["bench"]
        assert set(module.PACKAGES) <= {name.partition(">")[0] for name in required}
