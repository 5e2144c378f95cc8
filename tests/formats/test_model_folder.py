"""Models named by -m: which codecs they have, and which of their files they read."""

import io
import re
import shutil
from pathlib import Path

import pytest
from helpers.codebooks import make_codebook
from helpers.networks import random_network
from helpers.texts import prose
from hypothesis import given
from hypothesis import strategies as st

from eqinfo.codebook.codebook import Codebook
from eqinfo.coder import integer_m1
from eqinfo.coder.live_windows import WINDOW_BITS
from eqinfo.errors import EqinfoError, FormatError, InputError, MismatchError
from eqinfo.formats.codec import ArithmeticCodec, CodebookCodec, WindowCodec
from eqinfo.formats.eqi import compress, read_frames
from eqinfo.formats.eqi_index import read_range
from eqinfo.formats.model_folder import Model, codebook_name, codebook_path, model_name, model_path
from eqinfo.text.frames import Frame

TEXT = prose(20)


def stream(model: Model, window_bits: str | None) -> bytes:
    sink = io.BytesIO()
    compress([Frame(TEXT, [9])], sink, model.codec(window_bits, False, "live"))
    return sink.getvalue()


def restored(model: Model, data: bytes) -> bytes:
    return b"".join(frame.text for frame in read_frames(io.BytesIO(data), model, "x"))


def test_every_width_of_live_windows_has_its_codec(live_model: Path) -> None:
    model = Model(live_model)
    for bits in WINDOW_BITS:
        codec = model.codec(str(bits), True, "live")
        assert (type(codec), codec.unit_bits, codec.name) == (WindowCodec, bits, f"live {bits} carry")
        assert type(model.codec("ac", False, "live")) is ArithmeticCodec
    assert [*WINDOW_BITS] == [24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120, 128]


@pytest.mark.parametrize(
    "bits", ["", "0", "8", "-24", "17", "21", "25", "024", " 24", "24.0", "136", "AC", "x"]
)
def test_other_widths_are_refused_with_those_there_are(live_model: Path, bits: str) -> None:
    with pytest.raises(InputError) as caught:
        Model(live_model).codec(bits, False, "live")
    assert str(caught.value) == (
        f"--window-bits: found {bits}, want 12 (the codebook's), "
        "24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120, 128 or ac."
    )


def test_a_codebook_file_is_a_model_for_its_own_windows_only(live_model: Path) -> None:
    whole, alone = Model(live_model), Model(live_model / "codebook.eqcb")
    assert restored(alone, stream(whole, None)) == restored(whole, stream(alone, "12")) == TEXT
    for bits in ("24", "ac"):
        with pytest.raises(InputError, match=r"no such M1, which live windows need\. Give a folder made by"):
            alone.codec(bits, False, "live")
        data = stream(whole, bits)
        for read in (restored, lambda model, data: list(read_range(io.BytesIO(data), model, "x", 0))):
            with pytest.raises(MismatchError) as caught:
                read(alone, data)
            assert f"fingerprint {data[5:13].hex()}; {alone.path} has none." in str(caught.value)


def test_only_the_files_that_are_needed_are_read(live_model: Path, tmp_path: Path) -> None:
    whole = Model(live_model)
    for name, sound, bits, other in (
        ("codebook.eqcb", "m1.eqm1", "24", None),
        ("m1.eqm1", "codebook.eqcb", None, "24"),
    ):
        folder = tmp_path / sound
        folder.mkdir()
        (folder / sound).write_bytes((live_model / sound).read_bytes())
        (folder / name).write_bytes(b"damaged")
        assert restored(Model(folder), stream(whole, bits)) == TEXT
        with pytest.raises(FormatError, match=re.escape(str(folder / name))):
            restored(Model(folder), stream(whole, other))


@pytest.mark.parametrize("unit_bits", [0, 1, 7, 21, 23, 25, 129, 136, 255])
def test_sizes_of_units_that_nothing_has_are_damage(live_model: Path, unit_bits: int) -> None:
    with pytest.raises(FormatError, match=f"x: damaged; found units of {unit_bits} bits. Get a fresh copy."):
        Model(live_model).find_codec(unit_bits, bytes(8), "x")


def test_a_stream_says_which_m1_it_needs(live_model: Path, tmp_path: Path) -> None:
    (tmp_path / "m1.eqm1").write_bytes(integer_m1.to_bytes(random_network(seed=1)))
    for bits in ("24", "128", "ac"):
        data = stream(Model(live_model), bits)
        with pytest.raises(
            MismatchError, match=re.escape(f"fingerprint {data[5:13].hex()}; {tmp_path} has one with ")
        ):
            restored(Model(tmp_path), data)


