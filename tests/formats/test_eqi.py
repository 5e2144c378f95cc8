"""The `.eqi` stream: round trips, golden values, and damaged streams of every kind."""

import io
import itertools
import random
import tracemalloc
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import pytest
from helpers.codebooks import golden_codebook, make_codebook
from helpers.texts import Trickle, mixed, prose
from hypothesis import given
from hypothesis import strategies as st

from eqinfo.codebook.codebook import Codebook
from eqinfo.errors import EqinfoError, FormatError, MismatchError
from eqinfo.formats.codec import CodebookCodec
from eqinfo.formats.eqi import HEADER_BYTES, Totals, compress, frame_seed, read_frames, stream_header, trailer
from eqinfo.formats.packing import pack, varint
from eqinfo.text.frames import FRAME_BYTES, Frame, frames_of_bytes, frames_of_pieces


def compressed(codebook: Codebook, text: bytes, threads: int = 1, size: int = FRAME_BYTES) -> bytes:
    sink = io.BytesIO()
    totals = compress(frames_of_bytes(io.BytesIO(text), size), sink, CodebookCodec(codebook), threads)
    assert (totals.original_bytes, totals.compressed_bytes) == (len(text), len(sink.getvalue()))
    return sink.getvalue()


def frames_in(codebook: Codebook, source: BinaryIO, threads: int = 1) -> Iterator[Frame]:
    return read_frames(source, CodebookCodec(codebook), "x", threads)


def restored(codebook: Codebook, data: bytes, threads: int = 1) -> bytes:
    return b"".join(frame.text for frame in frames_in(codebook, io.BytesIO(data), threads))


