"""Codings: payloads, streams and token files of every kind, and the models that hold them."""

import hashlib
import io
import json
import random
from dataclasses import replace
from itertools import chain, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.codebooks import make_codebook
from helpers.networks import random_network
from helpers.texts import mixed, prose
from hypothesis import given
from hypothesis import strategies as st

from eqinfo.codebook.codebook import Codebook
from eqinfo.coder import integer_m1
from eqinfo.coder.live_windows import WINDOW_BITS
from eqinfo.errors import EqinfoError, FormatError, MismatchError
from eqinfo.formats import token_file
from eqinfo.formats.codec import (
    LIVE_FRAME_BYTES,
    ArithmeticCodec,
    CodebookCodec,
    Codec,
    WindowCodec,
    described,
)
from eqinfo.formats.eqi import compress, read_frames
from eqinfo.formats.eqi_index import read_range
from eqinfo.formats.model_folder import Model
from eqinfo.formats.token_file import Sidecar
from eqinfo.m2 import batches as m2_batches
from eqinfo.text.frames import FRAME_BYTES, Frame, frames_of_bytes, frames_of_pieces

NETWORK = random_network()
CODECS: list[Codec] = [
    WindowCodec(NETWORK, 24),
    WindowCodec(NETWORK, 32),
    WindowCodec(NETWORK, 48, carry=True),
    WindowCodec(NETWORK, 64),
    WindowCodec(NETWORK, 128),
    WindowCodec(NETWORK, 24, rule="published"),
    WindowCodec(NETWORK, 64, rule="published"),
    ArithmeticCodec(NETWORK),
    ArithmeticCodec(NETWORK, version=1),
    ArithmeticCodec(NETWORK, "published"),
]
WINDOWS = [codec for codec in CODECS if isinstance(codec, WindowCodec)]
TEXT = mixed(60)
FRAMES = [Frame(b"to be"), Frame(b"", [0, 0]), Frame(b"or not to be", [3, 12]), Frame(b"\xff\0\xff")]

every_codec = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)


@pytest.fixture(scope="module")
def model(live_model: Path) -> Model:
    return Model(live_model)


def plain(frames: list[Frame]) -> list[tuple[bytes, list[int]]]:
    return [(text, list(ends)) for text, ends in frames]


def stream(codec: Codec, frames: list[Frame], threads: int = 1) -> bytes:
    sink = io.BytesIO()
    totals = compress(frames, sink, codec, threads)
    assert totals.compressed_bytes == len(sink.getvalue())
    return sink.getvalue()


def found_in(model: Model, data: bytes, threads: int = 1) -> list[Frame]:
    return list(read_frames(io.BytesIO(data), model, "x", threads))


def text_of(frames: list[Frame]) -> bytes:
    return b"".join(frame.text for frame in frames)


def frames_of(text: bytes, size: int = 700) -> list[Frame]:
    return list(frames_of_bytes(io.BytesIO(text), size))


# ---- payloads


@every_codec
@given(pieces=st.lists(st.tuples(st.binary(max_size=30), st.booleans()), min_size=1, max_size=6))
def test_any_frame_comes_back(codec: Codec, pieces: list[tuple[bytes, bool]]) -> None:
    for frame in frames_of_pieces(pieces):
        units, payload = codec.encode(frame)
        assert 1 <= units <= codec.most_units(len(frame.text))
        assert len(payload) * 8 == units * codec.unit_bits
        assert plain([codec.decode(units, payload, len(frame.text))]) == plain([frame])


@every_codec
def test_the_worst_frames_have_no_more_units_than_they_may(codec: Codec) -> None:
    noise = random.Random(0).randbytes(2000)
    for frame in (Frame(b"\xfd" * 2000), Frame(noise), Frame(b"", [0] * 3000)):
        units, payload = codec.encode(frame)
        assert units <= codec.most_units(len(frame.text))
        assert plain([codec.decode(units, payload, len(frame.text))]) == plain([frame])


