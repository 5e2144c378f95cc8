"""Draw the README's pictures: a sentence cut three ways, and bytes per token on four texts.

Usage: picture.py   (needs `pip install bpe-openai` for the BPE that it compares with)

Writes cuts.svg from what the tokenisers return, and bytes_per_token.svg from the table in kinds.md.
"""

from itertools import pairwise
from pathlib import Path

import eqinfo
from eqinfo.eval.drawing import BLUES, CHARACTER, FAINT, MARGIN, RED, Piece, boxes, svg, text
from eqinfo.formats.model_folder import model_path

HERE = Path(__file__).parent
SENTENCE = "let us strive on to finish the work we are in, to bind up the nation's wounds"

FILLS = {"eqinfo": BLUES, "paper": ("#f2dd8a", "#fff8c5"), "bpe": ("#d0d7de", "#eaeef2")}

COLUMNS_OF_KINDS_MD = {  # the column of the table, its name in the chart, its colour
    "16 bits": ("eqinfo, 65,536 windows", "#0969da"),
    "BPE, same mix": ("BPE of 65,536, trained on the same texts", "#8c959f"),
    "o200k": ("BPE of GPT-4o, 199,998", "#afb8c1"),
    "16 bits, published": ("the paper's windows, same model", "#d4a72c"),
}
GROUPS = "English prose", "source code", "data, logs, mail", "other languages"


def row(y: int, kind: str, name: str, pieces: list[str], ids: list[int]) -> list[str]:
    """A sentence in its pieces, below a line that says whose they are."""
    heading = text(MARGIN, y, name, more='font-weight="600"')
    inside = [a[-1:].isalnum() and b[0].isalnum() for a, b in pairwise(["", *pieces])]
    below = [str(token) if kind == "eqinfo" else "" for token in ids]
    return [heading, *boxes(y + 10, list(map(Piece, pieces, below, inside)), kind, FILLS[kind])]


def cuts() -> str:
    """The sentence, cut by eqinfo, by the paper's rule and by GPT-4's BPE."""
    import bpe_openai

    parts: list[str] = []
    for y, kind, model in ((34, "eqinfo", None), (114, "paper", model_path(None) / "published.eqcb")):
        tokenizer = eqinfo.load(model)
        ids = tokenizer.encode(SENTENCE).tolist()
        pieces = [tokenizer.decode([token]).decode() for token in ids]
        whose = "eqinfo" if kind == "eqinfo" else "the paper's rule, same model"
        name = f"{whose}: {len(ids)} windows of 16 bits"
        parts += row(y, kind, name + (", each with its number" if kind == "eqinfo" else ""), pieces, ids)
    bpe = bpe_openai.get_encoding("cl100k_base")
    ids = bpe.encode(SENTENCE)
    name = f"BPE of GPT-4, 100,256 entries: {len(ids)} tokens of 17 bits"
    parts += row(182, "bpe", name, [bpe.decode([token]) for token in ids], ids)
    width = 2 * MARGIN + len(SENTENCE) * CHARACTER
    parts.append(f'<rect x="{width - 216}" y="20" width="3" height="16" fill="{RED}"/>')
    parts.append(text(width - 207, 33, "a cut inside a word;  ·  a space", 12, FAINT))
    return svg(width, 242, f"Cut three ways: {SENTENCE}", parts)


def bytes_per_token() -> str:
    """A bar chart of the table in kinds.md."""
    table = (
        (HERE / "kinds.md").read_text().partition("## Bytes per token, each group")[2].partition("\n##")[0]
    )
    head, *lines = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|")]
    rows = {name: dict(zip(head[-len(values) :], values, strict=True)) for name, *values in lines}
    parts, y = [], 58
    parts.append(text(MARGIN, 30, "Bytes of text in one window or token", 15, more='font-weight="600"'))
    for k, group in enumerate(GROUPS):
        parts.append(text(MARGIN, y + 32, group, 14))
        for name, (label, colour) in COLUMNS_OF_KINDS_MD.items():
            value = float(rows[group][name])
            parts.append(f'<rect x="150" y="{y}" width="{value * 70:.1f}" height="13" fill="{colour}"/>')
            words = f"{value + 1e-9:.2f}" + (f"  {label}" if k == 0 else "")
            parts.append(text(156 + value * 70, y + 11, words, 12))
            y += 15
        y += 12
    return svg(890, y + 8, "Bytes per token of eqinfo, BPE and the paper's windows on four kinds", parts)


if __name__ == "__main__":
    (HERE / "cuts.svg").write_text(cuts())
    (HERE / "bytes_per_token.svg").write_text(bytes_per_token())
