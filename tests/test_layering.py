"""Lower modules never import higher ones, and the quick half never imports what is slow to start."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import eqinfo

PACKAGE = Path(eqinfo.__file__).parent

# from the bottom up; a module imports only modules before it
ORDER = [
    "errors",
    "signals",
    "jit",
    "kernels",
    "codebook",
    "coder",
    "parse",
    "packing",
    "frames",
    "network",
    "inference",
    "live_kernels",
    "range_coder",
    "predictor",
    "mixing",
    "live",
    "published",
    "codec",
    "container",
    "random_access",
    "files",
    "models",
    "tokens",
    "listing",
    "text",
    "corpus",
    "shards",
    "loss",
    "model",
    "byte_model",
    "quantise",
    "windows",
    "train",
    "generate",
    "evaluate",
    "pairs",
    "refit",
    "compile",
    "runs",
    "m1",
    "metrics",
    "m2",
    "held_out",
    "document",
    "report",
    "tables",
    "console",
    "jobs",
    "cli",
    "__main__",
]
COMPILED = {"jit", "kernels", "inference", "live_kernels", "range_coder", "predictor", "mixing"}
LIGHT = {*ORDER[: ORDER.index("text") + 1], "console", "jobs", "cli", "__main__"} - COMPILED
SLOW = {"torch", "numba", "rich"}


def modules() -> list[str]:
    return sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")


def imports(module: str) -> tuple[set[str], set[str]]:
    """What a module imports: of the package, and at its top level of other packages."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text())
    ours, others = set(), set()
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: relative import"
            inside = node.module == "eqinfo"
            names = [f"eqinfo.{alias.name}" if inside else node.module or "" for alias in node.names]
        for name in names:
            first, *rest = name.split(".")
            if first == "eqinfo" and rest:
                ours.add(rest[0])
            elif first != "eqinfo" and node in tree.body:
                others.add(first)
    return ours & set(modules()), others


def test_every_module_has_its_place() -> None:
    assert set(modules()) <= set(ORDER)


@pytest.mark.parametrize("module", modules())
def test_modules_import_only_lower_ones(module: str) -> None:
    assert imports(module)[0] <= set(ORDER[: ORDER.index(module)])


@pytest.mark.parametrize("module", sorted(LIGHT & set(modules())))
def test_light_modules_import_nothing_slow_at_their_top(module: str) -> None:
    assert not imports(module)[1] & SLOW


@pytest.mark.parametrize("module", sorted(set(modules()) - {"cli", "console", "__main__"}))
def test_only_the_commands_touch_the_standard_streams_and_rich(module: str) -> None:
    source = (PACKAGE / f"{module}.py").read_text()
    assert not re.search(r"\bsys\.std|\bprint\(|\b(import|from) rich\b", source)


def imported_by(code: str, *arguments: str) -> set[str]:
    """Top-level packages in `sys.modules` when a piece of Python ends."""
    script = f"{code}\nimport sys\nsys.stderr.write(' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True, timeout=60
    )
    return {name.split(".")[0] for name in done.stderr.split()}


def test_importing_the_commands_imports_neither_torch_nor_numba_nor_rich_nor_numpy() -> None:
    assert not imported_by("import eqinfo.cli") & (SLOW | {"numpy"})


@pytest.mark.parametrize("arguments", [["--help"], ["compress", "--help"], ["--version"]])
def test_help_imports_nothing_slow(arguments: list[str]) -> None:
    assert not imported_by(
        "from typer.testing import CliRunner\nfrom eqinfo.cli import app\n"
        f"assert CliRunner().invoke(app, {arguments}).exit_code == 0"
    ) & (SLOW | {"numpy"})


def test_compressing_and_restoring_a_kilobyte_imports_nothing_slow(model: Path, tmp_path: Path) -> None:
    (tmp_path / "k").write_bytes(b"to be or not to be, " * 50)
    code = (
        "from typer.testing import CliRunner\nfrom eqinfo.cli import app\nimport sys\n"
        "for command in (['compress'], ['decompress', '-c']):\n"
        "    name = sys.argv[2] + ('.eqi' if '-c' in command else '')\n"
        "    done = CliRunner().invoke(app, [*command, '-m', sys.argv[1], name])\n"
        "    assert done.exit_code == 0, done.output\n"
    )
    assert not imported_by(code, str(model), str(tmp_path / "k")) & SLOW
