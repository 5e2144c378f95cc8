"""What `eqinfo compress` does with its inputs: each to a stream or a token file, or all to one token file."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from eqinfo.cli import advice, console, inputs, outputs
from eqinfo.cli.progress import with_progress
from eqinfo.errors import OptionError
from eqinfo.system.atomic_files import is_written_in_place, replacing

if TYPE_CHECKING:
    from fractions import Fraction

    from eqinfo.formats.codec import Codec
    from eqinfo.formats.eqi import Totals
    from eqinfo.formats.model_folder import Model
    from eqinfo.formats.token_file import Sidecar


@dataclass(frozen=True)
class Job:
    """What to do with each input: the options of the command."""

    model: "Model"
    codec: "Codec"
    text_field: str
    jsonl: bool
    skip_bad: bool
    share: "Fraction | None"  # of the documents to hold out
    output: Path | None
    output_dir: Path | None
    stdout: bool
    force: bool
    skip_existing: bool
    quiet: bool
    verbose: bool
    threads: int
    claims: outputs.Claims

    def to_stream(self, name: Path, place: Path) -> None:
        """Compresses an input to an .eqi stream."""
        from eqinfo.formats import eqi
        from eqinfo.text.frames import frames_of_bytes, frames_of_pieces

        target = self._target(name, place, eqi.STREAM_SUFFIX)
        if self._is_done(target, name):
            return
        sample = bytearray()
        with ExitStack() as stack:
            if self.jsonl:
                frames = frames_of_pieces(self._documents(stack, name), self.codec.frame_bytes)
            else:  # a file's bytes as they are
                source = stack.enter_context(console.open_input(name))
                stack.enter_context(console.read_to_end(source, name))
                frames = frames_of_bytes(source, self.codec.frame_bytes)
            frames = with_progress(advice.sampled(frames, sample), [name], self.quiet)
            self.claims.claim(target, name)
            outputs.make_folder(target, self.output_dir)
            sink = stack.enter_context(console.open_output(target, name, self.force, binary=not self.stdout))
            totals = eqi.compress(frames, sink, self.codec, self.threads)
        if self._is_told(target):
            console.say(_summary(name, totals, self.codec))
            if hint := advice.of_ratio(totals, self.codec, self.model, bytes(sample)):
                console.say(f"{console.shown(name)}: {hint}")

    def to_tokens(self, names: list[Path], place: Path) -> None:
        """Writes a token file of inputs, and one of the documents that are held out."""
        from eqinfo.formats import token_file
        from eqinfo.text.frames import frames_of_pieces
        from eqinfo.text.hold_out import Aside

        name, size = names[0], self.codec.frame_bytes
        target = self._target(name, place, token_file.TOKENS_SUFFIX)
        if target is None or is_written_in_place(target):
            raise OptionError("--tokens: the ids need a file, for the sidecar beside it. Name one with -o.")
        valid = target.with_suffix(f".valid{target.suffix}")
        if (not self.share or valid.exists()) and self._is_done(target, name):
            return
        with ExitStack() as stack:
            later = chain.from_iterable(map(self._later_documents, names[1:]))
            pieces = chain(self._documents(stack, name), later)
            aside = stack.enter_context(Aside(self.share)) if self.share else None
            frames = frames_of_pieces(aside.kept(pieces) if aside else pieces, size)
            parts = {target: with_progress(frames, names, self.quiet)}
            if aside:
                parts[valid] = frames_of_pieces(aside.pieces(), size)
            for path in [*parts, *map(token_file.sidecar_path, parts)]:
                self.claims.claim(path)
            outputs.make_folder(target, self.output_dir)
            # The stack closes in reverse order: the target appears last, so that it is complete if it exists.
            like = console.STANDARD if names[1:] else name
            sinks = {
                path: (
                    stack.enter_context(console.open_output(path, like, self.force)),
                    stack.enter_context(replacing(*self._sidecar(path))),
                )
                for path in parts
            }
            written = {}
            for path, (sink, sidecar) in sinks.items():
                written[path] = token_file.write(parts[path], sink, self.codec, self.threads)
                sidecar.write(written[path].to_json())
            if aside and (which := aside.one_sided()):
                joined = "" if self.output else " With -o all inputs go to one file."
                raise OptionError(
                    f"--hold-out: the share holds {which} of {console.shown(name)}. "
                    f"Give more text or another share.{joined}"
                )
        if self._is_told(target):
            for path, facts in written.items():
                console.say(_token_summary(path, facts))

    def _sidecar(self, path: Path) -> tuple[Path, bool]:
        """The sidecar of a token file, and whether it may be replaced: without its ids it says nothing."""
        from eqinfo.formats import file_kind, token_file

        sidecar = token_file.sidecar_path(path)
        is_left = not path.exists() and sidecar.is_file() and file_kind.is_our_sidecar(sidecar)
        return sidecar, self.force or is_left

    def _target(self, name: Path, place: Path, suffix: str) -> Path | None:
        """The output for an input; None is stdout."""
        target = outputs.compressed_name(name, self.output, self.stdout, suffix)
        return outputs.moved(target, self.output_dir, place)

    def _is_done(self, target: Path | None, name: Path) -> bool:
        return self.skip_existing and outputs.is_done(target, name, self.verbose)

    def _is_told(self, target: Path | None) -> bool:
        """Whether to say what was done."""
        return self.verbose or (target is not None and not self.quiet and console.is_terminal(sys.stderr))

    def _documents(self, stack: ExitStack, name: Path) -> Iterator[tuple[bytes, bool]]:
        """Opens an input, decompressed; the pieces of its documents."""
        from eqinfo.text.decompression import decompressed
        from eqinfo.text.documents import read_pieces

        inputs.refuse_ids(name)
        source = stack.enter_context(console.open_input(name, decompressed))
        stack.enter_context(console.read_to_end(source, name))
        shown = console.shown(name)
        return read_pieces(source, shown, self.text_field, self.jsonl, self.skip_bad)

    def _later_documents(self, name: Path) -> Iterator[tuple[bytes, bool]]:
        """The pieces of an input's documents; it is opened when the first is read."""
        try:
            with ExitStack() as stack:
                yield from self._documents(stack, name)
        except OSError as error:
            error.filename = error.filename or console.shown(name)
            raise


def _summary(name: Path, totals: "Totals", codec: "Codec") -> str:
    """The line that a terminal or --verbose shows for a file."""
    from eqinfo.formats.codec import AC_UNIT_BITS

    ratio, shown = totals.original_bytes / max(totals.compressed_bytes, 1), console.shown(name)
    rate = f"{totals.original_bytes / max(totals.windows, 1):.2f} bytes/window"
    if codec.unit_bits == AC_UNIT_BITS:  # arithmetic coding has no windows
        rate = f"{8 * totals.compressed_bytes / max(totals.original_bytes, 1):.3f} bits/byte"
    return f"{shown}: {totals.original_bytes} -> {totals.compressed_bytes} bytes, ratio {ratio:.2f}, {rate}"


def _token_summary(path: Path, facts: "Sidecar") -> str:
    """The line that a terminal or --verbose shows for a token file."""
    rate = facts.original_bytes / max(facts.tokens, 1)
    return (
        f"{path}: {facts.tokens} tokens, {facts.documents} document{'s' * (facts.documents != 1)}, "
        f"{facts.original_bytes} bytes, {rate:.2f} bytes/token"
    )
