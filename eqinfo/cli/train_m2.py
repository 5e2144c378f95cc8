"""`eqinfo train-m2`: token files to a run folder, which eval takes."""

from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer

from eqinfo.cli import console, inputs, options
from eqinfo.errors import argument


def train_m2(
    context: typer.Context,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="RUN_DIR", parser=options.name, help="Run folder to make."),
    ],
    tokens: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[TOKENS]...",
            parser=options.name,
            help="Token files (.bin with .bin.json) or .eqi streams. A pattern in quotes, such as "
            "'shards/*.bin', stands for more of them than fit a command line.",
            show_default=False,
        ),
    ] = None,
    model: options.Model = None,
    valid: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            parser=options.name,
            help="Token file or .eqi stream to validate on; may be repeated.  [default: none]",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Size of M2: nano (0.8M parameters without embeddings), 3m (3.1M), 25m (25M), 113m (113M), "
            "403m (403M) or 2b (2.0B); or LAYERSxHEADSxWIDTH, as 6x8x512.  [default: 3m; on a CPU nano]",
        ),
    ] = None,
    token_bits: Annotated[
        int | None,
        typer.Option(
            metavar="BITS", help="Split windows into tokens of this many bits.  [default: do not split]"
        ),
    ] = None,
    block_size: Annotated[
        int | None, typer.Option(metavar="N", help="Context in tokens.  [default: 512; on a CPU 128]")
    ] = None,
    batch_tokens: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Tokens in a step, in whole blocks, at most those of the data.  "
            "[default: 32 times --block-size]",
        ),
    ] = None,
    accumulate: Annotated[
        int | None,
        typer.Option(metavar="N", help="Compute each step in this many parts, to save memory.  [default: 1]"),
    ] = None,
    steps: options.Steps = None,
    n_tokens: Annotated[
        int | None, typer.Option("--tokens", metavar="N", help="Budget in tokens read.")
    ] = None,
    minutes: options.Minutes = None,
    lr: Annotated[
        float | None, typer.Option(metavar="RATE", help="Peak learning rate.  [default: 0.01]")
    ] = None,
    validations: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Number of validations, evenly spaced, on a sample of --valid that takes some 2 % of the "
            "time; at the end all of it is measured; 0 for none.  [default: 10]",
        ),
    ] = None,
    plain_embeddings: Annotated[
        bool | None,
        typer.Option(
            "--plain-embeddings", help="Know tokens by id only, not their bytes nor what cannot follow them."
        ),
    ] = None,
    device: options.Device = "auto",
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Random seed of weights and data order.  [default: 0]")
    ] = None,
    resume: options.Resume = False,
    quiet: options.Quiet = False,
) -> None:
    """Train M2, a language model whose tokens are windows.

    On several GPUs: torchrun --nproc-per-node N -m eqinfo train-m2 ...
    """
    if not tokens and not resume:
        raise typer.BadParameter(
            "give TOKENS to start a run, or --resume to continue one", param_hint="TOKENS"
        )
    tokens, valid = inputs.matching(tokens or []), inputs.matching(valid or [])
    with console.reporting(output), ExitStack() as stack:
        from eqinfo.cli import display
        from eqinfo.m2 import run as m2_run
        from eqinfo.m2 import start as m2_start
        from eqinfo.m2 import train as m2_train
        from eqinfo.training import run_folder
        from eqinfo.training.devices import in_first, pick_device, processes

        # options have the names of the settings; None was not given
        values = {f.name: context.params[f.name] for f in fields(m2_run.Settings)}
        given = {name: value for name, value in values.items() if value is not None}
        with processes(pick_device(device)) as (where, is_first):

            def prepare() -> None:
                stack.enter_context(run_folder.alone_in(output, not resume))
                if resume:
                    files = {"train": tokens, "valid": valid}
                    if m2_start.resume(output, given, files, model) and not quiet:
                        console.say(options.EXTENDED.format(output))
                else:
                    defaults = m2_run.CPU_DEFAULTS if where.type == "cpu" else {}
                    settings = m2_run.Settings(**defaults | given)
                    m2_start.start(tokens, valid, output, settings, model)

            in_first(prepare)
            run = argument(output)
            with (
                display.phases(quiet or not is_first) as report,
                console.stop_requests(f"eqinfo train-m2 -o {run} --resume", is_first) as should_stop,
            ):
                config = m2_train.run(output, where, report, should_stop)
        if is_first and not quiet:
            display.say_tables(m2_run.tables(config))
            codec = m2_run.load_codec(output, config)
            if m2_run.codebook_of_tokens(codec, config["model"]["vocab_size"]) is not None:
                console.say(f"to let it write: eqinfo eval {run} --prompt TEXT")
            console.say(f"to measure it: eqinfo eval {run} --text FILE")
