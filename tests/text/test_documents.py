"""Documents in files."""

import codecs
import gzip
import io
import json
import tracemalloc

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from eqinfo.errors import InputError
from eqinfo.text.decompression import open_text
from eqinfo.text.documents import is_jsonl, jsonl_of_frames, read_documents, read_pieces
from eqinfo.text.frames import Frame, frames_of_pieces


def read(path, field="text"):
    with open_text(path) as source:
        return list(read_pieces(source, path.name, field))


def joined(pieces):
    return b"".join(piece for piece, _ in pieces)


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
@pytest.mark.parametrize("data", [b"", b"\xff\x00\r\nabc", b"long " * 500_000])
def test_a_plain_file_is_one_document_of_its_bytes(tmp_path, suffix, data):
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes({"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}[suffix](data))
    pieces = read(path)
    assert joined(pieces) == data
    assert [ends for _, ends in pieces] == [False] * (len(pieces) - 1) + [True]


def test_zstd_frames_one_after_another_are_read_as_one_text(tmp_path):
    path = tmp_path / "a.zst"
    path.write_bytes(b"".join(zstandard.compress(part) for part in (b"one", b"", b"two" * 99999)))
    assert joined(read(path)) == b"one" + b"two" * 99999


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".zst", zstandard.compress)])
def test_a_truncated_or_altered_compressed_file_is_refused(tmp_path, suffix, pack):
    path = tmp_path / f"a.txt{suffix}"
    whole = pack(b"some text, " * 1000)
    for damaged in (whole[:-1], whole[: len(whole) // 2], b"x" + whole[1:], whole + b"more"):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="damaged or truncated compressed file"):
            read(path)


def test_a_zstd_bomb_is_read_a_little_at_a_time(tmp_path):
    size, path = 1 << 17, tmp_path / "a.zst"
    blocks = [(size << 3 | 1 << 1 | last).to_bytes(3, "little") + b"a" for last in (0, 1)]  # a byte repeated
    path.write_bytes(b"\x28\xb5\x2f\xfd\x00\x38" + blocks[0] * 4095 + blocks[1])  # 16 KB for 512 MiB
    tracemalloc.start()
    try:
        with open_text(path) as source:
            assert sum(len(piece) for piece, _ in read_pieces(source, "a.zst", "text")) == 4096 * size
        assert tracemalloc.get_traced_memory()[1] < 1 << 27
    finally:
        tracemalloc.stop()


def test_a_line_that_is_too_long_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("eqinfo.text.documents.MAX_LINE_BYTES", 1 << 20)
    line, path = b'{"text": "' + b"a" * ((1 << 20) - 12) + b'"}', tmp_path / "a.jsonl"
    path.write_bytes(line)
    assert len(joined(read(path))) == (1 << 20) - 12
    path.write_bytes(b'{"text": ""}\n' + line + b" ")
    with pytest.raises(InputError, match=r"a\.jsonl:2: too long a line; found over 1 MiB\. Split"):
        read(path)


def test_a_line_that_is_too_long_can_be_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr("eqinfo.text.documents.MAX_LINE_BYTES", 1 << 10)
    monkeypatch.setattr("eqinfo.text.documents.CHUNK_BYTES", 1 << 9)
    said = []
    monkeypatch.setattr("eqinfo.text.documents.warn", said.append)
    for size in (1 << 10, (1 << 10) + 1, 5000, 1 << 12, 3 * ((1 << 10) + 1) - 1):
        long = b'{"text": "' + b"a" * (size - 11) + b'"}\n'
        path = tmp_path / "a.jsonl"
        for last in (b'{"text": "c"}\n', b""):
            path.write_bytes(b'{"text": "b"}\n' + long + long + last)
            with open_text(path) as source:
                found = list(read_pieces(source, "a.jsonl", "text", skip_bad=True))
            assert [piece for piece, _ in found] == ([b"b", b"c"] if last else [b"b"])
            assert "passed over 2 lines without text; the first is a.jsonl:2: too long a line" in said[-1]
    path.write_bytes(b" " * 1025 + b'{"text": "lost"}\n')
    with pytest.raises(InputError, match="too long a line"):
        read(path)


def test_a_byte_order_mark_before_json_is_none_of_it(tmp_path):
    records = codecs.BOM_UTF8 + b'{"text": "to"}\n{"text": "be"}\n'
    for name in ("a.jsonl", "a.json"):
        (tmp_path / name).write_bytes(records)
        assert joined(read(tmp_path / name)) == b"tobe"


@given(st.lists(st.text(st.characters(codec=None, exclude_categories=[]))))
def test_any_text_that_json_can_hold_comes_through(texts):
    lines = io.BytesIO("".join(json.dumps({"n": 1, "text": text}) + "\n" for text in texts).encode())
    documents = [d.decode("utf-8", "surrogatepass") for d in read_documents(lines, "a.jsonl", "text")]
    assert documents == [json.loads(json.dumps(text)) for text in texts]


def test_a_long_integer_in_another_field_is_no_matter():
    line = b'{"n": %b, "text": "to be"}\n' % (b"1" * 5000)  # Python refuses to make a number of it
    assert list(read_documents(io.BytesIO(line), "a.jsonl", "text")) == [b"to be"]
    assert list(read_pieces(io.BytesIO(line), "a.json", "text")) == [(b"to be", True)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"n": %b, "text": x}' % (b"1" * 5000), r"a\.jsonl:3: not a line of JSON \(Expecting value"),
        (b"{oops", r"a\.jsonl:3: not a line of JSON"),
        (b"\xff", r"a\.jsonl:3: not a line of JSON"),
        (b"[" * 100_000, r"a\.jsonl:3: not a line of JSON"),
        (b'"text"', r"a\.jsonl:3: no text in this record; found str, want a string in 'text'"),
        (
            b'{"body": "x"}',
            r"found fields 'body', want a string in 'text'\. Name the field with --text-f",
        ),
        (b'{"text": 3}', r"want a string in 'text'"),
    ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path, line, reason):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "fine"}\n\n' + line + b"\n")
    with pytest.raises(InputError, match=reason):
        read(path)


