"""What files are, by their first bytes: those that the formats' own programs and libraries write."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile

import numpy as np
import pytest
import zstandard
from helpers.codebooks import make_codebook
from helpers.networks import random_network
from helpers.texts import mixed, prose

from eqinfo.coder import integer_m1
from eqinfo.formats import eqi
from eqinfo.formats.codec import CodebookCodec
from eqinfo.text import kinds
from eqinfo.text.frames import Frame

TEXT = prose(50)


def archived() -> bytes:
    with io.BytesIO() as sink:
        with tarfile.open(fileobj=sink, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("a"), io.BytesIO())
        return sink.getvalue()


def zipped() -> bytes:
    with io.BytesIO() as sink:
        with zipfile.ZipFile(sink, "w") as archive:
            archive.writestr(zipfile.ZipInfo("a"), TEXT)  # of 1980: all processes find the same tests
        return sink.getvalue()


def arrays() -> bytes:
    with io.BytesIO() as sink:
        np.save(sink, np.arange(3))
        return sink.getvalue()


def stream() -> bytes:
    with io.BytesIO() as sink:
        eqi.compress([Frame(TEXT)], sink, CodebookCodec(make_codebook(10)))
        return sink.getvalue()


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (gzip.compress(TEXT, mtime=0), "a gzip file"),
        (zstandard.compress(TEXT), "a zstd file"),
        (b"\x53\x2a\x4d\x18\1\0\0\0x" + zstandard.compress(TEXT), "a zstd file"),  # a skipped frame first
        (lzma.compress(TEXT), "an xz file"),
        (bz2.compress(TEXT), "a bzip2 file"),
        (bz2.compress(b""), "a bzip2 file"),
        (archived(), "a tar file"),
        (zipped(), "a zip file"),
        (b"PAR1\x15\x04", "a parquet file"),
        (b"PAR1 is a receptor.", None),
        (b"LZIP(1)    User Commands", None),
        (b"EQCB is the magic of codebooks", None),
        (b"ARROW1\0\0\xff\xff\xff\xff", "an arrow file"),
        (b"\xff\xff\xff\xffp\0\0\0\x10\0\0\0\0\0\n\0", "an arrow file"),
        (b"%PDF-1.7\n", "a PDF file"),
        (TEXT.decode().encode("utf-16"), "text in UTF-16"),
        (arrays(), "a numpy file"),
        (stream(), "an .eqi stream"),
        (make_codebook(10).to_bytes(), "a codebook (.eqcb)"),
        (integer_m1.to_bytes(random_network()), "an M1 in integers (.eqm1)"),
        (TEXT, None),
        (b"", None),
        (mixed(20), None),
    ],
)
def test_formats_are_told_by_their_first_bytes(data: bytes, what: str | None) -> None:
    kind = kinds.kind_of(data[: kinds.HEAD_BYTES])
    assert (kind and kind.what) == what


def test_a_name_that_a_shell_would_split_is_quoted() -> None:
    want = "a b.xz: an xz file, not text. Try: xz -dc 'a b.xz' | eqinfo ... -"
    assert kinds.refusal(lzma.compress(b""), "a b.xz", "text", " | eqinfo ... -") == want
