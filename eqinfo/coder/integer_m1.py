"""M1 as integers: the numbers that decide the frequencies of the next byte, and the file that holds them.

All numbers are integers, and so is every operation on them (`kernels/m1_step`): the frequencies are the same
on every machine. `m1/quantise` makes a network from a trained M1.

File `.eqm1`; integers are little-endian:

    4s  magic "EQM1"
    u8  version, 1
    u8  L: number of layers, at most 8
    u8  table_bits: log2 of the rows in each n-gram table, at most 20; 0: there are no tables
    u8  0
    the arrays, row by row, without padding (i1, i2, i4: signed integers of 1, 2 and 4 bytes):
        embedding     i2 (257, 192)
        tables        i1 (6 * 2**table_bits, 32)    (0, 32) without tables
        mix           i1 (192, 192)                 (0, 192) without tables
        mix_scale     i4 (192)                      (0) without tables
        inputs        i1 (L, 768, 192)
        input_scale   i4 (L, 768)
        input_bias    i4 (L, 768)
        output        i1 (L, 192, 256)
        output_scale  i4 (L, 192)
        head          i1 (256, 192)
        head_scale    i4 (256)
        head_bias     i4 (256)
        forget        i4 (4096)
        exp2          i4 (1024)
    32s SHA-256 of all bytes before: the fingerprint

Numbers of type i1 are in [-127, 127], scales at least 0, biases in [-2**20, 2**20], forget in [0, 2**16], and
exp2 in [0, 2**24] with exp2[0] = 2**24.
"""

import hashlib
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eqinfo.errors import check_head, damaged, truncated
from eqinfo.system.arrays import I8, I16, I32

MAGIC = b"EQM1"
VERSION = 1
_HEADER = struct.Struct("<4sBBBB")

N_BYTES = 256
BOS = N_BYTES  # the symbol that begins a window: it resets M1
# sizes are constants: compiled loops of constant length are several times faster
WIDTH = 192  # of the residual stream
INNER = 256  # of a layer's state
NGRAM_BYTES = (2, 3, 4, 5, 6, 8)  # lengths of the n-grams
HASH_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio, odd: hashes n-grams and contexts
SIGNED_MULTIPLIER = int(HASH_MULTIPLIER) - (1 << 64)  # the same as int64: products are modulo 2**64 too
ROW = 32  # width of a row of an n-gram table
MIXED = len(NGRAM_BYTES) * ROW  # equals WIDTH, so one compiled loop serves both
MAX_LAYERS, MAX_TABLE_BITS = 8, 20

M1_TOTAL_BITS = 20
M1_TOTAL = 1 << M1_TOTAL_BITS  # sum of the frequencies of the 256 bytes; each is at least 1
KEEP_RANGE = 2048  # the table `forget` covers inputs in [-KEEP_RANGE, KEEP_RANGE)
EXP_STEPS = 1024  # logits are in units of 1/1024 bit


class Network(NamedTuple):
    """The integers of an M1 with L layers; weights are in [-127, 127].

    A matrix-vector product is followed by a scale for each row: a sum of at most 256 products of 7 by 13 bits
    fits 32 bits, and `sum * scale / 2**28`, rounded, is the result in the unit that the next step expects.

    Attributes:
        embedding: of the 256 bytes and BOS, (257, WIDTH).
        tables: one table for each length of n-gram in turn, (len(NGRAM_BYTES) << table_bits or 0, ROW).
        mix: from the rows to the stream, (WIDTH, MIXED), or (0, MIXED) without tables.
        mix_scale: for each row of mix, (WIDTH,) or (0,).
        inputs: from the stream to keeps, values and gates of each layer, in this order, (L, 3 INNER, WIDTH).
        input_scale: for each row of inputs, (L, 3 INNER).
        input_bias: added after scaling, (L, 3 INNER).
        output: from gated states to the stream, (L, WIDTH, INNER).
        output_scale: for each row of output, (L, WIDTH).
        head: from the stream to logits, (256, WIDTH).
        head_scale: for each row of head, (256,).
        head_bias: added after scaling, (256,).
        forget: share of the state that is replaced, in 1/65536, for each keep in 1/128, (2 KEEP_RANGE,).
        exp2: 2**24 * 2**(-k / EXP_STEPS) for k in [0, EXP_STEPS).
    """

    embedding: I16
    tables: I8
    mix: I8
    mix_scale: I32
    inputs: I8
    input_scale: I32
    input_bias: I32
    output: I8
    output_scale: I32
    head: I8
    head_scale: I32
    head_bias: I32
    forget: I32
    exp2: I32

    @property
    def n_layer(self) -> int:
        """Number of layers."""
        return len(self.inputs)


