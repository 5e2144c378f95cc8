"""What eval measures: words, cuts and entropy by hand, sizes that are decoded back, tables and the figure."""

import gzip
import io
import json
import lzma
import math
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.codebooks import make_codebook
from helpers.networks import random_network
from helpers.texts import mixed, prose
from hypothesis import given
from hypothesis import strategies as st

import eqinfo
from eqinfo.codebook import parse
from eqinfo.codebook.codebook import Codebook
from eqinfo.errors import EqinfoError, FormatError, InputError, MismatchError
from eqinfo.eval import curves, held_out, measure, tables
from eqinfo.eval.held_out import HeldOut, read_held_out, tokens_for
from eqinfo.eval.results import Compressed, LiveRow, M1Row, M2Row, Results, TextFacts
from eqinfo.formats import eqi, token_file
from eqinfo.formats.codec import CodebookCodec, Codec, WindowCodec
from eqinfo.m1 import measure as m1_measure
from eqinfo.m1.batches import WINDOW_BYTES
from eqinfo.m1.corpus import Text
from eqinfo.m1.measure import WindowUse, bits_by_position, window_use
from eqinfo.m1.quantise import static
from eqinfo.m2 import batches as m2_batches
from eqinfo.m2 import metrics
from eqinfo.m2.measure import total_nats
from eqinfo.m2.model import GPT, GPTConfig
from eqinfo.m2.trained import M2
from eqinfo.text.frames import Frame, frames_of_bytes, frames_of_pieces


def documents_of(texts: list[bytes]) -> list[Frame]:
    return list(frames_of_pieces((text, True) for text in texts))


# ---- the text


@given(st.lists(st.binary(max_size=6) | st.text("ab \n\t\r\v\f", max_size=9).map(str.encode), max_size=9),
       st.integers(1, 7))  # fmt: skip
def test_words_are_what_white_space_and_document_ends_leave(texts: list[bytes], size: int) -> None:
    text, ends = b"".join(texts), np.cumsum([len(part) for part in texts]).tolist()
    frames, at = [], 0
    while at < len(text) or not frames:  # frames of a few bytes: words and documents span them
        inside = [end - at for end in ends if at < end <= at + size or at == end == 0]
        frames.append(Frame(text[at : at + size], inside))
        at += size
    assert HeldOut("a", frames).words == sum(len(part.split()) for part in texts)


def test_a_text_is_read_as_its_documents() -> None:
    source = io.BytesIO(b'{"body": "to be"}\n{"body": ""}\n{"body": "or not"}\n')
    read = read_held_out(source, Path("a.jsonl"), "body", [])
    assert (read.data, read.document_ends, read.words) == (b"to beor not", [5, 5, 11], 4)
    assert read.is_whole
    assert read.stream_frames == read.frames
    plain = read_held_out(io.BytesIO(b"to be"), Path("a.txt"), "text", [])
    assert (plain.document_ends, plain.stream_frames) == ([5], [Frame(b"to be")])


