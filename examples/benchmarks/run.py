"""Speed and memory beside peers in one run: tokens, streams, codebooks, training, growth, and what limits it.

    python run.py --train train.jsonl.zst --valid valid.jsonl.zst --texts a.txt b.txt --cache cache -o page.md

Whatever is timed is decoded back and compared. Contestants take turns, and those whose memory is measured
have a process of their own. Each section is a module; the cache keeps it with the command and commit that
made it. With `--megabytes 2` all is tried in minutes.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

SECTIONS = ("tokens", "streams", "codebooks", "training", "growth", "limits")

HEAD = """# Benchmarks

Medians of runs that took turns, after one that is not counted, each decoded back and compared. CPU time
where one thread works, which other work on the machine disturbs less than the clock. Each section names the
command and the commit that made it.
"""


def measured(section: str, args: argparse.Namespace) -> str:
    """A section, with its provenance after its title.

    Its module is imported here, for new processes import this file as well, and their memory is measured.
    """
    import peers

    n_bytes, cache = args.megabytes * 1_000_000, args.cache
    text = write(cache / "text.txt", b"\n".join(peers.sample(args.train, n_bytes)))
    parts: Iterator[str]
    if section == "tokens":
        import tokens as module

        parts = module.tables(args.train, cache, text, n_bytes)
    elif section == "streams":
        import streams as module

        valid = b"\n".join(peers.read_documents(args.valid))
        others = b"".join(path.read_bytes() for path in args.texts)
        paths = [
            write(cache / "valid.txt", valid[: n_bytes // 40]),
            write(cache / f"{'+'.join(path.stem for path in args.texts)}.txt", others[: n_bytes // 40]),
        ]
        parts = module.tables(paths, args.train)
    elif section == "codebooks":
        import codebooks as module

        parts = module.tables(text, n_bytes * 16 // 25)
    elif section == "training":
        import steps as module

        parts = module.tables()
    elif section == "growth":
        import growth as module

        parts = module.tables(text, 10 * args.megabytes, n_bytes // 10)
    else:
        import limits as module

        parts = module.tables(text)
    title = next(parts)
    return "\n".join([title, peers.provenance(sys.argv, module.PACKAGES), *parts])


def write(path: Path, data: bytes) -> Path:
    """The file with these contents."""
    path.write_bytes(data)
    return path


def main() -> None:
    """Run the command line."""
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

    args.cache = args.cache.absolute()
    args.cache.mkdir(parents=True, exist_ok=True)
    for section in args.only:
        print(time.strftime("%H:%M:%S"), section, file=sys.stderr)
        (args.cache / f"{section}.md").write_text(measured(section, args))
    kept = [args.cache / f"{section}.md" for section in SECTIONS]
    peers.publish([HEAD, *(path.read_text() for path in kept if path.exists())], args.output)


if __name__ == "__main__":
    main()
