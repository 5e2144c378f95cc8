"""`eqinfo decompress`: .eqi streams and token files back to text."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from eqinfo.cli import console, options
from eqinfo.errors import InputError

Range = Annotated[
    str | None,
    typer.Option(
        "--range",
        metavar="START:END",
        help="Decompress only these bytes of the text, found through the index, so fast. "
        "START or END may be left out.",
    ),
]


def decompress(
    files: options.Files = None,
    output: options.Output = None,
    model: options.Model = None,
    stdout: options.Stdout = False,
    force: options.Force = False,
    keep: options.Keep = True,
    test: Annotated[bool, typer.Option("-t", "--test", help="Check the inputs and write nothing.")] = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    threads: options.Threads = 1,
    byte_range: Range = None,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help='Write each document as a JSONL record, {"text": ...}.')
    ] = False,
) -> None:
    """Restore what compress wrote. FILE.eqi or FILE.bin goes to FILE, stdin to stdout."""
    span = _span(byte_range)
    if span is not None and jsonl:
        raise typer.BadParameter("may cut records in two: not with --jsonl", param_hint="--range")
    from eqinfo.formats import eqi, token_file
    from eqinfo.formats.eqi_index import read_range
    from eqinfo.formats.model_folder import Model
    from eqinfo.text.documents import jsonl_of_frames

    finder = Model(model)

    def work(name: Path) -> None:
        with ExitStack() as stack:
            source = stack.enter_context(console.open_input(name, binary=True))
            sidecar = token_file.sidecar_path(name)
            is_tokens = name != console.STANDARD and sidecar.is_file()
            pieces: Iterator[bytes]
            if span is not None:
                if is_tokens or not source.seekable():
                    raise InputError(f"{name}: --range needs an .eqi file, which it can read from the end.")
                pieces = read_range(source, finder, str(name), *span)
            else:
                if is_tokens:
                    frames = token_file.read(source, token_file.Sidecar.load(sidecar), finder, str(name))
                else:
                    frames = eqi.read_frames(source, finder, str(name), threads)
                frames = console.with_progress(frames, source, name, quiet)
                pieces = jsonl_of_frames(frames, str(name)) if jsonl else (frame.text for frame in frames)
            if test:
                n_bytes = sum(map(len, pieces))
            else:
                suffix = token_file.TOKENS_SUFFIX if is_tokens else eqi.STREAM_SUFFIX
                try:
                    target = console.restored_name(name, output, stdout, suffix)
                except InputError:
                    if not is_tokens:  # what it is says more than what its name is not
                        eqi.parse_header(source.read(eqi.HEADER_BYTES), str(name))
                    raise
                sink = stack.enter_context(console.open_output(target, name, force))
                n_bytes = sum(map(sink.write, pieces))
        if verbose:
            console.say(f"{name}: {n_bytes} bytes{', sound' if test else ''}")

    console.for_each(files, output, work)


def _span(byte_range: str | None) -> tuple[int, int | None] | None:
    """The half-open range [START, END) that --range names; an END of None is that of the text.

    Raises:
        typer.BadParameter: it is no range.
    """
    if byte_range is None:
        return None
    match = re.fullmatch(r"([0-9]{0,18}):([0-9]{0,18})", byte_range)
    start, end = (int(match[1] or 0), int(match[2]) if match[2] else None) if match else (1, 0)
    if end is not None and end < start:
        raise typer.BadParameter(
            f"found {byte_range!r}, want START:END in bytes, START <= END", param_hint="--range"
        )
    return start, end
