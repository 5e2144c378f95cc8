"""Writes the page and the figure of `compare_tokenisers.py` from the runs that are complete.

This module does not measure anything.
"""

import json
import statistics
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import pages
from kinds_page import GROUPS
from ladder import (
    BATCH_TOKENS,
    BLOCK_SIZE,
    BPE_OF,
    BPE_SAMPLE_BYTES,
    GROUP_CHARACTERS,
    KNOWING,
    LARGER,
    SAME,
    Arm,
    Run,
    bytes_per_token,
    flops_per_token,
    folder_of,
    held_out,
    vocabularies,
)
from matplotlib.figure import Figure

# Single runs that led to the defaults; this script does not repeat them.
TRIED = """## Tried: what M2 may know of its tokens' bytes

Bits/byte on every fourth block of valid, single runs of nano on 1.0 M tokens of 12 bits (ours: 3.87
bytes/token, BPE: 3.37). No script repeats them: they led to the defaults. Differences below 0.003 say little.

| tried | ours | BPE | kept |
| --- | ---: | ---: | --- |
| embeddings by id only | 2.214 | | |
| trie spelling at half weight, no n-grams | 2.152 | | yes |
| and n-grams of 3, 5, 7 bytes, 32,768 rows each, by SparseAdam at the common rate | 2.093 | 2.063 | |
| ... at 10 times the rate | 2.055 | | |
| ... at 30 times the rate | 2.077 | | |
| ... by Adagrad at 10 times the rate | 2.041 | 2.014 | yes |
| and n-grams of 2 to 7 bytes, 32,768 rows each | 2.006 | | |
| ... sharing 131,072 rows | 2.017 | 1.980 | yes |
| ... and of 9 and 12 bytes | 2.035 | | no |
| ... and of the text since the start of the last, the last two, the last three words | 2.019 | 1.983 | no |
| ... of cuts that tie, the one of frequent windows (on all of valid 2.001, before 2.009) | | | yes |
| ... the same, by prices 1 + 0.05 (x - 1), x = -log2 of a share / its mean (all of valid 1.994) | | | no |
| ... windows cut by x alone, at 3.86 bytes/token (all of valid 1.994) | | | no |
| ... windows chosen by their uses alone (3.82 bytes/token) | 2.011 | | no |
| ... windows chosen and cut with a penalty of 3 for a cut inside a word (3.86 bytes/token) | 2.009 | | no |
| ... what cannot follow lowered, in scoring (1/16 of valid; without: 1.997, 1.962) | 1.985 | 1.954 | |
| ... and in training (all of valid; without: 1.999, 1.987; BPE's is knowing-bpe) | 1.983 | 1.976 | yes |
| ... n-grams at the output too (1/4 of valid; without: 1.982, 1.987) | 1.971 | 1.975 | no |
| ... the same after 4 M tokens (without: 1.732) | 1.723 | | |
| ... the same at 16 bits, 1 M tokens (without: 1.840) | 1.847 | | |
| ... a third vector of each row for the values of attention as well | 1.967 | | no |
| ... each input and a learned share of the one before it | 1.977 | 1.981 | no |
| ... cautious weight decay that falls to 0 | 1.983 | | no |
| ... a token's shape, its lower case, its first and its last word in the spelling | 1.983 | 1.989 | no |
| ... steps of 4,096 tokens, which take 17 % more time | 1.959 | 1.963 | no |
| ... no window with letters and punctuation, 4 M tokens (all of valid; as kept: 1.734) | 1.733 | | no |
| ... the same after 16 M tokens, at 3.73 bytes/token (all of valid; as kept: 1.520) | 1.519 | | |

So an M2 that knows bytes is 0.20 bits/byte better than one that does not, for the same FLOPs. BPE gains more
from it than windows do: with n-grams of 2 to 7 bytes it was ahead by 0.037 at 12 bits, with 13 % fewer bytes
in a token, before ties went to frequent windows. Runs on nearly the same tokens, and of two seeds, differ by
up to 0.005 on *valid*. What cannot follow the last token costs an M2 that does not know it 0.012 bits/byte
after 1 M tokens and 0.007 after 4 M (BPE's: 0.008 and 0.004); what cannot follow the last five, 0.015 and
0.009 (BPE's: no more), but that depends on too many tokens for a list. A step of 8,192 random ids took 0.79
to 0.82 s of CPU time, with the spelling alone 0.76 s (nano, 4,096 windows, n-grams of 3, 5 and 7 bytes);
lowering logits took 0.4 ms for 512 of its tokens, whose products with the output matrix took 2.5 ms. N-grams
at the output (a second vector of each row, at a quarter, added after the last norm) help at 12 bits and harm
at 16, so they were left. Smaller steps gain what 17 % more tokens gain by the slope of the ladder.
"""


