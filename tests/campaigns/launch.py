"""A command started under a condition: its streams, limits, terminal and disk, and how it ended.

What this module does not do: know what is right (`conditions`).
"""

import ctypes
import fcntl
import multiprocessing
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from endurance import COMMAND

PR_CAPBSET_DROP = 24  # of prctl
TIMEOUT_S = 120.0
PLAINLY = "from eqinfo import __main__; __main__.main()"


class Fork:
    """A copy of this process, which has PyTorch loaded, that becomes eqinfo; what is used of Popen."""

    def __init__(self, arguments: list[str], stderr: int, before: Callable[[], None], code: str) -> None:
        self.stdin = None
        reader, writer = os.pipe() if stderr == subprocess.PIPE else (-1, stderr)
        self.stderr = os.fdopen(reader, "rb") if reader >= 0 else None

        def child() -> None:
            os.dup2(writer, 2)
            before()
            sys.argv = ["eqinfo", *arguments]
            exec(code, {})

        self._process = multiprocessing.get_context("fork").Process(target=child)
        self._process.start()
        if reader >= 0:
            os.close(writer)

    def poll(self) -> int | None:
        """Its status if it has ended, minus a signal's number."""
        return self._process.exitcode

    returncode = property(poll)

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait for its end."""
        self._process.join(timeout_s)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("eqinfo", timeout_s or 0)

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        assert self._process.pid
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self._process.kill()


class Run:
    """A command under way: a program of its own, its streams and what it makes."""

    def __init__(
        self,
        arguments: list[str],
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.DEVNULL,
        stderr: int | None = None,
        terminal: bool = False,
        before: Callable[[], None] | None = None,
        code: str = PLAINLY,
        environment: dict[str, str] | None = None,
        fork: bool = False,
    ) -> None:
        """Start it.

        Args:
            arguments: of eqinfo.
            stdin: as Popen takes it, and so are the next two.
            stdout: nowhere.
            stderr: read if None.
            terminal: whether stderr is one, which is then its controlling terminal.
            before: is called in the child.
            code: what a fork runs.
            environment: what is other than here.
            fork: whether as a copy of this process; it reads nothing and writes to stderr only.
        """
        self.screen, shown = pty.openpty() if terminal else (-1, -1)

        def begin() -> None:
            if terminal:
                os.close(self.screen)
                os.setsid()
            for number in (signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)  # whatever this process was started with
            if terminal:
                fcntl.ioctl(2, termios.TIOCSCTTY, 0)
            if before:
                before()

        told = shown if terminal else subprocess.PIPE if stderr is None else stderr
        if fork:
            self.process: Any = Fork(arguments, told, begin, code)
        else:
            self.process = subprocess.Popen(
                [*COMMAND, *arguments],
                stdin=stdin,
                stdout=stdout,
                stderr=told,
                preexec_fn=begin,
                env=os.environ | (environment or {}),
            )
        self._words = b""
        source = self.screen if terminal else self.process.stderr.fileno() if self.process.stderr else -1
        self._reader = threading.Thread(target=self._read, args=(source,), daemon=True)
        self._reader.start()
        if terminal:
            os.close(shown)

    def _read(self, source: int) -> None:
        with suppress(OSError, ValueError):  # of a terminal that is closed
            while source >= 0:
                # a read that waits would keep a terminal open
                if select.select([source], [], [], 0.005)[0]:
                    data = os.read(source, 1 << 16)
                    if not data:
                        break
                    self._words += data
                elif self.process.poll() is not None:
                    break

    def wait_for(self, there: Callable[[], bool], timeout_s: float = 60) -> None:
        """Wait until something is there, or the command has ended."""
        end = time.monotonic() + timeout_s
        while not there() and self.process.poll() is None and time.monotonic() < end:
            time.sleep(0.0005)

    def send(self, number: int) -> None:
        """Send a signal as users do: by the keyboard and by closing the terminal, where there is one."""
        if self.screen >= 0 and number == signal.SIGINT:
            os.write(self.screen, b"\x03")
        elif self.screen >= 0 and number == signal.SIGHUP:
            os.close(self.screen)
            self.screen = -1
        elif self.process.poll() is None:
            self.process.send_signal(number)

    def end(self) -> tuple[int, str]:
        """Its status and what it said, once it has ended."""
        try:
            self.process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            self._words += b"(hung)\n(killed)\n"
        self._reader.join(5)
        if self.process.stdin:
            with suppress(OSError):
                self.process.stdin.close()
        if self.screen >= 0:
            os.close(self.screen)
        if self.process.stderr:
            self.process.stderr.close()
        status = self.process.returncode
        return (128 - status if status < 0 else status), said(self._words.decode(errors="replace"))


def said(words: str) -> str:
    """The lines of words; of what a terminal showed those that are no bars, and whether it has its cursor."""
    hidden = words.rfind("\x1b[?25l") > words.rfind("\x1b[?25h")
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\^C", "", words).replace("\r", "\n").split("\n")
    lines = [line for line in lines if line.strip() and "━" not in line]
    return "".join(f"{line}\n" for line in lines + ["(no cursor)"] * hidden)


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """Something mounted on a folder."""
    subprocess.run(["mount", *options, folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def can_mount(folder: Path) -> bool:
    """Whether this process may mount."""
    folder.mkdir(exist_ok=True)
    try:
        with mounted(folder, "-t", "tmpfs", "none"):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def as_others() -> None:
    """Give up what lets root write anywhere, when the next program starts."""
    for capability in range(4):
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def closed(*descriptors: int) -> Callable[[], None]:
    """Close these streams in the child."""

    def close() -> None:
        for descriptor in descriptors:
            os.close(descriptor)

    return close


def gone() -> int:
    """The writing end of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer
