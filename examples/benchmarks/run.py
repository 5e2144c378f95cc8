"""Measures speed, memory and size beside other tools: tokens, streams, codebooks, training, growth, limits.

    python examples/benchmarks/run.py --train train.jsonl.zst --broad broad-train.jsonl.zst \
        --valid valid.jsonl.zst --texts a.txt b.txt --cache cache -o page.md

All timed output is decoded back and compared. Contestants take turns; those whose memory is measured run in
new processes. Each section is a module; the cache folder keeps its text with the command and commit that made
it. `--megabytes 2` tries everything in minutes.
"""

import argparse
import importlib
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

SECTIONS = ("tokens", "first_use", "streams", "codebooks", "steps", "growth", "limits")
UNSEEN_SHARE = 40  # held-out texts are cut to a fortieth of --megabytes

# The first paragraph states the outcome of the published runs: check it after measuring again.
HEAD = """# Benchmarks

Speed, memory and compressed size of eqinfo beside other tokenisers, general compressors and a plain
training loop. From text to ids on one thread, gigatoken is ahead of eqinfo in English and in code, by a
factor of 3 (of 4 in English when it has met the words before), and in short inputs, by 4; in Chinese
and Hindi eqinfo is 2.4 times as fast as gigatoken, and in English 3.4 times as fast as tiktoken. From
ids to text eqinfo is the fastest everywhere. Its streams of 16-bit windows are larger than those of
`xz -9` on texts of 0.5 MB, smaller on records of 1 KB; its `ac` streams are the smallest of all, at
0.035 MB/s.

Every figure is the median of several runs, in which the programs take turns after one warm-up run,
unless its section says otherwise. Every output was decoded back and compared with its input. Times on
one thread are CPU time, which other programs on the machine disturb less than wall-clock time. Each
section names the command and the commit that made it; they need `pip install '.[bench]'`. Of the texts, the
[cards of the models](../eqinfo/models/default/README.md) say where they come from; the package has none.
"""


def write(path: Path, data: bytes) -> Path:
    """Write a file; its path."""
    path.write_bytes(data)
    return path


def main() -> None:
    """Run the command line.

    The imports are here because new processes import this file too, and their memory is measured.
    """
    import pages
    import peers

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--train", type=Path, required=True, help="JSONL, English: text to encode and to train peers on"
    )
    parser.add_argument("--broad", type=Path, required=True, help="JSONL with kinds: more of the same")
    parser.add_argument("--valid", type=Path, required=True, help="JSONL held out from all training")
    parser.add_argument("--texts", type=Path, nargs="+", required=True, help="more held-out texts, plain")
    parser.add_argument(
        "--cache", type=Path, required=True, help="folder that keeps trained peers and finished sections"
    )
    parser.add_argument(
        "--only", nargs="*", choices=SECTIONS, default=SECTIONS, help="measure only these again"
    )
    parser.add_argument(
        "--megabytes", type=int, default=100, help="size of the text to encode; other sizes are proportional"
    )
    parser.add_argument("-o", "--output", type=Path, help="write the page to a file as well")
    args = parser.parse_args()

    cache, n_bytes = args.cache.absolute(), args.megabytes * 1_000_000
    cache.mkdir(parents=True, exist_ok=True)
    unseen = {
        "valid": b"\n".join(peers.read_documents(args.valid)),
        "+".join(path.stem for path in args.texts): b"".join(path.read_bytes() for path in args.texts),
    }
    inputs = peers.Inputs(
        args.train,
        args.broad,
        write(cache / "text.txt", b"\n".join(peers.sample(args.train, n_bytes))),
        n_bytes,
        [write(cache / f"{name}.txt", text[: n_bytes // UNSEEN_SHARE]) for name, text in unseen.items()],
        cache,
    )
    for section in args.only:
        print(time.strftime("%H:%M:%S"), section, file=sys.stderr)
        module = importlib.import_module(section)
        title, *parts = module.tables(inputs)
        made_by = pages.provenance(sys.argv, module.PACKAGES)
        (cache / f"{section}.md").write_text("\n".join([title, made_by, *parts]))
    kept = [cache / f"{section}.md" for section in SECTIONS]
    pages.publish([HEAD, *(path.read_text() for path in kept if path.exists())], args.output)


if __name__ == "__main__":
    main()
