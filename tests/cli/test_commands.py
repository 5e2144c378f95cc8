"""The commands, in process: names, options, messages and exit statuses."""

import gzip
import io
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import zstandard
from helpers.codebooks import make_codebook
from helpers.commands import Shell
from helpers.texts import mixed, prose
from typer.testing import CliRunner

import eqinfo
from eqinfo.cli import console, display, options, progress
from eqinfo.cli.app import app
from eqinfo.codebook.codebook import Codebook
from eqinfo.text.decompression import decompressed

TEXT = prose(300)


@pytest.fixture
def eqi(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    return Shell(model)


def names() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


@pytest.mark.parametrize("text", [b"", b"\0", b"x", TEXT, mixed(100)])
def test_stdin_goes_to_stdout_and_back(eqi: Shell, text: bytes) -> None:
    data = eqi("compress", stdin=text)
    assert eqi("decompress", stdin=data) == text
    assert eqi("decompress", "-", stdin=eqi("compress", "-", "-o", "-", stdin=text)) == text
    assert names() == []


def test_a_file_goes_to_file_eqi_and_back_and_is_kept(eqi: Shell) -> None:
    Path("book.txt").write_bytes(TEXT)
    Path("book.txt").chmod(0o640)
    os.utime("book.txt", ns=(1_000_000_000, 1_234_567_890_123_456_789))
    assert eqi("compress", "book.txt") == b""
    assert eqi.err == ""
    assert names() == ["book.txt", "book.txt.eqi"]
    Path("book.txt").rename("original")
    eqi("decompress", "book.txt.eqi")
    assert Path("book.txt").read_bytes() == TEXT
    for name in ("book.txt", "book.txt.eqi"):
        assert stat.S_IMODE(Path(name).stat().st_mode) == 0o640
        assert Path(name).stat().st_mtime_ns == 1_234_567_890_123_456_789


def test_outputs_are_named_with_o_or_go_to_stdout_with_c(eqi: Shell) -> None:
    Path("a").write_bytes(TEXT)
    eqi("compress", "a", "-o", "b")
    assert eqi("compress", "-c", "a") == eqi("compress", "a", "-o", "-") == Path("b").read_bytes()
    assert eqi("decompress", "b", "-o", "c") == b""
    assert Path("c").read_bytes() == eqi("decompress", "-c", "b") == TEXT
    eqi("compress", "-o", "from-stdin", stdin=TEXT)
    assert Path("from-stdin").read_bytes() == Path("b").read_bytes()


def test_several_files_make_several_outputs_or_one_stream_of_streams(eqi: Shell) -> None:
    Path("a").write_bytes(b"one ")
    Path("b").write_bytes(b"two")
    joined = eqi("compress", "-c", "a", "b")
    assert eqi("decompress", stdin=joined) == b"one two"
    eqi("compress", "a", "b")
    assert names() == ["a", "a.eqi", "b", "b.eqi"]
    assert eqi("decompress", "-c", "a.eqi", "b.eqi") == b"one two"


def test_after_a_bad_file_the_others_are_done_and_the_status_is_1(eqi: Shell) -> None:
    Path("a").write_bytes(TEXT)
    Path("folder").mkdir()
    eqi("compress", "missing", "folder", "a", status=1)
    assert eqi.err == "eqinfo: missing: No such file or directory\neqinfo: folder: Is a directory\n"
    assert names() == ["a", "a.eqi", "folder"]


def test_existing_outputs_are_refused_without_f(eqi: Shell) -> None:
    Path("a").write_bytes(TEXT)
    Path("a.eqi").write_bytes(b"old")
    eqi("compress", "a", status=1)
    assert eqi.err == "eqinfo: a.eqi: exists already. Give -f to replace it.\n"
    assert Path("a.eqi").read_bytes() == b"old"
    eqi("compress", "-f", "a")
    eqi("decompress", "a.eqi", status=1)
    assert eqi.err == "eqinfo: a: exists already. Give -f to replace it.\n"
    eqi("decompress", "-f", "a.eqi")
    assert names() == ["a", "a.eqi"]


def test_an_input_is_never_its_own_output(eqi: Shell) -> None:
    Path("a").write_bytes(TEXT)
    Path("b").symlink_to("a")
    for output in ("a", "b"):
        eqi("compress", "-f", "a", "-o", output, status=1)
        assert eqi.err == f"eqinfo: {output}: is input and output at once. Name another output.\n"
    assert Path("a").read_bytes() == TEXT


def test_an_unknown_suffix_needs_a_name(eqi: Shell) -> None:
    Path("a").write_bytes(TEXT)
    eqi("compress", "a", "-o", "a.xyz")
    eqi("decompress", "a.xyz", status=1)
    assert eqi.err == "eqinfo: a.xyz: unknown suffix; want .eqi. Name the output with -o.\n"
    Path("a.xyz").rename(".eqi")
    eqi("decompress", ".eqi", status=1)


def test_damage_leaves_no_output(eqi: Shell) -> None:
    data = bytearray(eqi("compress", stdin=TEXT))
    data[50] ^= 1
    Path("a.eqi").write_bytes(data)
    eqi("decompress", "a.eqi", status=1)
    assert eqi.err.startswith("eqinfo: a.eqi, frame 0: damaged; found ")
    assert names() == ["a.eqi"]
    assert eqi("decompress", stdin=bytes(data), status=1) == b""


def test_a_test_writes_nothing(eqi: Shell) -> None:
    Path("a.eqi").write_bytes(eqi("compress", stdin=TEXT))
    assert eqi("decompress", "-t", "a.eqi") == b""
    assert eqi.err == ""
    eqi("decompress", "-tv", "a.eqi")
    assert eqi.err == f"a.eqi: {len(TEXT)} bytes, sound\n"
    eqi("decompress", "-t", stdin=Path("a.eqi").read_bytes()[:-1], status=1)
    assert eqi.err.startswith("eqinfo: stdin, index: truncated; found ")
    assert names() == ["a.eqi"]


def test_verbose_says_what_was_done(eqi: Shell) -> None:
    Path("a").write_bytes(b"to be " * 1000)
    eqi("compress", "-v", "a")
    size = Path("a.eqi").stat().st_size
    assert eqi.err.startswith(f"a: 6000 -> {size} bytes, ratio {6000 / size:.2f}, ")
    assert eqi.err.endswith(" bytes/window\n")
    eqi("decompress", "-v", "-f", "a.eqi")
    assert eqi.err == "a.eqi: 6000 bytes\n"
    eqi("compress", "-v", "-f", "/dev/null", "-o", "/dev/null")
    assert eqi.err == "/dev/null: 0 -> 19 bytes, ratio 0.00, 0.00 bytes/window\n"


def test_threads_change_nothing(eqi: Shell) -> None:
    text = mixed(100) * 200
    data = eqi("compress", stdin=text)
    for threads in (0, 2, 3):
        assert eqi("compress", "-T", threads, stdin=text) == data
        assert eqi("decompress", "-T", threads, stdin=data) == text


def test_the_parse_can_be_chosen_and_need_not_be_known_to_restore(eqi: Shell) -> None:
    sizes = []
    for words in (["--unaligned-penalty", "5"], ["--method", "greedy"], []):
        data = eqi("compress", *words, stdin=TEXT)
        assert eqi("decompress", stdin=data) == TEXT
        sizes.append(len(data))
    assert sizes[2] < min(sizes[:2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compress", "a", "b", "-o", "c"], "one output for 2 inputs; use -c to join them"),
        (["compress", "--method", "best"], "'best' is neither optimal nor greedy"),
        (["compress", "--unaligned-penalty", "-1"], "--unaligned-penalty"),
        (["compress", "--unaligned-penalty", "nan"], "found 'nan', want a number"),
        (["compress", "a\nb/"], "a\\nb/: no such folder. Name a file without a slash at its end."),
        (["compress", "-T", "-1"], "--threads"),
        (["compress", "--nonsense"], "--nonsense"),
        (["decompress", "--range", "5"], "found '5', want START:END in bytes, START <= END"),
        (["decompress", "--range", "5:4"], "found '5:4', want START:END"),
        (["decompress", "--range", "-1:4"], "found '-1:4', want START:END"),
        (["decompress", "--range", "0:4", "--jsonl"], "may cut records in two: not with --jsonl"),
        (["compress", "--range", "0:4"], "for -d only"),
        (["compress", "--json"], "for -l only"),
    ],
)
def test_wrong_usage_is_status_2(eqi: Shell, arguments: list[str], message: str) -> None:
    eqi(*arguments, status=2)
    assert message in eqi.err


# ---- models


def test_a_model_is_a_folder_or_a_codebook(eqi: Shell, model: Path) -> None:
    data = eqi("compress", stdin=TEXT)
    eqi.model = model / "codebook.eqcb"
    assert eqi("decompress", stdin=data) == TEXT


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        SystemError("error return without exception set"),
    ],
)
def test_too_little_memory_is_one_line(
    eqi: Shell, model: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("eqinfo.formats.eqi.compress", fail)
    Path("a").write_bytes(b"text")
    eqi("compress", "-m", model, "a", status=1)
    assert eqi.err == "eqinfo: a: not enough memory for this\n"


def test_a_missing_or_damaged_model_is_one_line(eqi: Shell, model: Path, tmp_path: Path) -> None:
    data = eqi("compress", stdin=TEXT)
    eqi.model = tmp_path / "none"
    eqi("compress", stdin=TEXT, status=1)
    assert eqi.err.startswith(f"eqinfo: {tmp_path}/none: no such codebook")
    eqi.model = tmp_path
    eqi("compress", stdin=TEXT, status=1)
    assert eqi.err.startswith(f"eqinfo: {tmp_path}/codebook.eqcb: no such codebook")
    (tmp_path / "codebook.eqcb").write_bytes((model / "codebook.eqcb").read_bytes()[:-1])
    eqi("decompress", stdin=data, status=1)
    assert eqi.err == (
        f"eqinfo: {tmp_path}/codebook.eqcb: damaged; checksum does not match. Get a fresh copy.\n"
    )


def test_a_stream_of_another_model_names_both(eqi: Shell, codebook: Codebook, tmp_path: Path) -> None:
    data = eqi("compress", stdin=TEXT)
    other = make_codebook(13)
    (tmp_path / "other.eqcb").write_bytes(other.to_bytes())
    eqi.model = tmp_path / "other.eqcb"
    eqi("decompress", stdin=data, status=1)
    assert eqi.err == (
        "eqinfo: stdin: needs a codebook of 12 bits with fingerprint "
        f"{codebook.fingerprint.hex()[:16]}; {tmp_path}/other.eqcb has none. "
        "Name the model it was made with (-m).\n"
    )


# ---- ranges


@pytest.mark.parametrize("span", ["0:0", "0:5", "7:300", "100:", ":9", ":", "99999999:", "5:99999999"])
def test_a_range_is_a_slice(eqi: Shell, span: str) -> None:
    Path("a.eqi").write_bytes(eqi("compress", stdin=TEXT) * 2)
    start, end = (int(side) if side else None for side in span.split(":"))
    assert eqi("decompress", "-c", "--range", span, "a.eqi") == (TEXT * 2)[start:end]


def test_a_range_of_what_has_no_index_is_refused(eqi: Shell) -> None:
    eqi("compress", "--tokens", "-o", "a.bin", stdin=TEXT)
    eqi("decompress", "-c", "--range", "0:1", "a.bin", status=1)
    assert eqi.err == "eqinfo: a.bin: --range needs an .eqi file, which it can read from the end.\n"
    Path("a").write_bytes(TEXT)
    eqi("decompress", "-c", "--range", "0:1", "a", status=1)
    assert eqi.err == f"eqinfo: a: not an .eqi stream; it begins with {TEXT[:3].decode()!r}, want 'EQI'.\n"


# ---- documents


RECORDS = ["to be", "", "or not\nto be", "naïve 世界 \ud83d", "\0"]
JSONL = "".join(json.dumps({"id": 1, "text": text}) + "\n" for text in RECORDS).encode()


def texts_of(jsonl: bytes) -> list[str]:
    return [json.loads(line)["text"] for line in jsonl.decode().split("\n")[:-1]]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.jsonl", JSONL),
        ("a.jsonl.gz", gzip.compress(JSONL, mtime=0)),
        ("a.jsonl.zst", zstandard.compress(JSONL)),
        ("a", JSONL),
        ("-", JSONL),
    ],
)
def test_records_are_documents_with_jsonl(eqi: Shell, name: str, data: bytes) -> None:
    if name != "-":
        Path(name).write_bytes(data)
    stream = eqi("compress", "--jsonl", "-c", name, stdin=data)
    assert texts_of(eqi("decompress", "--jsonl", stdin=stream)) == RECORDS
    assert eqi("decompress", stdin=stream) == "".join(RECORDS).encode("utf-8", "surrogatepass")


