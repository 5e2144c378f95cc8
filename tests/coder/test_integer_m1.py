"""The file of an integer M1: it comes back, and damage does not pass."""

import hashlib
import random
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from helpers.networks import random_network

from eqinfo.coder import integer_m1 as net
from eqinfo.coder.integer_m1 import Network
from eqinfo.errors import FormatError


@cache
def network() -> Network:
    return random_network(1, 1)


@cache
def data() -> bytes:
    return net.to_bytes(network())


def signed(contents: bytes) -> bytes:
    """A file with a fingerprint that matches."""
    return contents + hashlib.sha256(contents).digest()


@pytest.mark.parametrize(("n_layer", "table_bits"), [(0, 0), (1, 0), (0, 3), (2, 5)])
def test_a_network_comes_back_from_its_file(n_layer: int, table_bits: int, tmp_path: Path) -> None:
    made = random_network(n_layer, table_bits)
    (tmp_path / "m1.eqm1").write_bytes(net.to_bytes(made))
    found = net.load(tmp_path / "m1.eqm1")
    for name, array in made._asdict().items():
        assert np.array_equal(getattr(found, name), array)
        assert getattr(found, name).dtype == array.dtype
        assert getattr(found, name).dtype.isnative
    assert (found.n_layer, net.table_bits(found)) == (n_layer, table_bits)
    assert net.fingerprint(found) == net.fingerprint(made) == net.to_bytes(made)[-32:]


def test_truncated_files_are_refused() -> None:
    cuts = {*range(50), *range(len(data()) - 50, len(data())), *range(0, len(data()), 4999)}
    for n in sorted(cuts):
        with pytest.raises(FormatError):
            net.from_bytes(data()[:n])


def test_files_with_something_after_them_are_refused() -> None:
    with pytest.raises(FormatError, match="damaged"):
        net.from_bytes(data() + b"\0")


def test_flipped_bits_are_refused() -> None:
    rng = random.Random(0)
    places = [*range(8), *rng.choices(range(len(data())), k=60), *range(len(data()) - 32, len(data()))]
    for at in places:
        for bit in range(8) if at < 8 else [rng.randrange(8)]:
            damaged = bytearray(data())
            damaged[at] ^= 1 << bit
            with pytest.raises(FormatError):
                net.from_bytes(bytes(damaged))


@pytest.mark.parametrize("name", Network._fields)
def test_one_altered_number_changes_the_fingerprint(name: str) -> None:
    array = getattr(network(), name).copy()
    array.flat[-1] ^= 1
    assert net.fingerprint(network()._replace(**{name: array})) != net.fingerprint(network())


def test_networks_of_other_shapes_have_other_fingerprints() -> None:
    some = [random_network(n_layer, bits) for n_layer in (0, 1) for bits in (0, 1, 2)]
    assert len({net.fingerprint(one) for one in some}) == len(some)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("tables", -128),
        ("mix", -128),
        ("inputs", -128),
        ("output", -128),
        ("head", -128),
        ("mix_scale", -1),
        ("input_scale", -1),
        ("output_scale", -1),
        ("head_scale", -(1 << 31)),
        ("input_bias", (1 << 20) + 1),
        ("input_bias", -(1 << 31)),
        ("head_bias", -(1 << 20) - 1),
        ("forget", -1),
        ("forget", (1 << 16) + 1),
        ("exp2", -1),
        ("exp2", (1 << 24) + 1),
    ],
)
def test_numbers_out_of_range_are_refused(name: str, number: int) -> None:
    array = getattr(network(), name).copy()
    array.flat[array.size // 2] = number
    with pytest.raises(FormatError, match="a number is out of range"):
        net.from_bytes(net.to_bytes(network()._replace(**{name: array})))


def test_the_first_power_must_be_whole() -> None:
    exp2 = network().exp2.copy()
    exp2[0] -= 1
    with pytest.raises(FormatError, match="a number is out of range"):
        net.from_bytes(net.to_bytes(network()._replace(exp2=exp2)))


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (0, ord("F"), "not an M1 in integers"),
        (4, net.VERSION + 1, f"another version of the format; found {net.VERSION + 1}, want {net.VERSION}"),
        (5, net.MAX_LAYERS + 1, f"found {net.MAX_LAYERS + 1} layers"),
        (6, net.MAX_TABLE_BITS + 1, f"{net.MAX_TABLE_BITS + 1} table bits"),
        (7, 1, "damaged"),
        (5, 2, "truncated"),
    ],
)
def test_headers_of_something_else_are_refused_by_name(at: int, value: int, message: str) -> None:
    contents = bytearray(data()[:-32])
    contents[at] = value
    with pytest.raises(FormatError, match=f"^m1.eqm1: .*{message}"):
        net.from_bytes(signed(bytes(contents)), "m1.eqm1")


def test_any_bytes_are_refused() -> None:
    rng = random.Random(1)
    for _ in range(200):
        start = rng.choice([b"", net.MAGIC, data()[:8]])
        with pytest.raises(FormatError):
            net.from_bytes(signed(start + rng.randbytes(rng.randrange(2000))))
