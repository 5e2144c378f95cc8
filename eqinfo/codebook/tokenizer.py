"""The codebook as a tokeniser for Python programs: text to an array of ids and back.

The ids are those of `eqinfo compress --tokens`, which closes each document with id 0; `encode` does not. Both
cut frames of 1 MiB, `encode` from the start of each text, `compress` from the start of the file.
"""

from collections.abc import Iterable
from operator import index
from os import PathLike
from pathlib import Path

import numpy as np
import numpy.typing as npt

from eqinfo.codebook import parse
from eqinfo.codebook.codebook import Codebook
from eqinfo.codebook.hugging_face import tokenizer_files
from eqinfo.errors import InputError
from eqinfo.system.arrays import Ids
from eqinfo.system.atomic_files import replacing
from eqinfo.system.threads import n_cores, ordered_map
from eqinfo.text.frames import FRAME_BYTES

Text = bytes | bytearray | memoryview | str


class Tokenizer:
    """Encodes text as ids and decodes ids; safe to use in threads, and it can be pickled.

    >>> codebook = Codebook(sorted({b"", b"ab", b"abc"} | {bytes([b]) for b in range(256)}), 9)
    >>> Tokenizer(codebook).encode("abcab")
    array([100,  99], dtype=uint16)

    Attributes:
        codebook: the windows; an id is the index of its window in `codebook.windows`.
        end_of_text: the id that ends a document; it decodes to no bytes.
    """

    end_of_text = 0

    def __init__(self, codebook: Codebook) -> None:
        self.codebook = codebook
        self._dtype = np.dtype(np.uint16 if codebook.window_bits <= 16 else np.uint32)

    @property
    def vocab_size(self) -> int:
        """2**window_bits; every id is below it."""
        return self.codebook.vocab_size

    def __repr__(self) -> str:
        codebook = self.codebook
        return f"<Tokenizer: {codebook.window_bits} bits, fingerprint {codebook.fingerprint.hex()[:16]}>"

    def encode(self, text: Text) -> Ids:
        """The ids of a text of any size, (n,), uint16 for windows of up to 16 bits, else uint32.

        Args:
            text: bytes of any values, or a `str`, which is encoded as UTF-8.

        Raises:
            InputError: it is neither.
        """
        if isinstance(text, str):
            text = text.encode("utf-8", "surrogatepass")  # as texts of JSONL: lone surrogates are kept
        elif isinstance(text, memoryview):
            text = text if text.c_contiguous else text.tobytes()
        elif not isinstance(text, bytes | bytearray):
            advice = " For several texts call encode_batch." if isinstance(text, Iterable) else ""
            is_bytes = hasattr(text, "tobytes") and getattr(text, "itemsize", 0) == 1
            advice = " Give text.tobytes()." if is_bytes else advice
            raise InputError(f"text: found {type(text).__name__}, want bytes or str.{advice}")
        view = np.frombuffer(text, np.uint8)
        view.flags.writeable = False  # numba compiles once more for arrays that may be written to
        frames = (view[start : start + FRAME_BYTES] for start in range(0, view.size, FRAME_BYTES))
        ids = [parse.encode(self.codebook, frame).astype(self._dtype) for frame in frames]
        return np.concatenate(ids) if ids else np.empty(0, self._dtype)

    def encode_batch(self, texts: Iterable[Text], threads: int | None = None) -> list[Ids]:
        """The ids of each text.

        Args:
            texts: each as `encode` takes it.
            threads: how many texts to encode at a time, at least 1; None is one for each core. The ids do
                not depend on it.

        Raises:
            InputError: a text is neither bytes nor str, or `texts` is not several.
        """
        if isinstance(texts, bytes | bytearray | memoryview | str) or not isinstance(texts, Iterable):
            raise InputError(f"texts: found {type(texts).__name__}, want several. For one text call encode.")
        try:
            is_number = threads is None or index(threads) >= 1
        except TypeError:
            is_number = False
        if not is_number:
            raise InputError(f"threads: found {threads!r}, want a whole number of at least 1.")
        return list(ordered_map(self.encode, texts, threads or n_cores()))

    def save_tokenizer(self, folder: str | PathLike[str]) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json` for Hugging Face; see `hugging_face`.

        `transformers.AutoTokenizer.from_pretrained(folder)` then gives the same ids for any text of up to
        1 MiB; longer ones `encode` cuts in frames.

        Args:
            folder: made if missing; other files in it stay.

        Raises:
            InputError: the codebook is for the longest match, or there is a file in the folder's place.
            OSError: the files cannot be written.
        """
        files = tokenizer_files(self.codebook)
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise InputError(f"{error.filename}: not a folder. Name another.") from None
        for name, data in files.items():
            with replacing(Path(folder, name), force=True) as sink:
                sink.write(data)

    def decode(self, ids: npt.ArrayLike) -> bytes:
        """The bytes that ids stand for; id 0 adds none.

        Args:
            ids: one dimension of integers: a list, a numpy array, or a tensor on the CPU.

        Raises:
            InputError: ids are out of range, of another type or of more dimensions.
        """
        try:
            array = np.asarray(ids)
        except ValueError:
            raise InputError("ids: found lists of several lengths, want one list of integers.") from None
        n = len(self.codebook.windows)
        if array.size and array.dtype.kind not in "iu":
            for position, id in enumerate(ids if isinstance(ids, list | tuple) else ()):
                if isinstance(id, int) and not 0 <= id < n:  # over 64 bits: numpy makes no integers of them
                    raise InputError(f"ids: found id {id} at position {position}; want 0 to {n - 1}.")
            raise InputError(
                f"ids: found values of type {array.dtype.name}, want integers from 0 to {n - 1}."
            )
        if array.ndim != 1:
            advice = "Decode one row at a time." if array.ndim else "Give a list of ids."
            raise InputError(f"ids: found {array.ndim} dimensions, want 1. {advice}")
        wrong = np.flatnonzero((array < 0) | (array >= n))
        if wrong.size:
            raise InputError(f"ids: found id {array[wrong[0]]} at position {wrong[0]}; want 0 to {n - 1}.")
        array = array.astype(self._dtype)
        array.flags.writeable = False
        return parse.decode(self.codebook, array)
