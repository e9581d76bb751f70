"""The task's config: what the data decides (`fit`), and what the rest of the folder reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from app.adapt.outputs import Teaching
from app.adapt.reader import Problem, Problems, Row
from app.adapt.task import DataReport, Example, Network, Parameters, Role, Task
from app.adapt.tasks.sentence_similarity import data, predict
from app.adapt.tasks.sentence_similarity.metrics import RetrievalMetrics, ScoreMetrics
from app.errors import InvalidData

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from app.adapt.outputs import Encoded
    from app.adapt.task import Metrics

LOSSES = {
    "scored": "cosine_similarity",
    "pairs": "in_batch_negatives",
    "labelled": "supervised_contrastive",
}


class SentenceSimilarity(Task):
    """Turn texts into vectors whose cosine says how alike they are."""

    kind: Literal["sentence-similarity"] = "sentence-similarity"
    form: data.Form | Literal["auto"] = Field(
        default="auto",
        description="scored: two sentences and a number; pairs: two that belong together, and perhaps one "
        "that does not; labelled: texts with labels, alike when the label is. auto: by the columns.",
    )
    score_range: tuple[float, float] | None = Field(
        default=None, description="Scored: what means unlike, and alike; null: the data's extremes."
    )
    layers: list[int] = Field(
        default=[-1], min_length=1, max_length=64,
        description="Hidden states that vectors are taken of: 0 the embeddings, -1 the last layer.",
    )  # fmt: skip
    poolings: list[Literal["mean", "max", "cls", "last"]] = Field(
        default=["mean"], min_length=1, max_length=4,
        description="How the states of all tokens become one vector; several lie side by side, in the "
        "order cls, max, mean, last.",
    )  # fmt: skip
    normalize: bool = Field(default=True, description="Each vector to length 1.")

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if self.score_range is not None and self.score_range[0] >= self.score_range[1]:
            message = (
                "score_range is what means unlike, then what means alike: the lower number first"
            )
            raise ValueError(message)
        return self

    teaching: ClassVar[Teaching | None] = "scores"
    adds_head: ClassVar[bool] = False
    parameters: ClassVar[type[Parameters]] = Parameters
    pipeline: ClassVar[str | None] = None  # sentence-transformers loads the folder
    roles: ClassVar[tuple[Role, ...]] = (
        Role(
            "sentence1",
            ("anchor", "query", "question", "text1", "text_a", "sentence_a", "premise",
             "source_sentence"),
            required=False,
            description="The first of two, or the anchor.",
        ),
        Role(
            "sentence2",
            ("positive", "answer", "passage", "text2", "text_b", "sentence_b", "hypothesis"),
            required=False,
            description="The second, or what belongs to the anchor.",
        ),
        Role("negative", ("hard_negative",), required=False, description="What does not belong."),
        Role(
            "score",
            ("similarity", "similarity_score", "relatedness_score", "relatedness"),
            required=False,
            description="How alike the two are.",
            is_target=True,
        ),
        Role("text", ("sentence", "content"), required=False, description="Labelled: the text."),
        Role("label", ("labels", "class", "intent"), required=False, description="Its label.",
             is_target=True),
    )  # fmt: skip

    def resolve_columns(
        self, found: Sequence[str], given: Mapping[str, str], filename: str
    ) -> dict[str, str]:
        """Map roles to columns, and see that they make one of the forms."""
        columns = super().resolve_columns(found, given, filename)
        if data.form_of(columns, self.form) is not None:
            return columns
        wanted = "; ".join(
            f"{form}: {', '.join(roles)}"
            for form, roles in data.FORMS
            if self.form in {"auto", form}
        )
        message = f"{filename} has the columns {list(found)}; needed are those of a form ({wanted})"
        raise InvalidData(
            message, param="data.columns", code="column_not_found",
            details={"file": filename, "found": list(found)},
        )  # fmt: skip

    def parse(
        self, rows: Iterable[Row], columns: Mapping[str, str], problems: Problems
    ) -> list[Example]:
        """Read rows of one form."""
        form = data.form_of(columns, self.form)
        return data.parse(rows, columns, problems, form=form or "pairs")

    def fit(self, examples: Sequence[Example], filename: str) -> Self:
        """Decide the form and the range of scores."""
        data.check_enough(examples, filename)
        form: data.Form = examples[0].target.form
        bounds = self.score_range
        if form == "scored" and bounds is None:
            values = [example.target.value for example in examples]
            bounds = (min(values), max(values))
        return self.model_copy(update={"form": form, "score_range": bounds})

    def check(self, examples: Sequence[Example], problems: Problems) -> list[Example]:
        """Keep what has the form of the training data, and scores in their range."""
        low, high = self.score_range or (0.0, 1.0)
        kept: list[Example] = []
        for example in examples:
            if example.target.form != self.form:
                message = f"the row is {example.target.form}, the training data {self.form}"
                problems.add(Problem("other_form", message, example.row))
            elif self.form == "scored" and not low <= example.target.value <= high:
                message = (
                    f"the score {example.target.value:g} is not within {low:g} to {high:g}, the range of "
                    "the training data or task.score_range"
                )
                problems.add(Problem("out_of_range", message, example.row, "score"))
            else:
                kept.append(example)
        return kept

    def report(self, rows: int, examples: Sequence[Example]) -> DataReport:
        """Describe the pairs."""
        return data.describe(rows, examples)

    def stratum(self, example: Example) -> str | None:
        """Return the label of a labelled text."""
        return str(example.target.value) if self.form == "labelled" else None

    def sequences(self, example: Example) -> list[list[str]]:
        """Return each text by itself."""
        return [[text] for text in self.texts(example)]

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], max_length: int
    ) -> list[Encoded]:
        """Tokenize each text by itself."""
        return data.encode(tokenizer, examples, max_length, self.score_range)

    def network(self) -> Network:
        """Return the torch half."""
        from app.adapt.tasks.sentence_similarity.model import EmbeddingNetwork

        return EmbeddingNetwork()

    def default_losses(self) -> list[dict[str, Any]]:
        """Return the loss of the form."""
        return [{"kind": LOSSES[self.form]}]

    def metrics(self) -> Metrics:
        """Return correlation with scores, or how well what belongs together is found."""
        return ScoreMetrics() if self.form == "scored" else RetrievalMetrics()

    def primary_metric(self) -> tuple[str, bool]:
        """Spearman's rank correlation, or nDCG at 10."""
        return ("spearman" if self.form == "scored" else "ndcg_at_10"), True

    def parse_input(self, value: Any, index: int) -> Example:
        """Take a text, two sentences, or one and a list that it is compared to."""
        return predict.parse_input(value, index)

    def decode(self, scores: Any, encoded: Encoded, parameters: Any) -> Any:
        """Return a vector, or cosines."""
        del parameters
        return predict.decode(scores, encoded)

    def input_columns(
        self, found: Sequence[str], given: Mapping[str, str], filename: str
    ) -> dict[str, str]:
        """Map two sentences, or else a text, to columns; what is given goes first."""
        columns = super().input_columns(found, given, filename)
        wanted = [("sentence1", "sentence2"), ("text",), ("sentence1",), ("sentence2",)]
        if "text" in given:
            wanted.insert(0, ("text",))
        for roles in wanted:
            if all(role in columns for role in roles):
                return {role: columns[role] for role in roles}
        message = (
            f"{filename} has no columns for 'sentence1' and 'sentence2', or 'text': {list(found)}"
        )
        raise InvalidData(message, param="data.columns", code="column_not_found",
                          details={"file": filename, "found": list(found)})  # fmt: skip

    def row_loss(self, scores: Any, encoded: Encoded) -> float | None:
        """Return (cos - y)^2 of scored pairs, 1 - cos of pairs; a labelled text has none by itself."""
        return predict.row_loss(scores, encoded.target, self.form)

    def expected(self, example: Example) -> Any:
        """Return the score or the label; of pairs, nothing."""
        return example.target.value

    def asked(self, example: Example) -> Example:
        """Return a text, or two."""
        inputs = {role: text for role, text in example.inputs.items() if role != "negative"}
        return replace(example, inputs=inputs, target=None)

    def distance(self) -> str:
        """Return the cosine of vectors."""
        return "embedding_cosine"

    def align(self, scores: Sequence[Any], theirs: Sequence[Encoded], ours: Encoded) -> Any:
        """Return the vectors of the texts, however they are cut into tokens."""
        del theirs, ours
        (answer,) = scores
        return answer

    def example_input(self) -> Any:
        """Return a sentence and others."""
        return {
            "source_sentence": "The bridge is closed.",
            "sentences": ["Nobody can cross the bridge.", "I like tea."],
        }

    def cautions(self) -> list[str]:
        """Say what cosines are not."""
        return ["Cosines rank: what number means 'alike' must be found on data of your own."]
