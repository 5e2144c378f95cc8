"""The standard streams, for `cli`: inputs and outputs by name, messages, progress, exit status.

stdout is data. Words for people go to stderr, progress only if that is a terminal and the job is long.
"""

import io
import os
import re
import shutil
import signal
import sys
import time
from codecs import getincrementaldecoder
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TextIO, cast

import typer

from eqinfo.errors import EqinfoError, InputError
from eqinfo.system import signals
from eqinfo.system.atomic_files import NamedSink, replacing
from eqinfo.system.signals import undoing

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from rich.progress import Progress, ProgressColumn
    from rich.table import Table as RichTable

    from eqinfo.eval.tables import Table
    from eqinfo.text.frames import Frame

STANDARD = Path("-")  # stdin as an input, stdout as an output
PROGRESS_AFTER_S = 1.0
UNLIMITED_WIDTH = 1 << 16  # characters of a line


def say(message: str) -> None:
    """One line to stderr."""
    _tell(printable(message) + "\n")


def _tell(words: str) -> None:
    """Words to stderr, while somebody reads them: no job fails for want of a reader."""
    pipe = getattr(signal, "SIGPIPE", None)
    before = pipe and signal.signal(pipe, signal.SIG_IGN)
    try:
        typer.echo(words, err=True, nl=False)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # also what Python writes at its end
    finally:
        if pipe:
            signal.signal(pipe, before)


def printable(words: str) -> str:
    """Words whose control characters, which names of files may have, are written as escapes."""
    return "".join(c if c >= " " and c != "\x7f" else repr(c)[1:-1] for c in words)


@contextmanager
def reporting(name: Path = STANDARD) -> Iterator[None]:
    """Turn what can go wrong in the user's world into one line on stderr.

    Args:
        name: what is being worked on, for errors that name no file.

    Raises:
        typer.Exit: status 1, after such an error.
    """
    try:
        yield
    except EqinfoError as error:
        say(f"eqinfo: {error}")
        raise typer.Exit(1) from None
    except OSError as error:
        say(f"eqinfo: {error.filename or name}: {error.strerror or error}")
        raise typer.Exit(1) from None
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not re.search("allocate memory|out of memory", str(error)):
            raise
        say(f"eqinfo: {name}: not enough memory for this")  # torch has no other error for it on CPUs
        raise typer.Exit(1) from None