def test_without_jsonl_a_file_is_its_bytes_whatever_its_name(eqi: Shell) -> None:
    for name, data in (("a.jsonl", JSONL), ("b.jsonl.zst", zstandard.compress(JSONL)), ("c.gz", b"junk")):
        Path(name).write_bytes(data)
        assert eqi("decompress", stdin=eqi("compress", "-c", name)) == data


def test_a_bad_record_is_named_by_its_line_and_leaves_no_output(eqi: Shell) -> None:
    Path("a.jsonl").write_bytes(JSONL + b'{"text": 5}\n')
    eqi("compress", "--jsonl", "a.jsonl", status=1)
    assert eqi.err.startswith("eqinfo: a.jsonl:6: no text in this record; found ")
    eqi("compress", "--jsonl", "--text-field", "body", "a.jsonl", status=1)
    assert eqi.err.startswith("eqinfo: a.jsonl:1: no text in this record; found ")
    Path("b.jsonl").write_bytes(b"{\n")
    eqi("compress", "--jsonl", "b.jsonl", status=1)
    assert eqi.err.startswith("eqinfo: b.jsonl:1: not a line of JSON ")
    assert names() == ["a.jsonl", "b.jsonl"]


def test_another_field_can_hold_the_text(eqi: Shell) -> None:
    stream = eqi("compress", "--jsonl", "--text-field", "body", stdin=b'{"body": "x"}\n')
    assert texts_of(eqi("decompress", "--jsonl", stdin=stream)) == ["x"]


