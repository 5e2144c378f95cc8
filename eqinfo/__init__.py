"""Equal-info windows for Python: a tokeniser of text, and lossless compression of bytes.

>>> import eqinfo
>>> tokenizer = eqinfo.load()
>>> tokenizer.encode("With malice toward none").tolist()
[44629, 18020, 25967, 19039]
>>> tokenizer.decode([44629, 18020])
b'With malice'
>>> eqinfo.decompress(eqinfo.compress(b"any bytes"))
b'any bytes'

Bad data, models and values raise a subclass of `EqinfoError`; files that cannot be read, an OSError.
"""

from contextlib import contextmanager
from functools import cache
from os import PathLike
from typing import TYPE_CHECKING

from eqinfo.errors import EqinfoError, InputError, OptionError

if TYPE_CHECKING:  # importing eqinfo must stay cheap: no numpy, numba or torch until a function is called
    from collections.abc import Iterator
    from pathlib import Path

    from eqinfo.codebook.tokenizer import Tokenizer
    from eqinfo.formats.model_folder import Model

__all__ = ["EqinfoError", "compress", "decompress", "load"]
__version__ = "0.1.0"


def load(model: str | PathLike[str] | None = None, window_bits: int | None = None) -> "Tokenizer":
    """A tokeniser over the windows of a codebook; it may be shared by threads and pickled.

    >>> tokenizer = load()
    >>> tokenizer.vocab_size
    65536
    >>> [tokenizer.decode([id]) for id in tokenizer.encode("With malice toward none")]
    [b'With', b' malice', b' toward', b' none']

    Args:
        model: a folder made by `train-m1`, a codebook file, or "english", a second model in the package; None
            is its first, for all text.
        window_bits: which codebook of the model; the packaged one has 12, 14, 16 and 18 bits. None is its
            default, 16 bits there.

    Raises:
        InputError: there is no such codebook.
        FormatError: the file is damaged.
    """
    from operator import index

    from eqinfo.codebook.tokenizer import Tokenizer

    try:
        bits = None if window_bits is None else index(window_bits)
    except TypeError:
        raise InputError(f"window_bits: found {window_bits!r}, want a whole number such as 16.") from None
    with _naming_arguments():
        return Tokenizer(_model(model).codebook_of(bits))


def compress(
    data: bytes | bytearray | memoryview,
    window_bits: int | str | None = None,
    model: str | PathLike[str] | None = None,
) -> bytes:
    """An `.eqi` stream of any bytes, as `eqinfo compress` writes it.

    >>> text = b"With malice toward none; with charity for all"
    >>> len(text), len(compress(text)), len(compress(text, window_bits="ac"))
    (45, 43, 42)
    >>> decompress(compress(text)) == text
    True

    Args:
        data: bytes, bytearray or memoryview.
        window_bits: that of a codebook, as in `load` (the fastest); 24, 32, ... 128 for windows that M1 codes
            while it runs; "ac" for an arithmetic code (the smallest stream).
        model: as in `load`; all but the codebook's windows need a folder.

    Raises:
        InputError: no such model or size of windows, or `data` is not bytes.
        FormatError: a file of the model is damaged.
    """
    from io import BytesIO

    from eqinfo.formats import eqi
    from eqinfo.text.frames import frames_of_bytes

    source = BytesIO(_bytes_only(data))
    bits = None if window_bits is None else str(window_bits)
    with _naming_arguments():
        codec = _model(model).codec(bits, carry=False, rule="live")
    sink = BytesIO()
    eqi.compress(frames_of_bytes(source, codec.frame_bytes), sink, codec)
    return sink.getvalue()


def decompress(data: bytes | bytearray | memoryview, model: str | PathLike[str] | None = None) -> bytes:
    """The text of one or more `.eqi` streams; every checksum is checked.

    Args:
        data: what `compress` returned, or the contents of an `.eqi` file.
        model: the model that the streams were made with, as in `load`.

    Raises:
        FormatError: the data are damaged, incomplete or no stream.
        MismatchError: they were made with another model.
    """
    from io import BytesIO

    from eqinfo.formats import eqi

    source = BytesIO(_bytes_only(data))
    return b"".join(frame.text for frame in eqi.read_frames(source, _model(model), "data"))


@contextmanager
def _naming_arguments() -> "Iterator[None]":
    """In the block, an error about --window-bits, as the shell has it, names the argument instead."""
    try:
        yield
    except OptionError as error:
        raise InputError(str(error).replace("--window-bits", "window_bits", 1)) from None


def _bytes_only(data: object) -> bytes | bytearray | memoryview:
    """The data, if they are bytes; `str` has no one encoding, and arrays have other items than bytes."""
    if not isinstance(data, bytes | bytearray | memoryview):
        raise InputError(f"data: found {type(data).__name__}, want bytes. Encode text first: text.encode().")
    if isinstance(data, memoryview) and not data.c_contiguous:
        return data.tobytes()
    return data


def _model(path: str | PathLike[str] | None) -> "Model":
    """The model of that path; those in the package are loaded once a process."""
    from pathlib import Path

    from eqinfo.formats.model_folder import PACKAGED, Model, model_path

    if path is None:
        return _packaged(None)
    where = model_path(Path(path))
    return _packaged(where) if where.parent == PACKAGED else Model(where)


@cache
def _packaged(path: "Path | None") -> "Model":
    """A model in the package."""
    from eqinfo.formats.model_folder import Model

    return Model(path)