def for_each(files: list[Path] | None, output: Path | None, work: Callable[[Path], None]) -> None:
    """Do the work for every input, stdin if there is none; a bad one is reported and the rest go on.

    Raises:
        typer.BadParameter: several inputs for one output.
        typer.Exit: status 1, if any failed.
    """
    names = files or [STANDARD]
    if output is not None and len(names) > 1:
        raise typer.BadParameter(f"one output for {len(names)} inputs; use -c to join them", param_hint="-o")
    failed = False
    for name in names:
        try:
            with reporting(name):
                work(name)
        except typer.Exit:
            failed = True
    if failed:
        raise typer.Exit(1)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a standard stream is a terminal; a closed one is None."""
    return stream is not None and stream.isatty()


class _Heard(io.FileIO):
    """A file whose reader hears signals between two reads, as a method of Python's does.

    In C alone BufferedReader goes on to the next read, and that may wait for ever.
    """

    def readinto(self, buffer: "WriteableBuffer") -> int | None:
        """Read into a buffer: how many bytes."""
        return super().readinto(buffer)


def open_input(
    name: Path, opener: Callable[[Path], BinaryIO] | None = None, binary: bool = False
) -> AbstractContextManager[BinaryIO]:
    """An input by name, or stdin.

    Args:
        name: STANDARD is stdin, as it is.
        opener: how to open a file, if not as it is.
        binary: whether a terminal cannot be meant.

    Raises:
        InputError: stdin is closed, or a terminal.
        OSError: there is no such file, or it cannot be read.
    """
    if name != STANDARD:
        return closing(opener(name) if opener else io.BufferedReader(_Heard(name)))
    if sys.stdin is None:
        raise InputError("stdin: closed. Give it something to read, or name a file.")
    if binary and is_terminal(sys.stdin):
        raise InputError("stdin: a terminal, and the input is binary. Name a file.")
    raw = getattr(sys.stdin.buffer, "raw", None)
    if not isinstance(raw, io.FileIO):
        return nullcontext(sys.stdin.buffer)
    return closing(io.BufferedReader(_Heard(raw.fileno(), closefd=False)))


def open_output(
    target: Path | None, name: Path, force: bool, binary: bool = False
) -> AbstractContextManager[NamedSink]:
    """An output by name, or stdout.

    Args:
        target: None is stdout.
        name: the input, whose mode and times the output gets.
        force: whether an existing file may be replaced.
        binary: whether to keep the output from a terminal.

    Raises:
        InputError: it exists, is the input, a terminal, or closed.
        OSError: it cannot be written.
    """
    if target is not None:
        if target.is_file() and name != STANDARD and target.samefile(name):
            raise InputError(f"{target}: is input and output at once. Name another output with -o.")
        return replacing(target, force, like=name.stat() if name.is_file() else None)
    if binary and is_terminal(sys.stdout):
        raise InputError("stdout: a terminal, and the output is binary. Name a file with -o, or give -c.")
    return _open_stdout("Name an output with -o.")


def _open_stdout(otherwise: str) -> AbstractContextManager[NamedSink]:
    """stdout; `otherwise` is what to do if it is closed."""
    if sys.stdout is None:
        raise InputError(f"stdout: closed. {otherwise}")
    # unbuffered: a full disk shows where it can be reported, and nothing is left to flush at exit
    return nullcontext(
        NamedSink(cast(BinaryIO, getattr(sys.stdout.buffer, "raw", sys.stdout.buffer)), "stdout")
    )


def with_progress(frames: Iterable["Frame"], source: BinaryIO, name: Path, quiet: bool) -> Iterator["Frame"]:
    """The same frames; when they take long, a bar on the terminal says how far they are."""
    if quiet or not is_terminal(sys.stderr):
        yield from frames
        return
    # of a plain file we know how much there is to read; of a pipe or a .zst only what came out of it
    sized = isinstance(getattr(source, "raw", None), io.FileIO) and source.seekable()
    total = os.fstat(source.fileno()).st_size if sized else None
    started, done = time.monotonic(), 0
    with ExitStack() as stack:
        update: Callable[[int], None] | None = None
        for frame in frames:
            yield frame
            done += len(frame.text)
            if update is None and time.monotonic() - started > PROGRESS_AFTER_S:
                update = _progress_bar(stack, str(name), total)
            if update is not None:
                update(source.tell() if sized else done)


def _progress_bar(stack: ExitStack, name: str, total: int | None) -> Callable[[int], None]:
    """Show a bar until the stack closes; the result sets how many bytes are done."""
    from rich.markup import escape
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn

    columns = [TextColumn(escape(name)), BarColumn(), DownloadColumn(), TimeRemainingColumn()]
    progress = stack.enter_context(_bars(columns, transient=True))
    task = progress.add_task("", total=total)
    return lambda completed: progress.update(task, completed=completed)


@contextmanager
def _bars(columns: list["ProgressColumn"], transient: bool) -> Iterator["Progress"]:
    """Bars on the terminal while the block runs. However it ends, the terminal has its cursor again."""
    from rich.console import Console
    from rich.progress import Progress

    progress = Progress(*columns, console=Console(stderr=True), transient=transient)

    def stop() -> None:
        with suppress(OSError):  # the terminal was closed
            progress.stop()

    with undoing(stop):
        progress.start()
        yield progress
        stop()


def open_texts(names: list[Path]) -> Iterator[tuple[str, BinaryIO]]:
    """Names and open files of texts to train on, one at a time."""
    from eqinfo.text.documents import open_text

    for name in names:
        with open_input(name, open_text) as source:
            yield str(name), source


@contextmanager
def phases(quiet: bool) -> Iterator[Callable[[str, float, str], None]]:
    """A reporter of phases, the share of each that is done, and a word about it.

    On a terminal each phase is a bar with its time left; elsewhere a line when it ends.
    """
    if quiet or not is_terminal(sys.stderr):
        yield (
            lambda phase, share, word: None if quiet or share < 1 else say(f"{phase}: done. {word}".rstrip())
        )
        return
    from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[word]}"),
    ]
    with _bars(columns, transient=False) as progress:
        tasks: dict[str, TaskID] = {}

        def report(phase: str, share: float, word: str) -> None:
            if phase not in tasks:
                tasks[phase] = progress.add_task(phase, total=1.0, word=word)
            progress.update(tasks[phase], completed=share, word=word)

        yield report


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Whether a signal asked to stop; if the block does stop, the command ends with that signal's status."""

    def tell() -> None:
        say("stopping: writing a checkpoint, for --resume. Press Ctrl-C again to stop without one.")

    with signals.stop_requests(tell) as asked:
        try:
            yield lambda: asked() > 0
        except KeyboardInterrupt:  # where several processes train, another one may have been asked
            raise typer.Exit(signals.status(asked() or signal.SIGINT)) from None


