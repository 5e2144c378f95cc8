"""Floats to integers: quantises a trained byte model to 8-bit weights with a scale per row of a matrix.

This is the one place where M1's floats become integers; all that encodes or decodes reads the integers alone.

Calibration comes first. Scaling a unit's value and gate, and dividing its column of the output matrix by the
same factors, changes nothing in the model. So each unit is scaled to fill its integer range, measured on
sample text. The ranges and units of the integers are those of `coder/kernels/m1_step`.
"""

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from eqinfo.coder import integer_m1
from eqinfo.coder.integer_m1 import BOS, EXP_STEPS, INNER, KEEP_RANGE, MIXED, N_BYTES, ROW, WIDTH, Network
from eqinfo.coder.kernels.m1_step import MAX_STREAM, PRODUCT_SHIFT, SCALE_BITS, UNIT_BITS
from eqinfo.m1.model import ByteModel, Layer
from eqinfo.m1.recurrence import parts
from eqinfo.system.arrays import I8, I32, I64

KEEP_UNIT, VALUE_UNIT = 128, 2048  # integers per 1.0
MAX_STREAM_UNIT = 2048.0  # integers per 1.0, at most, so that embeddings fit 16 bits
HEADROOM = 0.5  # share of its range that the stream uses on the sample text
LOGIT_UNIT = EXP_STEPS / math.log(2)  # a step of a logit is a factor of 2**(1 / EXP_STEPS)
LARGEST = 12.0  # value or gate on the sample text after scaling; 16 is the limit
MAX_GAIN = 64.0  # factor for units that are almost silent on the sample text
TABLE_SPREAD = 5.0  # standard deviations at which table entries are clipped

F64 = npt.NDArray[np.float64]


@torch.inference_mode()
def quantise(model: ByteModel, idx: Tensor) -> Network:
    """A model as integers.

    Args:
        model: trained, on any device.
        idx: sample text for calibration, bytes and BOS, (T, B).
    """
    begun = (idx != BOS)[..., None].float()  # (T, B, 1)
    streams = [model.embed(idx)]  # the stream before each layer and after the last, each (T, B, WIDTH)
    for block in model.blocks:
        streams.append(block(streams[-1], begun))
    # One unit for the stream of all layers: they add to it.
    largest = max(float(x.abs().max()) for x in streams)
    stream_unit = min(MAX_STREAM_UNIT, HEADROOM * MAX_STREAM / largest)
    table, mix, mix_scale = _tables(model, stream_unit)
    n_layer = len(model.blocks)
    inputs = np.zeros((n_layer, 3 * INNER, WIDTH), np.int8)
    input_scale, input_bias = (np.zeros((n_layer, 3 * INNER), np.int32) for _ in range(2))
    output = np.zeros((n_layer, WIDTH, INNER), np.int8)
    output_scale = np.zeros((n_layer, WIDTH), np.int32)
    for at, block in enumerate(model.blocks):
        assert isinstance(block, Layer)
        _, value, gate = parts(*block.prepare(streams[at]))  # each (T, B, INNER)
        # factors that make the largest value and gate of each unit LARGEST, each (INNER,)
        value_gain, gate_gain = (
            (LARGEST / part.flatten(0, 1).amax(0).double()).clamp(max=MAX_GAIN).cpu().numpy()
            for part in (value.abs(), F.relu(gate) + 1e-9)
        )
        gain = np.concatenate((np.ones(INNER), value_gain, gate_gain))  # (3 INNER,); keep is not scaled
        unit = np.repeat([KEEP_UNIT, VALUE_UNIT, VALUE_UNIT], INNER)
        bias = np.concatenate((_numpy(block.keep_bias), _numpy(block.bias)))
        weight = _numpy(block.inputs.weight) * gain[:, None]  # (3 INNER, WIDTH)
        inputs[at], input_scale[at] = _rows(weight, unit / (1 << UNIT_BITS))
        input_bias[at] = np.clip(np.rint(bias * gain * unit), -(1 << 20), 1 << 20)
        product_unit = VALUE_UNIT**2 / (1 << PRODUCT_SHIFT)
        weight = _numpy(block.output.weight) / (value_gain * gate_gain)  # (WIDTH, INNER)
        output[at], output_scale[at] = _rows(weight, np.full(WIDTH, stream_unit / product_unit))
    head, head_scale = _rows(_numpy(model.head.weight), np.full(N_BYTES, LOGIT_UNIT / (1 << UNIT_BITS)))
    embedding = np.clip(np.rint(_numpy(model.embedding.weight) * stream_unit), -(1 << 15), (1 << 15) - 1)
    return Network(
        embedding=embedding.astype(np.int16),
        tables=table,
        mix=mix,
        mix_scale=mix_scale,
        inputs=inputs,
        input_scale=input_scale,
        input_bias=input_bias,
        output=output,
        output_scale=output_scale,
        head=head,
        head_scale=head_scale,
        head_bias=np.rint(_numpy(model.head.bias) * LOGIT_UNIT).astype(np.int32),
        forget=_forget(),
        exp2=_exp2(),
    )


