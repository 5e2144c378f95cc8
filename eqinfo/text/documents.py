"""Documents in files: reads plain text and JSONL, and writes JSONL.

A plain file is one document, its bytes unchanged. In JSONL each line is one: the UTF-8 of one field. Lone
surrogates, which JSON can hold, become the three bytes that UTF-8 would give them, so no text is lost. Memory
is bounded.

A file that begins as one of a known format that is not text (`kinds`) is refused. JSONL is told by a name in
`.jsonl` or `.ndjson`, or in `.json` if records are in it; `.gz` or `.zst` may follow.

What this module does not do: open files (`decompression`), or choose what to train on (`m1.corpus`).
"""

import io
import json
import re
import zlib
from codecs import BOM_UTF8, getincrementaldecoder
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

from eqinfo.errors import InputError, argument
from eqinfo.system.notes import warn
from eqinfo.text import kinds
from eqinfo.text.decompression import PACKED
from eqinfo.text.frames import Frame, pieces_of_frames, read_fully

CHUNK_BYTES = 1 << 20
MAX_LINE_BYTES = 1 << 25  # longest JSONL record: a record is read in one piece
ZSTD_NEEDS = {  # an error of zstd, and what the file needs
    "too much memory": "made with a long window. Pipe its text: zstd -dc --long=31",
    "Dictionary mismatch": "made with a dictionary. Pipe its text: zstd -dc -D DICTIONARY",
}

SURROGATE_PAIR = re.compile(r"[\ud800-\udbff][\udc00-\udfff]")  # as two characters, which UTF-8 forbids
NOT_UTF8 = "a document is not UTF-8, as JSON must be. Omit --jsonl."


def is_jsonl(name: str) -> bool:
    """Whether a file is JSONL, by its name: `.jsonl` or `.ndjson`, also with `.gz` or `.zst` after it.

    >>> is_jsonl("A.JSONL.gz"), is_jsonl("a.json")
    (True, False)
    """
    return _plain_suffix(name) in (".jsonl", ".ndjson")


def _plain_suffix(name: str) -> str:
    """The suffix of a name in lower case, without `.gz` or `.zst`."""
    path = Path(name.lower())
    return Path(path.stem).suffix if path.suffix in PACKED else path.suffix


def read_pieces(
    source: BinaryIO, name: str, text_field: str, as_jsonl: bool = False, skip_bad: bool = False
) -> Iterator[tuple[bytes, bool]]:
    """Pieces of documents, each with whether its document ends there.

    Args:
        source: decompressed, as `decompression.decompressed` gives it.
        name: of the file; may say that it is JSONL, and is part of messages.
        text_field: the field of a JSONL record that holds the text.
        as_jsonl: read JSONL under any name.
        skip_bad: pass over records without text.

    Raises:
        InputError: as `read_documents`, or the compressed file is damaged, or the file is no text.
    """
    try:
        chunk = read_fully(source, CHUNK_BYTES)
        _check_text(chunk, name, as_jsonl)
        has_records = _has_records(chunk, text_field)
        if as_jsonl or is_jsonl(name) or (has_records and _plain_suffix(name) == ".json"):
            for document in read_documents(source, name, text_field, skip_bad, chunk):
                yield document, True
            return
        _warn_of_syntax(chunk, name, text_field, has_records)
        while chunk:
            yield chunk, False
            chunk = source.read(CHUNK_BYTES)
        yield b"", True
    except (zstandard.ZstdError, zlib.error, EOFError) as error:
        for words, need in ZSTD_NEEDS.items():
            if words in str(error):
                use = f"{argument(name)} | eqinfo ...{_flag(name, as_jsonl)} -"
                raise InputError(f"{name}: {need} {use}") from None
        raise InputError(f"{name}: damaged or truncated compressed file ({error}).") from None


def _check_text(head: bytes, name: str, as_jsonl: bool) -> None:
    """Raises InputError if a file begins as one of a known format that is not text."""
    if message := kinds.refusal(head, name, "text", f" | eqinfo ...{_flag(name, as_jsonl)} -"):
        raise InputError(message)


def _flag(name: str, as_jsonl: bool) -> str:
    """The option with which the text of a file is read from a pipe as it would be read from the file."""
    inner = Path(name).stem if Path(name).suffix.lower() in (".xz", ".bz2", ".lz4") else name
    return " --jsonl" if as_jsonl or is_jsonl(inner) else ""


def _has_records(chunk: bytes, text_field: str) -> bool:
    """Whether text begins as JSONL: a record with text, or a line that is an object before another one."""
    first, _, rest = _without_mark(chunk).partition(b"\n")
    try:
        record = _parsed(first) if first[:1] == b"{" else None
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict) and (text_field in record or rest[:1] == b"{")


def _without_mark(chunk: bytes) -> bytes:
    """The beginning of JSON without what may stand before it: a byte order mark, white space."""
    return chunk.removeprefix(BOM_UTF8).lstrip()


