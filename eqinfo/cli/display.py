"""Progress bars and tables. Only this module imports rich; others import it where they use it."""

import io
import shutil
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from rich import table
from rich.color import ColorSystem
from rich.console import Console
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
LINE_EVERY_S = 30.0
BAR_WIDTH = 16  # characters, so that the figures of a training fit 80 columns
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
        TextColumn("{task.description}", markup=False),
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
            task = progress.add_task(console.on_one_line(name), total=total)
            while not ended.wait(REFRESH_S):  # an OSError: the terminal is closed
                progress.update(task, completed=done(), refresh=True)

    thread = threading.Thread(target=show, daemon=True)
    with suppress(RuntimeError):  # the system gives no more threads
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if thread.is_alive():
            thread.join()


@contextmanager
def phases(quiet: bool, lines: bool = True) -> Iterator[Callable[[str, float, str], None]]:
    """Yields a function that reports a phase, the share of it that is done, and a remark.

    Args:
        quiet: report nothing.
        lines: where stderr is no terminal, report a phase as a line, every LINE_EVERY_S and at its end. A
            terminal has a bar for each phase, with the time left.
    """
    if quiet or not console.is_terminal(sys.stderr):
        yield _Lines().report if lines and not quiet else lambda *_: None
        return
    columns = [
        TextColumn("{task.description}", markup=False),
        BarColumn(BAR_WIDTH),
        TaskProgressColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[remark]}", markup=False),
    ]
    with _bars(columns, transient=False) as progress:
        tasks: dict[str, TaskID] = {}

        def report(phase: str, share: float, remark: str) -> None:
            if phase not in tasks:
                tasks[phase] = progress.add_task(console.on_one_line(phase), total=1.0, remark="")
            elif share == 0:
                progress.reset(tasks[phase])
            taken = max(map(len, tasks)) + BAR_WIDTH + len(" 100% 0:00:00  ")
            remark = _fitting(remark, progress.console.width - taken)
            progress.update(tasks[phase], completed=share, remark=remark)

        yield report


def _fitting(remark: str, width: int) -> str:
    """The first parts of a remark, with commas between them, that fit a width.

    >>> _fitting("step 7, loss 3.210, 1,024 tokens/s", 20)
    'step 7, loss 3.210'
    """
    parts = remark.split(", ")
    while parts and len(", ".join(parts)) > width:
        parts.pop()
    return ", ".join(parts)


class _Lines:
    """Progress where stderr is no terminal: a line every LINE_EVERY_S, and one at the end of each phase."""

    def __init__(self) -> None:
        self._said_at = time.monotonic()
        self._begun: dict[str, tuple[float, float]] = {}  # when each phase was first reported, and its share

    def report(self, phase: str, share: float, remark: str) -> None:
        """Says a line if it is time."""
        now = time.monotonic()
        if share == 0:  # a phase begins, or its clock begins anew, as that of the bar
            self._begun[phase] = now, share
        began, first = self._begun.setdefault(phase, (now, share))
        if share >= 1:
            del self._begun[phase]
            console.say(f"{phase}: done. {remark}".rstrip())
        elif now - self._said_at > LINE_EVERY_S:
            self._said_at = now
            left = [_clock((1 - share) * (now - began) / (share - first)) + " left"] if share > first else []
            console.say(f"{phase}: {', '.join([f'{share:.0%}', *left, *([remark] if remark else [])])}")


def _clock(time_s: float) -> str:
    """A time as hours, minutes and seconds.

    >>> _clock(3723.4)
    '1:02:03'
    """
    minutes, seconds = divmod(int(time_s), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


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

    def print_above(words: str) -> None:
        with suppress(OSError):
            progress.console.print(Text(words), end="", soft_wrap=True)

    with undoing(stop):
        progress.start()
        console.above_bars.append(print_above)
        try:
            yield progress
        finally:
            console.above_bars.remove(print_above)
        stop()


def say_tables(tables: list[tuple[str, list[tuple[str, str]]]]) -> None:
    """Prints tables of two columns, each with a title, on stderr."""
    drawn = io.StringIO()
    for title, rows in tables:
        Console(file=drawn, highlight=False).print(_grid([title, ""], rows), "")
    console.tell(drawn.getvalue())


def show_tables(tables: Sequence[Table], spare: Sequence[str] = ()) -> None:
    """Prints tables on stdout, a row a line.

    On a terminal the best figures are bold, and the heads of a table that is too wide take several lines.

    Args:
        tables: in order.
        spare: heads of columns that a terminal goes without, one after another, until the table fits.
    """
    on_terminal, drawn = console.is_terminal(sys.stdout), io.StringIO()
    page = Console(file=drawn, force_terminal=on_terminal, width=UNLIMITED_WIDTH)
    width = shutil.get_terminal_size().columns if on_terminal else UNLIMITED_WIDTH
    for k, (title, head, rows, best) in enumerate(tables):
        grid = _grid(head, rows, best)
        if page.measure(grid).maximum > width:
            grid = _grid([word.replace(" ", "\n").replace("/", "\n/") for word in head], rows, best)
        for name in spare:
            if name in head and page.measure(grid).maximum > width:
                at = head.index(name)
                head, *rows = ([*row[:at], *row[at + 1 :]] for row in (head, *rows))
                grid = _grid(head, rows)
        if k:
            page.print()
        page.print(*([Text(console.on_one_line(title))] if title else []), grid, sep="\n")
    console.show("".join(line.rstrip() + "\n" for line in drawn.getvalue().splitlines()))


def show_windows(windows: Iterable[str]) -> None:
    """Prints text in its windows on stdout: coloured on a terminal, else with markers between them."""
    terminal = Console()
    is_coloured = terminal.color_system is not None and not terminal.no_color
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
        cells = map(console.on_one_line, row)
        grid.add_row(*(Text(cell, "bold" if (i, k) in best else "") for k, cell in enumerate(cells)))
    return grid
