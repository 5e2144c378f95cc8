"""The Python face: the ids and streams of the commands, round trips, types and errors."""

import os
import pickle
import subprocess
import sys
from array import array
from pathlib import Path

import numpy as np
import pytest
from helpers.codebooks import make_codebook
from helpers.texts import mixed, prose
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import eqinfo
from eqinfo.cli.app import app
from eqinfo.codebook import tokenizer as tokenizer_module
from eqinfo.codebook.codebook import Codebook
from eqinfo.codebook.tokenizer import Tokenizer
from eqinfo.errors import EqinfoError, FormatError, InputError, MismatchError

EXAMPLES = Path(__file__).parents[1] / "examples"
TOKENIZER = eqinfo.load()


def command(*arguments: object) -> bytes:
    """The stdout of a command."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout_bytes


@pytest.mark.parametrize("size", [0, 1, 4000, (1 << 20) + 17])
def test_ids_are_those_of_the_command_but_for_the_document_end(tmp_path: Path, size: int) -> None:
    text = (mixed(4000, seed=3) * (1 + size // 4000))[:size]
    (tmp_path / "text").write_bytes(text)
    command("compress", "--tokens", tmp_path / "text")
    want = np.fromfile(tmp_path / "text.bin", "<u2")
    assert [*TOKENIZER.encode(text).tolist(), TOKENIZER.end_of_text] == want.tolist()


@given(st.binary(max_size=400))
def test_any_bytes_come_back(text: bytes) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text
    assert eqinfo.decompress(eqinfo.compress(text)) == text


@given(st.text(max_size=200))
def test_str_is_utf8(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)).decode() == text


def test_lone_surrogates_are_kept() -> None:
    text = "a\udc80b"
    assert TOKENIZER.decode(TOKENIZER.encode(text)).decode("utf-8", "surrogatepass") == text


def test_texts_of_more_than_64_mib_are_taken() -> None:
    text = (prose(100_000, seed=5) * 700)[: (1 << 26) + (1 << 20) + 5]
    assert len(text) > 1 << 26
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_every_kind_of_bytes_is_taken(kind: type) -> None:
    text = kind(b"to be or not to be")
    every_other = memoryview(b"tboed")[::2]
    assert TOKENIZER.decode(TOKENIZER.encode(every_other)) == b"tod"
    assert eqinfo.decompress(eqinfo.compress(every_other)) == b"tod"
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text
    assert eqinfo.decompress(kind(eqinfo.compress(text))) == text


@pytest.mark.parametrize(
    ("codebook", "dtype"), [(make_codebook(16, n_windows=900), "u2"), (make_codebook(17), "u4")]
)
def test_ids_have_16_bits_where_they_fit_else_32(codebook: Codebook, dtype: str) -> None:
    tokenizer = Tokenizer(codebook)
    for text in (b"", b"to be"):
        assert tokenizer.encode(text).dtype == np.dtype(dtype)
    assert tokenizer.vocab_size == 1 << codebook.window_bits
    assert tokenizer.end_of_text == 0


@pytest.mark.parametrize("threads", [None, 1, 2, 5])
def test_a_batch_gives_the_ids_of_each_text(threads: int | None) -> None:
    texts = [prose(3000, seed=seed) for seed in range(20)] + ["", "é", b"\0\xff"]
    found = TOKENIZER.encode_batch(iter(texts), threads=threads)
    assert [ids.tolist() for ids in found] == [TOKENIZER.encode(text).tolist() for text in texts]


def test_a_batch_takes_the_cores_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    found = list[int]()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5})
    monkeypatch.setattr(tokenizer_module, "ordered_map", lambda *given: found.append(given[-1]) or [])
    TOKENIZER.encode_batch(["to be"])
    assert found == [2]


def test_a_tokenizer_is_shown_by_its_codebook() -> None:
    assert repr(TOKENIZER) == f"<Tokenizer: 16 bits, fingerprint {TOKENIZER.codebook.fingerprint.hex()[:16]}>"


def test_ids_may_be_a_list_a_tuple_or_any_array_of_integers() -> None:
    ids = TOKENIZER.encode("to be or not to be")
    wide = np.repeat(ids.astype(np.int64), 2)[::2]  # not contiguous
    for given_ids in (ids, ids.tolist(), tuple(ids), wide, ids.astype(">u4")):
        assert TOKENIZER.decode(given_ids) == b"to be or not to be"
    assert TOKENIZER.decode([]) == TOKENIZER.decode([0, 0]) == b""


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1, 2, 3, 70000], "found id 70000 at position 3; want 0 to 65535"),
        ([1, -5], "found id -5 at position 1; want 0 to 65535"),
        (np.array([1 << 63], np.uint64), "found id 9223372036854775808 at position 0"),
        ([1.0, 2.0], "found values of type float64, want integers"),
        ([True], "found values of type bool, want integers"),
        ([1, 1 << 70], f"found id {1 << 70} at position 1; want 0 to 65535"),
        ((1, 1 << 63), f"found id {1 << 63} at position 1; want 0 to 65535"),
        ("to be", "want integers"),
        ([[1, 2], [3, 4]], "found 2 dimensions, want 1"),
        ([[1, 2], [3]], "found lists of several lengths, want one list of integers"),
        (5, "found 0 dimensions, want 1"),
    ],
)
def test_what_is_no_list_of_ids_is_refused(ids: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        TOKENIZER.decode(ids)


def test_ids_of_no_window_are_refused() -> None:
    tokenizer = Tokenizer(make_codebook(13, n_windows=5000))
    with pytest.raises(InputError, match="found id 5000 at position 0; want 0 to 4999"):
        tokenizer.decode([5000])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TOKENIZER.encode(5), "text: found int, want bytes or str.$"),
        (lambda: TOKENIZER.encode(["to", "be"]), "want bytes or str. For several texts call encode_batch"),
        (lambda: TOKENIZER.encode(np.zeros(3, np.uint8)), r"found ndarray, .* Give text.tobytes\(\)"),
        (lambda: eqinfo.load(window_bits=12.0), "window_bits: found 12.0, want a whole number"),
        (lambda: eqinfo.load(window_bits="12"), "window_bits: found '12', want a whole number"),
        (lambda: TOKENIZER.save_tokenizer(__file__), "test_face.py: not a folder. Name another"),
        (lambda: TOKENIZER.save_tokenizer(f"{__file__}/a"), "not a folder. Name another"),
        (lambda: TOKENIZER.encode_batch("to be"), "texts: found str, want several. For one text call encode"),
        (lambda: TOKENIZER.encode_batch(["to be"], threads=0), "threads: found 0, want a whole number of at"),
        (lambda: TOKENIZER.encode_batch(["to be"], threads=2.5), "threads: found 2.5, want a whole number"),
        (lambda: TOKENIZER.encode_batch(["to be"], threads="2"), "threads: found '2', want a whole number"),
        (lambda: TOKENIZER.encode_batch(5), "texts: found int, want several. For one text call encode"),
        (lambda: TOKENIZER.encode(array("B", [5])), r"found array, .* Give text.tobytes\(\)"),
        (lambda: TOKENIZER.encode(np.array(["to", "be"])), "For several texts call encode_batch"),
        (lambda: TOKENIZER.encode(np.array([5, 6])), "For several texts call encode_batch"),
        (lambda: TOKENIZER.decode(5), "found 0 dimensions, want 1. Give a list of ids"),
        (
            lambda: eqinfo.compress("to be"),
            r"data: found str, want bytes. Encode text first: text.encode\(\)",
        ),
        (lambda: eqinfo.decompress([1, 2]), "data: found list, want bytes"),
        (lambda: eqinfo.compress(b"", window_bits=33), "^window_bits: found 33, want 16"),
        (lambda: eqinfo.load(window_bits=13), "^window_bits: found 13, want 16"),
        (lambda: eqinfo.load("/no/such/model"), "/no/such/model: no such codebook"),
    ],
)
def test_errors_name_what_was_found_and_what_is_wanted(call, message: str) -> None:
    with pytest.raises(EqinfoError, match=message):
        call()


@pytest.mark.parametrize("name", [None, "english"])
def test_models_of_the_package_are_loaded_once(name: str | None) -> None:
    assert eqinfo.load(name).codebook is eqinfo.load(name).codebook


@pytest.mark.parametrize("as_path", [str, Path])
def test_a_model_is_a_folder_or_a_file_named_by_a_path_or_a_str(live_model: Path, as_path: type) -> None:
    folder = as_path(live_model)
    assert (
        eqinfo.load(folder).vocab_size
        == eqinfo.load(as_path(live_model / "codebook.eqcb")).vocab_size
        == 4096
    )
    for bits in (None, 12, "12", 24, "ac"):
        data = eqinfo.compress(b"to be or not", window_bits=bits, model=folder)
        assert eqinfo.decompress(data, model=folder) == b"to be or not"
        with pytest.raises(MismatchError):
            eqinfo.decompress(data)


@pytest.mark.parametrize("window_bits", [None, 64, "ac"])
def test_streams_are_those_of_the_command(tmp_path: Path, window_bits: int | str | None) -> None:
    text = (EXAMPLES / "inaugural.txt").read_bytes()[:1500]
    (tmp_path / "text").write_bytes(text)
    options = [] if window_bits is None else ["--window-bits", window_bits]
    assert eqinfo.compress(text, window_bits=window_bits) == command(
        "compress", "-c", *options, tmp_path / "text"
    )


def test_damaged_streams_are_refused_and_joined_ones_decode_to_joined_texts() -> None:
    data = eqinfo.compress(b"to be or not to be")
    assert eqinfo.decompress(data + data) == b"to be or not to be" * 2
    for damaged in (b"", data[:-1], data[:20] + bytes([data[20] ^ 1]) + data[21:], b"no stream"):
        with pytest.raises(FormatError):
            eqinfo.decompress(damaged)


def test_a_tokenizer_can_be_pickled() -> None:
    again = pickle.loads(pickle.dumps(TOKENIZER))
    assert again.encode("to be").tolist() == TOKENIZER.encode("to be").tolist()


def test_the_dataloaders_of_the_example_run() -> None:
    script = EXAMPLES / "dataloader.py"
    done = subprocess.run(
        [sys.executable, script, EXAMPLES / "inaugural.txt"], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("batches of") == 2