def refusal(codebook: Codebook, data: bytes) -> str:
    """The one line with which a stream is refused."""
    with pytest.raises((FormatError, MismatchError)) as caught:
        restored(codebook, data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@given(st.one_of(st.binary(max_size=400), st.text(max_size=200).map(str.encode)))
def test_any_bytes_come_back(codebook: Codebook, text: bytes) -> None:
    assert restored(codebook, compressed(codebook, text)) == text


@pytest.mark.parametrize("text", [b"", b"\0", b"\xff", b"a", b"\r\n", b"\xed\xa0\x80", bytes(range(256))])
def test_the_smallest_texts_come_back_with_every_kind_of_codebook(
    codebooks: list[Codebook], text: bytes
) -> None:
    for codebook in codebooks:
        assert restored(codebook, compressed(codebook, text)) == text


def test_mixed_texts_come_back_with_every_kind_of_codebook(
    codebooks: list[Codebook], compiled_code_only: None
) -> None:
    for codebook in codebooks:
        assert restored(codebook, compressed(codebook, mixed(2000))) == mixed(2000)


def test_texts_of_several_frames_come_back_whatever_the_threads(codebook: Codebook) -> None:
    text = (mixed(20_000) * 30)[: 5 * (1 << 20) + 12345]
    data = compressed(codebook, text)
    assert len(data) < len(text) / 2
    for threads in (1, 2, 5):
        assert compressed(codebook, text, threads) == data
        assert restored(codebook, data, threads) == text


@pytest.mark.parametrize("n_bytes", [63, 64, 65, 128, 129])
def test_texts_about_the_size_of_frames_come_back(codebook: Codebook, n_bytes: int) -> None:
    text = prose(100)[:n_bytes]
    assert restored(codebook, compressed(codebook, text, size=64)) == text


def test_noise_grows_by_a_few_bytes_only(codebook: Codebook) -> None:
    noise = random.Random(0).randbytes(100_000)
    assert len(compressed(codebook, noise)) <= len(noise) + 40
    assert restored(codebook, compressed(codebook, noise)) == noise


def test_a_short_record_costs_little_more_than_its_windows(codebook: Codebook) -> None:
    text = prose(100)[:200]
    sink = io.BytesIO()
    totals = compress([Frame(text)], sink, CodebookCodec(codebook))
    assert totals.compressed_bytes - totals.windows * 12 / 8 < 32


@given(st.binary(max_size=300), st.lists(st.integers(1, 90), min_size=1))
def test_streams_do_not_depend_on_read_sizes(codebook: Codebook, text: bytes, sizes: list[int]) -> None:
    def trickle(data: bytes) -> Trickle:
        turns = itertools.cycle(sizes)
        return Trickle(data, lambda: next(turns))

    data = compressed(codebook, text)
    sink = io.BytesIO()
    compress(frames_of_bytes(trickle(text)), sink, CodebookCodec(codebook))
    assert sink.getvalue() == data
    assert b"".join(frame.text for frame in frames_in(codebook, trickle(data))) == text


def test_a_frame_is_written_before_the_next_is_read(codebook: Codebook) -> None:
    sink = io.BytesIO()
    sizes = []

    def source() -> Iterator[Frame]:
        for i in range(3):
            sizes.append(len(sink.getvalue()))
            yield Frame(prose(50, seed=i))

    compress(source(), sink, CodebookCodec(codebook))
    assert 0 < sizes[0] < sizes[1] < sizes[2]


@given(st.lists(st.tuples(st.binary(max_size=60), st.booleans()), max_size=12))
def test_document_ends_come_back(codebook: Codebook, pieces: list[tuple[bytes, bool]]) -> None:
    want = list(frames_of_pieces(pieces))
    sink = io.BytesIO()
    totals = compress(want, sink, CodebookCodec(codebook))
    assert totals.documents == sum(closed for _, closed in pieces)
    found = list(frames_in(codebook, io.BytesIO(sink.getvalue())))
    assert [(text, list(ends)) for text, ends in found] == [(text, list(ends)) for text, ends in want]


def test_a_hundred_thousand_empty_documents_come_back(codebook: Codebook) -> None:
    sink = io.BytesIO()
    compress(frames_of_pieces((b"", True) for _ in range(100_000)), sink, CodebookCodec(codebook))
    found = list(frames_in(codebook, io.BytesIO(sink.getvalue())))
    assert sum(len(ends) for _, ends in found) == 100_000


def test_streams_one_after_another_decode_to_the_concatenation(codebook: Codebook) -> None:
    texts = [prose(40), b"", b"\0", prose(700, seed=1), b""]
    assert restored(codebook, b"".join(compressed(codebook, text) for text in texts)) == b"".join(texts)


def test_totals_say_what_was_written() -> None:
    sink = io.BytesIO()
    totals = compress([Frame(b"to be or not to be", [18])], sink, CodebookCodec(golden_codebook()))
    assert totals == Totals(original_bytes=18, compressed_bytes=len(sink.getvalue()), windows=5, documents=1)


# ---- golden values: streams written once can be read for ever


@pytest.mark.parametrize(
    ("text", "ends", "golden"),
    [
        (b"", None, "45514901093a6bcecc8668f65a004c28793b00"),
        (b"to be or not to be", None, "45514901093a6bcecc8668f65a0512bb504a857d44c8e90300120b2e2886c702"),
        (
            b"that is the question",
            [20, 20],
            "45514901093a6bcecc8668f65a05142deb71967bec00000000140ba88fdc9102",
        ),
    ],
)
def test_streams_stay_as_they_are(text: bytes, ends: list[int] | None, golden: str) -> None:
    sink = io.BytesIO()
    compress([Frame(text, ends or [])] if text else [], sink, CodebookCodec(golden_codebook()))
    assert sink.getvalue().hex() == golden
    assert restored(golden_codebook(), bytes.fromhex(golden)) == text


def test_a_stream_worked_by_hand() -> None:
    codebook = golden_codebook()
    codewords = [codebook.codewords[window] for window in (b"to be", b" or ", b"not ", b"to be")]
    packed = sum(codeword << 9 * i for i, codeword in enumerate(codewords)).to_bytes(5, "little")
    text = b"to be or not to be"
    header = b"EQI\x01\x09" + codebook.fingerprint[:8]
    crc = zlib.crc32(header + (0).to_bytes(8, "little") + b"\x05\x12" + packed + text)
    frame = b"\x05\x12" + crc.to_bytes(4, "little") + packed  # 4 windows + 1, 18 bytes
    index = b"\x12\x0b"  # 18 bytes of text in 11 bytes
    end = b"\0" + index + zlib.crc32(header + index).to_bytes(4, "little") + b"\x02"
    assert compressed(codebook, text) == header + frame + end


# ---- whatever is not as it was written is refused


@pytest.fixture(scope="module")
def streams() -> list[tuple[Codebook, bytes]]:
    """Small streams of every shape: empty, stored, packed, with padding, of many frames, with documents."""
    found = []
    for codebook in (golden_codebook(), make_codebook(12), make_codebook(16, n_windows=3000)):
        for text in (b"", b"x", prose(8), random.Random(1).randbytes(20)):
            found.append((codebook, compressed(codebook, text)))
        sink = io.BytesIO()
        compress(
            [Frame(b"to be"), Frame(b"", [0, 0]), Frame(b"not to be", [3, 9])], sink, CodebookCodec(codebook)
        )
        found.append((codebook, sink.getvalue()))
    return found


def test_every_flipped_bit_is_refused(streams: list[tuple[Codebook, bytes]]) -> None:
    for codebook, data in streams:
        for i in range(8 * len(data)):
            altered = bytearray(data)
            altered[i // 8] ^= 1 << i % 8
            refusal(codebook, bytes(altered))


def test_every_truncation_is_refused(streams: list[tuple[Codebook, bytes]]) -> None:
    for codebook, data in streams:
        for size in range(len(data)):
            refusal(codebook, data[:size])


def test_every_extension_is_refused(streams: list[tuple[Codebook, bytes]]) -> None:
    for codebook, data in streams:
        for byte in range(256):
            refusal(codebook, data + bytes([byte]))
        refusal(codebook, data + data[:-1])


def test_every_byte_left_out_or_doubled_is_refused(streams: list[tuple[Codebook, bytes]]) -> None:
    for codebook, data in streams:
        for i in range(len(data)):
            refusal(codebook, data[:i] + data[i + 1 :])
            refusal(codebook, data[: i + 1] + data[i:])


def test_frames_in_another_order_are_refused(codebook: Codebook) -> None:
    sink = io.BytesIO()
    compress([Frame(b"aaaa"), Frame(b"bbbb")], sink, CodebookCodec(codebook))
    data = sink.getvalue()
    first, second = data[13:23], data[23:33]
    assert refusal(codebook, data[:13] + second + first + data[33:]).startswith(
        "x, frame 0: damaged; found check"
    )


@given(st.binary(max_size=120), st.integers(0, 30))
def test_hostile_bytes_give_a_result_or_one_line(codebook: Codebook, noise: bytes, n_kept: int) -> None:
    data = compressed(codebook, b"to be or not to be")[:n_kept] + noise
    message = ""
    try:
        restored(codebook, data)
    except EqinfoError as error:
        message = str(error)
    assert "\n" not in message


def sealed(codebook: Codebook, head: bytes, payload: bytes, text: bytes) -> bytes:
    """A frame whose checksum is right, and all that follows it, whatever it says."""
    header = stream_header(CodebookCodec(codebook))
    crc = zlib.crc32(head + payload + text, frame_seed(header, 0))
    frame = head + crc.to_bytes(4, "little") + payload
    return header + frame + b"\0" + trailer(header, varint(len(text)) + varint(len(frame)))


def test_a_frame_that_is_sealed_but_senseless_is_refused(codebooks: list[Codebook]) -> None:
    unused = next(
        book for book in codebooks if len(book.windows) < book.vocab_size and book.window_bits == 13
    )
    import numpy as np

    longest = max(unused.windows, key=len)
    codeword = unused.codewords[longest]

    def frame(codewords: list[int], n_bytes: int, text: bytes) -> bytes:
        payload = pack(np.array(codewords, np.uint32), 13)
        return sealed(unused, varint(len(codewords) + 1) + varint(n_bytes), payload, text)

    assert restored(unused, frame([codeword], len(longest), longest)) == longest
    assert "found 14 bytes, want 13" in refusal(unused, frame([codeword], len(longest) - 1, longest[:-1]))
    assert "codewords that are none" in refusal(unused, frame([len(unused.windows)], 1, b"x"))
    assert "not a length" in refusal(unused, sealed(unused, b"\x81\x00\x01", b"x", b"x"))
    assert "found 0 units for 0 bytes" in refusal(unused, sealed(unused, b"\x01\x00", b"", b""))


@pytest.mark.parametrize(
    "head",
    [
        varint(2**62) + varint(1),
        varint(1) + varint(2**62),
        varint(1) + varint((1 << 20) + 1),
        varint((1 << 20) + (1 << 16) + 2) + varint(1 << 20),
        varint(1 << 17) + varint(1),
        b"\xff" * 40,
    ],
)
def test_a_header_that_claims_much_is_refused_without_allocating(codebook: Codebook, head: bytes) -> None:
    data = stream_header(CodebookCodec(codebook)) + head + b"\0" * 100
    tracemalloc.start()
    try:
        assert "damaged" in refusal(codebook, data)
        assert tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()


def test_windows_that_would_decode_to_much_are_refused_before_they_do(codebook: Codebook) -> None:
    n = 1 << 20
    longest = max(range(len(codebook.windows)), key=lambda i: len(codebook.windows[i]))
    import numpy as np

    payload = pack(np.full(n, longest, np.uint32), 12)
    data = stream_header(CodebookCodec(codebook)) + varint(n + 1) + varint(n) + b"\0" * 4 + payload
    assert f"x, frame 0: damaged; found {14 * n} bytes, want {n}." in refusal(codebook, data)


# ---- messages


def test_error_lines_say_what_was_found_and_what_to_do(codebook: Codebook) -> None:
    data = compressed(codebook, prose(20))
    other = make_codebook(13)
    assert refusal(codebook, b"text") == "x: not an .eqi stream; it begins with 'tex', want 'EQI'."
    assert refusal(codebook, b"") == "x: not an .eqi stream; it begins with '', want 'EQI'."
    assert refusal(codebook, data[:9]) == "x: truncated; found 9 bytes, want 13 or more. Get a complete copy."
    assert refusal(codebook, data[:3] + b"\x07" + data[4:]) == (
        "x: another version of the format; found 7, want 1."
    )
    assert refusal(other, data) == (
        f"x: needs a codebook of 12 bits with fingerprint {codebook.fingerprint.hex()[:16]}; the model at "
        f"hand has one with {other.fingerprint.hex()[:16]}. Name the model it was made with (-m)."
    )
    assert refusal(codebook, data[:30]).startswith("x, frame 0: truncated; found ")
    assert refusal(codebook, data[:-1]).startswith("x, index: truncated; found ")
    assert (
        refusal(codebook, data + b"junk")
        == "x, stream 1: not an .eqi stream; it begins with 'jun', want 'EQI'."
    )
    assert refusal(codebook, data[:40] + bytes([data[40] ^ 1]) + data[41:]).startswith(
        "x, frame 0: damaged; "
    )


def test_frames_before_the_damage_are_given(codebook: Codebook) -> None:
    text = prose(60)
    data = bytearray(compressed(codebook, text, size=64))
    data[-60] ^= 1
    found = io.BytesIO()
    with pytest.raises(FormatError):
        found.writelines(frame.text for frame in frames_in(codebook, io.BytesIO(data)))
    assert len(found.getvalue()) >= 64
    assert text.startswith(found.getvalue())


def test_the_header_is_thirteen_bytes(codebook: Codebook) -> None:
    assert len(stream_header(CodebookCodec(codebook))) == HEADER_BYTES == 13


def test_damage_is_found_in_threads_too(codebook: Codebook) -> None:
    data = bytearray(compressed(codebook, prose(200), size=64))
    data[len(data) // 2] ^= 1
    with pytest.raises(FormatError):
        restored(codebook, bytes(data), threads=3)
