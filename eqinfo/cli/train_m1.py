"""`eqinfo train-m1`: text to a model folder, which compress -m takes."""

from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer

from eqinfo.cli import console, options


def train_m1(
    context: typer.Context,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="MODEL_DIR", help="Model folder to make.")
    ],
    texts: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="TEXT",
            parser=options.path,
            help="Plain text or JSONL, as it is or compressed by gzip or zstd; '-' is stdin.",
            show_default=False,
        ),
    ] = None,
    window_bits: Annotated[
        str,
        typer.Option(
            metavar="BITS[,BITS...]",
            help="Bits of a window, 9 to 20. Several make a codebook each, all from one M1; the first is the "
            "default of compress.",
        ),
    ] = "16",
    preset: Annotated[
        str,
        typer.Option(
            help="Size of M1: unigram (0.1M parameters), tiny (0.4M), 500k (0.5M), 3m (3.9M), 7m (7.0M) or "
            "14m (13.3M)."
        ),
    ] = "3m",
    rounds: Annotated[
        int, typer.Option(help="Extra rounds: train M1 on at the starts of windows, choose windows again.")
    ] = 1,
    steps: options.Steps = None,
    n_bytes: Annotated[
        int | None,
        typer.Option("--bytes", help="Budget in bytes of text; a step reads 16 KiB (tiny: 2 KiB)."),
    ] = None,
    minutes: options.Minutes = None,
    candidates: Annotated[int, typer.Option(help="Strings that M1 proposes for each window chosen.")] = 4,
    unaligned_penalty: Annotated[
        float, typer.Option(help="Cost of a cut inside a word, in windows, 0 to 1000.")
    ] = 1.0,
    rule: Annotated[
        str,
        typer.Option(
            help="How windows are chosen: fitted (by their use in the text) or published (a lossless version "
            "of the paper's rule)."
        ),
    ] = "fitted",
    device: options.Device = "auto",
    seed: Annotated[
        int, typer.Option(help="Random seed. Seed, device and number of steps decide the model.")
    ] = 0,
    jsonl: options.Jsonl = False,
    text_field: options.TextField = "text",
    skip_bad: options.SkipBad = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in MODEL_DIR.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Train M1 on text and make a model folder.

    The folder holds the codebook of windows and M1 itself; compress, train-m2 and eval take it.
    """
    if bool(texts) == resume:
        raise typer.BadParameter("give TEXT to start a run, or --resume to continue one", param_hint="TEXT")
    with console.reporting(output):
        from eqinfo.cli import display
        from eqinfo.m1 import run as m1_run
        from eqinfo.m1 import train as m1_train
        from eqinfo.training import run_folder
        from eqinfo.training.devices import pick_device

        where = pick_device(device)
        # options have the names of the settings
        given = {f.name: context.params[f.name] for f in fields(m1_run.Settings) if f.name in context.params}
        first, *further = _widths(window_bits)
        settings = m1_run.Settings(**given | {"window_bits": first, "further_window_bits": further})
        with run_folder.alone_in(output, not resume), display.phases(quiet) as report:
            if texts:
                m1_run.start(console.open_texts(texts), output, settings, report, jsonl, skip_bad)
            with console.stop_requests() as should_stop:
                config = m1_train.run(output, where, report, should_stop)
        if not quiet:
            display.say_tables(m1_run.tables(config))


def _widths(text: str) -> list[int]:
    """The window sizes in a list with commas; Settings checks their range."""
    try:
        return [int(bits) for bits in text.split(",")]
    except ValueError:
        raise typer.BadParameter(
            f"found {text!r}, want numbers with commas between them", param_hint="--window-bits"
        ) from None
