"""The codebook: every window of `window_bits` bits, and the file that holds it.

M1 and the coder are reset at each window, so codeword -> bytes is a fixed map. The map is a trie with integer
frequencies: at a node, `stop` is 1 if the string is itself a window, and `count` is the number of windows in
its subtree. The stop symbol takes the first `stop` codewords of a node; the children follow in byte order and
take `count(child)` codewords each. Therefore *a codeword is the rank of its window in lexicographic order*:
the sorted list of windows is the whole codebook. Rank 0 is the empty window, which ends a document.

This module does not choose windows (`m1`) or cut text into them (`parse`).

File `.eqcb`; integers are little-endian:

    4s  magic "EQCB"
    u8  version: 1, or 2 for a codebook that knows how rare its windows are
    u8  window_bits, 9 to 20
    u8  method: 0 optimal, 1 greedy
    u32 unaligned penalty in 1/1024 window, at most 1,024,000
    u32 n: number of windows, at most 2**window_bits
    u32 s: number of bytes in all suffixes, at most 2**23
    32s fingerprint
    u32 CRC-32 (zlib's) of the 51 bytes before it, four zero bytes and the body, joined
    body: one zstd frame with its content size in its header (2n + s, in version 2 3n + s), of
        n bytes: for each window, the number of first bytes that it shares with the window before
        n bytes: for each window, the length of its suffix, the bytes after the shared ones
        s bytes: all suffixes, joined
        n bytes: in version 2, the rarity of each window, see `Codebook`

The header has 55 bytes, without padding. Windows are in ascending order of their bytes; the index of a
window is its codeword. The first is the empty window, which shares 0 bytes and has an empty suffix. All 256
single bytes are windows; no window is longer than 255 bytes, and all together have at most 2**25 bytes.

The fingerprint is the SHA-256 of these bytes, joined: the 15 ASCII bytes "eqinfo codebook", 1 (u8),
window_bits (u8), the length of each window in order (n times u8), and all windows in order. Method, penalty
and rarities are left out: they decide how text is cut, not what codewords mean.
"""

import hashlib
import struct
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import zstandard

from eqinfo.errors import InputError, check_head, damaged
from eqinfo.system.arrays import I64, U8, U32, U64

Method = Literal["optimal", "greedy"]

MAGIC = b"EQCB"
VERSION, VERSION_WITH_RARITIES = 1, 2
MAX_WINDOW_BITS = 20  # the list holds every window: 2**20 at most
MIN_WINDOW_BITS = 9  # 256 single bytes and the empty window need more than 8 bits
MAX_WINDOW_BYTES = 255  # lengths are stored in one byte
MAX_BYTES = 1 << 25  # of all windows together: bounds the memory that a small hostile file can take
MAX_SUFFIX_BYTES = 1 << 23  # each suffix byte is a node of the trie; `kernels/trie` has 2**23 slots
PENALTY_UNIT = 1024  # penalties are whole numbers of 1/1024 window, so that no float decides a cut
MAX_PENALTY = 1000.0

_HEADER = struct.Struct("<4sBBBIII32sI")


