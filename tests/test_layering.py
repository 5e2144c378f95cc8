"""A wing imports only wings to its right, and what is slow to start is imported only where it is needed."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import eqinfo

PACKAGE = Path(eqinfo.__file__).parent

# A wing imports only wings to its right; wings in one group know nothing of each other.
WINGS = [
    {"cli"},
    {"eval"},
    {"m1", "m2"},
    {"formats"},
    {"coder", "codebook", "training"},
    {"text"},
    {"system"},
    {"errors"},
]
ORDER = {wing: place for place, wings in enumerate(WINGS) for wing in wings}
FACE = {"__init__", "__main__"}  # what users of the package meet: above all wings

# where each slow package may be imported at the top of a module
MAY_IMPORT = {
    "torch": r"(training|m1|m2|eval)/|coder/torch_",
    "numba": r"(codebook|coder)/kernels|system/jit|m1/refit",
    "rich": r"cli/display",
}
SLOW = set(MAY_IMPORT)
KERNELS = re.compile(r"(codebook|coder)/kernels|coder/torch_")


def modules() -> list[str]:
    """All modules, as paths without suffix."""
    return sorted(path.relative_to(PACKAGE).with_suffix("").as_posix() for path in PACKAGE.rglob("*.py"))


def wing(module: str) -> str:
    return module.split("/")[0]


def imports(module: str, top_only: bool = False) -> set[str]:
    """The modules and packages that a module imports, those of ours as `eqinfo/wing/module`."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text())
    found = set()
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.replace(".", "/") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: relative import"
            name = (node.module or "").replace(".", "/")
            found |= {f"{name}/{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("module", modules())
def test_wings_import_only_wings_to_their_right(module: str) -> None:
    mine = wing(module)
    if mine in FACE:
        return
    wings = {name.split("/")[1] for name in imports(module) if name.startswith("eqinfo/")}
    others = wings - {mine, "__version__"}
    assert others <= set(ORDER)
    assert all(ORDER[other] > ORDER[mine] for other in others), others


@pytest.mark.parametrize("module", modules())
def test_slow_packages_are_imported_at_the_top_only_where_they_are_needed(module: str) -> None:
    for name in imports(module, top_only=True):
        package = name.split("/")[0]
        assert package not in SLOW or re.match(MAY_IMPORT[package], module), name


@pytest.mark.parametrize(
    "module", [m for m in modules() if wing(m) in ("coder", "codebook", "formats", "text")]
)
def test_only_kernels_import_kernels_at_their_top(module: str) -> None:
    if not KERNELS.match(module):
        found = [name for name in imports(module, top_only=True) if re.search(r"/kernels\b", name)]
        assert not found


@pytest.mark.parametrize("module", [m for m in modules() if wing(m) not in {"cli", *FACE}])
def test_only_the_commands_touch_the_standard_streams_and_rich(module: str) -> None:
    source = (PACKAGE / f"{module}.py").read_text()
    assert not re.search(r"\bsys\.std|\bprint\(|\b(import|from) rich\b", source)


@pytest.mark.parametrize("module", modules())
def test_every_module_says_what_it_is(module: str) -> None:
    assert ast.get_docstring(ast.parse((PACKAGE / f"{module}.py").read_text()))


def imported_by(code: str, *arguments: str) -> set[str]:
    """Top-level packages in `sys.modules` when a piece of Python ends."""
    script = f"{code}\nimport sys\nsys.stderr.write(' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True, timeout=600
    )
    return {name.split(".")[0] for name in done.stderr.split()}


@pytest.mark.parametrize("module", ["eqinfo", "eqinfo.cli.app"])
def test_importing_the_package_and_the_commands_imports_nothing_slow(module: str) -> None:
    assert not imported_by(f"import {module}") & (SLOW | {"numpy"})


@pytest.mark.parametrize("arguments", [["--help"], ["compress", "--help"], ["--version"]])
def test_help_imports_nothing_slow(arguments: list[str]) -> None:
    assert not imported_by(
        "from typer.testing import CliRunner\nfrom eqinfo.cli.app import app\n"
        f"assert CliRunner().invoke(app, {arguments}).exit_code == 0"
    ) & (SLOW | {"numpy"})


def test_compressing_and_restoring_a_kilobyte_imports_nothing_slow(model: Path, tmp_path: Path) -> None:
    (tmp_path / "k").write_bytes(b"to be or not to be, " * 50)
    code = (
        "from typer.testing import CliRunner\nfrom eqinfo.cli.app import app\nimport sys\n"
        "for command in (['compress'], ['decompress', '-c']):\n"
        "    name = sys.argv[2] + ('.eqi' if '-c' in command else '')\n"
        "    done = CliRunner().invoke(app, [*command, '-m', sys.argv[1], name])\n"
        "    assert done.exit_code == 0, done.output\n"
    )
    assert not imported_by(code, str(model), str(tmp_path / "k")) & SLOW
