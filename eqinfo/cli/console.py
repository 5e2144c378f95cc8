"""The standard streams: inputs and outputs by name, messages, exit status.

stdout is data. Words for people go to stderr, and progress too if that is a terminal and the job is long.
"""

import io
import os
import re
import signal
import sys
import time
from codecs import iterdecode
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TextIO, cast

import typer

from eqinfo.errors import EqinfoError, InputError, OptionError, PeerError
from eqinfo.system import signals
from eqinfo.system.atomic_files import NamedSink, replacing

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from eqinfo.text.frames import Frame

STANDARD = Path("-")  # stdin as an input, stdout as an output
PROGRESS_AFTER_S = 1.0
above_bars = list[Callable[[str], None]]()  # while bars are on the screen, what prints above them


def say(message: str) -> None:
    """Prints a line on stderr; control characters, which names of files may have, are escaped."""
    tell("".join(c if c >= " " and c != "\x7f" else repr(c)[1:-1] for c in message) + "\n")


def tell(words: str) -> None:
    """Prints on stderr, above bars; if stderr is closed or full, the words are lost and the job goes on."""
    if above_bars:
        above_bars[-1](words)
        return
    pipe = getattr(signal, "SIGPIPE", None)
    before = pipe and signal.signal(pipe, signal.SIG_IGN)
    try:
        typer.echo(words, err=True, nl=False)
    except OSError:
        # all later words go nowhere too, or flushing stderr at exit would fail
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    finally:
        if pipe:
            signal.signal(pipe, before)


@contextmanager
def reporting(name: Path = STANDARD) -> Iterator[None]:
    """Turns errors that a user can cause into one line on stderr.

    Args:
        name: the file being worked on, for errors that name none.

    Raises:
        typer.Exit: after such an error, with status 1; 2 if an option has a wrong value.
    """
    status, is_told = 1, True
    try:
        yield
        return
    except EqinfoError as error:
        message = str(error)
        if isinstance(error, OptionError):  # of all processes of torchrun alike
            status, is_told = 2, is_first_process()
        elif isinstance(error, PeerError):
            is_told = False
    except OSError as error:
        message = f"{error.filename or name}: {error.strerror or error}"
    except (MemoryError, RuntimeError) as error:
        # on CPUs torch raises a plain RuntimeError when memory is short
        if isinstance(error, RuntimeError) and not re.search("allocate memory|out of memory", str(error)):
            raise
        message = f"{name}: not enough memory for this"
    if is_told:
        say(f"eqinfo: {message}")
    raise typer.Exit(status)


def is_first_process() -> bool:
    """Whether this is the first process of torchrun, or the only one."""
    return n_processes() == 1 or os.environ.get("RANK", "0") == "0"


def n_processes() -> int:
    """The number of processes of torchrun; 1 without it."""
    size = os.environ.get("WORLD_SIZE", "1") if "TORCHELASTIC_RUN_ID" in os.environ else "1"
    return int(size) if size.isdecimal() else 1


