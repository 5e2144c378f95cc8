"""Frames coded together in tensors: the same streams as frame by frame, and what happens where it fails."""

import io
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from coder.test_golden import CODECS, ENDS, GOLDEN, TEXT, codec_of
from helpers.commands import run
from helpers.networks import random_network
from helpers.signalling import heard
from helpers.texts import prose

from eqinfo.coder import torch_choice
from eqinfo.errors import FormatError
from eqinfo.formats import eqi, lane_codec, token_file
from eqinfo.formats.codec import ArithmeticCodec, Codec, WindowCodec
from eqinfo.formats.lane_codec import LaneCodec, can_batch
from eqinfo.system import gpu, notes
from eqinfo.text.frames import Frame

NETWORK = random_network()
# text, noise that is stored as it is, an empty document, and frames of different lengths
FRAMES = [Frame(prose(30, k)[: 20 * k], [0, 9][: k % 3]) for k in range(1, 8)]
FRAMES[3:3] = [Frame(bytes(range(100, 180)), []), Frame(b"", [0, 0])]


@pytest.fixture
def plain() -> WindowCodec:
    return WindowCodec(NETWORK, 64)


def in_lanes(lanes: int, device: str = "cpu") -> LaneCodec:
    return LaneCodec(WindowCodec(NETWORK, 64), device, lanes)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """The notes of a test."""
    found: list[tuple[str, bool]] = []
    listener = lambda words, kind: found.append((words, kind is notes.Kind.WARNING))  # noqa: E731
    monkeypatch.setattr(notes, "_listener", listener)
    return found


def stream_of(codec: Codec, frames: list[Frame] = FRAMES) -> bytes:
    sink = io.BytesIO()
    eqi.compress(frames, sink, codec)
    return sink.getvalue()


def texts_of(stream: bytes, finder: eqi.Finder) -> list[Frame]:
    return [
        Frame(text, list(ends)) for text, ends in eqi.read_frames(io.BytesIO(stream), finder, "it", threads=2)
    ]


@pytest.mark.parametrize("lanes", [4, 64])
def test_streams_are_those_of_one_frame_at_a_time(plain: WindowCodec, lanes: int) -> None:
    codec, stream = in_lanes(lanes), stream_of(plain)
    assert codec.fingerprint == plain.fingerprint
    assert stream_of(codec) == stream
    assert texts_of(stream, codec) == FRAMES
    assert texts_of(stream + stream_of(codec, []) + stream, codec) == FRAMES * 2
    assert stream_of(codec, []) == stream_of(plain, [])


@pytest.mark.parametrize("name", [name for name in CODECS if can_batch(codec_of(name))])
def test_golden_streams(name: str) -> None:
    codec = LaneCodec(codec_of(name), "cpu", 2)
    stream = (GOLDEN / f"{name.replace(' ', '-')}.eqi").read_bytes()
    assert texts_of(stream, codec) == [Frame(TEXT, ENDS)]
    assert stream_of(codec, [Frame(TEXT, ENDS)]) == stream


def test_arithmetic_codes_are_those_of_one_frame_at_a_time() -> None:
    plain = ArithmeticCodec(NETWORK, "published")
    codec, stream = LaneCodec(plain, "cpu", 4), stream_of(plain)
    assert stream_of(codec) == stream
    assert texts_of(stream, codec) == FRAMES
    payloads = [(*plain.encode(frame), len(frame.text)) for frame in FRAMES]
    hostile = [(units, payload[:-1], length) for units, payload, length in payloads]
    hostile += [(9, b"\xff" * 9, 5), (9, b"\xff\xff\x7f" + bytes(6), 5), *payloads]

    def outcome(arguments: tuple[int, bytes, int]) -> str:
        try:
            return str(plain.decode(*arguments))
        except ValueError as error:
            return str(error)

    assert [str(found) for found in codec.decode_batch(hostile)] == [*map(outcome, hostile)]


def test_token_files_are_those_of_one_frame_at_a_time(plain: WindowCodec) -> None:
    ours, theirs = io.BytesIO(), io.BytesIO()
    assert token_file.write(FRAMES, ours, in_lanes(4)) == token_file.write(FRAMES, theirs, plain)
    assert ours.getvalue() == theirs.getvalue()


def test_frames_before_a_damaged_one_are_given(plain: WindowCodec) -> None:
    stream = stream_of(plain)
    for damage, n_sound in ((lambda s: s[:-40], 8), (lambda s: s[:300] + b"?" + s[301:], 5)):
        found = {}
        for codec in (plain, in_lanes(4)):
            frames = found[codec.lanes if isinstance(codec, LaneCodec) else 0] = []
            with pytest.raises(FormatError) as error:
                frames.extend(text for text, _ in eqi.read_frames(io.BytesIO(damage(stream)), codec, "it"))
            frames.append(str(error.value))
        assert found[0] == found[4]
        assert len(found[0]) == n_sound + 1


