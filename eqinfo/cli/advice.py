"""Advice where the command line is wrong: options of gzip, xz, zstd and other trainers, a forgotten command.

typer finds the mistake; this module says what to type instead.
"""

import re
from pathlib import Path
from typing import Any

NO_LEVELS = "There are no compression levels; --window-bits ac gives the smallest stream."
FOREIGN_OPTIONS = {
    "--rm": "Inputs are always kept; remove them with rm.",
    "--learning-rate": "The peak learning rate is --lr.",
    "--batch-size": "The tokens in a step are --batch-tokens.",
    "--epochs": "The length of training is --steps, --tokens or --minutes.",
    "--vocab-size": "The vocabulary has 2**BITS ids: --window-bits BITS.",
} | dict.fromkeys(("--level", "--best", "--fast", "--ultra", *(f"-{level}" for level in range(10))), NO_LEVELS)
PLAIN = {  # typer's words for a value, and ours
    "Input should be ": "",
    "a valid integer, unable to parse string as an integer": "a whole number",
    "a valid number, unable to parse string as a number": "a number",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
}


def advise(error: Any) -> None:
    """Rewrites the message of an error where there is something better to say.

    Args:
        error: what typer raised. One about a value has pydantic's error as its cause.
    """
    if advice := FOREIGN_OPTIONS.get(getattr(error, "option_name", "")):
        error.message, error.possibilities = f"{error.message}. {advice}", None
    elif hasattr(error.__cause__, "errors"):
        first = error.__cause__.errors()[0]
        want = first["msg"]
        for theirs, ours in PLAIN.items():
            want = want.replace(theirs, ours)
        error.message = f"found {str(first['input'])!r}, want {want}"
    elif (found := re.fullmatch("No such command '(.*)'.", str(error))) and Path(found[1]).exists():
        error.message += f" To compress a file: eqinfo compress {found[1]}"
