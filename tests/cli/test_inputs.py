"""Which inputs become which outputs: folders, several inputs to one file, held-out documents, ids alone."""

import contextlib
import gzip
import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from helpers import commands
from helpers.codebooks import make_codebook
from helpers.commands import Shell
from helpers.texts import mixed, prose

from eqinfo.codebook import parse
from eqinfo.codebook.codebook import Codebook
from eqinfo.m1 import corpus
from eqinfo.text.decompression import open_text
from eqinfo.text.hold_out import is_held_out

TEXT = prose(300)
EQINFO = [sys.executable, "-m", "eqinfo"]


@pytest.fixture
def eqi(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    return Shell(model)


def files(folder: str = ".") -> list[str]:
    return sorted(str(path) for path in Path(folder).rglob("*") if path.is_file())


def write(path: str, data: bytes) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(data)


def write_tree() -> dict[str, bytes]:
    tree = {"d/a": TEXT, "d/e/b": b"", "d/e/c.jsonl": b'{"text": "to be"}\n', "d/z": mixed(20)}
    for name, data in tree.items():
        write(name, data)
    return tree


def test_a_folder_above_goes_to_the_folder_named(eqi: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    write("above/a", TEXT)
    write("above/here/b", TEXT)
    monkeypatch.chdir("above/here")
    eqi("compress", "-r", "..", "--output-dir", "out")
    assert files("..") == ["../a", "../here/b", "../here/out/above/a.eqi", "../here/out/above/here/b.eqi"]


def test_no_output_beside_token_ids_replaces_an_input(eqi: Shell) -> None:
    tree = {"a.json": b'{"text": "to be"}\n', "b.valid.jsonl": b'{"text": "or not"}\n'}
    for name, data in tree.items():
        write(name, data)
    eqi("compress", "--tokens", "-f", "a.json", "-o", "a", status=1)
    eqi("compress", "--tokens", "-f", "--hold-out", "50%", *tree, "-o", "b.jsonl", status=1)
    assert {name: Path(name).read_bytes() for name in files()} == tree


def test_json_beside_a_text_does_not_make_it_a_token_file(eqi: Shell) -> None:
    for name, data in (("d/a", TEXT), ("d/a.json", b'{"source": "x"}'), ("d/b", TEXT), ("d/b.json", b"")):
        write(name, data)
    eqi("compress", "-r", "d")
    assert files("d") == [f"d/{name}" for name in (
        "a", "a.eqi", "a.json", "a.json.eqi", "b", "b.eqi", "b.json", "b.json.eqi"
    )]  # fmt: skip
    write("d/a.eqi.json", b'{"vocab_size": 3, "original_bytes": 3}')  # what a file begins with says more
    for words in (["-d", "-c"], ["-t"], ["-l"]):
        eqi(*words, "d/a.eqi")
    for name in ("ids", "ids.bin"):  # a token file has its sidecar whatever its name
        eqi("compress", "--tokens", "d/a", "-o", name)
        assert eqi("-d", "-c", name) == TEXT
    sidecar = json.loads(Path("ids.json").read_text())
    write("ids.json", json.dumps(sidecar, sort_keys=True).encode())
    assert eqi("-d", "-c", "ids") == TEXT
    write("ids.json", json.dumps(sidecar).encode()[:-9])
    eqi("-d", "-c", "ids", status=1)
    assert eqi.err == "eqinfo: ids.json: not JSON, so no sidecar of a token file.\n"
    write("ids.json", b'{"vocab_size": "many", "original_bytes": 3}')
    eqi("-d", "-c", "ids", status=1)
    assert "a number is out of range; want a vocab_size from 2 to 2^32" in eqi.err


def test_names_alone_make_no_outputs_of_files_in_a_folder(eqi: Shell) -> None:
    write("d/a.eqi", TEXT)
    write("d/b.bin", TEXT)
    for name in ("d/b.bin.json", "d/c.bin.json"):
        write(name, b'{"weights": 3}')
    taken = files("d")
    eqi("compress", "-r", "d")
    assert files("d") == sorted([*taken, *(f"{name}.eqi" for name in taken)])
    eqi("compress", "-r", "d", "--skip-existing", "-v")  # a second run takes none of its outputs
    assert files("d") == sorted([*taken, *(f"{name}.eqi" for name in taken)])
    Path("d/a.eqi").unlink()
    eqi("-t", "-r", "d")  # nor ids where there are none


def test_ids_of_other_programs_are_not_passed_over(eqi: Shell) -> None:
    write("d/a.bin", b"\1\0")
    write("d/a.bin.json", b'{"vocab_size": 300, "original_bytes": 4}')
    eqi("compress", "-r", "d")
    assert files("d") == ["d/a.bin", "d/a.bin.eqi", "d/a.bin.json", "d/a.bin.json.eqi"]


def test_input_that_is_not_ready_is_an_error_and_not_the_end(eqi: Shell, model: Path) -> None:
    for words in ("--tokens", "--jsonl", "--tokens --jsonl", ""):
        command = [*EQINFO, "compress", "-m", str(model), *words.split(), "-", "-o", "out"]
        code = (
            "import os, subprocess\n"
            "r, w = os.pipe()\n"
            "os.set_blocking(r, False)\n"
            'os.write(w, b\'{"text": "to be"}\\n\' * 9)\n'
            f"print(subprocess.run({command!r}, stdin=r, stderr=subprocess.STDOUT).returncode)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        assert done.stdout == b"eqinfo: stdin: input is not ready (non-blocking)\n1\n"
        assert files() == []


def test_very_many_inputs_go_to_one_file(eqi: Shell, model: Path) -> None:
    Path("d").mkdir()
    for n in range(5000):
        Path(f"d/{n:04}").touch()
    write("d/z", TEXT)
    Path("m").symlink_to(model)
    command = f"ulimit -s 256; {sys.executable} -m eqinfo compress -m m --tokens -r d -o all.bin"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert eqi("-d", "-c", "all.bin") == TEXT


def test_a_later_input_that_fails_is_named(eqi: Shell) -> None:
    write("a", TEXT)
    eqi("compress", "--tokens", "a", "/proc/self/mem", "-o", "all.bin", status=1)
    assert eqi.err == "eqinfo: /proc/self/mem: Input/output error\n"


def test_stdin_is_no_output_and_a_file_named_dash_is_not_stdin(eqi: Shell, model: Path) -> None:
    write("a", TEXT)
    write("-", b"x")
    Path("-").chmod(0o600)
    os.utime("-", (0, 0))
    Path("m").symlink_to(model)
    command = f"{sys.executable} -m eqinfo compress -m m"
    done = subprocess.run(["bash", "-c", f"{command} -f -o a < a"], capture_output=True, check=False)
    assert done.stderr == b"eqinfo: a: is input and output at once. Name another output.\n"
    subprocess.run(["bash", "-c", f"{command} -o b < a"], check=True)
    assert Path("b").stat().st_mode & 0o77
    assert Path("b").stat().st_mtime > 1e9
    Path("-").unlink()
    write("-/c", b"x")
    subprocess.run(["bash", "-c", f"{command} -r < a > d"], check=True)
    assert eqi("-d", "-c", "d") == TEXT


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("compress -d --tokens a", "--tokens: not with -d or -t"),
        ("compress -d --jsonl --text-field body a", "--text-field: not with -d or -t"),
        ("compress -t --json a", "--json: not with -d or -t"),
        ("compress -l -o b a", "--output: not with -l"),
        ("compress -l --range 0:5 a", "--range: not with -l"),
        ("compress -l --window-bits 12 a", "--window-bits: not with -l"),
        ("compress -t -o b a", "--test: writes nothing: not with an output"),
        ("decompress --test --output-dir b a", "--test: writes nothing: not with an output"),
        ("compress --output-dir b", "--output-dir: stdin has no name for its output; use -o"),
        ("compress --range 0:5 a", "--range: for -d only"),
        ("compress --json a", "--json: for -l only"),
        ("compress --hold-out 1% a", "--hold-out: for --tokens only"),
        ("compress --skip-bad a", "--skip-bad: for --jsonl and --tokens only"),
        ("compress -c -o b a", "-c: not with -o or --output-dir"),
        ("compress -c --output-dir b a", "-c: not with -o or --output-dir"),
        ("decompress -c -o b a", "-c: not with -o or --output-dir"),
        ("decompress --window-bits 12 a", "--window-bits: for --ids only"),
        ("decompress -t --range 0:5 a", "--range: checks a part only: not with --test"),
        ("decompress --range 0:5 a", "--range: a part of the text: name its file with -o, or give -c"),
        ("decompress --range 0:5 --output-dir b a", "--range: a part of the text: name its file with -o"),
        ("compress -c --skip-existing a", "--skip-existing: not with output to stdout"),
        ("decompress -o - --skip-existing a", "--skip-existing: not with output to stdout"),
        ("compress -t --skip-existing a", "--test: writes nothing: not with --skip-existing"),
        ("compress -l --skip-existing a", "--skip-existing: not with -l"),
    ],
)
def test_options_without_effect_are_refused(eqi: Shell, words: str, message: str) -> None:
    write("a", TEXT)
    assert message in commands.run(*words.split(), status=2)[1]
    assert files() == ["a"]


def test_options_of_compressing_are_taken_beside_d_as_tar_gives_them(eqi: Shell) -> None:
    write("a", TEXT)
    eqi("compress", "a")
    found = commands.run(
        "compress", "--window-bits", "14", "--method", "greedy", "-d", "-c", "a.eqi", status=1
    )
    assert "needs a codebook of 12 bits" in found[1]  # of the default model
    assert eqi("compress", "--window-bits", "14", "-d", "-c", "a.eqi") == TEXT


def test_with_skip_existing_a_missing_part_held_out_is_missed(eqi: Shell) -> None:
    write("a.jsonl", b"".join(b'{"text": "%d"}\n' % n for n in range(100)))
    eqi("compress", "--tokens", "a.jsonl")
    eqi("compress", "--tokens", "--skip-existing", "-v", "--hold-out", "20%", "a.jsonl", status=1)
    assert "a.jsonl.bin: exists" in eqi.err
    assert "skipped" not in eqi.err
    eqi("compress", "--tokens", "-f", "--hold-out", "20%", "a.jsonl")
    eqi("compress", "--tokens", "--skip-existing", "--hold-out", "20%", "a.jsonl")


def test_a_name_with_a_full_stop_is_named_in_full(eqi: Shell) -> None:
    write("01. Intro.jsonl", b'{"text": "a"}\nx\n')
    eqi("compress", "--tokens", "--skip-bad", "01. Intro.jsonl")
    assert "the first is 01. Intro.jsonl:2: not a line of JSON" in eqi.err


def test_a_file_of_llm_c_that_was_cut_is_refused(eqi: Shell) -> None:
    write("a", TEXT)
    eqi("compress", "--tokens", "a")
    ids = Path("a.bin").read_bytes()
    header = np.zeros(256, "<i4")
    header[:3] = 20240520, 1, len(ids) // 2
    write("b", header.tobytes() + ids)
    assert eqi("decompress", "-c", "--ids", "b") == TEXT
    write("b", header.tobytes() + ids[:-6])
    eqi("decompress", "--ids", "b", "-o", "c", status=1)
    n = len(ids) // 2
    assert eqi.err == f"eqinfo: b: truncated; found {n - 3} ids, want {n}. Get a complete copy.\n"
    assert not Path("c").exists()
    for size in (8, 9, 1023):
        write("b", header.tobytes()[:size])
        eqi("decompress", "--ids", "b", "-o", "c", status=1)
        assert f"b: truncated; found {size} bytes, want 1024 or more." in eqi.err


def test_a_truncated_stream_gives_the_same_bytes_for_any_number_of_threads(eqi: Shell) -> None:
    write("a", (mixed(20_000) * 30)[: 5 << 20])
    eqi("compress", "a")
    write("b.eqi", Path("a.eqi").read_bytes()[:-100_000])
    found = {eqi("decompress", "-c", "-T", n, "b.eqi", status=1) for n in (1, 2, 3, 8)}
    assert len(found) == 1
    assert len(found.pop()) >= 3 << 20


def test_what_follows_a_stream_gets_no_advice_about_a_file(eqi: Shell) -> None:
    write("a", TEXT)
    eqi("compress", "a")
    write("b.eqi", Path("a.eqi").read_bytes() + b"\x1f\x8b" + bytes(40))
    eqi("decompress", "-c", "b.eqi", status=1)
    assert "b.eqi, stream 1: not an .eqi stream; it begins with" in eqi.err


def test_what_is_passed_over_in_a_folder_is_said(eqi: Shell) -> None:
    write("d/a", TEXT)
    eqi("compress", "d/a", "-o", "d/b.eqi")
    Path("d/to folder").symlink_to("..")
    Path("d/to nothing").symlink_to("nothing")
    Path("d/to itself").symlink_to("to itself")
    os.mkfifo("d/pipe")
    eqi("compress", "-r", "d", "-q")
    assert eqi.err == ""
    eqi("compress", "-f", "-r", "d")
    warnings = [
        "eqinfo: d/pipe: passed over; neither a file nor a folder.",
        "eqinfo: d/to folder: passed over; a link to a folder. Name it to take its files.",
        "eqinfo: d/to itself: passed over; neither a file nor a folder.",
        "eqinfo: d/to nothing: passed over; neither a file nor a folder.",
    ]
    assert eqi.err.splitlines() == warnings
    eqi("compress", "-v", "-f", "-r", "d")
    assert "d/b.eqi: passed over; not an input of this command" in eqi.err.splitlines()
    assert files("d") == ["d/a", "d/a.eqi", "d/b.eqi"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read any folder")
def test_a_folder_that_cannot_be_read_is_an_error_for_a_user(eqi: Shell) -> None:
    write("d/a", TEXT)
    write("d/e/b", TEXT)
    for mode, name in ((0, "d/e"), (0o400, "d/e/b")):
        Path("d/e").chmod(mode)
        eqi("compress", "-f", "-r", "d", status=1)
        Path("d/e").chmod(0o700)
        assert eqi.err == f"eqinfo: {name}: Permission denied\n"
        assert files("d") == ["d/a", "d/a.eqi", "d/e/b"]


def test_a_folder_that_cannot_be_read_is_an_error(eqi: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    write("d/a", TEXT)
    write("d/e/b", TEXT)
    scandir = os.scandir

    def refusing(path: str) -> object:
        if str(path) == "d/e":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    eqi("compress", "-r", "d", status=1)
    assert eqi.err.startswith("eqinfo: d/e: ")
    assert Path("d/a.eqi").exists()
    eqi("compress", "--tokens", "-r", "d", "-o", "all.bin", status=1)
    assert not Path("all.bin").exists()


def test_an_output_without_an_input_is_an_error(eqi: Shell) -> None:
    Path("d").mkdir()
    for words in (["compress"], ["compress", "--tokens"], ["decompress"]):
        eqi(*words, "-r", "d", "-o", "out", status=1)
        assert eqi.err == (
            "eqinfo: d: no file in it for this command.\n"
            "eqinfo: out: not written, as there is no input for it.\n"
        )
        eqi(*words, "-r", "d")
    assert files() == []


def test_sidecars_of_any_token_file_are_passed_over(eqi: Shell) -> None:
    write("d/a", TEXT)
    for name in ("d/train.tok", "d/train.tok", "all.bin"):
        eqi("compress", "--tokens", "-f", "-r", "d", "-o", name)
    assert eqi("-d", "-c", "all.bin") == TEXT


def test_an_impossible_name_does_not_keep_others_from_being_done(eqi: Shell) -> None:
    write("a", TEXT)
    eqi("compress", "x" * 300, "a", status=1)
    assert eqi.err == f"eqinfo: {'x' * 300}: File name too long\n"
    assert eqi("-d", "-c", "a.eqi") == TEXT


def test_a_link_to_an_input_is_no_output(eqi: Shell) -> None:
    write("a", TEXT)
    Path("b").hardlink_to("a")
    Path("c").symlink_to("a")
    for name in ("b", "c", "./a"):
        eqi("compress", "-f", "a", "-o", name, status=1)
        assert "is input and output at once" in eqi.err
    assert Path("a").read_bytes() == TEXT


def test_an_input_that_stdout_writes_to_is_refused_and_others_are_done(eqi: Shell, model: Path) -> None:
    write("d/a", TEXT)
    Path("m").symlink_to(model)
    run = f"{sys.executable} -m eqinfo"
    for script, name in (
        (f"{run} compress -m m -r -c d > d/all", "d/all"),
        (f"cp d/a d/b; {run} compress -m m -c d/b d/a >> d/b", "d/b"),
        (f"{run} compress -m m -c d/a > d/s; {run} -d -m m -c d/s d/a.eqi >> d/s", "d/s"),
        (f"cp d/a d/b; {run} compress -m m < d/b >> d/b", "stdin"),
    ):
        eqi("compress", "-f", "d/a")
        done = subprocess.run(["bash", "-c", script], capture_output=True, check=False, timeout=600)
        assert done.stderr.decode() == f"eqinfo: {name}: is input and output at once. Name another output.\n"
        assert done.returncode == 1
        for path in Path("d").iterdir():  # none grew without end
            assert path.stat().st_size < 3 * len(TEXT)
    assert eqi("-d", "-c", "d/all") == TEXT


def test_a_folder_for_outputs_needs_inputs_with_names(eqi: Shell) -> None:
    for name in (".", "/", ".."):
        for command in ("compress", "-d"):
            eqi(command, name, "--output-dir", "out", status=1)
            assert eqi.err in (f"eqinfo: {name}: Is a directory\n", f"eqinfo: {name}: unknown suffix; "
                               "want .eqi. Name the output with -o.\n")  # fmt: skip
    assert files() == []


def test_ids_of_a_compressed_text_go_back_to_the_text(eqi: Shell) -> None:
    write("a.gz", gzip.compress(TEXT))
    eqi("compress", "--tokens", "a.gz")
    eqi("compress", "a.gz")
    Path("a.gz").unlink()
    eqi("decompress", "a.gz.bin", "a.gz.eqi")
    assert Path("a").read_bytes() == TEXT
    assert gzip.decompress(Path("a.gz").read_bytes()) == TEXT  # a stream is that of the bytes as they are


def test_documents_under_the_name_of_jsonl_are_restored_as_jsonl_only(eqi: Shell) -> None:
    lines = b'{"text": "to be"}\n{"text": "or not"}\n'
    for name in ("a.jsonl", "b.ndjson", "c.jsonl.gz"):
        write(name, gzip.compress(lines) if name.endswith(".gz") else lines)
        eqi("compress", "--tokens", name)
        Path(name).unlink()
        plain = name.removesuffix(".gz")
        eqi("decompress", f"{name}.bin", status=1)
        assert eqi.err == (
            f"eqinfo: {name}.bin: {plain} would be plain text. Give --jsonl, or another name with -o.\n"
        )
        assert not Path(plain).exists()
        assert eqi("decompress", "-c", f"{name}.bin") == b"to beor not"
        eqi("decompress", "--jsonl", f"{name}.bin")
        assert Path(plain).read_bytes() == lines
        eqi("compress", plain)  # the bytes as they are
        Path(plain).unlink()
        eqi("decompress", f"{plain}.eqi")
        assert Path(plain).read_bytes() == lines
        eqi("compress", "-f", "--jsonl", plain)
        eqi("decompress", "-f", f"{plain}.eqi", status=1)
        eqi("decompress", "-f", "--jsonl", f"{plain}.eqi")
        assert Path(plain).read_bytes() == lines


def test_with_f_no_output_replaces_an_input_or_another_output(eqi: Shell) -> None:
    for name in ("a", "a.bin.json", "a.valid", "b", "b.eqi"):
        write(name, b"".join(b"%d\n" % n for n in range(50_000)))
    eqi("compress", "--tokens", "-f", "a", "a.bin.json", status=1)
    assert eqi.err == "eqinfo: a.bin.json: is input and output at once. Name another output.\n"
    eqi("compress", "--tokens", "--hold-out", "40%", "-f", "a", "a.valid", status=1)
    assert eqi.err == "eqinfo: a.valid.bin: the output for another input too. Name another with -o.\n"
    eqi("compress", "-f", "b", "b.eqi", status=1)
    assert eqi.err == "eqinfo: b.eqi: is input and output at once. Name another output.\n"
    eqi("compress", "-f", "b")
    eqi("compress", "-f", "a", "-o", "b.bin")
    eqi("-d", "-f", "b.eqi", "b.bin", status=1)
    assert eqi.err == "eqinfo: b: the output for another input too. Name another with -o.\n"


def test_a_folder_in_the_place_of_an_output_is_refused_before_anything_is_written(eqi: Shell) -> None:
    write("a", TEXT)
    Path("ids").mkdir()
    for before in ([], ["ids.json"]):
        for name in before:
            write(name, b"precious")
        eqi("compress", "--tokens", "-f", "a", "-o", "ids", status=1)
        assert eqi.err == "eqinfo: ids: Is a directory\n"
        assert files() == ["a", *before]
    assert Path("ids.json").read_bytes() == b"precious"


def test_a_folder_for_outputs_is_made_when_there_is_one(eqi: Shell) -> None:
    for words in ([], ["--tokens"]):
        eqi("compress", *words, "missing", "--output-dir", "out/put", status=1)
    assert not Path("out").exists()
    write("a", TEXT)
    write("file", b"")
    eqi("compress", "a", "--output-dir", "file", status=1)
    assert eqi.err == "eqinfo: file: not a folder. Name another with --output-dir.\n"


def test_token_ids_are_not_read_as_text(eqi: Shell, model: Path) -> None:
    write("a", TEXT)
    eqi("compress", "--tokens", "a")
    advice = "eqinfo: a.bin: token ids, not text. Try: eqinfo decompress -c a.bin | eqinfo ... -\n"
    eqi("compress", "--tokens", "a.bin", status=1)
    assert eqi.err == advice
    assert commands.run("train-m1", "a.bin", "-o", "m1", status=1)[1] == advice
    assert commands.run("eval", model, "--show", "--text", "a.bin", status=1)[1] == advice
    eqi("compress", "a.bin", "-o", "bytes.eqi")  # bytes as they are, as of any file
    assert eqi("-d", "-c", "bytes.eqi") == Path("a.bin").read_bytes()


def test_an_empty_name_is_no_folder(eqi: Shell) -> None:
    write("a", TEXT)
    for words in (
        ["compress", "-r", ""],
        ["compress", "-m", "", "a"],
        ["compress", "--output-dir", "", "a"],
        ["train-m1", "a", "-o", ""],
        ["train-m2", "a", "-o", ""],
        ["train-m2", "", "-o", "b"],
        ["train-m2", "a", "--valid", "", "-o", "b"],
    ):
        assert "an empty name. Is a variable of the shell not set?" in commands.run(*words, status=2)[1]
    assert files() == ["a"]


def test_listings_take_the_files_in_folders(eqi: Shell) -> None:
    write_tree()
    eqi("compress", "-r", "d")
    eqi("-l", "--json", "-r", "d")
    assert [json.loads(line)["file"] for line in eqi.out.splitlines()] == [
        f"d/{name}.eqi" for name in ("a", "e/b", "e/c.jsonl", "z")
    ]
    eqi("-l", "-m", "typo", "-r", "d", status=1)
    assert eqi.err.startswith("eqinfo: typo: no such codebook.")


def test_folders_go_to_a_folder_and_back(eqi: Shell) -> None:
    tree = write_tree()
    eqi("compress", "-r", "d", "--output-dir", "out")
    assert files("out") == [f"out/{name}.eqi" for name in tree]
    eqi("decompress", "-r", "out/d", "--output-dir", "back")
    assert {name: Path("back", name).read_bytes() for name in tree} == tree
    eqi("-d", "-r", "out/d", "--output-dir", "again")
    assert len(files("again")) == len(tree)


def test_without_r_a_folder_is_refused(eqi: Shell) -> None:
    write_tree()
    eqi("compress", "d", status=1)
    assert eqi.err == "eqinfo: d: Is a directory\n"


def test_a_second_run_over_a_folder_does_what_is_new(eqi: Shell) -> None:
    tree = write_tree()
    eqi("compress", "-r", "d")
    eqi("compress", "-r", "d", "--tokens")
    before = files()
    assert len(before) == 4 * len(tree)
    eqi("compress", "-r", "d", status=1)
    assert "exists already" in eqi.err
    write("d/new", TEXT)
    for words in (["-r", "d"], ["--tokens", "-r", "d"]):
        eqi("compress", "-v", "--skip-existing", *words)
        assert "d/a: skipped; d/a." in eqi.err
    assert sorted({*files()} - {*before}) == ["d/new", "d/new.bin", "d/new.bin.json", "d/new.eqi"]
    eqi("decompress", "--skip-existing", "d/new.eqi")
    assert eqi.err == ""


def test_two_inputs_with_one_place_in_the_output_folder_are_refused(eqi: Shell) -> None:
    write("a/t", TEXT)
    write("b/t", TEXT)
    eqi("compress", "a/t", "b/t", "--output-dir", "out", status=2)
    assert "one output for a/t and b/t" in eqi.err
    eqi("compress", "a/t", "-o", "x", "--output-dir", "out", status=2)
    assert files() == ["a/t", "b/t"]
    eqi("compress", "-r", "a", "b", "--output-dir", "out")
    assert files("out") == ["out/a/t.eqi", "out/b/t.eqi"]


def test_several_inputs_go_to_one_token_file_each_a_document(eqi: Shell) -> None:
    tree = write_tree()
    eqi("compress", "--tokens", "-v", "d/a", "d/e/c.jsonl", "-", "-o", "all.bin", stdin=b"or not")
    facts = json.loads(Path("all.bin.json").read_bytes())
    assert facts["documents"] == 3
    assert eqi.err.startswith(f"all.bin: {facts['tokens']} tokens, 3 documents, {len(TEXT) + 11} bytes, ")
    assert eqi("decompress", "-c", "all.bin") == TEXT + b"to be" + b"or not"
    eqi("compress", "--tokens", "-r", "d", "-o", "tree.bin")
    assert eqi("decompress", "-c", "tree.bin") == TEXT + b"to be" + tree["d/z"]


def test_a_file_of_several_inputs_has_the_mode_and_time_of_none(eqi: Shell) -> None:
    for name in ("a", "b"):
        write(name, TEXT)
        Path(name).chmod(0o400)
        os.utime(name, (1e9, 1e9))
    eqi("compress", "--tokens", "a", "-o", "one.bin")
    eqi("compress", "--tokens", "a", "b", "-o", "two.bin")
    one, two = (Path(name).stat() for name in ("one.bin", "two.bin"))
    assert (one.st_mode & 0o777, one.st_mtime) == (0o400, 1e9)
    assert two.st_mode & 0o600 == 0o600
    assert two.st_mtime > 1e9


def test_ids_appear_after_their_sidecar_and_what_is_left_of_a_killed_run_is_replaced(
    eqi: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("a", TEXT * 9)
    replace, done = Path.replace, list[str]()

    def killed(path: Path, target: Path) -> Path:
        if len(done) == kill_at:
            raise SystemError("killed")
        done.append(Path(target).name)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", killed)
    for kill_at in (1, 9):
        done.clear()
        eqi.err = ""
        with contextlib.suppress(SystemError):
            eqi("compress", "--tokens", "--skip-existing", "a")
        assert done == ["a.bin.json", "a.bin"][:kill_at]
    assert eqi("-d", "-c", "a.bin") == TEXT * 9
    done.clear()
    write("b", b"".join(b"%d\n" % n for n in range(50_000)))
    eqi("compress", "--tokens", "--hold-out", "50%", "b")
    assert done == ["b.valid.bin.json", "b.valid.bin", "b.bin.json", "b.bin"]


def test_a_bad_input_among_several_leaves_no_token_file(eqi: Shell) -> None:
    write_tree()
    eqi("compress", "--tokens", "d/a", "missing", "-o", "all.bin", status=1)
    assert eqi.err == "eqinfo: missing: No such file or directory\n"
    eqi("compress", "--tokens", "-f", "d/a", "d/z", "-o", "d/z", status=1)
    assert "is input and output at once" in eqi.err
    assert files("d") == files()


def test_documents_are_held_out_by_their_checksums_as_train_m1_does(eqi: Shell, tmp_path: Path) -> None:
    texts = [f"document {n}: {'x' * (n % 50)}" for n in range(2000)]
    write("t.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in texts).encode())
    eqi("compress", "--tokens", "--hold-out", "1%", "t.jsonl")
    kept, held = (
        [json.loads(line)["text"] for line in eqi("decompress", "--jsonl", "-c", name).splitlines()]
        for name in ("t.jsonl.bin", "t.jsonl.valid.bin")
    )
    assert 5 < len(held) < 60
    assert kept == [text for text in texts if text not in held]
    with open_text(Path("t.jsonl")) as source:
        corpus.stage([("t.jsonl", source)], tmp_path / "corpus", "text")
    _, of_m1, _ = corpus.load(tmp_path / "corpus")  # a few per cent of them in another shape
    found = of_m1.data.tobytes().decode().lower().split("document ")[1:]
    assert found == [text.removeprefix("document ") for text in held]


def test_long_documents_are_held_out_in_part_and_all_text_is_in_one_of_the_files(eqi: Shell) -> None:
    text = prose(100_000)
    write("t", text)
    eqi("compress", "--tokens", "--hold-out", "0.5", "t", "-o", "a.bin")
    parts = [eqi("decompress", "-c", name) for name in ("a.bin", "a.valid.bin")]
    assert sum(map(len, parts)) == len(text)
    assert all(len(part) > 1 << 15 for part in parts)
    assert all(text[i : i + 500] in part for part in parts for i in [text.index(part[-500:])])


@pytest.mark.parametrize(
    "share", ["1/3", "40%", "0.125", "0.3333333333333333", "33.333333333%", "0.499999999", "0.142857"]
)
def test_about_the_share_that_is_named_is_held_out(eqi: Shell, share: str) -> None:
    n_texts = 20_000
    write("t.jsonl", b"".join(b'{"text": "%d"}\n' % n for n in range(n_texts)))
    eqi("compress", "--tokens", "--hold-out", share, "t.jsonl")
    n_held = json.loads(Path("t.jsonl.valid.bin.json").read_text())["documents"]
    named = {"1/3": 1 / 3, "40%": 0.4, "33.333333333%": 1 / 3}.get(share) or float(share)
    assert abs(n_held / n_texts - named) < 0.015  # four standard deviations


def test_empty_documents_are_not_held_out(eqi: Shell) -> None:
    write("t.jsonl", b'{"text": ""}\n' * 99 + b"".join(b'{"text": "%d"}\n' % n for n in range(9)))
    eqi("compress", "--tokens", "--hold-out", "50%", "t.jsonl")
    held = eqi("decompress", "--jsonl", "-c", "t.jsonl.valid.bin").splitlines()
    assert 0 < len(held) < 9
    assert b'{"text": ""}' not in held


@pytest.mark.parametrize(
    "share",
    ["0", "60%", "x", "-1%", "1e400", "1/0", "1e-999999999", "1e999999999", "1e-9", "nan", "inf"],
)
def test_shares_that_are_none_are_refused(eqi: Shell, share: str) -> None:
    write("t", TEXT)
    eqi("compress", "--tokens", "--hold-out", share, "t", status=2)
    assert "want a share from 0.0001% to 50%" in eqi.err


def test_a_share_without_a_document_is_refused_and_nothing_is_left(eqi: Shell) -> None:
    write("t", b"to be")
    eqi("compress", "--tokens", "--hold-out", "1%", "t", status=2)
    assert eqi.err == (
        "eqinfo: --hold-out: the share holds no document of t. Give more text or another share. "
        "With -o all inputs go to one file.\n"
    )
    eqi("compress", "--hold-out", "1%", "t", status=2)
    write("t", next(b"%d" % n for n in range(99) if is_held_out(b"%d" % n, Fraction(1, 2))))
    eqi("compress", "--tokens", "--hold-out", "50%", "t", "-o", "ids", status=2)
    assert eqi.err == (
        "eqinfo: --hold-out: the share holds every document of t. Give more text or another share.\n"
    )
    assert files() == ["t"]


# ---- ids alone


def ids_of(codebook: Codebook, text: bytes = TEXT) -> bytes:
    return parse.encode(codebook, text, [len(text)]).astype("<u2").tobytes()


def test_ids_alone_come_back(eqi: Shell, codebook: Codebook) -> None:
    write("ids.bin", ids_of(codebook))
    assert eqi("decompress", "--ids", "-c", "ids.bin") == TEXT
    assert eqi("decompress", "--ids", stdin=ids_of(codebook)) == TEXT
    eqi("decompress", "--ids", "ids.bin")
    assert Path("ids").read_bytes() == TEXT
    assert json.loads(eqi("decompress", "--ids", "--jsonl", "-c", "ids.bin"))["text"] == TEXT.decode()
    header = np.zeros(256, "<i4")
    header[:3] = 20240520, 1, 5
    assert eqi("decompress", "--ids", stdin=header.tobytes() + ids_of(codebook)) == TEXT


@pytest.mark.parametrize(("vocab_size", "dtype"), [(4096, "<u2"), (100_000, "<u4")])
def test_the_sidecar_of_two_numbers_says_how_wide_ids_are(
    eqi: Shell, codebook: Codebook, vocab_size: int, dtype: str
) -> None:
    write("ids.bin", parse.encode(codebook, TEXT).astype(dtype).tobytes())
    write("ids.bin.json", json.dumps({"vocab_size": vocab_size, "original_bytes": len(TEXT)}).encode())
    assert eqi("decompress", "--ids", "-c", "ids.bin") == TEXT
    eqi("decompress", "-c", "ids.bin", status=1)
    assert eqi.err == "eqinfo: ids.bin: ids of another program. Give --ids, and their model with -m.\n"


def test_ids_alone_are_found_in_folders_and_streams_are_none(eqi: Shell, codebook: Codebook) -> None:
    write("d/a.bin", ids_of(codebook))
    write("d/b.txt", TEXT)
    eqi("decompress", "--ids", "-r", "d")
    assert Path("d/a").read_bytes() == TEXT
    eqi("compress", "d/b.txt", "-o", "s.bin")
    eqi("decompress", "--ids", "-c", "s.bin", status=1)
    assert eqi.err == "eqinfo: s.bin: an .eqi stream, not token ids. Omit --ids.\n"


def test_ids_are_not_read_with_another_codebook_than_their_sidecar_names(eqi: Shell) -> None:
    write("a", TEXT)
    eqi("compress", "--tokens", "a")
    assert eqi("decompress", "--ids", "-c", "a.bin") == TEXT
    other = Shell(Path("other.eqcb"))
    write("other.eqcb", make_codebook(12, n_windows=600).to_bytes())
    other("decompress", "--ids", "-c", "a.bin", status=1)
    assert other.out == b""
    assert "a.bin: needs a codebook of 12 bits with fingerprint" in other.err
    write("a.bin.json", b"{}")  # a damaged sidecar does not keep anyone from the ids
    assert eqi("decompress", "--ids", "-c", "a.bin") == TEXT


def test_what_is_wrong_with_ids_is_named_by_place(eqi: Shell, codebook: Codebook) -> None:
    ids = np.zeros(100_000, "<u2")
    ids[99_999] = len(codebook.windows)
    eqi("decompress", "--ids", stdin=ids.tobytes(), status=1)
    assert eqi.err == (
        "eqinfo: stdin: id 4096 at position 99999 is not in the codebook; want 0 to 4095. "
        "Name the model that the ids are of (-m).\n"
    )
    eqi("decompress", "--ids", stdin=b"abc", status=1)
    assert eqi.err == "eqinfo: stdin: ends inside an id of 2 bytes. Get a complete copy.\n"
    eqi("decompress", "--ids", "--window-bits", "14", stdin=b"ab", status=2)
    assert "--window-bits: found 14" in eqi.err


def test_a_token_file_without_its_sidecar_is_called_that(eqi: Shell, codebook: Codebook) -> None:
    write("ids.bin", ids_of(codebook))
    eqi("decompress", "ids.bin", status=1)
    assert eqi.err == (
        "eqinfo: ids.bin: its sidecar ids.bin.json is missing. For ids alone give --ids and -m.\n"
    )
