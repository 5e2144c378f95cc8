"""A decoder written from examples/reference/formats.md alone reads what the commands write."""

import ast
import io
import json
import random
import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers import plain_decoder
from helpers.codebooks import make_codebook
from helpers.texts import mixed, prose
from typer.testing import CliRunner

import eqinfo
from eqinfo.cli.app import app
from eqinfo.formats import eqi
from eqinfo.formats.codec import CodebookCodec
from eqinfo.formats.model_folder import model_path
from eqinfo.text.frames import Frame

INAUGURAL = Path(__file__).parents[2] / "examples" / "inaugural.txt"


def compress(*arguments: object) -> None:
    done = CliRunner().invoke(app, ["compress", *map(str, arguments)])
    assert done.exit_code == 0, done.output


def test_the_plain_decoder_imports_nothing_of_eqinfo() -> None:
    names = set()
    for node in ast.walk(ast.parse(Path(plain_decoder.__file__).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    assert not [name for name in names if name.split(".")[0] == "eqinfo"]


def test_it_reads_streams_of_the_packaged_codebook() -> None:
    _, windows, fingerprint = plain_decoder.read_codebook((model_path(None) / "codebook.eqcb").read_bytes())
    texts = [INAUGURAL.read_bytes(), mixed(3000, seed=2), b"", bytes(range(256)) * 3, b"to be " * 200_000]
    data = b"".join(map(eqinfo.compress, texts))
    decode = plain_decoder.with_codebook(windows)
    frames = list(plain_decoder.read_streams(data, fingerprint, decode))
    assert b"".join(text for text, _ in frames) == b"".join(texts)
    assert len(frames) == 5


def test_it_reads_codebooks_of_other_widths_and_document_ends(model: Path, tmp_path: Path) -> None:
    bits, windows, fingerprint = plain_decoder.read_codebook((model / "codebook.eqcb").read_bytes())
    assert bits == 12
    records = ["to be", "", "or not to be"]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps({"text": record}) + "\n" for record in records))
    compress("--jsonl", "-m", model, tmp_path / "r.jsonl")
    data = (tmp_path / "r.jsonl.eqi").read_bytes()
    [(text, ends)] = plain_decoder.read_streams(data, fingerprint, plain_decoder.with_codebook(windows))
    assert (text, ends) == (b"to beor not to be", [5, 5, 17])


@pytest.mark.parametrize("bits", [9, 12, 16, 17, 20])
def test_it_reads_streams_of_every_width_with_stored_frames_and_document_ends(bits: int) -> None:
    codebook, sink = make_codebook(bits), io.BytesIO()
    noise = random.Random(0).randbytes(300)
    frames = [Frame(prose(60), [5, 5]), Frame(noise), Frame(b"", [0, 0]), Frame(prose(20, seed=1))]
    for _ in range(2):
        eqi.compress(frames, sink, CodebookCodec(codebook))
    decode = plain_decoder.with_codebook(codebook.windows)
    found = plain_decoder.read_streams(sink.getvalue(), codebook.fingerprint, decode)
    assert list(found) == [(text, list(ends)) for text, ends in frames] * 2


@pytest.mark.parametrize("bits", [24, 64, 128])
def test_it_reads_live_windows(live_model: Path, bits: int) -> None:
    m1 = plain_decoder.M1((live_model / "m1.eqm1").read_bytes())
    text = INAUGURAL.read_bytes()[:300]
    data = eqinfo.compress(text, window_bits=bits, model=live_model)
    fingerprint = plain_decoder.live_fingerprint(f"live {bits}", m1)
    [(found, ends)] = plain_decoder.read_streams(data, fingerprint, plain_decoder.with_m1(m1))
    assert (found, ends) == (text, [])


def test_it_reads_live_windows_of_the_packaged_m1() -> None:
    m1 = plain_decoder.M1((model_path(None) / "m1.eqm1").read_bytes())
    data = eqinfo.compress(b"With malice toward none", window_bits=64)
    fingerprint = plain_decoder.live_fingerprint("live 64", m1)
    [(text, _)] = plain_decoder.read_streams(data, fingerprint, plain_decoder.with_m1(m1))
    assert text == b"With malice toward none"


def test_it_reads_token_files(tmp_path: Path) -> None:
    _, windows, fingerprint = plain_decoder.read_codebook((model_path(None) / "codebook.eqcb").read_bytes())
    path = tmp_path / "t.bin"
    compress("--tokens", INAUGURAL, "-o", path)
    assert b"".join(windows[k] for k in np.fromfile(path, "<u2")) == INAUGURAL.read_bytes()
    facts = json.loads(Path(f"{path}.json").read_text())
    assert (facts["format"], facts["version"], facts["fingerprint"]) == (
        "eqinfo tokens",
        2,
        fingerprint.hex(),
    )
    assert facts["crc32"] == zlib.crc32(path.read_bytes())
    checked = {k: v for k, v in facts.items() if k not in ("format", "version", "sidecar_crc32")}
    assert facts["sidecar_crc32"] == zlib.crc32(json.dumps(checked, sort_keys=True).encode())


def test_it_reads_token_files_of_live_windows(live_model: Path, tmp_path: Path) -> None:
    m1 = plain_decoder.M1((live_model / "m1.eqm1").read_bytes())
    (tmp_path / "t").write_bytes(b"to be or not to be")
    compress("--tokens", "--window-bits", 24, "-m", live_model, tmp_path / "t")
    facts = json.loads((tmp_path / "t.bin.json").read_text())
    [[length, n_ends, units, text_crc]] = facts["frames"]
    payload = np.fromfile(tmp_path / "t.bin", "<u2").astype(">u2").tobytes()
    assert len(payload) // 2 == -(-units * facts["unit_bits"] // 16)
    windows = plain_decoder.with_m1(m1)(payload, units, facts["unit_bits"])
    assert b"".join(windows) == b"to be or not to be"
    assert (windows.count(b""), length, text_crc) == (n_ends, 18, zlib.crc32(b"to be or not to be"))
