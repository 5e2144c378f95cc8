"""Two PyTorch dataloaders over eqinfo's token ids: one tokenises text as it goes, one reads a `.bin`.

Usage: dataloader.py [TEXT]
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

import eqinfo

BLOCK_SIZE, BATCH_SIZE = 64, 4
Pair = tuple[torch.Tensor, torch.Tensor]


class TokenizedText(IterableDataset[Pair]):
    """Blocks of a text file that is read and tokenised a megabyte at a time, in order.

    Yields:
        Inputs and targets, each int64 of shape (BLOCK_SIZE,); targets are the inputs moved by one.
    """

    def __init__(self, path: Path, block_size: int) -> None:
        self.path, self.block_size = path, block_size
        self.tokenizer = eqinfo.load()

    def __iter__(self) -> Iterator[Pair]:
        left = np.empty(0, np.int64)
        with self.path.open("rb") as file:
            while text := file.read(1 << 20):
                ids = np.concatenate([left, self.tokenizer.encode(text)])
                n_blocks = (ids.size - 1) // self.block_size
                for start in range(0, n_blocks * self.block_size, self.block_size):
                    block = torch.from_numpy(ids[start : start + self.block_size + 1])
                    yield block[:-1], block[1:]
                left = ids[n_blocks * self.block_size :]


class TokenFile(Dataset[Pair]):
    """Blocks of a `.bin` that `eqinfo compress --tokens` made; it is memory-mapped, never read as a whole."""

    def __init__(self, path: Path, block_size: int) -> None:
        window_bits = json.loads(Path(f"{path}.json").read_text())["window_bits"]
        self.ids = np.memmap(path, "<u2" if window_bits <= 16 else "<u4", mode="r")
        self.block_size = block_size

    def __len__(self) -> int:
        return (self.ids.size - 1) // self.block_size

    def __getitem__(self, index: int) -> Pair:
        start = index * self.block_size
        block = torch.from_numpy(self.ids[start : start + self.block_size + 1].astype(np.int64))
        return block[:-1], block[1:]


def main() -> None:
    """Read a text both ways and say what came."""
    here = Path(__file__).parent
    text = Path(sys.argv[1]) if len(sys.argv) > 1 else here / "inaugural.txt"
    tokenizer = eqinfo.load()

    batches = list(DataLoader(TokenizedText(text, BLOCK_SIZE), BATCH_SIZE))
    inputs, targets = batches[0]
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    print(
        f"text: {len(batches)} batches of {tuple(inputs.shape)}; it starts {tokenizer.decode(inputs[0])[:40]}"
    )

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text.bin"
        command = [sys.executable, "-m", "eqinfo", "compress", "--tokens", text, "-o", path]
        subprocess.run(command, check=True)
        loader = DataLoader(TokenFile(path, BLOCK_SIZE), BATCH_SIZE, shuffle=True)
        print(f".bin: {len(loader)} batches of {tuple(next(iter(loader))[0].shape)}, in random order")


if __name__ == "__main__":
    main()
