"""The section of `run.py` on what limits each path.

It counts the innermost work of each path per byte of text, times it in the path, and times the same work in a
loop of this module that does nothing else.
"""

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pages
import peers

from eqinfo.codebook import parse
from eqinfo.codebook.codebook import Codebook
from eqinfo.coder.integer_m1 import BOS, INNER, MIXED, WIDTH, Network
from eqinfo.coder.kernels.m1_step import matrix_vector, new_state, run
from eqinfo.formats import eqi
from eqinfo.formats.codec import ArithmeticCodec, CodebookCodec, WindowCodec
from eqinfo.formats.model_folder import Model
from eqinfo.text.frames import Frame, frames_of_bytes

READ_BYTES = 1 << 22
LIVE_BYTES = 1 << 16  # with M1 running
N_LOADS, N_PRODUCTS = 1 << 22, 500  # repetitions of the work that is timed alone
RUNS = 5
PACKAGES = ("numba", "numpy")

# What the published run shows: check these sentences after measuring again.
WORDS = (
    "*Text to ids* is bound by trie steps: the optimal parse walks the trie from every byte, the greedy "
    "parse from the end of each window. A step that waits for memory takes as long as a dependent load from "
    "a table of that size. The optimal parse interleaves the walks from many bytes, which do not depend on "
    "each other, so it can be faster than a loop that only counts the steps, one walk after another. The "
    "rest of its time goes into choosing the cheapest window at each byte. Cost grows with the depth of the "
    "trie, and with the size of its table once the caches are full.",
    "*Ids to text* adds up window lengths, then copies a row of 16 bytes per window to the end of the "
    "previous window. The last column says how much faster memory alone would allow.",
    "*`ac` and wide windows* are bound by arithmetic: M1 multiplies all its matrices with 16-bit numbers "
    "for every byte. Beyond that, M1 spends time on n-gram tables, scaling and the frequencies of the next "
    "byte; `ac` adds the context mixing of eight bits per byte.",
    "*Start-up* is Python's imports and the loading of the codebook, in which every window is checked.",
)

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]


@numba.njit
def walk(text: U8, table: U32, root: int, start: int) -> tuple[int, int]:
    """Follow the trie from one byte of the text: how many slots are read, and the longest match in bytes."""
    n, length = 0, 0
    base: Any = root
    for j in range(start, text.size):
        entry = np.int64(table[base ^ text[j]])
        n += 1
        if entry & 255 != text[j]:
            break
        if entry & 256:
            length = j + 1 - start
        base = entry >> 9
    return n, length


@numba.njit
def steps_of_all(text: U8, table: U32, root: int) -> int:
    """The trie slots read by walks from every byte, as in the optimal parse."""
    n = 0
    for i in range(text.size - 1, -1, -1):
        n += walk(text, table, root, i)[0]
    return n


@numba.njit
def steps_of_longest(text: U8, table: U32, root: int) -> int:
    """The trie slots read by walks from each longest match to the next, as in the greedy parse."""
    n, i = 0, 0
    while i < text.size:
        steps, length = walk(text, table, root, i)
        n += steps
        i += length
    return n


@numba.njit
def chain(following: U32, n: int) -> int:
    """The last index after n dependent loads, each of which gives the index of the next."""
    at = np.int64(0)
    for _ in range(n):
        at = np.int64(following[at])
    return at


def one_cycle(size: int) -> U32:
    """A random permutation of `size` indices that is one cycle: the next index for each."""
    order = np.random.default_rng(0).permutation(size)
    following = np.empty(size, np.uint32)
    following[order] = np.roll(order, -1)
    return following


@numba.njit
def added(codewords: U32, lengths: U8) -> int:
    """The sum of the lengths of the windows of some codewords."""
    n = 0
    for codeword in codewords:
        n += lengths[codeword]
    return n


@numba.njit
def gather(codewords: U32, words: U64) -> U64:
    """Copies the two 64-bit words of each codeword, as decoding does, but to places that need no lengths."""
    out = np.empty(codewords.size + 1, np.uint64)
    for i in range(codewords.size):
        out[i] = words[codewords[i], 0]
        out[i + 1] = words[codewords[i], 1]
    return out


@numba.njit
def products(network: Network, unit: Any, mixed: Any, inner: Any, sums: Any, times: int) -> None:
    """Multiply every matrix of M1 with a vector, `times` times."""
    for _ in range(times):
        matrix_vector(network.mix, mixed, sums, MIXED)
        for at in range(network.inputs.shape[0]):
            matrix_vector(network.inputs[at], unit, sums, WIDTH)
            matrix_vector(network.output[at], inner, sums, INNER)
        matrix_vector(network.head, unit, sums, WIDTH)


def n_products(network: Network) -> int:
    """The number of multiplications in M1's matrices per byte."""
    return sum(matrix.size for matrix in (network.mix, network.inputs, network.output, network.head))


def each(function: Callable[..., object], pieces: list[Any], *arguments: object) -> Callable[[], object]:
    """A function that applies `function` to each of the pieces."""
    return lambda: [function(piece, *arguments) for piece in pieces]


def row(path: list[str], alone: str, alone_ns: float, path_ns: float) -> list[str]:
    """A row: the cells of the path, the work alone, its time, and the quotient of both times."""
    return [*path, alone, f"{alone_ns:.2f} ns", f"{path_ns / alone_ns:.1f}"]


