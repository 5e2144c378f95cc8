"""`eqinfo train-m1`: text to a model folder, which compress -m takes."""

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from eqinfo.cli import console, inputs, options, progress
from eqinfo.errors import OptionError, argument


def train_m1(
    context: typer.Context,
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="MODEL_DIR", parser=options.name, help="Model folder to make."
        ),
    ],
    texts: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[TEXT]...",
            parser=options.path,
            help="Plain text or JSONL, as it is or compressed by gzip or zstd; '-' is stdin.",
            show_default=False,
        ),
    ] = None,
    window_bits: Annotated[
        str | None,
        typer.Option(
            metavar="BITS[,BITS...]",
            help="Bits of a window, 9 to 20. Several make a codebook each, all from one M1; the first is the "
            "default of compress.  [default: 16]",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Size of M1: unigram (0.1M parameters), tiny (0.4M), 500k (0.5M), 3m (3.9M), 7m (7.0M) or "
            "14m (13.3M).  [default: 3m]",
        ),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Extra rounds: train M1 further, from the starts of windows, then choose windows again.  "
            "[default: 1]",
        ),
    ] = None,
    steps: options.Steps = None,
    n_bytes: Annotated[
        int | None,
        typer.Option(
            "--bytes", metavar="N", help="Budget in bytes of text; a step reads 16 KiB (tiny: 2 KiB)."
        ),
    ] = None,
    minutes: options.Minutes = None,
    candidates: Annotated[
        int | None,
        typer.Option(metavar="N", help="Strings that M1 proposes for each window chosen.  [default: 4]"),
    ] = None,
    unaligned_penalty: Annotated[
        float | None,
        typer.Option(
            metavar="COST",
            help="Cost of a cut inside a word, in windows; over 63 is like 63.  [default: 1.0]",
        ),
    ] = None,
    rule: Annotated[
        str | None,
        typer.Option(
            metavar="fitted|published",
            help="How windows are chosen: fitted (by their use in the text) or published (a lossless version "
            "of the paper's rule).  [default: fitted]",
        ),
    ] = None,
    device: options.Device = "auto",
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Random seed. Seed and device decide the model, if the budget is in steps.  [default: 0]",
        ),
    ] = None,
    jsonl: options.Jsonl = False,
    text_field: Annotated[
        str | None,
        typer.Option(metavar="FIELD", help="Field of a JSONL record that holds its text.  [default: text]"),
    ] = None,
    skip_bad: options.SkipBad = False,
    resume: options.Resume = False,
    quiet: options.Quiet = False,
) -> None:
    """Train M1 on text and make a model folder.

    The folder holds the codebook of windows and M1 itself; compress, train-m2 and eval take it.
    """
    if not texts and not resume:
        raise typer.BadParameter("give TEXT to start a run, or --resume to continue one", param_hint="TEXT")
    with console.reporting(output):
        from eqinfo.cli import display
        from eqinfo.m1 import run as m1_run
        from eqinfo.m1 import train as m1_train
        from eqinfo.training import run_folder
        from eqinfo.training.devices import pick_device

        if (n := console.n_processes()) > 1:
            raise OptionError(f"train-m1: for one process; found {n} of torchrun. Start it without torchrun.")
        where = pick_device(device)
        # options have the names of the settings; None was not given
        given: dict[str, Any] = {f.name: context.params.get(f.name) for f in fields(m1_run.Settings)}
        if window_bits is not None:
            given["window_bits"], *given["further_window_bits"] = _widths(window_bits)
        given = {name: value for name, value in given.items() if value is not None}
        sources = inputs.open_texts(texts or [])
        with (
            run_folder.alone_in(output, not resume),
            display.phases(quiet) as report,
            progress.reading(texts or [], lambda share: report(m1_run.READING, share, "")),
        ):
            if not resume:
                m1_run.start(sources, output, m1_run.Settings(**given), report, jsonl, skip_bad)
            elif (
                m1_run.resume(output, given, sources if texts else None, report, jsonl, skip_bad)
                and not quiet
            ):
                console.say(options.EXTENDED.format(output))
            folder = argument(output)
            with console.stop_requests(f"eqinfo train-m1 -o {folder} --resume") as should_stop:
                config = m1_train.run(output, where, report, should_stop)
        if not quiet:
            display.say_tables(m1_run.tables(config["measured"], config["settings"]["window_bits"]))
            console.say(f"to use it: eqinfo compress -m {folder} FILE")
            console.say(f"to measure it: eqinfo eval {folder} --text FILE")


def _widths(text: str) -> list[int]:
    """The window sizes in a list with commas; Settings checks their range."""
    try:
        widths = [int(bits) for bits in text.split(",")]
        if len(set(widths)) < len(widths):
            raise ValueError("a width twice")
    except ValueError:
        raise typer.BadParameter(
            f"found {text!r}, want different numbers with commas between them", param_hint="--window-bits"
        ) from None
    return widths
