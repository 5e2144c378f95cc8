"""The commands. Only this module and `console` touch stdin, stdout, stderr and rich.

Whatever is heavy is imported where it is used: `compress` and `decompress` start without torch, and numba
and rich are imported only when there is enough to do.
"""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperGroup

from eqinfo import __version__
from eqinfo.cli import console, jobs
from eqinfo.errors import InputError
from eqinfo.system.atomic_files import replacing

if TYPE_CHECKING:
    from eqinfo.codebook.codebook import Method
    from eqinfo.eval.held_out import HeldOut

# numpy's linear algebra is not used by the coder, and starting its threads costs 0.1 s of CPU time
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# torch's threads spin at barriers unless told not to: beside another busy process that halves their speed
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# what zstd, gzip and xz call it, in place of a command or after `compress`: tar -I 'eqinfo compress' adds -d
LETTERS = {"d": ["decompress"], "t": ["decompress", "-t"], "l": ["list"]}
FLAGS = re.compile("-([cfkqv]*)([dtl])([cfkqv]*)")  # as in -dc: no other letter's value is taken for one


class Commands(TyperGroup):
    """The commands, by their names or by LETTERS."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse what follows `eqinfo`."""
        start = int(args[:1] == ["compress"])
        for k, arg in enumerate(args[start:] if start else args[:1], start):
            if arg == "--":
                break
            if found := FLAGS.fullmatch("-l" if arg == "--list" else arg):
                flags = found[1] + found[3]
                args = [*LETTERS[found[2]], *args[start:k], *([f"-{flags}"] if flags else []), *args[k + 1 :]]
                break
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help starts fast and reads the same in a pipe
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Files = Annotated[
    list[Path] | None,
    typer.Argument(metavar="FILE", help="Inputs, which are kept; none or '-' is stdin.", show_default=False),
]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Output; '-' is stdout.")]
Model = Annotated[
    Path | None,
    typer.Option("-m", "--model", help="Model folder or .eqcb file; default: that in the package."),
]
Stdout = Annotated[bool, typer.Option("-c", "--stdout", help="Write to stdout, even to a terminal.")]
Force = Annotated[bool, typer.Option("-f", "--force", help="Replace existing outputs.")]
Keep = Annotated[bool, typer.Option("-k", "--keep", help="Keep inputs; always so.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Errors only.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Say what was done, one line a file.")]
Threads = Annotated[int, typer.Option("-T", "--threads", min=0, help="Threads; 0 is one a core.")]
TextField = Annotated[str, typer.Option("--text-field", help="Field of a JSONL record that holds its text.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"eqinfo {__version__}")
        raise typer.Exit


@app.callback()
def eqinfo(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    listing: Annotated[
        bool, typer.Option("-l", "--list", help="What streams and token files are; see eqinfo -l --help.")
    ] = False,
    decompressing: Annotated[bool, typer.Option("-d", help="The same as decompress.")] = False,
    testing: Annotated[bool, typer.Option("-t", help="The same as decompress -t.")] = False,
) -> None:
    """Equal-info windows: text as windows of exactly b bits, and language models trained on them."""


@app.command(epilog="Example: printf 'to be or not to be' | eqinfo compress | wc -c")
def compress(
    files: Files = None,
    output: Output = None,
    model: Model = None,
    stdout: Stdout = False,
    force: Force = False,
    keep: Keep = True,
    quiet: Quiet = False,
    verbose: Verbose = False,
    threads: Threads = 1,
    tokens: Annotated[
        bool, typer.Option("--tokens", help="Write FILE.bin to train M2 on; reads .jsonl, .gz and .zst.")
    ] = False,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="Input is JSONL: keep its texts, each as a document.")
    ] = False,
    text_field: TextField = "text",
    window_bits: Annotated[
        str | None,
        typer.Option(
            "--window-bits",
            help="24, 32, ... 128: live windows; ac: none, smallest; default: the codebook's.",
        ),
    ] = None,
    carry: Annotated[
        bool, typer.Option("--carry", help="Live windows: let M1 read on from window to window.")
    ] = False,
    rule: Annotated[
        str, typer.Option("--rule", help="Live windows and ac: live, or published (the paper's).")
    ] = "live",
    method: Annotated[
        str | None, typer.Option("--method", help="Parse: optimal or greedy; default: the codebook's own.")
    ] = None,
    unaligned_penalty: Annotated[
        float | None,
        typer.Option(
            "--unaligned-penalty", min=0, max=1000, help="Price of a cut inside a word, in windows."
        ),
    ] = None,
) -> None:
    """Compress files or stdin into windows. FILE goes to FILE.eqi, stdin to stdout."""
    if method not in (None, "optimal", "greedy"):
        raise typer.BadParameter(f"{method!r} is neither optimal nor greedy", param_hint="--method")
    from eqinfo.formats import eqi
    from eqinfo.formats import token_file as token_files

    with console.reporting():
        codec = jobs.load_codec(
            model, window_bits, carry, rule, cast("Method | None", method), unaligned_penalty
        )

    def work(name: Path) -> None:
        target = jobs.target(name, output, stdout, jobs.TOKENS_SUFFIX if tokens else jobs.STREAM_SUFFIX)
        with ExitStack() as stack:
            source, frames = jobs.read_text(stack, name, tokens, jsonl, text_field, codec.frame_bytes)
            frames = console.with_progress(frames, source, name, quiet)
            if tokens:
                sink, sidecar = jobs.open_tokens(stack, target, name, force)
                totals, facts = token_files.write(frames, sink, codec, _cores(threads))
                sidecar.write(facts.to_json())
            else:
                sink = stack.enter_context(console.open_output(target, name, force, binary=not stdout))
                totals = eqi.compress(frames, sink, codec, _cores(threads))
        if verbose or (target is not None and not quiet and console.is_terminal(sys.stderr)):
            console.say(jobs.summary(name, totals, codec))

    console.for_each(files, output, work)