@given(st.binary(max_size=60), st.integers(0, 40), st.sampled_from([None, "24", "64", "ac"]))
def test_hostile_bytes_give_a_result_or_one_line(
    live_model: Path, noise: bytes, n_kept: int, bits: str | None
) -> None:
    model = Model(live_model)
    data = stream(model, bits)[:n_kept] + noise
    for read in (restored, lambda model, data: list(read_range(io.BytesIO(data), model, "x", 0))):
        message = ""
        try:
            read(model, data)
        except EqinfoError as error:
            message = str(error)
        assert "\n" not in message


def test_a_codec_of_the_codebook_is_that_of_the_folder(live_model: Path, codebook: Codebook) -> None:
    codec = Model(live_model).find_codec(12, codebook.fingerprint, "x")
    assert isinstance(codec, CodebookCodec)
    assert codec.codebook.fingerprint == codebook.fingerprint


def test_a_codebook_is_found_in_a_model_folder_or_by_its_own_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such codebook"):
        codebook_path(tmp_path)
    path = tmp_path / "codebook.eqcb"
    path.write_bytes(b"")
    assert codebook_path(tmp_path) == codebook_path(path) == path


@pytest.fixture
def wide_model(live_model: Path, tmp_path: Path) -> Path:
    """A model folder with codebooks of 12, 9 and 14 bits."""
    folder = tmp_path / "wide"
    shutil.copytree(live_model, folder)
    for bits in (9, 14):
        (folder / codebook_name(bits)).write_bytes(make_codebook(bits).to_bytes())
    return folder


def test_a_folder_may_have_codebooks_of_several_widths(wide_model: Path, live_model: Path) -> None:
    model = Model(wide_model)
    assert model.further_widths() == [9, 14]
    assert model.codebook_of(None) == model.codebook_of(12) == model.codebook
    for bits in ("9", "12", "14"):
        data = stream(model, bits)
        assert data[4] == int(bits)
        assert restored(Model(wide_model), data) == TEXT  # the stream says which codebook
    assert stream(model, None) == stream(Model(live_model), None)
    for bits in ("10", "16"):
        with pytest.raises(InputError) as caught:
            model.codec(bits, False, "live")
        assert str(caught.value).startswith(
            f"--window-bits: found {bits}, want 12 (the codebook's), 9, 14, 24, 32,"
        )
    for found, folder, wanted in ((24, wide_model, ", 9 or 14"), (24, live_model, ""), (10, live_model, "")):
        with pytest.raises(InputError) as caught:  # live windows are no codebook
            Model(folder).codebook_of(found)
        assert str(caught.value) == f"--window-bits: found {found}, want 12 (the codebook's){wanted}."
    with pytest.raises(MismatchError, match=r"needs a codebook of 14 bits .* has none"):
        restored(Model(live_model), stream(model, "14"))


def test_a_codebook_is_found_by_fingerprint_whatever_its_file_is_called(
    live_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(live_model, folder)
    other = make_codebook(12, unaligned_penalty=2.0, n_windows=3000)
    (folder / "published.eqcb").write_bytes(other.to_bytes())
    (folder / "a.eqcb").write_bytes(b"EQCB")  # too short to name a fingerprint
    sink = io.BytesIO()
    compress([Frame(TEXT, [9])], sink, CodebookCodec(other))
    assert restored(Model(folder), sink.getvalue()) == TEXT


def test_models_in_the_package_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("default", "english"):
        assert model_path(Path(name)).is_dir()
        assert model_name(model_path(Path(name))) == name
    assert model_path(None) == model_path(Path("default"))
    assert model_path(Path("./english").absolute()) == tmp_path / "english"
    (tmp_path / "english").mkdir()
    assert model_path(Path("english")) == Path("english")  # a folder of one's own comes first
    assert model_name(Path("runs/english")) == "runs/english"


@pytest.mark.parametrize("bits", [None, "24", "ac"])
def test_streams_of_any_model_in_the_package_need_no_name(bits: str | None) -> None:
    english = stream(Model(Path("english")), bits)
    assert restored(Model(None), english) == TEXT
    assert list(read_range(io.BytesIO(english), Model(None), "x", 0))
    with pytest.raises(MismatchError, match="; default has one with "):
        restored(Model(Path("default")), english)  # the user named a model
    with pytest.raises(MismatchError, match="; default has one with "):
        Model(None).find_codec(english[4], bytes(8), "x")
