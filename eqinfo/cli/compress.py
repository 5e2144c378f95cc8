"""`eqinfo compress`: text to .eqi streams or token files; -d, -t and -l as in gzip."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from eqinfo.cli import console, options
from eqinfo.cli.decompress import Range, decompress
from eqinfo.cli.listing import Json, list_files
from eqinfo.errors import InputError, OptionError
from eqinfo.system.atomic_files import replacing

if TYPE_CHECKING:
    from eqinfo.formats.codec import Codec
    from eqinfo.formats.eqi import Totals
    from eqinfo.text.frames import Frame


def compress(
    files: options.Files = None,
    restore: Annotated[bool, typer.Option("-d", "--decompress", help="Same as eqinfo decompress.")] = False,
    test: Annotated[bool, typer.Option("-t", "--test", help="Same as eqinfo decompress --test.")] = False,
    listing: Annotated[
        bool, typer.Option("-l", "--list", help="List what .eqi and token files hold; decode nothing.")
    ] = False,
    as_json: Json = False,
    output: options.Output = None,
    model: options.Model = None,
    stdout: options.Stdout = False,
    force: options.Force = False,
    keep: options.Keep = True,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    threads: options.Threads = 1,
    tokens: Annotated[
        bool,
        typer.Option(
            "--tokens",
            help="Write token ids for train-m2 to FILE.bin, with FILE.bin.json beside it. FILE is plain text "
            "or .jsonl, plain or .gz or .zst.",
        ),
    ] = False,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="Read JSONL: each record is a document. With -d: write JSONL.")
    ] = False,
    text_field: options.TextField = "text",
    window_bits: Annotated[
        str | None,
        typer.Option(
            metavar="BITS|ac",
            help="Size of windows: 12, 14, 16 or 18 bits in the default model; 24, 32, ... 128 bits for live "
            "windows, which M1 cuts as it reads; or ac: arithmetic coding by M1 without windows, which is "
            "smallest.  [default: 16, or that of the model's first codebook]",
        ),
    ] = None,
    carry: Annotated[
        bool, typer.Option("--carry", help="Live windows: M1 keeps its state from one window to the next.")
    ] = False,
    rule: Annotated[
        str,
        typer.Option(help="Live windows, ac: live, or published, a lossless version of the paper's rule."),
    ] = "live",
    method: Annotated[
        str | None, typer.Option(help="How to cut text: optimal or greedy.  [default: the codebook's own]")
    ] = None,
    unaligned_penalty: Annotated[
        float | None,
        typer.Option(
            min=0, max=1000, help="Cost of a cut inside a word, in windows.  [default: the codebook's]"
        ),
    ] = None,
    byte_range: Range = None,
) -> None:
    """Compress files or stdin into windows. FILE goes to FILE.eqi, stdin to stdout."""
    if listing:
        list_files(files, model, as_json)
        return
    if restore or test:
        decompress(
            files,
            output=output,
            model=model,
            stdout=stdout,
            force=force,
            test=test,
            quiet=quiet,
            verbose=verbose,
            threads=threads,
            byte_range=byte_range,
            jsonl=jsonl,
        )
        return
    if byte_range is not None:
        raise typer.BadParameter("for -d only", param_hint="--range")
    if as_json:
        raise typer.BadParameter("for -l only", param_hint="--json")
    if method not in (None, "optimal", "greedy"):
        raise typer.BadParameter(f"{method!r} is neither optimal nor greedy", param_hint="--method")
    from eqinfo.formats import eqi, token_file
    from eqinfo.formats.model_folder import Model

    with console.reporting():
        codec = _with_parse(
            Model(model).codec(window_bits, carry, rule), method=method, unaligned_penalty=unaligned_penalty
        )

    def work(name: Path) -> None:
        target = console.compressed_name(
            name, output, stdout, token_file.TOKENS_SUFFIX if tokens else eqi.STREAM_SUFFIX
        )
        with ExitStack() as stack:
            source, frames = _read(stack, name, tokens, jsonl, text_field, codec.frame_bytes)
            frames = console.with_progress(frames, source, name, quiet)
            if tokens:
                if target is None or (target.exists() and not target.is_file()):
                    raise InputError(
                        "--tokens: the ids need a file, for the sidecar beside it. Name one with -o."
                    )
                # the stack closes in reverse order: the sidecar appears after the ids it describes
                sidecar = stack.enter_context(replacing(token_file.sidecar_path(target), force))
            sink = stack.enter_context(console.open_output(target, name, force, binary=not stdout))
            if tokens:
                totals, facts = token_file.write(frames, sink, codec, threads)
                sidecar.write(facts.to_json())
            else:
                totals = eqi.compress(frames, sink, codec, threads)
        if verbose or (target is not None and not quiet and console.is_terminal(sys.stderr)):
            console.say(_summary(name, totals, codec))

    console.for_each(files, output, work)


def _with_parse(codec: "Codec", **chosen: Any) -> "Codec":
    """The codec, with the parse that the user chose in place of its codebook's own.

    Args:
        codec: that of the model.
        chosen: `method` and `unaligned_penalty`; None keeps the codebook's own.

    Raises:
        OptionError: the user chose, but the codec has no codebook.
    """
    from eqinfo.formats.codec import CodebookCodec

    chosen = {name: value for name, value in chosen.items() if value is not None}
    if not chosen:
        return codec
    if not isinstance(codec, CodebookCodec):
        raise OptionError("--method, --unaligned-penalty: for codebooks only; M1 leaves no choice of cuts.")
    return CodebookCodec(replace(codec.codebook, **chosen))


def _read(
    stack: ExitStack, name: Path, tokens: bool, jsonl: bool, text_field: str, frame_bytes: int
) -> tuple[BinaryIO, Iterator["Frame"]]:
    """Opens an input; returns it and its frames.

    A stream holds a file's bytes as they are, unless --jsonl asks for documents. A token file holds text as
    train-m1 reads it: decompressed, and a JSONL record is a document.
    """
    from eqinfo.text import documents, frames

    as_text = tokens or (jsonl and documents.is_jsonl(name.name))
    source = stack.enter_context(console.open_input(name, documents.open_text if as_text else None))
    if not as_text and not jsonl:
        return source, frames.frames_of_bytes(source, frame_bytes)
    pieces = documents.read_pieces(source, str(name), text_field, jsonl)
    return source, frames.frames_of_pieces(pieces, frame_bytes)


def _summary(name: Path, totals: "Totals", codec: "Codec") -> str:
    """The line that --verbose prints for a file."""
    from eqinfo.formats.codec import AC_UNIT_BITS

    ratio = totals.original_bytes / max(totals.compressed_bytes, 1)
    rate = f"{totals.original_bytes / max(totals.windows, 1):.2f} bytes/window"
    if codec.unit_bits == AC_UNIT_BITS:  # arithmetic coding has no windows
        rate = f"{8 * totals.compressed_bytes / max(totals.original_bytes, 1):.3f} bits/byte"
    return f"{name}: {totals.original_bytes} -> {totals.compressed_bytes} bytes, ratio {ratio:.2f}, {rate}"
