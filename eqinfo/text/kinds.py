"""What a file is, by its first bytes: recognises what people give by mistake where text or tokens are wanted.

What this module does not do: read any of these formats.
"""

import re
from typing import NamedTuple

from eqinfo.errors import argument

HEAD_BYTES = 512  # first bytes of a file, enough for `kind_of`
CHECKED_BYTES = 8000  # a NUL among so many first bytes: not text, as git says


class Kind(NamedTuple):
    """A format.

    Attributes:
        what: its name, with its article.
        command: prints the text in a file whose name follows; "" if there is no such command.
        advice: what to do if there is none; {} stands for the file in quotes.
    """

    what: str
    command: str = ""
    advice: str = "Leave it out."


GZIP, ZSTD = Kind("a gzip file", "gzip -dc"), Kind("a zstd file", "zstd -dc")
_KINDS = {
    rb"\x1f\x8b": GZIP,
    rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18": ZSTD,  # a frame, or one that is skipped
    rb"\xfd7zXZ\x00": Kind("an xz file", "xz -dc"),
    rb"BZh[1-9](1AY&SY|\x17rE8P\x90)": Kind("a bzip2 file", "bzip2 -dc"),
    rb"LZIP\x01": Kind("an lzip file", "lzip -dc"),
    rb"\x04\x22\x4d\x18": Kind("an lz4 file", "lz4 -dc"),
    rb"\x1f\x9d": Kind("a file of compress (.Z)", "gzip -dc"),
    rb"7z\xbc\xaf\x27\x1c": Kind("a 7z file", "7z x -so"),
    rb"PK(\x03\x04|\x05\x06)": Kind("a zip file", "unzip -p"),
    rb".{257}ustar": Kind("a tar file", "tar -xOf"),
    rb"%PDF-": Kind("a PDF file", advice="Make text of it: pdftotext {} -"),
    rb"PAR1\x15": Kind(
        "a parquet file",
        advice="Write it as JSONL, in Python: pandas.read_parquet({}).to_json('out.jsonl', "
        "orient='records', lines=True)",
    ),
    rb"ARROW1\x00\x00|\xff{4}.{2}\x00\x00\x10\x00\x00\x00": Kind(
        "an arrow file",
        advice="Write it as JSONL, in Python: datasets.Dataset.from_file({}).to_json('out.jsonl')",
    ),
    rb"EQI\x01": Kind("an .eqi stream", "eqinfo decompress -c"),
    rb"EQCB[\x00-\x08]": Kind("a codebook (.eqcb)", advice="Name it with -m."),
    rb"EQM1[\x00-\x08]": Kind("an M1 in integers (.eqm1)", advice="Name its folder with -m."),
    rb"\xff\xfe(?!\x00\x00)|\xfe\xff": Kind("text in UTF-16", "iconv -f UTF-16 -t UTF-8"),
    rb"\x89PNG\r\n|\xff\xd8\xff|GIF8[79]a": Kind("an image"),
    rb"\x7fELF|MZ.{58}\x00|\xcf\xfa\xed\xfe": Kind("a program"),
    rb"SQLite format 3\x00": Kind("an SQLite database"),
    rb"\x93NUMPY": Kind("a numpy file"),
    rb"\x89HDF\r\n": Kind("an HDF5 file"),
}
_PATTERNS = [(re.compile(pattern, re.DOTALL), kind) for pattern, kind in _KINDS.items()]


def kind_of(head: bytes) -> Kind | None:
    """The format of a file, by its first HEAD_BYTES bytes; None for text and what is not known.

    >>> kind_of(b"%PDF-1.7").what, kind_of(b"to be")
    ('a PDF file', None)
    """
    return next((kind for pattern, kind in _PATTERNS if pattern.match(head)), None)


def is_binary(head: bytes) -> bool:
    """Whether the beginning of a file is not that of a text: it has a NUL."""
    return 0 in head[:CHECKED_BYTES]


def refusal(head: bytes, name: str, wanted: str, use: str) -> str | None:
    """What to tell the user if a file is of a known format, and not what is wanted; None if it is of none.

    Args:
        head: its first HEAD_BYTES bytes.
        name: of the file.
        wanted: with its article.
        use: what comes after the command that prints its text, such as a pipe into eqinfo.

    >>> refusal(b"BZh91AY&SY", "a.bz2", "text", " | eqinfo ... -")
    'a.bz2: a bzip2 file, not text. Try: bzip2 -dc a.bz2 | eqinfo ... -'
    """
    kind = kind_of(head)
    if kind is None:
        return None
    file = "" if name in ("-", "stdin") else f" {argument(name)}"
    advice = f"Try: {kind.command}{file}{use}" if kind.command else kind.advice.format(repr(name))
    return f"{name}: {kind.what}, not {wanted}. {advice}"
