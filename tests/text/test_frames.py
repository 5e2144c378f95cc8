"""Frames and documents."""

import io

import pytest
from helpers.texts import Trickle
from hypothesis import given
from hypothesis import strategies as st

from eqinfo.text import frames
from eqinfo.text.frames import Frame, frames_of_bytes, frames_of_pieces

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
