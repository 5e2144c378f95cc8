"""Listings, counted from indexes and sidecars, agree with what compressing counted."""

import io
import json
from pathlib import Path

import pytest
from helpers.codebooks import make_codebook
from helpers.networks import random_network
from helpers.texts import mixed, prose
from typer.testing import CliRunner

from eqinfo.cli.app import app
from eqinfo.codebook.codebook import Codebook
from eqinfo.errors import FormatError
from eqinfo.formats import eqi, listing, token_file
from eqinfo.formats.codec import ArithmeticCodec, CodebookCodec, Codec, WindowCodec
from eqinfo.formats.eqi import Totals
from eqinfo.text.frames import frames_of_bytes, frames_of_pieces

TEXT = mixed(300)


def stream(codec: Codec, text: bytes, size: int = 1000) -> tuple[bytes, Totals]:
    sink = io.BytesIO()
    totals = eqi.compress(frames_of_bytes(io.BytesIO(text), size), sink, codec)
    return sink.getvalue(), totals


def rows(data: bytes, codec: Codec, path: Path) -> list[listing.Listing]:
    path.write_bytes(data)
    with path.open("rb") as file:
        return list(listing.of_file(file, codec, path))


@pytest.mark.parametrize("text", [b"", prose(500), TEXT])
def test_a_listing_counts_what_compressing_counted(codebook: Codebook, tmp_path: Path, text: bytes) -> None:
    network = random_network()
    codecs: list[Codec] = [
        CodebookCodec(codebook),
        WindowCodec(network, 24),
        ArithmeticCodec(network, "live"),
    ]
    for codec in codecs:
        data, totals = stream(codec, text)
        (row,) = rows(data, codec, tmp_path / "a.eqi")
        assert (row.original_bytes, row.compressed_bytes) == (len(text), len(data))
        assert (row.streams, row.frames) == (1, -(-len(text) // 1000))
        assert row.fingerprint == codec.fingerprint.hex()[:16]
        assert row.model_at_hand
        if b"\xff" not in text and codec.unit_bits != 8:  # prose: no frame is stored
            assert row.windows == totals.windows
        assert row.window_bits == (None if codec.unit_bits == 8 else codec.unit_bits)


def test_joined_streams_have_a_row_for_each_codec(codebook: Codebook, tmp_path: Path) -> None:
    ours, other = CodebookCodec(codebook), CodebookCodec(make_codebook(10))
    a, b = stream(ours, TEXT)[0], stream(other, TEXT)[0]
    found = rows(a + a + b + a, ours, tmp_path / "a.eqi")
    assert [(row.streams, row.window_bits, row.model_at_hand) for row in found] == [
        (2, 12, True),
        (1, 10, False),
        (1, 12, True),
    ]
    assert [row.compressed_bytes for row in found] == [2 * len(a), len(b), len(a)]


def test_every_flip_is_refused_or_is_in_what_is_not_read(tmp_path: Path) -> None:
    codec = CodebookCodec(make_codebook(9))
    data, _ = stream(codec, prose(60), 100)
    (want,), n_refused = rows(data, codec, tmp_path / "a.eqi"), 0
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            (row,) = rows(bytes(flipped), codec, tmp_path / "a.eqi")
        except FormatError:
            n_refused += 1
            continue
        assert row == want  # the codewords themselves are not read
    assert n_refused > 8 * len(data) / 10


def test_token_files_are_listed_from_their_sidecars(codebook: Codebook, tmp_path: Path) -> None:
    for codec in (CodebookCodec(codebook), WindowCodec(random_network(), 32)):
        sink = io.BytesIO()
        frames = list(frames_of_pieces([(TEXT, True)], 1000))
        sidecar = token_file.write(frames, sink, codec)
        windows = eqi.compress(frames, io.BytesIO(), codec).windows
        (tmp_path / "a.bin.json").write_bytes(sidecar.to_json())
        (row,) = rows(sink.getvalue(), codec, tmp_path / "a.bin")
        assert (row.original_bytes, row.windows, row.documents) == (len(TEXT), windows, 1)
        assert row.streams is None
        assert row.window_bits == codec.unit_bits
        assert row.model_at_hand
        with pytest.raises(FormatError, match="than its sidecar says"):
            rows(sink.getvalue()[:-1], codec, tmp_path / "a.bin")


def test_a_table_has_the_columns_that_say_something(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a").write_bytes(TEXT)
    for options, has in (
        ([], "streams  frames  windows  bytes"),
        (["--tokens"], "windows  documents  bytes"),
    ):
        CliRunner().invoke(app, ["compress", "a", "-m", str(model), *options])
        name = "a.bin" if options else "a.eqi"
        head, row = CliRunner().invoke(app, ["-l", "-m", str(model), name]).stdout.splitlines()
        assert has in head
        assert len(head.split()) == len(row.split())


def test_a_name_of_two_lines_takes_one(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a\nb").write_bytes(TEXT)
    CliRunner().invoke(app, ["compress", "a\nb", "-m", str(model)])
    _, row = CliRunner().invoke(app, ["-l", "-m", str(model), "a\nb.eqi"]).stdout.splitlines()
    assert row.startswith("a\\nb.eqi ")


def test_ids_of_another_program_are_called_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("u.bin").write_bytes(bytes(20))
    Path("u.bin.json").write_bytes(b'{"vocab_size": 65536, "original_bytes": 13}')
    done = CliRunner().invoke(app, ["-l", "u.bin"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == (
        "eqinfo: u.bin: ids of another program; their sidecar names no codebook to list.\n"
    )


def test_json_is_an_object_a_line_and_bad_files_are_named(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a").write_bytes(TEXT)
    CliRunner().invoke(app, ["compress", "a", "-m", str(model)])
    done = CliRunner().invoke(app, ["-l", "-m", str(model), "--json", "a.eqi", "a", "-", "none"])
    assert done.exit_code == 1
    assert json.loads(done.stdout)["original_bytes"] == len(TEXT)
    assert done.stderr.splitlines() == [
        "eqinfo: a: not an .eqi stream; it begins with '" + TEXT[:3].decode() + "', want 'EQI'.",
        "eqinfo: stdin: --list reads files, from their ends. Name one.",
        "eqinfo: none: No such file or directory",
    ]
