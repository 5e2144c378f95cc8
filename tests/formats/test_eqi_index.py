"""Ranges of the text of streams."""

import io

import pytest
from helpers.codebooks import make_codebook
from helpers.texts import Trickle, prose
from hypothesis import given
from hypothesis import strategies as st

from eqinfo.codebook.codebook import Codebook
from eqinfo.errors import FormatError, MismatchError
from eqinfo.formats.codec import CodebookCodec
from eqinfo.formats.eqi import compress, stream_header, trailer
from eqinfo.formats.eqi_index import read_range
from eqinfo.formats.packing import varint
from eqinfo.text.frames import Frame, frames_of_bytes

TEXTS = [prose(80), b"", b"\0\xff" * 50, prose(1, seed=1), b"", prose(300, seed=2)]
TEXT = b"".join(TEXTS)


@pytest.fixture(scope="module")
def streams(codebook: Codebook) -> bytes:
    """Several streams one after another, each of several frames of 100 bytes."""
    sink = io.BytesIO()
    for text in TEXTS:
        compress((Frame(text[i : i + 100]) for i in range(0, len(text), 100)), sink, CodebookCodec(codebook))
    return sink.getvalue()


def in_range(codebook: Codebook, data: bytes, start: int, end: int | None) -> bytes:
    return b"".join(read_range(io.BytesIO(data), CodebookCodec(codebook), "x", start, end))


@given(st.integers(0, len(TEXT) + 50), st.integers(0, len(TEXT) + 50) | st.none())
def test_a_range_is_a_slice(codebook: Codebook, streams: bytes, start: int, end: int | None) -> None:
    assert in_range(codebook, streams, start, end) == TEXT[start:end]


def test_every_short_range_is_a_slice(codebook: Codebook, streams: bytes) -> None:
    for start in range(0, len(TEXT), 7):
        for size in (0, 1, 2, 99, 100, 101):
            assert in_range(codebook, streams, start, start + size) == TEXT[start : start + size]


def test_a_range_of_nothing_is_nothing(codebook: Codebook) -> None:
    sink = io.BytesIO()
    compress([], sink, CodebookCodec(codebook))
    assert in_range(codebook, sink.getvalue(), 0, None) == b""
    compress([Frame(b"", [0, 0])], sink, CodebookCodec(codebook))
    assert in_range(codebook, sink.getvalue(), 0, None) == b""


def test_only_the_frames_of_a_range_are_read(codebook: Codebook) -> None:
    text = prose(100_000)
    sink = io.BytesIO()
    compress(
        (Frame(text[i : i + 10_000]) for i in range(0, len(text), 10_000)), sink, CodebookCodec(codebook)
    )
    source = Trickle(sink.getvalue(), lambda: 1 << 30)
    assert (
        b"".join(read_range(source, CodebookCodec(codebook), "x", 205_000, 205_010)) == text[205_000:205_010]
    )
    assert source.given < 6000  # one frame, index and header: not the 150 KB of the rest


def test_damage_elsewhere_is_not_looked_at_and_damage_here_is_refused(codebook: Codebook) -> None:
    text = prose(200)
    sink = io.BytesIO()
    compress((Frame(text[i : i + 500]) for i in range(0, len(text), 500)), sink, CodebookCodec(codebook))
    data = bytearray(sink.getvalue())
    data[40] ^= 1
    assert in_range(codebook, bytes(data), 500, 700) == text[500:700]
    with pytest.raises(FormatError, match="x, frame 0: damaged"):
        in_range(codebook, bytes(data), 499, 700)


def test_every_flipped_bit_is_refused_or_harmless(codebook: Codebook) -> None:
    text = prose(12)
    sink = io.BytesIO()
    compress([Frame(text[:20]), Frame(text[20:])], sink, CodebookCodec(codebook))
    data = sink.getvalue()
    n_refused = 0
    for i in range(8 * len(data)):
        altered = bytearray(data)
        altered[i // 8] ^= 1 << i % 8
        try:
            assert in_range(codebook, bytes(altered), 0, None) == text
        except (FormatError, MismatchError):
            n_refused += 1
    assert n_refused >= 8 * len(data) - 8  # all but the end mark, which is passed over


def test_every_truncation_is_refused(codebook: Codebook, streams: bytes) -> None:
    data = streams[: len(streams) - 40]  # cuts the last stream
    for size in range(len(data) - 50, len(data)):
        with pytest.raises(FormatError):
            in_range(codebook, data[:size], 0, None)
    for size in range(30):
        with pytest.raises(FormatError):
            in_range(codebook, streams[:size], 0, 1)


def test_a_stream_of_another_codebook_in_the_middle_is_named(codebook: Codebook, streams: bytes) -> None:
    sink = io.BytesIO()
    other = make_codebook(13)
    compress([Frame(b"abc")], sink, CodebookCodec(other))
    data = streams + sink.getvalue() + streams
    with pytest.raises(MismatchError, match=other.fingerprint.hex()[:16]):
        in_range(codebook, data, 0, None)
    assert in_range(codebook, data, 0, 1) == in_range(codebook, streams, 0, 1)  # needs the first stream only


@pytest.mark.parametrize(
    "index",
    [
        varint(2**60) + varint(10),
        varint(5) + varint(2**60),
        varint(5) + varint(0),
        varint(5),
        varint(5) + b"\x80",
        b"\xff" * 30,
        (varint(1) + varint(7)) * 1000,
    ],
)
def test_a_sealed_but_senseless_index_is_refused(codebook: Codebook, index: bytes) -> None:
    header = stream_header(CodebookCodec(codebook))
    with pytest.raises(FormatError, match="x, index: damaged"):
        in_range(codebook, header + b"\0" + trailer(header, index), 0, None)


@given(st.binary(max_size=80), st.integers(0, 60))
def test_hostile_bytes_give_a_result_or_one_line(
    codebook: Codebook, streams: bytes, noise: bytes, n_kept: int
) -> None:
    message = ""
    try:
        in_range(codebook, streams[:n_kept] + noise + streams[-n_kept:], 0, None)
    except (FormatError, MismatchError) as error:
        message = str(error)
    assert "\n" not in message


def test_an_index_that_does_not_fit_its_frames_is_refused(codebook: Codebook) -> None:
    sink = io.BytesIO()
    compress([Frame(b"abcd"), Frame(b"efgh")], sink, CodebookCodec(codebook))
    header, found = sink.getvalue()[:13], sink.getvalue()[13:33]  # two stored frames of 10 bytes
    assert in_range(codebook, header + found + b"\0" + trailer(header, b"\x04\x0a\x04\x0a"), 5, 6) == b"f"
    with pytest.raises(FormatError, match="x, frame 0: damaged; it does not fit the index"):
        in_range(codebook, header + found + b"\0" + trailer(header, b"\x03\x0a\x05\x0a"), 0, 1)


def test_ranges_are_found_in_real_frames(codebook: Codebook) -> None:
    sink = io.BytesIO()
    compress(frames_of_bytes(io.BytesIO(TEXT), 128), sink, CodebookCodec(codebook))
    assert in_range(codebook, sink.getvalue(), 100, 600) == TEXT[100:600]
