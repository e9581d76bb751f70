"""Byte-pair encoding over bytes, as GPT-2 and RoBERTa have it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from app.adapt.segmenter import Segmenter

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MIN_COUNT = 2


class Bpe(Segmenter):
    """Merges of the commonest neighbours, from the 256 bytes up: nothing is unknown.

    Source: Sennrich et al. 2016 (arXiv 1508.07909); bytes as in Radford et al. 2019, 2.2.
    """

    kind: Literal["bpe"] = "bpe"

    def learn(self, texts: Iterable[str], special: Sequence[str], unknown: str) -> Tokenizer:
        """See `Segmenter.learn`."""
        from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

        del unknown
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        self.check_size(len(special) + len(alphabet), "the special pieces and the bytes")
        tokenizer: Any = Tokenizer(models.BPE())
        if self.lowercase:
            tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer: Any = trainers.BpeTrainer(
            vocab_size=self.vocabulary_size,
            min_frequency=MIN_COUNT,
            special_tokens=list(special),
            initial_alphabet=alphabet,
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        return tokenizer