def for_each(files: list[Path] | None, output: Path | None, work: Callable[[Path], None]) -> None:
    """Does the work for each input, or for stdin if none is named; reports failures and goes on.

    Raises:
        typer.BadParameter: there are several inputs for one output.
        typer.Exit: an input failed; with the largest status of any.
    """
    names = files or [STANDARD]
    if output is not None and len(names) > 1:
        raise typer.BadParameter(f"one output for {len(names)} inputs; use -c to join them", param_hint="-o")
    status = 0
    for name in names:
        try:
            with reporting(name):
                work(name)
        except typer.Exit as failed:
            status = max(status, failed.exit_code)
    if status:
        raise typer.Exit(status)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a standard stream is a terminal; a closed one is None."""
    return stream is not None and stream.isatty()


class _InterruptibleFile(io.FileIO):
    """A file between whose reads Python runs signal handlers.

    io.BufferedReader fills its buffer in a loop in C and would start the next read, which may block, before
    any handler runs. Python runs handlers when it enters a method that is written in Python.
    """

    def readinto(self, buffer: "WriteableBuffer") -> int | None:
        """Reads into a buffer; returns the number of bytes."""
        return super().readinto(buffer)


def open_input(
    name: Path, opener: Callable[[Path], BinaryIO] | None = None, binary: bool = False
) -> AbstractContextManager[BinaryIO]:
    """Opens an input file or stdin, for reading bytes.

    Args:
        name: STANDARD is stdin.
        opener: opens a file, for example one that decompresses; by default bytes are read as they are.
        binary: refuse a terminal, because nobody types this format.

    Raises:
        InputError: stdin is closed, or a terminal.
        OSError: there is no such file, or it cannot be read.
    """
    if name != STANDARD:
        return closing(opener(name) if opener else io.BufferedReader(_InterruptibleFile(name)))
    if sys.stdin is None:
        raise InputError("stdin: closed. Give it something to read, or name a file.")
    if binary and is_terminal(sys.stdin):
        raise InputError("stdin: a terminal, and the input is binary. Name a file.")
    raw = getattr(sys.stdin.buffer, "raw", None)
    if not isinstance(raw, io.FileIO):
        return nullcontext(sys.stdin.buffer)
    return closing(io.BufferedReader(_InterruptibleFile(raw.fileno(), closefd=False)))


def open_output(
    target: Path | None, name: Path, force: bool, binary: bool = False
) -> AbstractContextManager[NamedSink]:
    """Opens an output file or stdout, for writing bytes; a file appears when it is complete.

    Args:
        target: None is stdout.
        name: the input, whose mode and times the output gets.
        force: replace an existing file.
        binary: refuse a terminal.

    Raises:
        InputError: the output exists, is the input, is a terminal, or is closed.
        OSError: it cannot be written.
    """
    if target is not None:
        if target.is_file() and name != STANDARD and target.samefile(name):
            raise InputError(f"{target}: is input and output at once. Name another output with -o.")
        return replacing(target, force, like=name.stat() if name.is_file() else None)
    if binary and is_terminal(sys.stdout):
        raise InputError("stdout: a terminal, and the output is binary. Name a file with -o, or give -c.")
    return _open_stdout("Name an output with -o.")


def _open_stdout(advice: str) -> AbstractContextManager[NamedSink]:
    """Opens stdout; `advice` says what to do if it is closed."""
    if sys.stdout is None:
        raise InputError(f"stdout: closed. {advice}")
    # unbuffered: a full disk shows where it can be reported, and nothing is left to flush at exit
    raw = getattr(sys.stdout.buffer, "raw", sys.stdout.buffer)
    return nullcontext(NamedSink(cast(BinaryIO, raw), "stdout"))


def compressed_name(name: Path, output: Path | None, stdout: bool, suffix: str) -> Path | None:
    """The output for an input to compress; None is stdout."""
    if stdout or output == STANDARD or (output is None and name == STANDARD):
        return None
    return output or Path(f"{name}{suffix}")


def restored_name(name: Path, output: Path | None, stdout: bool, suffix: str) -> Path | None:
    """The output for an input to decompress; None is stdout.

    >>> str(restored_name(Path("book.txt.eqi"), output=None, stdout=False, suffix=".eqi"))
    'book.txt'

    Raises:
        InputError: the input's name does not end in the suffix, and no output is named.
    """
    if stdout or output is not None or name == STANDARD:
        return compressed_name(name, output, stdout, "")
    stem = name.name.removesuffix(suffix)
    if stem in ("", name.name):
        raise InputError(f"{name}: unknown suffix; want {suffix}. Name the output with -o.")
    return name.with_name(stem)


def with_progress(frames: Iterable["Frame"], source: BinaryIO, name: Path, quiet: bool) -> Iterator["Frame"]:
    """Yields the same frames; after PROGRESS_AFTER_S a bar on the terminal shows how much is done.

    Args:
        frames: read from the source, or decoded from it.
        source: the input. The bar shows the position in a plain file, else the bytes of text so far.
        name: of the input.
        quiet: show no bar.
    """
    if quiet or not is_terminal(sys.stderr):
        yield from frames
        return
    is_plain = isinstance(getattr(source, "raw", None), io.FileIO) and source.seekable()
    total = os.fstat(source.fileno()).st_size if is_plain else None
    started, done = time.monotonic(), 0
    with ExitStack() as stack:
        update: Callable[[int], None] | None = None
        for frame in frames:
            yield frame
            done += len(frame.text)
            if update is None and time.monotonic() - started > PROGRESS_AFTER_S:
                from eqinfo.cli import display

                update = display.bytes_bar(stack, str(name), total)
            if update is not None:
                update(source.tell() if is_plain else done)


def open_texts(names: list[Path]) -> Iterator[tuple[str, BinaryIO]]:
    """Yields names and open files of training texts, one at a time."""
    from eqinfo.text.documents import open_text

    for name in names:
        with open_input(name, open_text) as source:
            yield str(name), source


@contextmanager
def stop_requests(go_on: str, is_told: bool = True) -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether a signal asked to stop; to stop, raise KeyboardInterrupt.

    Args:
        go_on: the command that continues the job.
        is_told: whether the user is told. The message of KeyboardInterrupt says what was written.

    Raises:
        typer.Exit: the block raised KeyboardInterrupt; the status is 128 + the signal's number.
    """

    def tell_user() -> None:
        if is_told:
            say("stopping: writing a checkpoint, for --resume. Press Ctrl-C again to stop without one.")

    with signals.stop_requests(tell_user) as number:
        try:
            yield lambda: number() > 0
        except KeyboardInterrupt as stopped:
            if is_told:
                say(f"stopped: {stopped}. Go on with: {go_on}")
            # under torchrun the signal may have reached another process only
            raise typer.Exit(signals.status(number() or signal.SIGINT)) from None


def show(words: str) -> None:
    """Prints on stdout."""
    show_pieces([words.encode("utf-8", "surrogateescape")])


def show_pieces(pieces: Iterable[bytes]) -> None:
    """Prints bytes on stdout, each piece at once; on a terminal no character is cut in two."""
    with _open_stdout("Send it to a file or a pipe.") as sink:
        if is_terminal(sys.stdout):  # bytes that are no UTF-8 stay as they are
            decoded = iterdecode(pieces, "utf-8", "surrogateescape")
            pieces = (characters.encode("utf-8", "surrogateescape") for characters in decoded)
        for piece in pieces:
            sink.write(piece)
