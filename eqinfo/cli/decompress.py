"""`eqinfo decompress`: .eqi streams and token files back to text."""

import re
from collections.abc import Collection, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from eqinfo.cli import console, inputs, options, outputs
from eqinfo.cli.progress import with_progress
from eqinfo.errors import FormatError, InputError
from eqinfo.system import gpu

if TYPE_CHECKING:
    from eqinfo.codebook.codebook import Codebook
    from eqinfo.formats.model_folder import Model
    from eqinfo.text.frames import Frame

Range = Annotated[
    str | None,
    typer.Option(
        "--range",
        metavar="START:END",
        help="With -c or -o: decompress only these bytes of the text, found through the index, so fast. "
        "START or END may be left out.",
    ),
]


def decompress(
    files: options.Files = None,
    output: options.Output = None,
    output_dir: options.OutputDir = None,
    model: options.Model = None,
    stdout: options.Stdout = False,
    force: options.Force = False,
    keep: options.Keep = True,
    skip_existing: options.SkipExisting = False,
    recursive: options.Recursive = False,
    test: Annotated[bool, typer.Option("-t", "--test", help="Check the inputs and write nothing.")] = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    threads: options.Threads = 1,
    device: options.CodingDevice = "auto",
    byte_range: Range = None,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help='Write each document as a JSONL record, {"text": ...}.')
    ] = False,
    ids: Annotated[
        bool,
        typer.Option(
            "--ids",
            help="The inputs are token ids alone, as a language model writes them: uint16 for windows of up "
            "to 16 bits, else uint32.",
        ),
    ] = False,
    window_bits: Annotated[
        int | None,
        typer.Option(
            metavar="BITS", help="With --ids: which codebook of the model.  [default: the model's first]"
        ),
    ] = None,
) -> None:
    """Restore what compress wrote. FILE.eqi or FILE.bin goes to FILE, stdin to stdout."""
    span = _span(byte_range)
    by_name = not (stdout or output) and bool(set(files or []) - {console.STANDARD})
    for is_wrong, option, why in (
        (span is not None and jsonl, "--range", "may cut records in two: not with --jsonl"),
        (span is not None and test, "--range", "checks a part only: not with --test"),
        (span is not None and by_name, "--range", "a part of the text: name its file with -o, or give -c"),
        (window_bits is not None and not ids, "--window-bits", "for --ids only"),
        (test and (output or output_dir) is not None, "--test", "writes nothing: not with an output"),
        (test and skip_existing, "--test", "writes nothing: not with --skip-existing"),
    ):
        if is_wrong:
            raise typer.BadParameter(why, param_hint=option)
    from eqinfo.formats import eqi, token_file
    from eqinfo.formats.eqi_index import read_range
    from eqinfo.formats.model_folder import Model
    from eqinfo.text.decompression import PACKED
    from eqinfo.text.documents import jsonl_of_frames

    with console.reporting():
        gpu.check_device(device)
    finder, codebook = Model(model, device), None
    if ids:
        with console.reporting():
            codebook = finder.codebook_of(window_bits)
    is_wanted = inputs.is_ids if ids else inputs.is_output
    names, places = inputs.in_folders(files, recursive, is_wanted, verbose)
    outputs.check_outputs(output_dir, names, places, output, stdout, skip_existing)
    claims = outputs.Claims(names)

    def work(name: Path) -> None:
        shown, is_tokens = console.shown(name), ids or inputs.is_token_file(name)
        has_ids = is_tokens or name.suffix == token_file.TOKENS_SUFFIX
        suffix = token_file.TOKENS_SUFFIX if has_ids else eqi.STREAM_SUFFIX
        target = None
        if not test:
            inner = PACKED if has_ids or jsonl else ()  # ids of a.gz are those of its text
            target = _restored_name(name, output, stdout, suffix, inner)
            target = outputs.moved(target, output_dir, places[name])
        if skip_existing and outputs.is_done(target, name, verbose):
            return
        with ExitStack() as stack:
            source = stack.enter_context(console.open_input(name, binary=True))
            pieces: Iterator[bytes]
            if span is not None:
                if is_tokens or not source.seekable():
                    raise InputError(f"{shown}: --range needs an .eqi file, which it can read from the end.")
                pieces = read_range(source, finder, shown, *span)
                if target is None:
                    pieces = console.whole_lines(pieces)
            else:
                frames, n_text = _frames(source, name, finder, codebook, threads)
                frames = with_progress(frames, [name], quiet, n_text)
                pieces = jsonl_of_frames(frames, shown) if jsonl else _plain(frames, target, shown)
            if test:
                n_bytes = sum(map(len, pieces))
            else:
                claims.claim(target, name)
                outputs.make_folder(target, output_dir)
                sink = stack.enter_context(console.open_output(target, name, force))
                n_bytes = sum(map(sink.write, pieces))
        if verbose:
            console.say(f"{shown}: {n_bytes} bytes{', sound' if test else ''}")

    inputs.for_each(names, output, work)


