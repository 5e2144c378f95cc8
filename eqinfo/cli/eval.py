"""`eqinfo eval`: measure models and runs on a text, show how a text is cut, or continue a prompt.

These are three programs. Each imports only what it needs.
"""

import os
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eqinfo.cli import console, inputs, options, outputs
from eqinfo.errors import InputError, OptionError, argument
from eqinfo.system.atomic_files import replacing

if TYPE_CHECKING:
    from eqinfo.eval.held_out import HeldOut


# parameters that need another one, and those that do not go with one
NEED = {
    "text": ("jsonl", "text_field", "skip_bad"),
    "show": ("window_bits",),
    "prompt": ("n_bytes", "temperature", "top_k", "seed"),
}
REFUSED = {"prompt": ("text", "show", "as_json", "figure"), "show": ("as_json", "device")}


def evaluate(
    context: typer.Context,
    what: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[WHAT]...",
            parser=options.name,
            help="Model folders of train-m1, run folders of train-m2; none is the packaged model.",
            show_default=False,
        ),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            parser=options.path,
            help="Measure on this text, its first 16 MiB: plain text or JSONL, as it is or compressed by "
            "gzip or zstd; a token file; '-' is stdin.  [default: show what training measured]",
        ),
    ] = None,
    jsonl: options.Jsonl = False,
    text_field: options.TextField = "text",
    skip_bad: options.SkipBad = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, not tables.")] = False,
    figure: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            parser=options.path,
            help="Draw the loss of runs, against tokens and time, into this .svg or .png file, replacing it; "
            "with --show, the cuts, .svg alone.",
        ),
    ] = None,
    show: Annotated[
        bool,
        typer.Option(
            "--show",
            help="Show where the windows of a model or an .eqcb file cut the --text; measure nothing.",
        ),
    ] = False,
    window_bits: Annotated[
        int | None,
        typer.Option(
            metavar="BITS", help="With --show: which codebook of the model.  [default: the model's first]"
        ),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="Print the bytes with which a run continues this text; '-' is stdin."
        ),
    ] = None,
    n_bytes: Annotated[
        int, typer.Option("--bytes", metavar="N", min=0, help="With --prompt: bytes to print.")
    ] = 256,
    temperature: Annotated[
        float,
        typer.Option(
            metavar="NUMBER",
            min=0,
            callback=options.finite,
            help="With --prompt: temperature; 0 takes the best token.",
        ),
    ] = 1.0,
    top_k: Annotated[
        int | None,
        typer.Option(metavar="K", min=1, help="With --prompt: only the K best tokens.  [default: all]"),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="With --prompt: random seed of the sampling.")
    ] = 0,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Measure models and runs on a text, or continue a prompt.

    Models are shown beside the published rule (a lossless version of the paper's), gzip, zstd and xz.
    """
    _check_options(context)
    if figure is not None and figure.suffix not in (".svg", ".png"):
        raise typer.BadParameter(f"found {str(figure)!r}, want a name in .svg or .png", param_hint="--figure")
    if prompt is not None:
        if what is None or len(what) != 1:
            raise typer.BadParameter("takes one run", param_hint="--prompt")
        _continue(what[0], prompt, n_bytes, temperature, top_k, seed, device, quiet)
        return
    if show:
        if text is None or (what and len(what) > 1):
            raise typer.BadParameter("takes a --text and one model", param_hint="--show")
        _show(what[0] if what else None, window_bits, text, text_field, figure, quiet, jsonl, skip_bad)
        return
    from eqinfo.formats.model_folder import model_path

    what = [model_path(path) for path in what] if what else [model_path(None)]
    with console.reporting(what[0]):
        _refuse_files(what)
        from eqinfo.cli import display
        from eqinfo.eval import curves, measure, tables
        from eqinfo.training.devices import pick_device

        where = pick_device(device)
        configs = measure.read_configs(what)
        if figure is not None:
            curves.check(figure, configs)
            outputs.Claims([text] if text else []).claim(figure)
        # the figure is opened first: if it cannot be written, nothing is measured in vain
        with replacing(figure, force=True) if figure is not None else nullcontext() as sink:
            held_out = None if text is None else _held_out(text, text_field, what, quiet, jsonl, skip_bad)
            with display.phases(quiet, lines=False) as progress:
                document = measure.measure(what, held_out, where, progress)
            if figure is not None and sink is not None:
                sink.write(curves.figure(document, figure.suffix))
        for row in document.m2:
            if not row.is_complete and not quiet:
                console.say(_unfinished(row.run, row.measured))
        if as_json:
            console.show(document.to_json())
        else:
            display.show_tables(tables.tables(document))


def _check_options(context: typer.Context) -> None:
    """Raises typer.BadParameter if the user gave options that have no effect together."""
    given = options.given(context)
    for need, names in NEED.items():
        if need not in given:
            options.refuse(given, names, f"for --{need} only")
    for one, names in REFUSED.items():
        if one in given:
            options.refuse(given, names, f"not with --{one}")


def _refuse_files(what: list[Path]) -> None:
    """Raises InputError if what is to be measured is a file."""
    from eqinfo.formats.model_folder import CODEBOOK_NAME

    for path in what:
        if path.is_file():
            advice = f"Measure on it with --text {argument(path)}"
            if path.suffix == Path(CODEBOOK_NAME).suffix:
                advice = f"Show how it cuts a text: eqinfo eval {argument(path)} --show --text FILE"
            raise InputError(f"{path}: a file, not a folder of train-m1 or train-m2. {advice}")


def _show(
    model: Path | None,
    window_bits: int | None,
    text: Path,
    text_field: str,
    figure: Path | None,
    quiet: bool,
    jsonl: bool,
    skip_bad: bool,
) -> None:
    """Prints or draws a text in the windows of a codebook."""
    with console.reporting(text):
        from eqinfo.cli import display
        from eqinfo.eval import cuts
        from eqinfo.formats.model_folder import Model
        from eqinfo.text.decompression import decompressed
        from eqinfo.text.documents import read_pieces
        from eqinfo.text.frames import frames_of_pieces

        inputs.refuse_ids(text)
        codebook, name = Model(model).codebook_of(window_bits), console.shown(text)
        with console.open_input(text, decompressed) as source:
            frames = frames_of_pieces(read_pieces(source, name, text_field, jsonl, skip_bad))
            if figure is not None:
                if figure.suffix != ".svg":
                    raise OptionError(f"--figure: with --show as .svg only; found {figure}.")
                outputs.Claims([text]).claim(figure)
                with replacing(figure, force=True) as sink:
                    sink.write(cuts.picture(codebook, frames, name))
                return
            counts = cuts.Counts()
            display.show_windows(cuts.shown(codebook, frames, counts))
        if not quiet:
            console.say(f"{name}: {counts}")


def _continue(
    folder: Path,
    prompt: str,
    n_bytes: int,
    temperature: float,
    top_k: int | None,
    seed: int,
    device: str,
    quiet: bool,
) -> None:
    """Prints the bytes with which a run continues a prompt, as they are generated."""
    with console.reporting(folder):
        from eqinfo.m2.generate import stream
        from eqinfo.m2.trained import load_m2
        from eqinfo.training.devices import pick_device

        run = load_m2(folder, pick_device(device))
        if not run.is_complete and not quiet:
            console.say(_unfinished(str(folder), run.config["measured"]))
        if run.codebook is None:
            raise InputError(f"{folder}: its tokens are no windows of a codebook, so it cannot write.")
        start = os.fsencode(prompt)  # the bytes that the shell passed
        if prompt == str(console.STANDARD):
            with console.open_input(console.STANDARD) as source:
                start = source.read()
        console.show_pieces(stream(run.model, run.codebook, start, n_bytes, temperature, top_k, seed))


def _unfinished(run: str, measured: dict[str, Any]) -> str:
    """A line about a run that is not complete."""
    return f"{run}: not complete; this is its checkpoint, step {measured['training_steps']:,}"


def _held_out(
    text: Path, text_field: str, what: list[Path], quiet: bool, jsonl: bool, skip_bad: bool
) -> "HeldOut":
    """The text to measure on."""
    from eqinfo.eval.held_out import read_held_out
    from eqinfo.text.decompression import decompressed

    # ids may begin as a compressed file does
    with console.open_input(text, None if inputs.is_token_file(text) else decompressed) as source:
        path = None if text == console.STANDARD else text
        held_out = read_held_out(source, path, text_field, what, jsonl, skip_bad)
    if not held_out.is_whole and not quiet:
        console.say(f"{console.shown(text)}: long; measured on its first {held_out.original_bytes} bytes")
    return held_out
