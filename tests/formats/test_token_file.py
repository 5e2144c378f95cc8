"""Token files and their sidecars."""

import io
import json
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.codebooks import golden_codebook, make_codebook
from helpers.texts import mixed, prose
from hypothesis import given
from hypothesis import strategies as st

from eqinfo.codebook import parse
from eqinfo.codebook.codebook import Codebook
from eqinfo.errors import EqinfoError, FormatError, MismatchError
from eqinfo.formats import token_file
from eqinfo.formats.codec import CodebookCodec
from eqinfo.formats.token_file import Sidecar
from eqinfo.text.frames import Frame, frames_of_pieces


def written(codebook: Codebook, frames: list[Frame], threads: int = 1) -> tuple[bytes, Sidecar]:
    sink = io.BytesIO()
    sidecar = token_file.write(frames, sink, CodebookCodec(codebook), threads)
    assert sidecar.tokens * (2 if codebook.window_bits <= 16 else 4) == len(sink.getvalue())
    return sink.getvalue(), sidecar


def read(codebook: Codebook, data: bytes, sidecar: Sidecar) -> list[Frame]:
    return list(token_file.read(io.BytesIO(data), sidecar, CodebookCodec(codebook), "x.bin"))


@given(st.lists(st.tuples(st.binary(max_size=60), st.booleans()), max_size=12))
def test_texts_and_document_ends_come_back(codebook: Codebook, pieces: list[tuple[bytes, bool]]) -> None:
    frames = list(frames_of_pieces(pieces))
    found = read(codebook, *written(codebook, frames))
    assert b"".join(frame.text for frame in found) == b"".join(frame.text for frame in frames)
    assert [end for frame in found for end in frame.document_ends] == [
        end for frame in frames for end in frame.document_ends
    ]


def test_ids_are_codewords_in_nanogpt_s_format(codebooks: list[Codebook]) -> None:
    text = mixed(200)
    for codebook in codebooks:
        data, sidecar = written(codebook, [Frame(text, [100, len(text)])])
        ids = np.frombuffer(data, "<u2" if codebook.window_bits <= 16 else "<u4")
        assert np.array_equal(ids, parse.encode(codebook, text, [100, len(text)]))
        assert b"".join(frame.text for frame in read(codebook, data, sidecar)) == text


