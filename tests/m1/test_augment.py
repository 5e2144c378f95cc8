"""The shapes of training documents: what each changes, how often, and what it leaves alone."""

import zlib

from helpers.texts import prose
from hypothesis import given
from hypothesis import strategies as st

from eqinfo.m1 import augment
from eqinfo.m1.augment import augmented


def in_place(text: bytes, places: range) -> bytes:
    """The text with a number at its end that brings its checksum to one of these places."""
    numbered = (text + b"%d\n" % n for n in range(100_000))
    return next(t for t in numbered if zlib.crc32(t) * 1000 >> 32 in places)


def test_lines_of_some_documents_end_in_cr_lf() -> None:
    text = in_place(b"def f():\n    return 1\n", range(20))
    assert augmented(text) == text.replace(b"\n", b"\r\n")
    dos = in_place(b"one\r\ntwo\r\n", range(20))
    assert augmented(dos) == dos


def test_long_lines_of_some_are_wrapped() -> None:
    text = in_place(prose(40).replace(b"\n", b" ") + b"\n", range(30, 40))
    found = augmented(text)
    assert found.split() == text.split()
    assert max(map(len, found.split(b"\n"))) in augment.WIDTHS
    verse = in_place(b"a short line\n" * 50, range(30, 40))
    assert augmented(verse) == verse


def test_some_prose_is_in_capitals() -> None:
    text = in_place("acafeteria and café, of the old town ".encode() * 3, augment.CAPITALS)
    assert augmented(text) == text.decode().upper().encode()
    numbers = in_place(b"1 2 3 4 5 6 7 8 9 a b c ", augment.CAPITALS)
    assert augmented(numbers) == numbers


def test_some_code_is_indented_by_tabs() -> None:
    text = in_place(b"def f():\n    if x:\n        return 1\n    return 2\n", augment.TABS)
    assert augmented(text) == text.replace(b"    ", b"\t")
    prose_text = in_place(b"no\nindents\nhere\n", augment.TABS)
    assert augmented(prose_text) == prose_text


def test_most_documents_stay_and_some_per_cent_do_not() -> None:
    documents = [b"line %d of a long text\n" % n * 4 for n in range(4000)]
    changed = sum(augmented(document) != document for document in documents)
    assert 0.03 < changed / len(documents) < 0.05  # CR LF and capitals: 4 %


@given(st.binary(max_size=50), st.sampled_from([augment.CRLF, augment.WRAPPED, augment.TABS]))
def test_any_bytes_may_take_a_shape_and_only_white_space_changes(data: bytes, places: range) -> None:
    text = in_place(data, places)
    assert augmented(text).translate(None, b" \t\r\n") == text.translate(None, b" \t\r\n")


@given(st.binary(max_size=50))
def test_capitals_leave_bytes_that_are_no_text_alone(data: bytes) -> None:
    text = in_place(b"chapter and verse " * 20 + data, augment.CAPITALS)
    shown = text.decode("utf-8", "surrogateescape").upper()
    assert augmented(text) == shown.encode("utf-8", "surrogateescape")
