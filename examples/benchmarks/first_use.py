"""What a first-time user waits for: each command with an empty cache of compiled loops, then once more."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pages
import peers
from processes import python_cpu_s

PACKAGES = ("numba", "numpy", "torch", "typer")
TEXT_BYTES, SMALL_BYTES = 3_000_000, 24_000

# The small text is for what is slow: 64-bit windows, `ac`, eval. Trainings end after a few steps.
COMMANDS = {
    "`compress FILE`": "compress large.txt -o new/file",
    "`compress --tokens FILE`": "compress --tokens large.txt -o new/file",
    "`compress --window-bits 64 FILE`": "compress --window-bits 64 small.txt -o new/file",
    "`compress --window-bits ac FILE`": "compress --window-bits ac small.txt -o new/file",
    "`decompress FILE`": "decompress large.eqi -o new/file",
    "`train-m1 FILE`, 5 steps": "train-m1 large.txt -o new/run --preset tiny --window-bits 10 --steps 5",
    "`train-m2 FILE`, 3 steps": "train-m2 large.bin -o new/run --preset nano --batch-tokens 2048 --steps 3",
    "`eval --text FILE`": "eval --text small.txt",
}


def spent(arguments: str, folder: Path) -> float:
    """The CPU seconds of a command that runs in the folder, which holds its cache too."""
    environment = os.environ | {"NUMBA_CACHE_DIR": f"{folder / 'cache'}"}
    command = ["-m", "eqinfo", *arguments.split(), "-q"]
    return python_cpu_s(command, cwd=folder, stdout=subprocess.DEVNULL, env=environment)


def tables(inputs: peers.Inputs) -> Iterator[str]:
    """The section."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = inputs.text.read_bytes()
        (folder / "large.txt").write_bytes(text[:TEXT_BYTES])
        (folder / "small.txt").write_bytes(text[:SMALL_BYTES])
        spent("compress large.txt -o large.eqi", folder)
        spent("compress --tokens large.txt -o large.bin", folder)
        for shown, arguments in COMMANDS.items():
            shutil.rmtree(folder / "cache", ignore_errors=True)
            took = []
            for _ in range(2):
                (folder / "new").mkdir()
                took.append(spent(arguments, folder))
                shutil.rmtree(folder / "new")
            rows.append([shown, *(f"{s:.1f}" for s in took), f"{took[0] - took[1]:.1f}"])
    yield "## First use\n"
    yield pages.paragraph(
        f"CPU seconds of commands on {TEXT_BYTES / 1e6:g} MB of text, or on {SMALL_BYTES / 1e3:g} KB where a "
        "command is slow. The first run of each compiles its loops for the machine, into an empty cache; the "
        "second one finds them there. One run of each."
    )
    yield pages.table(["", "first run", "second run", "compiling"], rows)
