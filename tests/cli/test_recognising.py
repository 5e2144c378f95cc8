"""Inputs that are not what their names say, or not what a command wants: what the commands read, and say."""

import bz2
import gzip
import json
import lzma
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from helpers.commands import run
from helpers.texts import prose

import eqinfo
from eqinfo.formats import token_file

TEXTS = ["to be", "or not to be", "that is the question"]
JSONL = "".join(json.dumps({"id": 1, "text": text}) + "\n" for text in TEXTS).encode()
PLAIN = prose(100)
TRAINING = ["-o", "run", "--preset", "nano", "--block-size", "16", "--batch-tokens", "64", "--steps", "1"]
TRAINING += ["--device", "cpu", "-q"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a model."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m").symlink_to(model)
    return tmp_path


def tokens(name: str, *options: str, stdin: bytes = b"") -> tuple[list[str], str]:
    """The documents in the token file of an input, and what was said."""
    _, said = run("compress", "--tokens", "-m", "m", name, "-f", "-o", "t.bin", *options, stdin=stdin)
    text, _ = run("decompress", "--jsonl", "-m", "m", "-c", "t.bin")
    return [json.loads(line)["text"] for line in text.splitlines()], said


def write(name: str, data: bytes) -> str:
    Path(name).write_bytes(data)
    return name


# ---- records under many names


@pytest.mark.parametrize("name", ["a.jsonl", "a.JSONL", "a.ndjson", "a.json", "a.Json"])
@pytest.mark.parametrize(
    ("suffix", "pack"),
    [("", bytes), (".gz", gzip.compress), (".zst", zstandard.compress), (".GZ", gzip.compress)],
)
def test_records_are_read_as_records(name: str, suffix: str, pack: Callable[[bytes], bytes]) -> None:
    assert tokens(write(name + suffix, pack(JSONL))) == (TEXTS, "")


def test_compressed_text_is_told_by_its_bytes_also_on_stdin() -> None:
    for pack in (gzip.compress, zstandard.compress):
        assert tokens(write("a.txt", pack(PLAIN))) == ([PLAIN.decode()], "")
        assert tokens("-", stdin=pack(PLAIN)) == ([PLAIN.decode()], "")
        assert tokens("-", "--jsonl", stdin=pack(JSONL)) == (TEXTS, "")
    twice = gzip.compress(PLAIN[:99]) + gzip.compress(PLAIN[99:]) + bytes(512)
    assert tokens(write("a.gz", twice)) == ([PLAIN.decode()], "")


def test_records_of_another_field_are_named_by_their_fields() -> None:
    write("a.json", JSONL.replace(b'"text"', b'"body"'))
    assert tokens("a.json", "--text-field", "body")[0] == TEXTS
    _, said = run("compress", "--tokens", "-m", "m", "a.json", status=1)
    assert said.startswith("eqinfo: a.json:1: no text in this record; found fields ")


def test_other_json_and_tables_are_text_and_the_user_is_told() -> None:
    for name, data, words in (
        (
            "a.json",
            b'[\n  {"text": "to be"}\n]\n',
            "syntax and all. For its records, write one on each line.",
        ),
        (
            "b.json",
            b'{\n  "text": "to be"\n}\n',
            "syntax and all. For its records, write one on each line.",
        ),
        ("a.csv", b"a,b\n1,2\n", "separators and all."),
        ("a.txt", JSONL, "though it looks like JSONL. Give --jsonl to read its records."),
        ("a.bin", b"a\0b", "though it looks binary (it has a zero byte)."),
    ):
        found, said = tokens(write(name, data))
        assert found == [data.decode()]
        assert said.startswith(f"eqinfo: {name}: read as plain text, ")
        assert words in said
        assert tokens(name, "-q")[1] == ""
    assert tokens(write("package.json", b'{\n  "name": "x"\n}\n'))[1] == ""


