#!/usr/bin/env bash
# Train a language model over windows of your own text on a laptop, measure it, let it write: some minutes.
#
# Usage: train_m2.sh [TEXT [WORK_DIR [TRAIN-M2 OPTIONS...]]]
#
# TEXT is a plain file; without one, Python's own manual pages are used. Without WORK_DIR all is thrown away.
# Options go to train-m2, for example: --tokens 20000000 --minutes 60 --preset 3m, or again in the same
# WORK_DIR: --resume. A vocabulary of 4,096 windows suits a CPU and little text; with a GPU leave the first
# step out and -m with it: the model in the package has 65,536.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
text=${1:-$scratch/manual.txt}
work=${2:-$scratch}
if [ $# -eq 0 ]; then
    python -c "from pydoc_data.topics import topics; print(*topics.values(), sep='\n\n')" > "$text"
fi

# the first nine tenths to learn from, the rest to measure on
bytes=$(wc -c < "$text") # also the budget in tokens: a few epochs, for more would be learnt by heart
head -c $((bytes * 9 / 10)) "$text" > "$scratch/train.txt"
tail -c +$((bytes * 9 / 10 + 1)) "$text" > "$scratch/valid.txt"

if [ ! -e "$work/m1" ]; then
    eqinfo train-m1 "$scratch/train.txt" -o "$work/m1" --window-bits 12 --preset 500k --minutes 1
fi
for part in train valid; do
    eqinfo compress --tokens -f -m "$work/m1" "$scratch/$part.txt" -o "$work/$part.bin"
done
eqinfo train-m2 "$work/train.bin" -m "$work/m1" --valid "$work/valid.bin" -o "$work/run" \
    --preset nano --block-size 128 --minutes 3 --tokens "$bytes" "${@:3}"
eqinfo eval "$work/run" --text "$scratch/valid.txt"
eqinfo eval "$work/run" --prompt "The import system " --bytes 300 --temperature 0.7
echo
