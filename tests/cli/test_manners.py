"""The table of examples/reference/manners.md: each cell is what a script prints, for each program alike."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.texts import mixed

import eqinfo

PAGE = (Path(__file__).parents[2] / "examples" / "reference" / "manners.md").read_text("utf-8")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(eqinfo.__file__).parents[1]), "LC_ALL": "C.UTF-8"}
ENVIRONMENT["PYTHON"] = sys.executable
TEXT = mixed(300)

COMMANDS = {"gzip": "gzip", "xz": "xz", "zstd": "zstd", "eqinfo": f"{sys.executable} -m eqinfo compress"}
SUFFIXES = {"gzip": "gz", "xz": "xz", "zstd": "zst", "eqinfo": "eqi"}

# In a folder with the texts a and b; $Z is the command, $S its suffix. None of them reads a terminal.
SCRIPTS = {
    "no file: from stdin to stdout": "$Z < a | $Z -d | cmp - a && echo yes",
    "`-` is stdin": "cat a | $Z - | $Z -d - | cmp - a && echo yes",
    "the input, afterwards": "$Z a; [ -e a ] && echo kept || echo removed",
    "the input, with `-k`": "$Z -k a; [ -e a ] && echo kept || echo removed",
    "`a` becomes": "$Z -k a; ls | grep ^a. ",
    "`-d` restores": "$Z -k a; mv a c; $Z -d -k a.$S; cmp a c && echo a",
    "`-c`: to stdout": "$Z -c a > c; $Z -dc < c | cmp - a && echo yes",
    "`-o FILE`": "$Z -k a -o c && $Z -dc < c | cmp - a && echo yes",
    "`-t`: test, silently": "$Z -k a; $Z -t a.$S 2>&1 | wc -l | grep -q ^0 && "
    "ls | wc -l | grep -q ^3 && echo yes",
    "`-t` of a damaged file: exit status": "$Z -k a; damage a.$S; $Z -t a.$S; echo $?",
    "`-l`: list sizes": "$Z -k a; $Z -l a.$S > c && grep -c a c > d && echo yes",
    "`-v`: words on stderr": "$Z -kv a 2>&1 | grep -q a && echo yes",
    "`-q`: none, on success": "$Z -kqf a 2>&1 | wc -l | grep -q ^0 && echo yes",
    "`-T2`: two threads": "$Z -c -T2 a > c && $Z -dc < c | cmp - a && echo yes",
    "several files": "$Z -k a b; ls *.$S | wc -l | grep -q 2 && echo an output each",
    "several files with `-c`, then `-d`": "$Z -c a b | $Z -d | cmp - <(cat a b) && echo joined",
    "streams joined by `cat`, then `-d`": "($Z -c a; $Z -c b) | $Z -d | cmp - <(cat a b) && echo joined",
    "an output that exists: exit status": "$Z -k a; $Z -k a; echo $?",
    "the same with `-f`": "$Z -k a; $Z -kf a; echo $?",
    "`-d` of an unknown suffix: exit status": "$Z -c a > c.foo; $Z -d c.foo; echo $?",
    "an input that has the suffix": "$Z -k a; $Z -k a.$S; "
    "[ -e a.$S.$S ] && echo compressed || echo left alone",
    "a symbolic link as input": "ln -s a c; $Z -k c; [ -e c.$S ] && echo followed || echo left alone",
    "mode and time of the input": "chmod 640 a; touch -d @1e9 a; $Z -k a; "
    "[ \"$(stat -c '%a %Y' a)\" = \"$(stat -c '%a %Y' a.$S)\" ] && echo carried over",
    "a folder as input: exit status": "mkdir c; $Z c; echo $?",
    "a missing input among others: exit status": "$Z -k a missing b; echo $?, $(ls *.$S | wc -l) outputs",
    "`-d` of a damaged file: exit status": "$Z -k a; damage a.$S; rm a; $Z -d a.$S; echo $?; "
    "[ -e a ] && echo and an output",
    "`-d` of a truncated file: exit status": "$Z -c a | head -c -30 > c.$S; $Z -d c.$S; echo $?; "
    "[ -e c ] && echo and an output",
    "a terminal as output, with `-c`: exit status": "terminal $Z a -c > c; echo $?",
    "a terminal as output, without `-c`: exit status": "terminal $Z '<' a > c; echo $?",
    "a reader that goes away": "$Z -c a > c; for i in $(seq 60); do cat c; done > d; "
    "$Z -dc < d | head -c 1 > e; echo ${PIPESTATUS[0]}",
    "an unknown option: exit status": "$Z --nonsense a; echo $?",
    "`--`, and a name with a dash first": "mv a -- -n; $Z -k -- -n; [ -e ./-n.$S ] && echo yes",
    "names with spaces and newlines": 'n=$\'c d\\ne\'; mv a "$n"; $Z -k c*; mv "$n" a; '
    '$Z -d c*; cmp a "$n" && echo yes',
    "names that are not UTF-8, `LC_ALL=C`": "export LC_ALL=C; n=$'\\xff\\xe9'; mv a $n; $Z -k $n; mv $n c; "
    "$Z -d $n.$S; cmp c $n && echo yes",
    "stdin closed: exit status": "$Z <&- > c; echo $?",
    "stdout closed: exit status": "$Z -c a >&-; echo $?",
    "`tar -I '…'`, both ways": 'tar -I "$Z" -cf c a && rm a && tar -I "$Z" -xf c && echo yes',
}

PRELUDE = """
damage() {
    "$PYTHON" - "$1" <<'END'
import sys
with open(sys.argv[1], 'r+b') as file:
    file.seek(900); old = file.read(1); file.seek(900); file.write(bytes([old[0] ^ 16]))
END
}
terminal() {
    "$PYTHON" - "$*" <<'END'
import os, pty, sys
sys.exit(os.waitstatus_to_exitcode(pty.spawn(['bash', '-c', sys.argv[1]])))
END
}
"""


def rows() -> dict[str, list[str]]:
    """The cells of the table, by their first."""
    table = PAGE.partition("| of a command | gzip | xz | zstd | eqinfo |\n")[2].partition("\n\n")[0]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()[1:]]
    return {name.strip(): rest for name, *rest in cells}


def printed(tool: str, what: str, folder: Path) -> str:
    """What a script prints, in a line; `no` if nothing."""
    (folder / "a").write_bytes(TEXT)
    (folder / "b").write_bytes(TEXT[::-1])
    script = f"Z='{COMMANDS[tool]}'; S={SUFFIXES[tool]}; {PRELUDE}\n{SCRIPTS[what]}"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=600,
    )
    return ", ".join(done.stdout.decode().split("\n")).strip(", ") or "no"


def named_version(tool: str) -> str:
    """The version of a tool that the page names."""
    found = re.search(rf"{tool} (\d+\.[\d.]*\d)", PAGE)
    assert found, tool
    return found[1]


def is_here(tool: str) -> bool:
    """Whether the tool that the page names is installed, in that version; eqinfo is."""
    if tool == "eqinfo":
        return True
    if shutil.which(tool) is None:
        return False
    words = subprocess.run([tool, "--version"], capture_output=True, text=True).stdout
    return named_version(tool) in words


def test_the_table_has_a_row_for_each_script() -> None:
    assert list(rows()) == list(SCRIPTS)


@pytest.mark.parametrize("tool", COMMANDS)
def test_each_cell_is_what_the_script_prints(tool: str, tmp_path: Path) -> None:
    if not is_here(tool):
        pytest.skip("not here, or not in the version that the page names")
    column = list(COMMANDS).index(tool)
    shown = {what: cells[column] for what, cells in rows().items()}
    found = {}
    for k, what in enumerate(SCRIPTS):
        folder = tmp_path / str(k)
        folder.mkdir()
        found[what] = printed(tool, what, folder)
    assert found == shown


def main() -> None:
    """Print the table."""
    import tempfile

    print("| of a command | gzip | xz | zstd | eqinfo |\n| --- | --- | --- | --- | --- |")
    for what in SCRIPTS:
        cells = []
        for tool in COMMANDS:
            with tempfile.TemporaryDirectory() as folder:
                cells.append(printed(tool, what, Path(folder)))
        print(f"| {what} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