def test_less_memory_takes_fewer_lanes(
    plain: WindowCodec, told: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = torch_choice.frame_coder

    def scarce(network: object, bits: int, lanes: int, device: object, rule: str) -> object:
        if lanes > 2:
            raise torch.OutOfMemoryError
        return real(network, bits, lanes, device, rule)  # type: ignore[arg-type]

    monkeypatch.setattr(torch_choice, "frame_coder", scarce)
    codec = in_lanes(8)
    assert stream_of(codec) == stream_of(plain)
    assert codec.lanes == 2
    words = "device: not enough memory; going on with {} frames at a time."
    assert told == [(words.format(4), False), (words.format(2), False)]


def test_a_device_without_memory_is_not_used(
    plain: WindowCodec, told: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> object:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(torch_choice, "frame_coder", full)
    codec, stream = in_lanes(2), stream_of(plain)
    assert stream_of(codec) == stream
    assert texts_of(stream, codec) == FRAMES
    assert told[-1] == ("device: the GPU has not enough memory. Going on on the CPU.", True)


def test_a_device_that_fails_the_check_is_not_used(
    plain: WindowCodec, told: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_choice, "agrees", lambda coder, network: False)
    codec, stream = in_lanes(4), stream_of(plain)
    assert stream_of(codec) == stream
    assert texts_of(stream, codec) == FRAMES
    warnings = [words for words, is_warning in told if is_warning]
    assert warnings == ["device: the GPU does not give the numbers of the CPU. Going on on the CPU."]


def test_a_device_that_does_not_work_is_not_used(
    plain: WindowCodec, told: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> object:
        raise RuntimeError("no kernel image\nfor this GPU")

    monkeypatch.setattr(torch_choice, "FrameCoder", broken)
    assert stream_of(in_lanes(4)) == stream_of(plain)
    assert told[0] == ("device: does not work, with float64 products (no kernel image).", False)


def test_a_gpu_is_not_looked_for_when_there_is_little_text(plain: WindowCodec) -> None:
    script = (
        "import io, sys\nfrom helpers.networks import random_network\nfrom eqinfo.formats import eqi\n"
        "from eqinfo.formats.codec import WindowCodec\nfrom eqinfo.formats.lane_codec import LaneCodec\n"
        "from eqinfo.text.frames import Frame\nsink = io.BytesIO()\n"
        "codec = LaneCodec(WindowCodec(random_network(), 64), 'auto')\n"
        "eqi.compress([Frame(b'to be')] * 20, sink, codec)\n"
        "sys.stdout.buffer.write(sink.getvalue())\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(__file__).parents[1], capture_output=True, check=True
    )
    assert done.stdout == stream_of(plain, [Frame(b"to be")] * 20)


def test_without_a_gpu_auto_uses_the_cpu(
    plain: WindowCodec, told: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_codec, "ENOUGH_BYTES", 2)
    assert stream_of(in_lanes(4, "auto")) == stream_of(plain)
    assert not told


# what compress runs on a GPU, on the CPU: a program to be started
IN_LANES = (
    "from eqinfo.formats import model_folder\nfrom eqinfo.formats.lane_codec import LaneCodec\n"
    "from eqinfo.system import gpu\ngpu.has_driver = lambda: True\n"
    "model_folder.LaneCodec = lambda codec, device: LaneCodec(codec, 'cpu', 4)\n"
    "from eqinfo.__main__ import main\nmain()"
)


def waited_for(condition: Callable[[], object]) -> bool:
    end = time.monotonic() + 600
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(condition())


def test_ctrl_c_in_a_batch_leaves_nothing(live_model: Path, tmp_path: Path) -> None:
    (tmp_path / "book").write_bytes(prose(60_000))  # minutes of work
    command = [sys.executable, "-c", IN_LANES, "compress", "-m", str(live_model), "--window-bits=64", "book"]
    with heard(signal.SIGINT), subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE) as process:
        assert waited_for(lambda: len(list(tmp_path.iterdir())) > 1)  # the temporary output
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=600)[1] == b""
    assert process.returncode == -signal.SIGINT
    assert [path.name for path in tmp_path.iterdir()] == ["book"]


def test_compress_and_decompress_in_lanes(live_model: Path, tmp_path: Path) -> None:
    (tmp_path / "book").write_bytes(prose(60))
    model = ["-m", str(live_model)]
    for program in ([sys.executable, "-m", "eqinfo"], [sys.executable, "-c", IN_LANES]):
        name = f"book{len(program[2])}.eqi"
        subprocess.run(
            [*program, "compress", *model, "--window-bits", "48", "book", "-o", name],
            cwd=tmp_path,
            check=True,
        )
        done = subprocess.run(
            [*program, "decompress", "-c", *model, name], cwd=tmp_path, check=True, capture_output=True
        )
        assert done.stdout == prose(60)
    streams = {path.read_bytes() for path in tmp_path.glob("*.eqi")}
    assert len(streams) == 1


def test_a_gpu_that_is_not_there_is_named(live_model: Path, tmp_path: Path) -> None:
    (tmp_path / "book").write_bytes(b"to be")
    words = "eqinfo: --device: no usable GPU in this machine. Use --device cpu.\n"
    for command in (["compress", "--window-bits=64"], ["decompress"]):
        assert run(*command, "-m", live_model, "--device=cuda", tmp_path / "book", status=2)[1] == words
    assert "found tpu, want auto, cpu or cuda" in run("compress", "--device=tpu", status=2)[1]
    assert [path.name for path in tmp_path.iterdir()] == ["book"]


@pytest.mark.parametrize("options", [[], ["--window-bits=ac"], ["--window-bits=64", "--carry"]])
def test_what_no_gpu_runs_is_named(
    options: list[str], live_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "is_usable", lambda: True)
    message = run("compress", "-m", live_model, "--device=cuda", *options, status=2)[1]
    assert message == (
        "eqinfo: --device: a GPU runs windows of 24 to 128 bits without --carry, and ac by --rule published "
        "only. Use --device auto.\n"
    )