# The outcome of the published runs, before and after the table that sums it up; say it after measuring.
OUTCOME = pages.paragraph(
    "With equal training FLOPs a small language model learns English better from eqinfo's windows than "
    "from BPE's tokens: at 14 and 16 bits on all budgets that were run, at 12 bits on up to 16 M tokens "
    "with nano and 4 M with 3m, which has four times as many parameters in its layers. At 12 bits on "
    "larger budgets BPE is ahead, by 0.004 to 0.008. Bits/byte on *valid*, ours less BPE's, so that below "
    "0 ours is ahead; in the last column M2 has a fifth layer, so that windows cost as many FLOPs a byte "
    "of text as BPE's tokens:"
)
FINDINGS = "\n".join(
    map(
        pages.paragraph,
        (
            "A window holds 15, 28 and 48 % more text than a token of BPE (12, 14 and 16 bits). At "
            "12 bits, word perplexity is 49 to 58 % below that of bytes. Two runs that differ in nothing but "
            "their seed differ by up to 0.005 on *valid*. What has no figure was not run, nor were larger "
            "models and budgets.",
            "At 16 bits nano's lead is 0.023, 0.022 and 0.044 after 1 M, 4 M and 16 M tokens. After 16 M it "
            "is ahead on all eight texts, by 0.029 to 0.238, and by 2.1 in languages that no M2 has seen. At "
            "14 bits 3m is ahead after 16 M too, on all eight texts, by 0.014 to 0.236: with a smaller loss "
            "than any other run.",
            "Repeated text does not explain the larger budgets at 12 bits: 56 M windows are less than one "
            "epoch of the 219 MB (64 M are 1.12 epochs), and their loss on the last tenth is 0.005 below "
            "that on *valid*, BPE's 0.006. Nor do the 15 % more FLOPs that BPE spends on each byte, as the "
            "last column shows. On most other texts windows stay ahead: after 56 M by 0.195 on alice29, "
            "0.101 on lcet10, 0.070 on other layouts, 0.009 on code and 0.004 on data, and behind by 0.002 "
            "on asyoulik; 3m after 16 M by 0.203, 0.030, 0.085 and 0.035, and 0.070 on asyoulik, and "
            "behind by 0.004 on data.",
            "Trained on text of all kinds, 4 M tokens, windows of 12 bits are behind by 0.008 on *valid* "
            "and by 0.009 to 0.015 on code, data and other layouts, and ahead by 0.007 in other "
            "languages; windows of 14 bits are ahead by 0.002 on *valid* and by 0.017 to 0.060 on the "
            "other kinds. On alice29 and asyoulik BPE is ahead at 14 bits, by 0.023 and 0.068.",
            "M2 knows which windows never follow one another. An M2 that is told the same of BPE's tokens "
            "(*knowing-bpe*), which is not usual, is ahead of windows by 0.006 and 0.005 at 12 bits after "
            "1 M and 4 M tokens and level after 16 M, and behind by 0.009 and 0.008 at 14 bits, by 0.021 "
            "at 16. Windows of 13 bits, with BPE's M2 of 12 bits, its FLOPs a byte and its text, are "
            "behind by 0.017, 0.003 and 0.006 after 1 M, 4 M and 16 M tokens.",
        ),
    )
)


