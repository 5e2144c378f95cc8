"""Formats the Markdown pages that benchmarks and campaigns write.

This module does not measure anything.
"""

import os
import platform
import shlex
import subprocess
import textwrap
from datetime import UTC, datetime
from importlib.metadata import version
from math import floor, log10
from pathlib import Path

from eqinfo import __version__

ROOT = Path(__file__).resolve().parents[2]  # of the repository


def provenance(argv: list[str], packages: tuple[str, ...]) -> str:
    """The lines that say how a page was made: command, commit, date, machine and versions.

    Args:
        argv: the command line of a script in the repository; absolute paths are shortened to names.
        packages: distributions whose versions are printed beside eqinfo's.
    """
    shown = ["python", Path(argv[0]).resolve().relative_to(ROOT).as_posix()]
    shown += [Path(word).name if Path(word).is_absolute() else word for word in argv[1:]]
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
    versions = ", ".join([f"eqinfo {__version__}", *(f"{name} {version(name)}" for name in packages)])
    return (
        f"- command: `{shlex.join(shown)}`\n"
        f"- commit {commit}, {datetime.now(UTC):%Y-%m-%d}\n"
        f"- {_cpu_model()}, {os.cpu_count()} cores visible, {platform.system()}, "
        f"Python {platform.python_version()}\n"
        f"- {versions}\n"
    )


def publish(parts: list[str], path: Path | None) -> None:
    """Print a page, and also write it to `path` if that is given."""
    page = "\n".join(parts)
    print(page, end="")
    if path is not None:
        path.write_text(page)


def _cpu_model() -> str:
    """The name of the processor, or of its architecture where Linux does not give the name."""
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def paragraph(words: str, indent: str = "") -> str:
    """A paragraph wrapped at 104 columns; `indent` starts every line but the first."""
    filled = textwrap.fill(
        words, 104, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )
    return f"{filled}\n"


def digits(value: float) -> str:
    """A positive number with three significant digits; no digit before the decimal point is dropped."""
    rounded = float(f"{value:.2e}")
    return f"{value:,.{max(0, 2 - floor(log10(rounded)))}f}"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table: the first column is aligned left, the others right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, rule, *rows])
