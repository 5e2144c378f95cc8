"""`eqinfo -l`: what .eqi streams and token files hold, from their headers and indexes."""

from pathlib import Path
from typing import Annotated

import typer

from eqinfo.cli import console, inputs
from eqinfo.errors import InputError

Json = Annotated[bool, typer.Option("--json", help="With -l: print one JSON object a line, not a table.")]

SPARE = "fingerprint", "streams", "frames"  # columns that a narrow terminal goes without; --json has them


def list_files(
    files: list[Path] | None, model: Path | None, as_json: bool, recursive: bool, verbose: bool
) -> None:
    """Prints a row for each codec in each file; nothing is decoded.

    Args:
        files: .eqi streams and token files.
        model: column `model` says whether this one can decode the file; None is the packaged model.
        as_json: print JSON objects instead of a table.
        recursive: list those in folders, too.
        verbose: say which files in folders are not listed.
    """
    from eqinfo.formats import listing
    from eqinfo.formats.model_folder import Model, codebook_path

    with console.reporting():
        codebook_path(model)  # a model that is not there can decode nothing
    finder = Model(model)
    rows = list[listing.Listing]()

    def work(name: Path) -> None:
        if name == console.STANDARD:
            raise InputError("stdin: --list reads files, from their ends. Name one.")
        with console.open_input(name) as source:
            rows.extend(listing.of_file(source, finder, name))

    try:
        inputs.for_each(inputs.in_folders(files, recursive, inputs.is_output, verbose)[0], None, work)
    finally:  # the good files are listed even if others are bad
        if as_json:
            console.show("".join(row.to_json() + "\n" for row in rows))
        elif rows:
            from eqinfo.cli import display

            columns = zip(listing.HEAD, *(row.cells() for row in rows), strict=True)
            head, *cells = zip(*(column for column in columns if any(column[1:])), strict=True)
            display.show_tables([("", [*head], [[*row] for row in cells], set())], SPARE)
