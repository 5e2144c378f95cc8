"""A frame of text to a payload and back: with a codebook, with live windows, or with arithmetic coding.

A payload is a number of *units* of `unit_bits` bits each, in ceil(units * unit_bits / 8) bytes. A stream's
header holds `unit_bits` and the first bytes of the codec's fingerprint, so decoding needs no flags.

    codec              unit_bits          a unit is                        name, with b = unit_bits
    CodebookCodec      9 to 20            the codeword of a window         (none)
    WindowCodec        24, 32, ... 128    the codeword of a live window    live b, live b carry,
                                                                           published b, published b carry
    ArithmeticCodec    8                  a byte                           live ac, live ac 2, published ac

Payload of a codebook: the codewords, packed lowest bit first (`packing`). A codeword is the number of its
window, from 0, in the order of the `.eqcb` file (`codebook.codebook`). Codeword 0 is the empty window: a
document ends there. A reader refuses codewords without a window, and windows whose lengths do not add up to
the size of the text.

Payload of live windows: each codeword as unit_bits / 8 bytes, the highest byte first. By the live rule
codeword 0 is the empty window and ends a document (`coder.live_windows`). By the published rule the end of a
document is a symbol inside a window, which closes that window; the last window of a text that stays open may
be cut short by the text length (`coder.paper`). M1 begins anew at each window, or with `carry` at each
document and frame.

Payload of arithmetic coding: the number of document ends as a varint, at most MAX_DOCUMENTS, then one code
for the frame (`coder`). The code also says where documents end. By the live rule its probabilities adapt to
the text of the frame, in two versions, of which compress writes the second, `live ac 2`; by the published
rule they are M1's alone.

Fingerprint, 32 bytes, of everything that decides what a payload means; + joins bytes:

    codebook    SHA-256("eqinfo codebook" + version 1 as u8 + window_bits as u8
                + the length of each window as u8 + all windows joined), both in the order of codewords
    the others  SHA-256("eqinfo live 1 " + name + " " + fingerprint of M1); the name is that of the table,
                M1's fingerprint the last 32 bytes of its `.eqm1` file, the SHA-256 of all bytes before them

What this module does not do: check payloads (`eqi` does, by checksum), read model files (`model_folder`), or
code on a GPU (`lane_codec`).
"""

import hashlib
from abc import ABC, abstractmethod
from typing import Protocol

import numpy as np

from eqinfo.codebook import parse
from eqinfo.codebook.codebook import Codebook
from eqinfo.coder import arithmetic_coding, integer_m1, live_windows, paper
from eqinfo.coder.integer_m1 import Network
from eqinfo.errors import MismatchError, damaged
from eqinfo.formats.packing import pack, read_varint, unpack, varint
from eqinfo.system.threads import in_thread
from eqinfo.text.frames import FRAME_BYTES, MAX_DOCUMENTS, Frame

AC_UNIT_BITS = 8  # fewer than any window has, so unit_bits tells the kinds apart
LIVE_FRAME_BYTES = 1 << 17  # some seconds of one core; threads and progress work by the frame
LIVE_VERSION = 1
AC_VERSION = 2  # of the mixer that new arithmetic codes are made with


class Codec(ABC):
    """A way to code frames; safe to use in several threads at once.

    Attributes:
        unit_bits: size of a unit of its payloads in bits.
        fingerprint: 32 bytes.
        name: as in the table above; empty for codebooks.
        frame_bytes: size of the frames that text is cut into for this codec, in bytes, at most FRAME_BYTES.
    """

    unit_bits: int
    fingerprint: bytes
    name: str = ""
    frame_bytes: int = FRAME_BYTES

    @abstractmethod
    def encode(self, frame: Frame) -> tuple[int, bytes]:
        """The number of units, and the payload.

        Args:
            frame: a text of at most FRAME_BYTES with at most MAX_DOCUMENTS document ends.
        """

    @abstractmethod
    def decode(self, units: int, payload: bytes, text_length: int) -> Frame:
        """The frame that a payload codes.

        Args:
            units: number of units in the payload.
            payload: `packed_bytes(units, unit_bits)` bytes.
            text_length: size of the text in bytes.

        Raises:
            ValueError: the payload codes no text of this length.
        """

    def most_units(self, text_length: int) -> int:
        """The largest number of units in the payload of a text of `text_length` bytes."""
        return text_length + MAX_DOCUMENTS

    def find_codec(self, unit_bits: int, fingerprint: bytes, where: str) -> "Codec":
        """This codec, if it is the one that a file was made with; see `Finder`."""
        if not self.fingerprint.startswith(fingerprint):
            raise mismatch(where, unit_bits, fingerprint, self.fingerprint)
        if unit_bits != self.unit_bits:
            raise damaged(where, f"found units of {unit_bits} bits, want {self.unit_bits}")
        return self


class Finder(Protocol):
    """Finds the codec of a stream: a `Model` among the codecs it can make, a `Codec` only itself."""

    def find_codec(self, unit_bits: int, fingerprint: bytes, where: str, /) -> Codec:
        """The codec that a file was made with.

        Args:
            unit_bits: its size of a unit in bits.
            fingerprint: the codec's, or its first bytes.
            where: name of the file, for messages.

        Raises:
            MismatchError: the file was made with another codec.
            FormatError: no codec has units of that size, or a file of the model is damaged.
        """


def described(unit_bits: int) -> str:
    """What a codec with such units needs, for messages."""
    if unit_bits == AC_UNIT_BITS:
        return "an M1 for arithmetic coding"
    is_listed = unit_bits < live_windows.WINDOW_BITS.start
    return f"a codebook of {unit_bits} bits" if is_listed else f"an M1 for live windows of {unit_bits} bits"


