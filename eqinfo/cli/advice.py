"""Advice: what to type instead of options of other programs, and what to do if a stream barely shrank."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eqinfo.cli import console
from eqinfo.errors import EqinfoError, argument

if TYPE_CHECKING:
    from eqinfo.formats.codec import Codec
    from eqinfo.formats.eqi import Totals
    from eqinfo.formats.model_folder import Model
    from eqinfo.text.frames import Frame

SAMPLE_BYTES = 1 << 14  # half a second of arithmetic coding
POOR_RATIO, WORTH_IT = 2.0, 1.2  # ratio of a stream that barely shrank; a gain that is worth a line

NO_LEVELS = "There are no compression levels; --window-bits ac gives the smallest stream."
FOREIGN_OPTIONS = {
    "--rm": "Inputs are always kept; remove them with rm.",
    "--learning-rate": "The peak learning rate is --lr.",
    "--batch-size": "The tokens in a step are --batch-tokens.",
    "--epochs": "The length of training is --steps, --tokens or --minutes.",
    "--vocab-size": "The vocabulary has 2**BITS ids: --window-bits BITS.",
} | dict.fromkeys(("--level", "--best", "--fast", "--ultra", *map("-{}".format, range(10))), NO_LEVELS)
FOREIGN_COMMANDS = (
    dict.fromkeys(("tokenize", "tokenise", "encode", "ids"), "To make ids: eqinfo compress --tokens FILE")
    | dict.fromkeys(("detokenize", "decode", "extract", "restore", "uncompress"), "It is: eqinfo decompress")
    | dict.fromkeys(("generate", "sample", "write"), "To let a run write: eqinfo eval RUN --prompt TEXT")
    | dict.fromkeys(("bench", "benchmark", "measure"), "To measure on a text: eqinfo eval --text FILE")
    | dict.fromkeys(("list", "info", "ls"), "To list what files hold: eqinfo -l FILE")
    | {"help": "It is: eqinfo --help", "version": "It is: eqinfo --version"}
)
# click's words for a wrong value, and ours
PLAIN = {
    r"'(.*)' is not a valid int( range)?\.": r"found '\1', want a whole number",
    r"'(.*)' is not a valid float( range)?\.": r"found '\1', want a number",
    r"(.*) is not in the range x>=(\d+)\.": r"found '\1', want at least \2",
    r"(.*) is not in the range (\d+)<=x<=(\d+)\.": r"found '\1', want \2 to \3",
}


def advise(error: Any) -> None:
    """Rewrites the message of an error of the command line where there is something better to say.

    Args:
        error: what typer raised.
    """
    if advice := FOREIGN_OPTIONS.get(getattr(error, "option_name", "")):
        error.message, error.possibilities = f"{error.message}. {advice}", None
    elif found := re.match("No such command '(.*?)'.", str(error)):
        if Path(found[1]).exists():
            error.message += f" To compress a file: eqinfo compress {argument(found[1])}"
        elif advice := FOREIGN_COMMANDS.get(found[1]):
            error.message = f"{found[0]} {advice}"
    elif hasattr(error, "message"):
        for theirs, ours in PLAIN.items():
            error.message = re.sub(theirs, ours, error.message)
    if hasattr(error, "message"):
        error.message = console.on_one_line(error.message)  # it may quote names of files


def sampled(frames: Iterable["Frame"], sample: bytearray) -> Iterator["Frame"]:
    """The same frames; the beginning of the first goes to the sample."""
    for frame in frames:
        sample += frame.text[: SAMPLE_BYTES - len(sample)]
        yield frame


def of_ratio(totals: "Totals", codec: "Codec", model: "Model", sample: bytes) -> str:
    """What to do if a stream barely shrank; nothing if it did, or nothing here would help.

    Args:
        totals: of the stream.
        codec: that it was made with.
        model: the codec's.
        sample: the beginning of the text, which is coded for an estimate.
    """
    from eqinfo.formats.codec import ArithmeticCodec, CodebookCodec
    from eqinfo.text.frames import Frame

    ratio = totals.original_bytes / max(totals.compressed_bytes, 1)
    if ratio > POOR_RATIO or totals.original_bytes < 4 * SAMPLE_BYTES or not isinstance(codec, CodebookCodec):
        return ""
    own = "train-m1 makes windows for texts of this kind"
    try:
        network = model.network
    except (EqinfoError, OSError):  # the model is a codebook alone
        return f"barely smaller; {own}"
    _, payload = ArithmeticCodec(network).encode(Frame(sample))
    better = len(sample) / len(payload)
    if better < WORTH_IT * ratio:
        return ""
    return f"barely smaller; --window-bits ac gives a ratio of about {better:.1f}, slowly, and {own}"
