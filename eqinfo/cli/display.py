"""Progress bars and tables. Only this module imports rich; others import it where they use it."""

import io
import shutil
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from rich import table
from rich.color import ColorSystem
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.style import Style
from rich.text import Text

from eqinfo.cli import console
from eqinfo.system.signals import undoing
from eqinfo.system.threads import available

# a title, the heads of columns, rows of cells, and the (row, column) of the best cells
Table = tuple[str, list[str], list[list[str]], set[tuple[int, int]]]

REFRESH_S = 0.25
MARK = "│"  # between windows in a pipe
WINDOW_COLOURS = "#afd7ff", "#ffd787", "#afffaf", "#ffafd7"  # neighbours differ
UNLIMITED_WIDTH = 1 << 16  # characters in a line; rich wraps longer ones


@contextmanager
def bytes_bar(name: str, total: int | None, done: Callable[[], int], after_s: float) -> Iterator[None]:
    """Shows a bar with rate and time left if the block takes long. A thread asks how much is done.

    Args:
        name: of the file.
        total: bytes in all; None if unknown.
        done: how many bytes are done.
        after_s: seconds until the bar appears.
    """
    columns = [
        TextColumn(escape(name)),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    ]
    ended = threading.Event()

    def show() -> None:
        if ended.wait(after_s):
            return
        with suppress(OSError), _bars(columns, transient=True, auto_refresh=False) as progress:
            task = progress.add_task("", total=total)
            while not ended.wait(REFRESH_S):  # an OSError: the terminal is closed
                progress.update(task, completed=done(), refresh=True)

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def phases(quiet: bool, lines: bool = True) -> Iterator[Callable[[str, float, str], None]]:
    """Yields a function that reports a phase, the share of it that is done, and a remark.

    Args:
        quiet: report nothing.
        lines: where stderr is no terminal, report each finished phase as a line. A terminal has a bar for
            each phase, with the time left.
    """
    if quiet or not console.is_terminal(sys.stderr):

        def say_done(phase: str, share: float, remark: str) -> None:
            if lines and not quiet and share >= 1:
                console.say(f"{phase}: done. {remark}".rstrip())

        yield say_done
        return
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[remark]}"),
    ]
    with _bars(columns, transient=False) as progress:
        tasks: dict[str, TaskID] = {}

        def report(phase: str, share: float, remark: str) -> None:
            if phase not in tasks:
                tasks[phase] = progress.add_task(phase, total=1.0, remark=remark)
            progress.update(tasks[phase], completed=share, remark=remark)

        yield report


@contextmanager
def _bars(columns: list[ProgressColumn], transient: bool, auto_refresh: bool = True) -> Iterator[Progress]:
    """Shows bars on stderr while the block runs. However it ends, the terminal's cursor comes back."""
    has_thread = available(1) > 0  # in which rich draws the bars
    terminal = Console(stderr=True)
    progress = Progress(
        *columns, console=terminal, transient=transient, auto_refresh=auto_refresh and has_thread
    )

    def stop() -> None:
        with suppress(OSError):  # the terminal was closed
            progress.stop()

    with undoing(stop):
        progress.start()
        yield progress
        stop()


def say_tables(tables: list[tuple[str, list[tuple[str, str]]]]) -> None:
    """Prints tables of two columns, each with a title, on stderr."""
    drawn = io.StringIO()
    for title, rows in tables:
        Console(file=drawn, highlight=False).print(_grid([title, ""], rows), "")
    console.tell(drawn.getvalue())


def show_tables(tables: Sequence[Table]) -> None:
    """Prints tables on stdout, a row a line.

    On a terminal the best figures are bold, and the heads of a table that is too wide take several lines.
    """
    on_terminal, drawn = console.is_terminal(sys.stdout), io.StringIO()
    page = Console(file=drawn, force_terminal=on_terminal, width=UNLIMITED_WIDTH)
    width = shutil.get_terminal_size().columns if on_terminal else UNLIMITED_WIDTH
    for k, (title, head, rows, best) in enumerate(tables):
        grid = _grid(head, rows, best)
        if page.measure(grid).maximum > width:
            grid = _grid([word.replace(" ", "\n").replace("/", "\n/") for word in head], rows, best)
        if k:
            page.print()
        page.print(*([Text(title)] if title else []), grid, sep="\n")
    console.show("".join(line.rstrip() + "\n" for line in drawn.getvalue().splitlines()))


def show_windows(windows: Iterable[str]) -> None:
    """Prints text in its windows on stdout: coloured on a terminal, else with markers between them."""
    terminal = Console()
    is_coloured = terminal.is_terminal and not terminal.no_color
    styles = [Style.parse(f"black on {colour}") for colour in WINDOW_COLOURS]

    def pieces() -> Iterator[bytes]:
        is_line_start = True
        for k, window in enumerate(windows):
            shown = window if is_line_start or is_coloured or window == "\n" else MARK + window
            if is_coloured:  # each line by itself, or the colour would go on to the edge
                style = styles[k % len(styles)]
                lines = (
                    style.render(line, color_system=ColorSystem.EIGHT_BIT) if line else ""
                    for line in window.split("\n")
                )
                shown = "\n".join(lines)
            yield shown.encode()
            is_line_start = window.endswith("\n")
        if not is_line_start:
            yield b"\n"

    console.show_pieces(pieces())


def _grid(
    head: Sequence[str], rows: Sequence[Sequence[str]], best: Collection[tuple[int, int]] = ()
) -> table.Table:
    """A table without lines: names on the left, figures on the right, those at `best` (row, column) bold."""
    grid = table.Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=any(head), header_style="")
    for k, word in enumerate(head):
        grid.add_column(Text(word), justify="right" if k else "left")
    for i, row in enumerate(rows):
        grid.add_row(*(Text(cell, "bold" if (i, k) in best else "") for k, cell in enumerate(row)))
    return grid
