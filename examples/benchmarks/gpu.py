"""Checks on a GPU that it gives the CPU's bytes, and measures coding, training and generation there.

    python examples/benchmarks/gpu.py gpu.json -o gpu.md

It ends within --minutes, and goes on where it ended when it is started again: figures that gpu.json holds are
not measured again. --device cpu --small runs everything on a CPU in small, to test this script, and predicts
from the numbers of operations and bytes what an H100 does.
"""

import argparse
import io
import json
import logging
import shutil
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pages
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from training import BLOCK_SIZE, m1_training, one_step, random_batch

from eqinfo.codebook.codebook import Codebook
from eqinfo.coder import integer_m1
from eqinfo.coder.torch_choice import frame_coder
from eqinfo.coder.torch_frames import FrameCoder
from eqinfo.formats import eqi
from eqinfo.formats.codec import ArithmeticCodec, WindowCodec
from eqinfo.formats.lane_codec import LaneCodec
from eqinfo.formats.model_folder import NETWORK_NAME, codebook_path, model_path
from eqinfo.m1.baselines import published
from eqinfo.m1.expand import expand
from eqinfo.m1.model import M1_PRESETS
from eqinfo.m2.generate import codewords
from eqinfo.m2.model import GPT, M2_PRESETS, GPTConfig
from eqinfo.m2.run import impossible_of
from eqinfo.m2.token_bytes import ByteNgrams, Spelling
from eqinfo.system.gpu import check_device
from eqinfo.text.frames import Frame
from eqinfo.training.devices import peak_flops
from eqinfo.training.loop import Trainer
from eqinfo.training.schedule import Budget

H100_BYTES_PER_S = 0.7 * 3.35e12  # what elementwise kernels reach of its memory's bandwidth
H100_KERNEL_S = 2e-6  # from the start of a small kernel in a CUDA graph to that of the next
PREDICTED_LANES = 8_192
NEWLINE = "\n"
PROMPT = b"Four score and seven years ago our fathers brought forth"

Figures = dict[str, float | str]
Task = Callable[[], Figures]


# ---- coding


def corpus() -> bytes:
    """The texts of the repository, about a megabyte."""
    paths = sorted(path for path in pages.ROOT.rglob("*") if path.suffix in (".md", ".py", ".txt"))
    return b"".join(path.read_bytes() for path in paths)


def frames(n: int, n_bytes: int) -> list[Frame]:
    """Frames of n_bytes bytes, from different places of the corpus."""
    text = corpus()
    starts = [k * 977 % (len(text) - n_bytes) for k in range(n)]
    return [Frame(text[start : start + n_bytes], []) for start in starts]


def codec_of(name: str) -> WindowCodec | ArithmeticCodec:
    """A codec of the default model by its name."""
    network = integer_m1.load(model_path(None) / NETWORK_NAME)
    rule, bits = name.split()
    return ArithmeticCodec(network, rule) if bits == "ac" else WindowCodec(network, int(bits), rule=rule)


