"""The task's config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from app.adapt.task import DataReport, Example, Role
from app.adapt.tasks.summarization.metrics import SummaryMetrics, rouge_l
from app.adapt.text_to_text import TextToText
from app.kit.counting import counted, in_rows

if TYPE_CHECKING:
    from app.adapt.outputs import Encoded, Generated
    from app.adapt.task import Metrics, Network


class Summarization(TextToText):
    """Say in few words what a text says."""

    kind: Literal["summarization"] = "summarization"

    answer_key: ClassVar[str] = "summary_text"
    roles: ClassVar[tuple[Role, ...]] = (
        Role(
            "document",
            ("text", "article", "dialogue", "source", "content", "body", "input", "inputs",
             "abstract"),
            description="What is summarized; a list of sentences is joined.",
        ),
        Role(
            "summary",
            ("target", "highlights", "tldr", "title", "headline", "output", "label"),
            description="The summary, or a list of several good ones.",
            is_target=True,
        ),
    )  # fmt: skip

    def report(self, rows: int, examples: Sequence[Example]) -> DataReport:
        """Say also which summaries are longer than what they are summaries of."""
        described = super().report(rows, examples)
        longer = [e.row for e in examples if len(e.target[0]) > len(e.inputs["document"])]
        if not longer:
            return described
        count = counted(len(longer), "summary is", "summaries are")
        said = f"{count} longer than what it sums up ({in_rows(longer)})"
        return replace(described, warnings=[*described.warnings, said])

    def network(self) -> Network:
        """Return the torch half."""
        from app.adapt.tasks.summarization.model import SummaryNetwork

        return SummaryNetwork()

    def metrics(self) -> Metrics:
        """Return ROUGE."""
        return SummaryMetrics()

    def sentence_score(self, answer: Generated, encoded: Encoded) -> tuple[str, float]:
        """Return ROUGE-L."""
        return "rougeL", rouge_l(answer.text, encoded.extra["references"])

    def primary_metric(self) -> tuple[str, bool]:
        """F1 of the longest common subsequence."""
        return "rougeL", True

    def example_input(self) -> Any:
        """Return a text."""
        return "The bridge was closed on Monday because of the flood. It will open again on Friday."
