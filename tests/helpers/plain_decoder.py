"""A decoder of .eqcb, .eqi and .eqm1 files, written from examples/reference/formats.md alone.

It imports nothing of eqinfo: what it can read, a stranger with that page can.
"""

import hashlib
import math
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
import zstandard

Decode = Callable[[bytes, int, int], list[bytes]]  # payload, units, unit_bits -> windows


def crc(*parts: bytes) -> int:
    return zlib.crc32(b"".join(parts))


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Its value, and where the next field starts."""
    value, shift = 0, 0
    while True:
        value |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 128:
            return value, at


def read_codebook(data: bytes) -> tuple[int, list[bytes], bytes]:
    """Window bits, windows and fingerprint of an .eqcb file."""
    magic, version, bits, _, _, n, n_suffix, fingerprint, checksum = struct.unpack_from("<4sBBBIII32sI", data)
    assert magic == b"EQCB"
    assert version in (1, 2)
    assert crc(data[:51], bytes(4), data[55:]) == checksum
    content = zstandard.ZstdDecompressor().decompress(data[55:])
    assert len(content) == (version + 1) * n + n_suffix  # version 2 ends with rarities
    windows, window, at = [], b"", 2 * n
    for shared, length in zip(content[:n], content[n : 2 * n], strict=True):
        window = window[:shared] + content[at : at + length]
        at += length
        windows.append(window)
    facts = bytes([1, bits]) + bytes(map(len, windows)) + b"".join(windows)
    assert hashlib.sha256(b"eqinfo codebook" + facts).digest() == fingerprint
    return bits, windows, fingerprint


def with_codebook(windows: list[bytes]) -> Decode:
    """How codewords of a codebook decode."""

    def decode(payload: bytes, units: int, bits: int) -> list[bytes]:
        number = int.from_bytes(payload, "little")  # bit i of the payload is bit i of this number
        assert number >> units * bits == 0
        return [windows[number >> k * bits & (1 << bits) - 1] for k in range(units)]

    return decode


def read_streams(data: bytes, fingerprint: bytes, decode: Decode) -> Iterator[tuple[bytes, list[int]]]:
    """Text and document ends of each frame of an .eqi file; every checksum is checked."""
    at = 0
    while at < len(data):
        header = data[at : at + 13]
        assert header[:4] == b"EQI\1"
        assert header[5:] == fingerprint[:8]
        at += 13
        number, index = 0, []
        while data[at]:
            start = at
            tag, at = read_varint(data, at)
            length, at = read_varint(data, at)
            head, checksum = data[start:at], int.from_bytes(data[at : at + 4], "little")
            size = length if tag == 1 else ((tag - 1) * header[4] + 7) // 8
            payload = data[at + 4 : at + 4 + size]
            at += 4 + size
            windows = [payload] if tag == 1 else decode(payload, tag - 1, header[4])
            text, ends = b"".join(windows), []
            seen = 0
            for window in windows:
                seen += len(window)
                if not window:
                    ends.append(seen)
            covered = b"" if tag == 1 else payload
            assert crc(header, number.to_bytes(8, "little"), head, covered, text) == checksum
            assert len(text) == length
            index.append((length, at - start))
            number += 1
            yield text, ends
        at += 1
        start = at
        for entry in index:
            length, at = read_varint(data, at)
            size, at = read_varint(data, at)
            assert (length, size) == entry
        assert int.from_bytes(data[at : at + 4], "little") == crc(header, data[start:at])
        n_index, at = at - start, at + 4
        backwards = bytes(reversed(data[at : at + (max(n_index.bit_length(), 1) + 6) // 7]))
        assert read_varint(backwards, 0) == (n_index, len(backwards))
        at += len(backwards)


# ---- M1 and live windows


class M1:
    """An .eqm1 file; reads symbols one by one."""

    def __init__(self, data: bytes) -> None:
        magic, version, n_layer, self.table_bits, zero = struct.unpack_from("<4sBBBB", data)
        assert (magic, version, zero) == (b"EQM1", 1, 0)
        rows, mixed = (6 << self.table_bits, 192) if self.table_bits else (0, 0)
        arrays = [
            ("embedding", "<i2", (257, 192)), ("tables", "i1", (rows, 32)), ("mix", "i1", (mixed, 192)),
            ("mix_scale", "<i4", (mixed,)), ("inputs", "i1", (n_layer, 768, 192)),
            ("input_scale", "<i4", (n_layer, 768)), ("input_bias", "<i4", (n_layer, 768)),
            ("output", "i1", (n_layer, 192, 256)), ("output_scale", "<i4", (n_layer, 192)),
            ("head", "i1", (256, 192)), ("head_scale", "<i4", (256,)), ("head_bias", "<i4", (256,)),
            ("forget", "<i4", (4096,)), ("exp2", "<i4", (1024,)),
        ]  # fmt: skip
        at = 8
        self.arrays = {}
        for name, dtype, shape in arrays:
            found = np.frombuffer(data, dtype, math.prod(shape), at)
            self.arrays[name] = found.reshape(shape).astype(np.int64)
            at += found.nbytes
        self.fingerprint = hashlib.sha256(data[:at]).digest()
        assert data[at:] == self.fingerprint

    def read(self, symbol: int) -> list[int]:
        """The frequencies after one more byte, or after BOS (256)."""
        a = self.arrays
        if symbol == 256:
            self.history, self.states = 0, np.zeros((len(a["inputs"]), 256), np.int64)
        else:
            self.history = (256 * self.history + symbol) % 2**64
        stream = a["embedding"][symbol]
        if self.table_bits:
            rows = []
            for j, k in enumerate((2, 3, 4, 5, 6, 8)):
                key = (self.history % 2 ** (8 * k)) * 0x9E3779B97F4A7C15 % 2**64
                rows.append(a["tables"][(j << self.table_bits) + (key >> (64 - self.table_bits))])
            stream = clip(stream + scaled(a["mix"] @ np.concatenate(rows), a["mix_scale"]), 2**22 - 1)
        for n, state in enumerate(self.states):
            s = scaled(a["inputs"][n] @ normalise(stream), a["input_scale"][n]) + a["input_bias"][n]
            keep, value, gate = s[:256], s[256:512], s[512:]
            share = a["forget"][np.clip(keep, -2048, 2047) + 2048]
            state += ((256 * clip(value, 2**15 - 1) - state) * share + 2**15) >> 16
            product = (state >> 8) * np.clip(gate, 0, 2**15 - 1)
            inner = clip((product + 2**16) >> 17, 2**13 - 1)
            stream = clip(stream + scaled(a["output"][n] @ inner, a["output_scale"][n]), 2**22 - 1)
        logits = clip(scaled(a["head"] @ normalise(stream), a["head_scale"]) + a["head_bias"], 2**24)
        below = np.minimum(logits.max() - logits, 25_599)
        weights = (a["exp2"][below % 1024] >> below // 1024).tolist()
        multiplier = (2**20 - 256) * 2**32 // sum(weights)
        frequencies = [1 + (weight * multiplier >> 32) for weight in weights]
        frequencies[int(np.flatnonzero(logits == logits.max())[-1])] += 2**20 - sum(frequencies)
        return frequencies


def scaled(sums, scale):
    return (sums * scale + 2**27) >> 28


def clip(values, most):
    return np.clip(values, -most, most)


def normalise(stream):
    root = max(math.isqrt(256 * int((stream * stream).sum()) // 192), 1)
    return clip((stream * (2**37 // root) + 2**23) >> 24, 2**13 - 1)


def with_m1(m1: M1) -> Decode:
    """How codewords of live windows decode, by the live rule."""

    def decode(payload: bytes, units: int, bits: int) -> list[bytes]:
        size = bits // 8
        return [window(int.from_bytes(payload[k * size : (k + 1) * size], "big"), bits) for k in range(units)]

    def window(codeword: int, bits: int) -> bytes:
        found, low, width, frequencies = b"", 0, 2**bits, m1.read(256)
        while codeword != low:
            least = 0 if found else 1
            q, r = divmod(width - 1 - 256 * least, 2**20)
            shares = [least + q * f + r * f // 2**20 for f in frequencies]
            by_remainder = sorted(range(256), key=lambda byte: (-(r * frequencies[byte] % 2**20), byte))
            for byte in by_remainder[: width - 1 - sum(shares)]:
                shares[byte] += 1
            low, byte = low + 1, 0
            while low + shares[byte] <= codeword:
                low, byte = low + shares[byte], byte + 1
            width = shares[byte]
            found += bytes([byte])
            frequencies = m1.read(byte)
        return found

    return decode


def live_fingerprint(name: str, m1: M1) -> bytes:
    return hashlib.sha256(f"eqinfo live 1 {name} ".encode() + m1.fingerprint).digest()
