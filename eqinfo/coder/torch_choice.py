"""Chooses how a device codes frames: the fastest way that gives the numbers of the compiled loops."""

from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np
import torch

from eqinfo.coder import arithmetic_coding, live_windows, paper
from eqinfo.coder.integer_m1 import Network
from eqinfo.coder.torch_code_frames import CodeCoder
from eqinfo.coder.torch_frames import FrameCoder, way
from eqinfo.coder.torch_paper_frames import PaperCoder
from eqinfo.system.notes import note
from eqinfo.text.frames import Frame

CHECK_STEPS = 300  # of each text of the check
LETTERS = b"etaoin shrdlu\n"


Coder = FrameCoder | PaperCoder | CodeCoder


def frame_coder(
    network: Network, window_bits: int | None, lanes: int, device: torch.device, rule: str = "live"
) -> Coder | None:
    """A coder of frames that gives the right codewords in a check; None if no way of computing does.

    Args:
        network: M1.
        window_bits: of `live_windows.WINDOW_BITS`; None is plain arithmetic coding without windows.
        lanes: number of frames at a time.
        device: where to compute.
        rule: "live" or "published".

    Raises:
        torch.OutOfMemoryError: the device has not enough memory for so many lanes.
    """
    torch.set_num_threads(1)  # the host only copies
    for is_int8, is_compiled in _ways(device):
        try:
            how = lanes, device, is_int8, is_compiled
            if window_bits is None:
                coder: Coder = CodeCoder(network, *how)
            else:
                coder = (FrameCoder if rule == "live" else PaperCoder)(network, window_bits, *how)
            if agrees(coder, network):
                return coder
            note(f"device: other numbers than on the CPU, with {way(is_int8, is_compiled)}.")
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # of many kinds: the compiler is missing, the GPU is too old
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            note(f"device: does not work, with {way(is_int8, is_compiled)} ({reason}).")
    return None


def _ways(device: torch.device) -> Iterator[tuple[bool, bool]]:
    """Ways of computing, the fastest first: whether products are int8, and whether steps are compiled."""
    if device.type == "cuda":
        if find_spec("triton"):
            yield True, True
        yield True, False
    yield False, False


def agrees(coder: Coder, network: Network) -> bool:
    """Whether every lane gives the codewords that the CPU gives for some text, and gives the text back."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (4, CHECK_STEPS), np.uint8)
    words = np.frombuffer(LETTERS, np.uint8)[rng.integers(0, len(LETTERS), (4, CHECK_STEPS))]
    frames = [Frame(text.tobytes(), [CHECK_STEPS // 2]) for text in (*noise, *words)]
    order = np.arange(coder.lanes) % len(frames)
    all_frames = [frames[k] for k in order]
    if isinstance(coder, CodeCoder):
        codes = [arithmetic_coding.encode(network, *frame, 0) for frame in frames]
        is_equal = coder.encode(all_frames) == [codes[k] for k in order]
        return is_equal and coder.decode([(codes[k], CHECK_STEPS, 1) for k in order]) == all_frames
    plain = live_windows if isinstance(coder, FrameCoder) else paper
    want = [plain.encode_windows(network, *frame, coder.window_bits) for frame in frames]
    is_equal = coder.encode(all_frames) == [want[k] for k in order]
    return is_equal and coder.decode([(want[k], CHECK_STEPS) for k in order]) == all_frames
