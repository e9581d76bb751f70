"""The task's config: what the data decides (`fit`), and what the rest of the folder reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field

from app.adapt.outputs import Teaching
from app.adapt.reader import Problem, Problems, Row
from app.adapt.task import DataReport, Example, Network, Parameters, Role, Task
from app.adapt.tasks.question_answering import data, predict
from app.adapt.tasks.question_answering.metrics import AnswerMetrics
from app.errors import InvalidData
from app.kit.counting import counted, in_rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from app.adapt.outputs import Encoded
    from app.adapt.task import Metrics, Scores

STRIDE = 128  # Devlin et al. 2019, the SQuAD scripts
FEW = 0.05  # of the questions: fewer without an answer look like mistakes
NOTES = (
    ("moved", "answer is", "answers are", "not where answer_start says; the nearest place is taken"),
    ("ambiguous", "answer occurs", "answers occur",
     "several times, and answer_start is missing; the first is taken"),
)  # fmt: skip


class QuestionAnswering(Task):
    """Find the answer to a question in a text, or say that it is not there."""

    kind: Literal["question-answering"] = "question-answering"
    unanswerable: bool | Literal["auto"] = Field(
        default="auto",
        description="May a question have no answer? auto: when the training data has such.",
    )
    doc_stride: int = Field(
        default=STRIDE, ge=1, le=4096,
        description="How many tokens the windows of a long context share.",
    )  # fmt: skip

    pipeline: ClassVar[str | None] = "question-answering"
    teaching: ClassVar[Teaching | None] = "scores"
    parameters: ClassVar[type[Parameters]] = predict.AnswerParameters
    roles: ClassVar[tuple[Role, ...]] = (
        Role("question", ("query",), description="What is asked."),
        Role(
            "context",
            ("passage", "paragraph", "document", "text"),
            description="Where the answer is.",
        ),
        Role(
            "answers",
            ("answer", "answer_text", "label"),
            description="What is right, and where it is.",
            is_target=True,
        ),
        Role(
            "answer_start",
            ("start",),
            required=False,
            description="Where an answer that is a string begins, in characters.",
            is_target=True,
        ),
    )

    def parse(
        self, rows: Iterable[Row], columns: Mapping[str, str], problems: Problems
    ) -> list[Example]:
        """Read questions with contexts and answers."""
        return data.parse(rows, columns, problems)

    def fit(self, examples: Sequence[Example], filename: str) -> Self:
        """Decide whether there are questions without an answer."""
        if not any(example.target.texts for example in examples):
            message = f"{filename} has no row with an answer: there is nothing to find"
            raise InvalidData(message, param="data.train", code="no_answers",
                              details={"file": filename})  # fmt: skip
        if self.unanswerable != "auto":
            return self
        found = any(not example.target.texts for example in examples)
        return self.model_copy(update={"unanswerable": found})

    def check(self, examples: Sequence[Example], problems: Problems) -> list[Example]:
        """Keep what has an answer, where each question must have one."""
        if self.unanswerable is not False:
            return list(examples)
        kept: list[Example] = []
        for example in examples:
            if example.target.texts:
                kept.append(example)
            else:
                message = (
                    "there is no answer, and the model learns none of questions without: leave the row "
                    "out, or give training rows like it"
                )
                problems.add(Problem("no_answer", message, example.row, "answers"))
        return kept

    def report(self, rows: int, examples: Sequence[Example]) -> DataReport:
        """Count answers and lengths, and say what was put right."""
        repairs: list[str] = []
        for note, one, many, text in NOTES:
            found = [example.row for example in examples if example.target.note == note]
            if found:
                repairs.append(f"{counted(len(found), one, many)} {text} ({in_rows(found)})")
        without = [example.row for example in examples if not example.target.texts]
        warnings: list[str] = []
        if 0 < len(without) < len(examples) * FEW:
            count = counted(len(without), "question has", "questions have")
            warnings.append(
                f"{count} no answer, and so the model learns to say that there is none "
                f"({in_rows(without)}); task.unanswerable: false refuses such rows"
            )
        lengths = sorted(len(example.inputs["context"]) for example in examples)
        statistics: dict[str, Any] = {
            "without_answer": len(without),
            "contexts": len({example.inputs["context"] for example in examples}),
            "context_characters": {"p50": lengths[len(lengths) // 2], "max": lengths[-1]}
            if lengths
            else {},
        }
        return DataReport(rows, len(examples), warnings, statistics, repairs)

    def stratum(self, example: Example) -> str | None:
        """Split at random."""
        del example
        return None

    def when_too_long(self) -> str:
        """Say that it is read in windows."""
        return "is read in several windows"

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], max_length: int
    ) -> list[Encoded]:
        """Tokenize; a long context becomes several windows."""
        return data.encode(tokenizer, examples, max_length, self.doc_stride)

    def network(self) -> Network:
        """Return the torch half."""
        from app.adapt.tasks.question_answering.model import AnswerNetwork

        return AnswerNetwork()

    def default_losses(self) -> list[dict[str, Any]]:
        """Cross-entropy of the answer's first and last token."""
        return [{"kind": "span_cross_entropy"}]

    def metrics(self) -> Metrics:
        """Return exact match and F1."""
        return AnswerMetrics(may_be_none=self.unanswerable is True)

    def primary_metric(self) -> tuple[str, bool]:
        """F1 of words."""
        return "f1", True

    def with_parameters(self, parameters: Any) -> Self:
        """Let the windows of a long context share what the call says."""
        if parameters.doc_stride is None:
            return self
        return self.model_copy(update={"doc_stride": parameters.doc_stride})

    def parse_input(self, value: Any, index: int) -> Example:
        """Take a question and its context."""
        return predict.parse_input(value, index)

    def decode(self, scores: Scores, encoded: Encoded, parameters: Any) -> Any:
        """Return what a window says."""
        del parameters
        return predict.window_of(scores, encoded)

    def merge(self, answers: list[Any], parameters: Any) -> Any:
        """Return the best answer of all windows."""
        return predict.answer(answers, parameters, may_be_none=self.unanswerable is True)

    def row_loss(self, scores: Scores, encoded: Encoded) -> float:
        """Return the mean cross-entropy of the answer's first and last token in this window."""
        return predict.row_loss(scores, encoded.target)

    def expected(self, example: Example) -> Any:
        """Return the right answers; none where the context holds none."""
        return list(example.target.texts)

    def example_input(self) -> Any:
        """Return a question with its context."""
        return {"question": "Who wrote it?", "context": "Ada Lovelace wrote the notes in 1843."}

    def cautions(self) -> list[str]:
        """Say whether it can say that there is no answer."""
        if self.unanswerable is True:
            return []
        return ["It gives an answer even where the context holds none."]
