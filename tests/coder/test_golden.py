"""Streams of live windows and arithmetic codes that every future version must make and decode, bit for bit.

The M1 is fixed by what is written here: its numbers are those of a hash function.
"""

import hashlib
import io
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from eqinfo.coder import integer_m1
from eqinfo.coder.integer_m1 import EXP_STEPS, KEEP_RANGE, Network
from eqinfo.formats import eqi
from eqinfo.formats.codec import ArithmeticCodec, WindowCodec
from eqinfo.text.frames import Frame

TEXT = b"To be, or not to be, that is the question: \xff\0\r\n" * 3 + bytes(range(0, 256, 7))
ENDS = [19, 19, 100]
GOLDEN = Path(__file__).parents[1] / "golden"


def golden_network() -> Network:
    """One layer and small tables, of bytes that SHAKE-256 gives."""
    arrays, number = {}, count()

    def drawn(low: int, high: int, shape: tuple[int, ...]) -> np.ndarray:
        n = int(np.prod(shape))
        data = hashlib.shake_256(b"golden %d" % next(number)).digest(4 * n)
        return (low + np.frombuffer(data, "<u4").astype(np.int64) % (high - low + 1)).reshape(shape)

    for name, (dtype, shape) in integer_m1.shapes(1, 3).items():
        if dtype == "i1":
            values = drawn(-127, 127, shape)
        elif name.endswith("scale"):
            values = drawn(1 << 13, 1 << 15, shape)
        else:
            values = drawn(-900, 900, shape)
        arrays[name] = values
    arrays["forget"] = np.clip(32768 - 16 * np.arange(-KEEP_RANGE, KEEP_RANGE), 0, 65536)
    arrays["exp2"] = (1 << 24) - (1 << 23) * np.arange(EXP_STEPS) // EXP_STEPS
    types = integer_m1.shapes(1, 3)
    return Network(**{name: array.astype(np.dtype(types[name][0])) for name, array in arrays.items()})


FINGERPRINT = "9fcd57e76653d46e"
CODECS = ["live 24", "live 48 carry", "live 128", "published 32", "live ac", "live ac 2", "published ac"]


def codec_of(name: str) -> WindowCodec | ArithmeticCodec:
    rule, bits, *more = name.split()
    if bits == "ac":
        return ArithmeticCodec(golden_network(), rule, int(*more or [1]))
    return WindowCodec(golden_network(), int(bits), bool(more), rule)


def test_the_fingerprint_is_what_it_always_was():
    assert integer_m1.fingerprint(golden_network()).hex()[:16] == FINGERPRINT


@pytest.mark.parametrize("name", CODECS)
def test_streams_are_what_they_always_were(name):
    codec, sink = codec_of(name), io.BytesIO()
    stream = (GOLDEN / f"{name.replace(' ', '-')}.eqi").read_bytes()
    assert codec.name == name
    assert list(eqi.read_frames(io.BytesIO(stream), codec, name)) == [Frame(TEXT, ENDS)]
    eqi.compress([Frame(TEXT, ENDS)], sink, codec)
    assert sink.getvalue() == stream