@app.command(epilog="Example: printf 'to be or not to be' | eqinfo compress | eqinfo decompress")
def decompress(
    files: Files = None,
    output: Output = None,
    model: Model = None,
    stdout: Stdout = False,
    force: Force = False,
    keep: Keep = True,
    test: Annotated[bool, typer.Option("-t", "--test", help="Check the inputs and write nothing.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    threads: Threads = 1,
    byte_range: Annotated[
        str | None,
        typer.Option("--range", metavar="START:END", help="Only these bytes of the text, found fast."),
    ] = None,
    jsonl: Annotated[bool, typer.Option("--jsonl", help='Write a line {"text": ...} per document.')] = False,
) -> None:
    """Restore what compress was given. FILE.eqi or FILE.bin goes to FILE, stdin to stdout."""
    span = jobs.span(byte_range)
    if span is not None and jsonl:
        raise typer.BadParameter("may cut records in two: not with --jsonl", param_hint="--range")
    from eqinfo.formats.eqi_index import read_range
    from eqinfo.formats.model_folder import Model
    from eqinfo.formats.token_file import sidecar_path
    from eqinfo.text.frames import jsonl_of_frames

    finder = Model(model)

    def work(name: Path) -> None:
        with ExitStack() as stack:
            source = stack.enter_context(console.open_input(name, binary=True))
            is_tokens = name != console.STANDARD and sidecar_path(name).is_file()
            pieces: Iterator[bytes]
            if span is not None:
                if is_tokens or not source.seekable():
                    raise InputError(f"{name}: --range needs an .eqi file, which it can read from the end.")
                pieces = read_range(source, finder, str(name), *span)
            else:
                frames = jobs.read_frames(source, finder, name, is_tokens, _cores(threads))
                frames = console.with_progress(frames, source, name, quiet)
                pieces = jsonl_of_frames(frames, str(name)) if jsonl else (frame.text for frame in frames)
            if test:
                n_bytes = sum(map(len, pieces))
            else:
                target = jobs.restored(
                    name, output, stdout, jobs.TOKENS_SUFFIX if is_tokens else jobs.STREAM_SUFFIX
                )
                sink = stack.enter_context(console.open_output(target, name, force))
                n_bytes = sum(map(sink.write, pieces))
        if verbose:
            console.say(f"{name}: {n_bytes} bytes{', sound' if test else ''}")

    console.for_each(files, output, work)


@app.command("list", hidden=True, epilog="Example: eqinfo compress README.md && eqinfo -l README.md.eqi")
def list_files(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE", help=".eqi streams and token files.", show_default=False)
    ],
    model: Model = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line, not a table.")] = False,
) -> None:
    """Say what files are, from their headers and indexes; nothing is decoded.

    A file has a row for each coding in it. Model is whether the one at hand (-m) decodes it.
    """
    from eqinfo.formats import listing
    from eqinfo.formats.model_folder import Model

    finder = Model(model)
    rows = list[listing.Listing]()

    def work(name: Path) -> None:
        if name == console.STANDARD:
            raise InputError("stdin: --list reads files, from their ends. Name one.")
        with console.open_input(name) as source:
            rows.extend(listing.of_file(source, finder, name))

    try:
        console.for_each(files, None, work)
    finally:
        if as_json:
            console.show("".join(row.to_json() + "\n" for row in rows))
        elif rows:
            console.show_rows(listing.HEAD, [row.cells() for row in rows])


@app.command(
    "train-m1",
    epilog="Example: eqinfo train-m1 README.md -o my-model --preset tiny --window-bits 10 --steps 50",
)
def train_m1(
    texts: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="TEXT", help="Text, .jsonl, either as .gz or .zst; '-' is stdin.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="MODEL_DIR", help="Folder to make.")
    ] = ...,  # type: ignore[assignment]
    window_bits: Annotated[int, typer.Option(help="Bits of a window, 9 to 20.")] = 16,
    preset: Annotated[str, typer.Option(help="Size of M1: unigram, tiny, 500k, 3m or 7m.")] = "3m",
    rounds: Annotated[int, typer.Option(help="Start-aware rounds after the first.")] = 1,
    steps: Annotated[int | None, typer.Option(help="Budget: steps of 16 KiB of text; tiny: 2 KiB.")] = None,
    n_bytes: Annotated[int | None, typer.Option("--bytes", help="Budget: bytes of text read.")] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Budget: minutes of training; 10 if no budget is given.")
    ] = None,
    candidates: Annotated[int, typer.Option(help="Strings M1 proposes, times 2**window_bits.")] = 4,
    unaligned_penalty: Annotated[
        float, typer.Option(help="Price of a cut inside a word, in windows, 0 to 1000.")
    ] = 1.0,
    rule: Annotated[
        str, typer.Option(help="fitted to text; or published, the paper's, from M1 alone.")
    ] = "fitted",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    seed: Annotated[int, typer.Option(help="The same seed and device give the same model.")] = 0,
    text_field: TextField = "text",
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in MODEL_DIR.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train M1 on text and compile it into a codebook: MODEL_DIR is what compress -m takes."""
    if bool(texts) == resume:
        raise typer.BadParameter("give TEXT to start a run, or --resume to continue one", param_hint="TEXT")
    with console.reporting(output):
        from eqinfo.m1 import run as m1_run
        from eqinfo.m1 import train as m1_train
        from eqinfo.training import run_folder
        from eqinfo.training.devices import pick_device

        where = pick_device(device)
        settings = m1_run.Settings(
            window_bits,
            preset,
            rounds,
            steps,
            n_bytes,
            minutes,
            candidates,
            unaligned_penalty,
            rule,
            seed,
            text_field,
        )
        with run_folder.alone_in(output, not resume), console.phases(quiet) as report:
            if texts:
                m1_run.start(console.open_texts(texts), output, settings, report)
            with console.stop_requests() as should_stop:
                config = m1_train.run(output, where, report, should_stop)
        if not quiet:
            console.say_tables(m1_run.tables(config))


@app.command(
    "train-m2",
    epilog="Example: eqinfo compress --tokens README.md -o ids.bin && "
    "eqinfo train-m2 ids.bin -o my-run --preset nano --block-size 64 --batch-tokens 512 --steps 5",
)
def train_m2(
    tokens: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="TOKENS", help="Token files (.bin with .bin.json) or .eqi streams.", show_default=False
        ),
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="RUN_DIR", help="Folder to make.")] = ...,  # type: ignore[assignment]
    model: Model = None,
    valid: Annotated[
        list[Path] | None, typer.Option("--valid", help="Token file or stream to validate on.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Size: nano, 3m (default), 25m, 113m, 403m or 2b.")
    ] = None,
    token_bits: Annotated[
        int | None, typer.Option(help="Read windows as several tokens of so many bits; default: as one.")
    ] = None,
    block_size: Annotated[int | None, typer.Option(help="Tokens of context; default: 512.")] = None,
    batch_tokens: Annotated[int | None, typer.Option(help="Tokens of a step; default: 16384.")] = None,
    accumulate: Annotated[
        int | None, typer.Option(help="Parts of a step, one after another, to save memory; default: 1.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Budget: steps.")] = None,
    n_tokens: Annotated[int | None, typer.Option("--tokens", help="Budget: tokens read.")] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Budget: minutes of training; 10 if no budget is given.")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate; default: 0.01.")] = None,
    validations: Annotated[
        int | None, typer.Option(help="How often to validate, evenly spaced; default: 10.")
    ] = None,
    plain_embeddings: Annotated[
        bool, typer.Option("--plain-embeddings", help="Do not tell M2 the bytes of its tokens.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    seed: Annotated[int | None, typer.Option(help="Of weights and data order; default: 0.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in RUN_DIR.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train M2, a language model over windows. With torchrun: torchrun -m eqinfo train-m2 ..."""
    if not tokens and not resume:
        raise typer.BadParameter(
            "give TOKENS to start a run, or --resume to continue one", param_hint="TOKENS"
        )
    options: dict[str, Any] = {
        "preset": preset,
        "token_bits": token_bits,
        "block_size": block_size,
        "batch_tokens": batch_tokens,
        "accumulate": accumulate,
        "steps": steps,
        "n_tokens": n_tokens,
        "minutes": minutes,
        "lr": lr,
        "validations": validations,
        "plain_embeddings": plain_embeddings or None,
        "seed": seed,
    }
    given = {name: value for name, value in options.items() if value is not None}
    with console.reporting(output), ExitStack() as stack:
        from eqinfo.m2 import run as m2_run
        from eqinfo.m2 import train as m2_train
        from eqinfo.training import run_folder
        from eqinfo.training.devices import pick_device, processes

        with processes(pick_device(device)) as (where, is_first):
            if is_first:
                stack.enter_context(run_folder.alone_in(output, not resume))
            if is_first and resume:
                m2_run.check_same(output, given)
            elif is_first:
                m2_run.start(tokens or [], valid or [], output, m2_run.Settings(**given), model)
            with console.phases(quiet or not is_first) as report, console.stop_requests() as should_stop:
                config = m2_train.run(output, where, report, should_stop)
        if is_first and not quiet:
            console.say_tables(m2_run.tables(config))


