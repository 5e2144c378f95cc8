"""What a run writes down as it goes: `metrics.jsonl`, an object a line, and how fast it is.

What this module does not do: decide what to write (`m2`), or show it (`console`).
"""

import json
import math
from pathlib import Path

from eqinfo.errors import FormatError
from eqinfo.training.run_folder import write_file


class Metrics:
    """The metrics file of a run; each line has the step it belongs to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, **figures: float) -> None:
        """Write a line."""
        with self.path.open("a") as file:
            file.write(json.dumps(figures) + "\n")

    def up_to(self, step: int) -> list[dict[str, float]]:
        """The lines up to a step; the last one of a killed run may be cut short, and does not count.

        Raises:
            FormatError: a line holds something else than numbers, one of them its step.
        """
        if not self.path.exists():
            return []
        *whole, _ = self.path.read_bytes().split(b"\n")
        lines = [self._parsed(number, line) for number, line in enumerate(whole, 1)]
        return [line for line in lines if line["step"] <= step]

    def _parsed(self, number: int, line: bytes) -> dict[str, float]:
        """A line; its number is for messages."""
        try:
            figures: dict[str, float] = json.loads(line)
            if "step" in figures and all(type(n) is int or math.isfinite(n) for n in figures.values()):
                return figures
        except (ArithmeticError, AttributeError, RecursionError, TypeError, ValueError):
            pass
        raise FormatError(f"{self.path}:{number}: damaged; not the figures of a step. Start a new run.")

    def forget_after(self, step: int) -> None:
        """Drop what an interrupted run wrote after its checkpoint: those steps come again."""
        if self.path.exists():
            lines = [json.dumps(line) + "\n" for line in self.up_to(step)]
            write_file(self.path, "".join(lines).encode())
