"""Progress on a terminal: what a line keeps at 80 columns, and that messages go above it."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from types import SimpleNamespace

import pytest
from helpers.terminals import received

from eqinfo.cli import display

CODE = """
import signal, time
from eqinfo.cli import console, display
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
remark = "step 12345, loss 3.210, 2.100 bits/byte, 1,024,000 tokens/s, MFU 41.0%, 12,345,678 bytes/s"
with display.phases(False) as report, console.stop_requests("eqinfo train-m2 -o run --resume"):
    report("validating", 1.0, "step 12, valid_loss 3.2109")
    for k in range(4):
        report("training", k / 4, remark)
        time.sleep(0.15)
        if k == 2:
            signal.raise_signal(signal.SIGINT)
    raise KeyboardInterrupt("run/checkpoint.pt holds step 12345")
"""


LIST = """
from eqinfo.cli import display, listing
from eqinfo.formats.listing import HEAD
rows = [[f"{word[:3]}1" for word in HEAD] for _ in range(2)]
display.show_tables([("", HEAD, rows, set())], listing.SPARE)
"""


NAMES = """
import time
from eqinfo.cli import console, display
name = "[/red] [b]b[/b] :fire: {a} \x1b]0;t"
with display.bytes_bar(name, 9, lambda: 5, 0.0):
    time.sleep(0.6)
with display.phases(False) as report:
    report(name, 0.5, "[/red] :fire:")
    time.sleep(0.3)
    console.say(name)
    report(name, 1.0, "")
display.show_tables([(name, ["", "bits"], [[name, "3"]], set())])
"""

WINDOWS = 'from eqinfo.cli import display; display.show_windows(["to", " be"])'


def shown(columns: int, code: str = CODE, **environment: str) -> str:
    """What a terminal of this width receives, on stderr and stdout."""
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal,
        env=os.environ | {"TERM": "xterm"} | environment,
    ):  # fmt: skip
        os.close(terminal)
        return b"".join(received(screen)).decode()


@pytest.mark.parametrize(
    ("columns", "head"),
    [
        (120, "file bits fingerprint model streams frames windows documents bytes original ratio"),
        (80, "file bits model streams frames windows documents bytes original ratio"),
        (70, "file bits model frames windows documents bytes original ratio"),
    ],
)
def test_a_listing_on_a_narrow_terminal_leaves_out_columns_rather_than_break_lines(
    columns: int, head: str
) -> None:
    lines = shown(columns, LIST).replace("\r", "").splitlines()
    assert len(lines) == 3
    assert lines[0].split() == head.split()
    assert all(len(line) <= columns for line in lines)
    assert [len(line.split()) for line in lines] == [len(head.split())] * 3


@pytest.mark.parametrize(("columns", "kept"), [(80, "loss 3.210"), (160, "1,024,000 tokens/s"), (50, "")])
def test_a_line_keeps_bar_share_and_time_left_and_messages_stay_above_it(columns: int, kept: str) -> None:
    received = shown(columns)
    drawn = re.sub(r"\x1b\[[\d;?]*[A-HJ-Zahlm]", "", received)  # colours and cursor; K is kept
    lines = [line for line in re.split(r"\r\n|\r|\n|\x1b\[\d?K", drawn) if line.strip()]
    training = [line for line in lines if line.startswith("training")]
    assert training
    for line in training:
        assert len(line.rstrip()) <= columns
        assert re.match(r"training +[━╸╺]{8,} +\d+% (\d:\d\d:\d\d|-:--:--)", line)
    assert kept in training[-1]
    told = [line for line in lines if line.startswith("stop")]
    assert told == [
        "stopping: writing a checkpoint, for --resume. Press Ctrl-C again to stop without one.",
        "stopped: run/checkpoint.pt holds step 12345. Go on with: eqinfo train-m2 -o run --resume",
    ]


def test_names_are_shown_as_they_are_on_one_line() -> None:
    found = shown(200, NAMES)
    name = r"[/red] [b]b[/b] :fire: {a} \x1b]0;t"
    assert re.search(rf"{re.escape(name)}.*5/9 bytes", found)
    assert re.search(rf"{re.escape(name)} .*\[/red\] :fire:", found)  # a phase and its remark
    assert f"\x1b[2K{name}\r\n" in found  # a line above
    assert found.endswith(f"{name}     3\r\n")
    assert "\x1b]0" not in found


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"NO_COLOR": "1"}])
def test_windows_have_colours_only_where_the_terminal_has_them(environment: dict[str, str]) -> None:
    assert "\x1b[30;48;5;" in shown(80, WINDOWS)
    assert shown(80, WINDOWS, **environment) == "to│ be\r\n"


def test_a_phase_that_is_at_0_again_has_its_time_left_counted_anew(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    times = iter([0.0, 40.0, 300.0, 340.0])  # of the beginning, and of reports; the first step compiles
    monkeypatch.setattr(display, "time", SimpleNamespace(monotonic=lambda: next(times)))
    with display.phases(False) as report:
        for share, remark in ((0.0, ""), (0.0, "step 1"), (0.1, "step 2")):
            report("training", share, remark)
    assert capsys.readouterr().err == (
        "training: 0%\ntraining: 0%, step 1\ntraining: 10%, 0:06:00 left, step 2\n"
    )
