"""What a file is: a token file, by what its sidecar says, or an .eqi stream, by its name or first bytes.

Any file may have a JSON file of its own beside it, `shard.txt` and `shard.txt.json`, so a name says little.
"""

import re
from contextlib import suppress
from pathlib import Path

from eqinfo.errors import FormatError
from eqinfo.formats import eqi, foreign_ids
from eqinfo.formats.token_file import FORMAT, TOKENS_SUFFIX, sidecar_path

SIDECAR_SUFFIX = sidecar_path(Path("x")).suffix
SIDECAR_HEAD_BYTES = 1 << 20  # only those of live windows are larger; they begin with what they are
OURS = re.compile(rf'"format":\s*"{FORMAT}"'.encode())


def is_token_file(path: Path) -> bool:
    """Whether a file has the sidecar of a token file, which may be damaged.

    Beside `.bin` any file is one, unless the `.bin` begins as a stream.
    """
    return _has_ids(path, path.suffix == TOKENS_SUFFIX)


def has_ids(path: Path) -> bool:
    """Whether a file's sidecar says that it holds token ids, of eqinfo or of another program."""
    return _has_ids(path, False)


def _has_ids(path: Path, otherwise: bool) -> bool:
    """What a file's sidecar says; `otherwise` is the answer if it says nothing, or cannot be read."""
    where = sidecar_path(path)
    try:
        if not where.is_file():
            return False
        if OURS.search(facts := _head(where)):
            return True
        if path.is_file() and _has_magic(path):  # a pipe can be read only once
            return False
        return otherwise or foreign_ids.facts_of(facts, str(where)) is not None
    except FormatError:  # it says what those of other programs say, but wrongly
        return True
    except OSError:  # whoever opens it will say so
        return otherwise


def is_ours(path: Path) -> bool:
    """Whether a file is one that eqinfo writes, by what is in it or in its sidecar: names prove nothing."""
    with suppress(OSError):
        if path.suffix == eqi.STREAM_SUFFIX:
            return _has_magic(path)
        return is_our_sidecar(path) or is_our_sidecar(sidecar_path(path))
    return False


def is_our_sidecar(path: Path) -> bool:
    """Whether a file says that it is a sidecar that `compress --tokens` wrote; an unreadable one does not."""
    with suppress(OSError):
        return path.suffix == SIDECAR_SUFFIX and OURS.search(_head(path)) is not None
    return False


def is_stream(path: Path) -> bool:
    """Whether a file is an .eqi stream."""
    return path.suffix == eqi.STREAM_SUFFIX or (
        path.is_file() and not is_token_file(path) and _has_magic(path)
    )


def _head(path: Path) -> bytes:
    """The beginning of a sidecar."""
    with path.open("rb") as file:
        return file.read(SIDECAR_HEAD_BYTES)


def _has_magic(path: Path) -> bool:
    """Whether a file begins as an .eqi stream."""
    with path.open("rb") as file:
        return file.read(len(eqi.MAGIC)) == eqi.MAGIC