@every_codec
@given(payload=st.binary(max_size=80), text_length=st.integers(0, 60))
def test_hostile_payloads_give_a_frame_or_an_error(codec: Codec, payload: bytes, text_length: int) -> None:
    size = codec.unit_bits // 8
    payload = payload[: len(payload) // size * size]
    try:
        frame = codec.decode(len(payload) // size, payload, text_length)
    except ValueError:
        return
    assert len(frame.text) == text_length
    assert list(frame.document_ends) == sorted(frame.document_ends)


def test_an_arithmetic_code_with_senseless_numbers_of_documents_is_refused() -> None:
    codec = ArithmeticCodec(NETWORK)
    for payload in (b"", b"\x80", b"\xff" * 20, b"\xff\xff\xff\x7f" + bytes(20), b"\x85\x00" + bytes(30)):
        with pytest.raises(ValueError, match=r"found|not"):
            codec.decode(len(payload), payload, 3)


def test_frames_of_live_codings_are_smaller() -> None:
    assert {codec.frame_bytes for codec in WINDOWS} == {LIVE_FRAME_BYTES}
    assert LIVE_FRAME_BYTES < FRAME_BYTES


# ---- names and fingerprints


def test_fingerprints_tell_all_codings_apart(codebook: Codebook) -> None:
    other = random_network(seed=1)
    codecs = [
        CodebookCodec(codebook),
        ArithmeticCodec(NETWORK),
        ArithmeticCodec(NETWORK, version=1),
        ArithmeticCodec(NETWORK, "published"),
        ArithmeticCodec(other),
        WindowCodec(other, 24),
    ]
    for bits in WINDOW_BITS:
        for carry, rule in product((False, True), ("live", "published")):
            codecs.append(WindowCodec(NETWORK, bits, carry, rule))
    found = {codec.fingerprint[:8] for codec in codecs}
    assert len(found) == len(codecs)
    assert {len(codec.fingerprint) for codec in codecs} == {32}


def test_fingerprints_are_computed_as_the_text_of_the_format_says(codebook: Codebook) -> None:
    lengths = bytes(len(window) for window in codebook.windows)
    contents = b"eqinfo codebook" + bytes([1, 12]) + lengths + b"".join(codebook.windows)
    assert CodebookCodec(codebook).fingerprint == hashlib.sha256(contents).digest()
    m1 = integer_m1.to_bytes(NETWORK)[-32:]
    names = ["live 24", "live 32", "live 48 carry", "live 64", "live 128", "published 24", "published 64"]
    for codec, name in zip(CODECS, [*names, "live ac 2", "live ac", "published ac"], strict=True):
        assert codec.fingerprint == hashlib.sha256(f"eqinfo live 1 {name} ".encode() + m1).digest()


# ---- streams


@every_codec
def test_streams_come_back_whatever_the_threads(model: Model, codec: Codec) -> None:
    frames = frames_of(TEXT)
    data = stream(codec, frames)
    assert data[:5] == b"EQI\x01" + bytes([codec.unit_bits])
    for threads in (1, 4):
        assert stream(codec, frames, threads) == data
        assert plain(found_in(model, data, threads)) == plain(frames)


@every_codec
def test_documents_come_back_from_streams(model: Model, codec: Codec) -> None:
    assert plain(found_in(model, stream(codec, FRAMES))) == plain(FRAMES)


def test_streams_of_different_kinds_decode_to_the_concatenation(model: Model, codebook: Codebook) -> None:
    codecs = [*CODECS, CodebookCodec(codebook), *reversed(CODECS)]
    frames = [frames_of(prose(30, seed)) for seed in range(len(codecs))]
    data = b"".join(stream(codec, some) for codec, some in zip(codecs, frames, strict=True))
    text = text_of(list(chain(*frames)))
    assert text_of(found_in(model, data)) == text
    for start, end in ((0, None), (0, 5), (300, 900), (len(text) - 3, len(text))):
        found = read_range(io.BytesIO(data), model, "x", start, end)
        assert b"".join(found) == text[start:end]


@every_codec
def test_what_does_not_shrink_is_stored(model: Model, codec: Codec) -> None:
    noise = random.Random(0).randbytes(5000)
    data = stream(codec, frames_of(noise))
    assert len(data) < len(noise) + 120
    assert noise[:600] in data
    assert text_of(found_in(model, data)) == noise


@every_codec
def test_every_flipped_bit_and_every_truncation_is_refused(model: Model, codec: Codec) -> None:
    data = stream(codec, [Frame(b"to be or not to be"), *FRAMES[1:]])
    for i in range(8 * len(data)):
        altered = bytearray(data)
        altered[i // 8] ^= 1 << i % 8
        with pytest.raises((FormatError, MismatchError)) as caught:
            found_in(model, bytes(altered))
        assert "\n" not in str(caught.value)
    for size in range(len(data)):
        with pytest.raises(FormatError):
            found_in(model, data[:size])


# ---- models


def test_a_model_has_the_codings_asked_for(model: Model) -> None:
    assert model.codec(None, False, "live").name == model.codec("12", False, "live").name == ""
    asked = [("24", False, "live"), ("24", True, "live"), ("24", False, "published"), ("ac", False, "live")]
    assert [model.codec(*one).name for one in asked] == [
        "live 24",
        "live 24 carry",
        "published 24",
        "live ac 2",
    ]


def test_m1_is_hashed_once_for_all_streams_of_a_kind(model: Model) -> None:
    for codec in CODECS:
        found = model.find_codec(codec.unit_bits, codec.fingerprint[:8], "x")
        assert found.fingerprint == codec.fingerprint
        assert model.find_codec(codec.unit_bits, codec.fingerprint[:8], "x") is found


def test_one_altered_weight_is_refused_by_fingerprint(model: Model, live_model: Path, tmp_path: Path) -> None:
    head = NETWORK.head.copy()
    head[5, 7] ^= 1
    altered = NETWORK._replace(head=head)
    (tmp_path / "codebook.eqcb").write_bytes((live_model / "codebook.eqcb").read_bytes())
    (tmp_path / "m1.eqm1").write_bytes(integer_m1.to_bytes(altered))
    other = Model(tmp_path)
    for codec in CODECS:
        data = stream(codec, FRAMES)
        with pytest.raises(MismatchError) as caught:
            found_in(other, data)
        assert str(caught.value).startswith(
            f"x: needs {described(codec.unit_bits)} with fingerprint {codec.fingerprint.hex()[:16]}; "
            f"{tmp_path} has one with "
        )
        assert str(caught.value).endswith(". Name the model it was made with (-m).")


def test_streams_that_need_weights_say_so_where_there_are_none(live_model: Path) -> None:
    path = live_model / "codebook.eqcb"  # a codebook is no folder, whatever lies beside it
    bare = Model(path)
    for codec, what in ((CODECS[0], "live windows of 24 bits"), (CODECS[-1], "arithmetic coding")):
        with pytest.raises(MismatchError) as caught:
            found_in(bare, stream(codec, FRAMES))
        assert str(caught.value) == (
            f"x: needs an M1 for {what} with fingerprint {codec.fingerprint.hex()[:16]}; {path} has none. "
            "Name the model it was made with (-m)."
        )


def test_damaged_weights_are_named(live_model: Path, tmp_path: Path) -> None:
    (tmp_path / "codebook.eqcb").write_bytes((live_model / "codebook.eqcb").read_bytes())
    (tmp_path / "m1.eqm1").write_bytes((live_model / "m1.eqm1").read_bytes()[:-1])
    with pytest.raises(FormatError, match=r"m1\.eqm1: "):
        found_in(Model(tmp_path), stream(CODECS[0], FRAMES))


def test_a_codebook_alone_refuses_all_else(codebook: Codebook) -> None:
    other = CodebookCodec(make_codebook(13))
    with pytest.raises(MismatchError, match="needs a codebook of 12 bits"):
        list(read_frames(io.BytesIO(stream(CodebookCodec(codebook), FRAMES)), other, "x"))
    with pytest.raises(MismatchError, match="needs an M1 for live windows of 24 bits"):
        list(read_frames(io.BytesIO(stream(CODECS[0], FRAMES)), other, "x"))


# ---- token files


def made_tokens(codec: Codec, frames: list[Frame], threads: int = 1) -> tuple[bytes, Sidecar]:
    sink = io.BytesIO()
    sidecar = token_file.write(frames, sink, codec, threads)
    assert 2 * sidecar.tokens == len(sink.getvalue())
    return sink.getvalue(), sidecar


def read_tokens(model: Model, data: bytes, sidecar: Sidecar) -> list[Frame]:
    return list(token_file.read(io.BytesIO(data), sidecar, model, "x.bin"))


@every_codec
def test_token_files_come_back_through_their_sidecar(model: Model, codec: Codec) -> None:
    frames = [*frames_of(TEXT), *FRAMES]
    data, sidecar = made_tokens(codec, frames)
    assert made_tokens(codec, frames, threads=4) == (data, sidecar)
    again = Sidecar.from_json(sidecar.to_json(), "x.bin.json")
    assert again == sidecar
    assert (again.unit_bits, again.window_bits, again.vocab_size) == (codec.unit_bits, 16, 65536)
    assert (again.documents, again.original_bytes) == (4, len(TEXT) + 20)
    assert [row[:2] for row in again.frames] == [[len(text), len(ends)] for text, ends in frames]
    assert plain(read_tokens(model, data, again)) == plain(frames)


@every_codec
def test_ids_are_the_bytes_of_payloads(codec: Codec, tmp_path: Path) -> None:
    frames = [*frames_of(TEXT), *FRAMES]
    data, sidecar = made_tokens(codec, frames)
    path = tmp_path / "x.bin"
    path.write_bytes(data)
    token_file.sidecar_path(path).write_bytes(sidecar.to_json())
    payloads = [codec.encode(frame)[1] for frame in frames]
    want = np.frombuffer(b"".join(payload + bytes(len(payload) % 2) for payload in payloads), np.uint8)
    m2_batches.check([path])
    for token_bits, vocab_size in ((None, 65536), (16, 65536), (8, 256)):
        loaded = m2_batches.load([path], token_bits)
        assert (loaded.vocab_size, loaded.sidecar.original_bytes) == (
            vocab_size,
            len(TEXT) + 20,
        )
        targets = loaded.blocks([0], loaded.n_tokens)[1].numpy()[0]
        assert np.array_equal(targets, want if token_bits == 8 else want[::2] * np.int64(256) + want[1::2])


@pytest.mark.parametrize("codec", [CODECS[0], CODECS[-1]], ids=lambda codec: codec.name)
def test_every_flipped_bit_of_ids_or_sidecar_is_refused(model: Model, codec: Codec) -> None:
    data, sidecar = made_tokens(codec, FRAMES)
    for i in range(8 * len(data)):
        altered = bytearray(data)
        altered[i // 8] ^= 1 << i % 8
        with pytest.raises(FormatError, match=r"x\.bin: damaged; crc32"):
            read_tokens(model, bytes(altered), sidecar)
    text = sidecar.to_json()
    for i in range(8 * len(text)):
        altered = bytearray(text)
        altered[i // 8] ^= 1 << i % 8
        with pytest.raises((FormatError, MismatchError)) as caught:
            read_tokens(model, data, Sidecar.from_json(bytes(altered), "x.bin.json"))
        assert "\n" not in str(caught.value)
    for size in range(len(text) - 1):
        with pytest.raises(FormatError):
            Sidecar.from_json(text[:size], "x.bin.json")


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [[5, 0]],
        [5],
        {},
        None,
        [[5, 0, 2]],
        [[5, 0, -2, 0], [0, 0, 4, 0]],
        [[5, 0, 1.0, 0]],
        [[5, True, 2, 0]],
        [[2**70, 0, 2, 0]],
        [[5, 2**70, 2, 0]],
        [[5, 0, 2**70, 0]],
        [[5, 0, 2, 2**70]],
        [[0, 0, 2, 0]],
    ],
)
def test_a_sidecar_with_senseless_frames_is_refused(model: Model, frames: list[list[int]]) -> None:
    data, sidecar = made_tokens(CODECS[0], [Frame(b"to be")])
    altered = json.dumps(json.loads(sidecar.to_json()) | {"frames": frames}).encode()
    with pytest.raises(FormatError) as caught:
        read_tokens(model, data, Sidecar.from_json(altered, "x.bin.json"))
    assert "\n" not in str(caught.value)


def test_frames_that_only_add_up_are_refused_when_they_are_decoded(model: Model) -> None:
    for codec in CODECS:  # some decode to more text or less, as they are asked: then the checksum is wrong
        data, sidecar = made_tokens(codec, [Frame(prose(20), [3]), Frame(prose(20, seed=1), [4, 5])])
        (a, one, *first), (b, two, *second) = sidecar.frames
        for rows in (
            [[a + 1, one, *first], [b - 1, two, *second]],
            [[a, one + 1, *first], [b, two - 1, *second]],
            [[a, one, first[0], second[1]], [b, two, second[0], first[1]]],
        ):
            with pytest.raises(EqinfoError, match=r"x\.bin: damaged; "):
                read_tokens(model, data, replace(sidecar, frames=rows))


def test_token_files_of_another_model_are_refused(model: Model, live_model: Path) -> None:
    data, sidecar = made_tokens(CODECS[0], FRAMES)
    with pytest.raises(MismatchError, match=r"x\.bin: needs an M1 for live windows of 24 bits"):
        read_tokens(Model(live_model / "codebook.eqcb"), data, sidecar)
    wrong: list[dict[str, Any]] = [{"unit_bits": bits} for bits in (0, 8, 21, 32, 2**70, -24)]
    wrong += [{"fingerprint": text} for text in ("", "00", "00" * 32, sidecar.fingerprint.upper())]
    for fields in wrong:
        with pytest.raises((FormatError, MismatchError)) as caught:
            read_tokens(model, data, replace(sidecar, **fields))
        assert "\n" not in str(caught.value)