@dataclass
class Row:
    """The complete runs of an arm, with their measurements."""

    arm: Arm
    runs: list[Run] = field(default_factory=list)
    measured: list[dict[str, float]] = field(default_factory=list)
    scores: list[dict[str, dict[str, float]]] = field(default_factory=list)  # by text
    commits: list[str] = field(default_factory=list)

    def mean(self, text_name: str, name: str) -> float:
        """The mean of a figure on a text over the seeds."""
        return statistics.fmean(score[text_name][name] for score in self.scores)

    def shown(self, text_name: str, name: str, digits: int) -> str:
        """The mean as text, with half the range if there are several seeds."""
        values = [score[text_name][name] for score in self.scores]
        spread = f" ± {(max(values) - min(values)) / 2:.{digits}f}" if len(values) > 1 else ""
        return f"{statistics.fmean(values):.{digits}f}{spread}"

    def training_flops(self, work: Path) -> float:
        """FLOPs of the training of a run."""
        return self.runs[0].config(work).training_flops * self.measured[0]["training_tokens"]


def read_score(path: Path) -> dict[str, float]:
    """The result of eval for one run on one text."""
    (found,) = json.loads(path.read_bytes())["m2"]
    score: dict[str, float] = found
    return score


def median_rates(work: Path, vocabulary: str) -> dict[str, float]:
    """Median bytes per second of scoring and of generation; empty if nothing was measured."""
    found = [read_score(path) for path in sorted((work / "times" / vocabulary).glob("*.json"))]
    names = ("scoring_bytes_per_s", "generation_bytes_per_s")
    return {name: statistics.median(score[name] for score in found) for name in names} if found else {}


def complete_rows(work: Path, plan: dict[Run, Arm]) -> dict[Arm, Row]:
    """The arms with complete runs, in the order of the ladder."""
    rows: dict[Arm, Row] = {}
    texts = held_out(work / "ours-b12")
    for run, arm in plan.items():
        facts, paths = run.measured(work), {name: run.score_path(work, name) for name in texts}
        if facts is None or not all(path.exists() for path in paths.values()):
            continue
        row = rows.setdefault(arm, Row(arm))
        row.runs.append(run)
        row.measured.append(facts)
        row.commits.append(str(run.record(work)["git_commit"])[:12])
        row.scores.append({name: read_score(path) for name, path in paths.items()})
    return rows


def difference(row: Row, theirs: Row, text_name: str) -> str:
    """The bits/byte of an arm on a text, less those of another."""
    return f"{row.mean(text_name, 'bits_per_byte') - theirs.mean(text_name, 'bits_per_byte'):+.3f}"


def summary_table(rows: dict[Arm, Row]) -> str:
    """Ours less BPE's on *valid*, a rung in a row; nothing stands for what was not run."""
    columns = {f"{bits} bits": (f"ours-b{bits}", SAME) for bits in (12, 14, 16)}
    columns["12 bits, larger M2"] = ("ours-b12", LARGER)
    shown = []
    for rung in dict.fromkeys(arm.rung for arm in rows):
        cells = []
        for name, match in columns.values():
            ours, theirs = rows.get(Arm(rung, name, match)), rows.get(Arm(rung, BPE_OF[name], SAME))
            cells.append(difference(ours, theirs, "valid") if ours and theirs else "")
        shown.append([rung.name, *cells])
    return pages.table(["M2, training tokens", *columns], shown)


def ladder_table(work: Path, rows: dict[Arm, Row], texts: list[str]) -> str:
    """The table of all arms, a rung after the other."""
    head = ["rung", "tokens", "M2", "seeds", "tokens, M", "text, MB", "PFLOPs", "kFLOPs/byte", "bytes/token"]
    shown = []
    for arm, row in rows.items():
        run, n_tokens = row.runs[0], row.measured[0]["training_tokens"]
        sizes = [bytes_per_token(folder_of(work, arm.vocabulary), name) for name in ("train", "valid")]
        cost = flops_per_token(run.config(work)) / sizes[1]
        theirs = rows.get(Arm(arm.rung, BPE_OF[arm.vocabulary], SAME))
        differences = ["", ""]
        if theirs is not None and theirs is not row:
            differences = [
                difference(row, theirs, "valid"),
                percent(*(of.mean("valid", "word_perplexity") for of in (row, theirs))),
            ]
        shown.append(
            [
                arm.rung.name, arm.vocabulary,
                run.shape, f"{len(row.runs)}", f"{n_tokens / 1e6:.2f}", f"{n_tokens * sizes[0] / 1e6:.1f}",
                f"{row.training_flops(work) / 1e15:.4g}", f"{cost / 1e3:,.0f}", f"{sizes[1]:.3f}",
                *(row.shown(name, "bits_per_byte", 3) for name in texts), differences[0],
                row.shown("valid", "word_perplexity", 0), differences[1],
            ]
        )  # fmt: skip
    head += [*texts, "- BPE's", "word perplexity", "to BPE's"]
    return pages.table(head, shown)


