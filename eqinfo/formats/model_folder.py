"""A model as users name it: a folder of train-m1 or a codebook file, and the codecs it has."""

from functools import cached_property
from itertools import product
from pathlib import Path

from eqinfo.codebook.codebook import MAX_WINDOW_BITS, MIN_WINDOW_BITS, Codebook
from eqinfo.coder import integer_m1, live_windows
from eqinfo.coder.integer_m1 import Network
from eqinfo.errors import FormatError, InputError, MismatchError
from eqinfo.formats.codec import AC_UNIT_BITS, ArithmeticCodec, CodebookCodec, Codec, WindowCodec, mismatch

CODEBOOK_NAME, NETWORK_NAME = "codebook.eqcb", "m1.eqm1"
DEFAULT_MODEL = Path(__file__).parents[1] / "default"
AC = "ac"
RULES = ("live", "published")


def find_codebook(model: Path | None) -> Path:
    """The codebook file of a model.

    Args:
        model: a model folder, a codebook file, or None for the model in the package.

    Raises:
        InputError: there is none.
    """
    path = DEFAULT_MODEL if model is None else model
    if path.is_dir():
        path /= CODEBOOK_NAME
    if not path.is_file() and not path.is_fifo():
        raise InputError(f"{path}: no such codebook. Give a folder made by train-m1 or an .eqcb file.")
    return path


class Model:
    """What compress and decompress work with; files are read when they are needed.

    Args:
        path: a model folder, a codebook file, or None for the model in the package.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._network_path = (path or DEFAULT_MODEL) / NETWORK_NAME
        self._found: dict[tuple[int, bytes], Codec] = {}  # hashing M1 takes long beside a short stream

    @cached_property
    def codebook(self) -> Codebook:
        """The windows of up to 20 bits.

        Raises:
            InputError: there is no such file.
            FormatError: it is damaged.
        """
        return Codebook.load(find_codebook(self.path))

    @cached_property
    def network(self) -> Network:
        """M1, for live windows.

        Raises:
            InputError: there is no such file.
            FormatError: it is damaged.
        """
        if not self._network_path.is_file():
            raise InputError(
                f"{self._network_path}: no such M1, which live windows need. Give a folder made by train-m1."
            )
        return integer_m1.load(self._network_path)

    def codec(self, window_bits: str | None, carry: bool, rule: str) -> Codec:
        """The codec that a user asks for.

        Args:
            window_bits: a number, or `ac` for no windows; None is the codebook's.
            carry: let M1 read on across live windows.
            rule: of RULES, for what M1 codes live.

        Raises:
            InputError: there is no such codec.
        """
        if rule not in RULES:
            raise InputError(f"--rule: unknown; found {rule}, want one of {', '.join(RULES)}.")
        if window_bits == AC:
            if carry:
                raise InputError("--carry: for live windows only; without windows M1 always reads on.")
            return ArithmeticCodec(self.network, rule)
        if window_bits is not None and window_bits in map(str, live_windows.WINDOW_BITS):
            return WindowCodec(self.network, int(window_bits), carry, rule)
        if window_bits not in (None, str(self.codebook.window_bits)):
            raise InputError(
                f"--window-bits: found {window_bits}, want {self.codebook.window_bits} (the codebook's), "
                f"{', '.join(map(str, live_windows.WINDOW_BITS))} or {AC}."
            )
        if carry or rule != RULES[0]:
            raise InputError(
                "--carry, --rule: for live windows and ac only. The windows of the published rule in a model "
                "folder are -m FOLDER/published.eqcb."
            )
        return CodebookCodec(self.codebook)

    def find(self, unit_bits: int, fingerprint: bytes, where: str) -> Codec:
        """The codec that a stream or token file was made with; see `Codec.find`.

        Raises:
            MismatchError: it is none of this model's.
            FormatError: there is no such size of units, or a file of this model is damaged.
        """
        if MIN_WINDOW_BITS <= unit_bits <= MAX_WINDOW_BITS:
            return CodebookCodec(self.codebook).find(unit_bits, fingerprint, where)
        if unit_bits != AC_UNIT_BITS and unit_bits not in live_windows.WINDOW_BITS:
            raise FormatError(f"{where}: damaged; found units of {unit_bits} bits. Get a fresh copy.")
        if not self._network_path.is_file():
            words = "an arithmetic code" if unit_bits == AC_UNIT_BITS else f"live windows of {unit_bits} bits"
            raise MismatchError(
                f"{where}: {words}, made with an M1 that is not here; found fingerprint "
                f"{fingerprint[:8].hex()}, and no {self._network_path}. "
                "Name the model folder it was made with (-m)."
            )
        key = unit_bits, fingerprint
        if key not in self._found:
            codecs = list[Codec]()
            for carry, rule in product((False, True), RULES):
                codecs.append(self._codec(unit_bits, carry, rule))
                if codecs[-1].fingerprint.startswith(fingerprint):
                    break
            else:
                raise mismatch(where, unit_bits, fingerprint, codecs[0].fingerprint)
            self._found[key] = codecs[-1]
        return self._found[key]

    def _codec(self, unit_bits: int, carry: bool, rule: str) -> Codec:
        """A codec with M1 running."""
        if unit_bits == AC_UNIT_BITS:
            return ArithmeticCodec(self.network, rule)
        return WindowCodec(self.network, unit_bits, carry, rule)