def codebook_rows(codebook: Codebook, text: bytes) -> Iterator[list[str]]:
    """Rows of the paths with a codebook: both parses, decoding, compress and decompress."""
    table, _, root = codebook.trie
    codec, sink = CodebookCodec(codebook), io.BytesIO()
    eqi.compress(frames_of_bytes(io.BytesIO(text)), sink, codec)
    pieces = [np.frombuffer(frame.text, np.uint8) for frame in frames_of_bytes(io.BytesIO(text))]
    cut = [parse.encode(codebook, piece) for piece in pieces]
    assert b"".join(parse.decode(codebook, codewords) for codewords in cut) == text
    tables = {"of its size": one_cycle(table.size), "of 16 KB": one_cycle(1 << 12)}
    work: dict[str, Callable[[], object]] = {
        "optimal": each(partial(parse.encode, codebook), pieces),
        "greedy": each(partial(parse.encode, replace(codebook, method="greedy")), pieces),
        "steps, optimal": each(steps_of_all, pieces, table, root),
        "steps, greedy": each(steps_of_longest, pieces, table, root),
        "decode": each(partial(parse.decode, codebook), cut),
        "add": each(added, cut, codebook.rows[1]),
        "gather": each(gather, cut, codebook.rows[0]),
        "copy": each(np.copy, pieces),
        "compress": lambda: eqi.compress(frames_of_bytes(io.BytesIO(text)), io.BytesIO(), codec),
        "decompress": lambda: list(eqi.read_frames(io.BytesIO(sink.getvalue()), codec, "a stream")),
    } | {place: partial(chain, slots, N_LOADS) for place, slots in tables.items()}
    ns = {name: took.cpu_s * 1e9 for name, took in peers.timings(work, RUNS).items()}

    nothing = ["", "", ""]
    for name, steps in (("optimal", steps_of_all), ("greedy", steps_of_longest)):
        n = sum(steps(piece, table, root) for piece in pieces)
        path = [
            f"text to ids, {name}",
            f"{n / len(text):.2f} trie steps",
            f"{ns[name] / n:.2f} ns a step",
        ]
        yield row(path, "the same trie steps, only counted", ns[f"steps, {name}"] / n, ns[name] / n)
        for place in tables:
            what = f"dependent random loads from a table {place}"
            yield row(nothing, what, ns[place] / N_LOADS, ns[name] / n)
    n = sum(codewords.size for codewords in cut)
    path = ["ids to text", f"{n / len(text):.3f} windows", f"{ns['decode'] / n:.2f} ns a window"]
    yield row(
        path, "copying the same 16 bytes per window to fixed places", ns["gather"] / n, ns["decode"] / n
    )
    yield row(nothing, "adding up the lengths of the windows", ns["add"] / n, ns["decode"] / n)
    yield row(nothing, "copying the same amount of text", ns["copy"] / n, ns["decode"] / n)
    n = len(text)
    for name, part, what in (
        ("compress", "optimal", "text to ids, optimal"),
        ("decompress", "decode", "ids to text"),
    ):
        yield row(
            [f"`{name}`, b = 16", "", f"{ns[name] / n:.2f} ns a byte"], what, ns[part] / n, ns[name] / n
        )


def live_rows(model: Model, text: bytes) -> Iterator[list[str]]:
    """Rows of the paths with M1 running."""
    network = model.network
    state, frame = new_state(network), Frame(text)
    symbols = np.append(np.uint16(BOS), np.frombuffer(text, np.uint8)[:-1])
    vectors = state.unit, state.mixed, state.inner, state.sums
    codecs = {"ac": ArithmeticCodec(network), "windows of 64 bits": WindowCodec(network, 64)}
    work: dict[str, Callable[[], object]] = {
        name: partial(codec.encode, frame) for name, codec in codecs.items()
    }
    work["M1"] = partial(run, network, state, symbols)
    work["products"] = partial(products, network, *vectors, N_PRODUCTS)
    found = {name: took.cpu_s for name, took in peers.timings(work, RUNS).items()}
    n = n_products(network)
    alone_ns = found["products"] / N_PRODUCTS / n * 1e9
    for name in codecs:
        ns = found[name] / len(text) / n * 1e9
        path = [name, f"{n / 1e6:.3f} M products", f"{ns * 1e3:.1f} ps a product"]
        yield [*path, "the same matrix products alone", f"{alone_ns * 1e3:.1f} ps", f"{ns / alone_ns:.1f}"]
        m1_ns = found["M1"] / len(text) / n * 1e9
        yield ["", "", "", "M1 alone, once per byte", f"{m1_ns * 1e3:.1f} ps", f"{ns / m1_ns:.1f}"]


def tables(inputs: peers.Inputs) -> Iterator[str]:
    """The section."""
    model = Model(None)
    with inputs.text.open("rb") as file:
        text = file.read(READ_BYTES)
    table_mb = model.codebook.trie[0].nbytes / 1e6
    yield "## What limits each path\n"
    yield pages.paragraph(
        f"One thread, {len(text) / 1e6:.1f} MB of text in pieces of 1 MiB, {LIVE_BYTES >> 10} KiB where M1 "
        "runs. Each row compares a path with one kind of work: how much of its innermost work a byte of "
        "text takes (*work a byte*), the time of one unit in the path, the time of one unit in a loop that "
        "does nothing else (*alone*), and the first time divided by the second (*times*). The trie's table "
        f"has {table_mb:.1f} MB."
    )
    rows = [*codebook_rows(model.codebook, text), *live_rows(model, text[:LIVE_BYTES])]
    yield pages.table(["path", "work a byte", "in the path", "alone", "", "times"], rows)
    yield "".join(pages.paragraph(f"- {words}", "  ") for words in WORDS)