# ---- token files


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.txt.zst"])
def test_tokens_come_back(eqi: Shell, name: str) -> None:
    pack: Any = {".gz": gzip.compress, ".zst": zstandard.compress}.get(Path(name).suffix, bytes)
    Path(name).write_bytes(pack(TEXT))
    eqi("compress", "--tokens", name)
    assert names() == [name, f"{name}.bin", f"{name}.bin.json"]
    sidecar = json.loads(Path(f"{name}.bin.json").read_bytes())
    ids = np.fromfile(f"{name}.bin", "<u2")
    assert (sidecar["tokens"], sidecar["documents"], sidecar["original_bytes"]) == (ids.size, 1, len(TEXT))
    assert ids[-1] == 0  # a file is one document
    assert eqi("decompress", "-c", f"{name}.bin") == TEXT


def test_records_are_documents_in_token_files(eqi: Shell) -> None:
    Path("a.jsonl").write_bytes(JSONL)
    eqi("compress", "--tokens", "a.jsonl", "-o", "a.bin")
    assert texts_of(eqi("decompress", "--jsonl", "-c", "a.bin")) == RECORDS
    eqi("compress", "--tokens", "--jsonl", "-o", "b.bin", stdin=JSONL)
    assert Path("b.bin").read_bytes() == Path("a.bin").read_bytes()
    eqi("decompress", "a.bin")
    assert Path("a").read_bytes() == "".join(RECORDS).encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("arguments", [[], ["-c"], ["-o", "-"], ["-o", "/dev/null"]])
