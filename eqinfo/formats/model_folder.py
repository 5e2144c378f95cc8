"""A model as `-m` names it, and the codecs it can make.

A model is a folder made by train-m1, a codebook file, or a model in the package by its name. A folder has
`codebook.eqcb`, perhaps codebooks of other widths in `codebook-BITS.eqcb`, and M1 in `m1.eqm1`. Files made by
any model of the package are read without a name: their fingerprints tell which one.

What this module does not do: write model folders (`m1`), or hold formats (`codebook.codebook`,
`coder.integer_m1`).
"""

from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from itertools import product
from pathlib import Path

from eqinfo.codebook.codebook import MAX_WINDOW_BITS, MIN_WINDOW_BITS, Codebook, read_fingerprint
from eqinfo.coder import integer_m1, live_windows
from eqinfo.coder.integer_m1 import Network
from eqinfo.errors import InputError, MismatchError, OptionError, damaged
from eqinfo.formats.codec import AC_UNIT_BITS, ArithmeticCodec, CodebookCodec, Codec, WindowCodec, mismatch
from eqinfo.formats.lane_codec import LaneCodec, can_batch
from eqinfo.system import gpu

CODEBOOK_NAME, NETWORK_NAME = "codebook.eqcb", "m1.eqm1"
PACKAGED = Path(__file__).parents[1] / "models"
DEFAULT, ENGLISH = "default", "english"  # the names of the models in the package
AC = "ac"
LIVE_UNITS = {str(bits): bits for bits in live_windows.WINDOW_BITS} | {AC: AC_UNIT_BITS}  # by --window-bits
RULES = ("live", "published")


def model_path(model: Path | None) -> Path:
    """Path of a model: of the default one for None, of one in the package for its name, else as given.

    >>> model_path(Path("english")).parent.name, model_path(Path("./runs/english")).parent.name
    ('models', 'runs')

    A file or folder of that name comes first.
    """
    if model is None:
        return PACKAGED / DEFAULT
    return PACKAGED / model if str(model) in (DEFAULT, ENGLISH) and not model.exists() else model


def model_name(path: Path) -> str:
    """The name of a model for people: the inverse of `model_path`."""
    return path.name if path.parent == PACKAGED else str(path)


def codebook_name(window_bits: int) -> str:
    """Name of the file of a further codebook in a model folder."""
    return f"codebook-{window_bits}.eqcb"


def codebook_path(model: Path | None) -> Path:
    """Path of the codebook file of a model.

    Args:
        model: a model folder, a codebook file, or a model in the package.

    Raises:
        InputError: there is none.
    """
    path = model_path(model)
    if path.is_dir():
        path /= CODEBOOK_NAME
    if not path.is_file() and not path.is_fifo():
        raise InputError(
            f"{path}: no such codebook. Give a folder that train-m1 has completed, or an .eqcb file."
        )
    return path


