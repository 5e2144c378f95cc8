"""`eqinfo compress`: text to .eqi streams or token files; -d, -t and -l as in gzip."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eqinfo.cli import console, inputs, options, outputs
from eqinfo.cli.compress_job import Job
from eqinfo.cli.decompress import Range, decompress
from eqinfo.cli.listing import Json, list_files
from eqinfo.errors import OptionError
from eqinfo.system import gpu

if TYPE_CHECKING:
    from fractions import Fraction

    from eqinfo.formats.codec import Codec

MOST_PARTS = 10**6  # largest denominator of a share: so far below 2**32 that checksums fall on all alike
# parameters that have no effect with -d, -t or -l; tar gives -d beside all options of compressing
NOT_RESTORING = ("tokens", "hold_out", "text_field", "skip_bad", "as_json")
CODING = ("window_bits", "carry", "rule", "method", "unaligned_penalty")
NOT_LISTING = (
    "tokens", "hold_out", "output", "output_dir", "skip_existing", "byte_range", "jsonl", "text_field",
    "skip_bad", *CODING,
)  # fmt: skip


def compress(
    context: typer.Context,
    files: options.Files = None,
    restore: Annotated[
        bool, typer.Option("-d", "--decompress", help="As eqinfo decompress, which also has --ids.")
    ] = False,
    test: Annotated[bool, typer.Option("-t", "--test", help="Same as eqinfo decompress --test.")] = False,
    listing: Annotated[
        bool, typer.Option("-l", "--list", help="List what .eqi and token files hold; decode nothing.")
    ] = False,
    as_json: Json = False,
    output: options.Output = None,
    output_dir: options.OutputDir = None,
    model: options.Model = None,
    stdout: options.Stdout = False,
    force: options.Force = False,
    keep: options.Keep = True,
    skip_existing: options.SkipExisting = False,
    recursive: options.Recursive = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    threads: options.Threads = 1,
    device: options.CodingDevice = "auto",
    tokens: Annotated[
        bool,
        typer.Option(
            "--tokens",
            help="Write token ids for train-m2 to FILE.bin, with FILE.bin.json beside it; with -o, those of "
            "all inputs to one file. FILE is plain text, a document, or JSONL (.jsonl, .ndjson, .json), as "
            "it is or compressed by gzip or zstd.",
        ),
    ] = False,
    hold_out: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            help="With --tokens: write this share of the documents, such as 1%, to FILE.valid.bin instead. "
            "Their checksums choose them, as in train-m1.  [default: none]",
        ),
    ] = None,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="Read JSONL: each record is a document. With -d: write JSONL.")
    ] = False,
    text_field: options.TextField = "text",
    skip_bad: options.SkipBad = False,
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
        typer.Option(
            metavar="live|published",
            help="Live windows, ac: live, or published, the paper's rule repaired: unrepaired, a quarter "
            "of its windows are decoded wrongly.",
        ),
    ] = "live",
    method: Annotated[
        str | None,
        typer.Option(metavar="optimal|greedy", help="How to cut text.  [default: the codebook's own]"),
    ] = None,
    unaligned_penalty: Annotated[
        float | None,
        typer.Option(
            metavar="COST",
            min=0,
            max=1000,
            callback=options.finite,
            help="Cost of a cut inside a word, in windows; over 63 is like 63.  [default: the codebook's]",
        ),
    ] = None,
    byte_range: Range = None,
) -> None:
    """Compress files or stdin into windows. FILE goes to FILE.eqi, stdin to stdout."""
    given = options.given(context)
    if listing:
        options.refuse(given, NOT_LISTING, "not with -l")
        list_files(files, model, as_json, recursive, verbose)
        return
    if restore or test:
        options.refuse(given, NOT_RESTORING, "not with -d or -t")
        decompress(
            files,
            output=output,
            output_dir=output_dir,
            model=model,
            stdout=stdout,
            force=force,
            skip_existing=skip_existing,
            recursive=recursive,
            test=test,
            quiet=quiet,
            verbose=verbose,
            threads=threads,
            device=device,
            byte_range=byte_range,
            jsonl=jsonl,
        )
        return
    options.refuse(given, ["byte_range"], "for -d only")
    options.refuse(given, ["as_json"], "for -l only")
    if not tokens:
        options.refuse(given, ["hold_out"], "for --tokens only")
    if not tokens and not jsonl:
        options.refuse(given, ["text_field", "skip_bad"], "for --jsonl and --tokens only")
    if method not in (None, "optimal", "greedy"):
        raise typer.BadParameter(f"{method!r} is neither optimal nor greedy", param_hint="--method")
    share = None if hold_out is None else _share(hold_out)
    from eqinfo.formats.lane_codec import LaneCodec
    from eqinfo.formats.model_folder import Model

    with console.reporting():
        gpu.check_device(device)
        chosen = Model(model, device)
        codec = _with_parse(
            chosen.codec(window_bits, carry, rule), method=method, unaligned_penalty=unaligned_penalty
        )
        if device == "cuda" and not isinstance(codec, LaneCodec):
            raise OptionError(
                "--device: a GPU runs windows of 24 to 128 bits without --carry, and ac by --rule published "
                "only. Use --device auto."
            )
    names, places = inputs.in_folders(files, recursive, inputs.is_no_output, verbose)
    outputs.check_outputs(output_dir, names, places, output, stdout, skip_existing)
    job = Job(
        chosen,
        codec,
        text_field=text_field,
        jsonl=jsonl,
        skip_bad=skip_bad,
        share=share,
        output=output,
        output_dir=output_dir,
        stdout=stdout,
        force=force,
        skip_existing=skip_existing,
        quiet=quiet,
        verbose=verbose,
        threads=threads,
        claims=outputs.Claims(names),
    )
    if not tokens:
        inputs.for_each(names, output, lambda name: job.to_stream(name, places[name]))
    elif output is not None:
        inputs.for_each(names[:1], None, lambda name: job.to_tokens(names, places[name]))
    else:
        inputs.for_each(names, None, lambda name: job.to_tokens([name], places[name]))


def _share(text: str) -> "Fraction":
    """The share that a text such as 1%, 0.01 or 1/3 names, to a millionth.

    Raises:
        typer.BadParameter: it is none.
    """
    from fractions import Fraction

    number, whole = text.removesuffix("%"), 100 if text.endswith("%") else 1
    try:
        part, _, parts = number.partition("/")
        is_in_range = 0 < float(part) / float(parts or 1) / whole <= 0.5
        share = Fraction(number) / whole if is_in_range else Fraction()  # 1e-999999999 would take hours
    except (ValueError, ZeroDivisionError):
        share = Fraction()
    if not (share := share.limit_denominator(MOST_PARTS)):
        raise typer.BadParameter(
            f"found {text!r}, want a share from 0.0001% to 50%, such as 1%", param_hint="--hold-out"
        )
    return share


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