def test_tokens_without_a_place_for_the_sidecar_are_refused(eqi: Shell, arguments: list[str]) -> None:
    assert eqi("compress", "--tokens", *arguments, stdin=TEXT, status=2) == b""
    assert eqi.err == (
        "eqinfo: --tokens: the ids need a file, for the sidecar beside it. Name one with -o.\n"
    )


def test_an_existing_sidecar_or_token_file_is_refused_without_f(eqi: Shell) -> None:
    for name in ("a.bin", "a.bin.json"):
        Path(name).write_bytes(b"old")
        eqi("compress", "--tokens", "-o", "a.bin", stdin=TEXT, status=1)
        assert eqi.err == f"eqinfo: {name}: exists already. Give -f to replace it.\n"
        assert names() == [name]
        Path(name).unlink()
    eqi("compress", "--tokens", "-o", "a.bin", stdin=TEXT)
    eqi("compress", "--tokens", "-f", "-o", "a.bin", stdin=TEXT + b"more")
    assert eqi("decompress", "-c", "a.bin") == TEXT + b"more"


def test_a_token_file_that_does_not_fit_its_sidecar_is_refused(eqi: Shell) -> None:
    eqi("compress", "--tokens", "-o", "a.bin", stdin=TEXT)
    Path("a.bin").write_bytes(Path("a.bin").read_bytes()[:-2])
    assert eqi("decompress", "-c", "a.bin", status=1) == b""
    assert eqi.err.startswith("eqinfo: a.bin: shorter than its sidecar says; found ")
    Path("a.bin.json").unlink()
    eqi("decompress", "-c", "a.bin", status=1)
    assert eqi.err == "eqinfo: a.bin: its sidecar a.bin.json is missing. For ids alone give --ids and -m.\n"


