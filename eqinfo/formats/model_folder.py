"""A model as `-m` names it: a folder made by train-m1, or a codebook file; and the codecs it can make.

What this module does not do: write model folders (`m1`), or hold formats (`codebook.codebook`,
`coder.integer_m1`).
"""

from functools import cached_property
from itertools import product
from pathlib import Path

from eqinfo.codebook.codebook import MAX_WINDOW_BITS, MIN_WINDOW_BITS, Codebook
from eqinfo.coder import integer_m1, live_windows
from eqinfo.coder.integer_m1 import Network
from eqinfo.errors import InputError, MismatchError, damaged
from eqinfo.formats.codec import AC_UNIT_BITS, ArithmeticCodec, CodebookCodec, Codec, WindowCodec, mismatch

CODEBOOK_NAME, NETWORK_NAME = "codebook.eqcb", "m1.eqm1"
DEFAULT_MODEL = Path(__file__).parents[1] / "default"
AC = "ac"
LIVE_UNITS = {str(bits): bits for bits in live_windows.WINDOW_BITS} | {AC: AC_UNIT_BITS}  # by --window-bits
RULES = ("live", "published")


def codebook_path(model: Path | None) -> Path:
    """Path of the codebook file of a model.

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
    """Finds codecs for compress and decompress; reads the model's files when they are first needed.

    Args:
        path: a model folder, a codebook file, or None for the model in the package.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._network_path = (path or DEFAULT_MODEL) / NETWORK_NAME
        self._live: dict[tuple[int, bytes], Codec] = {}  # by unit_bits and fingerprint; hashing M1 is slow

    @cached_property
    def codebook(self) -> Codebook:
        """The codebook.

        Raises:
            InputError: there is no such file.
            FormatError: it is damaged.
        """
        return Codebook.load(codebook_path(self.path))

    @cached_property
    def network(self) -> Network:
        """M1 in integers, for live windows and arithmetic coding.

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
        """The codec that the options of compress name.

        Args:
            window_bits: a number, or `ac` for no windows; None is the codebook's number.
            carry: whether M1 reads on across live windows.
            rule: of RULES, for live windows and arithmetic coding.

        Raises:
            InputError: there is no such codec.
        """
        if rule not in RULES:
            raise InputError(f"--rule: unknown; found {rule}, want one of {', '.join(RULES)}.")
        if window_bits == AC and carry:
            raise InputError("--carry: for live windows only; without windows M1 always reads on.")
        if window_bits in LIVE_UNITS:
            return self._live_codec(LIVE_UNITS[window_bits], carry, rule)
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

    def find_codec(self, unit_bits: int, fingerprint: bytes, where: str) -> Codec:
        """The codec of this model that a file was made with; see `eqi.Finder`."""
        if MIN_WINDOW_BITS <= unit_bits <= MAX_WINDOW_BITS:
            return CodebookCodec(self.codebook).find_codec(unit_bits, fingerprint, where)
        if unit_bits not in LIVE_UNITS.values():
            raise damaged(where, f"found units of {unit_bits} bits")
        if not self._network_path.is_file():
            words = "an arithmetic code" if unit_bits == AC_UNIT_BITS else f"live windows of {unit_bits} bits"
            raise MismatchError(
                f"{where}: {words}, made with an M1 that is not here; found fingerprint "
                f"{fingerprint[:8].hex()}, and no {self._network_path}. "
                "Name the model folder it was made with (-m)."
            )
        key = unit_bits, fingerprint
        if key not in self._live:
            for carry, rule in product((False, True), RULES):
                codec = self._live_codec(unit_bits, carry, rule)
                if codec.fingerprint.startswith(fingerprint):
                    self._live[key] = codec
                    break
            else:
                want = self._live_codec(unit_bits, False, RULES[0]).fingerprint
                raise mismatch(where, unit_bits, fingerprint, want)
        return self._live[key]

    def _live_codec(self, unit_bits: int, carry: bool, rule: str) -> Codec:
        """A codec in which M1 runs."""
        if unit_bits == AC_UNIT_BITS:
            return ArithmeticCodec(self.network, rule)
        return WindowCodec(self.network, unit_bits, carry, rule)
