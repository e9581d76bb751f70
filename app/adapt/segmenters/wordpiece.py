"""WordPiece, as BERT has it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from app.adapt.segmenter import Segmenter

if TYPE_CHECKING:
    from tokenizers import Tokenizer

WITHIN = "##"
MAX_ALPHABET = (
    1_000  # rarer characters are unknown ones, as in BERT's Chinese and many-language models
)
MIN_COUNT = 2


class WordPiece(Segmenter):
    """Pieces within a word begin with `##`; the longest piece that fits is taken.

    Words end at spaces and punctuation, and each Han character is one (Devlin et al. 2019). The pieces are
    merged by frequency, which is what the tokenizers library trains under this name.
    """

    kind: Literal["wordpiece"] = "wordpiece"

    def learn(self, texts: Iterable[str], special: Sequence[str], unknown: str) -> Tokenizer:
        """See `Segmenter.learn`."""
        from tokenizers import decoders, models, trainers

        alphabet = self._alphabet(texts)
        within = [WITHIN + sign for sign in alphabet]
        self.check_size(len(special) + 2 * len(alphabet), "the corpus's characters")
        tokenizer = self._empty(models.WordPiece(unk_token=unknown))
        # The trainer numbers pieces within words in an order that differs from process to process, and
        # ties between merges go by number: named in advance, they always come out the same.
        trainer: Any = trainers.WordPieceTrainer(
            vocab_size=self.vocabulary_size,
            min_frequency=MIN_COUNT,
            special_tokens=[*special, *within],
            initial_alphabet=alphabet,
            limit_alphabet=len(alphabet),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        vocabulary: dict[str, int] = tokenizer.get_vocab(with_added_tokens=True)
        tokenizer = self._empty(models.WordPiece(vocabulary, unk_token=unknown))
        tokenizer.decoder = decoders.WordPiece(prefix=WITHIN)
        tokenizer.add_special_tokens(list(special))
        return tokenizer

    def _empty(self, model: Any) -> Any:
        from tokenizers import Tokenizer, normalizers, pre_tokenizers

        tokenizer: Any = Tokenizer(model)
        tokenizer.normalizer = normalizers.BertNormalizer(
            lowercase=self.lowercase, strip_accents=self.lowercase
        )
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        return tokenizer

    def _alphabet(self, texts: Iterable[str]) -> list[str]:
        """Return the commonest characters, in code point order."""
        from tokenizers import models

        normalizer = self._empty(models.WordPiece()).normalizer
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(normalizer.normalize_str(text))
        signs = [sign for sign in counts if not sign.isspace()]
        signs.sort(key=lambda sign: (-counts[sign], sign))
        return sorted(signs[:MAX_ALPHABET])
