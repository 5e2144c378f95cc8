"""The standard streams, and files as if they were: inputs, outputs, progress, messages, exit status.

stdout is data. Words for people go to stderr, and progress too if that is a terminal and the job is long.
"""

import errno
import io
import os
import re
import signal
import sys
from codecs import iterdecode
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, ClassVar, TextIO, cast

import typer

from eqinfo.errors import EqinfoError, InputError, LostPeerError, OptionError, PeerError
from eqinfo.system import notes, signals
from eqinfo.system.atomic_files import NamedSink, replacing

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
STANDARD = Path("-")  # stdin as an input, stdout as an output
# what torch on CPUs, the loader of its library, and the interpreter meanwhile raise when memory is short
NO_MEMORY = re.compile("allocate memory|out of memory|failed to map segment|return without exception set")
above_bars = list[Callable[[str], None]]()  # while bars are on the screen, what prints above them


def shown(name: Path) -> str:
    """The name of an input for people."""
    return "stdin" if name == STANDARD else str(name)


def say(message: str) -> None:
    """Prints a line on stderr."""
    tell(on_one_line(message) + "\n")


def on_one_line(words: str) -> str:
    r"""Words with control characters and line ends escaped, which names of files may have.

    >>> on_one_line("a\n\x9b\u2028")
    'a\\n\\x9b\\u2028'
    """
    return CONTROL.sub(lambda found: repr(found[0])[1:-1], words)


def tell(words: str) -> None:
    """Prints on stderr, above bars; if stderr is closed or full, the words are lost and the job goes on."""
    if above_bars:
        above_bars[-1](words)
        return
    try:
        with signals.broken_pipes_are_errors():
            typer.echo(words, err=True, nl=False)
    except OSError:
        # all later words go nowhere too, or flushing stderr at exit would fail
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


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
        elif isinstance(error, LostPeerError):  # found by all that are left, on several machines
            is_told = os.environ.get("LOCAL_RANK", "0") == "0"
    except OSError as error:
        message = f"{error.filename or shown(name)}: {error.strerror or error}"
    except (MemoryError, RuntimeError, ImportError, SystemError) as error:
        if not isinstance(error, MemoryError) and not NO_MEMORY.search(str(error)):
            raise
        message = f"{shown(name)}: not enough memory for this"
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


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a standard stream is a terminal; a closed one is None."""
    return stream is not None and stream.isatty()


class InputFile(io.FileIO):
    """An input, between whose reads Python runs signal handlers.

    io.BufferedReader fills its buffer in a loop in C and would start the next read, which may block, before
    any handler runs. Python runs handlers when it enters a method that is written in Python.

    Attributes:
        n_read: bytes read from all inputs.
        on_read: called after each read, if it is not None.
    """

    n_read: ClassVar[int] = 0
    on_read: ClassVar[Callable[[], None] | None] = None

    def readinto(self, buffer: "WriteableBuffer") -> int | None:
        """Reads into a buffer; returns the number of bytes. Nothing yet is an error, not the end."""
        if (n := super().readinto(buffer)) is None:
            raise BlockingIOError(errno.EAGAIN, "input is not ready (non-blocking)")
        InputFile.n_read += n
        if InputFile.on_read is not None:
            InputFile.on_read()
        return n


def open_input(
    name: Path, opener: Callable[[BinaryIO, str], BinaryIO] | None = None, binary: bool = False
) -> AbstractContextManager[BinaryIO]:
    """Opens an input file or stdin, for reading bytes.

    Args:
        name: STANDARD is stdin.
        opener: makes a source of an open file and its name, for example one that decompresses; by default
            bytes are read as they are.
        binary: refuse a terminal, because nobody types this format.

    Raises:
        InputError: stdin is closed, or a terminal.
        OSError: there is no such file, or it cannot be read.
    """
    if name != STANDARD:
        return _opened(io.BufferedReader(InputFile(name)), name, opener)
    if sys.stdin is None:
        raise InputError("stdin: closed. Give it something to read, or name a file.")
    if binary and is_terminal(sys.stdin):
        raise InputError("stdin: a terminal, and the input is binary. Name a file.")
    raw = getattr(sys.stdin.buffer, "raw", None)
    if not isinstance(raw, io.FileIO):  # in tests
        return nullcontext(opener(sys.stdin.buffer, str(name)) if opener else sys.stdin.buffer)
    return _opened(io.BufferedReader(InputFile(raw.fileno(), closefd=False)), name, opener)


@contextmanager
def _opened(
    file: BinaryIO, name: Path, opener: Callable[[BinaryIO, str], BinaryIO] | None
) -> Iterator[BinaryIO]:
    """A file, or what the opener makes of it; both are closed."""
    with file, opener(file, str(name)) if opener else nullcontext(file) as source:
        yield source


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
        InputError: the output exists, is a terminal, or is closed.
        OSError: it cannot be written.
    """
    if target is not None:
        return replacing(target, force, like=name.stat() if name != STANDARD and name.is_file() else None)
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


def _plain_size(source: BinaryIO) -> int | None:
    """Size in bytes of an input that is a plain file, read as it is; None for others."""
    if not isinstance(getattr(source, "raw", None), io.FileIO) or not source.seekable():
        return None
    return os.fstat(source.fileno()).st_size


@contextmanager
def read_to_end(source: BinaryIO, name: Path) -> Iterator[None]:
    """Warns if a plain file got shorter while the block read it to its end."""
    size = _plain_size(source)
    yield
    if size is not None and source.tell() < size and (_plain_size(source) or 0) < size:  # /sys promises more
        notes.warn(f"{shown(name)}: got shorter while it was read; found {source.tell()} bytes, want {size}.")


@contextmanager
def stop_requests(go_on: str, is_told: bool = True) -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether a signal asked to stop; to stop, raise KeyboardInterrupt.

    Args:
        go_on: the command that continues the job.
        is_told: whether the user is told. The message of KeyboardInterrupt says what was written.

    Raises:
        signals.Stopped: the block raised KeyboardInterrupt.
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
            raise signals.Stopped(number() or signal.SIGINT) from None


def show(words: str) -> None:
    """Prints on stdout."""
    show_pieces([words.encode("utf-8", "surrogateescape")])


def show_pieces(pieces: Iterable[bytes]) -> None:
    """Prints bytes on stdout, each piece at once; on a terminal no character is cut in two."""
    with _open_stdout("Send it to a file or a pipe.") as sink:
        if is_terminal(sys.stdout):  # bytes that are no UTF-8 stay as they are
            decoded = iterdecode(pieces, "utf-8", "surrogateescape")
            pieces = (characters.encode("utf-8", "surrogateescape") for characters in decoded)
        for piece in whole_lines(pieces):
            sink.write(piece)


def whole_lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes; on a terminal a line feed after them, for the prompt."""
    last = b"\n"
    for piece in pieces:
        last = piece or last
        yield piece
    if is_terminal(sys.stdout) and not last.endswith(b"\n"):
        yield b"\n"
