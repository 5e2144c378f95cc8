"""Measures the loss of an M1 on held-out texts, in bits/byte of its integers, in runs of 2,048 bytes.

python examples/benchmarks/m1_loss.py valid.jsonl.zst broad-valid.jsonl.zst -m default english

A text is measured in 512 evenly spaced runs of 2,048 bytes.
"""

import argparse
from pathlib import Path

import numpy as np

from eqinfo.formats.model_folder import Model
from eqinfo.m1.corpus import Text
from eqinfo.m1.measure import run_bits
from eqinfo.text.decompression import open_text
from eqinfo.text.documents import read_pieces

N_RUNS = 512  # evenly spaced in a text


def read(path: Path) -> Text:
    """A text in memory, with its documents' ends."""
    data, ends = bytearray(), list[int]()
    with open_text(path) as source:
        for piece, ends_document in read_pieces(source, str(path), "text"):
            data += piece
            ends += [len(data)] * ends_document
    return Text(np.frombuffer(data, np.uint8), np.unique(np.array(ends, np.int64)))


def main() -> None:
    """Print a line for each text and model."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("texts", type=Path, nargs="+")
    parser.add_argument("-m", "--models", type=Path, nargs="+", required=True)
    arguments = parser.parse_args()
    networks = {model: Model(model).network for model in arguments.models}
    for path in arguments.texts:
        text = read(path)
        for model, network in networks.items():
            print(f"{path.name}, {model}: {run_bits(network, text, N_RUNS):.3f} bits/byte", flush=True)


if __name__ == "__main__":
    main()