def mismatch(
    where: str, unit_bits: int, needed: bytes, has: bytes | None, model: str = "the model at hand"
) -> MismatchError:
    """The error to raise for a stream or token file that was made with another codec.

    Args:
        where: name of the file.
        unit_bits: the file's.
        needed: the file's fingerprint, or its first bytes.
        has: fingerprint of the codec at hand; None if there is none with such units.
        model: name of the model at hand.
    """
    at_hand = "none" if has is None else f"one with {has[:8].hex()}"
    return MismatchError(
        f"{where}: needs {described(unit_bits)} with fingerprint {needed[:8].hex()}; {model} has {at_hand}. "
        "Name the model it was made with (-m)."
    )


class CodebookCodec(Codec):
    """Windows of a codebook."""

    def __init__(self, codebook: Codebook) -> None:
        self.codebook = codebook
        self.unit_bits, self.fingerprint = codebook.window_bits, codebook.fingerprint

    def encode(self, frame: Frame) -> tuple[int, bytes]:  # noqa: D102 - see Codec
        codewords = parse.encode(self.codebook, *frame)
        return codewords.size, pack(codewords, self.unit_bits)

    def decode(self, units: int, payload: bytes, text_length: int) -> Frame:  # noqa: D102 - see Codec
        codewords = unpack(payload, units, self.unit_bits)
        try:
            sizes = self.codebook.lengths[codewords]
        except IndexError:
            raise ValueError("found codewords that are none") from None
        if sizes.sum() != text_length:  # before memory for them is allocated
            raise ValueError(f"found {sizes.sum()} bytes, want {text_length}")
        at = np.flatnonzero(codewords == 0)
        if at.size > MAX_DOCUMENTS:
            raise ValueError(f"found {at.size} document ends, want at most {MAX_DOCUMENTS}")
        return Frame(parse.decode(self.codebook, codewords), np.cumsum(sizes)[at].tolist() if at.size else [])


class WindowCodec(Codec):
    """Live windows: M1 runs while they are cut and decoded.

    Args:
        m1: the network.
        window_bits: of `live_windows.WINDOW_BITS`.
        carry: whether M1 reads on across windows until the document ends.
        rule: "live" or "published".
    """

    frame_bytes = LIVE_FRAME_BYTES

    def __init__(self, m1: Network, window_bits: int, carry: bool = False, rule: str = "live") -> None:
        self.network, self.unit_bits, self.carry, self.rule = m1, window_bits, carry, rule
        self._coder = live_windows if rule == "live" else paper
        self.name = f"{rule} {window_bits}{' carry' if carry else ''}"
        self.fingerprint = _fingerprint(self.name, m1)

    def encode(self, frame: Frame) -> tuple[int, bytes]:  # noqa: D102 - see Codec
        payload = in_thread(self._coder.encode_windows, self.network, *frame, self.unit_bits, self.carry)
        return len(payload) * 8 // self.unit_bits, payload

    def decode(self, units: int, payload: bytes, text_length: int) -> Frame:  # noqa: D102 - see Codec
        arguments = payload, self.unit_bits, text_length, self.carry
        return Frame(*in_thread(self._coder.decode_windows, self.network, *arguments))


class ArithmeticCodec(Codec):
    """Arithmetic coding of a whole frame, without windows.

    Args:
        m1: the network.
        rule: "live" adapts to the text of the frame, "published" uses M1's probabilities alone.
        version: of the live rule: 1 is in streams made before there was a 2.
    """

    unit_bits = AC_UNIT_BITS

    def __init__(self, m1: Network, rule: str = "live", version: int = AC_VERSION) -> None:
        self.network, self.rule, self._version = m1, rule, version if rule == "live" else 0
        self.name = f"{rule} ac{f' {version}' if self._version > 1 else ''}"
        self.fingerprint = _fingerprint(self.name, m1)

    def encode(self, frame: Frame) -> tuple[int, bytes]:  # noqa: D102 - see Codec
        code = in_thread(arithmetic_coding.encode, self.network, *frame, self._version)
        payload = self.payload_of(frame, code)
        return len(payload), payload

    def decode(self, units: int, payload: bytes, text_length: int) -> Frame:  # noqa: D102 - see Codec
        code, n_documents = self.code_of(payload)
        return Frame(
            *in_thread(arithmetic_coding.decode, self.network, code, text_length, n_documents, self._version)
        )

    @staticmethod
    def payload_of(frame: Frame, code: bytes) -> bytes:
        """The payload of a frame with this code."""
        return varint(len(frame.document_ends)) + code

    @staticmethod
    def code_of(payload: bytes) -> tuple[bytes, int]:
        """The code in a payload, and the number of document ends in it.

        Raises:
            ValueError: the number is none, or too large.
        """
        n_documents = read_varint(iter(payload))
        if n_documents > MAX_DOCUMENTS:
            raise ValueError(f"found {n_documents} documents")
        return payload[len(varint(n_documents)) :], n_documents

    def most_units(self, text_length: int) -> int:  # noqa: D102 - see Codec
        return 20 * (text_length + MAX_DOCUMENTS) + 16  # each of a byte's 8 bits costs at most about 16 bits


def _fingerprint(name: str, m1: Network) -> bytes:
    """Fingerprint of a codec in which M1 runs."""
    return hashlib.sha256(
        f"eqinfo live {LIVE_VERSION} {name} ".encode() + integer_m1.fingerprint(m1)
    ).digest()