@dataclass(frozen=True)
class Codebook:
    """Windows in lexicographic order; a window's index is its codeword.

    Attributes:
        windows: sorted and distinct; `windows[0] == b""`; all 256 single bytes are among them. At most
            2**window_bits windows (fewer only if the paper's rule leaves codewords unused), each of at most
            `MAX_WINDOW_BYTES` bytes.
        window_bits: bits in a codeword, in [9, 20].
        method: the parse that this codebook was made for.
        unaligned_penalty: the price of an unaligned cut in windows, in [0, 1000].
        rarities: for each window, -log2 of its share of the windows in text, in quarter bits, which decides
            between cuts of as many windows; empty if it is not known.
    """

    windows: list[bytes] = field(hash=False)  # lists have no hash
    window_bits: int
    method: Method = "optimal"
    unaligned_penalty: float = 0.0
    rarities: bytes = b""

    def __post_init__(self) -> None:
        """Check the invariants that parsing and decoding rely on.

        Raises:
            InputError: an invariant does not hold.
        """
        if not MIN_WINDOW_BITS <= self.window_bits <= MAX_WINDOW_BITS:
            raise InputError(
                f"codebook: window bits out of range; found {self.window_bits}, "
                f"want {MIN_WINDOW_BITS} to {MAX_WINDOW_BITS}."
            )
        if not 0 <= self.unaligned_penalty <= MAX_PENALTY:
            raise InputError(
                f"codebook: unaligned penalty out of range; found {self.unaligned_penalty}, "
                f"want 0 to {MAX_PENALTY:g}."
            )
        if len(self.windows) > 1 << self.window_bits:
            raise InputError(
                f"codebook: too many windows; found {len(self.windows)}, want at most 2**{self.window_bits}."
            )
        if len(self.rarities) not in (0, len(self.windows)):
            raise InputError(
                f"codebook: found {len(self.rarities)} rarities, want one for each window, or none."
            )
        if not self.windows or self.windows[0] != b"":
            raise InputError("codebook: the empty window is missing.")
        if any(a >= b for a, b in pairwise(self.windows)):
            raise InputError("codebook: windows are not in order.")
        if sum(map(len, self.windows)) > MAX_BYTES:
            raise InputError(f"codebook: windows too long; want at most {MAX_BYTES} bytes in all of them.")
        if max(map(len, self.windows)) > MAX_WINDOW_BYTES:
            raise InputError(f"codebook: a window is longer than {MAX_WINDOW_BYTES} bytes.")
        if sum(len(window) == 1 for window in self.windows) < 256:  # none twice, as windows are distinct
            raise InputError("codebook: not every single byte is a window.")

    @property
    def vocab_size(self) -> int:
        """Number of token ids: 2**window_bits."""
        return 1 << self.window_bits

    @cached_property
    def fingerprint(self) -> bytes:
        """SHA-256 of all that decides how codewords map to bytes, as the module's header says; 32 bytes."""
        digest = hashlib.sha256(b"eqinfo codebook" + bytes([VERSION, self.window_bits]))
        digest.update(bytes(map(len, self.windows)))
        digest.update(b"".join(self.windows))
        return digest.digest()

    @cached_property
    def codewords(self) -> dict[bytes, int]:
        """The codeword of each window."""
        return {window: codeword for codeword, window in enumerate(self.windows)}

    @cached_property
    def max_window_bytes(self) -> int:
        """Length of the longest window."""
        return max(map(len, self.windows))

    @cached_property
    def lengths(self) -> I64:
        """The length of each window in bytes, (n_windows,)."""
        return np.fromiter(map(len, self.windows), np.int64, len(self.windows))

    @cached_property
    def trie(self) -> tuple[U32, U32, int]:
        """Table, codewords and root for the compiled parses, from `build_trie`.

        Raises:
            InputError: the trie has more nodes than its table can hold.
        """
        from eqinfo.codebook.kernels.trie import build_trie

        table, codewords, root = build_trie(*flat(self.windows))
        if not table.size:
            raise InputError("codebook: too large a trie; windows share too few prefixes.")
        return table, codewords, root

    @cached_property
    def slot_rarities(self) -> U8:
        """The rarity of the window that ends at each slot of the trie, (slots,); 0 where none does."""
        from eqinfo.codebook.kernels.trie import by_slot

        table, codewords, _ = self.trie
        return by_slot(table, codewords, np.frombuffer(self.rarities, np.uint8))

    @cached_property
    def rows(self) -> tuple[U64, U8, U8, I64]:
        """Words, lengths, blob and offsets for the compiled decoder; see `kernels/decode`."""
        from eqinfo.codebook.kernels.decode import first_bytes

        blob, offsets = flat(self.windows)
        words = first_bytes(blob, offsets).view("<u8").astype(np.uint64, copy=False)
        return words, self.lengths.astype(np.uint8), blob, offsets

    def to_bytes(self) -> bytes:
        """The contents of an `.eqcb` file."""
        shared = [0] + [_n_shared(a, b) for a, b in pairwise(self.windows)]
        rests = [window[n:] for n, window in zip(shared, self.windows, strict=True)]
        suffixes = b"".join(rests)
        content = bytes(shared) + bytes(map(len, rests)) + suffixes + self.rarities
        body = zstandard.ZstdCompressor(level=19).compress(content)
        fields = (
            MAGIC,
            VERSION_WITH_RARITIES if self.rarities else VERSION,
            self.window_bits,
            get_args(Method).index(self.method),
            round(self.unaligned_penalty * PENALTY_UNIT),
            len(self.windows),
            len(suffixes),
            self.fingerprint,
        )
        crc = zlib.crc32(body, zlib.crc32(_HEADER.pack(*fields, 0)))
        return _HEADER.pack(*fields, crc) + body

    @classmethod
    def from_bytes(cls, data: bytes, where: str = "codebook") -> "Codebook":
        """The codebook in the contents of an `.eqcb` file.

        Args:
            data: the whole file.
            where: its name, for messages.

        Raises:
            FormatError: the data are not a codebook, of another version, or damaged.
        """
        known = VERSION_WITH_RARITIES if data[4:5] == bytes([VERSION_WITH_RARITIES]) else VERSION
        check_head(data, MAGIC, known, _HEADER.size, where, "a codebook (.eqcb)")
        *fields, crc = _HEADER.unpack_from(data)
        _, version, window_bits, method, penalty, n_windows, n_suffix, fingerprint = fields
        body = data[_HEADER.size :]
        if zlib.crc32(body, zlib.crc32(_HEADER.pack(*fields, 0))) != crc or method >= len(get_args(Method)):
            raise damaged(where, "checksum does not match")
        try:
            content = _unpack(body, n_windows, n_suffix, n_windows if version == VERSION_WITH_RARITIES else 0)
            windows, rarities = _windows(content, n_windows, n_suffix), content[2 * n_windows + n_suffix :]
            codebook = cls(windows, window_bits, get_args(Method)[method], penalty / PENALTY_UNIT, rarities)
        except (InputError, zstandard.ZstdError, ValueError) as error:
            raise damaged(where, str(error)) from None
        if codebook.fingerprint != fingerprint:
            found, want = codebook.fingerprint.hex()[:16], fingerprint.hex()[:16]
            raise damaged(where, f"found fingerprint {found}, want {want}")
        return codebook

    @classmethod
    def load(cls, path: Path) -> "Codebook":
        """The codebook in an `.eqcb` file.

        Raises:
            FormatError: as `from_bytes`.
            OSError: the file cannot be read.
        """
        return cls.from_bytes(path.read_bytes(), str(path))


