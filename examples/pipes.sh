#!/usr/bin/env bash
# Recipes with pipes and plain files, each checked.  Usage: pipes.sh [FILE]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "${1:-$here/inaugural.txt}" "$work/text"
cd "$work"

echo "== a pipe: stdin to stdout"
eqinfo compress < text | eqinfo decompress | cmp - text

echo "== cat: streams one after another decode to the texts one after another"
for word in to be or not; do printf '%s ' "$word" | eqinfo compress; done > words.eqi
eqinfo decompress < words.eqi
echo

echo "== tar: any bytes will do"
tar -cf - text words.eqi | eqinfo compress > files.eqi
eqinfo decompress < files.eqi | tar -tf -

echo "== --test: is a file sound?"
eqinfo decompress --test -v words.eqi files.eqi

echo "== --range: a part of the text, without decoding the rest"
eqinfo compress text
eqinfo decompress -c --range 0:57 text.eqi
echo
eqinfo decompress -c --range 59: text.eqi | cmp - <(tail -c +60 text)

echo "== --window-bits: M1 runs; wide windows, or none (ac), which is smallest. Streams say what they are"
for bits in 24 128 ac; do
    eqinfo compress --window-bits "$bits" -c text > "$bits.eqi"
    eqinfo decompress < "$bits.eqi" | cmp - text
done
wc -c text text.eqi 24.eqi 128.eqi ac.eqi

echo "== --tokens: ids for a language model, uint16 as in nanoGPT's .bin"
eqinfo compress --tokens text
python -c "
import json, numpy as np
facts = json.load(open('text.bin.json'))
ids = np.fromfile('text.bin', '<u2' if facts['window_bits'] <= 16 else '<u4')
print(len(ids), 'ids below', facts['vocab_size'], 'for', facts['original_bytes'], 'bytes:', *ids[:6], '...')
assert len(ids) == facts['tokens'] and ids[-1] == facts['end_of_text']
"
eqinfo decompress text.bin -o restored
cmp text restored

echo "== --jsonl: records keep their ends"
python -c "
import json, sys
for paragraph in sys.stdin.read().split('\n\n'):
    print(json.dumps({'text': paragraph}))
" < text > records.jsonl
eqinfo compress --jsonl < records.jsonl | eqinfo decompress --jsonl | cmp - records.jsonl
echo "$(wc -l < records.jsonl | tr -d ' ') records"
