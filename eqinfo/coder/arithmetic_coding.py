"""One arithmetic code for a whole text, without windows: adaptive, or by M1 alone as the paper has it.

Both code, before each byte, whether a document ends there; M1 begins anew where one does. The adaptive code
mixes M1's probabilities with those of the text so far (`kernels/context_mixer`); the plain one is there to
compare with.
"""

import numpy as np
import numpy.typing as npt

from eqinfo.coder.integer_m1 import M1_TOTAL_BITS, Network
from eqinfo.coder.live_windows import as_arrays
from eqinfo.text.frames import Bytes


def encode(network: Network, text: Bytes, document_ends: npt.ArrayLike, mixer_version: int) -> bytes:
    """The arithmetic code of a text.

    Args:
        network: M1.
        text: below 2**28 bytes.
        document_ends: offsets in [0, len(text)], ascending; equal ones are empty documents.
        mixer_version: 1 and 2 mix M1's probabilities with those of the text so far; 0 is M1 alone.

    Returns:
        The shortest byte string that, followed by zeros, is a number in the text's interval.
    """
    from eqinfo.coder.kernels import arithmetic_code, mixer_state
    from eqinfo.coder.kernels.m1_step import new_state

    view, ends = as_arrays(text, document_ends)
    assert view.size < mixer_state.MAX_TEXT
    mixer = mixer_state.new_mixer(view.size if mixer_version else 0, mixer_version)
    return arithmetic_code.encode(network, new_state(network), mixer, view, ends).tobytes()


def decode(
    network: Network, payload: bytes, text_length: int, n_documents: int, mixer_version: int
) -> tuple[bytes, list[int]]:
    """Text and document ends of an arithmetic code.

    Args:
        network: M1.
        payload: any bytes.
        text_length: bytes of the text, below 2**28.
        n_documents: number of document ends in it.
        mixer_version: as in encoding.

    Raises:
        ValueError: the payload is not the code of a text with these numbers of bytes and document ends.
    """
    from eqinfo.coder.kernels import arithmetic_code, mixer_state
    from eqinfo.coder.kernels.m1_step import new_state

    is_right = n_documents * M1_TOTAL_BITS <= 8 * (len(payload) + 1)  # an end takes more than 20 bits
    if is_right:
        assert text_length < mixer_state.MAX_TEXT or not mixer_version
        mixer = mixer_state.new_mixer(text_length if mixer_version else 0, mixer_version)
        view, state = np.frombuffer(payload, np.uint8).copy(), new_state(network)
        text, ends, is_right = arithmetic_code.decode(network, state, mixer, view, text_length, n_documents)
    if not is_right:
        raise ValueError(f"not the code of {text_length} bytes and {n_documents} document ends")
    return text.tobytes(), ends.tolist()
