"""Starts eqinfo under a given condition (streams, limits, terminal, mounts) and reports how it ended.

This module does not judge the outcome (`conditions`, `endurance`).
"""

import ctypes
import fcntl
import importlib
import multiprocessing
import os
import pty
import re
import resource
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

import eqinfo

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["PYTHONPATH"] = str(Path(eqinfo.__file__).parents[1])  # commands run in other folders
COMMAND = [sys.executable, "-m", "eqinfo"]
PR_CAPBSET_DROP = 24  # option of prctl
TIMEOUT_S = 600.0


def preload() -> None:
    """Import PyTorch and both trainings, so that forks need not."""
    for module in ("eqinfo.m1.train", "eqinfo.m2.train", "torch._dynamo"):
        importlib.import_module(module)


class Fork:
    """A fork of this process that runs eqinfo; it has the methods of Popen that the campaigns use.

    A fork inherits PyTorch from `preload` and starts seconds sooner than a new process.
    """

    def __init__(
        self,
        arguments: list[str],
        stderr: int,
        before: Callable[[], None],
        checkpoint_every_s: float | None = None,
    ) -> None:
        """Start it.

        Args:
            arguments: the arguments of eqinfo.
            stderr: a file descriptor, or PIPE.
            before: called in the child before eqinfo.
            checkpoint_every_s: seconds between checkpoints; None for the package's own interval.
        """
        self.stdin = None
        reader, writer = os.pipe() if stderr == subprocess.PIPE else (-1, stderr)
        self.stderr = os.fdopen(reader, "rb") if reader >= 0 else None

        def child() -> None:
            os.dup2(writer, 2)
            before()
            from eqinfo import __main__
            from eqinfo.training import loop

            if checkpoint_every_s is not None:
                loop.CHECKPOINT_EVERY_S = checkpoint_every_s
            sys.argv = ["eqinfo", *arguments]
            __main__.main()

        self._process = multiprocessing.get_context("fork").Process(target=child)
        self._process.start()
        if reader >= 0:
            os.close(writer)

    def poll(self) -> int | None:
        """Its exit status, minus the signal number after a signal; None while it runs."""
        return self._process.exitcode

    returncode = property(poll)

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until it ends; raises TimeoutExpired if it does not."""
        self._process.join(timeout_s)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("eqinfo", timeout_s or 0)

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process.pid
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """Send it SIGKILL."""
        self._process.kill()


class Run:
    """A running command, as a new process or a fork, with its terminal and what it has written to stderr."""

    def __init__(
        self,
        arguments: list[str],
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.DEVNULL,
        stderr: int | None = None,
        terminal: bool = False,
        before: Callable[[], None] | None = None,
        environment: dict[str, str] | None = None,
        fork: bool = False,
        checkpoint_every_s: float | None = None,
    ) -> None:
        """Start it.

        Args:
            arguments: the arguments of eqinfo.
            stdin: as for Popen; a fork ignores it.
            stdout: as for Popen; a fork ignores it.
            stderr: as for Popen; None to read it, which `end` then returns.
            terminal: make stderr a pseudo-terminal, the controlling terminal of the child.
            before: called in the child before eqinfo.
            environment: variables to add or replace; not for forks.
            fork: fork this process instead of starting a new one.
            checkpoint_every_s: as for Fork; only with `fork`.
        """
        self.screen, shown = pty.openpty() if terminal else (-1, -1)

        def begin() -> None:
            if terminal:
                os.close(self.screen)
                os.setsid()
            for number in (signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)  # this process may have been started with them ignored
            if terminal:
                fcntl.ioctl(2, termios.TIOCSCTTY, 0)
            if before:
                before()

        target = shown if terminal else subprocess.PIPE if stderr is None else stderr
        if fork:
            self.process: Any = Fork(arguments, target, begin, checkpoint_every_s)
        else:
            self.process = subprocess.Popen(
                [*COMMAND, *arguments],
                stdin=stdin,
                stdout=stdout,
                stderr=target,
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
        with suppress(OSError, ValueError):  # raised when the terminal is closed
            while source >= 0:
                # select with a timeout: a blocked read would keep the terminal open
                if select.select([source], [], [], 0.005)[0]:
                    data = os.read(source, 1 << 16)
                    if not data:
                        break
                    self._words += data
                elif self.process.poll() is not None:
                    break

    def wait_for(self, there: Callable[[], bool], timeout_s: float = TIMEOUT_S) -> None:
        """Wait until `there()` is true, the command has ended, or the time is up."""
        end = time.monotonic() + timeout_s
        while not there() and self.process.poll() is None and time.monotonic() < end:
            time.sleep(0.0005)

    def send(self, number: int) -> None:
        """Send a signal; in a terminal, SIGINT as the Ctrl-C key and SIGHUP by closing the terminal."""
        if self.screen >= 0 and number == signal.SIGINT:
            os.write(self.screen, b"\x03")
        elif self.screen >= 0 and number == signal.SIGHUP:
            os.close(self.screen)
            self.screen = -1
        elif self.process.poll() is None:
            self.process.send_signal(number)

    def end(self) -> tuple[int, str]:
        """Wait for the end; the exit status as shells count it, and the lines on stderr."""
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
    """The lines of stderr without escape codes and bars; and "(no cursor)" if the cursor stays hidden."""
    hidden = words.rfind("\x1b[?25l") > words.rfind("\x1b[?25h")
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\^C", "", words).replace("\r", "\n").split("\n")
    lines = [line for line in lines if line.strip() and "━" not in line]
    return "".join(f"{line}\n" for line in lines + ["(no cursor)"] * hidden)


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """Mount something on a folder for as long as the block runs."""
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


def refusing(folder: Path, error: str, *calls: str) -> dict[str, str]:
    """The environment of a program in which functions of the C library fail; needs a C compiler.

    Args:
        folder: where a library is made, to be loaded before the others.
        error: the error that the functions give, as in errno.h.
        calls: names of the functions, which return -1 on errors.
    """
    lines = [f"int {call}() {{ errno = {error}; return -1; }}" for call in calls]
    library, source = folder / "refusing.so", "\n".join(["#include <errno.h>", *lines, ""])
    command = ["cc", "-shared", "-fPIC", "-o", library, "-x", "c", "-"]
    subprocess.run(command, input=source.encode(), check=True)
    return {"LD_PRELOAD": str(library)}


def without_threads() -> None:
    """Let no thread start in this process: no address space has room for the stack that each would get."""
    resource.setrlimit(resource.RLIMIT_STACK, (1 << 46, resource.getrlimit(resource.RLIMIT_STACK)[1]))


def as_others() -> None:
    """Drop the capabilities that let root ignore file permissions; takes effect at the next exec."""
    for capability in range(4):
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def closed(*descriptors: int) -> Callable[[], None]:
    """A function that closes these file descriptors."""

    def close() -> None:
        for descriptor in descriptors:
            os.close(descriptor)

    return close


def gone() -> int:
    """The writing end of a pipe whose reading end is closed."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer
