import json

import pytest

from eqinfo.errors import FormatError
from eqinfo.m2.metrics import Metrics


@pytest.fixture
def written(tmp_path):
    found = Metrics(tmp_path / "metrics.jsonl")
    for step in (1, 2, 3):
        found.add(step=step, loss=1 / step)
    return found


def test_each_line_is_an_object(written):
    lines = [json.loads(line) for line in written.path.read_text().splitlines()]
    assert lines == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5}, {"step": 3, "loss": 1 / 3}]
    assert written.up_to(2) == lines[:2]


def test_lines_after_a_step_are_forgotten_and_so_is_one_cut_short(written):
    before = written.path.read_text()
    with written.path.open("a") as file:
        file.write('{"step": 3, "lo')
    written.forget_after(3)
    assert written.path.read_text() == before
    written.forget_after(1)
    assert [line["step"] for line in written.up_to(9)] == [1]


@pytest.mark.parametrize(
    "line",
    [b"", b"{", b"\xff", b"3", b'{"loss": 1}', b'{"step": "1"}', b'{"step": 1, "loss": NaN}', b"[" * 9999],
)
def test_a_line_of_something_else_is_named(written, line):
    with written.path.open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(FormatError, match=r"metrics\.jsonl:4: damaged; not the figures of a step"):
        written.up_to(9)


def test_no_file_has_no_lines(tmp_path):
    missing = Metrics(tmp_path / "metrics.jsonl")
    missing.forget_after(0)
    assert missing.up_to(9) == []
    assert not missing.path.exists()