@pytest.mark.parametrize(
    ("name", "expected"), [("a.jsonl", 1), ("a.JSONL.ZST", 1), ("a.ndjson.gz", 1), ("a.json", 0), ("-", 0)]
)
def test_names_tell_jsonl(name, expected):
    assert is_jsonl(name) == bool(expected)


# ---- writing JSONL


@given(st.lists(st.text(st.characters(codec="utf-8", categories=None), max_size=20), max_size=12))
def test_jsonl_lines_hold_the_texts(texts: list[str]) -> None:
    found = frames_of_pieces(((text.encode(), True) for text in texts), 10)
    lines = b"".join(jsonl_of_frames(found, "x")).decode().split("\n")
    assert lines.pop() == ""
    assert [json.loads(line) for line in lines] == [{"text": text} for text in texts]


def test_lone_surrogates_are_escaped_in_jsonl() -> None:
    text = 'a\ud83d!\n"\\ \x7f é'
    line = b"".join(
        jsonl_of_frames(frames_of_pieces([(text.encode("utf-8", "surrogatepass"), True)], 10), "x")
    )
    assert line == b'{"text": "a\\ud83d!\\n\\"\\\\ \x7f \xc3\xa9"}\n'
    assert json.loads(line) == {"text": text}


def test_surrogates_that_json_would_join_are_refused() -> None:
    pair = "a\ud83d\ude00".encode("utf-8", "surrogatepass")
    for size in (1, 2, 3, 4, 100):
        with pytest.raises(InputError, match="a document is not UTF-8"):
            list(jsonl_of_frames(frames_of_pieces([(pair, True)], size), "x"))
    apart = list(frames_of_pieces([(pair[:4], True), (pair[4:], True)], 100))
    assert b"".join(jsonl_of_frames(apart, "x")) == b'{"text": "a\\ud83d"}\n{"text": "\\ude00"}\n'


def test_text_after_the_last_document_end_is_a_document_in_jsonl() -> None:
    assert b"".join(jsonl_of_frames([Frame(b"ab", [1])], "x")) == b'{"text": "a"}\n{"text": "b"}\n'
    assert b"".join(jsonl_of_frames([Frame("é".encode()[:1]), Frame("é".encode()[1:])], "x")) == (
        '{"text": "é"}\n'.encode()
    )
    assert b"".join(jsonl_of_frames([], "x")) == b""


@pytest.mark.parametrize(
    "found", [[Frame(b"\xff", [1])], [Frame(b"\xff")], [Frame(b"\xc3", [1])], [Frame(b"\xc3")]]
)
def test_a_document_that_is_not_utf8_is_no_json(found: list[Frame]) -> None:
    with pytest.raises(InputError, match=r"^x: a document is not UTF-8, as JSON must be\. Omit --jsonl\.$"):
        list(jsonl_of_frames(found, "x"))