# ---- live windows and arithmetic codes


LIVE = [
    ["--window-bits", "24"],
    ["--window-bits", "128", "--carry"],
    ["--window-bits", "40", "--rule", "published"],
    ["--window-bits", "ac"],
    ["--window-bits", "ac", "--rule", "published"],
]


@pytest.fixture
def live(eqi: Shell, live_model: Path) -> Shell:
    eqi.model = live_model
    return eqi


@pytest.mark.parametrize("options", LIVE)
@pytest.mark.parametrize("text", [b"", b"x", mixed(20)])
def test_live_streams_need_no_options_to_restore(live: Shell, options: list[str], text: bytes) -> None:
    data = live("compress", *options, stdin=text)
    assert live("compress", "-T", 4, *options, stdin=text) == data
    assert live("decompress", "-T", 4, stdin=data) == text
    assert live("decompress", stdin=data + live("compress", stdin=TEXT) + data) == text + TEXT + text


@pytest.mark.parametrize("options", LIVE)
def test_live_streams_keep_documents_and_have_ranges(live: Shell, options: list[str]) -> None:
    Path("a.eqi").write_bytes(live("compress", "--jsonl", *options, stdin=JSONL))
    assert texts_of(live("decompress", "-c", "--jsonl", "a.eqi")) == RECORDS
    whole = "".join(RECORDS).encode("utf-8", "surrogatepass")
    assert live("decompress", "-c", "--range", "3:17", "a.eqi") == whole[3:17]


