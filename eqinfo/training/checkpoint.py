"""Files of tensors: atomic `torch.save` with a checksum, `torch.load` without running code from the file."""

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from eqinfo.errors import MismatchError
from eqinfo.system.atomic_files import replacing

_DIGEST_BYTES = 32


def save_tensors(state: dict[str, Any], path: Path) -> None:
    """Write tensors atomically, as a zip of `torch.save` whose comment is the SHA-256 of all bytes before it.

    `torch.load` reads the file too, but only `load_tensors` checks the checksum.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(-2, io.SEEK_END)  # a zip ends in the length of its comment
    buffer.write(_DIGEST_BYTES.to_bytes(2, "little"))
    archive = buffer.getbuffer()
    with replacing(path, force=True) as sink:
        sink.write(archive)
        sink.write(hashlib.sha256(archive).digest())


def load_tensors(path: Path, device: torch.device) -> dict[str, Any]:
    """The tensors in a file of `save_tensors`; no code in it is run.

    Raises:
        MismatchError: the file is damaged or holds something else.
        OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        if not _is_whole(file):
            raise MismatchError(f"{path}: damaged, or not a file of tensors (checksum does not match).")
        try:
            _refuse_packed(file)
            file.seek(0)
            state = torch.load(file, map_location=device, weights_only=True)
        except Exception as error:  # torch.load raises many kinds
            raise MismatchError(f"{path}: not a file of tensors ({first_line(error)}).") from None
    if not isinstance(state, dict):
        raise MismatchError(f"{path}: not a file of tensors.")
    return state


def _refuse_packed(file: BinaryIO) -> None:
    """Raises ValueError if a zip unpacks to more than its size: torch would unpack it into memory."""
    with zipfile.ZipFile(file) as archive:
        claimed = sum(part.file_size for part in archive.infolist())
    if claimed > file.seek(0, io.SEEK_END):
        raise ValueError(f"its parts claim {claimed} bytes")


def _is_whole(file: BinaryIO) -> bool:
    """Whether a file ends in the SHA-256 of all bytes before it."""
    rest = file.seek(0, io.SEEK_END) - _DIGEST_BYTES
    file.seek(0)
    digest = hashlib.sha256()
    while rest > 0 and (chunk := file.read(min(rest, 1 << 20))):
        digest.update(chunk)
        rest -= len(chunk)
    return file.read() == digest.digest()


def first_line(error: Exception) -> str:
    """The first line of an error message, without its final punctuation."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")
