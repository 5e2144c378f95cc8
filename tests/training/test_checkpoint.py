import hashlib
import io
import zipfile

import pytest
import torch

from eqinfo.errors import MismatchError
from eqinfo.training.checkpoint import load_tensors, save_tensors

CPU = torch.device("cpu")


def test_a_damaged_file_of_tensors_is_refused(tmp_path):
    path = tmp_path / "a.pt"
    save_tensors({"a": torch.ones(3)}, path)
    whole = path.read_bytes()
    for damaged in (b"", b"noise" * 99, whole[:-30], whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(MismatchError, match="damaged, or not a file of tensors"):
            load_tensors(path, CPU)


def test_flipped_bits_of_a_file_of_tensors_are_refused_which_torch_does_not(tmp_path):
    path = tmp_path / "a.pt"
    save_tensors({"a": torch.ones(3)}, path)
    whole = path.read_bytes()
    assert torch.equal(torch.load(path, weights_only=True)["a"], torch.ones(3))
    for bit in range(0, 8 * len(whole), 13):  # all of them in tests/campaigns/faults.py
        altered = bytearray(whole)
        altered[bit // 8] ^= 1 << bit % 8
        path.write_bytes(altered)
        with pytest.raises(MismatchError, match="checksum"):
            load_tensors(path, CPU)


def test_a_file_of_tensors_that_holds_more_than_its_size_is_refused(tmp_path):
    path, bomb = tmp_path / "a.pt", io.BytesIO()
    save_tensors({"a": torch.zeros(1 << 20)}, path)
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed:
        for part in whole.infolist():
            packed.writestr(part.filename, whole.read(part))
    archive = bomb.getvalue()[:-2] + (32).to_bytes(2, "little")
    path.write_bytes(archive + hashlib.sha256(archive).digest())
    assert torch.load(path, weights_only=True)["a"].numel() == 1 << 20  # torch unpacks it
    with pytest.raises(MismatchError, match=r"not a file of tensors \(its parts claim 4[0-9]+ bytes\)"):
        load_tensors(path, CPU)


def test_a_pickle_is_not_executed(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (exec, ("raise SystemExit(3)",))

    save_tensors({"a": Bomb()}, tmp_path / "a.pt")
    with pytest.raises(MismatchError, match="not a file of tensors"):
        load_tensors(tmp_path / "a.pt", CPU)
