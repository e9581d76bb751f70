"""Vocabularies of a network's own: the words or the characters of the training texts, as a tokenizer.

What comes out writes a `tokenizer.json` that any program loads, and keeps character offsets. Torch-free.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from app.adapt.scripts import UNSPACED

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Unit = Literal["words", "characters"]

# Padding is 0, which is what masks and empty rows of embeddings go by; the others as BERT names them.
SPECIAL = {
    "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}  # fmt: skip
INVISIBLE = r"\s\p{Cc}\p{Cf}"
# A character of those scripts, an English contraction (as GPT-2 cuts them off), a word, a number, any
# other sign by itself.
WORD = (
    rf"[{UNSPACED}]|'(?:s|t|re|ve|m|ll|d)(?!\p{{L}})|[\p{{L}}\p{{M}}&&[^{UNSPACED}]]+|\p{{N}}+|"
    rf"[^{INVISIBLE}\p{{L}}\p{{M}}\p{{N}}]"
)
CHARACTER = rf"[^{INVISIBLE}]"


def unit_of(texts: Sequence[str]) -> Unit:
    """Return "characters" when most letters of the texts are of scripts without spaces."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    letters = sum(count for sign, count in counts.items() if sign.isalpha())
    unspaced = sum(count for sign, count in counts.items() if sign.isalpha() and _is_unspaced(sign))
    return "characters" if unspaced * 2 > letters else "words"


def learn_vocabulary(texts: Sequence[str], unit: Unit, *, size: int, min_count: int) -> Tokenizer:
    """Return a tokenizer of the commonest words or characters, lower-cased, in compatible form (NFKC).

    `size` counts the special tokens in; of equally common ones those first in code point order are kept.
    A sequence is `[CLS] ... [SEP]`, a pair `[CLS] ... [SEP] ... [SEP]`.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer: Any = Tokenizer(models.WordLevel(unk_token=SPECIAL["unk_token"]))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace("’", "'")]
    )
    pattern = Regex(WORD if unit == "words" else CHARACTER)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pattern, "removed", invert=True)
    trainer = trainers.WordLevelTrainer(
        vocab_size=size,
        min_frequency=min_count,
        special_tokens=list(SPECIAL.values()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return with_ends(tokenizer)


def with_ends(tokenizer: Any) -> Tokenizer:
    """Let a tokenizer of these special tokens put them around a text, and between two."""
    from tokenizers import processors

    first, separator = SPECIAL["cls_token"], SPECIAL["sep_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {separator}",
        pair=f"{first} $A {separator} $B {separator}",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in (first, separator)],
    )
    return tokenizer


def _is_unspaced(sign: str) -> bool:
    ranges = zip(UNSPACED[::3], UNSPACED[2::3], strict=True)
    return any(first <= sign <= last for first, last in ranges)
