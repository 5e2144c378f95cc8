"""Outputs that are not plain files in a friendly file system, and names that look like something else."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.texts import prose
from launch import can_mount, mounted, refusing

import eqinfo
from eqinfo.cli import inputs, options

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(eqinfo.__file__).parents[1])}
COMMAND = [sys.executable, "-m", "eqinfo"]
TEXT = prose(100)
has_compiler = pytest.mark.skipif(
    shutil.which("cc") is None or sys.platform != "linux", reason="needs a C compiler, and Linux"
)
is_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a text and a model."""
    (tmp_path / "m").symlink_to(model)
    (tmp_path / "a").write_bytes(TEXT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: object, status: int = 0, **options: object) -> subprocess.CompletedProcess[bytes]:
    """Run a command with the model."""
    command = [*COMMAND, str(words[0]), "-m", "m", *map(str, words[1:])]
    settings = {"env": ENVIRONMENT, "capture_output": True, "timeout": 600, **options}
    done = subprocess.run(command, **settings)  # type: ignore[call-overload]
    assert done.returncode == status, done.stderr
    return done  # type: ignore[no-any-return]


def shell(script: str) -> bytes:
    """What a script prints; `eqinfo` in it is the program."""
    words = f'eqinfo() {{ {sys.executable} -m eqinfo "$@"; }}\n{script}'
    done = subprocess.run(["bash", "-c", words], env=ENVIRONMENT, capture_output=True, timeout=600)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def names() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


# ---- courtesies that a system refuses


@has_compiler
def test_a_file_system_without_modes_times_and_owners_keeps_the_output(folder: Path) -> None:
    calls = ("chmod", "fchmod", "fchmodat", "utimensat", "futimens", "utimes", "chown", "fchown", "fchownat")
    environment = ENVIRONMENT | refusing(folder, "EPERM", *calls)
    Path("a").chmod(0o640)
    assert run("compress", "a", env=environment).stderr == b""
    words = run("compress", "-vf", "a", env=environment).stderr.decode().splitlines()
    assert "eqinfo: a.eqi: does not have the times of its input (Operation not permitted)." in words
    assert run("decompress", "-c", "a.eqi").stdout == TEXT
    assert stat.S_IMODE(Path("a.eqi").stat().st_mode) & 0o137 == 0  # no more than that of the input


@has_compiler
@pytest.mark.parametrize("verbose", ["-q", "-v"])
def test_a_file_that_cannot_be_renamed_over_is_written_in_place(folder: Path, verbose: str) -> None:
    Path("b").write_bytes(b"longer than the output " * 1000)
    number = Path("b").stat().st_ino
    done = run(
        "compress", verbose, "-f", "a", "-o", "b", env=ENVIRONMENT | refusing(folder, "EBUSY", "rename")
    )
    told = b"eqinfo: b: written in place, as renaming is refused (Device or resource busy).\n"
    assert (told in done.stderr) == (verbose == "-v")
    assert Path("b").stat().st_ino == number
    assert run("decompress", "-c", "b").stdout == TEXT
    assert names() == ["a", "b", "m", "refusing.so"]


def test_a_single_file_of_a_container_is_written(folder: Path) -> None:
    Path("of the host").write_bytes(b"")
    Path("b").write_bytes(b"")
    if not can_mount(folder / "mount"):
        pytest.skip("cannot mount here")
    (folder / "mount").rmdir()
    with mounted(folder / "b", "--bind", str(folder / "of the host")):
        run("compress", "-f", "a", "-o", "b")
    assert run("decompress", "-c", "of the host").stdout == TEXT
    assert names() == ["a", "b", "m", "of the host"]


@is_root
def test_root_gives_an_output_the_owner_and_group_of_its_input() -> None:
    os.chown("a", 12345, 23456)
    run("compress", "a")
    found = Path("a.eqi").stat()
    assert (found.st_uid, found.st_gid) == (12345, 23456)


# ---- outputs that are written to, never replaced


