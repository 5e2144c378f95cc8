"""Measures how much a small M2 learns from windows of several widths, at equal numbers of tokens.

    python examples/benchmarks/learnability.py train.jsonl.zst valid.jsonl.zst --work DIR -o results.md

As in figure 5 of the paper, all tokens have 8 bits, so all models have the same shape and cost; only the
contents of the tokens differ. The section becomes the last one of the page and replaces an earlier one.
"""

import argparse
import json
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pages
import peers

HEADING = "## Learnability of windows by their width\n"
TOKENS_BYTES = 5  # bytes of training text per token: enough for one epoch of the most compact code
VALID_BYTES = 1 << 18
# a block of 240 tokens is a whole number of windows of any width, so blocks begin at windows
TRAINING = ("--preset", "nano", "--block-size", "240", "--batch-tokens", "7680")


class Coding(NamedTuple):
    """A row: its name, and the options of `eqinfo compress`; None for plain bytes."""

    name: str
    options: tuple[str, ...] | None


CODINGS = [
    Coding("bytes", None),
    *(Coding(f"{bits} bits", ("--window-bits", bits)) for bits in ("16", "24", "32", "64")),
    Coding("ac, M1 alone", ("--window-bits", "ac", "--rule", "published")),
]


def eqinfo(*words: str | Path) -> str:
    """The stdout of an eqinfo command that runs in one thread."""
    command = [sys.executable, "-m", "eqinfo", *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def sample(path: Path, n_bytes: int, target: Path) -> Path:
    """Write an even sample of a text as JSONL, unless the file exists; its path."""
    if not target.exists():
        documents = peers.sample(path, n_bytes)
        lines = (json.dumps({"text": document.decode(errors="replace")}) for document in documents)
        target.write_text("".join(f"{line}\n" for line in lines))
    return target


def tokens(text: Path, coding: Coding, folder: Path) -> Path:
    """The path of the token file of a text, which is made if missing."""
    target = folder / f"{text.stem}.bin"
    if target.exists():
        return target
    if coding.options is not None:
        eqinfo("compress", "-q", "--tokens", *coding.options, text, "-o", target)
        return target
    data = b"".join(peers.read_documents(text))
    np.frombuffer(data, np.uint8).astype("<u2").tofile(target)
    facts = {"vocab_size": 256, "original_bytes": len(data)}
    Path(f"{target}.json").write_text(json.dumps(facts))
    return target


def measured(coding: Coding, train: Path, valid: Path, work: Path, n_tokens: int) -> list[str]:
    """Train and measure a coding; its table row."""
    folder = work / coding.name.replace(" ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    of_train, of_valid = (tokens(text, coding, folder) for text in (train, valid))
    run = folder / "run"
    if not (run / "m2.pt").exists():
        bits = ("--token-bits", "8") if coding.options else ()
        resume = ("--resume",) if run.exists() else (of_train, *bits, *TRAINING, "--tokens", str(n_tokens))
        eqinfo("train-m2", "-q", "-o", run, *resume)
    row = json.loads(eqinfo("eval", run, "--text", of_valid, "--json"))["m2"][0]
    print(coding.name, row["bits_per_byte"], file=sys.stderr, flush=True)
    # the loss of an untrained, uniform model is 8 bits per token
    uniform = 8 * row["tokens_per_byte"]
    return [
        coding.name,
        f"{1 / row['tokens_per_byte']:.2f}",
        f"{row['bits_per_byte']:.3f}",
        f"{uniform:.3f}",
        f"{1 - row['bits_per_byte'] / uniform:.1%}",
        f"{row['flops_per_byte'] / 1e6:.2f}",
    ]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("train", type=Path, help="JSONL")
    parser.add_argument("valid", type=Path, help="JSONL")
    parser.add_argument("--work", type=Path, required=True, help="folder for token files and runs")
    parser.add_argument("--tokens", type=int, default=2_000_000, help="training tokens of every model")
    parser.add_argument("-j", "--jobs", type=int, default=2, help="rows to work on in parallel")
    parser.add_argument("-o", "--output", type=Path, help="page to add the section to")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    train = sample(args.train, TOKENS_BYTES * args.tokens, args.work / "train.jsonl")
    valid = sample(args.valid, VALID_BYTES, args.work / "valid.jsonl")
    with ThreadPoolExecutor(args.jobs) as pool:
        rows = list(pool.map(lambda c: measured(c, train, valid, args.work, args.tokens), CODINGS))
    head = ["", "bytes/token", "M2, bits/byte", "untrained", "learnt", "MFLOPs/byte"]
    size = sum(map(len, peers.read_documents(valid)))
    parts = [
        HEADING,
        pages.paragraph(
            f"How much M2 learns from windows of each width: M2 nano was trained on {args.tokens:,} tokens "
            f"of 8 bits each, with the same settings for every row, and measured on {size:,} bytes of "
            "held-out text. *Untrained* is the loss of a uniform M2, which is the size of the code itself; "
            "*learnt* is the share of it that training removes. Windows of 16 bits come from the codebook, "
            "wider ones are live windows, and `ac` is plain arithmetic coding. Wide windows look random to "
            "M2."
        ),
        pages.provenance(sys.argv, ("torch",)),
        pages.table(head, rows),
    ]
    before = args.output.read_text().partition(HEADING)[0].rstrip() if args.output else ""
    assert all(math.isfinite(float(row[2])) for row in rows)
    pages.publish([f"{before}\n", *parts] if before else parts, args.output)


if __name__ == "__main__":
    main()
