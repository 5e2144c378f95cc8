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


def figures(text: str) -> set[Decimal]:
    return {Decimal(found.replace(",", "")) for found in re.findall(r"\d[\d,]*(?:\.\d+)?", text)}


@pytest.mark.parametrize(
    ("start", "end", "page"),
    [
        ("which has 18: ", ". The same", "kinds.md"),
        ("One core turns ", "](", "benchmarks.md"),
        ("![Bytes of English prose", "](", "kinds.md"),
        ("| eqinfo, 16-bit windows", "\n\n", "benchmarks.md"),
        (6 * " ---: |" + "\n", "\n## ", "results.md"),
    ],
)
def test_figures_in_the_readme_are_those_of_the_pages(start: str, end: str, page: str) -> None:
    shown = README.partition(start)[2].partition(end)[0]
    shown = re.sub(r"[\d,.]+[- ](M\b|bit)|GPT-4o|-\d+|order \d+|[\d, and]+ bits", "", shown)  # not measured
    measured = figures((EXAMPLES / page).read_text("utf-8"))
    assert len(figures(shown)) > 3
    for figure in figures(shown):
        half = Decimal((0, (5,), int(figure.as_tuple().exponent) - 1))
        assert any(abs(found - figure) <= half for found in measured), figure


def test_the_bars_are_the_figures_of_the_page_of_kinds() -> None:
    chart = (EXAMPLES / "bytes_per_token.svg").read_text("utf-8")
    page = (EXAMPLES / "kinds.md").read_text("utf-8")
    table = page.partition("## Bytes per token, each group taken together")[2].partition("\n##")[0]
    head, *rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|")]
    columns = [head.index(name) for name in ("16 bits", "BPE, same mix", "o200k", "16 bits, published")]
    shown = {row[0]: row for row in rows}
    for group in ("English prose", "source code", "data, logs, mail", "other languages"):
        for column in columns:
            value = shown[group][column - len(head)]  # the head's first cell is empty
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
