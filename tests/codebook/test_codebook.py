"""The codebook against the coder it stands for, its invariants, and its file."""

import struct
import tracemalloc
import zlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zstandard
from helpers import definition
from helpers.codebooks import golden_codebook, make_codebook
from helpers.plain_decoder import read_codebook
from hypothesis import given
from hypothesis import strategies as st

from eqinfo.codebook.codebook import _HEADER, MAX_SUFFIX_BYTES, MAX_WINDOW_BITS, MAX_WINDOW_BYTES, Codebook
from eqinfo.codebook.kernels.trie import MAX_SLOTS
from eqinfo.errors import EqinfoError, FormatError, InputError

BYTES = {bytes([b]) for b in range(256)}


@pytest.mark.parametrize(("window_bits", "n_windows"), [(9, 512), (10, 1024), (11, 1500)])
def test_the_definition_agrees_on_every_codeword(window_bits: int, n_windows: int) -> None:
    codebook = make_codebook(window_bits, n_windows=n_windows)
    assert len(codebook.windows) == n_windows
    for codeword, window in enumerate(codebook.windows):
        assert definition.encode_window(codebook, window) == codeword
        assert definition.decode_window(codebook, codeword) == window


def test_frequencies_add_up_to_the_width_at_every_node() -> None:
    codebook = make_codebook(12)
    widths = Counter(window[:n] for window in codebook.windows for n in range(len(window) + 1))
    assert widths[b""] == 1 << 12
    for prefix, width in widths.items():
        assert sum(definition.frequencies(codebook, prefix)) == width


def test_a_codebook_worked_by_hand() -> None:
    codebook = Codebook(sorted(BYTES | {b"", b"an", b"and"}), 9)
    assert codebook.windows[:3] == [b"", b"\0", b"\1"]
    assert [codebook.codewords[w] for w in (b"a", b"an", b"and", b"b")] == [98, 99, 100, 101]
    assert (codebook.vocab_size, codebook.max_window_bytes) == (512, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window_bits": 8}, "codebook: window bits out of range; found 8, want 9 to 20."),
        ({"window_bits": 21}, "codebook: window bits out of range; found 21, want 9 to 20."),
        (
            {"unaligned_penalty": -1.0},
            "codebook: unaligned penalty out of range; found -1.0, want 0 to 1000.",
        ),
        (
            {"unaligned_penalty": float("nan")},
            "codebook: unaligned penalty out of range; found nan, want 0 to",
        ),
        ({"windows": sorted(BYTES)}, "codebook: the empty window is missing."),
        ({"windows": []}, "codebook: the empty window is missing."),
        ({"windows": sorted(BYTES | {b""})[:-1]}, "codebook: not every single byte is a window."),
        ({"windows": [*sorted(BYTES | {b""}), b"a"]}, "codebook: windows are not in order."),
        ({"windows": sorted([*BYTES, b"", b"aa", b"aa"])}, "codebook: windows are not in order."),
        ({"windows": sorted(BYTES | {b"", b"a" * 256})}, "codebook: a window is longer than 255 bytes."),
        (
            {"windows": [b""] + [b"%03d" % i for i in range(512)]},
            "codebook: too many windows; found 513, want",
        ),
    ],
)
def test_what_is_no_codebook_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        replace(Codebook(sorted(BYTES | {b""}), 9), **change)
    assert str(caught.value).startswith(message)


window_sets = st.sets(st.binary(min_size=2, max_size=40), max_size=200)


@given(window_sets, st.integers(9, 20), st.sampled_from(["optimal", "greedy"]), st.integers(0, 3000))
def test_a_file_holds_the_whole_codebook(windows: set[bytes], bits: int, method: str, units: int) -> None:
    codebook = Codebook(sorted(windows | BYTES | {b""}), bits, method, units / 1024)  # type: ignore[arg-type]
    again = Codebook.from_bytes(codebook.to_bytes())
    assert again == codebook
    assert again.fingerprint == codebook.fingerprint