@pytest.mark.parametrize("options", LIVE)
def test_live_token_files_come_back(live: Shell, options: list[str]) -> None:
    Path("a.jsonl").write_bytes(JSONL)
    live("compress", "--tokens", *options, "a.jsonl", "-o", "a.bin")
    sidecar = json.loads(Path("a.bin.json").read_bytes())
    assert (sidecar["vocab_size"], sidecar["tokens"]) == (65536, Path("a.bin").stat().st_size // 2)
    assert sidecar["documents"] == len(RECORDS)
    assert texts_of(live("decompress", "--jsonl", "-c", "a.bin")) == RECORDS
    live("decompress", "a.bin")
    assert Path("a").read_bytes() == "".join(RECORDS).encode("utf-8", "surrogatepass")


def test_verbose_counts_bits_where_there_are_no_windows(live: Shell) -> None:
    data = live("compress", "-v", "--window-bits", "ac", stdin=TEXT)
    assert live.err == (
        f"stdin: {len(TEXT)} -> {len(data)} bytes, ratio {len(TEXT) / len(data):.2f}, "
        f"{8 * len(data) / len(TEXT):.3f} bits/byte\n"
    )


def test_the_codebook_s_own_bits_are_the_codebook(live: Shell) -> None:
    assert live("compress", "--window-bits", "12", stdin=TEXT) == live("compress", stdin=TEXT)


@pytest.mark.parametrize(
    ("options", "start"),
    [
        (["--window-bits", "16"], "--window-bits: found 16, want 12 (the codebook's), 24, 32, "),
        (["--window-bits", "21"], "--window-bits: found 21, want 12 (the codebook's), 24, 32, "),
        (["--window-bits", "0"], "--window-bits: found 0, want "),
        (["--window-bits", "8"], "--window-bits: found 8, want "),
        (["--window-bits", "17"], "--window-bits: found 17, want "),
        (["--window-bits", "25"], "--window-bits: found 25, want "),
        (["--window-bits", "136"], "--window-bits: found 136, want "),
        (["--window-bits", "abc"], "--window-bits: found abc, want "),
        (["--carry"], "--carry: for live windows only. --rule: for those and ac; "),
        (["--window-bits", "12", "--rule", "published"], "--carry: for live windows only. --rule: for "),
        (["--window-bits", "ac", "--carry"], "--carry: for live windows only; "),
        (
            ["--window-bits", "24", "--rule", "best"],
            "--rule: unknown; found best, want one of live, published.",
        ),
        (
            ["--window-bits", "24", "--method", "greedy"],
            "--method, --unaligned-penalty: for codebooks only; ",
        ),
        (
            ["--window-bits", "ac", "--unaligned-penalty", "1"],
            "--method, --unaligned-penalty: for codebooks ",
        ),
    ],
)
def test_codings_that_there_are_not_are_refused_in_one_line(
    live: Shell, options: list[str], start: str
) -> None:
    Path("a").write_bytes(TEXT)
    for arguments in (["-"], ["a"], ["--tokens", "a"]):
        assert live("compress", *options, *arguments, stdin=TEXT, status=2) == b""
        assert live.err.startswith(f"eqinfo: {start}")
        assert live.err.count("\n") == 1
    assert names() == ["a"]


def test_live_codings_without_m1_name_it(eqi: Shell, live_model: Path, model: Path) -> None:
    eqi("compress", "--window-bits", "24", stdin=TEXT, status=1)
    assert eqi.err == (
        f"eqinfo: {model}/m1.eqm1: no such M1, which live windows need. Give a folder made by train-m1.\n"
    )
    eqi.model = live_model
    data = eqi("compress", "--window-bits", "24", stdin=TEXT)
    for eqi.model in (model, live_model / "codebook.eqcb"):
        assert eqi("decompress", stdin=data, status=1) == b""
        assert eqi.err == (
            "eqinfo: stdin: needs an M1 for live windows of 24 bits with fingerprint "
            f"{data[5:13].hex()}; {eqi.model} has none. Name the model it was made with (-m).\n"
        )


# ---- terminals, help


def test_binary_output_to_a_terminal_is_refused_without_c(
    eqi: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "is_terminal", lambda stream: True)
    assert eqi("compress", stdin=TEXT, status=1) == b""
    assert eqi.err == (
        "eqinfo: stdout: a terminal, and the output is binary. Name a file with -o, or give -c.\n"
    )
    assert eqi("compress", "-cq", stdin=TEXT)[:3] == b"EQI"
    eqi("decompress", stdin=TEXT, status=1)
    assert eqi.err == "eqinfo: stdin: a terminal, and the input is binary. Name a file.\n"


def test_a_terminal_is_told_what_was_done_unless_quiet(eqi: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "is_terminal", lambda stream: True)
    monkeypatch.setattr(progress, "BAR_AFTER_S", 0.0)
    Path("a").write_bytes(TEXT)
    eqi("compress", "a")
    assert eqi.err.splitlines()[-1].startswith(f"a: {len(TEXT)} -> ")
    eqi("compress", "-q", "-f", "a")
    assert eqi.err == ""


@pytest.mark.parametrize("arguments", [["--tokens"], ["--tokens", "--hold-out", "1/4"], ["--jsonl"]])
def test_a_bar_shows_bytes_of_the_inputs_compressed_or_several(
    eqi: Shell, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    records = [
        b"".join(json.dumps({"id": n, "text": prose(5000, seed=n).decode()}).encode() + b"\n" for n in part)
        for part in (range(60), range(60, 120))
    ]
    Path("a.jsonl").write_bytes(records[0])
    Path("b.jsonl.zst").write_bytes(zstandard.compress(records[1]))
    found = list[tuple[int | None, int, int]]()

    @contextmanager
    def bytes_bar(name: str, total: int | None, done: Callable[[], int], after_s: float) -> Iterator[None]:
        at_start = done()
        yield
        found.append((total, at_start, done()))

    monkeypatch.setattr(console, "is_terminal", lambda stream: True)
    monkeypatch.setattr(display, "bytes_bar", bytes_bar)
    sizes = [Path(name).stat().st_size for name in ("a.jsonl", "b.jsonl.zst")]
    eqi("compress", *arguments, "a.jsonl", "b.jsonl.zst", *(["-o", "c"] if "--tokens" in arguments else []))
    shown = [sum(sizes)] if "--tokens" in arguments else sizes
    assert [figures[:2] for figures in found] == [(size, 0) for size in shown]
    for size, (_, _, end) in zip(shown, found, strict=True):  # what tells the kind is read before
        assert size - io.DEFAULT_BUFFER_SIZE <= end <= size


def test_reading_is_reported_a_percent_at_a_time(tmp_path: Path) -> None:
    names = [tmp_path / "a", tmp_path / "b.gz"]
    names[0].write_bytes(TEXT * 400)
    names[1].write_bytes(gzip.compress(os.urandom(200_000)))

    def shares(given: list[Path]) -> list[float]:
        found = list[float]()
        with progress.reading(given, found.append):
            for name in names:
                with console.open_input(name, decompressed) as source:
                    while source.read(10_000):
                        pass
        return found

    found = shares(names)
    assert found == sorted(set(found))
    assert (round(found[0], 2), found[-1]) == (0.01, 0.99)
    assert shares([*names, tmp_path]) == []  # a folder has no size


def test_a_range_on_a_terminal_ends_its_line(eqi: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.eqi").write_bytes(eqi("compress", stdin=b"to be\nor not"))
    for terminal, extra in ((False, b""), (True, b"\n")):
        monkeypatch.setattr(console, "is_terminal", lambda stream, terminal=terminal: terminal)
        assert eqi("decompress", "-cq", "--range", "0:5", "a.eqi") == b"to be" + extra
        assert eqi("decompress", "-cq", "--range", "0:6", "a.eqi") == b"to be\n"
        assert eqi("decompress", "-cq", "a.eqi") == b"to be\nor not"


def test_a_text_that_barely_shrinks_gets_advice(live: Shell, model: Path) -> None:
    lines = "".join(f"17:{n % 60:02} GET /{n * 31 % 997} {n * 17 % 5003}ms\n" for n in range(4000)).encode()
    Path("log").write_bytes(lines)
    live("compress", "-v", "log", "-o", "a")
    words = r"log: barely smaller; --window-bits ac gives a ratio of about ([0-9.]+), slowly, and train-m1"
    found = re.search(words, live.err)
    live("compress", "--window-bits", "ac", "-o", "b", stdin=lines[: 1 << 14])
    assert found
    assert float(found[1]) == pytest.approx((1 << 14) / Path("b").stat().st_size, rel=0.05)
    for name, data in (("noise", os.urandom(70_000)), ("prose", prose(20_000)), ("short", lines[:999])):
        Path(name).write_bytes(data)
        live("compress", "-v", name)
        assert live.err.count("\n") == 1
    live.model = model  # a codebook without M1
    live("compress", "-v", "log", "-o", "c")
    assert live.err.endswith("\nlog: barely smaller; train-m1 makes windows for texts of this kind\n")


@pytest.mark.parametrize("command", [command.name for command in typer.main.get_group(app).commands.values()])
def test_every_help_ends_with_an_example(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert f"eqinfo {command}" in result.stdout.partition("Example: ")[2]


def test_every_option_names_its_value() -> None:
    for command in typer.main.get_group(app).commands.values():
        for option in command.params:  # without a name typer shows a type, in words of its version
            assert option.metavar or getattr(option, "is_flag", False), (command.name, option.name)


def with_model(words: list[str], model: Path) -> list[str]:
    at = words.index("--") if "--" in words else len(words)
    return [*words[:at], "-m", str(model), *words[at:]]


@pytest.mark.parametrize(
    ("spelt", "letters"),
    [
        (["decompress", "-c", "a.eqi"], ["-d", "-c", "a.eqi"]),
        (["decompress", "-c", "a.eqi"], ["-dc", "a.eqi"]),
        (["decompress", "-c", "a.eqi"], ["compress", "-cdq", "a.eqi"]),
        (["decompress", "-c", "a.eqi"], ["compress", "-T", "2", "-c", "a.eqi", "-d"]),
        (["decompress", "-t", "-v", "a.eqi"], ["-tv", "a.eqi"]),
        (["decompress", "-c", "--range", "3:9", "a.eqi"], ["-dc", "--range", "3:9", "a.eqi"]),
        (["decompress", "-c", "a.eqi"], ["-cd", "--window-bits", "24", "a.eqi"]),
        (["compress", "-l", "a.eqi"], ["-l", "a.eqi"]),
        (["compress", "-lv", "a.eqi"], ["compress", "a.eqi", "-l"]),
        (["compress", "--list", "--json", "a.eqi"], ["--json", "--list", "a.eqi"]),
        (["compress", "-cT1", "a"], ["-cT1", "a"]),
        (["compress", "-c", "-o", "-", "--", "-d"], ["compress", "-c", "-o", "-", "--", "-d"]),
    ],
)
def test_options_of_compress_work_with_and_without_its_name(
    eqi: Shell, spelt: list[str], letters: list[str]
) -> None:
    Path("a").write_bytes(TEXT)
    Path("-d").write_bytes(TEXT)
    eqi("compress", "a")
    found, want = (CliRunner().invoke(app, with_model(words, eqi.model)) for words in (letters, spelt))
    assert (found.exit_code, found.stdout_bytes, found.stderr) == (
        want.exit_code,
        want.stdout_bytes,
        want.stderr,
    )
    assert want.exit_code == 0


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["compress", "--rm", "a"], "No such option: --rm. Inputs are always kept; remove them with rm."),
        (["compress", "-9", "a"], "No such option: -9. There are no compression levels; --window-bits ac"),
        (["compress", "--level=3", "a"], "No such option: --level. There are no compression levels; "),
        (["train-m2", "--learning-rate", "1"], "--learning-rate. The peak learning rate is --lr."),
        (["compress", "-T", "x"], "'-T' / '--threads': found 'x', want a whole number"),
        (["compress", "-T", "-1"], "found '-1', want at least 0"),
        (["train-m2", "--lr", "x"], "'--lr': found 'x', want a number"),
        (["a"], "No such command 'a'. To compress a file: eqinfo compress a"),
        (["b"], "No such command 'b'.\n"),
        (["tokenize", "a"], "No such command 'tokenize'. To make ids: eqinfo compress --tokens FILE\n"),
        (["decode"], "No such command 'decode'. It is: eqinfo decompress\n"),
        (["compress", "--threds", "2"], "No such option: --threds (Possible options: --test, --threads"),
    ],
)
def test_wrong_words_get_advice(
    words: list[str], advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a").write_bytes(TEXT)
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert advice in result.stderr


def test_control_characters_in_names_do_not_reach_the_terminal(eqi: Shell) -> None:
    eqi("compress", "a\n\x1b[31m", status=1)
    assert eqi.err == "eqinfo: a\\n\\x1b[31m: No such file or directory\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_and_options(shell: str) -> None:
    for words, want in (("eqinfo comp", "compress"), ("eqinfo train-m1 --pre", "--preset")):
        completing = {
            "_EQINFO_COMPLETE": f"complete_{shell}",
            "_TYPER_COMPLETE_ARGS": words,
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")),
        }
        assert want in CliRunner().invoke(app, [], env=completing, prog_name="eqinfo").stdout


def test_the_version_is_that_of_the_package() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout == f"eqinfo {eqinfo.__version__}\n"


def test_no_command_shows_the_help() -> None:
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 2
    assert "Commands:" in result.output


def test_a_prompt_imports_nothing_that_measures(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom eqinfo.cli.app import app\n"
        f"result = CliRunner().invoke(app, ['eval', {str(tmp_path)!r}, '--prompt', 'a'])\n"
        "print(result.stderr, *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600
    )
    assert "config.json" in done.stdout
    assert "eqinfo.m2.generate" in done.stdout.split()
    assert not re.search(r"eqinfo\.(eval|m1)\b|\brich\b", done.stdout)


@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "passive"}, "None")],
)
def test_threads_of_torch_spin_for_a_moment_unless_the_user_says_how_they_wait(
    given: dict[str, str], spins: str
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(eqinfo.__file__).parents[1])}
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        environment.pop(name, None)
    code = "import os; from eqinfo.cli import app; print(os.environ.get('GOMP_SPINCOUNT'))"
    said = subprocess.check_output([sys.executable, "-c", code], env=environment | given, text=True)
    assert said == f"{spins}\n"


def test_no_threads_are_as_many_as_the_cores_that_the_process_may_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5})
    assert (options._or_cores(0), options._or_cores(7)) == (2, 7)