@app.command("eval", epilog="Example: eqinfo eval --text README.md")
def evaluate(
    what: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="WHAT",
            help="Model folders of train-m1, runs of train-m2; none is the model in the package.",
            show_default=False,
        ),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(
            help="Measure on this: text, .jsonl, either as .gz or .zst, a token file with its sidecar, "
            "or '-' for stdin; its first 16 MiB. Without it, what was measured in training is shown."
        ),
    ] = None,
    text_field: TextField = "text",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, not tables.")] = False,
    figure: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw bits/byte of runs into this .svg or .png; it is replaced."),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(help="Print what a run continues these bytes with, and nothing else; '-' is stdin."),
    ] = None,
    n_bytes: Annotated[int, typer.Option("--bytes", min=0, help="Bytes to continue with.")] = 256,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the most probable window.")] = 1.0,
    top_k: Annotated[int | None, typer.Option(min=1, help="Only so many of the most probable.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same continuation.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    quiet: Quiet = False,
) -> None:
    """Measure models and runs on a text, beside the published rule, gzip, zstd and xz; or continue bytes."""
    if prompt is not None and (len(what or []) != 1 or text or as_json or figure):
        raise typer.BadParameter(
            "takes one run, and neither --text, --json nor --figure", param_hint="--prompt"
        )
    if figure is not None and figure.suffix not in (".svg", ".png"):
        raise typer.BadParameter(f"found {str(figure)!r}, want a name in .svg or .png", param_hint="--figure")
    from eqinfo.formats.model_folder import DEFAULT_MODEL

    what = what or [DEFAULT_MODEL]
    with console.reporting(what[0]), ExitStack() as stack:
        from eqinfo.eval import measure, tables
        from eqinfo.training.devices import pick_device

        where = pick_device(device)
        if prompt is not None:
            from eqinfo.m2.generate import stream
            from eqinfo.m2.run import load_m2

            run = load_m2(what[0], where)
            if run.codebook is None:
                raise InputError(f"{what[0]}: no codebook, so no bytes to continue with.")
            start = _prompt_bytes(prompt)
            pieces = stream(run.model, run.codebook, start, n_bytes, temperature, top_k, seed)
            console.show_pieces(pieces)
            return
        configs = measure.read_configs(what)
        if figure is not None:
            tables.check_figure(figure, configs, text is not None)
            figure_sink = stack.enter_context(replacing(figure, force=True))
        held_out = None if text is None else _held_out(text, text_field, what, quiet)
        with console.phases(quiet or not console.is_terminal(sys.stderr)) as progress:
            document = measure.measure(what, held_out, where, progress)
        if figure is not None:
            figure_sink.write(tables.figure(document, figure.suffix))
            stack.close()  # it is complete: what happens to stdout is another matter
        if as_json:
            console.show(document.to_json())
        else:
            console.show_tables(tables.tables(document))


def _prompt_bytes(prompt: str) -> bytes:
    """The bytes of `--prompt`, as the shell gave them."""
    if prompt != str(console.STANDARD):
        return os.fsencode(prompt)
    with console.open_input(console.STANDARD) as source:
        return source.read()


def _held_out(text: Path, text_field: str, what: list[Path], quiet: bool) -> "HeldOut":
    """The text that eval measures on."""
    from eqinfo.eval.held_out import read_held_out
    from eqinfo.text.documents import open_text

    with console.open_input(text, open_text) as source:
        held_out = read_held_out(source, text, text_field, what)
    if not held_out.is_whole and not quiet:
        console.say(f"{text}: long; measured on its first {held_out.original_bytes} bytes")
    return held_out


def _cores(threads: int) -> int:
    """Number of threads to use."""
    return threads or os.cpu_count() or 1


def main() -> None:
    """Run the command line and exit with its status."""
    try:
        with console.reporting(Path("stdout")):  # helps and listings
            app(prog_name="eqinfo")
    except typer.Exit as failed:
        sys.exit(failed.exit_code)
