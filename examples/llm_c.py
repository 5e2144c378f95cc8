"""Writes a token file for llm.c (https://github.com/karpathy/llm.c): a header of 256 int32, then the ids.

Usage: llm_c.py IN.bin OUT.bin

IN.bin is what `eqinfo compress --tokens` wrote. llm.c's own models have 50,257 ids, so use at most 14 bits:
`eqinfo compress --tokens --window-bits 14 text -o in.bin`; with more, change the vocabulary in its source.
`eqinfo decompress --ids` and `eqinfo train-m2`, which wants a sidecar, know the header.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np

HEADER_INTS = 256


def main() -> None:
    """Write the header and copy the ids."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    source, target = map(Path, sys.argv[1:])
    facts = json.loads(Path(f"{source}.json").read_bytes())
    header = np.zeros(HEADER_INTS, "<i4")
    magic, version = (20240520, 1) if facts["window_bits"] <= 16 else (20240801, 7)  # of GPT-2, of Llama 3
    if facts["tokens"] >= 1 << 31:
        sys.exit(f"{source}: {facts['tokens']:,} ids, and llm.c counts up to 2^31 - 1. Use several shards.")
    header[:3] = magic, version, facts["tokens"]
    with source.open("rb") as ids, target.open("wb") as file:
        file.write(header.tobytes())
        shutil.copyfileobj(ids, file)


if __name__ == "__main__":
    main()
