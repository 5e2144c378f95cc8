"""How a frame of text becomes a payload and a payload a frame again: with a codebook, or with M1 running.

A payload is a number of *units* of so many bits: the codewords of windows, or the bytes of a plain arithmetic
code. A codec is named by the size of its units and its fingerprint, the SHA-256 of everything that decides
what payloads mean; a stream's header holds both, so it needs no flags to be read.

What this module does not do: check payloads (`container`), or know files (`models`).
"""

import hashlib
from abc import ABC, abstractmethod

import numpy as np

from eqinfo.codebook import parse
from eqinfo.codebook.codebook import Codebook
from eqinfo.coder import arithmetic_coding, integer_m1, live_windows, paper
from eqinfo.coder.integer_m1 import Network
from eqinfo.errors import FormatError, MismatchError
from eqinfo.formats.packing import pack, read_varint, unpack, varint
from eqinfo.system.threads import aside
from eqinfo.text.frames import FRAME_BYTES, MAX_DOCUMENTS, Frame

AC_UNIT_BITS = 8  # less than a window can have
LIVE_FRAME_BYTES = 1 << 17  # some seconds of one core: frames are what threads and progress have to work with
LIVE_VERSION = 1


class Codec(ABC):
    """A way to code frames; safe to use in threads.

    Attributes:
        unit_bits: size of a unit of its payloads.
        fingerprint: 32 bytes.
        name: of the coding, in sidecars and messages; empty for codebooks.
        frame_bytes: how much text a frame holds at most.
    """

    unit_bits: int
    fingerprint: bytes
    name: str = ""
    frame_bytes: int = FRAME_BYTES

    @abstractmethod
    def encode(self, frame: Frame) -> tuple[int, bytes]:
        """Number of units, and the payload."""

    @abstractmethod
    def decode(self, units: int, payload: bytes, text_length: int) -> Frame:
        """The frame of a payload.

        Args:
            units: in the payload.
            payload: `packed_bytes(units, unit_bits)` bytes.
            text_length: bytes of the text.

        Raises:
            ValueError: it is not the payload of such a text.
        """

    def most_units(self, text_length: int) -> int:
        """How many units a payload of so much text can have."""
        return text_length + MAX_DOCUMENTS

    def find(self, unit_bits: int, fingerprint: bytes, where: str) -> "Codec":
        """This codec, if it is the one that is wanted.

        Args:
            unit_bits: of the wanted one.
            fingerprint: of the wanted one, or its first bytes.
            where: what wants it, for messages.

        Raises:
            MismatchError: it is not.
            FormatError: only the size of its units is another.
        """
        if not self.fingerprint.startswith(fingerprint):
            raise mismatch(where, unit_bits, fingerprint, self.fingerprint)
        if unit_bits != self.unit_bits:
            raise FormatError(
                f"{where}: damaged; found units of {unit_bits} bits, want {self.unit_bits}. Get a fresh copy."
            )
        return self


def mismatch(where: str, unit_bits: int, found: bytes, want: bytes) -> MismatchError:
    """The error for a stream or file that another codec made."""
    made_with = "codebook" if AC_UNIT_BITS < unit_bits < live_windows.WINDOW_BITS.start else "M1"
    return MismatchError(
        f"{where}: made with another {made_with}; found fingerprint {found[:8].hex()}, "
        f"want {want[:8].hex()}. Name the model it was made with (-m)."
    )


class CodebookCodec(Codec):
    """Windows of a codebook, their codewords packed."""

    def __init__(self, codebook: Codebook) -> None:
        self.codebook = codebook
        self.unit_bits, self.fingerprint = codebook.window_bits, codebook.fingerprint

    def encode(self, frame: Frame) -> tuple[int, bytes]:  # noqa: D102
        codewords = parse.encode(self.codebook, *frame)
        return codewords.size, pack(codewords, self.unit_bits)

    def decode(self, units: int, payload: bytes, text_length: int) -> Frame:  # noqa: D102
        codewords = unpack(payload, units, self.unit_bits)
        try:
            sizes = self.codebook.lengths[codewords]
        except IndexError:
            raise ValueError("found codewords that are none") from None
        if sizes.sum() != text_length:  # before anything of that size is made
            raise ValueError(f"found {sizes.sum()} bytes, want {text_length}")
        at = np.flatnonzero(codewords == 0)
        return Frame(parse.decode(self.codebook, codewords), np.cumsum(sizes)[at].tolist() if at.size else [])


class WindowCodec(Codec):
    """Live windows: codewords of whole bytes, the most significant first."""

    frame_bytes = LIVE_FRAME_BYTES

    def __init__(self, m1: Network, window_bits: int, carry: bool = False, rule: str = "live") -> None:
        self.network, self.unit_bits, self.carry = m1, window_bits, carry
        self._coder = live_windows if rule == "live" else paper
        self.name = f"{rule} {window_bits}{' carry' if carry else ''}"
        self.fingerprint = _fingerprint(self.name, m1)

    def encode(self, frame: Frame) -> tuple[int, bytes]:  # noqa: D102
        payload = aside(self._coder.encode_windows, self.network, *frame, self.unit_bits, self.carry)
        return len(payload) * 8 // self.unit_bits, payload

    def decode(self, units: int, payload: bytes, text_length: int) -> Frame:  # noqa: D102
        return Frame(
            *aside(self._coder.decode_windows, self.network, payload, self.unit_bits, text_length, self.carry)
        )


class ArithmeticCodec(Codec):
    """A frame without windows: the number of its document ends as a varint, then one arithmetic code.

    By the live rule it is one that adapts to the text (`mixing`), by the published rule M1 alone.
    """

    unit_bits = AC_UNIT_BITS
    frame_bytes = FRAME_BYTES

    def __init__(self, m1: Network, rule: str = "live") -> None:
        self.network, self._adapts = m1, rule == "live"
        self.name = f"{rule} ac"
        self.fingerprint = _fingerprint(self.name, m1)

    def encode(self, frame: Frame) -> tuple[int, bytes]:  # noqa: D102
        code = aside(arithmetic_coding.encode, self.network, *frame, self._adapts)
        payload = varint(len(frame.document_ends)) + code
        return len(payload), payload

    def decode(self, units: int, payload: bytes, text_length: int) -> Frame:  # noqa: D102
        rest = iter(payload)
        n_documents = read_varint(lambda: next(rest, 0x80))
        if n_documents > MAX_DOCUMENTS:
            raise ValueError(f"found {n_documents} documents")
        code = payload[len(varint(n_documents)) :]
        return Frame(
            *aside(arithmetic_coding.decode, self.network, code, text_length, n_documents, self._adapts)
        )

    def most_units(self, text_length: int) -> int:  # noqa: D102
        return 20 * (text_length + MAX_DOCUMENTS) + 16  # eight bits of a byte have some 16 bits each at most


def _fingerprint(name: str, m1: Network) -> bytes:
    """SHA-256 of a live coding."""
    return hashlib.sha256(
        f"eqinfo live {LIVE_VERSION} {name} ".encode() + integer_m1.fingerprint(m1)
    ).digest()
