"""Integers in bytes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eqinfo.formats.packing import MAX_VARINT_BYTES, pack, packed_bytes, read_varint, unpack, varint


def read(data: bytes) -> int:
    rest = iter(data)
    value = read_varint(rest)
    assert not list(rest)
    return value


@given(st.integers(0, 2**63 - 1))
def test_a_varint_reads_back(value: int) -> None:
    assert read(varint(value)) == value


def test_a_varint_worked_by_hand() -> None:
    assert varint(300) == bytes([0b1010_1100, 0b0000_0010])  # 300 = 2 * 128 + 44


@pytest.mark.parametrize("data", [b"\x80\x00", b"\xff\x80\x00", b"\x80" * MAX_VARINT_BYTES + b"\x01"])
def test_a_varint_that_is_not_the_shortest_or_has_no_end_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a length"):
        read(data)


def packed_by_definition(codewords: list[int], bits: int) -> bytes:
    number = sum(codeword << i * bits for i, codeword in enumerate(codewords))
    return number.to_bytes(packed_bytes(len(codewords), bits), "little")


@given(st.data(), st.integers(9, 20))
def test_packing_is_one_long_little_endian_number(data: st.DataObject, bits: int) -> None:
    codewords = data.draw(st.lists(st.integers(0, 2**bits - 1), max_size=40))
    payload = pack(np.array(codewords, np.uint32), bits)
    assert payload == packed_by_definition(codewords, bits)
    assert unpack(payload, len(codewords), bits).tolist() == codewords


@pytest.mark.parametrize("bits", range(9, 21))
@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 10_001])
def test_unpack_undoes_pack(bits: int, n: int) -> None:
    codewords = np.random.default_rng(n).integers(0, 2**bits, n).astype(np.uint32)
    assert np.array_equal(unpack(pack(codewords, bits), n, bits), codewords)


@pytest.mark.parametrize("bits", [9, 12, 15, 17, 20])
def test_a_set_padding_bit_is_refused(bits: int) -> None:
    payload = bytearray(pack(np.zeros(1, np.uint32), bits))
    payload[-1] |= 0x80
    with pytest.raises(ValueError, match="padding"):
        unpack(bytes(payload), 1, bits)