def test_ids_that_begin_as_a_compressed_file_are_measured() -> None:
    write("a.txt", eqinfo.load().decode([0x8B1F]) + b" of something else")
    run("compress", "--tokens", "a.txt")
    shown, _ = run("eval", "--text", "a.txt.bin", "--json", "-q", "--device", "cpu")
    assert json.loads(shown)["text"]["original_bytes"] == Path("a.txt").stat().st_size


def test_a_figure_does_not_replace_its_text() -> None:
    write("a.svg", PLAIN)
    _, said = run("eval", "--show", "--text", "a.svg", "--figure", "a.svg", status=1)
    assert said == "eqinfo: a.svg: is input and output at once. Name another output.\n"
    assert Path("a.svg").read_bytes() == PLAIN


def test_jsonl_can_be_asked_for_in_training_and_measuring() -> None:
    records = b"".join(json.dumps({"text": prose(80, seed).decode()}).encode() + b"\n" for seed in range(9))
    words = [
        "--preset",
        "unigram",
        "--window-bits",
        "9",
        "--rounds",
        "0",
        "--steps",
        "1",
        "--device",
        "cpu",
        "-q",
    ]
    run("train-m1", "-", "--jsonl", "-o", "run", *words, stdin=gzip.compress(records))
    config = json.loads(Path("run/config.json").read_text())
    assert config["corpus"]["documents"] == 9
    shown, _ = run("eval", "run", "--text", "-", "--jsonl", "--json", "--device", "cpu", "-q", stdin=records)
    assert json.loads(shown)["text"]["original_bytes"] == sum(len(prose(80, seed)) for seed in range(9))


# ---- records without text


BAD = JSONL + b'{"text": null}\n{"id": 7}\n{oops\n[]\n' + JSONL


def test_a_record_whose_text_is_null_is_named() -> None:
    write("a.jsonl", BAD)
    _, said = run("compress", "--tokens", "-m", "m", "a.jsonl", status=1)
    assert said == (
        "eqinfo: a.jsonl:4: no text in this record; found null, want a string in 'text'. "
        "Name the field with --text-field, or pass over such records with --skip-bad.\n"
    )


def test_bad_records_are_passed_over_and_counted() -> None:
    found, said = tokens(write("a.jsonl", BAD), "--skip-bad")
    assert found == TEXTS * 2
    assert said.startswith(
        "eqinfo: a.jsonl: passed over 4 lines without text; the first is a.jsonl:4: no text in this record; "
        "found null, want a string in 'text'.\n"
    )


def test_one_bad_record_is_one_line() -> None:
    _, said = tokens(write("a.jsonl", JSONL + b"{oops\n"), "--skip-bad")
    assert said.startswith(
        "eqinfo: a.jsonl: passed over 1 line without text; the first is a.jsonl:4: not a line of JSON ("
    )
    assert said.splitlines()[0].endswith(").")


# ---- what is not text


@pytest.mark.parametrize(
    ("name", "data", "want"),
    [
        ("a.txt.xz", lzma.compress(PLAIN), "an xz file, not text. Try: xz -dc a.txt.xz | eqinfo ... -"),
        (
            "a.jsonl.bz2",
            bz2.compress(JSONL),
            "a bzip2 file, not text. Try: bzip2 -dc a.jsonl.bz2 | eqinfo ... --jsonl -",
        ),
        ("a.txt", b"%PDF-1.5", "a PDF file, not text. Make text of it: pdftotext 'a.txt' -"),
        (
            "a.parquet",
            b"PAR1\x15",
            "a parquet file, not text. Write it as JSONL, in Python: pandas.read_parquet('a.parquet')",
        ),
        (
            "a.tar.gz",
            gzip.compress(b"a".ljust(257, b"\0") + b"ustar", mtime=0),
            "a tar file, not text. Try: tar -xOf a.tar.gz | ",
        ),
        (
            "a.eqi",
            b"EQI\x01\x0c12345678",
            "an .eqi stream, not text. Try: eqinfo decompress -c a.eqi | eqinfo ... -",
        ),
        ("a.jsonl", b"PK\3\4", "a zip file, not text. Try: unzip -p a.jsonl | eqinfo ... --jsonl -"),
        ("a.gz", PLAIN, "plain text, not compressed. Take .gz out of its name."),
        ("a.jsonl.zst", JSONL, "plain text, not compressed. Take .zst out of its name."),
        ("a.gz", b"", "empty, so no compressed file. Get it again."),
        ("a.ZST", b"", "empty, so no compressed file. Get it again."),
        ("a.gz", b"\0" * 99, "damaged or truncated compressed file"),
    ],
)
def test_what_is_not_text_is_refused_with_what_it_is(name: str, data: bytes, want: str) -> None:
    write(name, data)
    for command in (
        ("compress", "--tokens", "-m", "m", name),
        ("train-m1", name, "-o", "run", "--steps", "1"),
        ("eval", "--text", name, "--device", "cpu"),
    ):
        _, said = run(*command, status=1)
        assert said.startswith(f"eqinfo: {name}: {want}"), said
        assert not Path("run").exists()


