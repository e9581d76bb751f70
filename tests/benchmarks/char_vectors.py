"""Make a base model of published Chinese character vectors: what a BiLSTM's embeddings start from.

    python -m tests.benchmarks.char_vectors ~/models
    ATTUNE_MODEL_DIRS='["~/models"]' attune up --detach

The vectors (4,760 characters, 200 wide) lie beside the data sets, in `models/tencent-char-zh`. The model is
a recurrent network without layers: its states are its embeddings.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from app.adapt.architectures.recurrent import RecurrentConfig, RecurrentModel
from app.adapt.vocabulary import CHARACTER, SPECIAL, with_ends
from tests.published import DATA

NAME = "tencent-char-zh"
MODELS = DATA.parent / "models"
# The set's names of the tokens that are no character.
NAMES = {"<UNK>": SPECIAL["unk_token"], "<PAD>": SPECIAL["pad_token"]}
CARD = """# Chinese character vectors

Vectors of single characters from the Tencent AI Lab Embedding Corpus for Chinese Words and Phrases (Song et
al. 2018, "Directional Skip-Gram"), CC BY 3.0. Characters that it does not list are unknown; nothing is
lower-cased.
"""


def make_tokenizer(vocabulary: dict[str, int]) -> PreTrainedTokenizerFast:
    """Return a tokenizer of exactly the characters that have a vector; a space is one of them."""
    tokenizer: Any = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL["unk_token"]))
    pattern = Regex(f"{CHARACTER}|[ ]")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pattern, "removed", invert=True)
    return PreTrainedTokenizerFast(tokenizer_object=with_ends(tokenizer), **SPECIAL)


def main() -> None:
    """Make the folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path, help="what ATTUNE_MODEL_DIRS names")
    folder = parser.parse_args().folder / NAME
    listed = json.loads((MODELS / NAME / "vocab.json").read_text("utf-8"))
    with np.load(MODELS / NAME / "embedding_Tencent.npz") as file:
        vectors_VE = torch.from_numpy(file["embeddings"]).float()
    vocabulary = {NAMES.get(sign, sign): row for sign, row in listed.items()}
    for name in SPECIAL.values():
        vocabulary.setdefault(name, len(vocabulary))
    config = RecurrentConfig(
        vocab_size=len(vocabulary),
        embedding_size=vectors_VE.shape[1],
        hidden_size=vectors_VE.shape[1],
        num_hidden_layers=0,
        pad_token_id=vocabulary[SPECIAL["pad_token"]],
    )
    torch.manual_seed(0)
    network = RecurrentModel(config)
    with torch.no_grad():
        network.embeddings.words.weight[: len(vectors_VE)] = vectors_VE
    network.save_pretrained(folder)
    make_tokenizer(vocabulary).save_pretrained(folder)
    (folder / "README.md").write_text(CARD, "utf-8")
    print(f"{folder}: {len(vocabulary):,} entries, {vectors_VE.shape[1]} wide")


if __name__ == "__main__":
    main()