def static(counts: I64) -> Network:
    """An M1 without layers: the same distribution of bytes after any context.

    Args:
        counts: of each byte in a text, (256,); 1/2 is added to each, so that every byte is possible.
    """
    share = (counts + 0.5) / (counts + 0.5).sum()
    bias = np.rint(np.log(share) * LOGIT_UNIT).astype(np.int32)
    empty = {name: np.zeros(shape, dtype) for name, (dtype, shape) in integer_m1.shapes(0, 0).items()}
    return Network(**(empty | {"head_bias": bias, "forget": _forget(), "exp2": _exp2()}))


def _exp2() -> I32:
    """Table of 2**(24 - i / EXP_STEPS), (EXP_STEPS,)."""
    return np.rint(2.0 ** (24 - np.arange(EXP_STEPS) / EXP_STEPS)).astype(np.int32)


def _tables(model: ByteModel, stream_unit: float) -> tuple[I8, I8, I32]:
    """The n-gram tables (n, ROW), the matrix that mixes them (WIDTH, MIXED) and its scales (WIDTH,)."""
    if not model.config.table_bits:
        return np.zeros((0, ROW), np.int8), np.zeros((0, MIXED), np.int8), np.zeros(0, np.int32)
    raw = _numpy(model.tables.weight)  # (orders * 2**table_bits, ROW)
    # A scale per order and column, which the matrix takes over.
    by_order = raw.reshape(MIXED // raw.shape[1], -1, raw.shape[1])
    largest = np.minimum(np.abs(by_order).max(1), TABLE_SPREAD * by_order.std(1)) + 1e-9  # (orders, ROW)
    table = np.clip(np.rint(by_order * (127 / largest)[:, None]), -127, 127).astype(np.int8)
    weight = _numpy(model.mix.weight) * (largest.reshape(-1) / 127)
    return table.reshape(raw.shape), *_rows(weight, np.full(WIDTH, stream_unit))


def _rows(weight: F64, unit: F64) -> tuple[I8, I32]:
    """A matrix as integers of [-127, 127], each row scaled to fill them, and the scales of the rows.

    Args:
        weight: (n, k).
        unit: result, in its integers, of an input integer of 1 and a weight of 1.0, (n,).

    Returns:
        (n, k), and (n,) in 1 / 2**SCALE_BITS.
    """
    largest = np.abs(weight).max(1) + 1e-12
    integers = np.rint(weight * (127 / largest)[:, None]).astype(np.int8)
    scale = np.rint(largest / 127 * unit * (1 << SCALE_BITS))
    return integers, np.minimum(scale, (1 << 31) - 1).astype(np.int32)


def _forget() -> I32:
    """Table of 1 - sigmoid(x) in 1/65536, for x in [-KEEP_RANGE, KEEP_RANGE) / KEEP_UNIT."""
    inputs = np.arange(-KEEP_RANGE, KEEP_RANGE) / KEEP_UNIT
    return np.rint(65536 / (1 + np.exp(inputs))).astype(np.int32)


def _numpy(tensor: Tensor) -> F64:
    return tensor.detach().double().cpu().numpy()
