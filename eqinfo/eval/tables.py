"""Formats eval's results for people as tables.

What this module does not do: measure (`measure`), or print (`cli`).
"""

from collections.abc import Callable, Iterable
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from eqinfo.eval.results import LiveRow, M1Row, Results
from eqinfo.formats.model_folder import AC
from eqinfo.m1 import run as m1_run
from eqinfo.m2 import run as m2_run
from eqinfo.training import run_folder


class Table(NamedTuple):
    """A table of text cells."""

    title: str
    head: list[str]
    rows: list[list[str]]  # each as long as the head
    best: set[tuple[int, int]]  # (row, column) of the best figures of their columns


class Column(NamedTuple):
    """A column of figures: how an attribute of a row is shown."""

    head: str
    name: str  # of the attribute
    form: str  # a format specification, or M for millions
    best: Callable[[Iterable[float]], float]  # min or max


HUGE = 1e12  # figures from here on are shown as powers of ten
M1_COLUMNS = [
    Column("bytes/window", "bytes_per_window", ".3f", max),
    Column("compressed bytes", "compressed_bytes", ",", min),
    Column("ratio", "compression_ratio", ".3f", max),
    Column("aligned cuts", "aligned_share", ".1%", max),
    Column("windows used", "windows_used", ",", max),
    Column("KL to uniform, bits", "kl_to_uniform_bits", ".3f", min),
]
M2_COLUMNS = [
    Column("bits/byte", "bits_per_byte", ".4f", min),
    Column("word perplexity", "word_perplexity", ",.1f", min),
    Column("tokens/byte", "tokens_per_byte", ".4f", min),
    Column("MFLOPs/byte", "flops_per_byte", "M", min),
    Column("with output MFLOPs/byte", "with_output_flops_per_byte", "M", min),
    Column("bytes/step", "bytes_per_step", ".3f", max),
    Column("scoring bytes/s", "scoring_bytes_per_s", ",.0f", max),
    Column("generation bytes/s", "generation_bytes_per_s", ",.0f", max),
]


def tables(results: Results) -> list[Table]:
    """The tables of codebooks, of M1 by position, and of runs; without a text, the figures of training."""
    text = results.text
    if text is None:
        return _training_tables(results)
    words = "" if text.words is None else f", {text.words:,} words"
    title = f"{text.name}: {'' if text.is_whole else 'first '}{text.original_bytes:,} bytes{words}"
    found = []
    if results.m1:
        is_one = len({row.model for row in results.m1}) == 1
        names = [_name(row, is_one) for row in results.m1]
        rows: list[tuple[str, object]] = list(zip(names, results.m1, strict=True))
        rows += [(_live_name(row, is_one, text.original_bytes), row) for row in results.live]
        rows += [(row.name, row) for row in text.compressors]
        heading = f"{results.m1[0].model} on {title}" if is_one else title
        found += [_table(heading, "windows", rows, M1_COLUMNS), _by_position(names, results.m1)]
    if results.m2:
        found.append(_table(title, "run", [(row.run, row) for row in results.m2], M2_COLUMNS))
    return found


def _training_tables(results: Results) -> list[Table]:
    """The figures that training measured."""
    shown = [(row.model, m1_run.tables(row.measured, row.window_bits)) for row in results.m1 if row.measured]
    for run in results.m2:
        config = run_folder.read_config(Path(run.run)) | {"measured": run.measured}
        shown.append((run.run, m2_run.tables(config)))
    return [
        Table(f"{folder}: {head}", ["", ""], [list(row) for row in rows], set())
        for folder, of_training in shown
        for head, rows in of_training
    ]


def _name(row: M1Row, is_one: bool) -> str:
    """The name of a codebook in tables; without the model if there is one only."""
    rule = ", published rule" if row.rule == "published" else ""
    return f"{'' if is_one else f'{row.model}, '}{row.window_bits} bits{rule}"


def _live_name(row: LiveRow, is_one: bool, text_bytes: int) -> str:
    """The name of a stream in which M1 runs."""
    part = f", first {row.measured_bytes >> 10} KiB" if row.measured_bytes < text_bytes else ""
    kind = AC if row.window_bits is None else f"{row.window_bits} bits"
    return f"{'' if is_one else f'{row.model}, '}{kind}{part}"


def _shown(figure: float | None, form: str) -> str:
    """The text of a cell; `form` as in `Column`."""
    if figure is None:
        return "-"
    if figure >= HUGE:
        return f"{figure:.1e}"
    return f"{figure / 1e6:,.3f}" if form == "M" else format(figure, form)


def _table(title: str, what: str, rows: list[tuple[str, object]], columns: list[Column]) -> Table:
    """A table with a line for each (name, row); "-" where a row has no such figure."""
    lines, best = [[name] for name, _ in rows], set()
    for k, column in enumerate(columns, 1):
        figures = [getattr(row, column.name, None) for _, row in rows]
        for line, figure in zip(lines, figures, strict=True):
            line.append(_shown(figure, column.form))
        known = [figure for figure in figures if figure is not None]
        if len(set(known)) > 1:  # no best one among equals
            best |= {(i, k) for i, figure in enumerate(figures) if figure == column.best(known)}
    return Table(title, [what, *(column.head for column in columns)], lines, best)


def _by_position(names: list[str], rows: list[M1Row]) -> Table:
    """M1's bits/byte by position, with a column for each codebook: bytes 1 to 8, then every eighth."""
    columns = zip_longest(*(row.bits_per_byte_by_position or [] for row in rows))
    cells = [
        [f"byte {i}", *(_shown(figure, ".3f") for figure in figures)]
        for i, figures in enumerate(columns, 1)
        if i <= 8 or i % 8 == 0
    ]
    return Table("M1, bits/byte by position in the window", ["", *names], cells, set())