def test_a_descriptor_is_written_to_and_what_others_wrote_stays() -> None:
    stream = run("compress", "-c", "a").stdout
    assert shell("(echo head; eqinfo compress -m m a -o /dev/stdout; echo tail) > out; cat out") == (
        b"head\n" + stream + b"tail\n"
    )
    assert (
        shell("echo head > log; eqinfo compress -m m a -f -o /dev/fd/1 >> log; cat log") == b"head\n" + stream
    )
    assert shell("eqinfo compress -m m a -o /dev/fd/7 7> seven; cat seven") == stream
    Path("link").symlink_to("/dev/stdout")
    assert shell("(echo head; eqinfo compress -m m a -o link) > out; cat out") == b"head\n" + stream
    assert Path("link").is_symlink()


def test_a_pipe_stays_a_pipe() -> None:
    os.mkfifo("pipe")
    assert shell("cat pipe & eqinfo compress -m m a -f -o pipe; wait") == run("compress", "-c", "a").stdout
    assert Path("pipe").is_fifo()


def test_a_descriptor_that_is_not_open_is_one_line() -> None:
    assert (
        run("compress", "a", "-o", "/dev/fd/77", status=1).stderr
        == b"eqinfo: /dev/fd/77: Bad file descriptor\n"
    )


def test_token_files_do_not_go_to_descriptors() -> None:
    done = run("compress", "--tokens", "a", "-o", "/dev/stdout", status=2)
    assert done.stderr.startswith(b"eqinfo: --tokens: the ids need a file")


def test_devices_and_descriptors_take_several_inputs_and_pipes_and_files_do_not() -> None:
    assert run("compress", "a", "a", "-o", os.devnull).stderr == b""
    stream = run("compress", "-c", "a", "a").stdout
    assert run("compress", "a", "a", "-o", "/dev/stdout").stdout == stream
    assert run("compress", "a", "a", "-o", "-").stdout == stream
    os.mkfifo("pipe")
    for output in ("pipe", "file"):
        assert b"one output for 2 inputs" in run("compress", "a", "a", "-o", output, status=2).stderr


# ---- names


def test_a_slash_at_the_end_names_a_folder() -> None:
    assert b"new/: no such folder" in run("compress", "a", "-o", "new/", status=2).stderr
    assert b"a/: no such folder" in run("compress", "a/", status=2).stderr
    Path("there").mkdir()
    assert run("compress", "a", "-o", "there/", status=1).stderr == b"eqinfo: there: Is a directory\n"
    assert names() == ["a", "m", "there"]


def test_a_dash_in_a_folder_is_a_file() -> None:
    Path("-").write_bytes(TEXT)
    assert run("compress", "./-", input=b"stdin").stdout == b""
    assert names() == ["-", "-.eqi", "a", "m"]
    Path("-").unlink()
    assert run("decompress", "./-.eqi").stdout == b""
    assert Path("./-").read_bytes() == TEXT
    assert run("compress", "a", "-o", "./-", "-f").stdout == b""
    assert Path("./-").read_bytes() == Path("-.eqi").read_bytes()


# ---- inputs that change


@pytest.mark.parametrize("words", [["-c"], ["-qc"]])
def test_an_input_that_gets_shorter_gives_a_sound_stream_and_a_warning(words: list[str]) -> None:
    noise, size = os.urandom(16 << 20), 12 << 20
    Path("big").write_bytes(noise)
    command = [*COMMAND, "compress", "-m", "m", "big", *words]
    with subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        begin = process.stdout.read(100)  # of the first frame; then it waits for its reader
        os.truncate("big", size)
        stream, told = begin + process.stdout.read(), process.stderr.read()  # type: ignore[union-attr]
    assert process.returncode == 0
    assert run("decompress", input=stream).stdout == noise[:size]
    want = f"eqinfo: big: got shorter while it was read; found {size} bytes, want {len(noise)}.\n"
    assert told.decode() == ("" if "q" in words[0] else want)


def test_a_training_text_that_gets_shorter_is_warned_of(capfd: pytest.CaptureFixture[str]) -> None:
    Path("a").write_bytes(os.urandom(1 << 20))
    options.set_quiet(False)
    for name, source in inputs.open_texts([Path("a")]):
        source.read(1)
        os.truncate(name, 1 << 19)
        source.read()
    want = f"eqinfo: a: got shorter while it was read; found {1 << 19} bytes, want {1 << 20}.\n"
    assert capfd.readouterr().err == want
