#!/usr/bin/env bash
# Tokenise a corpus of many shards with all cores; what is done already is left out, so run it again after a stop.
#
# Usage: corpus.sh OUT_DIR SHARD...
#
# A shard is plain text or .jsonl, also .gz or .zst; each gives OUT_DIR/SHARD.bin and its sidecar. GNU parallel
# spreads the same line over machines: parallel --sshloginfile hosts ... ; and Slurm over a cluster:
#
#   sbatch --array=0-999 --wrap 'set -- shards/*.jsonl.zst; shift "$SLURM_ARRAY_TASK_ID"
#       eqinfo compress --tokens --skip-existing --output-dir out "$1"'
#
# Train on all of them: eqinfo train-m2 OUT_DIR/*.bin -o run
set -euo pipefail
out=$1
shift
[ $# -gt 0 ] || exit 0
if printf '%s\n' "${@##*/}" | sort | uniq -d | grep . >&2; then
    echo "two shards have this name, and their outputs would too" >&2
    exit 1
fi
printf '%s\0' "$@" |
    xargs -0 -n 1 -P "$(getconf _NPROCESSORS_ONLN)" eqinfo compress --tokens --skip-existing --output-dir "$out"
