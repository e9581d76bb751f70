"""Make a base model of a published model2vec folder: its table, with a tokenizer that transformers loads.

    python -m tests.benchmarks.model2vec_base .../potion-base-4m-int8 ~/models
    ATTUNE_MODEL_DIRS='["~/models"]' attune up --detach

model2vec leaves unknown words out of the mean and has no marks around a text; here both are silent, which
points the vector the same way.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, processors
from transformers import PreTrainedTokenizerFast

from app.adapt.architectures.static import StaticConfig, StaticModel

MARKS = {
    "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}  # fmt: skip
INT8_MAX = 127
MAX_LENGTH = 8192  # tokens; a mean has no positions to run out of


def table_of(folder: Path) -> torch.Tensor:
    """Return a row for each token id: quantized tables are scaled, shared rows and weights written out."""
    tensors = load_file(folder / "model.safetensors")
    table_VD = tensors["embeddings"]
    if table_VD.dtype == torch.int8:
        table_VD = table_VD.float() / INT8_MAX
    table_VD = table_VD.float()
    if "mapping" in tensors:
        table_VD = table_VD[tensors["mapping"].long()]
    if "weights" in tensors:
        table_VD = table_VD * tensors["weights"].float()[:, None]
    return table_VD


def make_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Load the tokenizer, with marks around a text so that none is empty."""
    tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
    marks = {name: mark for name, mark in MARKS.items() if tokenizer.token_to_id(mark) is not None}
    # The template in these files has the marks' numbers of the teacher's vocabulary, not of this one.
    ends = [(mark, tokenizer.token_to_id(mark)) for mark in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=MAX_LENGTH, **marks)


def main() -> None:
    """Make the folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("source", type=Path, help="the model2vec folder")
    parser.add_argument("folder", type=Path, help="what ATTUNE_MODEL_DIRS names")
    given = parser.parse_args()
    folder = given.folder / given.source.name
    tokenizer: Any = make_tokenizer(given.source)
    table_VD = table_of(given.source)
    config = StaticConfig(
        vocab_size=len(table_VD),
        hidden_size=table_VD.shape[1],
        silent_ids=sorted(tokenizer.all_special_ids),
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.device("meta"):
        network = StaticModel(config)
    network.embedding.weight = torch.nn.Parameter(table_VD)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    print(f"{folder}: {table_VD.numel():,} parameters")


if __name__ == "__main__":
    main()