def _warn_of_syntax(chunk: bytes, name: str, text_field: str, has_records: bool) -> None:
    """Warn of a plain text that may be something else."""
    if has_records:
        warn(f"{name}: read as plain text, though it looks like JSONL. Give --jsonl to read its records.")
    elif kinds.is_binary(chunk):
        warn(f"{name}: read as plain text, though it looks binary (it has a zero byte).")
    elif _plain_suffix(name) in (".csv", ".tsv"):
        warn(f"{name}: read as plain text, separators and all. For the text of a column, write it as JSONL.")
    elif _plain_suffix(name) == ".json" and (
        _without_mark(chunk)[:1] == b"[" or json.dumps(text_field).encode() in chunk
    ):
        warn(f"{name}: read as plain text, syntax and all. For its records, write one on each line.")


def read_documents(
    source: BinaryIO, name: str, text_field: str, skip_bad: bool = False, head: bytes = b""
) -> Iterator[bytes]:
    """The text of each JSONL record, skipping blank lines.

    Args:
        source: JSONL.
        name: of the file, for messages.
        text_field: the field of a record that holds the text.
        skip_bad: pass over lines without text, and warn of their number.
        head: bytes that have been read from the source already, at most MAX_LINE_BYTES.

    Raises:
        InputError: a line is not a JSON object with a string in that field, or is too long.

    >>> list(read_documents(io.BytesIO(b'{"text": "to be"}'), "a.jsonl", "text"))
    [b'to be']
    """
    bad, first_bad = 0, ""
    for number, line in enumerate(_lines(head, source), 1):
        if len(line) <= MAX_LINE_BYTES and not line.strip():
            continue
        try:
            document = _document(line, f"{name}:{number}", text_field)
        except InputError as error:
            if not skip_bad:
                raise
            what = str(error).removeprefix(name).partition(". ")[0]  # without the advice
            bad, first_bad = bad + 1, first_bad or f"{name}{what}"
            continue
        yield document
    if bad:
        lines = "line" if bad == 1 else "lines"
        warn(f"{name}: passed over {bad:,} {lines} without text; the first is {first_bad.rstrip('.')}.")


def _lines(head: bytes, source: BinaryIO) -> Iterator[bytes]:
    """The lines of a source from which `head` has been read; of too long ones, the first bytes."""
    whole = (
        line if line.endswith(b"\n") else line + source.readline(MAX_LINE_BYTES + 1 - len(line))
        for line in io.BytesIO(head)
    )
    for line in chain(whole, iter(partial(source.readline, MAX_LINE_BYTES + 1), b"")):
        yield line
        rest = line
        while len(rest) > MAX_LINE_BYTES and not rest.endswith(b"\n"):
            rest = source.readline(MAX_LINE_BYTES + 1)


def _document(line: bytes, where: str, text_field: str) -> bytes:
    """The text of a JSONL record.

    Raises:
        InputError: it has none, or the line is too long.
    """
    if len(line) > MAX_LINE_BYTES:
        raise InputError(
            f"{where}: too long a line; found over {MAX_LINE_BYTES >> 20} MiB. Split the record."
        )
    try:
        record = _parsed(line)
    except (ValueError, RecursionError) as error:
        reason = str(error).replace("\n", " ")
        raise InputError(f"{where}: not a line of JSON ({reason}).") from None
    found = record.get(text_field) if isinstance(record, dict) else None
    if not isinstance(found, str):
        what = type(record).__name__
        if isinstance(record, dict):
            what = f"fields {', '.join(map(repr, sorted(record)[:8]))}" if record else "no fields"
            if text_field in record:
                what = f"{json.dumps(found):.40}"
        raise InputError(
            f"{where}: no text in this record; found {what}, want a string in {text_field!r}. "
            "Name the field with --text-field, or pass over such records with --skip-bad."
        )
    return found.encode("utf-8", "surrogatepass")


def _parsed(line: bytes) -> Any:
    """A value of JSON; integers of over 4,300 digits, which Python refuses to read, are rounded.

    Raises:
        ValueError: it is none.
        RecursionError: it is nested too deeply.
    """
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        raise
    except ValueError:
        return json.loads(line, parse_int=float)


def jsonl_of_frames(frames: Iterable[Frame], where: str) -> Iterator[bytes]:
    r"""One line `{"text": ...}` per document, in pieces, so that no document has to fit in memory.

    Text after the last document end is a document too.

    Raises:
        InputError: a document is not UTF-8. Lone surrogates, which JSON can hold, are allowed.
    """
    decoder = getincrementaldecoder("utf-8")("surrogatepass")
    is_open = False  # whether a line has been begun
    last = ""  # the last character of the lines before
    try:
        for frame in frames:
            lines = ""
            for piece, closed in pieces_of_frames([frame]):
                if not is_open and (closed or piece):
                    lines += '{"text": "'
                    is_open = True
                lines += json.dumps(decoder.decode(piece, final=closed), ensure_ascii=False)[1:-1]
                if closed:
                    lines += '"}\n'
                    is_open = False
            try:
                data = lines.encode()
            except UnicodeEncodeError:
                if SURROGATE_PAIR.search(last + lines):  # JSON's escapes for the two would be one character
                    raise InputError(f"{where}: {NOT_UTF8}") from None
                # only lone surrogates have no UTF-8: Python's escape for them, \udXXX, is JSON's too
                data = lines.encode("utf-8", "backslashreplace")
            yield data
            last = lines[-1:] or last
        if is_open:
            decoder.decode(b"", final=True)
            yield b'"}\n'
    except UnicodeDecodeError:
        raise InputError(f"{where}: {NOT_UTF8}") from None
