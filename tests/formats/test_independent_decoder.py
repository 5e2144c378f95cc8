"""A decoder that was written from the text of the formats alone reads what this package writes."""

import hashlib
import io
import json
import random
import zlib

from helpers.codebooks import make_codebook
from helpers.networks import random_network
from helpers.texts import prose

from eqinfo.coder import integer_m1
from eqinfo.formats import eqi, token_file
from eqinfo.formats.codec import ArithmeticCodec, CodebookCodec, WindowCodec
from eqinfo.text.frames import Frame

FRAMES = [
    Frame(prose(60), [5, 5]),
    Frame(random.Random(0).randbytes(300)),  # stored
    Frame(b"", [0, 0]),
    Frame(prose(20, seed=1)),
]


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A varint, and the offset after it."""
    value, shift = data[at] & 127, 7
    while data[at] & 128:
        at += 1
        value |= (data[at] & 127) << shift
        shift += 7
    return value, at + 1


def decode(windows: list[bytes], data: bytes) -> list[tuple[bytes, list[int]]]:
    """The text and the document ends of each frame of joined streams of one codebook."""
    found, at = [], 0
    while at < len(data):
        header, index = data[at : at + 13], b""
        bits, number, at = header[4], 0, at + 13
        while data[at]:
            start = at
            tag, at = varint(data, at)
            size, at = varint(data, at)
            head, crc, at = data[start:at], int.from_bytes(data[at : at + 4], "little"), at + 4
            payload = data[at : at + (size if tag == 1 else ((tag - 1) * bits + 7) // 8)]
            at += len(payload)
            packed, text, ends = int.from_bytes(payload, "little"), b"", []
            for i in range(tag - 1):
                codeword = packed >> i * bits & ((1 << bits) - 1)
                text += windows[codeword]
                ends += [len(text)] if codeword == 0 else []
            covered = header + number.to_bytes(8, "little") + head + payload + text
            assert zlib.crc32(covered) == crc
            found.append((payload if tag == 1 else text, ends))
            index += _varint_bytes(size) + _varint_bytes(at - start)
            number += 1
        at += 1
        assert data[at : at + len(index)] == index
        at += len(index)
        assert zlib.crc32(header + index) == int.from_bytes(data[at : at + 4], "little")
        at += 4 + len(_varint_bytes(len(index)))
        assert data[:at].endswith(_varint_bytes(len(index))[::-1])
    return found


def _varint_bytes(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + _varint_bytes(value >> 7)


def test_streams_of_every_width_are_read() -> None:
    for bits in (9, 12, 16, 17, 20):
        codebook, sink = make_codebook(bits), io.BytesIO()
        for _ in range(2):
            eqi.compress(FRAMES, sink, CodebookCodec(codebook))
        assert (
            decode(codebook.windows, sink.getvalue()) == [(f.text, list(f.document_ends)) for f in FRAMES] * 2
        )


def test_fingerprints_are_computed_as_the_text_says() -> None:
    codebook, network = make_codebook(12), random_network()
    lengths = bytes(len(window) for window in codebook.windows)
    contents = b"eqinfo codebook" + bytes([1, 12]) + lengths + b"".join(codebook.windows)
    assert CodebookCodec(codebook).fingerprint == hashlib.sha256(contents).digest()
    file = integer_m1.to_bytes(network)
    assert file[-32:] == hashlib.sha256(file[:-32]).digest()
    for codec, name in (
        (WindowCodec(network, 24), b"live 24"),
        (WindowCodec(network, 64, carry=True), b"live 64 carry"),
        (WindowCodec(network, 32, rule="published"), b"published 32"),
        (ArithmeticCodec(network), b"live ac"),
        (ArithmeticCodec(network, "published"), b"published ac"),
    ):
        assert codec.fingerprint == hashlib.sha256(b"eqinfo live 1 " + name + b" " + file[-32:]).digest()


def test_ids_and_sidecars_are_as_the_text_says() -> None:
    for codec in (WindowCodec(random_network(), 24), CodebookCodec(make_codebook(17))):
        sink = io.BytesIO()
        _, sidecar = token_file.write(FRAMES, sink, codec)
        fields = json.loads(sidecar.to_json())
        crc = fields.pop("sidecar_crc32")
        assert (fields.pop("format"), fields.pop("version")) == ("eqinfo tokens", 2)
        assert crc == zlib.crc32(json.dumps(fields, sort_keys=True).encode())
        assert fields["crc32"] == zlib.crc32(sink.getvalue())
        size = 2 if fields["window_bits"] <= 16 else 4
        data = sink.getvalue()
        ids = [int.from_bytes(data[i : i + size], "little") for i in range(0, len(data), size)]
        if isinstance(codec, CodebookCodec):
            text = b"".join(codec.codebook.windows[i] for i in ids)
            assert (text, ids.count(0)) == (b"".join(frame.text for frame in FRAMES), 4)
        else:
            payloads = [codec.encode(frame)[1] for frame in FRAMES]
            pairs = b"".join(payload + bytes(len(payload) % 2) for payload in payloads)
            assert ids == [
                256 * first + second for first, second in zip(pairs[::2], pairs[1::2], strict=True)
            ]
            assert fields["frames"] == [
                [len(f.text), len(f.document_ends), len(p) // 3, zlib.crc32(f.text)]
                for f, p in zip(FRAMES, payloads, strict=True)
            ]
