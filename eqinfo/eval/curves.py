"""The figure of eval: the loss of runs as they train, against tokens and against time.

What this module does not do: measure anything. It reads the log of each run, `metrics.jsonl`.
"""

import io
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eqinfo.errors import InputError
from eqinfo.eval.cuts import readable_name
from eqinfo.eval.results import Results
from eqinfo.m2.metrics import Metrics
from eqinfo.m2.train import METRICS

Lines = list[dict[str, float]]

MAX_POINTS = 500  # of a curve; more steps are drawn as means of neighbours
AXES = (("tokens", "tokens trained on"), ("time_s", "time of training, s"))


def check(path: Path, configs: Sequence[dict[str, Any]]) -> None:
    """Checks, before anything is measured, that a figure can be drawn.

    Raises:
        InputError: there are no runs, or matplotlib is missing.
    """
    if all(config["format"] != "eqinfo m2" for config in configs):
        raise InputError(f"{path}: nothing to draw. Give runs of train-m2.")
    os.environ["MPLBACKEND"] = "agg"  # a notebook's backend may be missing, and a file needs none
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    try:
        import matplotlib  # noqa: F401 - imported to see if it is installed
    except ModuleNotFoundError:
        raise InputError("--figure: matplotlib is missing. Install it: pip install matplotlib") from None


def figure(results: Results, suffix: str) -> bytes:
    """The contents of an .svg or .png file: the loss of all runs against tokens and against time.

    A curve is a run's training, its dots the validations. If runs were measured on a text, a star at the end
    of each curve is the bits/byte on it.
    """
    import matplotlib
    from matplotlib.figure import Figure

    runs = [(row, *_read(Path(row.run))) for row in results.m2]
    in_bits = all("bits_per_byte" in line for _, steps, _ in runs for line in steps)
    losses = ("bits_per_byte", "valid_bits_per_byte") if in_bits else ("loss", "valid_loss")
    drawing = Figure(figsize=(10, 4.2), layout="constrained")
    both = drawing.subplots(1, 2, sharey=True)
    for axes, (along, label) in zip(both, AXES, strict=True):
        for k, (row, steps, validations) in enumerate(runs):
            colour = f"C{k % 10}"
            axes.plot(_means(steps, along), _means(steps, losses[0]), color=colour, linewidth=1, label=str(k))
            dots = [line for line in validations if losses[1] in line]
            x, y = ([dot[name] for dot in dots] for name in (along, losses[1]))
            axes.plot(x, y, "o", color=colour, markersize=4)
            if in_bits and steps and row.bits_per_byte is not None:
                axes.plot(steps[-1][along], row.bits_per_byte, "*", color=colour, markersize=10)
        axes.set_xlabel(label)
        axes.grid(alpha=0.3)
    both[0].set_ylabel("bits/byte" if in_bits else "nats/token")
    for text, (row, _, _) in zip(both[0].legend(fontsize=8).get_texts(), runs, strict=True):
        text.set_parse_math(False)
        text.set_text(readable_name(row.run))  # as a label, none may begin with _
    where = f"; stars: on {readable_name(results.text.name)}" if results.text else ""
    drawing.suptitle(f"Lines: training; dots: validation{where}", fontsize=10, parse_math=False)
    sink = io.BytesIO()
    metadata = {"Date": None} if suffix == ".svg" else {}
    # Equal results give equal files: no date, no random names. Text stays text.
    with matplotlib.rc_context({"svg.hashsalt": "eqinfo", "svg.fonttype": "none"}):
        drawing.savefig(sink, format=suffix.removeprefix("."), dpi=150, metadata=metadata)
    return sink.getvalue()


def _read(run: Path) -> tuple[Lines, Lines]:
    """The steps of a run, and its validations with the tokens and the time of their steps."""
    lines = Metrics(run / METRICS).lines()
    steps = [line for line in lines if {"loss", *(along for along, _ in AXES)} <= line.keys()]
    at = {line["step"]: line for line in steps}
    return steps, [at[line["step"]] | line for line in lines if "valid_loss" in line and line["step"] in at]


def _means(lines: Lines, name: str) -> list[float]:
    """A figure of all lines, or the means of neighbours, so that there are at most MAX_POINTS."""
    figures = np.array([line[name] for line in lines])
    if figures.size <= MAX_POINTS:
        return [float(figure) for figure in figures]
    return [float(part.mean()) for part in np.array_split(figures, MAX_POINTS)]
