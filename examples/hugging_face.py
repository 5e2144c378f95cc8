"""eqinfo's windows in Hugging Face's libraries: a text to columns of tokens, and a model trained on them.

Usage: hugging_face.py [TEXT]   (needs `pip install datasets transformers`; for training also accelerate)
"""

import importlib.util
import sys
import tempfile
from pathlib import Path

from datasets import Dataset
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

import eqinfo

BLOCK_SIZE = 32


def main() -> None:
    """Map, check the ids, train some steps, write a few words."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "inaugural.txt"
    lines = [line for line in path.read_text().splitlines(keepends=True) if line.strip()]
    ours = eqinfo.load()
    with tempfile.TemporaryDirectory() as folder:
        ours.save_tokenizer(folder)
        theirs = AutoTokenizer.from_pretrained(folder)
    texts = Dataset.from_dict({"text": lines})

    # two ways to the same columns: eqinfo in the workers of `map`, or the tokeniser of transformers
    fast = texts.map(lambda rows: {"input_ids": ours.encode_batch(rows["text"], threads=1)}, batched=True)
    same = texts.map(lambda rows: {"input_ids": theirs(rows["text"])["input_ids"]}, batched=True)
    assert fast["input_ids"][:] == same["input_ids"][:]
    assert b"".join(ours.decode(row) for row in fast["input_ids"]) == "".join(lines).encode()
    print(f"{len(lines)} rows; the first one: {theirs.convert_ids_to_tokens(fast[0]['input_ids'])}")

    if importlib.util.find_spec("accelerate") is None:
        print("accelerate is not installed: no training")
        return
    ids = [token for row in fast["input_ids"] for token in [*row, ours.end_of_text]]
    blocks = [ids[i : i + BLOCK_SIZE] for i in range(0, len(ids) - BLOCK_SIZE, BLOCK_SIZE)]
    data = Dataset.from_dict({"input_ids": blocks, "labels": blocks})
    config = GPT2Config(vocab_size=ours.vocab_size, n_positions=64, n_embd=32, n_layer=2, n_head=2,
                        bos_token_id=0, eos_token_id=0)  # fmt: skip
    model = GPT2LMHeadModel(config)
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(folder, max_steps=10, logging_steps=5, report_to=[], use_cpu=True)
        Trainer(model, settings, train_dataset=data).train()
    prompt = theirs("With malice", return_tensors="pt")["input_ids"]
    print(theirs.decode(model.generate(prompt, max_new_tokens=10, pad_token_id=0)[0]))


if __name__ == "__main__":
    main()