class Model:
    """Finds codecs for compress and decompress; reads the model's files when they are first needed.

    Args:
        path: a model folder, a codebook file, the name of a model in the package; None is the default one.
        device: of `gpu.DEVICES`, for the codecs that can use one.
    """

    def __init__(self, path: Path | None, device: str = "cpu") -> None:
        # a machine without a driver need not gather frames, or start torch, to find that it has no GPU
        self._device = "cpu" if device == "auto" and not gpu.has_driver() else device
        self.path = model_path(path)
        self._network_path = self.path / NETWORK_NAME
        # files that other models of the package made are read too, if the user named no model
        self._others = [Model(PACKAGED / ENGLISH, device)] if path is None else []
        self._codebooks: dict[Path, Codebook] = {}
        self._live: dict[tuple[int, bytes], Codec] = {}  # by unit_bits and fingerprint; hashing M1 is slow

    @property
    def codebook(self) -> Codebook:
        """The first codebook.

        Raises:
            InputError: there is no such file.
            FormatError: it is damaged.
        """
        return self._load(codebook_path(self.path))

    def _load(self, path: Path) -> Codebook:
        """A codebook of the model, read once."""
        if path not in self._codebooks:
            self._codebooks[path] = Codebook.load(path)
        return self._codebooks[path]

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

    def further_widths(self) -> list[int]:
        """Window sizes of the further codebooks in the folder, in bits, ascending."""
        widths = range(MIN_WINDOW_BITS, MAX_WINDOW_BITS + 1)
        return [bits for bits in widths if (self.path / codebook_name(bits)).is_file()]

    def codebook_of(self, window_bits: int | None) -> Codebook:
        """The codebook of that window size; None is the size of the first one.

        Raises:
            InputError: the model has none.
            FormatError: it is damaged.
        """
        if window_bits in self.further_widths():
            return self._load(self.path / codebook_name(window_bits))
        if window_bits not in (None, self.codebook.window_bits):
            raise self._no_such_width(window_bits)
        return self.codebook

    def _no_such_width(self, window_bits: object, *others: object) -> OptionError:
        """The refusal of a width; the codebooks have the widths wanted, and `others` are wanted too."""
        first = f"{self.codebook.window_bits} (the codebook's)"
        *most, last = first, *map(str, (*self.further_widths(), *others))
        wanted = f"{', '.join(most)} or {last}" if most else last
        return OptionError(f"--window-bits: found {window_bits}, want {wanted}.")

    def codec(self, window_bits: str | None, carry: bool, rule: str) -> Codec:
        """The codec that the options of compress name.

        Args:
            window_bits: a number, or `ac` for no windows; None is the first codebook's number.
            carry: whether M1 reads on across live windows.
            rule: of RULES, for live windows and arithmetic coding.

        Raises:
            InputError: there is no such codec.
        """
        if rule not in RULES:
            raise OptionError(f"--rule: unknown; found {rule}, want one of {', '.join(RULES)}.")
        if window_bits == AC and carry:
            raise OptionError("--carry: for live windows only; without windows M1 always reads on.")
        if window_bits in LIVE_UNITS:
            return self._live_codec(LIVE_UNITS[window_bits], carry, rule)
        further = {str(bits) for bits in self.further_widths()}  # for these the first one is not read
        if window_bits not in {None, *further} and window_bits != str(self.codebook.window_bits):
            raise self._no_such_width(window_bits, *live_windows.WINDOW_BITS, AC)
        codebook = self.codebook_of(None if window_bits is None else int(window_bits))
        if carry or rule != RULES[0]:
            raise OptionError(
                "--carry: for live windows only. --rule: for those and ac; the windows of the published rule "
                "in a model folder are -m FOLDER/published.eqcb."
            )
        return CodebookCodec(codebook)

    def find_codec(self, unit_bits: int, fingerprint: bytes, where: str) -> Codec:
        """The codec of this model that a file was made with; see `codec.Finder`."""
        if not MIN_WINDOW_BITS <= unit_bits <= MAX_WINDOW_BITS and unit_bits not in LIVE_UNITS.values():
            raise damaged(where, f"found units of {unit_bits} bits")
        try:
            return self._find_own(unit_bits, fingerprint, where)
        except MismatchError:
            for other in self._others:
                with suppress(MismatchError):
                    return other.find_codec(unit_bits, fingerprint, where)
            raise

    def _find_own(self, unit_bits: int, fingerprint: bytes, where: str) -> Codec:
        """The codec that a file was made with, if this model has it, else a MismatchError."""
        if unit_bits <= MAX_WINDOW_BITS and unit_bits != AC_UNIT_BITS:
            paths = sorted(self.path.glob("*.eqcb"))  # none if the model is a file
            found = next((path for path in paths if read_fingerprint(path).startswith(fingerprint)), None)
            codebook = self._load(found) if found else self.codebook
            if not codebook.fingerprint.startswith(fingerprint):
                widths = (self.codebook.window_bits, *self.further_widths())
                has = self.codebook_of(unit_bits).fingerprint if unit_bits in widths else None
                raise mismatch(where, unit_bits, fingerprint, has, model_name(self.path))
            return CodebookCodec(codebook).find_codec(unit_bits, fingerprint, where)
        if not self._network_path.is_file():
            raise mismatch(where, unit_bits, fingerprint, None, model_name(self.path))
        key = unit_bits, fingerprint
        if key not in self._live:
            for codec in self._live_codecs(unit_bits):
                if codec.fingerprint.startswith(fingerprint):
                    self._live[key] = codec
                    break
            else:
                want = self._live_codec(unit_bits, False, RULES[0]).fingerprint
                raise mismatch(where, unit_bits, fingerprint, want, model_name(self.path))
        return self._live[key]

    def _live_codec(self, unit_bits: int, carry: bool, rule: str) -> Codec:
        """A codec in which M1 runs."""
        is_ac = unit_bits == AC_UNIT_BITS
        codec = (
            ArithmeticCodec(self.network, rule)
            if is_ac
            else WindowCodec(self.network, unit_bits, carry, rule)
        )
        return codec if self._device == "cpu" or not can_batch(codec) else LaneCodec(codec, self._device)

    def _live_codecs(self, unit_bits: int) -> Iterator[Codec]:
        """All codecs with units of that size in which M1 runs, also those that compress no longer takes."""
        for carry, rule in product((False, True), RULES):
            if not carry or unit_bits != AC_UNIT_BITS:
                yield self._live_codec(unit_bits, carry, rule)
        if unit_bits == AC_UNIT_BITS:
            yield ArithmeticCodec(self.network, version=1)
