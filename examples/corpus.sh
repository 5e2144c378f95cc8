#!/usr/bin/env bash
# Tokenise a corpus of many shards with all cores; what is done already is left out, so run it again after a stop.
#
# Usage: corpus.sh OUT_DIR SHARD...
#
# A shard is plain text or .jsonl, also .gz or .zst; each gives OUT_DIR/SHARD.bin and its sidecar. GNU parallel
# spreads the same line over machines: parallel --sshloginfile hosts ... ; and Slurm over a cluster:
#
#   sbatch --array=0-999 --wrap 's=(shards/*.jsonl.zst); eqinfo compress --tokens --skip-existing \
#       --output-dir out "${s[SLURM_ARRAY_TASK_ID]}"'
#
# Train on all of them: eqinfo train-m2 OUT_DIR/*.bin -o run
set -euo pipefail
out=$1
shift
printf '%s\0' "$@" |
    xargs -0 -n 1 -P "$(nproc)" eqinfo compress --tokens --skip-existing --output-dir "$out"
