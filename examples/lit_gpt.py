r"""Token files as a data module of LitGPT (https://github.com/Lightning-AI/litgpt), for its own `pretrain`.

LitGPT's own data modules tokenise text themselves, and want a token that begins a document; eqinfo has one
that ends it. This one reads ids. Run beside it, with `pip install litgpt torchmetrics`:

    eqinfo compress --tokens train.txt valid.txt
    python -c 'import eqinfo; eqinfo.load().save_tokenizer("tokenizer")'
    PYTHONPATH=. litgpt pretrain tiny --tokenizer_dir tokenizer --precision 32-true --logger_name csv \
        --model_config '{"name": "tiny", "vocab_size": 65536, "padded_vocab_size": 65536, "block_size": 64,
            "n_layer": 2, "n_head": 2, "n_embd": 32, "intermediate_size": 128}' \
        --data lit_gpt.TokenFiles --data.train_path train.txt.bin --data.valid_path valid.txt.bin \
        --train.global_batch_size 4 --train.micro_batch_size 4 --train.max_tokens 5120 \
        --train.lr_warmup_steps 2
    litgpt generate out/pretrain/final --prompt "With malice" --max_new_tokens 10

Run so with litgpt 0.5.13 on a CPU; the model is tiny, to show that the files fit:

    Epoch 1 | iter 20 step 20 | loss train: 11.134, val: n/a | iter time: 2049.08 ms (step) ...
    Final evaluation | val loss: 11.218 | val ppl: 74473.652
    With malice (correctrente Cache advise; I'll ...
"""

import json
from pathlib import Path

import numpy as np
import torch
from litgpt.data import DataModule
from litgpt.tokenizer import Tokenizer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset


class Blocks(Dataset[Tensor]):
    """Blocks of a token file, each with the token after it, int64 of shape (block_size + 1,)."""

    def __init__(self, path: Path, block_size: int) -> None:
        window_bits = json.loads(Path(f"{path}.json").read_text())["window_bits"]
        self.ids = np.memmap(path, "<u2" if window_bits <= 16 else "<u4", mode="r")
        self.block_size = block_size

    def __len__(self) -> int:
        return (self.ids.size - 1) // self.block_size

    def __getitem__(self, index: int) -> Tensor:
        start = index * self.block_size
        return torch.from_numpy(self.ids[start : start + self.block_size + 1].astype(np.int64))


class TokenFiles(DataModule):
    """Token files of `eqinfo compress --tokens` for training and validation."""

    def __init__(self, train_path: Path, valid_path: Path) -> None:
        super().__init__()
        self.train_path, self.valid_path = train_path, valid_path

    def connect(
        self, tokenizer: Tokenizer | None = None, batch_size: int = 1, max_seq_length: int | None = None
    ) -> None:
        """Learn the sizes of batches and blocks, of which `pretrain` tells before it asks for data."""
        self.batch_size, self.block_size = batch_size, max_seq_length or 1024

    def train_dataloader(self) -> DataLoader[Tensor]:
        """Blocks in random order."""
        blocks = Blocks(self.train_path, self.block_size)
        return DataLoader(blocks, self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self) -> DataLoader[Tensor]:
        """Blocks in order."""
        return DataLoader(Blocks(self.valid_path, self.block_size), self.batch_size, drop_last=True)
