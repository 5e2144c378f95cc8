"""Tokenise a corpus on a Ray cluster: each shard (JSONL, text or parquet) to a token file and its sidecar.

Usage: corpus_ray.py OUT_DIR SHARD... [--address HOST:PORT] [-m MODEL] [--text-field NAME]

Needs `pip install '.[ray]'`, in the folder of eqinfo, on all nodes, and storage that all of them see under
the same names. A shard is a task: Ray Data sends it to a free core, and again if its node is lost. A token
file appears when it is complete, so run the same line again after a stop: what is there is left out. The
files are those of `eqinfo compress --tokens`. Train on them: eqinfo train-m2 OUT_DIR/*.bin -o run

Tried with ray 2.60.0, two nodes of a core each on one machine and 40 shards, 20 of them parquet, 75 MB of
text in all. One node was killed (SIGKILL) when 12 token files were there:

    $ ray start --head --port=6399 --num-cpus=1
    $ ray start --address=127.0.0.1:6399 --num-cpus=1
    $ python corpus_ray.py out shards/* --address 127.0.0.1:6399
    0 of 40 shards are there already
    shards/01.parquet: 216 documents, 128,246 tokens
    shards/02.jsonl.zst: 216 documents, 381,784 tokens
    ...
    shards/29.parquet: 216 documents, 310,918 tokens
    (raylet) The node ... has been marked dead because the detector has missed too many heartbeats from it.
    shards/30.jsonl.zst: 216 documents, 554,452 tokens
    shards/13.parquet: 216 documents, 440,206 tokens
    ...
    $ python corpus_ray.py out shards/* --address 127.0.0.1:6399
    40 of 40 shards are there already

All 8,544 documents came back by `eqinfo decompress --jsonl`, and the files of JSONL were, byte by byte, those
of `eqinfo compress --tokens`. A killed node may leave files named `.eqinfo-...` in OUT_DIR: delete them.
`ray start` listens on all networks of a machine, and runs what anyone sends it: see RAY_AUTH_MODE.
"""

import argparse
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from eqinfo.errors import EqinfoError, InputError
from eqinfo.formats import token_file
from eqinfo.formats.model_folder import Model
from eqinfo.system.atomic_files import replacing
from eqinfo.text.decompression import open_text
from eqinfo.text.documents import read_pieces
from eqinfo.text.frames import frames_of_pieces


def documents(shard: Path, text_field: str) -> Iterator[tuple[bytes, bool]]:
    """Pieces of a shard's documents, each with whether its document ends there, read part by part.

    Raises:
        InputError: a record has no text.
    """
    if shard.suffix != ".parquet":
        with open_text(shard) as source:
            yield from read_pieces(source, str(shard), text_field)
        return
    from pyarrow import parquet

    with parquet.ParquetFile(shard) as file:
        if text_field not in file.schema_arrow.names:
            raise InputError(
                f"{shard}: no such column; found {', '.join(file.schema_arrow.names)}, want {text_field}. "
                "Name it with --text-field."
            )
        for batch in file.iter_batches(columns=[text_field]):
            for text in batch.column(0).to_pylist():
                if not isinstance(text, str):
                    raise InputError(f"{shard}: a row without text; found {text!r:.40} in {text_field}.")
                yield text.encode("utf-8", "surrogatepass"), True


def tokenise(row: dict[str, str], out: Path, model: Path | None, text_field: str) -> dict[str, str]:
    """Write a shard's token file, unless it is there; runs in a worker.

    Args:
        row: its `shard` is the path.
        out: folder of the token files.
        model: as in `-m`; None is the default model.
        text_field: field or column that holds the text.

    Returns:
        The row, with what was done in `said`, or with what is wrong in `error`.
    """
    shard = Path(row["shard"])
    target = token_path(shard, out)
    if is_done(target):  # by a task whose node was lost before it could answer
        return row | {"said": "there already", "error": ""}
    codec = Model(model).codec(None, carry=False, rule="live")
    frames = frames_of_pieces(documents(shard, text_field), codec.frame_bytes)
    try:
        with (
            replacing(token_file.sidecar_path(target), force=True) as sidecar,  # appears last
            replacing(target, force=True) as sink,
        ):
            about = token_file.write(frames, sink, codec)
            sidecar.write(about.to_json())
    except (EqinfoError, OSError, ValueError) as error:  # pyarrow's are ValueErrors, and name no file
        where = "" if row["shard"] in str(error) else f"{shard}: "
        return row | {"said": "", "error": f"{where}{error}"}
    return row | {"said": f"{about.documents:,} documents, {about.tokens:,} tokens", "error": ""}


def token_path(shard: Path, out: Path) -> Path:
    """Where the token file of a shard goes."""
    return out / f"{shard.name}{token_file.TOKENS_SUFFIX}"


def is_done(target: Path) -> bool:
    """Whether a token file is complete."""
    return target.is_file() and token_file.sidecar_path(target).is_file()


def main() -> None:
    """Send what is missing to the cluster, and say what comes back."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("shards", type=Path, nargs="+")
    parser.add_argument("--address", help="of the cluster's head; default: one on this machine")
    parser.add_argument("-m", "--model", type=Path)
    parser.add_argument("--text-field", default="text")
    given = parser.parse_args()
    out = given.out.absolute()
    if len({shard.name for shard in given.shards}) < len(given.shards):
        sys.exit("two shards have the same name, and their token files would too")
    out.mkdir(parents=True, exist_ok=True)
    missing = [str(shard.absolute()) for shard in given.shards if not is_done(token_path(shard, out))]
    print(f"{len(given.shards) - len(missing)} of {len(given.shards)} shards are there already", flush=True)
    if not missing:
        return

    import ray

    ray.init(given.address)
    model = given.model if given.model is None or not given.model.exists() else given.model.absolute()
    rows = ray.data.from_items([{"shard": shard} for shard in missing], override_num_blocks=len(missing))
    rows = rows.map(partial(tokenise, out=out, model=model, text_field=given.text_field))
    n_failed = 0
    for row in rows.iter_rows():
        n_failed += bool(row["error"])
        print(row["error"] or f"{row['shard']}: {row['said']}", flush=True)
    if n_failed:
        sys.exit(f"{n_failed} of {len(missing)} shards failed")


if __name__ == "__main__":
    main()
