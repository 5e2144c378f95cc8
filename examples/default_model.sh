#!/usr/bin/env bash
# The commands that made the M1 of the package, and a codebook with it: about 75 minutes on one CPU core.
#
# Usage: default_model.sh train.jsonl.zst [MODEL_DIR]
#
# The corpus is JSONL with fields `text` and `source`. The weights of its sources are in reweight.py.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
corpus=${1:?usage: default_model.sh train.jsonl.zst [MODEL_DIR]}
model=${2:-default}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# one thread: best where other work runs too
export OMP_NUM_THREADS=1
python "$here/reweight.py" "$corpus" -o "$work/mix.jsonl"
eqinfo train-m1 "$work/mix.jsonl" -o "$model" --window-bits 16 --preset 7m --minutes 65 --seed 0
