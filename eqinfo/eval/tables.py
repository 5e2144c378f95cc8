"""What eval measured, for people: tables and a figure.

What this module does not do: measure (`report`), or print (`console`).
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from eqinfo.errors import InputError
from eqinfo.eval.results import Document, M1Row
from eqinfo.m1 import run as m1_run
from eqinfo.m2 import run as m2_run
from eqinfo.training import run_folder


class Table(NamedTuple):
    """Figures for people: a title, heads of columns, rows of as many cells, the best cells of columns."""

    title: str
    head: list[str]
    rows: list[list[str]]
    best: set[tuple[int, int]]  # row, column


class Column(NamedTuple):
    """How an attribute is shown, and whether less or more of it is better."""

    head: str
    name: str
    form: str
    better: Literal["less", "more"]


M1_COLUMNS = [
    Column("bytes/window", "bytes_per_window", ".3f", "more"),
    Column("compressed bytes", "compressed_bytes", ",", "less"),
    Column("compression ratio", "compression_ratio", ".3f", "more"),
    Column("aligned cuts", "aligned_share", ".1%", "more"),
    Column("windows used", "windows_used", ",", "more"),
    Column("entropy, bits", "entropy_bits", ".3f", "more"),
    Column("KL to uniform, bits", "kl_to_uniform_bits", ".3f", "less"),
]
M2_COLUMNS = [
    Column("bits/byte", "bits_per_byte", ".4f", "less"),
    Column("word perplexity", "word_perplexity", ",.1f", "less"),
    Column("tokens/byte", "tokens_per_byte", ".4f", "less"),
    Column("MFLOPs/byte", "flops_per_byte", "M", "less"),
    Column("with output MFLOPs/byte", "with_output_flops_per_byte", "M", "less"),
    Column("bytes/step", "bytes_per_step", ".3f", "more"),
    Column("scoring bytes/s", "scoring_bytes_per_s", ",.0f", "more"),
    Column("generation bytes/s", "generation_bytes_per_s", ",.0f", "more"),
]


def tables(document: Document) -> list[Table]:
    """What was measured, for people: one table of codebooks, one of M1 by position, one of runs."""
    text = document.text
    if text is None:
        return _tables_without_text(document)
    words = "" if text.words is None else f", {text.words:,} words"
    title = f"{text.name}: {'' if text.is_whole else 'first '}{text.original_bytes:,} bytes{words}"
    found = []
    if document.m1:
        rows: list[tuple[str, object]] = [(_name(row), row) for row in document.m1]
        rows += [(row.name, row) for row in text.compressors]
        found += [_table(title, "windows", rows, M1_COLUMNS), _by_position(document.m1)]
    if document.m2:
        found.append(_table(title, "run", [(row.run, row) for row in document.m2], M2_COLUMNS))
    return found


def _tables_without_text(document: Document) -> list[Table]:
    """What the runs themselves measured when they ended."""
    shown = [
        (row.model, m1_run.tables({"settings": {"window_bits": row.window_bits}, "measured": row.measured}))
        for row in document.m1
        if row.measured
    ]
    shown += [(row.run, m2_run.tables(run_folder.read_config(Path(row.run)))) for row in document.m2]
    return [
        Table(f"{name}: {head}", ["", ""], [list(row) for row in rows], set())
        for name, parts in shown
        for head, rows in parts
    ]


def _name(row: M1Row) -> str:
    """What a codebook is called in tables."""
    return f"{row.model}, published rule" if row.rule == "published" else row.model


def _shown(figure: float | None, form: str) -> str:
    """A figure in a cell; form `M` is in millions."""
    if figure is None:
        return "-"
    return f"{figure / 1e6:,.3f}" if form == "M" else format(figure, form)


def _table(title: str, what: str, rows: list[tuple[str, object]], columns: list[Column]) -> Table:
    """A table of rows by name; "-" where a row has no such figure."""
    figures: list[list[float | None]]
    figures = [[getattr(row, column.name, None) for column in columns] for _, row in rows]
    cells = [
        [name, *(_shown(figure, column.form) for figure, column in zip(line, columns, strict=True))]
        for (name, _), line in zip(rows, figures, strict=True)
    ]
    best = set()
    for k, column in enumerate(columns):
        known = [figure for line in figures if (figure := line[k]) is not None]
        if known and min(known) < max(known):
            target = min(known) if column.better == "less" else max(known)
            best |= {(i, k + 1) for i, line in enumerate(figures) if line[k] == target}
    return Table(title, [what, *(column.head for column in columns)], cells, best)


def _by_position(rows: list[M1Row]) -> Table:
    """M1's bits/byte by position, a column a codebook."""
    columns = [row.bits_per_byte_by_position or [] for row in rows]
    n_positions = max(map(len, columns))
    shown = [i for i in range(n_positions) if i < 8 or i % 8 == 7]
    cells = [
        [f"byte {i + 1}", *(_shown(bits[i] if i < len(bits) else None, ".3f") for bits in columns)]
        for i in shown
    ]
    return Table("M1, bits/byte by position in the window", ["", *map(_name, rows)], cells, set())


def check_figure(path: Path, configs: Sequence[dict[str, Any]], has_text: bool) -> None:
    """Whether a figure can be drawn, before anything is measured.

    Raises:
        InputError: there is nothing to draw, or nothing to draw with.
    """
    if not has_text or all(config["format"] != "eqinfo m2" for config in configs):
        raise InputError(f"{path}: nothing to draw. Give runs of train-m2 and a --text.")
    try:
        import matplotlib  # noqa: F401 - whether it is there
    except ModuleNotFoundError:
        raise InputError(
            "--figure: matplotlib is missing. Install it: pip install 'eqinfo[figures]'"
        ) from None


def figure(document: Document, suffix: str) -> bytes:
    """The contents of an .svg or .png file: bits/byte of runs against FLOPs/byte and against bytes/step."""
    import matplotlib
    from matplotlib.figure import Figure

    rows = [row for row in document.m2 if row.bits_per_byte is not None]
    drawing = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = drawing.subplots(1, 2, sharey=True)
    for axes, label, name in (
        (left, "FLOPs/byte (2 x non-embedding parameters x tokens/byte)", "flops_per_byte"),
        (right, "bytes/step", "bytes_per_step"),
    ):
        for row in rows:
            x, y = getattr(row, name), row.bits_per_byte
            axes.scatter([x], [y])
            axes.annotate(
                row.run, (x, y), xytext=(6, 4), textcoords="offset points", fontsize=8, parse_math=False
            )
        axes.set_xlabel(label)
        axes.grid(alpha=0.3)
    left.set_ylabel("bits/byte")
    left.set_xscale("log")
    drawing.suptitle(document.text.name if document.text else "", parse_math=False)
    sink = io.BytesIO()
    # the same figures give the same file: no date, no random names, text as text
    with matplotlib.rc_context({"svg.hashsalt": "eqinfo", "svg.fonttype": "none"}):
        drawing.savefig(
            sink,
            format=suffix.removeprefix("."),
            dpi=150,
            metadata={"Date": None} if suffix == ".svg" else {},
        )
    return sink.getvalue()
