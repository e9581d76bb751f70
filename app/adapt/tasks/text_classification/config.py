"""The task's config: what the data decides (`fit`), and what the rest of the folder reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from app.adapt.labels import label_of
from app.adapt.outputs import Teaching
from app.adapt.reader import Problems, Row
from app.adapt.task import DataReport, Example, Network, Parameters, Role, Task
from app.adapt.tasks.text_classification import base, data, predict, report
from app.adapt.tasks.text_classification.metrics import (
    MultiLabelMetrics,
    RegressionMetrics,
    SingleLabelMetrics,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from app.adapt.outputs import Encoded
    from app.adapt.task import Metrics, Scores

Problem = Literal["single_label", "multi_label", "regression"]


class TextClassification(Task):
    """Give each text (or pair of texts) one label, several labels, or a number."""

    kind: Literal["text-classification"] = "text-classification"
    problem: Problem | Literal["auto"] = Field(
        default="auto",
        description="auto: lists of labels are multi_label, fractions are regression.",
    )
    labels: list[str] | None = Field(
        default=None, min_length=2, max_length=10_000, description="null: found in the data."
    )
    pair: bool | Literal["auto"] = Field(
        default="auto", description="Two texts in; auto: when the data has a second text column."
    )
    threshold: float = Field(
        default=0.5, gt=0, lt=1, description="Multi-label: probability from which a label is given."
    )

    @model_validator(mode="after")
    def _check_labels(self) -> Self:
        if self.labels is None:
            return self
        if len(set(self.labels)) != len(self.labels):
            message = "labels must differ from each other"
            raise ValueError(message)
        if self.problem == "regression":
            message = "labels and problem 'regression' exclude each other"
            raise ValueError(message)
        return self

    teaching: ClassVar[Teaching | None] = "scores"
    augments: ClassVar[bool] = True
    pipeline: ClassVar[str | None] = "text-classification"
    parameters: ClassVar[type[Parameters]] = predict.ClassificationParameters
    roles: ClassVar[tuple[Role, ...]] = (
        Role(
            "text",
            ("sentence", "review", "content", "sentence1", "text_a", "text1", "premise",
             "question", "question1", "title", "utterance", "tweet", "body"),
            description="The text, or the first of two.",
        ),
        Role(
            "text_pair",
            ("sentence2", "text_b", "text2", "hypothesis", "question2"),
            required=False,
            description="The second text.",
        ),
        Role(
            "label",
            ("labels", "target", "class", "category", "intent", "sentiment", "score", "stars",
             "rating"),
            description="A label, a list of labels, or a number.",
            is_target=True,
        ),
    )  # fmt: skip

    def resolve_columns(
        self, found: Sequence[str], given: Mapping[str, str], filename: str
    ) -> dict[str, str]:
        """Map roles to columns; a task of pairs needs both texts."""
        columns = super().resolve_columns(found, given, filename)
        if self.pair is True and "text_pair" not in columns:
            raise data.no_pair(filename)
        return columns

    def parse(
        self, rows: Iterable[Row], columns: Mapping[str, str], problems: Problems
    ) -> list[Example]:
        """Read texts and labels; an empty text or label is a problem of its row."""
        return data.parse(rows, columns, problems, wants_pair=self.pair is not False)

    def fit(self, examples: Sequence[Example], filename: str) -> Self:
        """Decide problem, labels and pair from the training examples."""
        problem = data.detect_problem(examples) if self.problem == "auto" else self.problem
        if self.labels is not None and problem == "regression":
            problem = "single_label"  # who names labels wants labels, whatever they look like
        labels = data.fit_labels(examples, problem, self.labels, filename)
        pair = any("text_pair" in example.inputs for example in examples)
        if self.pair is True and not pair:
            raise data.no_pair(filename)
        return self.model_copy(update={"problem": problem, "labels": labels, "pair": pair})

    def check(self, examples: Sequence[Example], problems: Problems) -> list[Example]:
        """Keep the examples whose target the fitted task knows."""
        return data.check(examples, self.fitted_problem, self.labels or [], problems)

    def report(self, rows: int, examples: Sequence[Example]) -> DataReport:
        """Describe labels, lengths and duplicates."""
        return report.describe(rows, examples, self.fitted_problem)

    def stratum(self, example: Example) -> str | None:
        """Return the label of a single-label example."""
        return label_of(example.target) if self.problem == "single_label" else None

    def untaught(self, examples: Sequence[Example]) -> list[str]:
        """Return the labels that no example has."""
        if self.problem == "regression":
            return []
        found = {label for example in examples for label in data.labels_of(example.target)}
        return [label for label in self.labels or [] if label not in found]

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], max_length: int
    ) -> list[Encoded]:
        """Tokenize texts or pairs; the longer one of a pair is cut first."""
        return data.encode(tokenizer, examples, max_length, self.fitted_problem, self.labels or [])

    def check_summary(
        self, columns: Mapping[str, str], summary: Sequence[Mapping[str, Any]], filename: str
    ) -> None:
        """Refuse a label column of one value."""
        column = next(item for item in summary if item["name"] == columns["label"])
        is_plain = column["kind"] not in {"list", "number"}  # lists name several, fractions none
        if self.problem in {"auto", "single_label"} and is_plain and column["distinct"] == 1:
            raise data.too_few_labels([column["top"][0]["value"]], filename)

    def network(self) -> Network:
        """Return the torch half."""
        from app.adapt.tasks.text_classification.model import ClassificationNetwork

        return ClassificationNetwork()

    def default_losses(self) -> list[dict[str, Any]]:
        """Cross-entropy, binary cross-entropy or mean squared error."""
        kind = {
            "single_label": "cross_entropy",
            "multi_label": "binary_cross_entropy",
            "regression": "mean_squared_error",
        }[self.fitted_problem]
        return [{"kind": kind}]

    def metrics(self) -> Metrics:
        """Return the metrics of the fitted problem."""
        match self.fitted_problem:
            case "single_label":
                return SingleLabelMetrics(self.labels or [])
            case "multi_label":
                return MultiLabelMetrics(self.labels or [], self.threshold)
            case "regression":
                return RegressionMetrics()

    def primary_metric(self) -> tuple[str, bool]:
        """Accuracy, micro F1 or Pearson's r; greater is better for all three."""
        name = {"single_label": "accuracy", "multi_label": "f1_micro", "regression": "pearson"}
        return name[self.fitted_problem], True

    def parse_input(self, value: Any, index: int) -> Example:
        """Take a string, `{"text", "text_pair"}` or a pair of strings."""
        return predict.parse_input(value, index, is_pair=self.pair is True)

    def decode(self, scores: Scores, encoded: Encoded, parameters: Any) -> Any:
        """Return label, score and the scores of all labels, or a number."""
        del encoded
        return predict.decode(
            scores, self.fitted_problem, self.labels or [], self.threshold, parameters
        )

    def distance(self) -> str:
        """Return the divergence of labels; numbers have none."""
        return "logit_mse" if self.problem == "regression" else "kl_divergence"

    def target_of(self, scores: Scores, encoded: Encoded) -> Any:
        """Return the likeliest label, all labels that are likelier than not, or the number."""
        del encoded
        match self.fitted_problem:
            case "single_label":
                return int(scores.argmax())
            case "multi_label":
                return [at for at, p in enumerate(predict.sigmoid(scores)) if p >= self.threshold]
            case "regression":
                return float(scores[0])

    def align(self, scores: Sequence[Scores], theirs: Sequence[Encoded], ours: Encoded) -> Scores:
        """Return the one answer of a text, however it is cut into tokens."""
        del theirs, ours
        (answer,) = scores
        return answer

    def input_columns(
        self, found: Sequence[str], given: Mapping[str, str], filename: str
    ) -> dict[str, str]:
        """Map texts to columns: both of them where the model reads two, else the one."""
        columns = super().input_columns(found, given, filename)
        if self.pair is not True and "text_pair" not in given:
            columns.pop("text_pair", None)
        elif self.pair is True and "text_pair" not in columns:
            raise data.no_pair(filename)
        return columns

    def input_value(self, given: Mapping[str, Any]) -> Any:
        """Return one text or two; a number is a text, as in rows that are learned from."""
        return super().input_value({role: data.as_text(value) for role, value in given.items()})

    def row_loss(self, scores: Scores, encoded: Encoded) -> float:
        """Return cross-entropy, the labels' mean binary cross-entropy, or the squared error."""
        return predict.row_loss(scores, encoded.target, self.fitted_problem)

    def as_base(self, config: Mapping[str, Any]) -> Self:
        """Take problem and labels from a base model's head; labels that are given go before its names."""
        problem, labels = base.head_of(config, self.labels)
        if self.problem not in {"auto", problem}:
            problem = self.problem
        return self.model_copy(update={"problem": problem, "labels": labels})

    def example_input(self) -> Any:
        """Return a text, or two."""
        return {"text": "first", "text_pair": "second"} if self.pair is True else "some text"

    def cautions(self) -> list[str]:
        """Say that there is no "none of these"."""
        if self.problem != "single_label":
            return []
        return ["Every text gets one of its labels, also one that fits none of them."]

    @property
    def num_outputs(self) -> int:
        """Width C of the network's logits."""
        return 1 if self.problem == "regression" else len(self.labels or [])

    @property
    def fitted_problem(self) -> Problem:
        """The problem, which only a fitted task has."""
        if self.problem == "auto":
            message = "the task has not been fitted"
            raise AssertionError(message)
        return self.problem