def long_window(text: bytes) -> bytes:
    """As `zstd --long=31` compresses a stream."""
    parameters = zstandard.ZstdCompressionParameters(window_log=31)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return packer.compress(text) + packer.flush()


def test_zstd_of_a_long_window_or_with_a_dictionary_says_what_it_needs() -> None:
    samples = [prose(30, seed) for seed in range(300)]
    dictionary = zstandard.train_dictionary(4000, samples)
    with_dictionary = zstandard.ZstdCompressor(dict_data=dictionary).compress(PLAIN)
    for data, needs in (
        (
            long_window(JSONL),
            "made with a long window. Pipe its text: zstd -dc --long=31 a.jsonl.zst | eqinfo ... --jsonl -",
        ),
        (
            with_dictionary,
            "made with a dictionary. Pipe its text: zstd -dc -D DICTIONARY a.jsonl.zst | ",
        ),
    ):
        write("a.jsonl.zst", data)
        _, said = run("compress", "--tokens", "-m", "m", "a.jsonl.zst", status=1)
        assert said.startswith(f"eqinfo: a.jsonl.zst: {needs}")
        assert said.endswith(" | eqinfo ... --jsonl -\n")


# ---- what is not a stream, or not a token file


@pytest.mark.parametrize(
    ("pack", "want"),
    [
        (zstandard.compress, "a zstd file, not an .eqi stream. Try: zstd -dc {}"),
        (gzip.compress, "a gzip file, not an .eqi stream. Try: gzip -dc {}"),
        (lzma.compress, "an xz file, not an .eqi stream. Try: xz -dc {}"),
    ],
)
def test_decompress_names_the_command_for_other_formats(pack: Callable[[bytes], bytes], want: str) -> None:
    for name in ("a.txt.other", "a.eqi"):
        write(name, pack(PLAIN))
        _, said = run("decompress", name, status=1)
        assert said == f"eqinfo: {name}: {want.format(name)}\n"
    _, said = run("decompress", stdin=pack(PLAIN), status=1)
    assert ": " + want.format("").rstrip() in said


@pytest.mark.parametrize(
    ("name", "data", "want"),
    [
        ("nope.bin", None, "nope.bin: no such file."),
        ("a.txt", PLAIN, "a.txt: text, not a token file. Make one of it: eqinfo compress --tokens a.txt"),
        (
            "a.jsonl.gz",
            gzip.compress(JSONL, mtime=0),
            "a.jsonl.gz: a gzip file, not a token file. Make one of it: eqinfo compress --tokens a.jsonl.gz",
        ),
        (
            "a.xz",
            lzma.compress(PLAIN),
            "a.xz: an xz file, not a token file. Try: xz -dc a.xz | eqinfo compress --tokens -o tokens.bin",
        ),
        ("a.bin", b"\1\0" * 99, "a.bin.json: no such file. A token file needs its sidecar: "),
    ],
)
def test_train_m2_says_what_a_file_is(name: str, data: bytes | None, want: str) -> None:
    if data is not None:
        write(name, data)
    _, said = run("train-m2", name, "-o", "run", "-m", "m", status=1)
    assert said.startswith("eqinfo: " + want), said
    assert not Path("run").exists()


