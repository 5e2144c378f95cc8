#!/usr/bin/env bash
# Train a small M1 on your own text and compare its windows with the default model's: about two minutes.
#
# Usage: train_your_own.sh [TEXT [MODEL_DIR [TRAIN-M1 OPTIONS...]]]
#
# TEXT is a plain file; without one, Python's own manual pages are used. (train-m1 takes more: see its --help.)
# Without MODEL_DIR the model is thrown away. Options go to train-m1, for example: --minutes 10 --preset 3m
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
text=${1:-$work/manual.txt}
model=${2:-$work/model}
if [ $# -eq 0 ]; then
    python -c "from pydoc_data.topics import topics; print(*topics.values(), sep='\n\n')" > "$text"
fi

eqinfo train-m1 "$text" -o "$model" --window-bits 12 --preset 500k --minutes 1 "${@:3}"

# M1 has read this text, so the last line flatters it; the table above is of text that was held out.
eqinfo compress "$text" -m "$model" -o "$work/ours.eqi"
eqinfo decompress "$work/ours.eqi" -m "$model" -c | cmp - "$text"
eqinfo compress "$text" -o "$work/default.eqi"
for file in "$text" "$work/default.eqi" "$work/ours.eqi"; do
    printf '%10d bytes  %s\n' "$(wc -c < "$file")" "$(basename "$file")"
done
