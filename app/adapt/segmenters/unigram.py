"""Unigram language model, as T5 and ALBERT have it."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from app.adapt.segmenter import Segmenter
from app.errors import InvalidSpec

if TYPE_CHECKING:
    from tokenizers import Tokenizer

COVERAGE = 0.9995  # of the characters; rarer ones are unknown: SentencePiece's own default
MAX_BYTES = 4_000  # of a text at once: the trainer leaves out what is longer than 4,192
MAX_TEXTS = 2_000_000  # that it holds in memory


class Unigram(Segmenter):
    """The likeliest pieces, found by leaving out those that are missed least; spaces are part of them.

    Source: Kudo 2018 (arXiv 1804.10959), trained by SentencePiece (the tokenizers library's own trainer
    gives other pieces in each process). Texts are in compatible form (NFKC).
    """

    kind: Literal["unigram"] = "unigram"

    def learn(self, texts: Iterable[str], special: Sequence[str], unknown: str) -> Tokenizer:
        """See `Segmenter.learn`."""
        from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

        self.check_size(len(special) + 1, "the special pieces")
        found = self._train(texts, self.vocabulary_size - len(special))
        pieces = [(name, 0.0) for name in special]
        pieces += [pair for pair in found if pair[0] not in set(special)]
        tokenizer: Any = Tokenizer(models.Unigram(pieces, unk_id=list(special).index(unknown)))
        steps: list[Any] = [normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
        if self.lowercase:
            steps.append(normalizers.Lowercase())
        tokenizer.normalizer = normalizers.Sequence(steps)
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        tokenizer.add_special_tokens(list(special))
        return tokenizer

    def _train(self, texts: Iterable[str], size: int) -> list[tuple[str, float]]:
        """Return so many pieces with their log-probabilities."""
        import sentencepiece as spm

        written = io.BytesIO()
        try:
            spm.SentencePieceTrainer.train(
                sentence_iterator=self._parts(texts), model_writer=written, model_type="unigram",
                vocab_size=size + 1, hard_vocab_limit=False, character_coverage=COVERAGE,
                normalization_rule_name="identity", input_sentence_size=MAX_TEXTS,
                shuffle_input_sentence=False, num_threads=1, minloglevel=2,
                unk_id=0, bos_id=-1, eos_id=-1, pad_id=-1,
            )  # fmt: skip
        except RuntimeError as error:
            if "Vocabulary size" not in str(error) and "required_chars" not in str(error):
                raise
            message = (
                f"tokenizer.vocabulary_size: {self.vocabulary_size} is too small for the corpus's "
                "characters"
            )
            raise InvalidSpec(
                message, param="tokenizer.vocabulary_size", code="vocabulary_too_small"
            ) from error
        model: Any = spm.SentencePieceProcessor(model_proto=written.getvalue())
        return [
            (model.id_to_piece(id_), model.get_score(id_)) for id_ in range(1, model.vocab_size())
        ]

    def _parts(self, texts: Iterable[str]) -> Iterator[str]:
        """Yield the texts in lines that the trainer takes, as the tokenizer will read them."""
        for text in texts:
            plain = " ".join(unicodedata.normalize("NFKC", text).split())
            if self.lowercase:
                plain = plain.lower()
            while len(plain.encode()) > MAX_BYTES:
                cut = plain.rfind(" ", 1, MAX_BYTES // 4)
                cut = cut if cut > 0 else MAX_BYTES // 4
                yield plain[:cut]
                plain = plain[cut:].strip()
            if plain:
                yield plain