def _frames(
    source: BinaryIO, name: Path, finder: "Model", codebook: "Codebook | None", threads: int
) -> tuple[Iterator["Frame"], int | None]:
    """The frames of an input, and the size of its text in bytes if that is known.

    Args:
        source: the input, open.
        name: its name.
        finder: the model.
        codebook: what ids alone stand for; None for streams and token files.
        threads: number of frames to decode at a time.
    """
    from eqinfo.formats import eqi, foreign_ids, token_file
    from eqinfo.formats.eqi_index import text_bytes

    shown, sidecar = console.shown(name), token_file.sidecar_path(name)
    if inputs.is_token_file(name):
        data = token_file.sidecar_bytes(sidecar)
        facts = foreign_ids.facts_of(data, str(sidecar))
        if codebook is None and facts is None:
            ours = token_file.Sidecar.from_json(data, str(sidecar))
            return token_file.read(source, ours, finder, shown), ours.original_bytes
        if codebook is None:
            raise InputError(f"{shown}: ids of another program. Give --ids, and their model with -m.")
        if facts is None:
            _check_codebook(data, codebook, shown)
        bits = (facts[0] - 1).bit_length() if facts else codebook.window_bits
        return foreign_ids.read_ids(source, codebook, bits, shown), facts[1] if facts else None
    if codebook is not None:
        return foreign_ids.read_ids(source, codebook, codebook.window_bits, shown), None
    if name.suffix == token_file.TOKENS_SUFFIX and source.seekable():
        if source.read(len(eqi.MAGIC)) != eqi.MAGIC:
            raise InputError(f"{shown}: its sidecar {sidecar} is missing. For ids alone give --ids and -m.")
        source.seek(0)
    return eqi.read_frames(source, finder, shown, threads), text_bytes(source)


def _plain(frames: Iterator["Frame"], target: Path | None, shown: str) -> Iterator[bytes]:
    """The texts of frames; raises InputError if they hold documents, and the output's name promises JSONL."""
    from eqinfo.text.documents import is_jsonl

    is_promised = target is not None and is_jsonl(target.name)
    for frame in frames:
        if is_promised and frame.document_ends:
            raise InputError(f"{shown}: {target} would be plain text. Give --jsonl, or another name with -o.")
        yield frame.text


def _check_codebook(sidecar: bytes, codebook: "Codebook", shown: str) -> None:
    """Raises MismatchError if a whole sidecar of ours says that the ids are those of another codebook."""
    from eqinfo.formats import token_file
    from eqinfo.formats.codec import CodebookCodec

    with suppress(FormatError):  # a damaged one says nothing
        token_file.Sidecar.from_json(sidecar, shown).find_codec(CodebookCodec(codebook), shown)


def _restored_name(
    name: Path, output: Path | None, stdout: bool, suffix: str, inner: Collection[str]
) -> Path | None:
    """The output for an input; see `outputs.restored_name`."""
    from eqinfo.formats import eqi

    try:
        return outputs.restored_name(name, output, stdout, suffix, inner)
    except InputError:
        if suffix == eqi.STREAM_SUFFIX:  # what it is says more than what its name is not
            with console.open_input(name) as source:
                eqi.parse_header(source.read(eqi.HEADER_BYTES), console.shown(name))
        raise


def _span(byte_range: str | None) -> tuple[int, int | None] | None:
    """The half-open range [START, END) that --range names; an END of None is that of the text.

    Raises:
        typer.BadParameter: it is no range.
    """
    if byte_range is None:
        return None
    match = re.fullmatch(r"([0-9]{0,99}):([0-9]{0,99})", byte_range)
    start, end = (int(match[1] or 0), int(match[2]) if match[2] else None) if match else (1, 0)
    if end is not None and end < start:
        raise typer.BadParameter(
            f"found {byte_range!r}, want START:END in bytes, START <= END", param_hint="--range"
        )
    return start, end
