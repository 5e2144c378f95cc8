"""Tests of the benchmarks: measuring processes, pieces of text, kinds of text, and the counts on the page."""

import doctest
import importlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eqinfo.codebook.codebook import Codebook
from eqinfo.formats import token_file

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
    text = ("naïve words " * 80_000).encode()
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


@pytest.mark.parametrize("module", ["contamination", "kinds", "published"])
def test_examples_in_docstrings_of_benchmarks_are_right(load, module: str):
    assert doctest.testmod(load(module)) == (0, 1)


@given(st.data())
def test_codes_of_the_paper_are_the_shortest_and_their_symbols_are_those_that_hold_them(data):
    published = importlib.import_module("published")
    inside, bits = published.Interval(0, 1, 0), 24
    for _ in range(data.draw(st.integers(0, 4))):
        cuts = data.draw(st.sets(st.integers(1, published.PAPER_TOTAL - 1), max_size=5))
        table = [0, *sorted(cuts), published.PAPER_TOTAL]
        inside = inside.part(table, data.draw(st.integers(0, len(cuts))))
    low, width = (Fraction(number, 1 << inside.bits) for number in (inside.low, inside.width))

    def cells(length):
        """The first cell of 2**-length that lies inside, if there is one."""
        first = math.ceil(low * 2**length)
        return [first] if Fraction(first + 1, 1 << length) <= low + width else []

    found = inside.code(bits)
    shortest = next((length for length in range(bits + 1) if cells(length)), None)
    assert (found is None) == (shortest is None)
    if found is None:
        return
    [first] = cells(shortest)
    assert found == (shortest, first << bits - shortest)
    table = [0, 5, 6, published.PAPER_TOTAL]
    symbol = inside.symbol_at(table, found[1], bits)
    part = inside.part(table, symbol)
    number = Fraction(found[1], 1 << bits)
    assert Fraction(part.low, 1 << part.bits) <= number < Fraction(part.low + part.width, 1 << part.bits)


