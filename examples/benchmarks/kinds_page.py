"""Formats the page of `kinds`: what was promised, and tables of bytes per token by kind of text.

This module does not measure anything.
"""

import json
from collections.abc import Iterable, Iterator
from statistics import geometric_mean
from typing import NamedTuple

import pages

GROUPS = {  # by the first word of a kind
    "code": "source code",
    "data": "data, logs, mail",
    "prose": "English prose",
    "english": "English, other layouts",
    "lang": "other languages",
    "file": "files",
}
MOST_USED = [
    *("lang-ar", "lang-cs", "lang-da", "lang-de", "lang-el", "lang-es", "lang-fi", "lang-fr", "lang-he"),
    *("lang-hi", "lang-hu", "lang-id", "lang-it", "lang-ja", "lang-ko", "lang-nl", "lang-pl", "lang-pt"),
    *("lang-ru", "lang-sv", "lang-tr", "lang-uk", "lang-vi", "lang-zh"),
]
MAIN, WIDE = "16 bits", "18 bits"  # the codebooks that something was promised of
BPE, O200K, CL100K = "BPE, same mix", "o200k", "cl100k"
XZ, PPMD, ZSTD = "xz -9", "PPMd, order 16", "zstd -19"
START_BYTES = 1 << 16  # of each kind that M1 reads
LIVE_BITS = 64

Counts = dict[str, dict[str, int]]  # by contestant, then by kind or shape of text


class Promise(NamedTuple):
    """What was promised of a file."""

    bytes_per_token: float  # by the default codebook of version 0.1.0
    bits_per_byte: float  # by `ac`


FILES = {
    "file-alice29": Promise(4.354, 1.60),
    "file-asyoulik": Promise(4.447, 1.76),
    "file-lcet10": Promise(5.154, 1.40),
}


def group(kind: str) -> str:
    """The first word of a kind, which is one of GROUPS."""
    return kind.partition("-")[0]


def of_groups(kinds: Iterable[str], *groups: str) -> list[str]:
    """The kinds that are of these groups."""
    return [kind for kind in kinds if group(kind) in groups]


class Kinds(NamedTuple):
    """The size in bytes of each kind, and what each contestant makes of it: tokens, windows or bytes."""

    sizes: dict[str, int]
    units: Counts

    def bytes_per_unit(self, name: str, kinds: Iterable[str]) -> float:
        """Bytes per unit of a contestant in several kinds taken together."""
        sizes, units = zip(*((self.sizes[kind], self.units[name][kind]) for kind in kinds), strict=True)
        return sum(sizes) / sum(units)

    def ratios(self, ours: str, theirs: str, kinds: Iterable[str]) -> dict[str, float]:
        """Bytes per unit of one contestant / those of another in each kind; none if one was not measured."""
        if not {ours, theirs} <= self.units.keys():
            return {}
        return {kind: self.units[theirs][kind] / self.units[ours][kind] for kind in kinds}

    def mean_ratios(self, ours: str, theirs: str) -> dict[str, float]:
        """The geometric mean of these ratios over the kinds of each group that has any."""
        found = {name: self.ratios(ours, theirs, of_groups(self.sizes, name)) for name in GROUPS}
        return {GROUPS[name]: geometric_mean(ratios.values()) for name, ratios in found.items() if ratios}


class Measured(NamedTuple):
    """All that the page shows; what was not measured is empty."""

    kinds: Kinds  # tokens of each codebook, then of BPEs
    shapes: Kinds  # the same of English prose in other shapes, the first as it is
    packed: Kinds  # the start of each kind: bytes of `ac` with each M1, then of compressors
    windows: Kinds  # the start of source code and languages: live windows with each M1

    def json(self) -> str:
        """All figures as JSON."""
        figures = {name: part._asdict() for name, part in self._asdict().items()}
        promised = [bar._asdict() | {"met": bar.met} for bar in bars(self)]
        return json.dumps({"bars": promised} | figures, indent=1) + "\n"


PUBLISHED = (
    "Published figures of the strongest compressors, for comparison: on alice29 cmix takes 1.635 bits/byte, "
    "ts_zip with a language model of 169 million parameters 1.142, at up to 1 MB/s on an RTX 4090 "
    "(bellard.org/ts_zip). On enwik9, 1 GB of Wikipedia, the Large Text Compression Benchmark gives "
    "0.926 bits/byte at 1.7 kB/s for cmix v18, 0.953 at 1.2 kB/s for nncp, 1.009 at 1.7 kB/s for paq8pxd v48 "
    "and 1.138 at 150 kB/s for zpaq 6.42; ts_zip gives 1.084. These learn from the whole gigabyte; an `ac` "
    "frame of 1 MiB begins anew."
)


# ---- bars