def kinds_table(rows: dict[Arm, Row], kinds: list[str]) -> str:
    """The table of all arms on kinds of text, beside BPE."""
    head, shown = ["rung", "tokens", "M2"], []
    for kind in kinds:
        head += [GROUPS[kind], "- BPE's"]
    for arm, row in rows.items():
        theirs = rows.get(Arm(arm.rung, BPE_OF[arm.vocabulary], SAME), row)
        cells = [arm.rung.name, arm.vocabulary, row.runs[0].shape]
        for kind in kinds:
            bits = row.mean(kind, "bits_per_byte")
            cells += [f"{bits:.3f}", "" if theirs is row else difference(row, theirs, kind)]
        shown.append(cells)
    return pages.table(head, shown)


def ladder_section(work: Path, rows: dict[Arm, Row]) -> Iterator[str]:
    """What the runs on English reach on English, and on what is foreign to them."""
    texts, kinds = texts_and_kinds(work)
    yield "## The ladder\n"
    yield pages.paragraph(
        "Bits/byte on held-out texts: smaller is better. With several seeds, the mean ± half the range. All "
        "arms of a rung that are compared have the same training FLOPs, with output matrix and attention. "
        "Ours and BPE of one width have as many tokens too; bytes, published windows and windows of 13 bits "
        "are compared with BPE of 12 bits. *Text* is what the training tokens decode to, kFLOPs/byte the "
        "cost of reading. Two arms cost as much as BPE of 12 bits, and read as much text for the same "
        "training FLOPs: windows of 13 bits with an M2 of the same shape, and of 12 bits with a larger one."
    )
    yield ladder_table(work, rows, texts)
    yield pages.paragraph(
        "The same runs on kinds of text that neither M2 nor its vocabulary was trained on: bits/byte, the "
        f"mean of the seeds, on up to {GROUP_CHARACTERS:,} characters of each group of *broad-valid*, of all "
        "kinds alike. "
        "Languages it never saw cost every M2 more than the 8 bits of a plain byte; seeds differ there by up "
        "to 1.1 bits/byte, elsewhere by up to 0.08."
    )
    yield kinds_table(rows, kinds)


def mixed_section(work: Path, rows: dict[Arm, Row]) -> Iterator[str]:
    """What runs on text of all kinds reach."""
    texts, kinds = texts_and_kinds(work)
    yield "## Trained on text of all kinds\n"
    yield pages.paragraph(
        "The same with M2, windows and BPE all trained on a mix of prose, source code, data and sixty-odd "
        "languages (`mix.py --megabytes 120`, without paragraphs of held-out texts), a part of what the "
        "default model comes from."
    )
    yield ladder_table(work, rows, texts)
    yield kinds_table(rows, kinds)


def texts_and_kinds(work: Path) -> tuple[list[str], list[str]]:
    """The names of the held-out texts that are English, and of the groups of all kinds of text."""
    names = held_out(work / "ours-b12")
    return [name for name in names if name not in GROUPS], [name for name in names if name in GROUPS]


def percent(value: float, reference: float) -> str:
    """The relative difference from the reference, in percent."""
    return f"{value / reference - 1:+.1%}"