def read_fingerprint(path: Path) -> bytes:
    """The fingerprint that an `.eqcb` file states; empty if it is no such file."""
    with path.open("rb") as source:
        head = source.read(_HEADER.size)
    return _HEADER.unpack(head)[-2] if head[:4] == MAGIC and len(head) == _HEADER.size else b""


def flat(windows: list[bytes]) -> tuple[U8, I64]:
    """All windows joined, (n_bytes,), and the start of each and the end of the last, (n_windows + 1,)."""
    lengths = np.fromiter(map(len, windows), np.int64, len(windows))
    return np.frombuffer(b"".join(windows), np.uint8), np.append(0, np.cumsum(lengths))


def _n_shared(a: bytes, b: bytes) -> int:
    """Length of the longest common prefix of two windows."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(a))


def _unpack(body: bytes, n_windows: int, n_suffix: int, n_rarities: int) -> bytes:
    """The content of a body; its size is checked before memory of that size is allocated.

    Raises:
        ValueError: the sizes do not fit together.
        zstandard.ZstdError: the body does not decompress.
    """
    size = 2 * n_windows + n_suffix + n_rarities
    if n_windows > 1 << MAX_WINDOW_BITS or n_suffix > MAX_SUFFIX_BYTES:
        raise ValueError("sizes out of range")
    if zstandard.frame_content_size(body) != size:
        raise ValueError("sizes do not match")
    content = zstandard.ZstdDecompressor().decompress(body, allow_extra_data=False)
    if len(content) != size:
        raise ValueError("sizes do not match")
    return content


def _windows(content: bytes, n_windows: int, n_suffix: int) -> list[bytes]:
    """The windows in the content of a body.

    Raises:
        ValueError: the sizes do not fit together.
    """
    lengths = np.frombuffer(content, np.uint8, n_windows, n_windows)
    ends = (2 * n_windows + np.cumsum(lengths, dtype=np.int64)).tolist()
    n_bytes = int(np.frombuffer(content, np.uint8, 2 * n_windows).sum())
    if (ends[-1] if ends else 2 * n_windows) != 2 * n_windows + n_suffix or n_bytes > MAX_BYTES:
        raise ValueError("sizes do not match")
    windows = []
    window, start = b"", 2 * n_windows
    for shared, end in zip(content[:n_windows], ends, strict=True):
        if shared > len(window):
            raise ValueError("shared length out of range")
        window = window[:shared] + content[start:end]
        if len(window) > MAX_WINDOW_BYTES:
            raise ValueError("window too long")
        windows.append(window)
        start = end
    return windows