def test_of_a_long_text_the_beginning_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "MAX_TEXT_BYTES", 2 << 20)
    text = np.random.default_rng(0).bytes((2 << 20) + 1)
    whole = read_held_out(io.BytesIO(text[:-1]), Path("a"), "text", [])
    assert whole.is_whole
    assert whole.data == text[:-1]
    begun = read_held_out(io.BytesIO(text), Path("a"), "text", [])
    assert not begun.is_whole
    assert begun.data == text[:-1]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", b"", "a.txt: no text in it. Give another --text."),
        ("a.jsonl", b'{"text": ""}\n', "a.jsonl: no text in it. Give another --text."),
        ("a.jsonl", b"{}\n", "a.jsonl:1: no text in this record"),
        ("-", b"EQI\x01\x0c12345678", "-: an .eqi stream, not text. Try: eqinfo decompress -c | eqinfo"),
    ],
)
def test_what_is_no_text_is_refused(name: str, data: bytes, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_held_out(io.BytesIO(data), Path(name), "text", [])
    assert str(caught.value).startswith(message)


def test_a_figure_is_drawn_where_a_notebook_has_named_its_backend(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "from eqinfo.eval import curves, results\n"
        "curves.check(Path('f.svg'), [{'format': 'eqinfo m2'}])\n"
        "print(curves.figure(results.Results(None, [], [], []), '.svg')[:5])"
    )
    notebook = {"MPLBACKEND": "module://no_such_package.backend", "MPLCONFIGDIR": "/dev/null/no folder"}
    environment = {**os.environ, "PYTHONPATH": str(Path(eqinfo.__file__).parents[1]), **notebook}
    command = [sys.executable, "-W", "ignore:No artists", "-c", code]  # it draws no run
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("b'<?xml'\n", "")


def write_tokens(path: Path, frames: list[Frame], codec: Codec) -> None:
    with path.open("wb") as sink:
        sidecar = token_file.write(frames, sink, codec)
    token_file.sidecar_path(path).write_bytes(sidecar.to_json())


def read_tokens(path: Path, *folders: Path) -> HeldOut:
    with path.open("rb") as source:
        return read_held_out(source, path, "text", folders)


def untrained(codec: Codec | None, vocab_size: int, **changes: object) -> M2:
    """A model that knows nothing: uniform over its tokens."""
    fingerprint = codec.fingerprint.hex() if codec else ""
    config = {"settings": {"token_bits": None} | changes, "fingerprint": fingerprint}
    return M2(GPT(GPTConfig(vocab_size, 16, 1, 1, 16)), codec, config)


def test_a_token_file_is_its_text_and_its_very_ids(model: Path, codebook: Codebook, tmp_path: Path) -> None:
    path, texts = tmp_path / "ids.bin", [prose(200), b"", mixed(50)]
    greedy = Codebook(codebook.windows, 12, "greedy")  # other cuts, the same fingerprint
    write_tokens(path, documents_of(texts), CodebookCodec(greedy))
    read = read_tokens(path, tmp_path, model)
    assert read.data == b"".join(texts)
    assert read.document_ends == np.cumsum([len(text) for text in texts]).tolist()
    ids = tokens_for(untrained(CodebookCodec(codebook), 4096), Path("run"), read)
    assert ids.n_tokens == path.stat().st_size // 2
    assert np.array_equal(ids.parts[0][:], np.fromfile(path, "<u2"))
    other = make_codebook(10)
    cut = tokens_for(untrained(CodebookCodec(other), 1024), Path("run"), read)
    assert np.array_equal(cut.parts[0], np.concatenate([parse.encode(other, *f) for f in read.frames]))
    assert (cut.vocab_size, cut.sidecar.original_bytes) == (1024, read.original_bytes)
    halves = tokens_for(untrained(CodebookCodec(other), 32, token_bits=5), Path("run"), read)
    assert (halves.n_tokens, halves.vocab_size) == (2 * cut.n_tokens, 32)


def test_of_a_long_token_file_the_beginning_is_kept(
    model: Path, codebook: Codebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, text = tmp_path / "ids.bin", prose(3000)
    write_tokens(path, documents_of([text]), CodebookCodec(codebook))
    monkeypatch.setattr(token_file, "READ_TOKENS", 100)
    monkeypatch.setattr(held_out, "MAX_TEXT_BYTES", len(text) // 2)
    read = read_tokens(path, model)
    assert not read.is_whole
    assert len(text) // 3 < read.original_bytes <= len(text) // 2
    assert text.startswith(read.data)
    begun = tokens_for(untrained(CodebookCodec(codebook), 4096), Path("run"), read)
    assert parse.decode(codebook, begun.parts[0]) == read.data
    assert begun.sidecar.original_bytes == read.original_bytes
    monkeypatch.setattr(held_out, "MAX_TEXT_BYTES", len(text))
    whole = read_tokens(path, model)
    assert (whole.is_whole, whole.data, whole.document_ends) == (True, text, [len(text)])


def test_of_a_long_live_token_file_the_first_frames_are_kept(
    live_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, codec = tmp_path / "ids.bin", WindowCodec(random_network(), 24)
    texts = [prose(40, seed) for seed in range(4)]
    write_tokens(path, [Frame(text, [7, len(text)]) for text in texts], codec)
    whole = read_tokens(path, tmp_path, live_model)
    assert (whole.is_whole, whole.data, len(whole.document_ends)) == (True, b"".join(texts), 8)
    monkeypatch.setattr(held_out, "MAX_TEXT_BYTES", len(texts[0]) + len(texts[1]))
    begun = read_tokens(path, tmp_path, live_model)
    assert (begun.is_whole, begun.data, len(begun.document_ends)) == (False, b"".join(texts[:2]), 4)
    ids = tokens_for(untrained(codec, 256, token_bits=8), Path("run"), begun)
    payloads = [codec.encode(frame)[1] for frame in (Frame(text, [7, len(text)]) for text in texts[:2])]
    assert ids.n_tokens == sum(len(payload) + len(payload) % 2 for payload in payloads)
    assert (ids.vocab_size, ids.sidecar.original_bytes) == (256, begun.original_bytes)
    cut = tokens_for(untrained(WindowCodec(random_network(), 32), 65536), Path("run"), begun)
    assert (cut.sidecar.unit_bits, cut.sidecar.window_bits, cut.vocab_size) == (32, 16, 65536)


def test_damage_in_a_folder_is_not_taken_for_another_model(
    live_model: Path, codebook: Codebook, tmp_path: Path
) -> None:
    path = tmp_path / "ids.bin"
    for codec, name in (
        (CodebookCodec(codebook), "codebook.eqcb"),
        (WindowCodec(random_network(), 24), "m1.eqm1"),
    ):
        write_tokens(path, documents_of([prose(9)]), codec)
        (tmp_path / name).write_bytes((live_model / name).read_bytes()[:-1])
        with pytest.raises(FormatError, match=name):
            read_tokens(path, tmp_path)


def test_a_token_file_needs_its_codebook(model: Path, tmp_path: Path) -> None:
    path, codec = tmp_path / "ids.bin", CodebookCodec(make_codebook(10))
    write_tokens(path, documents_of([prose(9)]), codec)
    with pytest.raises(MismatchError, match="made with a model that is none of the folders; found fingerp"):
        read_tokens(path, model, tmp_path)
    write_tokens(path, documents_of([b""]), codec)
    with pytest.raises(InputError, match="no text in it"):
        read_tokens(path, model)
    path.write_bytes(bytes(6))
    token_file.sidecar_path(path).write_text('{"vocab_size": 300, "original_bytes": 0}')
    with pytest.raises(
        InputError, match=r"its sidecar gives 0 original_bytes\. Write there how many they are"
    ):
        read_tokens(path, model)


def test_json_beside_a_text_does_not_make_it_a_token_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"to be")
    (tmp_path / "a.json").write_bytes(b'{"source": "x"}')
    assert read_tokens(tmp_path / "a").data == b"to be"


def test_ids_from_elsewhere_are_measured_without_their_text(tmp_path: Path, codebook: Codebook) -> None:
    path = tmp_path / "ids.bin"
    np.arange(100, dtype="<u2").tofile(path)
    Path(f"{path}.json").write_text('{"vocab_size": 300, "original_bytes": 450}')
    read = read_tokens(path)
    assert (read.original_bytes, read.words) == (450, None)
    ids = tokens_for(untrained(None, 300), Path("run"), read)
    assert (ids.n_tokens, ids.vocab_size) == (100, 300)
    text = HeldOut("a.txt", documents_of([prose(9)]))
    with pytest.raises(InputError, match=r"a.txt: text, but run was trained on ids of another program"):
        tokens_for(untrained(None, 300), Path("run"), text)
    with pytest.raises(InputError, match="not the vocabulary of run; found fingerprint"):
        tokens_for(untrained(CodebookCodec(codebook), 4096), Path("run"), read)


# ---- what is measured


@pytest.mark.parametrize("method", ["optimal", "greedy"])
def test_cuts_and_windows_are_counted_as_by_hand(method: str) -> None:
    codebook = make_codebook(11, method)
    texts = [prose(100), b"", b"a", mixed(30)]
    use = window_use(codebook, documents_of(texts))
    windows = [window for text in texts for window in parse.cut(codebook, text)]
    cuts = [
        parse.is_aligned(text[at - 1], text[at])
        for text in texts
        for at in np.cumsum([len(window) for window in parse.cut(codebook, text)]).tolist()[:-1]
    ]
    assert (use.n_windows, use.n_used) == (len(windows), len(set(windows)))
    assert (use.n_cuts, use.n_aligned) == (len(cuts), sum(cuts))
    shares = [n / len(windows) for n in Counter(windows).values()]
    assert math.isclose(use.entropy_bits, -sum(p * math.log2(p) for p in shares))


def test_entropy_is_all_bits_if_windows_are_used_equally_and_none_if_one_is() -> None:
    assert WindowUse(np.full(512, 7), 0, 0).entropy_bits == 9
    assert WindowUse(np.eye(512, dtype=np.int64)[3] * 5, 0, 0).entropy_bits == 0


def test_ends_of_frames_are_not_counted_as_cuts(codebook: Codebook) -> None:
    frames = [Frame(b"th"), Frame(b"e ", [2])]
    assert window_use(codebook, frames).n_cuts == 0


def test_bits_by_position_take_a_text_that_is_cut_off_or_shorter_than_a_block(
    codebook: Codebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(m1_measure, "MEASURE_BYTES", 1000)
    m1, data = static(np.ones(256, np.int64)), np.frombuffer(prose(400), np.uint8)  # one document
    bits = bits_by_position(m1, codebook, Text(data, np.array([data.size])))
    assert np.allclose(bits, 8, atol=0.01)
    assert len(bits) == WINDOW_BYTES
    assert len(bits_by_position(m1, codebook, Text(data[:5], np.array([5])))) == 5


def test_sizes_are_those_of_the_commands_and_modules(codebook: Codebook, tmp_path: Path) -> None:
    data = mixed(300)
    sink = io.BytesIO()
    eqi.compress(frames_of_bytes(io.BytesIO(data)), sink, CodebookCodec(codebook))
    plain = HeldOut("a.txt", documents_of([data]))
    totals = measure.stream_totals(CodebookCodec(codebook), plain.stream_frames, "a")
    assert totals.compressed_bytes == len(sink.getvalue())
    assert measure.compressed_size(data, "gzip -9", "a") == len(gzip.compress(data, 9, mtime=0))
    assert measure.compressed_size(data, "xz -9", "a") == len(lzma.compress(data, preset=9))
    assert measure.compressed_size(data, "zstd -19", "a") < len(gzip.compress(data, 9))


@pytest.mark.parametrize("name", list(measure.COMPRESSORS))
def test_no_size_is_given_of_what_does_not_come_back(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compress, decompress = measure.COMPRESSORS[name]
    monkeypatch.setitem(measure.COMPRESSORS, name, (compress, lambda packed: decompress(packed)[:-1]))
    with pytest.raises(FormatError, match=f"a: did not come back from {name}; no figure is given"):
        measure.compressed_size(b"to be", name, "a")


def test_no_size_is_given_of_a_stream_that_does_not_come_back(
    codebook: Codebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = documents_of([prose(50)])
    monkeypatch.setattr(eqi, "compress", lambda _, sink, codec: None)
    with pytest.raises(EqinfoError):
        measure.stream_totals(CodebookCodec(codebook), frames, "a")
    monkeypatch.undo()
    monkeypatch.setattr(eqi, "read_frames", lambda *_: iter([Frame(frames[0].text)]))  # an end is lost
    with pytest.raises(FormatError, match=r"a: did not come back from \.eqi"):
        measure.stream_totals(CodebookCodec(codebook), frames, "a")


def test_perplexity_is_null_where_there_is_none() -> None:
    assert measure._perplexity(math.log(50) * 7, 7) == pytest.approx(50)
    assert measure._perplexity(1e6, 3) is None
    assert measure._perplexity(math.nan, 3) is None
    assert measure._perplexity(5.0, 0) is None
    assert measure._perplexity(5.0, None) is None


# ---- for people


def results() -> Results:
    text = TextFacts("held.txt", 1000, 1, 200, True, [Compressed("xz -9", 300, 3.3333)])
    ours = M1Row("mine", "fitted", "00", 12, bytes_per_window=4.0, windows=250, compressed_bytes=400,
                 compression_ratio=2.5, bits_per_byte_by_position=[5.0, None])  # fmt: skip
    paper = M1Row("mine", "published", "01", 12, bytes_per_window=3.0, windows=333, compressed_bytes=500,
                  compression_ratio=2.0, bits_per_byte_by_position=[5.5])  # fmt: skip
    shared = {
        "text": "held.txt", "device": "cpu", "vocab_size": 4096, "non_embedding_params": 10**6,
        "measured": {}, "is_complete": True,
    }  # fmt: skip
    run = M2Row("a$b$", **shared, bits_per_byte=2.0, flops_per_byte=5e5, bytes_per_step=4.0)
    worse = M2Row("_c", **shared, bits_per_byte=2.5, flops_per_byte=2e6, bytes_per_step=1.0)
    broken = M2Row("nan", **shared, bytes_per_step=4.0)
    live = [LiveRow("mine", 64, 1000, 8.0, 250, 4.0), LiveRow("mine", None, 800, None, 160, 5.0)]
    return Results(text, [ours, paper], live, [run, worse, broken])


def test_tables_hold_every_figure_and_mark_the_best_of_a_column() -> None:
    windows, positions, found = tables.tables(results())
    assert windows.title == "mine on held.txt: 1,000 bytes, 200 words"
    assert found.title == "held.txt: 1,000 bytes, 200 words"
    names = ["12 bits", "12 bits, published rule", "64 bits", "ac, first 0 KiB", "xz -9"]
    assert [row[0] for row in windows.rows] == names
    assert windows.rows[2] == ["64 bits", "8.000", "250", "4.000", "-", "-", "-"]
    assert windows.rows[4] == ["xz -9", "-", "300", "3.333", "-", "-", "-"]
    assert windows.best == {(2, 1), (3, 2), (3, 3)}
    assert positions.rows == [["byte 1", "5.000", "5.500"], ["byte 2", "-", "-"]]
    assert found.best == {(0, 1), (0, 4), (0, 6), (2, 6)}  # of equal ones both; nothing if all are
    assert found.rows[0][:5] == ["a$b$", "2.0000", "-", "-", "0.500"]


def test_json_has_the_documented_keys_and_no_nan() -> None:
    found = json.loads(results().to_json(), parse_constant=lambda word: pytest.fail(word))
    assert list(found) == ["text", "m1", "live", "m2"]
    assert list(found["text"]) == list(TextFacts.__dataclass_fields__)
    for row, kind in ((found["m1"][0], M1Row), (found["live"][0], LiveRow), (found["m2"][0], M2Row)):
        assert list(row) == list(kind.__dataclass_fields__)
        assert all(re.search(rf"^ +{name}: ", kind.__doc__ or "", re.MULTILINE) for name in row)
    assert found["m2"][2]["bits_per_byte"] is None


def test_the_figure_shows_every_run_and_is_the_same_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a$b$", "_c", "nan"):
        Path(name).mkdir()
        log = metrics.Metrics(Path(name, "metrics.jsonl"))
        for step in range(1, 1300):
            bits = 2.0 + step * 7919 % 100 / 100  # up and down, so that no point is left out
            log.add(step=step, tokens=8 * step, loss=7.0, bits_per_byte=bits, time_s=0.5 * step)
        log.add(step=1299, valid_loss=3.0, valid_bits_per_byte=1.5)
    drawn = curves.figure(results(), ".svg")
    assert drawn == curves.figure(results(), ".svg")
    assert drawn.count(b">a$b$</text>") == drawn.count(b">_c</text>") == drawn.count(b">nan</text>") == 1
    assert b">bits/byte</text>" in drawn
    # of 1,299 steps the means of neighbours, 500 points at most, in both halves
    drawn_lines = re.findall(rb'<path d="([^"]*)"', drawn)
    assert [n for n in (len(re.findall(b"[ML] ", line)) for line in drawn_lines) if n > 100]
    assert max(len(re.findall(b"[ML] ", line)) for line in drawn_lines) <= 500
    assert curves.figure(results(), ".png").startswith(b"\x89PNG")


def test_uniform_models_cost_the_bits_of_their_tokens(codebook: Codebook) -> None:
    read = HeldOut("a", documents_of([prose(100)]))
    loaded = untrained(CodebookCodec(codebook), 4096)
    with torch.inference_mode():
        nats = total_nats(loaded.model, tokens_for(loaded, Path("run"), read))
    windows = parse.encode(codebook, *read.frames[0]).size
    assert math.isclose(
        nats / math.log(2) / read.original_bytes, 12 * windows / len(prose(100)), rel_tol=1e-3
    )
    assert m2_batches.Tokens is type(tokens_for(loaded, Path("run"), read))
