"""A trained byte model as integers: weights of 8 bits, with a scale for each row of a matrix.

Before that, units of the state are scaled so that each uses the range of its integers: values and gates of a
unit may be multiplied by anything by which the column of the output matrix is divided. How large they get is
read off some text.
"""

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from eqinfo.coder.integer_m1 import BOS, EXP_STEPS, INNER, KEEP_RANGE, MIXED, ROW, WIDTH, Network, shapes
from eqinfo.coder.kernels.m1_step import MAX_STREAM, PRODUCT_SHIFT, SCALE_BITS, UNIT_BITS
from eqinfo.m1.model import ByteModel, Layer
from eqinfo.m1.recurrence import parts

KEEP_UNIT, VALUE_UNIT = 128, 2048  # of 1, see `network`
MAX_STREAM_UNIT = 2048.0  # embeddings fit 16 bits
HEADROOM = 0.5  # the share of its range that the stream uses on the text
LOGIT_UNIT = EXP_STEPS / math.log(2)
LARGEST = 12.0  # of values and gates on the text, after scaling; up to 16 fit
MAX_GAIN = 64.0
TABLE_SPREAD = 5.0  # standard deviations; numbers further out are clipped

F64 = npt.NDArray[np.float64]


@torch.inference_mode()
def quantise(model: ByteModel, idx: Tensor) -> Network:
    """The integers of a model.

    Args:
        model: trained, on any device.
        idx: text to read ranges off, bytes and BOS, (T, B).
    """
    begun = (idx != BOS)[..., None].float()
    streams = [model.embed(idx)]
    for block in model.blocks:
        streams.append(block(streams[-1], begun))
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
        _, value, gate = parts(*block.prepare(streams[at]))
        value_gain, gate_gain = (
            (LARGEST / part.flatten(0, 1).amax(0).double()).clamp(max=MAX_GAIN).cpu().numpy()
            for part in (value.abs(), F.relu(gate) + 1e-9)
        )
        gain = np.concatenate((np.ones(INNER), value_gain, gate_gain))
        unit = np.repeat([KEEP_UNIT, VALUE_UNIT, VALUE_UNIT], INNER)
        bias = np.concatenate((_numpy(block.keep_bias), _numpy(block.bias)))
        weight = _numpy(block.inputs.weight) * gain[:, None]
        inputs[at], input_scale[at] = _rows(weight, unit / (1 << UNIT_BITS))
        input_bias[at] = np.clip(np.rint(bias * gain * unit), -(1 << 20), 1 << 20)
        product_unit = VALUE_UNIT**2 / (1 << PRODUCT_SHIFT)
        weight = _numpy(block.output.weight) / (value_gain * gate_gain)
        output[at], output_scale[at] = _rows(weight, np.full(WIDTH, stream_unit / product_unit))
    head, head_scale = _rows(_numpy(model.head.weight), np.full(BOS, LOGIT_UNIT / (1 << UNIT_BITS)))
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


def static(counts: npt.NDArray[np.int64]) -> Network:
    """An M1 without layers, which gives every byte its share of some text whatever is before it.

    Args:
        counts: of each byte in the text, (256,); those that do not occur get a little as well.
    """
    share = (counts + 0.5) / (counts + 0.5).sum()
    bias = np.rint(np.log(share) * LOGIT_UNIT).astype(np.int32)
    empty = {name: np.zeros(shape, dtype) for name, (dtype, shape) in shapes(0, 0).items()}
    return Network(**(empty | {"head_bias": bias, "forget": _forget(), "exp2": _exp2()}))


def _exp2() -> npt.NDArray[np.int32]:
    """2**24 divided by 2 to the power of so many steps."""
    return np.rint(2.0 ** (24 - np.arange(EXP_STEPS) / EXP_STEPS)).astype(np.int32)


def _tables(
    model: ByteModel, stream_unit: float
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int8], npt.NDArray[np.int32]]:
    """The n-gram tables, what mixes them, and its scale."""
    if not model.config.table_bits:
        return np.zeros((0, ROW), np.int8), np.zeros((0, MIXED), np.int8), np.zeros(0, np.int32)
    raw = _numpy(model.tables.weight)
    by_order = raw.reshape(MIXED // raw.shape[1], -1, raw.shape[1])
    largest = np.minimum(np.abs(by_order).max(1), TABLE_SPREAD * by_order.std(1)) + 1e-9  # (orders, ROW)
    table = np.clip(np.rint(by_order * (127 / largest)[:, None]), -127, 127).astype(np.int8)
    weight = _numpy(model.mix.weight) * (largest.reshape(-1) / 127)
    return table.reshape(raw.shape), *_rows(weight, np.full(WIDTH, stream_unit))


def _rows(weight: F64, unit: F64) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int32]]:
    """A matrix as integers, each row as large as fits, and the scales of its rows.

    Args:
        weight: (n, k).
        unit: what 1 in an input, times 1 in weight, is in the result, (n,).
    """
    largest = np.abs(weight).max(1) + 1e-12
    integers = np.rint(weight * (127 / largest)[:, None]).astype(np.int8)
    scale = np.rint(largest / 127 * unit * (1 << SCALE_BITS))
    return integers, np.minimum(scale, (1 << 31) - 1).astype(np.int32)


def _forget() -> npt.NDArray[np.int32]:
    """1 - sigmoid, in 1/65536."""
    inputs = np.arange(-KEEP_RANGE, KEEP_RANGE) / KEEP_UNIT
    return np.rint(65536 / (1 + np.exp(inputs))).astype(np.int32)


def _numpy(tensor: Tensor) -> F64:
    return tensor.detach().double().cpu().numpy()
