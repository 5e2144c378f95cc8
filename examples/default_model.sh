#!/usr/bin/env bash
# The commands that made the model in the package: about two hours on one CPU core.
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

python "$here/reweight.py" "$corpus" -o "$work/mix.jsonl"
OMP_NUM_THREADS=1 eqinfo train-m1 "$work/mix.jsonl" -o "$model" --window-bits 16 --preset 3m --steps 5000 \
    --rounds 1 --candidates 16 --unaligned-penalty 1.0 --seed 0
