"""eval --show: text in its windows, on a terminal, in a pipe and as a picture."""

import os
import pty
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import pytest
from helpers.codebooks import golden_codebook
from helpers.commands import run
from helpers.terminals import received

from eqinfo.eval import drawing

TEXT = "to be or not to be\nthat is the question\xe9\n".encode("latin-1")


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("words.eqcb").write_bytes(golden_codebook().to_bytes())
    Path("t").write_bytes(TEXT)
    return "words.eqcb"


def shown(*words: str, stdin: bytes = b"", status: int = 0) -> tuple[str, str]:
    printed, said = run("eval", *words, "--show", stdin=stdin, status=status)
    return printed.decode(), said


def test_windows_have_markers_in_a_pipe(book: str) -> None:
    lines = "to be│ or │not │to be│↵\nthat is the │question│\\xe9│↵\n"
    assert shown(book, "--text", "t") == (lines, "t: 9 windows, 4.56 bytes/window\n")
    assert shown(book, "--text", "-", "-q", stdin=TEXT) == (lines, "")


def test_a_line_ends_where_a_document_does(book: str) -> None:
    Path("t.jsonl").write_text('{"text": "to be"}\n{"text": "not "}\n')
    assert shown(book, "--text", "t.jsonl", "-q")[0] == "to be\nnot \n"


def test_windows_have_colours_on_a_terminal_and_no_markers(book: str) -> None:
    screen, terminal = pty.openpty()
    command = [sys.executable, "-m", "eqinfo", "eval", book, "--text", "t", "--show", "-q"]
    more = {"TERM": "xterm-256color", "PYTHONPATH": str(Path(drawing.__file__).parents[2])}
    subprocess.run(command, stdout=terminal, env=os.environ | more, check=True, timeout=600)
    os.close(terminal)
    drawn = b"".join(received(screen)).decode()
    assert re.sub(r"\x1b\[[0-9;]*m", "", drawn) == "to be or not to be↵\r\nthat is the question\\xe9↵\r\n"
    colours = re.findall(r"\x1b\[(30;48;[0-9;]+)m", drawn)
    assert len(colours) == 9
    assert all(a != b for a, b in pairwise(colours))


def test_a_picture_has_a_box_for_each_window_and_a_bar_where_a_word_is_cut(book: str) -> None:
    assert shown(book, "--text", "t", "--figure", "t.svg") == ("", "")
    root = ET.parse("t.svg").getroot()
    words = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    codewords = golden_codebook().codewords
    assert words[0] == "t: 9 windows of 9 bits, each with its number"
    assert words[1:5] == ["to·be", str(codewords[b"to be"]), "·or·", str(codewords[b" or "])]
    assert words[-4:] == ["\\xe9", str(codewords[b"\xe9"]), "↵", str(codewords[b"\n"])]
    fills = [element.get("fill") for element in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert fills.count(drawing.RED) == 1  # question|\xe9
    assert len(fills) == 1 + 9 + 1


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ([], 2, "takes a --text and one model"),
        (["a", "b", "--text", "t"], 2, "takes a --text and one model"),
        (["--text", "t", "--json"], 2, "--json: not with --show"),
        (["none", "--text", "t"], 1, "none: no such codebook"),
        (["words.eqcb", "--text", "none"], 1, "none: No such file or directory"),
        (
            ["words.eqcb", "--text", "long", "--figure", "a.svg"],
            1,
            "long: too long to draw; want at most",
        ),
    ],
)
def test_what_cannot_be_shown_gets_one_line(book: str, words: list[str], status: int, message: str) -> None:
    Path("long").write_bytes(bytes(17_000))
    assert message in shown(*words, status=status)[1]
    assert not Path("a.svg").exists()
