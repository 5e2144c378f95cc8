"""Makes the page functions of the benchmarks importable when a campaign is run as a script."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "examples" / "benchmarks"))

import pages

__all__ = ["pages"]
