"""The task's config."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from app.adapt.columns import Role
from app.adapt.task import Example
from app.adapt.tasks.text2text_generation.metrics import ExactMetrics
from app.adapt.text_to_text import TextToText

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from app.adapt.outputs import Encoded
    from app.adapt.task import Metrics, Network

SENTINEL = re.compile(r"<extra_id_\d+>")


class Text2TextGeneration(TextToText):
    """Write a text for a text, whatever the one is to the other.

    It is what span corruption pretrains: asked with T5's sentinels, `Thank you <extra_id_0> me`, it says
    what each stands for.
    """

    kind: Literal["text2text-generation"] = "text2text-generation"

    answer_key: ClassVar[str] = "generated_text"
    roles: ClassVar[tuple[Role, ...]] = (
        Role("input_text", ("inputs",), description="What is read."),
        Role(
            "target_text",
            ("targets",),
            description="What is written, or a list of good answers.",
            is_target=True,
        ),
    )

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], max_length: int
    ) -> list[Encoded]:
        """Tokenize; `decode` reads sentinels with the same tokenizer."""
        rows = super().encode(tokenizer, examples, max_length)
        return [replace(row, extra={**row.extra, "tokenizer": tokenizer}) for row in rows]

    def network(self) -> Network:
        """Return the torch half."""
        from app.adapt.tasks.text2text_generation.model import AnyTextNetwork

        return AnyTextNetwork()

    def metrics(self) -> Metrics:
        """Return exact matches and the tokens' figures."""
        return ExactMetrics()

    def primary_metric(self) -> tuple[str, bool]:
        """Perplexity: texts that are not the same may both be right."""
        return "perplexity", False

    def decode(self, scores: Any, encoded: Encoded, parameters: Any) -> Any:
        """Return the text, with `spans` where it says what sentinels stand for; several as a list."""
        del parameters
        answers: list[dict[str, Any]] = []
        for found in scores:
            answer = {self.answer_key: found.text, "finish_reason": found.finish_reason}
            spans = _spans(encoded.extra["tokenizer"], found.token_ids)
            answers.append(answer | ({"spans": spans} if spans else {}))
        return answers[0] if len(answers) == 1 else answers

    def example_input(self) -> Any:
        """Return a text with a gap."""
        return "The bridge was <extra_id_0> on Monday."


def _spans(tokenizer: Any, token_ids: Sequence[int]) -> dict[str, str]:
    """Return what each sentinel in an answer stands for."""
    spans: dict[str, list[int]] = {}
    current: list[int] | None = None
    for token, piece in zip(
        token_ids, tokenizer.convert_ids_to_tokens(list(token_ids)), strict=True
    ):
        if SENTINEL.fullmatch(piece):
            current = spans.setdefault(piece, [])
        elif current is not None:
            current.append(token)
    return {
        name: tokenizer.decode(ids, skip_special_tokens=True).strip() for name, ids in spans.items()
    }