def say_tables(tables: list[tuple[str, list[tuple[str, str]]]]) -> None:
    """Tables of two columns on stderr."""
    from rich.console import Console

    drawn = io.StringIO()
    for title, rows in tables:
        Console(file=drawn, highlight=False).print(_grid([title, ""], rows), "")
    _tell(drawn.getvalue())


def show_tables(tables: list["Table"]) -> None:
    """Tables on stdout, a row a line; on a terminal the best figures are bold and heads narrow if need be."""
    from rich.console import Console
    from rich.text import Text

    on_terminal, drawn = is_terminal(sys.stdout), io.StringIO()
    console = Console(file=drawn, force_terminal=on_terminal, width=UNLIMITED_WIDTH)  # no line is wrapped
    width = shutil.get_terminal_size().columns if on_terminal else UNLIMITED_WIDTH
    for k, (title, head, rows, best) in enumerate(tables):
        grid = _grid(head, rows, best)
        if console.measure(grid).maximum > width:
            grid = _grid([word.replace(" ", "\n").replace("/", "\n/") for word in head], rows, best)
        if k:
            console.print()
        console.print(Text(title), grid, sep="\n")
    show("".join(line.rstrip() + "\n" for line in drawn.getvalue().splitlines()))


def _grid(
    head: Sequence[str], rows: Sequence[Sequence[str]], best: Collection[tuple[int, int]] = ()
) -> "RichTable":
    """A table without lines: names left, figures right, those in `best` (row, column) in bold."""
    from rich.table import Table
    from rich.text import Text

    grid = Table(
        show_edge=False,
        pad_edge=False,
        box=None,
        padding=(0, 2, 0, 0),
        show_header=any(head),
        header_style="",
    )
    for k, word in enumerate(head):
        grid.add_column(Text(word), justify="right" if k else "left")
    for i, row in enumerate(rows):
        grid.add_row(*(Text(cell, "bold" if (i, k) in best else "") for k, cell in enumerate(row)))
    return grid


def show_rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout, a row a line whatever its width; names left, figures right."""
    columns = list(zip(head, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    cells = [
        [cell.rjust(width) if k else cell.ljust(width) for cell in column]
        for k, (column, width) in enumerate(zip(columns, widths, strict=True))
    ]
    show("".join("  ".join(row) + "\n" for row in zip(*cells, strict=True)))


def show(words: str) -> None:
    """A result for people or programs, on stdout."""
    with _open_stdout("Send it to a file or a pipe.") as sink:
        sink.write(words.encode("utf-8", "surrogateescape"))


def show_pieces(pieces: Iterable[bytes]) -> None:
    """Bytes on stdout, each piece at once; on a terminal a character is held back until it is complete."""
    with _open_stdout("Send it to a file or a pipe.") as sink:
        if not is_terminal(sys.stdout):
            for piece in pieces:
                sink.write(piece)
            return
        decoder = getincrementaldecoder("utf-8")("surrogateescape")  # what is no UTF-8 stays as it is
        for piece in pieces:
            sink.write(decoder.decode(piece).encode("utf-8", "surrogateescape"))
        sink.write(decoder.decode(b"", final=True).encode("utf-8", "surrogateescape"))