def speed_table(work: Path, names: list[str]) -> Iterator[str]:
    """The table of speed."""
    rates = {name: found for name in names if (found := median_rates(work, name))}
    shown = []
    for name, found in rates.items():
        theirs, row = rates.get(BPE_OF[name], found), [name]
        for rate, value in found.items():
            row += [f"{value:,.0f}", "" if theirs is found else percent(value, theirs[rate])]
        shown.append(row)
    if shown:
        yield "## Speed in bytes of text per second\n"
        yield pages.paragraph(
            "Measured by `eqinfo eval` in one thread, nano, with the tokenisers taking turns; medians. The "
            "columns beside give the difference from BPE with tokens of the same width (b12 for bytes)."
        )
        yield pages.table(["tokeniser", "scoring", "to BPE's", "generation", "to BPE's"], shown)


def draw(work: Path, rows: Iterable[Row], path: Path) -> None:
    """Draw bits/byte on valid against training FLOPs, a line for each arm."""
    lines: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for row in rows:
        arm = row.arm
        point = row.training_flops(work), row.mean("valid", "bits_per_byte")
        lines.setdefault((arm.vocabulary, arm.rung.shape, arm.match), []).append(point)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "eqinfo", "font.size": 9}):
        figure = Figure(figsize=(6.4, 4.4), layout="constrained")
        axes = figure.add_subplot()
        for (vocabulary, shape, match), points in lines.items():
            kind, _, bits = vocabulary.rpartition("-")
            colour = f"C{('', 'ours', 'bpe', 'published', f'{KNOWING}bpe').index(kind)}"
            style = {"b13": "-.", "b14": "--", "b16": ":"}.get(bits, "-")
            label = f"{vocabulary}, {shape}" + (", larger" if match == LARGER else "")
            marker = "*" if match == LARGER else {"nano": "o", "3m": "s"}.get(shape, "^")
            axes.plot(*zip(*points, strict=True), marker + style, color=colour, label=label, markersize=5)
        axes.set_xscale("log")
        axes.set_xlabel("training FLOPs")
        axes.set_ylabel("bits/byte, valid")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=6, ncols=2)
        figure.savefig(path, metadata={"Date": None})


def write_page(
    work: Path, plan: dict[Run, Arm], mixed: Path | None, mixed_plan: dict[Run, Arm], output: Path | None
) -> None:
    """Write the page and its figure; `mixed` is the folder of runs on text of all kinds."""
    rows = complete_rows(work, plan)
    mixed_rows = complete_rows(mixed, mixed_plan) if mixed else {}
    if not rows:
        sys.exit("no run is complete yet.")
    commits = [commit for row in (*rows.values(), *mixed_rows.values()) for commit in row.commits]
    parts = [
        "# What windows are worth to a language model\n",
        OUTCOME,
        summary_table(rows),
        FINDINGS,
        pages.provenance(sys.argv, ("matplotlib", "numpy", "tokenizers", "torch"))
        + f"- {len(commits)} runs at commit {', '.join(sorted(set(commits)))}; {BATCH_TOKENS:,} tokens a "
        f"step in blocks of {BLOCK_SIZE}\n"
        "- bytes: 257 tokens; b12, b14, b16: at most 2^12, 2^14 and 2^16\n"
        "- published: the paper's rule with greedy parse; ours: refitted windows with optimal parse; both "
        "from candidates of the M1 in the package, refitted to the training text\n"
        "- bpe: merges inside words, pre-tokenised as in GPT-2, trained on a sample of "
        f"{BPE_SAMPLE_BYTES / 1e6:.0f} MB of the training text\n"
        "- every M2 knows the bytes of its tokens, whatever the tokens: trie spelling and byte n-grams\n"
        "- ours and published: M2 knows which windows no cut has side by side, from the codebook; "
        "knowing-bpe: it knows the same of BPE's tokens (`knowing_bpe.py`); bpe: it does not, as is usual\n"
        "- every token file was decoded back and compared with its text\n",
        *ladder_section(work, rows),
        *(mixed_section(mixed, mixed_rows) if mixed else ()),
        *speed_table(work, vocabularies(work)),
        TRIED,
    ]
    if output is not None:
        figure = output.with_suffix(".svg")
        draw(work, rows.values(), figure)
        parts.insert(-1, f"![bits/byte against training FLOPs]({figure.name})\n")
    pages.publish(parts, output)