def test_train_m2_reads_streams_under_any_name() -> None:
    write("stream", run("compress", "-m", "m", "-c", stdin=PLAIN * 9)[0])
    run("train-m2", "stream", "-m", "m", *TRAINING)
    assert json.loads(Path("run/config.json").read_text())["data"]["train"]["original_bytes"] == len(
        PLAIN * 9
    )


def start(*words: object, **options: Any) -> subprocess.Popen[bytes]:
    """Start a command in a process of its own."""
    command = [sys.executable, "-m", "eqinfo", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(Path(eqinfo.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, **options)


def shards(n: int) -> list[Path]:
    """Token files."""
    tokens(write("a.txt", PLAIN))
    for k in range(n):
        shutil.copy("t.bin", f"{k}.bin")
        shutil.copy("t.bin.json", f"{k}.bin.json")
    return [Path(f"{k}.bin") for k in range(n)]


def test_more_token_files_than_may_be_open_are_trained_on() -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    files = shards(60)
    words = ["-m", "m", *TRAINING, "--valid", files[0]]
    with start("train-m2", *files, *words, preexec_fn=limit) as process:
        assert process.stderr
        assert (process.stderr.read(), process.wait()) == (b"", 0)
    found = json.loads(Path("run/config.json").read_text())
    assert found["data"]["train"]["original_bytes"] == 60 * len(PLAIN)


def test_a_token_file_that_is_cut_while_training_reads_it_is_one_line() -> None:
    (file,) = shards(1)
    with start("train-m2", file, "-m", "m", *TRAINING, "--steps", "1000000") as process:
        while not Path("run/metrics.jsonl").exists() and process.poll() is None:
            time.sleep(0.01)
        os.truncate(file, 100)
        assert process.stderr
        said = process.stderr.read().decode()
    assert process.returncode == 1
    assert re.fullmatch(f"eqinfo: .*/{file}: changed while it was read; found 100 bytes, .*--resume.\n", said)
    assert Path("run/config.json").exists()


# ---- ids of other programs


def foreign(name: str, data: bytes, vocab_size: int) -> Path:
    path = Path(write(name, data))
    token_file.sidecar_path(path).write_text(json.dumps({"vocab_size": vocab_size, "original_bytes": 9999}))
    return path


def test_files_of_llm_c_with_ids_of_32_bits_are_read() -> None:
    header = np.zeros(256, "<i4")
    header[:3] = 20240801, 7, 100
    foreign("llama.bin", header.tobytes() + (np.arange(100) * 1000).astype("<u4").tobytes(), 128_256)
    run("train-m2", "llama.bin", *TRAINING)
    assert json.loads(Path("run/config.json").read_text())["data"]["train"]["tokens"] == 100


@pytest.mark.parametrize(
    ("dtype", "vocab_size", "n", "looks"),
    [
        ("<u2", 100_000, 1000, "uint16"),
        ("<u2", 100_000, 1001, "uint16"),
        ("<u4", 50_257, 1000, "uint32"),
        ("<i8", 100_000, 1000, "uint64"),
    ],
)
def test_ids_of_another_width_are_told_so(dtype: str, vocab_size: int, n: int, looks: str) -> None:
    ids = np.random.default_rng(0).integers(1, 50_000, n).astype(dtype)
    foreign("a.bin", ids.tobytes(), vocab_size)
    _, said = run("train-m2", "a.bin", *TRAINING, status=1)
    assert said == (
        f"eqinfo: a.bin: looks like {looks}; a vocabulary above 65,536 is read as uint32, others as uint16. "
        "Check vocab_size in its sidecar, or write the ids so.\n"
    )
