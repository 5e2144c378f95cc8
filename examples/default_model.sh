#!/usr/bin/env bash
# The commands that made the default model: about three hours on one CPU core, 4 GB of memory.
#
# Usage: default_model.sh train.jsonl.zst broad-train.jsonl.zst MODEL_DIR [HELD_OUT ...]
#
# The corpora are JSONL with fields `text` and `source`, the second one with `kind`. The weights of kinds are in
# mix.py. Paragraphs of the held-out texts are taken out of the mix.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
usage='usage: default_model.sh train.jsonl.zst broad-train.jsonl.zst MODEL_DIR [HELD_OUT ...]'
english=${1:?$usage}
broad=${2:?$usage}
model=${3:?$usage}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# one thread: best where other work runs too
export OMP_NUM_THREADS=1
python "$here/mix.py" "$english" "$broad" -o "$work/mix.jsonl"
if [ $# -gt 3 ]; then
    python "$here/benchmarks/contamination.py" "$work/mix.jsonl" "${@:4}" --clean "$work/clean.jsonl" || true
    mv "$work/clean.jsonl" "$work/mix.jsonl"
fi
eqinfo train-m1 "$work/mix.jsonl" -o "$model" --window-bits 16,12,14,18 --preset 14m --steps 13000 --seed 0
