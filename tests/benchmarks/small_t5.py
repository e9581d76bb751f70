"""Make a small encoder-decoder: T5's architecture with a vocabulary of Multi30k's English and German.

    python -m tests.benchmarks.small_t5 ~/models
    ATTUNE_MODEL_DIRS='["~/models"]' attune up --detach

Four layers of width 256 in all and 8,000 pieces, about what Wu et al. 2021 (ACL) call tiny for this set.
Its weights are random: what trains from it uses transfer "structure".
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from tests.published import DATA

NAME = "small-t5-en-de"
PIECES = 8_000
SPECIAL = ["<pad>", "</s>", "<unk>"]


def texts() -> Iterator[str]:
    """Yield every training sentence of both languages."""
    path = DATA / "translation" / "multi30k_en_de" / "train.jsonl"
    for line in path.read_text("utf-8").splitlines():
        yield from json.loads(line).values()


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Train a unigram vocabulary, as T5's is one."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=PIECES, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(texts(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=512,
    )


def make(folder: Path) -> T5ForConditionalGeneration:
    """Write network and tokenizer into a folder."""
    tokenizer = make_tokenizer()
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=256,
        d_kv=64,
        d_ff=512,
        num_layers=2,
        num_decoder_layers=2,
        num_heads=4,
        dropout_rate=0.2,
        feed_forward_proj="gated-gelu",
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    torch.manual_seed(0)
    network = T5ForConditionalGeneration(config)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return network


def main() -> None:
    """Make the folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path, help="what ATTUNE_MODEL_DIRS names")
    folder = parser.parse_args().folder / NAME
    network = make(folder)
    print(f"{folder}: {sum(p.numel() for p in network.parameters()):,} parameters")


if __name__ == "__main__":
    main()