class Bar(NamedTuple):
    """A promise of a figure, and what was found."""

    what: str
    want: float
    figures: dict[str, float]  # by kind or group, of which the worst counts; empty if not measured
    at_most: bool = False

    @property
    def worst(self) -> str:
        """The kind or group of the figure that counts."""
        return (max if self.at_most else min)(self.figures, key=self.figures.__getitem__)

    @property
    def met(self) -> bool | None:
        """Whether the promise is kept; None if it was not measured."""
        if not self.figures:
            return None
        found = self.figures[self.worst]
        return found <= self.want if self.at_most else found >= self.want

    def row(self) -> list[str]:
        """The row of the table."""
        want = f"{'≤' if self.at_most else '≥'} {self.want:g}"
        if self.met is None:
            return [self.what, want, "", "not measured"]
        where = f" ({self.worst})" if len(self.figures) > 1 else ""
        return [self.what, want, f"{self.figures[self.worst]:.3f}{where}", "met" if self.met else "missed"]


def bars(measured: Measured) -> list[Bar]:
    """All promises."""
    kinds, packed = measured.kinds, measured.packed
    every = of_groups(packed.sizes, *GROUPS.keys() - {"file"})
    languages = of_groups(kinds.sizes, "lang")
    most_used = [kind for kind in MOST_USED if kind in languages]
    ac = next(iter(packed.units), "")

    def mean(*groups: str) -> dict[str, float]:
        ratios = kinds.ratios(MAIN, O200K, of_groups(kinds.sizes, *groups))
        return {"": geometric_mean(ratios.values())} if ratios else {}

    def bytes_per_token(*of: str) -> dict[str, float]:
        known = bool(of) and MAIN in kinds.units and set(of) <= kinds.sizes.keys()
        return {"": kinds.bytes_per_unit(MAIN, of)} if known else {}

    def bits_per_byte(file: str) -> dict[str, float]:
        return {"": 8 / packed.bytes_per_unit(ac, [file])} if file in packed.sizes else {}

    def saved(than: str) -> dict[str, float]:
        return {kind: 1 - 1 / ratio for kind, ratio in packed.ratios(ac, than, every).items()}

    return [
        Bar(f"{MAIN} / {O200K}, source code", 1.25, mean("code")),
        Bar(f"{MAIN} / {O200K}, data", 1.27, mean("data")),
        Bar(f"{MAIN} / {O200K}, English", 1.27, mean("prose", "english")),
        Bar(f"{MAIN} / {O200K}, other languages", 0.80, mean("lang")),
        Bar(f"{MAIN} / {O200K}, each of the most used", 0.70, kinds.ratios(MAIN, O200K, most_used)),
        Bar(f"{MAIN} / {O200K}, each language", 0.40, kinds.ratios(MAIN, O200K, languages)),
        Bar(f"{MAIN} / {BPE}, each group", 1.15, kinds.mean_ratios(MAIN, BPE)),
        Bar(f"{WIDE} / {O200K}, each group", 1.0, kinds.mean_ratios(WIDE, O200K)),
        Bar(f"bytes/token of {MAIN}, English prose", 5.85, bytes_per_token(*of_groups(kinds.sizes, "prose"))),
        *(
            Bar(f"bytes/token of {MAIN}, {file}", promise.bytes_per_token, bytes_per_token(file))
            for file, promise in FILES.items()
        ),
        Bar(f"`ac`, share below {XZ}, each kind", 0.30, saved(XZ)),
        Bar(f"`ac`, share below {PPMD}, each kind", 0.0, saved(PPMD)),
        *(
            Bar(f"bits/byte of `ac`, {file}", promise.bits_per_byte, bits_per_byte(file), at_most=True)
            for file, promise in FILES.items()
        ),
    ]


# ---- tables


def tables(measured: Measured, ours: list[str], m1_bytes: int = 0) -> Iterator[str]:
    """All tables, each below its title.

    Args:
        measured: what to show.
        ours: names of the codebooks.
        m1_bytes: size of the file of the M1 that `ac` ran first.
    """
    kinds = measured.kinds
    yield "## Bars\n"
    yield pages.paragraph(
        "Targets that were set before measuring. Ratios are of bytes/token; of groups, the geometric mean "
        "over their kinds."
    )
    yield pages.table(["", "want", "found", ""], [bar.row() for bar in bars(measured)])
    yield from group_tables(kinds, ours)
    yield "## Bytes per token, the most used languages\n"
    yield kind_table(kinds, [kind for kind in MOST_USED if kind in kinds.sizes], ours)
    if measured.shapes.sizes:
        yield "## Bytes per token, English prose in other shapes\n"
        yield shape_table(measured.shapes)
    if measured.packed.sizes:
        yield f"## Bits per byte of streams, the first {START_BYTES:,} bytes of each kind and whole files\n"
        yield pages.paragraph("The last columns: by how much the first is below the others.")
        yield packed_table(measured.packed)
        yield pages.paragraph(with_m1(measured.packed, m1_bytes) + PUBLISHED)
    if measured.windows.sizes:
        yield f"## Live windows of {LIVE_BITS} bits, the first {START_BYTES:,} bytes of each kind\n"
        yield window_table(measured.windows)
    yield "## Bytes per token, every kind\n"
    yield kind_table(kinds, kinds.sizes, ours)