def test_a_file_holds_the_longest_windows_there_can_be() -> None:
    long = [bytes([x]) * MAX_WINDOW_BYTES for x in range(255)]
    codebook = Codebook(sorted(BYTES | {b"", *long}), 9)
    assert Codebook.from_bytes(codebook.to_bytes()) == codebook


def test_the_fingerprint_is_of_what_codewords_mean_and_of_nothing_else() -> None:
    codebook = make_codebook(10)
    assert replace(codebook, method="greedy", unaligned_penalty=2.0).fingerprint == codebook.fingerprint
    assert replace(codebook, window_bits=11).fingerprint != codebook.fingerprint
    others = [w for w in codebook.windows if w != max(codebook.windows, key=len)]
    assert replace(codebook, windows=others).fingerprint != codebook.fingerprint


def test_fingerprints_stay_as_they_are() -> None:
    assert golden_codebook().fingerprint.hex() == (
        "3a6bcecc8668f65ab16af06df7cb51e2d30093bafffc91c08c468644d586604d"
    )


@pytest.fixture(scope="module")
def small_file() -> bytes:
    return Codebook(sorted(BYTES | {b"", b"ab", b"abc"}), 9, "greedy", 0.5).to_bytes()


def test_every_flipped_bit_of_a_file_is_refused(small_file: bytes) -> None:
    for i in range(8 * len(small_file)):
        data = bytearray(small_file)
        data[i // 8] ^= 1 << i % 8
        with pytest.raises(FormatError):
            Codebook.from_bytes(bytes(data))


def test_every_truncation_and_extension_of_a_file_is_refused(small_file: bytes) -> None:
    for size in range(len(small_file)):
        with pytest.raises(FormatError):
            Codebook.from_bytes(small_file[:size])
    for more in (b"\0", b"\xff", small_file):
        with pytest.raises(FormatError):
            Codebook.from_bytes(small_file + more)


def sealed(fields: list[object], body: bytes) -> bytes:
    """A file with a checksum that is right, whatever else is wrong."""
    crc = zlib.crc32(body, zlib.crc32(_HEADER.pack(*fields, 0)))
    return _HEADER.pack(*fields, crc) + body


@given(st.integers(0, 8), st.integers(0, 2**32 - 1), st.binary(max_size=8))
def test_a_hostile_file_with_a_right_checksum_gives_an_error_at_once(
    small_file: bytes, field: int, value: int, noise: bytes
) -> None:
    *fields, _ = _HEADER.unpack_from(small_file)
    body = small_file[_HEADER.size :]
    if field < 7:
        size = struct.calcsize("<" + "4sBBBIII"[max(0, field + 1 if field else 0)]) if field else 4
        fields[field] = noise.ljust(4)[:4] if field == 0 else value % 256**size
    else:
        body = noise + body[len(noise) :] if field == 7 else body[: len(body) // 2] + noise
    data = sealed(fields, body)
    if data != small_file:
        message = ""
        try:
            Codebook.from_bytes(data)
        except EqinfoError as error:
            message = str(error)
        assert "\n" not in message
        assert message or field in (3, 4)  # only another way to cut can pass


@given(st.binary(max_size=200))
def test_hostile_bytes_are_no_codebook(data: bytes) -> None:
    for start in (b"", b"EQCB", b"EQCB\x01\x10"):
        with pytest.raises(FormatError):
            Codebook.from_bytes(start + data)


def test_rarities_are_kept_in_the_file_and_change_no_codeword(tmp_path: Path) -> None:
    plain = make_codebook(10)
    rare = replace(plain, rarities=bytes(k % 251 for k in range(len(plain.windows))))
    data = rare.to_bytes()
    assert (plain.to_bytes()[4], data[4]) == (1, 2)
    assert Codebook.from_bytes(data) == rare
    assert rare.fingerprint == plain.fingerprint
    assert read_codebook(data) == read_codebook(plain.to_bytes())
    for cut in range(len(data)):
        with pytest.raises(FormatError):
            Codebook.from_bytes(data[:cut])
    with pytest.raises(InputError, match="codebook: found 3 rarities, want one for each window, or none"):
        replace(plain, rarities=bytes(3))
    fields = list(_HEADER.unpack_from(data)[:-1])
    content = zstandard.ZstdDecompressor().decompress(data[_HEADER.size :])
    with pytest.raises(FormatError, match="sizes do not match"):
        Codebook.from_bytes(sealed(fields, zstandard.compress(content[:-1])))


def test_all_windows_together_have_a_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    codebook = Codebook(sorted(BYTES | {b"", b"a" * 100}), 9)
    monkeypatch.setattr("eqinfo.codebook.codebook.MAX_BYTES", 356)
    assert Codebook.from_bytes(codebook.to_bytes()) == codebook
    monkeypatch.setattr("eqinfo.codebook.codebook.MAX_BYTES", 355)
    with pytest.raises(InputError, match="codebook: windows too long; want at most 355 bytes in all of them"):
        Codebook(codebook.windows, 9)
    with pytest.raises(FormatError, match="sizes do not match"):
        Codebook.from_bytes(codebook.to_bytes())


def listed(shared: int, length: int, rest: bytes) -> bytes:
    """The file of 2**20 windows, each with a prefix of the one before and a suffix, of the lengths given."""
    n = 1 << MAX_WINDOW_BITS
    lists = bytes([0] + [shared] * (n - 1)) + bytes([length] * n) + rest
    fields = [b"EQCB", 1, MAX_WINDOW_BITS, 0, 0, n, len(rest), bytes(32)]
    return sealed(fields, zstandard.compress(lists))


def test_small_files_of_large_lists_are_refused_before_they_are_made() -> None:
    assert MAX_SUFFIX_BYTES == MAX_SLOTS
    n = 1 << MAX_WINDOW_BITS
    for data, reason in (
        (listed(0, 255, bytes(255 * n)), "sizes out of range"),
        (listed(1, 1, bytes(n)), "codebook: the empty window is missing"),
        (listed(100, 1, bytes(n)), "sizes do not match"),
    ):
        tracemalloc.start()
        try:
            with pytest.raises(FormatError, match=reason):
                Codebook.from_bytes(data)
            assert tracemalloc.get_traced_memory()[1] < 1 << 28
        finally:
            tracemalloc.stop()


def test_error_lines_say_what_was_found(small_file: bytes, tmp_path: Path) -> None:
    def message(data: bytes) -> str:
        (tmp_path / "x.eqcb").write_bytes(data)
        with pytest.raises(FormatError) as caught:
            Codebook.load(tmp_path / "x.eqcb")
        return str(caught.value).removeprefix(str(tmp_path))

    assert message(b"text") == "/x.eqcb: not a codebook (.eqcb); it begins with 'text', want 'EQCB'."
    assert message(small_file[:4] + b"\3" + small_file[5:]) == (
        "/x.eqcb: another version of the format; found 3, want 1."
    )
    assert message(small_file[:-1] + b"\0") == "/x.eqcb: damaged; checksum does not match. Get a fresh copy."
    assert message(small_file[:20]) == (
        "/x.eqcb: truncated; found 20 bytes, want 55 or more. Get a complete copy."
    )


def test_the_trie_table_holds_exactly_the_windows() -> None:
    for codebook in (make_codebook(9), make_codebook(12)):
        table, codewords, root = codebook.trie
        for codeword, window in enumerate(codebook.windows[1:], 1):
            base = root
            for byte in window:
                slot = base ^ byte
                assert table[slot] & 255 == byte
                base = int(table[slot]) >> 9
            assert table[slot] & 256
            assert codewords[slot] == codeword
        assert (
            np.count_nonzero(table & 256) - np.count_nonzero(table[:256] & 256) == len(codebook.windows) - 1
        )


def test_coding_symbol_by_symbol_gives_every_window_its_rank(codebook):
    every = [*range(0, len(codebook.windows), 7), len(codebook.windows) - 1]
    for codeword in every:
        assert definition.encode_window(codebook, codebook.windows[codeword]) == codeword
        assert definition.decode_window(codebook, codeword) == codebook.windows[codeword]
