"""The codebook as a tokeniser of Hugging Face: `tokenizer.json`, which `tokenizers` and `transformers` load.

The cut of least cost is what a Unigram model computes: a window's score is its cost (`parse.window_cost`),
negated. Unigram gives ties to the longer last token, as `parse` does, so the ids are the same. The only
pre-tokeniser writes each byte as one letter, so text in any language is cut as bytes.
"""

import json

from eqinfo.codebook.codebook import Codebook
from eqinfo.codebook.parse import WINDOW_COST, window_cost
from eqinfo.errors import InputError

END_OF_TEXT = "<|endoftext|>"
NEVER = -1e9  # score of the token that ends a document: text is never cut into it


def tokenizer_files(codebook: Codebook) -> dict[str, bytes]:
    """The contents of `tokenizer.json` and `tokenizer_config.json`, by name.

    Id 0 is the token that ends a text, and pads. Text that spells it is text (`split_special_tokens`).

    Raises:
        InputError: the codebook is for the longest match, which Unigram does not compute.
    """
    if codebook.method != "optimal":
        raise InputError(
            "tokenizer.json: for windows cut at least cost; this codebook takes the longest match."
        )
    letters = _letters()
    spelled = ["".join(letters[byte] for byte in window) for window in codebook.windows[1:]]
    end_of_text = END_OF_TEXT
    while end_of_text in spelled:  # two tokens cannot have one name
        end_of_text = f"<{end_of_text}>"
    scores = (-window_cost(codebook, k) / WINDOW_COST for k in range(1, len(codebook.windows)))
    vocabulary = [(end_of_text, NEVER), *zip(spelled, scores, strict=True)]
    bytes_as_letters = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": False,
        "use_regex": False,
    }
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": 0, "content": end_of_text, **special}],
        "normalizer": None,
        "pre_tokenizer": bytes_as_letters,
        "post_processor": None,
        "decoder": bytes_as_letters,
        "model": {"type": "Unigram", "unk_id": None, "vocab": vocabulary, "byte_fallback": False},
    }
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": end_of_text,
        "pad_token": end_of_text,
        "split_special_tokens": True,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 10**30,  # none
    }
    return {
        "tokenizer.json": json.dumps(tokenizer, ensure_ascii=False).encode(),
        "tokenizer_config.json": json.dumps(config, indent=2).encode(),
    }


def _letters() -> list[str]:
    """A printable letter for each byte value: GPT-2's, which ByteLevel uses.

    Printable characters of Latin-1 stand for themselves; the others get U+0100, U+0101, ... in order.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [value for value in range(256) if value not in printable]
    return [chr(value if value in printable else 0x100 + others.index(value)) for value in range(256)]
