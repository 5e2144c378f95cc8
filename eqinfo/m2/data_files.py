"""Opens token files as training data: ours, and those of other programs, with a sidecar of two numbers.

What this module does not do: read tokens in an order (`batches`).
"""

from pathlib import Path

import numpy as np

from eqinfo.errors import FormatError, argument
from eqinfo.formats import foreign_ids
from eqinfo.formats.id_file import IdFile, token_type
from eqinfo.formats.token_file import Sidecar, sidecar_bytes, sidecar_path
from eqinfo.system.arrays import Ids
from eqinfo.text import kinds
from eqinfo.text.frames import read_fully

FEW_IDS = 64  # too few to say that they look like those of another width


def check_width(ids: Ids, vocab_size: int, path: Path) -> None:
    """Raises FormatError if another program's ids look as if they had been written with another width.

    Args:
        ids: the first ones.
        vocab_size: as their sidecar says.
        path: of the file.
    """
    read, looks = ids.dtype.itemsize * 8, 0
    if ids.size >= FEW_IDS and ids[::2].any() and not ids[1::2].any():
        looks = 2 * read  # the upper half of each id is zero
    elif read == 32 and np.count_nonzero(ids >= vocab_size) > ids.size // 2:
        looks = 16  # two ids in one
    if looks:
        raise _wrong_width(path, looks)


def _wrong_width(path: Path, looks: int) -> FormatError:
    """The error for ids that look like integers of another width, in bits."""
    return FormatError(
        f"{path}: looks like uint{looks}; a vocabulary above 65,536 is read as uint32, others as uint16. "
        "Check vocab_size in its sidecar, or write the ids so."
    )


def open_tokens(path: Path) -> tuple[Sidecar, IdFile]:
    """A token file's sidecar, and its ids.

    Raises:
        FormatError: the file does not fit its sidecar, or has none.
        OSError: it cannot be read.
    """
    where = sidecar_path(path)
    if not path.exists():
        raise FormatError(f"{path}: no such file.")
    with path.open("rb") as file:
        head = read_fully(file, kinds.HEAD_BYTES)
    if not where.is_file():
        raise _no_token_file(path, head)
    data = sidecar_bytes(where)
    if (facts := foreign_ids.facts_of(data, str(where))) is None:
        sidecar = Sidecar.from_json(data, str(where))
        sidecar.check_size(path.stat().st_size, str(path))
        return sidecar, IdFile(path, token_type(sidecar.window_bits))
    vocab_size, original_bytes, end_of_text = facts
    bits = (vocab_size - 1).bit_length()
    llm_c = foreign_ids.llm_c_type(head)
    ids = IdFile(path, np.dtype(llm_c or token_type(bits)), foreign_ids.LLM_C_HEADER_BYTES if llm_c else 0)
    if ids.spare_bytes:
        if llm_c or ids.spare_bytes % 2:
            raise FormatError(f"{path}: truncated; it ends inside {'its header or ' if llm_c else ''}an id.")
        raise _wrong_width(path, 16)
    if llm_c:
        foreign_ids.check_llm_c(head, ids.size, str(path))
    return Sidecar(vocab_size, bits, "", ids.size, original_bytes, end_of_text=end_of_text), ids


def _no_token_file(path: Path, head: bytes) -> FormatError:
    """The error for a file without a sidecar.

    Args:
        path: of the file.
        head: its first bytes.
    """
    make = "eqinfo compress --tokens"
    kind = kinds.kind_of(head)
    if kind in (kinds.GZIP, kinds.ZSTD) or (kind is None and not kinds.is_binary(head)):
        what = kind.what if kind else "text"
        return FormatError(f"{path}: {what}, not a token file. Make one of it: {make} {argument(path)}")
    if message := kinds.refusal(head, str(path), "a token file", f" | {make} -o tokens.bin"):
        return FormatError(message)
    return FormatError(
        f"{sidecar_path(path)}: no such file. A token file needs its sidecar: {make} writes both; "
        'beside the file of another program, write {"vocab_size": N, "original_bytes": N}.'
    )
