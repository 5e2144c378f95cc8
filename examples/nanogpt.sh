#!/usr/bin/env bash
# Train nanoGPT (https://github.com/karpathy/nanoGPT, its train.py as it is) on eqinfo's ids, and let it write.
#
# Usage: nanogpt.sh NANOGPT TRAIN_TEXT VALID_TEXT [NANOGPT OPTIONS...]
#
# NANOGPT is a checkout; its sample.py imports tiktoken (`pip install tiktoken`). The options go to train.py, for example: --device=cuda --n_layer=12. Without them the
# model is tiny and learns for some steps on a CPU, to show that the files fit.
set -euo pipefail
train=$(realpath "$2")
valid=$(realpath "$3")
cd "$1"
mkdir -p data/eqinfo

# what prepare.py makes: ids as uint16, and meta.pkl with the number of ids and the text of each
eqinfo compress --tokens -f "$train" -o data/eqinfo/train.bin
eqinfo compress --tokens -f "$valid" -o data/eqinfo/val.bin
python - <<'END'
import pickle

import eqinfo

windows = eqinfo.load().codebook.windows
# some windows end inside a character: their bytes go through sample.py's str as lone surrogates
itos = [window.decode("utf-8", "surrogateescape") for window in windows]
# sample.py encodes its --start a letter at a time
stoi = {words: id for id, words in enumerate(itos) if len(words) == 1}
with open("data/eqinfo/meta.pkl", "wb") as file:
    pickle.dump({"vocab_size": len(windows), "itos": itos, "stoi": stoi}, file)
END

python train.py --dataset=eqinfo --out_dir=out-eqinfo --compile=False --device=cpu --n_layer=2 --n_head=2 \
    --n_embd=32 --block_size=32 --batch_size=4 --gradient_accumulation_steps=1 --max_iters=20 --eval_iters=2 \
    --eval_interval=10 --log_interval=10 --always_save_checkpoint=True --warmup_iters=2 "${@:4}"
# surrogateescape prints the very bytes of the windows
PYTHONIOENCODING=utf-8:surrogateescape python sample.py --out_dir=out-eqinfo --device=cpu --num_samples=1 \
    --max_new_tokens=40 --start=T
