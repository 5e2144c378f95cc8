"""Speed and memory beside peers in one run: tokens, streams, codebooks, training, growth, and what limits it.

    python examples/benchmarks/run.py --train train.jsonl.zst --valid valid.jsonl.zst \
        --texts a.txt b.txt --cache cache -o page.md

Whatever is timed is decoded back and compared. Contestants take turns, and those whose memory is measured
have a process of their own. Each section is a module; the cache keeps it with the command and commit that
made it. With `--megabytes 2` all is tried in minutes.
"""

import argparse
import importlib
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

SECTIONS = ("tokens", "streams", "codebooks", "steps", "growth", "limits")
UNSEEN_SHARE = 40  # of each text that nobody has learnt from a fortieth as much

# The first paragraph states the outcome of the published runs: check it after measuring again.
HEAD = """# Benchmarks

Speed, memory and compressed size of eqinfo beside other tokenisers, general compressors and a plain
training loop. On one thread eqinfo encodes text about 3 times as fast as tiktoken and sentencepiece and
decodes about 10 times as fast as any other tokeniser here. Its streams of 16-bit windows are larger
than those of `xz -9`; its `ac` streams are the smallest of all, at 0.05 MB/s.

Every figure is the median of several runs, in which the programs take turns after one warm-up run,
unless its section says otherwise. Every output was decoded back and compared with its input. Times on
one thread are CPU time, which other programs on the machine disturb less than wall-clock time. Each
section names the command and the commit that made it.
"""


def write(path: Path, data: bytes) -> Path:
    """The file with these contents."""
    path.write_bytes(data)
    return path


def main() -> None:
    """Run the command line.

    Nothing of the benchmark is imported above: new processes import this file as well, and their memory is
    measured.
    """
    import pages
    import peers

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--train", type=Path, required=True, help="JSONL: what peers learn from, and text to cut"
    )
    parser.add_argument("--valid", type=Path, required=True, help="JSONL: text that nobody has seen")
    parser.add_argument("--texts", type=Path, nargs="+", required=True, help="more of it, plain")
    parser.add_argument("--cache", type=Path, required=True, help="folder that keeps peers and sections")
    parser.add_argument("--only", nargs="*", choices=SECTIONS, default=SECTIONS, help="measure these anew")
    parser.add_argument(
        "--megabytes", type=int, default=100, help="of text to ids; other amounts of text are in proportion"
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
