"""Frames and documents."""

import io
import json
import threading
import time
from collections.abc import Iterator

import pytest
from helpers.texts import Trickle
from hypothesis import given
from hypothesis import strategies as st

from eqinfo.errors import InputError
from eqinfo.system.threads import ordered_map
from eqinfo.text import frames
from eqinfo.text.frames import Frame, frames_of_bytes, frames_of_pieces, jsonl_of_frames

SIZE = 10  # of frames in bytes


@pytest.fixture(autouse=True)
def few_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_DOCUMENTS", 3)


@given(st.binary(max_size=45), st.lists(st.integers(1, 12), min_size=1))
def test_frames_do_not_depend_on_read_sizes(data: bytes, sizes: list[int]) -> None:
    turns = iter(sizes * 100)
    found = list(frames_of_bytes(Trickle(data, lambda: next(turns)), SIZE))
    assert found == [Frame(data[i : i + 10]) for i in range(0, len(data), 10)]


def test_a_source_that_would_block_is_an_error_and_not_the_end() -> None:
    class Blocking(io.RawIOBase):
        def read(self, size: int = -1) -> None:
            return None

    with pytest.raises(BlockingIOError):
        list(frames_of_bytes(Blocking()))


def documents_of(found: list[Frame]) -> tuple[list[bytes], bytes]:
    """The closed documents, and the open text after them."""
    closed, last = [], b""
    for text, ends in found:
        for start, end in zip([0, *ends], ends, strict=False):
            closed.append(last + text[start:end])
            last = b""
        last += text[ends[-1] if ends else 0 :]
    return closed, last


@given(st.lists(st.tuples(st.binary(max_size=25), st.booleans()), max_size=20))
def test_pieces_keep_their_bytes_and_their_document_ends(pieces: list[tuple[bytes, bool]]) -> None:
    found = list(frames_of_pieces(pieces, SIZE))
    want: list[bytes] = [b""]
    for piece, closed in pieces:
        want[-1] += piece
        if closed:
            want.append(b"")
    assert documents_of(found) == (want[:-1], want[-1])
    assert all(len(text) <= 10 and len(ends) <= 3 and (text or ends) for text, ends in found)


@given(st.lists(st.tuples(st.binary(max_size=25), st.booleans()), max_size=20), st.integers(1, 7))
def test_frames_do_not_depend_on_how_documents_come_in_pieces(
    pieces: list[tuple[bytes, bool]], size: int
) -> None:
    finer = []
    for piece, closed in pieces:
        finer += [(piece[i : i + size], False) for i in range(0, len(piece), size)] + [(b"", closed)]
    assert list(frames_of_pieces(finer, SIZE)) == list(frames_of_pieces(pieces, SIZE))


@given(st.lists(st.text(st.characters(codec="utf-8", categories=None), max_size=20), max_size=12))
def test_jsonl_lines_hold_the_texts(texts: list[str]) -> None:
    found = frames_of_pieces(((text.encode(), True) for text in texts), SIZE)
    lines = b"".join(jsonl_of_frames(found, "x")).decode().split("\n")
    assert lines.pop() == ""
    assert [json.loads(line) for line in lines] == [{"text": text} for text in texts]


def test_lone_surrogates_are_escaped_in_jsonl() -> None:
    text = 'a\ud83d!\n"\\ \x7f é'
    line = b"".join(
        jsonl_of_frames(frames_of_pieces([(text.encode("utf-8", "surrogatepass"), True)], SIZE), "x")
    )
    assert line == b'{"text": "a\\ud83d!\\n\\"\\\\ \x7f \xc3\xa9"}\n'
    assert json.loads(line) == {"text": text}


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


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_an_ordered_map_keeps_the_order_and_works_on_few_items_at_a_time(threads: int) -> None:
    taken = given_out = 0
    lead = []

    def items() -> Iterator[int]:
        nonlocal taken
        for item in range(60):
            taken += 1
            yield item

    def work(item: int) -> int:
        time.sleep(0.003 if item % 7 == 0 else 0)
        return item * item

    for item, result in enumerate(ordered_map(work, items(), threads)):
        given_out += 1
        lead.append(taken - given_out)
        assert result == item * item
    assert given_out == 60
    assert max(lead) <= 2 * threads


def test_an_ordered_map_that_fails_leaves_no_thread() -> None:
    def work(item: int) -> int:
        if item == 5:
            raise InputError("five")
        return item

    with pytest.raises(InputError, match="five"):
        list(ordered_map(work, range(100), 3))
    assert threading.active_count() == 1
