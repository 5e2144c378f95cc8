"""The commands as a shell runs them: real processes, pipes, signals and full disks."""

import fcntl
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import pytest
from helpers.signalling import heard
from helpers.terminals import received
from helpers.texts import mixed, prose

import eqinfo

TEXT = mixed(500)
EQINFO = f"{sys.executable} -m eqinfo"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(eqinfo.__file__).parents[1])}  # installed or not


@pytest.fixture
def folder(model: Path, tmp_path: Path) -> Path:
    """A folder to run in, with a model `m` and a text `book`."""
    (tmp_path / "m").symlink_to(model)
    (tmp_path / "book").write_bytes(TEXT)
    return tmp_path


def shell(folder: Path, script: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """What a script does; `eqinfo` in it is ours, and it fails if any part of a pipe fails."""
    script = f'set -o pipefail; eqinfo() {{ {EQINFO} "$@"; }}\n{script}'
    command = ["bash", "-c", script]
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, input=stdin, capture_output=True, timeout=600)


Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Starts commands to be talked to through their pipes; one that hangs is killed, and its test fails."""
    with ExitStack() as stack:

        def started(*arguments: str, **streams: int) -> subprocess.Popen[bytes]:
            everything = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            process = subprocess.Popen(
                [sys.executable, "-m", "eqinfo", *arguments],
                cwd=folder,
                env=ENVIRONMENT,
                **everything | streams,
            )
            stack.enter_context(process)
            watchdog = threading.Timer(600, process.kill)
            stack.callback(watchdog.join)
            stack.callback(watchdog.cancel)
            stack.callback(process.kill)
            watchdog.start()
            return process

        yield started


def pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
    assert process.stdin
    assert process.stdout
    assert process.stderr
    return process.stdin, process.stdout, process.stderr


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_pipe_gives_back_what_went_in(folder: Path) -> None:
    done = shell(folder, "eqinfo compress -m m | eqinfo decompress -m m", stdin=TEXT)
    assert (done.returncode, done.stdout, done.stderr) == (0, TEXT, b"")


def test_streams_can_be_joined_with_cat(folder: Path) -> None:
    script = "eqinfo compress -m m book && cat book.eqi book.eqi | eqinfo decompress -m m -T 2"
    assert shell(folder, script).stdout == TEXT * 2


def test_live_streams_go_through_pipes_and_join(live_model: Path, folder: Path) -> None:
    (folder / "m").unlink()
    (folder / "m").symlink_to(live_model)
    (folder / "short").write_bytes(TEXT[:2000])
    script = (
        "for bits in 12 24 64 ac; do eqinfo compress -m m --window-bits $bits < short; done | "
        "tee all.eqi | eqinfo decompress -m m -T 2"
    )
    done = shell(folder, script)
    assert (done.returncode, done.stdout, done.stderr) == (0, TEXT[:2000] * 4, b"")
    done = shell(folder, "eqinfo decompress -m m -c --range 1990:6010 all.eqi")
    assert done.stdout == (TEXT[:2000] * 4)[1990:6010]


def test_live_documents_go_through_pipes(live_model: Path, folder: Path) -> None:
    (folder / "live").symlink_to(live_model)
    lines = b"".join(json.dumps({"text": text}).encode() + b"\n" for text in ("to be", "", "or\nnot", ""))
    for bits in ("24", "ac"):
        script = f"eqinfo compress -m live --jsonl --window-bits {bits} | eqinfo decompress -m live --jsonl"
        done = shell(folder, script, stdin=lines)
        assert (done.returncode, done.stdout, done.stderr) == (0, lines, b"")


LOOKS_BINARY = b"eqinfo: NAME: read as plain text, though it looks binary (it has a zero byte).\n"


def test_a_run_on_live_tokens_carries_its_m1_and_is_measured(live_model: Path, folder: Path) -> None:
    (folder / "m").unlink()
    (folder / "m").symlink_to(live_model)
    (folder / "held").write_bytes(prose(100, seed=7))
    small = "--preset nano --block-size 32 --batch-tokens 256 --steps 4 --token-bits 8 -q"
    script = (
        "eqinfo compress --tokens --window-bits 32 -m m book -o ids.bin"
        " && eqinfo compress --tokens --window-bits 32 -m m held -o held.bin"
        " && eqinfo decompress -m m -c ids.bin | cmp - book"
        f" && eqinfo train-m2 ids.bin -m m -o run {small}"
        " && eqinfo eval run --text held --json > of_text && eqinfo eval run --text held.bin --json > of_ids"
    )
    done = shell(folder, script)
    assert (done.returncode, done.stdout) == (0, b""), done.stderr
    assert done.stderr == LOOKS_BINARY.replace(b"NAME", b"book")
    assert files(folder / "run") == ["checkpoint.pt", "config.json", "m1.eqm1", "m2.pt", "metrics.jsonl"]
    assert (folder / "run" / "m1.eqm1").read_bytes() == (live_model / "m1.eqm1").read_bytes()
    rows = [json.loads((folder / name).read_bytes())["m2"][0] for name in ("of_text", "of_ids")]
    assert 0 < rows[0]["bits_per_byte"] < 12
    assert rows[0]["bits_per_byte"] == rows[1]["bits_per_byte"]
    assert rows[0]["vocab_size"] == 256
    assert rows[0]["generation_bytes_per_s"] is None  # the tokens are no byte strings


def test_slow_short_writes_change_nothing(folder: Path) -> None:
    whole = shell(folder, "eqinfo compress -m m", stdin=TEXT).stdout
    slow = "(head -c 1; sleep 0.1; head -c 777; sleep 0.1; cat) < book | eqinfo compress -m m"
    assert shell(folder, slow).stdout == whole


def test_output_starts_before_input_ends(start: Start) -> None:
    frame = (TEXT * 1000)[: 1 << 20]
    process = start("compress", "-m", "m")
    to_it, from_it, _ = pipes(process)
    to_it.write(frame)
    to_it.flush()
    first = from_it.read(100_000)  # would wait for ever if frames were held back
    assert process.poll() is None
    to_it.write(b"the end")
    to_it.close()
    rest = from_it.read()
    back = start("decompress", "-m", "m")
    to_it, from_it, _ = pipes(back)
    to_it.write(first + rest[:-20])
    to_it.flush()
    assert from_it.read(len(frame)) == frame
    to_it.write(rest[-20:])
    to_it.close()
    assert from_it.read() == b"the end"
    assert (process.wait(), back.wait()) == (0, 0)


def test_a_reader_that_goes_away_ends_it_quietly(folder: Path) -> None:
    script = "eqinfo compress -m m < /dev/zero | head -c 10 | wc -c; echo ${PIPESTATUS[0]}"
    done = shell(folder, script)
    assert done.stdout.split() == [b"10", b"141"]  # 128 + SIGPIPE, as cat
    assert done.stderr == b""


def test_noise_goes_through(folder: Path) -> None:
    noise = os.urandom(3_000_000)
    done = shell(folder, "eqinfo compress -m m -T 2 | eqinfo decompress -m m -T 2", stdin=noise)
    assert done.returncode == 0
    assert done.stdout == noise


def test_signals_leave_no_output_and_end_the_process(folder: Path, start: Start) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGXCPU):
        with heard(number):
            process = start("compress", "-m", "m", "-o", "out.eqi")
        to_it, _, _ = pipes(process)
        to_it.write(b"\0" * (2 << 20))
        to_it.flush()
        while not list(folder.glob(".eqinfo-*")) and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(number)
        _, message = process.communicate()
        assert process.returncode == -number
        assert message == b""
        assert files(folder) == ["book", "m"]


def test_a_signal_between_two_reads_of_a_pipe_is_heard_before_the_next(start: Start) -> None:
    with heard(signal.SIGINT):
        process = start("compress", "-m", "m", "-o", "out.eqi")
    to_it, _, _ = pipes(process)
    to_it.write(bytes(1 << 19))  # less than it wants: it reads in pieces, and waits for more
    to_it.flush()
    while fcntl.ioctl(to_it, termios.FIONREAD, bytes(4)) != bytes(4) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)  # as if it had no time
    to_it.write(b"piece")
    to_it.flush()
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    assert process.wait(20) == -signal.SIGINT


def test_ctrl_c_ends_a_loop_of_the_shell(folder: Path) -> None:
    script = f"for n in 1 2; do {sys.executable} -m eqinfo compress -m m -o out.eqi; echo status $?; done"
    with heard(signal.SIGINT):
        loop = subprocess.Popen(
            ["bash", "-c", script],
            cwd=folder,
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
    assert loop.stdin
    loop.stdin.write(bytes(2 << 20))
    loop.stdin.flush()
    while not list(folder.glob(".eqinfo-*")) and loop.poll() is None:
        time.sleep(0.01)
    os.killpg(loop.pid, signal.SIGINT)
    said, _ = loop.communicate()
    assert said == b""


def test_a_full_disk_is_one_line(folder: Path) -> None:
    for script in ("eqinfo compress -m m < book > /dev/full", "eqinfo compress -m m book -o /dev/full"):
        done = shell(folder, script)
        name = "stdout" if ">" in script else "/dev/full"
        assert done.stderr.decode() == f"eqinfo: {name}: No space left on device\n"
        assert done.returncode == 1


def test_closed_standard_streams_are_one_line(folder: Path) -> None:
    done = shell(folder, "eqinfo compress -m m < book >&-")
    assert (done.returncode, done.stderr) == (1, b"eqinfo: stdout: closed. Name an output with -o.\n")
    for script in ("eqinfo compress -m m <&-", "eqinfo train-m1 - -o new <&-"):
        done = shell(folder, script)
        assert done.returncode == 1
        assert done.stderr == b"eqinfo: stdin: closed. Give it something to read, or name a file.\n"
    done = shell(folder, "eqinfo compress -m m -o /dev/stdout book >&-")
    assert (done.returncode, done.stderr) == (1, b"eqinfo: /dev/stdout: Bad file descriptor\n")
    done = shell(folder, "eqinfo compress -m m missing 2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")
    done = shell(folder, "eqinfo compress -m m book && eqinfo -l -m m book.eqi >&-")
    assert (done.returncode, done.stderr) == (1, b"eqinfo: stdout: closed. Send it to a file or a pipe.\n")


@pytest.mark.parametrize("words", ["--help", "--version", "-l -m m book.eqi"])
def test_helps_and_listings_on_a_full_disk_are_one_line(folder: Path, words: str) -> None:
    done = shell(folder, f"eqinfo compress -m m book && eqinfo {words} > /dev/full")
    assert (done.returncode, done.stderr) == (1, b"eqinfo: stdout: No space left on device\n")


@pytest.mark.parametrize("nobody", ["2>/dev/full", "2> >(true)", "2>&-"])
def test_no_job_fails_for_want_of_a_reader_of_its_words(folder: Path, nobody: str) -> None:
    (folder / "other").write_bytes(TEXT)
    done = shell(folder, f"sleep 0.2 | eqinfo compress -v -m m missing book other {nobody}")
    assert (done.returncode, done.stdout) == (1, b"")  # for what is missing
    assert files(folder) == ["book", "book.eqi", "m", "other", "other.eqi"]


def test_what_libraries_write_to_a_closed_stderr_goes_into_no_output(folder: Path) -> None:
    (folder / "loud.py").write_text(
        "import os\n"
        "from eqinfo import __main__\nfrom eqinfo.system import atomic_files as files\n"
        "class Loud(files.NamedSink):\n"
        "    def write(self, data):\n"
        "        os.write(2, b'noise')\n"
        "        return super().write(data)\n"
        "files.NamedSink = Loud\n"
        "__main__.main()\n"
    )
    shell(folder, f"{sys.executable} loud.py compress -m m book -o out.eqi <&- 2>&-")
    assert shell(folder, "eqinfo decompress -m m -c out.eqi").stdout == TEXT


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_one_line(folder: Path) -> None:
    folder.chmod(0o555)
    try:
        done = shell(folder, "eqinfo compress -m m book")
    finally:
        folder.chmod(0o755)
    assert (done.returncode, done.stderr) == (1, b"eqinfo: book.eqi: Permission denied\n")


def test_what_is_missing_is_one_line(folder: Path) -> None:
    for script, message in (
        ("eqinfo compress -m m missing", "missing: No such file or directory"),
        ("eqinfo compress -m m book -o no/where", "no/where: No such file or directory"),
        ("eqinfo compress -m m .", ".: Is a directory"),
        ("eqinfo compress -m m book -o .", ".: Is a directory"),
    ):
        done = shell(folder, script)
        assert (done.returncode, done.stderr.decode()) == (1, f"eqinfo: {message}\n")
    assert files(folder) == ["book", "m"]


def test_a_damaged_stream_gives_no_damaged_byte(folder: Path) -> None:
    text = prose(300_000)
    data = bytearray(shell(folder, "eqinfo compress -m m", stdin=text).stdout)
    data[-1000] ^= 4
    done = shell(folder, "eqinfo decompress -m m", stdin=bytes(data))
    assert done.returncode == 1
    assert done.stderr.startswith(b"eqinfo: stdin, frame 1: damaged; ")
    assert done.stdout == text[: 1 << 20]


def test_a_range_can_be_read_from_a_redirected_file_but_not_from_a_pipe(folder: Path) -> None:
    done = shell(folder, "eqinfo compress -m m book && eqinfo decompress -m m --range 10:20 < book.eqi")
    assert done.stdout == TEXT[10:20]
    after_one = "(head -c $(stat -c %s book.eqi) > one; eqinfo decompress -m m --range 4010:4020)"
    done = shell(folder, f"cat book.eqi book.eqi book.eqi > all; {after_one} < all")
    assert done.stdout == (TEXT * 2)[4010:4020]
    done = shell(folder, "(head -c 9 > rest; eqinfo decompress -m m --range 0:9) < all")
    assert b"stdin: not an .eqi stream" in done.stderr
    done = shell(folder, "cat book.eqi | eqinfo decompress -m m --range 10:20")
    assert done.stderr == b"eqinfo: stdin: --range needs an .eqi file, which it can read from the end.\n"
    assert done.returncode == 1


def test_text_becomes_a_model_that_is_measured_in_one_script(folder: Path) -> None:
    script = (
        "cat book | eqinfo compress --tokens -m m -o ids.bin"
        " && eqinfo train-m2 ids.bin -m m -o run -q"
        " --preset nano --block-size 32 --batch-tokens 256 --steps 4"
        " && cat book | eqinfo eval run --text - --json"
    )
    done = shell(folder, script)
    assert (done.returncode, done.stderr) == (0, 2 * LOOKS_BINARY.replace(b"NAME", b"stdin"))
    [row] = json.loads(done.stdout)["m2"]
    assert 0 < row["bits_per_byte"] < 12
    assert files(folder) == ["book", "ids.bin", "ids.bin.json", "m", "run"]


def test_tar_compresses_with_compress_and_extracts_with_the_bare_name(folder: Path) -> None:
    script = (
        f"tar -I '{EQINFO} compress' -cf a.tar.eqi book && mv book original"
        f" && tar -I '{EQINFO}' -xf a.tar.eqi && cmp book original"
    )
    done = shell(folder, script)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_named_pipe_is_written_in_place(folder: Path) -> None:
    script = "mkfifo pipe; eqinfo compress -m m book -o pipe & eqinfo decompress -m m -c pipe; wait"
    assert shell(folder, script).stdout == TEXT
    assert (folder / "pipe").is_fifo()


def reader(screen: int) -> tuple[threading.Thread, bytearray]:
    """Reads a terminal in a thread until its other side is closed, as a full terminal stops its writers."""
    shown = bytearray()

    def read() -> None:
        for data in received(screen):
            shown.extend(data)

    thread = threading.Thread(target=read)
    thread.start()
    return thread, shown


def test_a_long_job_shows_its_progress_on_a_terminal_only(start: Start) -> None:
    screen, terminal = pty.openpty()
    process = start("compress", "-m", "m", stdout=subprocess.DEVNULL, stderr=terminal)
    os.close(terminal)
    thread, shown = reader(screen)
    assert process.stdin
    for _ in range(8):
        process.stdin.write(b"\0" * (1 << 20))
        process.stdin.flush()
        time.sleep(0.25)
    process.stdin.close()
    assert process.wait() == 0
    thread.join()
    assert b"MB" in shown


def test_progress_goes_on_inside_a_frame_where_m1_runs(folder: Path, live_model: Path) -> None:
    (folder / "long").write_bytes(prose(20_000))  # one frame
    (folder / "soon.py").write_text(
        "from eqinfo import __main__\nfrom eqinfo.cli import progress\n"
        "progress.BAR_AFTER_S = 0.01\n__main__.main()\n"
    )
    screen, terminal = pty.openpty()
    command = [sys.executable, "soon.py", "compress", "-m", live_model, "--window-bits", "ac", "-c", "long"]
    process = subprocess.Popen(
        command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=terminal
    )
    os.close(terminal)
    thread, shown = reader(screen)
    assert process.wait(600) == 0
    thread.join()
    done = {float(size) for size in re.findall(rb"([0-9.]+)/[0-9.]+ kB", shown)}
    assert len(done) > 2
    assert re.search(rb"[0-9] kB/s", shown)


@pytest.mark.parametrize(
    ("command", "want"),
    [
        ("compress", "^[1-5][0-9]\n$"),
        ("decompress", "^to be or not to be$"),
        ("train-m1", "^$"),
        ("train-m2", "^$"),
        ("eval", "published rule"),
    ],
)
def test_the_examples_of_the_helps_run_with_the_model_in_the_package(
    tmp_path: Path, command: str, want: str
) -> None:
    (tmp_path / "README.md").write_bytes(prose(300))
    text = shell(tmp_path, f"eqinfo {command} --help").stdout.decode()
    done = shell(tmp_path, " ".join(text.partition("Example: ")[2].split()))
    assert done.returncode == 0, done.stderr
    assert re.search(want, done.stdout.decode())


def test_a_kilobyte_takes_little_more_cpu_time_than_the_packages_that_it_needs(folder: Path) -> None:
    (folder / "k").write_bytes(TEXT[:1000])

    def used_s(script: str) -> float:
        assert shell(folder, script).returncode == 0  # warm: byte code is cached
        before = os.times()
        shell(folder, script)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    packages = used_s(f"{sys.executable} -c 'import typer, numpy, zstandard'")
    assert used_s("eqinfo compress -f -m m k") < 2 * packages + 0.1