def shapes(n_layer: int, table_bits: int) -> dict[str, tuple[Any, tuple[int, ...]]]:
    """Type in the file and shape of each array of a network, in the file's order."""
    n_rows, n_mixed = (len(NGRAM_BYTES) << table_bits, WIDTH) if table_bits else (0, 0)
    return {
        "embedding": ("<i2", (N_BYTES + 1, WIDTH)),
        "tables": ("i1", (n_rows, ROW)),
        "mix": ("i1", (n_mixed, MIXED)),
        "mix_scale": ("<i4", (n_mixed,)),
        "inputs": ("i1", (n_layer, 3 * INNER, WIDTH)),
        "input_scale": ("<i4", (n_layer, 3 * INNER)),
        "input_bias": ("<i4", (n_layer, 3 * INNER)),
        "output": ("i1", (n_layer, WIDTH, INNER)),
        "output_scale": ("<i4", (n_layer, WIDTH)),
        "head": ("i1", (N_BYTES, WIDTH)),
        "head_scale": ("<i4", (N_BYTES,)),
        "head_bias": ("<i4", (N_BYTES,)),
        "forget": ("<i4", (2 * KEEP_RANGE,)),
        "exp2": ("<i4", (EXP_STEPS,)),
    }


def table_bits(network: Network) -> int:
    """Log2 of the rows in each n-gram table; 0 without tables."""
    return (len(network.tables) // len(NGRAM_BYTES)).bit_length() - 1 if len(network.tables) else 0


def to_bytes(network: Network) -> bytes:
    """The contents of an `.eqm1` file."""
    bits = table_bits(network)
    header = _HEADER.pack(MAGIC, VERSION, network.n_layer, bits, 0)
    types = shapes(network.n_layer, bits)
    arrays = (getattr(network, name).astype(dtype) for name, (dtype, _) in types.items())
    contents = header + b"".join(array.tobytes() for array in arrays)
    return contents + hashlib.sha256(contents).digest()


def fingerprint(network: Network) -> bytes:
    """SHA-256 of everything that decides the frequencies; 32 bytes."""
    return to_bytes(network)[-32:]


def from_bytes(data: bytes, where: str = "network") -> Network:
    """The network in the contents of an `.eqm1` file.

    Args:
        data: the whole file.
        where: its name, for messages.

    Raises:
        FormatError: the data are not a network, of another version, or damaged.
    """
    check_head(data, MAGIC, VERSION, _HEADER.size, where, "an M1 in integers (.eqm1)")
    _, _, n_layer, bits, zero = _HEADER.unpack_from(data)
    if n_layer > MAX_LAYERS or bits > MAX_TABLE_BITS or zero:
        raise damaged(where, f"found {n_layer} layers, {bits} table bits")
    arrays = np.dtype([(name, *array) for name, array in shapes(n_layer, bits).items()])
    end = _HEADER.size + arrays.itemsize
    if len(data) < end:
        raise truncated(where, len(data), end)
    if data[end:] != hashlib.sha256(data[:end]).digest():
        raise damaged(where, "fingerprint does not match")
    found = np.frombuffer(data, arrays, 1, _HEADER.size)[0]
    network = Network(*(found[name].astype(found[name].dtype.newbyteorder("=")) for name in Network._fields))
    if not _in_range(network):
        raise damaged(where, "a number is out of range")
    return network


def load(path: Path) -> Network:
    """The network in an `.eqm1` file.

    Raises:
        FormatError: as `from_bytes`.
        OSError: the file cannot be read.
    """
    return from_bytes(path.read_bytes(), str(path))


def _in_range(network: Network) -> bool:
    """Whether all numbers are in the ranges for which no sum or product of `m1_step` overflows."""
    weights = (network.tables, network.mix, network.inputs, network.output, network.head)
    scales = (network.mix_scale, network.input_scale, network.output_scale, network.head_scale)
    biases = (network.input_bias, network.head_bias)
    return (
        all(int(array.min(initial=0)) >= -127 for array in weights)
        and all(int(array.min(initial=0)) >= 0 for array in scales)
        and all(int(np.abs(array.astype(np.int64)).max(initial=0)) <= 1 << 20 for array in biases)
        and 0 <= int(network.forget.min()) <= int(network.forget.max()) <= 1 << 16
        and 0 <= int(network.exp2.min()) <= int(network.exp2.max()) <= 1 << 24
        and int(network.exp2[0]) == 1 << 24
    )
