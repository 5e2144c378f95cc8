"""Ids of other programs (nanoGPT, llm.c, samplers): their files, what users say about them, and their text.

A file holds ids alone, unsigned little-endian integers of 16 or 32 bits; that of llm.c has a header before
them. Users may write a sidecar of a few numbers beside it.

What this module does not do: read token files that `compress --tokens` made (`token_file`).
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

import numpy as np

from eqinfo.codebook import parse
from eqinfo.codebook.codebook import Codebook
from eqinfo.errors import FormatError, InputError, truncated
from eqinfo.formats import eqi
from eqinfo.formats.id_file import token_type
from eqinfo.formats.token_file import END_OF_TEXT, READ_TOKENS
from eqinfo.text.frames import Frame, read_fully

MAX_VOCABULARY, MAX_BYTES = 1 << 32, 1 << 63  # of ids of 32 bits; below it, as sizes of files
LLM_C_HEADER_BYTES = 1024  # the header of llm.c's token files is 256 int32
LLM_C_TYPES = {(20240520, 1): "<u2", (20240520, 2): "<u2", (20240801, 7): "<u4"}  # by magic and version


def llm_c_type(head: bytes) -> str | None:
    """Type of the ids in a file of llm.c that begins with these bytes; None if it is none of llm.c's."""
    magic, version = np.frombuffer(head[:8].ljust(8, b"\0"), "<i4").tolist()
    return LLM_C_TYPES.get((magic, version))


def check_llm_c(head: bytes, n_ids: int, where: str) -> None:
    """Raises FormatError if a file of llm.c has fewer ids than its header says."""
    if n_ids < (want := int(np.frombuffer(head, "<i4", 1, 8)[0])):
        raise FormatError(f"{where}: truncated; found {n_ids} ids, want {want}. Get a complete copy.")


def facts_of(data: bytes, where: str) -> list[int] | None:
    """vocab_size, original_bytes and end_of_text of another program's sidecar; None if it is one of ours.

    Args:
        data: contents of the sidecar.
        where: its name.

    Raises:
        FormatError: they are no whole numbers, or out of range.
    """
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        return None
    needed, ours = {"vocab_size", "original_bytes"}, {"format", "fingerprint", "crc32", "sidecar_crc32"}
    if not isinstance(fields, dict) or ours & fields.keys() or not needed <= fields.keys():
        return None
    numbers = [fields["vocab_size"], fields["original_bytes"], fields.get("end_of_text", END_OF_TEXT)]
    vocab_size, n_bytes, end = numbers
    if not all(type(number) is int for number in numbers) or not (
        2 <= vocab_size <= MAX_VOCABULARY and 0 <= n_bytes < MAX_BYTES and 0 <= end < vocab_size
    ):
        raise FormatError(
            f"{where}: a number is out of range; want a vocab_size from 2 to 2^32, original_bytes from 0 to "
            "2^63 - 1, and an end_of_text below vocab_size."
        )
    return numbers


def read_ids(source: BinaryIO, codebook: Codebook, id_bits: int, where: str) -> Iterator[Frame]:
    """The text of ids, READ_TOKENS of them a frame; id 0 ends a document.

    Args:
        source: the file, at its start.
        codebook: the windows that the ids stand for.
        id_bits: 16 or fewer are stored in 16 bits, more in 32.
        where: name of the file.

    Raises:
        InputError: the file is an .eqi stream.
        FormatError: an id is not in the codebook, or the file ends inside one.
    """
    n_windows, at = len(codebook.windows), 0
    head = read_fully(source, LLM_C_HEADER_BYTES)
    with suppress(FormatError):
        eqi.parse_header(head[: eqi.HEADER_BYTES], where)
        raise InputError(f"{where}: an .eqi stream, not token ids. Omit --ids.")
    llm_c = llm_c_type(head)
    if llm_c and len(head) < LLM_C_HEADER_BYTES:
        raise truncated(where, len(head), LLM_C_HEADER_BYTES)
    dtype = np.dtype(llm_c) if llm_c else token_type(id_bits)
    data = (b"" if llm_c else head) + read_fully(source, READ_TOKENS * dtype.itemsize)
    while data:
        if len(data) % dtype.itemsize:
            raise FormatError(f"{where}: ends inside an id of {dtype.itemsize} bytes. Get a complete copy.")
        ids = np.frombuffer(data, dtype)
        if (wrong := np.flatnonzero(ids >= n_windows)).size:
            raise FormatError(
                f"{where}: id {ids[wrong[0]]} at position {at + wrong[0]} is not in the codebook; "
                f"want 0 to {n_windows - 1}. Name the model that the ids are of (-m)."
            )
        ends = np.cumsum(codebook.lengths[ids])[np.flatnonzero(ids == END_OF_TEXT)]
        yield Frame(parse.decode(codebook, ids), ends.tolist())
        at += ids.size
        data = read_fully(source, READ_TOKENS * dtype.itemsize)
    if llm_c:
        check_llm_c(head, at, where)