def test_long_files_come_back_in_frames_of_bounded_size(
    codebook: Codebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_file, "READ_TOKENS", 100)
    frames = [Frame(prose(100, seed=i), [10 * i, 300]) for i in range(20)]
    data, sidecar = written(codebook, frames, threads=3)
    assert (data, sidecar) == written(codebook, frames)
    found = read(codebook, data, sidecar)
    assert b"".join(frame.text for frame in found) == b"".join(frame.text for frame in frames)
    assert len(found) == -(-sidecar.tokens // 100)


def test_the_sidecar_says_what_the_file_is() -> None:
    data, sidecar = written(golden_codebook(), [Frame(b"to be or not to be", [18, 18])])
    assert json.loads(sidecar.to_json()) == {
        "format": "eqinfo tokens",
        "version": 2,
        "vocab_size": 512,
        "window_bits": 9,
        "fingerprint": "3a6bcecc8668f65ab16af06df7cb51e2d30093bafffc91c08c468644d586604d",
        "tokens": 6,
        "original_bytes": 18,
        "documents": 2,
        "end_of_text": 0,
        "crc32": sidecar.crc32,
        "sidecar_crc32": 1303650380,
    }
    assert np.frombuffer(data, "<u2").tolist()[-2:] == [0, 0]
    assert Sidecar.from_json(sidecar.to_json(), "x") == sidecar


def test_every_flipped_bit_of_ids_or_sidecar_is_refused(codebook: Codebook) -> None:
    data, sidecar = written(codebook, [Frame(prose(8), [5])])
    for i in range(8 * len(data)):
        altered = bytearray(data)
        altered[i // 8] ^= 1 << i % 8
        with pytest.raises(FormatError, match=r"x\.bin: damaged; "):
            read(codebook, bytes(altered), sidecar)
    text = sidecar.to_json()
    for i in range(8 * len(text)):
        altered = bytearray(text)
        altered[i // 8] ^= 1 << i % 8
        with pytest.raises((FormatError, MismatchError)):
            read(codebook, data, Sidecar.from_json(bytes(altered), "x.bin.json"))


def test_every_truncation_and_extension_is_refused(codebook: Codebook) -> None:
    data, sidecar = written(codebook, [Frame(prose(8))])
    for size in range(len(data)):
        with pytest.raises(FormatError, match=f"found {size} bytes, want {len(data)}"):
            read(codebook, data[:size], sidecar)
    with pytest.raises(FormatError):
        read(codebook, data + b"\0\0", sidecar)
    text = sidecar.to_json()
    for size in range(len(text) - 1):  # the last byte is a line end
        with pytest.raises(FormatError):
            Sidecar.from_json(text[:size], "x.bin.json")
    with pytest.raises(FormatError):
        Sidecar.from_json(text + b"}", "x.bin.json")


def test_nothing_is_given_before_all_is_checked(codebook: Codebook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_file, "READ_TOKENS", 10)
    data, sidecar = written(codebook, [Frame(prose(100))])
    altered = data[:-2] + bytes([data[-2] ^ 1]) + data[-1:]
    with pytest.raises(FormatError):
        next(token_file.read(io.BytesIO(altered), sidecar, CodebookCodec(codebook), "x.bin"))


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"format": "eqinfo tokens"}', b"1e999"]
)
def test_hostile_sidecars_are_refused(text: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        Sidecar.from_json(text, "x.bin.json")
    assert "\n" not in str(caught.value)


def sealed(fields: dict[str, object]) -> bytes:
    """A sidecar of any fields, with their checksum."""
    others = ("format", "version", "sidecar_crc32")
    facts = {name: value for name, value in fields.items() if name not in others}
    crc = zlib.crc32(json.dumps(facts, sort_keys=True).encode())
    return json.dumps(fields | {"sidecar_crc32": crc}).encode()


@given(st.integers(0, 7), st.sampled_from([True, -1, 2**70, 1.0, "1", None, [], {}]))
def test_hostile_values_in_a_sidecar_are_refused(codebook: Codebook, which: int, value: object) -> None:
    data, sidecar = written(codebook, [Frame(b"to be")])
    fields = json.loads(sidecar.to_json())
    fields[list(fields)[2 + which]] = value
    with pytest.raises(EqinfoError) as caught:
        read(codebook, data, Sidecar.from_json(sealed(fields), "x.bin.json"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [{"fingerprint": text} for text in ("", "00", "x" * 64, "0" * 63, "0" * 65, "A" * 64, "0" * 64 + "\n")]
    + [{"window_bits": bits} for bits in (0, 11, 33, 2**40)]
    + [{"vocab_size": size} for size in (0, 300, 4095)],
)
def test_numbers_that_no_codec_has_are_refused_when_a_sidecar_is_read(
    codebook: Codebook, fields: dict[str, object]
) -> None:
    _, sidecar = written(codebook, [Frame(b"to be")])
    altered = sealed(json.loads(sidecar.to_json()) | fields)
    with pytest.raises(FormatError, match=r"^x\.bin\.json: damaged; found .* Get a fresh copy\.$"):
        Sidecar.from_json(altered, "x.bin.json")


@pytest.mark.parametrize("number", [-1, 1 << 63, 10**4299])
def test_numbers_that_no_file_has_are_refused_when_a_sidecar_is_read(codebook: Codebook, number: int) -> None:
    fields = json.loads(written(codebook, [Frame(b"to be")])[1].to_json())
    frames = [[number] * 4] * 2
    alone = ({name: number} for name in ("window_bits", "vocab_size", "tokens", "crc32"))
    for changes in (*alone, {"unit_bits": 24, "frames": frames}):
        with pytest.raises(FormatError, match=r"^x\.bin\.json: damaged; a number is out of range\."):
            Sidecar.from_json(sealed(fields | changes), "x.bin.json")


def test_error_lines_say_what_was_found_and_what_to_do(codebook: Codebook, tmp_path: Path) -> None:
    data, sidecar = written(codebook, [Frame(b"to be")])
    other = make_codebook(13)
    with pytest.raises(MismatchError) as caught:
        read(other, data, sidecar)
    assert str(caught.value) == (
        f"x.bin: needs a codebook of 12 bits with fingerprint {sidecar.fingerprint[:16]}; the model at "
        f"hand has one with {other.fingerprint.hex()[:16]}. Name the model it was made with (-m)."
    )
    with pytest.raises(FormatError) as damaged:
        read(codebook, data, replace(sidecar, original_bytes=6))
    assert str(damaged.value) == (
        "x.bin: damaged; original_bytes differs from its sidecar; found 5, want 6. Get a fresh copy."
    )
    path = tmp_path / "x.bin.json"
    path.write_bytes(sidecar.to_json().replace(b'"version": 2', b'"version": 3'))
    with pytest.raises(FormatError) as version:
        Sidecar.load(path)
    assert str(version.value) == f"{path}: another version of the format; found 3, want 2."
    with pytest.raises(FormatError) as strange:
        token_file.Sidecar.from_json(b'{"format": "eqinfo tokens", "version": "a\\nb"}', "x")
    assert str(strange.value) == r"x: another version of the format; found 'a\nb', want 2."
