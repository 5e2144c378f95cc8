"""Measures the loss of M1s on held-out texts, in bits/byte of their integers.

    python examples/benchmarks/m1_loss.py valid.jsonl.zst broad-valid.jsonl.zst -m default english

A text is measured in 512 evenly spaced runs of 2,048 bytes.
"""

import argparse
from pathlib import Path

import numpy as np
import peers

from eqinfo.formats.model_folder import Model
from eqinfo.m1.corpus import Text
from eqinfo.m1.measure import run_bits

N_RUNS = 512  # evenly spaced in a text


def read(path: Path) -> Text:
    """A text in memory, with the ends of its documents that are not empty."""
    documents = list(filter(None, peers.read_documents(path)))
    return Text(np.frombuffer(b"".join(documents), np.uint8), np.cumsum([*map(len, documents)]))


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
