"""What the documents claim: pasted blocks print what they show, links lead somewhere, pictures are new."""

import contextlib
import doctest
import importlib.util
import io
import json
import os
import pkgutil
import re
import subprocess
import sys
from decimal import Decimal
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import zstandard
from helpers import commands

import eqinfo
from eqinfo.codebook.codebook import Codebook
from eqinfo.codebook.parse import encode
from eqinfo.formats.model_folder import model_path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
EXAMPLES = ROOT / "examples"
CARDS = sorted((ROOT / "eqinfo" / "models").rglob("*.md"))
PAGES = [ROOT / "README.md", *sorted(EXAMPLES.rglob("*.md")), *CARDS]
MODULES = ["eqinfo", *(module.name for module in pkgutil.walk_packages(eqinfo.__path__, "eqinfo."))]
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "OMP_NUM_THREADS": "1",
}
END_OF_BLOCK = "== end of block =="


def blocks(text: str) -> list[tuple[str, str]]:
    """The language and the contents of each fenced block, in order."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def section(name: str) -> str:
    """The README from a heading to the next one of its level."""
    return README.partition(f"\n## {name}\n")[2].partition("\n## ")[0]


def with_output(language: str) -> list[tuple[str, str]]:
    """The blocks of a language in the tour, each with the text block below it."""
    found = blocks(section("Tour"))
    return [(code, shown) for (kind, code), (_, shown) in pairwise(found) if kind == language]


def test_the_tour_gives_what_it_shows_when_pasted_into_one_shell(tmp_path: Path) -> None:
    tour = with_output("sh")
    assert len(tour) == 6
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "inaugural.txt").write_bytes((EXAMPLES / "inaugural.txt").read_bytes())
    pasted = "".join(f"{commands}echo '{END_OF_BLOCK}'\n" for commands, _ in tour)
    done = subprocess.run(
        ["bash"],
        input=pasted.encode(),
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=600,
        check=False,
    )
    assert done.stdout.decode().split(f"{END_OF_BLOCK}\n") == [*(shown for _, shown in tour), ""]


def test_the_python_block_prints_what_follows_it() -> None:
    [(code, shown)] = with_output("python")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    assert printed.getvalue() == shown


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 200
    assert len(README.split()) <= 2000


def test_the_map_names_every_wing() -> None:
    named = re.findall(r"^\| `(\w+)` \|", section("Map"), re.MULTILINE)
    wings = {path.parent.name for path in (ROOT / "eqinfo").glob("*/__init__.py")}
    assert sorted(named) == sorted(wings)


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings_are_right(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0


def test_the_worked_example_of_the_formats_page_is_right() -> None:
    windows = sorted({b"", b"a b", b"ab", b"abc"} | {bytes([b]) for b in range(256)})
    codebook = Codebook(windows, 9)
    assert [windows[c] for c in (0, 1, 97, 98, 99, 100, 101, 102)] == [
        b"", b"\0", b"`", b"a", b"a b", b"ab", b"abc", b"b",
    ]  # fmt: skip
    assert encode(codebook, b"abcab").tolist() == [101, 100]


def test_ci_runs_the_test_command_of_the_readme() -> None:
    install, test = (code for language, code in blocks(README) if language == "bash")
    assert " && ".join(test.splitlines()) in (ROOT / ".ci" / "run").read_text("utf-8")
    assert install.splitlines()[-1] == "examples/quickstart.sh"
    assert "pip install ." in install.splitlines()


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, _, anchor in re.findall(r"\]\((?!http)([^)#]*)(#([^)]*))?\)", page.read_text("utf-8")):
        path = page.parent / target if target else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), f"{target}#{anchor}"


@pytest.mark.parametrize(
    ("kind", "model"), [("eqinfo", None), ("paper", model_path(None) / "published.eqcb")]
)
def test_the_picture_shows_the_cuts_that_are_made(kind: str, model: Path | None) -> None:
    picture = (EXAMPLES / "cuts.svg").read_text("utf-8")
    shown = [piece.replace("·", " ") for piece in re.findall(rf'class="{kind}".*>(.*)</text>', picture)]
    tokenizer = eqinfo.load(model)
    ids = tokenizer.encode("".join(shown).replace("&#x27;", "'"))
    assert [tokenizer.decode([token]).decode().replace("'", "&#x27;") for token in ids] == shown
    assert f"{len(ids)} windows of 16 bits" in picture


@cache
def table(page: str, heading: str) -> dict[str, dict[str, str]]:
    """Cells of the first table under a heading of a page, by row and column; its first cells name a row."""
    text = (EXAMPLES / page).read_text("utf-8").partition(f"# {heading}\n")[2].partition("\n#")[0]
    lines = text[text.index("\n| ") :].strip().partition("\n\n")[0].splitlines()
    head, line, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert set(line) <= {"---", "---:"}
    n_labels = 3 if page == "results.md" else 1
    return {", ".join(row[:n_labels]): dict(zip(head, row, strict=True)) for row in rows}


KINDS = ("kinds.md", "Bytes per token, each group taken together")
TOKENS = ("benchmarks.md", "English prose, 10.0 MB")
STREAMS = ("benchmarks.md", "valid, 0.50 MB")
RECORDS = ("benchmarks.md", "Ratio of 128 records of 1,024 bytes, each compressed by itself")
LADDER = ("results.md", "The ladder")


def of_groups(*groups: str) -> list[tuple[tuple[str, str], str, str]]:
    """The cells of groups of texts, of the default model and of o200k."""
    return [(KINDS, group, column) for group in groups for column in ("16 bits", "o200k")]


def of_program(name: str) -> list[tuple[tuple[str, str], str, str]]:
    """The cells of a program that compresses streams and records."""
    rates = [(STREAMS, name, column) for column in ("compress", "decompress")]
    return [(STREAMS, name, "ratio"), (RECORDS, name, "valid"), *rates]


def of_runs(*runs: str, columns: tuple[str, ...] = ("valid",)) -> list[tuple[tuple[str, str], str, str]]:
    """The cells of runs of the ladder."""
    return [(LADDER, run, column) for run in runs for column in columns]


BOTH = ("bytes/token", "valid")
SHOWN = {  # what the README says, and the cells that its figures are from
    "which has 18: {} bytes of English against {},\n  {} of code against {}.": of_groups(
        "English prose", "source code"
    ),
    "One core turns {} MB a second into ids and {} MB back ([tiktoken {} and {}, gigatoken {} and {}]": [
        (TOKENS, row, column)
        for row in ("eqinfo, optimal", "tiktoken, BPE", "gigatoken, BPE")
        for column in ("warm", "to text")
    ],
    "in a token: eqinfo {}, BPE trained on the same texts {}, of GPT-4o {}, the paper's windows {}]": [
        (KINDS, "English prose", column)
        for column in ("16 bits", "BPE, same mix", "o200k", "16 bits, published")
    ],
    "| eqinfo, 16-bit windows | {} | {} | {} | {} |": of_program("eqinfo, b = 16"),
    "| eqinfo, `ac` | {} | {} | {} | {} |": of_program("eqinfo, ac"),
    "| zstd -19 | {} | {} | {} | {} |": of_program("zstd -19"),
    "| zstd -19, trained dictionary | | {} | | |": [(RECORDS, "zstd -19, dictionary", "valid")],
    "| xz -9 | {} | {} | {} | {} |": of_program("xz -9"),
    "| PPMd, order 16 | {} | {} | {} | {} |": of_program("PPMd, order 16"),
    "| eqinfo | {} | {} | {} | {} | {} | {} |": of_runs(
        *(f"nano, 1 M, ours-b{bits}, nano" for bits in (12, 14, 16)), columns=BOTH
    ),
    "| BPE | {} | {} | {} | {} | {} | {} |": of_runs(
        *(f"nano, 1 M, bpe-b{bits}, nano" for bits in (12, 14, 16)), columns=BOTH
    ),
    "| the paper's windows | {} | {} | | | | |": of_runs("nano, 1 M, published-b12, nano", columns=BOTH),
    "| bytes | {} | {} | | | | |": of_runs("nano, 1 M, bytes, nano", columns=BOTH),
    "of 4 M tokens: {}, {} and {}, BPE {}, {} and {}, bytes {};": of_runs(
        *(f"nano, 4 M, {arm}-b{bits}, nano" for arm in ("ours", "bpe") for bits in (12, 14, 16)),
        "nano, 4 M, bytes, nano",
    ),
    "of 16 M: {}, {} and {}, BPE {}, {} and {}, bytes {};": of_runs(
        *(f"nano, 16 M, {arm}-b{bits}, nano" for arm in ("ours", "bpe") for bits in (12, 14, 16)),
        "nano, 16 M, bytes, nano",
    ),
    "of 56 M, 12 bits: {}, BPE {};": of_runs("nano, 56 M, ours-b12, nano", "nano, 56 M, bpe-b12, nano"),
    "of 16 M with a larger model: {} and {}, BPE {} and {}.": of_runs(
        *(f"3m, 16 M, {arm}-b{bits}, 3m" for arm in ("ours", "bpe") for bits in (12, 14))
    ),
    "reaches {} after 1 M tokens, {} after 4 M and {} after 16 M.": of_runs(
        *(f"nano, {n} M, knowing-bpe-b12, nano" for n in (1, 4, 16))
    ),
    "stays behind: {} and {} after 1 M, {} after 4 M.": of_runs(
        "nano, 1 M, knowing-bpe-b14, nano",
        "nano, 1 M, knowing-bpe-b16, nano",
        "nano, 4 M, knowing-bpe-b14, nano",
    ),
}


@pytest.mark.parametrize("words", SHOWN, ids=range(len(SHOWN)))
def test_figures_in_the_readme_are_those_of_the_pages(words: str) -> None:
    pattern = re.escape(words).replace(r"\{\}", r"([\d,]+(?:\.\d+)?)")
    [found] = re.finditer(pattern, README.replace("**", ""))
    for shown, (where, row, column) in zip(found.groups(), SHOWN[words], strict=True):
        figure, cell = (
            Decimal(text.partition(" ")[0].replace(",", "")) for text in (shown, table(*where)[row][column])
        )
        half = Decimal((0, (5,), int(figure.as_tuple().exponent) - 1))
        assert abs(cell - figure) <= half, f"{shown}: {row}, {column}"


def test_the_bars_are_the_figures_of_the_page_of_kinds() -> None:
    chart = (EXAMPLES / "bytes_per_token.svg").read_text("utf-8")
    columns = ("16 bits", "BPE, same mix", "o200k", "16 bits, published")
    for group in ("English prose", "source code", "data, logs, mail", "other languages"):
        for column in columns:
            value = table(*KINDS)[group][column]
            assert f'width="{float(value) * 70:.1f}"' in chart


@pytest.mark.parametrize("script", ["quickstart.sh", "pipes.sh"])
def test_recipes_run(script: str) -> None:
    done = subprocess.run([EXAMPLES / script], env=ENVIRONMENT, capture_output=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_the_training_recipe_runs(tmp_path: Path) -> None:
    arguments = [EXAMPLES / "inaugural.txt", tmp_path / "model", "--preset", "tiny", "--steps", "5", "-q"]
    done = subprocess.run(
        [EXAMPLES / "train_your_own.sh", *arguments],
        env=ENVIRONMENT,
        capture_output=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert (tmp_path / "model" / "codebook.eqcb").exists()


def test_the_recipe_for_m2_runs(tmp_path: Path, model: Path) -> None:
    (tmp_path / "m1").symlink_to(model)
    small = ["--block-size", "32", "--batch-tokens", "256", "--steps", "5", "-q"]
    done = subprocess.run(
        [EXAMPLES / "train_m2.sh", EXAMPLES / "inaugural.txt", tmp_path, *small],
        env=ENVIRONMENT,
        capture_output=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert b"bits/byte" in done.stdout


def test_the_recipe_for_shards_runs_again_for_what_is_missing(tmp_path: Path) -> None:
    shards = [tmp_path / f"{n}.txt" for n in range(3)]
    for shard in shards:
        shard.write_text(f"to be or not to be {shard.stem}")
    wanted = [tmp_path / "out" / f"{shard.name}.bin" for shard in shards]
    for _ in range(2):
        command = [EXAMPLES / "corpus.sh", tmp_path / "out", *shards]
        subprocess.run(command, env=ENVIRONMENT, check=True, timeout=600)
        assert sorted(tmp_path.glob("out/*.bin")) == wanted
        wanted[1].unlink()
        wanted[1].with_suffix(".bin.json").unlink()
    assert eqinfo.load().decode(np.fromfile(wanted[2], "<u2")) == shards[2].read_bytes()


def test_the_recipe_for_shards_refuses_two_of_one_name(tmp_path: Path) -> None:
    command = [EXAMPLES / "corpus.sh", tmp_path / "out", "a/0.txt", "b c/1.txt", "b c/0.txt"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, timeout=600, check=False)
    assert done.returncode == 1
    assert done.stderr == b"0.txt\ntwo shards have this name, and their outputs would too\n"
    assert not (tmp_path / "out").exists()


def test_the_recipe_for_ray_writes_what_compress_writes_and_tells_what_is_wrong(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("corpus_ray", EXAMPLES / "corpus_ray.py")
    assert spec is not None
    assert spec.loader is not None
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    out, shard, bad = tmp_path / "out", tmp_path / "a.jsonl.zst", tmp_path / "bad.jsonl"
    out.mkdir()
    shard.write_bytes(zstandard.compress(b'{"text": "to be"}\n{"text": "or not"}\n'))
    bad.write_text('{"words": "to be"}')
    settings = {"out": out, "model": None, "text_field": "text"}
    assert recipe.tokenise({"shard": str(shard)}, **settings)["said"] == "2 documents, 6 tokens"
    assert recipe.tokenise({"shard": str(shard)}, **settings)["said"] == "there already"
    assert "bad.jsonl:1: no text in this record" in recipe.tokenise({"shard": str(bad)}, **settings)["error"]
    commands.run("compress", "--tokens", shard, "--output-dir", tmp_path / "wanted")
    written = {path.name: path.read_bytes() for path in out.iterdir()}
    assert written == {path.name: path.read_bytes() for path in (tmp_path / "wanted").iterdir()}


def test_the_recipe_for_llm_c_writes_a_file_that_decompress_reads(model: Path, tmp_path: Path) -> None:
    ids = tmp_path / "ids.bin"
    commands.run("compress", "-m", model, "--tokens", EXAMPLES / "inaugural.txt", "-o", ids)
    command = [sys.executable, EXAMPLES / "llm_c.py", ids, tmp_path / "llm_c.bin"]
    subprocess.run(command, env=ENVIRONMENT, check=True, timeout=600)
    found, _ = commands.run("decompress", "-m", model, "--ids", "-c", tmp_path / "llm_c.bin")
    assert found == (EXAMPLES / "inaugural.txt").read_bytes()


def mixed_by_kind(tmp_path: Path, *corpora: Path, megabytes: str) -> list[dict[str, str]]:
    command = [sys.executable, EXAMPLES / "mix.py", *corpora, "-o", tmp_path / "mix.jsonl", "-f"]
    done = subprocess.run(
        [*command, "--megabytes", megabytes], env=ENVIRONMENT, capture_output=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return [json.loads(line) for line in (tmp_path / "mix.jsonl").read_text().splitlines()]


def test_a_mix_holds_the_groups_in_their_shares_and_copies_lie_apart(tmp_path: Path) -> None:
    english, broad = tmp_path / "english.jsonl", tmp_path / "broad.jsonl"
    texts = [f"document {n} of a corpus, with some words in it\n" * 20 for n in range(100)]
    english.write_text("".join(json.dumps({"text": t, "source": "sotu"}) + "\n" for t in texts))
    kinds = ("english-plain", "code-c", "lang-de", "data-csv")
    broad.write_text(
        "".join(json.dumps({"text": t, "source": "x", "kind": k}) + "\n" for t in texts for k in kinds)
    )
    wanted = {
        "prose-sotu": 0.45, "english-plain": 0.055, "code-c": 0.235, "lang-de": 0.215, "data-csv": 0.045
    }  # fmt: skip
    size = sum(map(len, texts)) / wanted["code-c"]
    mix = mixed_by_kind(tmp_path, english, broad, megabytes=str(size / 1e6))
    assert mix == mixed_by_kind(tmp_path, english, broad, megabytes=str(size / 1e6))
    shares = {kind: sum(len(m["text"]) for m in mix if m["kind"] == kind) / size for kind in wanted}
    assert shares == pytest.approx(wanted, rel=0.05)
    of_code = [m["text"] for m in mix if m["kind"] == "code-c"]
    assert of_code == texts  # once each, in order
    places = [
        [i for i, m in enumerate(mix) if (m["kind"], m["text"]) == ("prose-sotu", text)] for text in texts
    ]
    twice = [found for found in places if len(found) == 2]
    assert len(twice) > 80
    assert all(second - first > len(mix) / 3 for first, second in twice)


def test_a_mix_refuses_records_of_no_group(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x", "kind": "music-sheet"}\n')
    command = [sys.executable, EXAMPLES / "mix.py", tmp_path / "a.jsonl", "-o", tmp_path / "mix.jsonl"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, timeout=600, check=False)
    assert done.returncode == 1
    assert done.stderr.decode().endswith("a.jsonl:1: of no group; found kind 'music-sheet'.\n")
    assert not (tmp_path / "mix.jsonl").exists()
