"""The task's config, and the path from rows to token ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field

from app.adapt.language_metrics import TokenMetrics, row_loss
from app.adapt.outputs import Teaching
from app.adapt.reader import Problem, Problems, Row
from app.adapt.task import DataReport, Example, Network, Parameters, Role, Task
from app.adapt.tasks.fill_mask import encoding, predict
from app.errors import InvalidData
from app.kit.counting import counted

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from app.adapt.outputs import Encoded
    from app.adapt.task import Metrics, Scores


class FillMask(Task):
    """Find hidden words again: how encoders are pretrained, and brought to a domain."""

    kind: Literal["fill-mask"] = "fill-mask"
    mask_share: float = Field(
        default=0.15, gt=0, lt=1, description="Of the tokens, how many are hidden in each step."
    )

    adds_head: ClassVar[bool] = False
    teaching: ClassVar[Teaching | None] = "beside"
    pipeline: ClassVar[str | None] = "fill-mask"
    parameters: ClassVar[type[Parameters]] = predict.MaskParameters
    roles: ClassVar[tuple[Role, ...]] = (
        Role(
            "text",
            ("content", "sentence", "document", "body"),
            description="Any text; what is longer than the model can take becomes several rows.",
        ),
    )

    def parse(
        self, rows: Iterable[Row], columns: Mapping[str, str], problems: Problems
    ) -> list[Example]:
        """Read texts."""
        column = columns["text"]
        examples: list[Example] = []
        for row in rows:
            text = row.values.get(column)
            if isinstance(text, str) and text.strip():
                examples.append(Example(row.number, {"text": text}, target=True))
            else:
                is_empty = text is None or isinstance(text, str)
                message = "the text is empty" if is_empty else "the text must be a string"
                code = "empty_text" if is_empty else "wrong_type"
                problems.add(Problem(code, message, row.number, column))
        return examples

    def fit(self, examples: Sequence[Example], filename: str) -> Self:
        """Refuse data without one usable row."""
        if not examples:
            message = f"{filename} has no usable row"
            raise InvalidData(message, param="data.train", code="no_usable_rows",
                              details={"file": filename})  # fmt: skip
        return self

    def check(self, examples: Sequence[Example], problems: Problems) -> list[Example]:
        """Keep everything."""
        del problems
        return list(examples)

    def report(self, rows: int, examples: Sequence[Example]) -> DataReport:
        """Count characters and doubles."""
        lengths = sorted(len(example.inputs["text"]) for example in examples)
        doubled = len(examples) - len({example.inputs["text"] for example in examples})
        count = counted(doubled, "row repeats", "rows repeat")
        warnings = [f"{count} another one word for word"] if doubled else []
        statistics: dict[str, Any] = {
            "characters": {
                "total": sum(lengths),
                "p50": lengths[len(lengths) // 2],
                "max": lengths[-1],
            }
            if lengths
            else {}
        }
        return DataReport(rows, len(examples), warnings, statistics)

    def stratum(self, example: Example) -> str | None:
        """Split at random."""
        del example
        return None

    def when_too_long(self) -> str:
        """Say that nothing of it is lost."""
        return "becomes several rows"

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], max_length: int
    ) -> list[Encoded]:
        """Tokenize; a long text becomes several rows."""
        return encoding.encode(tokenizer, examples, max_length, self.mask_share)

    def network(self) -> Network:
        """Return the torch half."""
        from app.adapt.tasks.fill_mask.model import MaskNetwork

        return MaskNetwork()

    def default_losses(self) -> list[dict[str, Any]]:
        """Cross-entropy of the hidden tokens."""
        return [{"kind": "cross_entropy"}]

    def metrics(self) -> Metrics:
        """Return perplexity and accuracy of the hidden tokens."""
        return TokenMetrics()

    def primary_metric(self) -> tuple[str, bool]:
        """Perplexity."""
        return "perplexity", False

    def parse_input(self, value: Any, index: int) -> Example:
        """Take a text with `[MASK]` in it."""
        return predict.parse_input(value, index)

    def decode(self, scores: Any, encoded: Encoded, parameters: Any) -> Any:
        """Return the likeliest tokens of each mask."""
        return predict.decode(scores, encoded, parameters)

    def merge(self, answers: list[Any], parameters: Any) -> Any:
        """Return the masks of all pieces, as one list where there is one mask."""
        del parameters
        masks = [mask for answer in answers for mask in answer]
        return masks[0] if len(masks) == 1 else masks

    def row_loss(self, scores: Scores, encoded: Encoded) -> float:
        """Return the mean negative log-likelihood of the tokens that were hidden."""
        del encoded
        return row_loss(scores)

    def expected(self, example: Example) -> None:
        """Return nothing: what was hidden is in the text."""
        del example

    def asked(self, example: Example) -> None:
        """Return nothing: a predict call says itself what is hidden."""
        del example

    def example_input(self) -> Any:
        """Return a text with a mask."""
        return "The bridge is [MASK] today."
