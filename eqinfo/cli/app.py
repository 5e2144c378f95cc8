"""The command line: registers the commands and runs one.

Slow packages (numpy, numba, torch, rich) are imported inside functions, so that help is fast and compress
starts without torch. Only this wing touches stdin, stdout, stderr and rich.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from eqinfo import __version__
from eqinfo.cli import advice, console
from eqinfo.cli.compress import compress
from eqinfo.cli.decompress import decompress
from eqinfo.cli.eval import evaluate
from eqinfo.cli.train_m1 import train_m1
from eqinfo.cli.train_m2 import train_m2
from eqinfo.system import signals

# the coder uses no linear algebra, and starting OpenBLAS's threads costs 0.1 s of CPU time
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Threads of torch that spin for long halve their speed beside another busy process. If they sleep at once,
# the many small operations of M1 take twice as long. So they spin for a moment (libgomp, on Linux).
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")


class Commands(TyperGroup):
    """The commands. An option in their place is one of compress: eqinfo -d works as gzip -d."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses the words after `eqinfo`."""
        own = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        if args and args[0].startswith("-") and args[0] not in own:
            args = ["compress", *args]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Runs a command; a wrong word in it gets advice, of the first process of torchrun alone."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            if getattr(error, "exit_code", None) == 2 and not console.is_first_process():  # wrong usage
                raise typer.Exit(2) from None
            advice.advise(error)
            raise


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help starts fast and reads the same in a pipe
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for name, command, example in (
    ("compress", compress, "printf 'to be or not to be' | eqinfo compress | wc -c"),
    ("decompress", decompress, "printf 'to be or not to be' | eqinfo compress | eqinfo decompress"),
    ("train-m1", train_m1, "eqinfo train-m1 README.md -o my-model --preset tiny --window-bits 10 --steps 50"),
    (
        "train-m2",
        train_m2,
        "eqinfo compress --tokens README.md -o ids.bin && eqinfo train-m2 ids.bin -o my-run --preset nano "
        "--block-size 64 --batch-tokens 256 --steps 5",
    ),
    ("eval", evaluate, "eqinfo eval --text README.md"),
):
    app.command(name, epilog=f"Example: {example}")(command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"eqinfo {__version__}")
        raise typer.Exit


@app.callback()
def eqinfo(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Cut text into windows, byte strings that each take exactly b bits, to compress it or to model it.

    M1 is a small model that predicts bytes and thereby decides which byte strings are windows. M2 is a
    language model whose tokens are windows. compress and decompress work at once, with a packaged model.
    To train your own: train-m1, compress --tokens, train-m2, eval.

    An option in place of a command belongs to compress: eqinfo -d FILE.eqi decompresses, eqinfo -l FILE.eqi
    lists.
    """


def main() -> None:
    """Runs the command line and exits with its status."""
    try:
        with console.reporting(Path("stdout")):  # of --help and --version
            app(prog_name="eqinfo")
    except typer.Exit as failed:
        sys.exit(failed.exit_code)
    except signals.Stopped as stopped:
        signals.end_by(stopped.number)