def with_groups(kinds: Iterable[str]) -> dict[str, list[str]]:
    """Rows of a table: the groups that have any of these kinds, then the kinds, each with its kinds."""
    kinds = list(kinds)
    groups = {f"{words}, all": of_groups(kinds, name) for name, words in GROUPS.items()}
    return {name: of for name, of in groups.items() if of} | {kind: [kind] for kind in kinds}


def group_tables(kinds: Kinds, ours: list[str]) -> Iterator[str]:
    """The tables of bytes per token and of ratios in each group."""
    yield "## Bytes per token, each group taken together\n"
    rows = []
    for name, words in GROUPS.items():
        if of := of_groups(kinds.sizes, name):
            found = [f"{kinds.bytes_per_unit(each, of):.3f}" for each in kinds.units]
            rows.append([words, f"{len(of)}", f"{sum(map(kinds.sizes.__getitem__, of)):,}", *found])
    yield pages.table(["", "kinds", "bytes", *kinds.units], rows)
    yield "## Ratio of bytes per token, geometric mean over the kinds of a group\n"
    means = {
        f"{each} / {theirs}": kinds.mean_ratios(each, theirs)
        for each in ours
        for theirs in kinds.units
        if theirs not in ours
    }
    rows = [[name, *(f"{mean:.3f}" for mean in found.values())] for name, found in means.items()]
    yield pages.table(["", *next(iter(means.values()))], rows)


def kind_table(kinds: Kinds, of: Iterable[str], ours: list[str]) -> str:
    """The table of bytes per token in each of these kinds, and the ratios of one codebook."""
    main = MAIN if MAIN in ours else ours[0]
    theirs = [name for name in kinds.units if name not in ours]
    rows = []
    for kind in of:
        found = [kinds.bytes_per_unit(name, [kind]) for name in kinds.units]
        found += [kinds.ratios(main, name, [kind])[kind] for name in theirs]
        rows.append([kind, f"{kinds.sizes[kind]:,}", *(f"{each:.3f}" for each in found)])
    return pages.table(["", "bytes", *kinds.units, *(f"{main} / {name}" for name in theirs)], rows)


def shape_table(shapes: Kinds) -> str:
    """The table of shapes; each but the first also beside the first."""
    first, *others = shapes.sizes
    plain = {name: shapes.bytes_per_unit(name, [first]) for name in shapes.units}
    rows = [[first, *(f"{each:.3f}" for each in plain.values())]]
    for shape in others:
        found = {name: shapes.bytes_per_unit(name, [shape]) for name in shapes.units}
        rows.append([shape, *(f"{each:.3f} ({each / plain[name] - 1:+.0%})" for name, each in found.items())])
    return pages.table(["", *shapes.units], rows)


def packed_table(packed: Kinds) -> str:
    """The table of streams that an arithmetic code and compressors make."""
    rows = []
    for name, of in with_groups(packed.sizes).items():
        bits = {each: 8 / packed.bytes_per_unit(each, of) for each in packed.units}
        ours = next(iter(bits.values()))
        size = sum(map(packed.sizes.__getitem__, of))
        saved = [f"{1 - ours / bits[than]:.1%}" for than in (XZ, PPMD)]
        rows.append([name, f"{size:,}", *(f"{each:.3f}" for each in bits.values()), *saved])
    return pages.table(["", "bytes", *packed.units, f"below {XZ}", f"below {PPMD}"], rows)


def with_m1(packed: Kinds, m1_bytes: int) -> str:
    """A sentence about the size of streams and M1 together."""
    ours = next(iter(packed.units))
    size, streams, xz = (sum(each.values()) for each in (packed.sizes, packed.units[ours], packed.units[XZ]))
    return (
        f"What M1 knows is a file of {m1_bytes:,} bytes, which the reader needs too. With it all these "
        f"texts, {size:,} bytes, take {8 * (streams + m1_bytes) / size:.3f} bits/byte instead of "
        f"{8 * streams / size:.3f}; {XZ} takes {8 * xz / size:.3f}. Together they are smaller than {XZ}'s "
        f"streams from {m1_bytes * size / (xz - streams) / 1e6:.0f} MB of such text on. "
    )


def window_table(windows: Kinds) -> str:
    """The table of live windows."""
    rows = []
    for name, of in with_groups(windows.sizes).items():
        found = [windows.bytes_per_unit(each, of) for each in windows.units]
        rows.append(
            [name, *(f"{each:.2f}" for each in found), *(f"{LIVE_BITS / each:.3f}" for each in found)]
        )
    head = [f"{name}, {unit}" for unit in ("bytes/window", "bits/byte") for name in windows.units]
    return pages.table(["", *head], rows)
