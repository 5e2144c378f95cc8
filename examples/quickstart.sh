#!/usr/bin/env bash
# Compress a short text with the default model, restore it, compare.  Usage: quickstart.sh [FILE]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "${1:-$here/inaugural.txt}" "$work/text"
cd "$work"

eqinfo compress -v text         # text.eqi; the input is kept
eqinfo decompress text.eqi -o restored
cmp text restored && echo "the same $(wc -c < text | tr -d ' ') bytes"
echo "gzip -9: $(gzip -9c text | wc -c | tr -d ' ') bytes, eqinfo: $(wc -c < text.eqi | tr -d ' ') bytes"