def test_a_document_has_the_kind_of_its_record_its_source_or_its_file(load, tmp_path: Path):
    read_kinds = load("peers").read_kinds
    records = [{"text": "a", "source": "x", "kind": "lang-de"}, {"text": "b", "source": "x"}, {"text": "c"}]
    (tmp_path / "some.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (tmp_path / "alice.txt").write_bytes(b"d\r\n")
    assert list(read_kinds(tmp_path / "some.jsonl")) == [
        ("lang-de", "a"),
        ("prose-x", "b"),
        ("prose-other", "c"),
    ]
    assert list(read_kinds(tmp_path / "alice.txt")) == [("file-alice", "d\r\n")]


def test_kinds_count_the_same_in_a_mean_ratio_and_by_size_in_bytes_per_unit(load):
    page = load("kinds_page")
    units = {
        "ours": {"code-a": 10, "code-b": 50, "lang-de": 30},
        "theirs": {"code-a": 20, "code-b": 25, "lang-de": 15},
    }
    kinds = page.Kinds({"code-a": 40, "code-b": 200, "lang-de": 60}, units)
    assert kinds.bytes_per_unit("ours", ["code-a", "code-b"]) == 4.0
    assert kinds.mean_ratios("ours", "theirs") == {"source code": 1.0, "other languages": 0.5}  # of 2 and 1/2
    assert kinds.mean_ratios("ours", "not measured") == {}


def test_the_worst_figure_decides_whether_a_promise_is_kept(load):
    bar = load("kinds_page").Bar
    figures = {"lang-de": 0.9, "lang-fi": 0.7}
    assert bar("a", 0.7, figures).row() == ["a", "≥ 0.7", "0.700 (lang-fi)", "met"]
    assert bar("a", 0.75, figures).row()[2:] == ["0.700 (lang-fi)", "missed"]
    assert bar("a", 0.8, figures, at_most=True).row() == ["a", "≤ 0.8", "0.900 (lang-de)", "missed"]
    assert bar("a", 0.75, {"": 0.7499}).row()[2:] == ["0.750", "missed"]
    assert bar("a", 0.75, {}).row() == ["a", "≥ 0.75", "", "not measured"]


def test_tables_of_kinds_show_what_was_measured(load):
    page = load("kinds_page")
    kinds = page.Kinds(
        {"code-a": 40, "lang-de": 60},
        {"16 bits": {"code-a": 10, "lang-de": 30}, "o200k": {"code-a": 20, "lang-de": 15}},
    )
    packed = page.Kinds(
        {"code-a": 40}, {"ac, default": {"code-a": 6}, page.PPMD: {"code-a": 8}, page.XZ: {"code-a": 10}}
    )
    none = page.Kinds({}, {})
    text = "\n".join(page.tables(page.Measured(kinds, none, packed, none), ["16 bits"]))
    for row in (
        "| 16 bits / o200k, source code | ≥ 1.25 | 2.000 | met |",
        "| 16 bits / o200k, each language | ≥ 0.4 | 0.500 | met |",
        "| `ac`, share below xz -9, each kind | ≥ 0.3 | 0.400 | met |",
        "| 16 bits / o200k | 2.000 | 0.500 |",
        "| lang-de | 60 | 2.000 | 4.000 | 0.500 |",
        "| code-a | 40 | 1.200 | 1.600 | 2.000 | 40.0% | 25.0% |",
    ):
        assert row in text.splitlines()
    assert "Live windows" not in text


def passage(seed: int, n: int = 12) -> str:
    """Words that no other seed has, with punctuation."""
    return " ".join(f"Word{seed}x{k}ß," for k in range(n)) + "."


def test_paragraphs_are_found_in_every_shape(load):
    contamination, shapes = load("contamination"), load("kinds").SHAPES
    prose = "\n\n".join(f"{passage(k)}\n{passage(-k)}" for k in range(1, 4))
    for name, shape in shapes.items():
        seen = contamination.held_out([("prose-a", prose), ("prose-b", passage(9))])
        contamination.search(seen, [("english-a", shape(f"Something else.\n\n{prose}"))])
        found = [list(where.kinds) for where in seen.values() if where.found_in]
        assert (len(seen), found) == (4, [["prose-a"]] * 3), name


def test_a_long_passage_without_blank_lines_is_found_within_other_text(load):
    contamination = load("contamination")
    lines = [passage(k, 4) for k in range(100)]
    seen = contamination.held_out([("code-a", "\n".join(lines[20:80]))])
    contamination.search(seen, [("code-b", "\n".join(lines))])
    assert len(seen) > 20
    assert sum(bool(where.found_in) for where in seen.values()) > 0.9 * len(seen)


def test_a_training_document_that_is_repeated_makes_no_boilerplate(load):
    contamination = load("contamination")
    seen = contamination.held_out([("code-a", f"{passage(1)}\n\n{passage(2)}\n\n{passage(3)}")])
    repeated = [("code-b", passage(1)), ("code-b", passage(1).upper()), ("code-b", passage(1))]
    licence = [("code-c", f"{passage(2)}\n\nfile {k}") for k in range(3)]
    contamination.search(seen, repeated + licence)
    assert [len(where.found_in) for where in seen.values()] == [1, 3, 0]
    assert contamination.table(seen, several=3).splitlines()[2:] == [
        "| code-a | 3 | 2 | 1 | 66.7% |",
        "| all | 3 | 2 | 1 | 66.7% |",
    ]


def test_a_text_is_cleaned_of_held_out_paragraphs_only(load):
    contamination = load("contamination")
    held_out, other = passage(1), passage(2)
    seen = contamination.held_out([("prose-a", f"{held_out}\n\nShort.")])
    text = f"{other}\n\n{held_out.upper()}\r\n \r\nShort.\n\n{other}\n"
    assert contamination.without(text, seen) == f"{other}\n\nShort.\n\n{other}\n"
    assert contamination.without(other, seen) == other
    assert contamination.without(held_out, seen) == ""


def test_every_section_of_the_page_can_be_made(load):
    for section in load("run").SECTIONS:
        module = load(section)
        assert callable(module.tables)
        required = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["bench"]
        assert set(module.PACKAGES) <= {name.partition(">")[0] for name in required}


def test_operations_on_tensors_are_counted_without_views(load):
    gpu, torch = load("gpu"), importlib.import_module("torch")
    table, at = torch.zeros(100, 8), torch.tensor([1, 2])
    with gpu.Counted() as counted:
        table.t()[:2].add(1)  # two views, and an operation that reads and writes 200 numbers each
        table[at]  # reads the rows that it writes
    assert (counted.n_operations, counted.n_bytes) == (2, 4 * (2 * 200 + 2 * 16))


def test_a_prediction_adds_the_time_of_kernels_and_of_memory(load):
    gpu = load("gpu")
    figures = {"operations": 100, "bytes_per_lane": gpu.H100_BYTES_PER_S / gpu.PREDICTED_LANES / 1e3}
    step_s = 1e-3 + 100 * gpu.H100_KERNEL_S
    assert f"{step_s * 1e3:.2f} ms a step" in gpu.predicted(figures)
    assert f"{gpu.PREDICTED_LANES / step_s / 1e6:.1f} MB/s" in gpu.predicted(figures)


def test_figures_that_a_file_holds_are_not_measured_again_and_errors_are(load, monkeypatch, tmp_path: Path):
    gpu, done = load("gpu"), []

    def task(name: str) -> dict[str, float]:
        done.append(name)
        if len(done) == 2:
            raise ValueError("not yet\nmore")
        return {"figure": 1.0}

    names = ["a", "b", "c"]
    monkeypatch.setattr(gpu, "tasks", lambda *_: [(name, lambda name=name: task(name)) for name in names])
    path, cpu = tmp_path / "gpu.json", gpu.torch.device("cpu")
    measure = [gpu.measure(path, cpu, True, minutes) for minutes in (9, 9, 0)]
    assert done == ["a", "b", "c", "b"]
    assert measure[0]["b"]["error"] == "ValueError: not yet"
    assert json.loads(path.read_text()) == measure[1] == measure[2]
    assert all(figures["figure"] == 1.0 for figures in measure[2].values())


def test_kinds_of_a_group_have_equal_parts(load, tmp_path: Path):
    compare = load("compare_tokenisers")
    size = compare.GROUP_CHARACTERS
    records = [
        ("code-c", "é" * (size // 2 + 5)),
        ("lang-de", "ß"),
        ("code-go", "x" * 7),
        ("code-go", "y" * size),
    ]
    path = tmp_path / "broad.jsonl"
    path.write_text("".join(json.dumps({"text": text, "kind": kind}) + "\n" for kind, text in records))
    found = {
        each.stem: [json.loads(line)["text"] for line in each.read_text().splitlines()]
        for each in compare.write_kinds(path, tmp_path / "kinds")
    }
    assert found == {"code": ["é" * (size // 2), "x" * 7, "y" * (size // 2 - 7)], "lang": ["ß"]}


def test_runs_of_the_ladder_cost_as_much_as_bpe_of_their_rung(load, tmp_path: Path):
    ladder = load("ladder")
    for name, vocabulary in ladder.VOCABULARIES.items():
        (tmp_path / name).mkdir()
        width = {"bytes": 1, "published": 2, "bpe": 3, "refitted": 4}[vocabulary.windows]
        longer = sorted(bytes([65 + n, *b"ab"]) for n in range(vocabulary.window_bits))
        codebook = Codebook(sorted({b"", *map(bytes, np.arange(256, dtype=np.uint8)[:, None]), *longer}), 9)
        (tmp_path / name / "codebook.eqcb").write_bytes(codebook.to_bytes())
        sidecar = token_file.Sidecar(
            vocab_size=codebook.vocab_size, window_bits=9, fingerprint=codebook.fingerprint.hex(),
            tokens=1000, original_bytes=1000 * width, documents=1, end_of_text=0, crc32=0,
        )  # fmt: skip
        token_file.sidecar_path(tmp_path / name / "train.bin").write_bytes(sidecar.to_json())
    plan = ladder.planned(tmp_path, ladder.LADDER[:1], re.compile(""))
    flops = {run: run.n_tokens * run.config(tmp_path).training_flops for run in plan}
    for run, arm in plan.items():
        bpe = next(each for each in plan if each.vocabulary == ladder.BPE_OF[arm.vocabulary])
        assert flops[run] == pytest.approx(flops[bpe], rel=1e-5)
    assert {arm.vocabulary for arm in plan.values()} == {*ladder.BPE_OF}


def test_a_text_whose_loss_is_measured_has_its_documents(load, tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"text": "to"}\n{"text": ""}\n{"text": "be"}\n')
    text = load("m1_loss").read(tmp_path / "a.jsonl")
    assert text.data.tobytes() == b"tobe"
    assert text.document_ends.tolist() == [2, 4]


def test_the_ladder_is_summed_up_by_differences_from_bpe(load):
    page = load("ladder_page")
    first, second = load("ladder").LADDER[:2]
    bits = {(first, "ours-b12"): (1.5, 1.7), (first, "bpe-b12"): (1.5,), (second, "ours-b14"): (1.0,)}
    rows = {}
    for (rung, name), values in bits.items():
        arm = page.Arm(rung, name, page.SAME)
        rows[arm] = page.Row(arm, scores=[{"valid": {"bits_per_byte": value}} for value in values])
    *_, of_first, of_second = page.summary_table(rows).splitlines()
    assert of_first == "| nano, 1 M | +0.100 |  |  |  |"
    assert of_second == "| nano, 4 M |  |  |  |  |"