def equality(device: torch.device, name: str, n_frames: int, n_bytes: int) -> Figures:
    """Compare streams of the device and of the CPU, and restore each by the other.

    Raises:
        AssertionError: they differ.
    """
    here = codec_of(name)
    there = LaneCodec(here, device.type)
    texts = [Frame(text, [0, len(text) // 3, len(text)]) for text, _ in frames(n_frames, n_bytes)]
    texts += [Frame(b"", [0, 0]), Frame(b"?", []), Frame(bytes(range(256)) * 2, [])]
    streams = []
    for codec in (there, here):
        sink = io.BytesIO()
        eqi.compress(texts, sink, codec)
        streams.append(sink.getvalue())
    assert streams[0] == streams[1], "the streams differ"
    for codec in (there, here):
        found = eqi.read_frames(io.BytesIO(streams[0]), codec, "stream")
        assert [Frame(text, list(ends)) for text, ends in found] == texts, "the texts differ"
    assert there.is_used, "coded on the CPU"
    return {"frames": len(texts), "bytes": sum(len(frame.text) for frame in texts), "equal": "yes"}


def speed(device: torch.device, name: str, lanes: int, n_bytes: int) -> Figures:
    """The speed of encoding and decoding in so many lanes, and what it takes to begin."""
    codec, texts = codec_of(name), frames(lanes, n_bytes)
    bits = codec.unit_bits if isinstance(codec, WindowCodec) else None
    started = time.perf_counter()
    coder = frame_coder(codec.network, bits, lanes, device, codec.rule)
    assert coder is not None, "no way of computing gives the numbers of the CPU"
    payloads = coder.encode(texts)  # the first run allocates memory
    coded = [(payload, n_bytes, *[0] * (bits is None)) for payload in payloads]
    assert coder.decode(coded) == texts, "the texts differ"
    figures: Figures = {"way": coder.way, "setup_s": time.perf_counter() - started}
    for name, work in (("encode", partial(coder.encode, texts)), ("decode", partial(coder.decode, coded))):
        started = time.perf_counter()
        work()
        spent_s = time.perf_counter() - started
        figures |= {
            f"{name}_mb_per_s": lanes * n_bytes / spent_s / 1e6,
            f"{name}_steps_per_s": n_bytes / spent_s,
        }
    return figures | peak_memory(device)


def size_of(tensors: list[torch.Tensor]) -> int:
    """The size of tensors in bytes."""
    return sum(tensor.numel() * tensor.itemsize for tensor in tensors)


class Counted(TorchDispatchMode):
    """Counts operations that make new tensors, and the bytes that they read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.n_operations = self.n_bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count it, unless it only returns a view."""
        result = function(*args, **(kwargs or {}))
        read = [leaf for leaf in torch.utils._pytree.tree_leaves(args) if isinstance(leaf, torch.Tensor)]
        written = [leaf for leaf in torch.utils._pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        known = {leaf.untyped_storage().data_ptr() for leaf in read}
        if any(leaf.untyped_storage().data_ptr() not in known for leaf in written):
            self.n_operations += 1
            picks = function.overloadpacket in (torch.ops.aten.index, torch.ops.aten.gather)
            # an operation that picks rows of a table reads as much as it writes
            self.n_bytes += size_of(written) + size_of(written if picks else read)
        return result


def operations(bits: int, lanes: int) -> Figures:
    """Operations of a step of encoding, and the bytes that they read and write for each lane.

    Weights are small beside the lanes' tensors, and counted with them. torch.compile fuses operations to
    kernels; on a CPU it makes about as many as for a GPU.
    """
    network = integer_m1.load(model_path(None) / NETWORK_NAME)
    coder = FrameCoder(network, bits, lanes, torch.device("cpu"), is_int8=True)
    state, steps = coder.steps.begin(lanes), coder.steps
    arguments = state, torch.full((lanes,), 101), torch.zeros(lanes, dtype=torch.bool)
    with torch.no_grad(), Counted() as counted:
        steps.encode(*arguments)
    figures: Figures = {"operations": counted.n_operations, "bytes_per_lane": counted.n_bytes / lanes}
    if shutil.which("g++"):
        from torch._inductor import compile_fx, config, metrics

        compile_fx.inductor_metrics_log.setLevel(logging.INFO)  # else bytes are not counted
        metrics.reset()
        settings = config.patch(compile_threads=1, force_disable_caches=True)
        with torch.no_grad(), settings, warnings.catch_warnings(action="ignore"):
            torch.compile(steps.encode, fullgraph=True, dynamic=False)(*arguments)
        figures["kernels_compiled"] = len(metrics.nodes_num_elem)  # with those of libraries
        figures["bytes_per_lane_compiled"] = metrics.num_bytes_accessed / lanes
    return figures


def predicted(figures: Figures) -> str:
    """What an H100 does, by its bandwidth and the time from kernel to kernel."""
    lines = []
    for words, n, size in (
        ("one kernel an operation", "operations", "bytes_per_lane"),
        ("compiled by torch.compile", "kernels_compiled", "bytes_per_lane_compiled"),
    ):
        if n in figures:
            moved_s = float(figures[size]) * PREDICTED_LANES / H100_BYTES_PER_S
            step_s = moved_s + float(figures[n]) * H100_KERNEL_S
            lines.append(
                f"{words}: {figures[n]:.0f} kernels and {float(figures[size]) / 1e3:.0f} kB a lane take "
                f"{step_s * 1e3:.2f} ms a step, so {PREDICTED_LANES / step_s / 1e6:.1f} MB/s"
            )
    return f"Predicted for an H100 and {PREDICTED_LANES:,} lanes; " + "; ".join(lines) + "."


# ---- training and generation


def rate(trainer: Trainer[Any], batches: Any, n_tokens: int, steps: int) -> float:
    """Tokens per second of training, after two steps that compile and allocate."""
    for _ in range(2):
        one_step(trainer, batches)
    started = time.perf_counter()
    for _ in range(steps):
        one_step(trainer, batches)  # reads the loss, so it waits for the device
    return n_tokens * steps / (time.perf_counter() - started)


def train_m1(device: torch.device, preset: str, steps: int) -> Figures:
    """The speed of training M1."""
    step_bytes = 1 << 40 if device.type == "cuda" else 0  # a long run is compiled
    training = m1_training(preset, steps + 2, device, step_bytes)
    n_bytes = M1_PRESETS[preset].step_bytes
    return {"bytes_per_s": rate(*training, n_bytes, steps)} | peak_memory(device)


def train_m2(device: torch.device, preset: str, n_tokens: int, accumulate: int, steps: int) -> Figures:
    """The speed of training M2, its share of the device's FLOP/s (MFU), and peak memory."""
    codebook = Codebook.load(codebook_path(None))
    windows = codebook.windows
    config = GPTConfig(len(windows), BLOCK_SIZE, *M2_PRESETS[preset])
    knowing = Spelling(windows, config.n_embd), ByteNgrams(windows, config.n_embd)
    model = GPT(config, *knowing, impossible_of({"knows_cuts": True}, codebook))
    tokens_a_step = 1 << 40 if device.type == "cuda" else 0  # a long run is compiled
    trainer = Trainer(model, Budget(steps=steps + 2), tokens_a_step, 0.01, device, accumulate)
    found = rate(trainer, random_batch(len(windows), n_tokens), n_tokens, steps)
    figures: Figures = {"tokens_per_s": found}
    if peak := peak_flops(device):
        figures["mfu"] = found * config.training_flops / peak
    return figures | peak_memory(device)


def generate(device: torch.device, preset: str, n_tokens: int) -> Figures:
    """The speed of generation by a model without training, whose speed is that of a trained one."""
    codebook = Codebook.load(codebook_path(None))
    config = GPTConfig(len(codebook.windows), BLOCK_SIZE, *M2_PRESETS[preset])
    torch.manual_seed(0)
    impossible = impossible_of({"knows_cuts": True}, codebook)
    model = GPT(config, ngrams=ByteNgrams(codebook.windows, config.n_embd), impossible=impossible)
    model = model.to(device).eval()
    started = time.perf_counter()
    drawn = codewords(model, codebook, PROMPT, 1.0, None, 0)
    first = next(drawn)
    begun_s = time.perf_counter() - started
    n = 0
    started = time.perf_counter()
    for token in drawn:
        n += 1
        if n == n_tokens or token == 0:
            break
    spent_s = time.perf_counter() - started
    assert first > 0
    return {"prompt_s": begun_s, "tokens": n, "tokens_per_s": n / spent_s}


def codebook(bits: int) -> Figures:
    """The time of the two parts of a codebook that read M1: candidates, and the published rule's windows."""
    network = integer_m1.load(model_path(None) / NETWORK_NAME)
    started = time.perf_counter()
    expand(network, 4 << bits, lambda share: None)
    expanded_s = time.perf_counter() - started
    published(network, bits, lambda share: None)
    return {"expand_s": expanded_s, "published_s": time.perf_counter() - started - expanded_s}


def peak_memory(device: torch.device) -> Figures:
    """The peak of the device's memory since the task began."""
    return {"peak_gb": torch.cuda.max_memory_allocated() / 1e9} if device.type == "cuda" else {}


# ---- tasks, figures, table


def tasks(device: torch.device, small: bool) -> Iterator[tuple[str, Task]]:
    """What to measure, the most important first."""
    n_frames, equal_bytes = (5, 90) if small else (100, 1500)
    n_bytes = 191 if small else 2047  # a step more shows where the last window ends: whole blocks
    first, *others = (16, 64) if small else (8192, 16_384, 2048)  # lanes
    m1, m2, *more = (
        ("tiny", ("nano", 512, 1)) if small else ("14m", ("113m", 1 << 16, 2), ("25m", 1 << 16, 1))
    )
    steps = 2 if small else 10

    def equal(name: str) -> tuple[str, Task]:
        return f"equal bytes, {name}", partial(equality, device, name, n_frames, equal_bytes)

    def fast(name: str, lanes: int) -> tuple[str, Task]:
        return f"{name}, {lanes} lanes", partial(speed, device, name, lanes, n_bytes)

    yield equal("live 64")
    yield fast("live 64", first)
    yield f"train-m2 {m2[0]}", partial(train_m2, device, *m2, steps)
    yield f"train-m1 {m1}", partial(train_m1, device, m1, steps)
    yield f"generation {m2[0]}", partial(generate, device, m2[0], 20 if small else 200)
    yield from (fast("live 64", n) for n in others)
    for name in ("published 64", "live 24", "live 128", "published ac"):
        if not small or name == "published 64":
            yield equal(name)
        yield fast(name, first)
    yield from ((f"train-m2 {shape[0]}", partial(train_m2, device, *shape, steps)) for shape in more)
    if small:
        yield "operations a step", partial(operations, 64, 1024)
    bits = 9 if small else 14
    yield f"codebook of {bits} bits, on the CPU", partial(codebook, bits)


def measure(path: Path, device: torch.device, small: bool, minutes: float) -> dict[str, Figures]:
    """All figures that could be measured in the time, with those that the file held; failures say why."""
    ends_at = time.monotonic() + 60 * minutes
    found: dict[str, Figures] = json.loads(path.read_text()) if path.exists() else {}
    slowest_s = 0.0
    for name, task in tasks(device, small):
        if name in found and "error" not in found[name]:
            continue
        if time.monotonic() + slowest_s > ends_at:
            print(f"{name}: no time is left; start this command again", file=sys.stderr)
            continue
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        torch.compiler.reset()
        started = time.monotonic()
        try:
            found[name] = task()
        except Exception as error:  # the others are measured all the same
            traceback.print_exc()
            found[name] = {"error": f"{type(error).__name__}: {str(error).partition(NEWLINE)[0]}"}
        spent_s = time.monotonic() - started
        slowest_s = max(slowest_s, spent_s)
        found[name]["took_s"] = spent_s
        path.write_text(json.dumps(found, indent=1) + "\n")
        print(f"{name}: {shown(found[name])}", file=sys.stderr)
    return found


def shown(figures: Figures) -> str:
    """Figures in one line."""
    return ", ".join(
        f"{name} {value if isinstance(value, str) or not value else pages.digits(value)}"
        for name, value in figures.items()
    )


def main() -> None:
    """Measures, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("figures", type=Path, help="JSON file of the figures, read and written")
    parser.add_argument("-o", type=Path, help="file for the page")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--small", action="store_true", help="small sizes")
    parser.add_argument("--minutes", type=float, default=8, help="begin nothing that may end later")
    arguments = parser.parse_args()
    check_device(arguments.device)
    device = torch.device(arguments.device)
    found = measure(arguments.figures, device, arguments.small, arguments.minutes)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "the CPU"
    parts = [
        f"# eqinfo on {name}\n",
        pages.provenance(sys.argv, ("torch", "numpy", "numba")),
        pages.table(["", "figures"], [[task, shown(figures)] for task, figures in found.items()]),
    ]
    if "operations a step" in found:
        parts.append(pages.paragraph(predicted(found["operations a step"])))
    pages.publish(parts, arguments.o)
    sys.exit(any("error" in figures for figures in found.values()))


if __name__ == "__main__":
    main()
