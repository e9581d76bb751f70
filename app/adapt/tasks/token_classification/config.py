"""The task's config: what the data decides (`fit`), and what the rest of the folder reads."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field

from app.adapt.outputs import Teaching
from app.adapt.reader import Problem, Problems, Row
from app.adapt.task import DataReport, Example, Network, Parameters, Role, Task
from app.adapt.tasks.token_classification import data, predict, report
from app.adapt.tasks.token_classification.align import align
from app.adapt.tasks.token_classification.metrics import SpanMetrics
from app.adapt.tasks.token_classification.words import OUTSIDE, cut_at, other_scheme, tags_of
from app.errors import InvalidData, InvalidSpec
from app.kit.counting import cut

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from app.adapt.outputs import Encoded
    from app.adapt.task import Metrics, Scores

MAX_ENTITIES = 1_000


class TokenClassification(Task):
    """Mark the spans of a text that are of some kind, such as names of people and places."""

    kind: Literal["token-classification"] = "token-classification"
    entities: list[str] | None = Field(
        default=None, min_length=1, max_length=MAX_ENTITIES,
        description="The kinds of spans, without B- and I-; null: found in the data.",
    )  # fmt: skip
    tag_names: list[str] | None = Field(
        default=None, min_length=1, max_length=4 * MAX_ENTITIES,
        description="What the tags mean where they are numbers: the name of 0, of 1, ...",
    )  # fmt: skip

    stride: int | None = Field(
        default=None, ge=0, le=4096,
        description="How many tokens the windows of a long text share; null: a quarter of one.",
    )  # fmt: skip

    pipeline: ClassVar[str | None] = "token-classification"
    teaching: ClassVar[Teaching | None] = "scores"
    minds_pieces: ClassVar[bool] = True
    parameters: ClassVar[type[Parameters]] = predict.SpanParameters
    roles: ClassVar[tuple[Role, ...]] = (
        Role("tokens", ("words",), required=False, description="A list of words."),
        Role(
            "tags",
            ("ner_tags", "pos_tags", "labels", "ner", "bio_tags", "ner_labels"),
            required=False,
            description="A tag for each token: B-PER, I-PER, O.",
            is_target=True,
        ),
        Role("text", ("sentence", "content"), required=False, description="A raw text."),
        Role(
            "spans",
            ("entities", "label", "labels", "annotations", "ner"),
            required=False,
            description="Marked stretches of the text: start, end (in characters) and label.",
            is_target=True,
        ),
    )

    def resolve_columns(
        self, found: Sequence[str], given: Mapping[str, str], filename: str
    ) -> dict[str, str]:
        """Find tokens and tags, or else a text and its spans."""
        super().resolve_columns(found, given, filename)  # refuses what is given and not there
        free = [name for name in found if name not in given.values()]
        for pair in (("tokens", "tags"), ("text", "spans")):
            columns = _match([role for role in self.roles if role.name in pair], free, given)
            if columns is not None:
                return columns
        message = (
            f"{filename} has neither columns for 'tokens' and 'tags' nor for 'text' and 'spans', and "
            "token-classification needs the two of one or of the other; it has: "
            f'{list(found)}; name them with data.columns: {{"tokens": "...", "tags": "..."}}'
        )
        raise InvalidData(message, param="data.columns", code="column_not_found",
                          details={"file": filename, "found": list(found)})  # fmt: skip

    def parse(
        self, rows: Iterable[Row], columns: Mapping[str, str], problems: Problems
    ) -> list[Example]:
        """Read tokens with tags, or texts with spans."""
        return data.parse(rows, columns, self.tag_names, problems)

    def fit(self, examples: Sequence[Example], filename: str) -> Self:
        """Decide which kinds of spans there are."""
        if not examples:
            message = f"{filename} has no usable row"
            raise InvalidData(message, param="data.train", code="no_usable_rows",
                              details={"file": filename})  # fmt: skip
        found = sorted({span.label for example in examples for span in example.target.spans})
        if not found:
            message = f"{filename} marks nothing: there is no span, and no tag but O, to be learned"
            raise InvalidData(message, param="data.train", code="no_spans",
                              details={"file": filename})  # fmt: skip
        pair = other_scheme(found)
        if pair is not None:
            message = (
                f"{filename} has the tags {pair[0]!r} and {pair[1]!r}; the scheme goes before the label, "
                "with a hyphen: B-PER, I-PER"
            )
            raise InvalidData(message, param="data.columns.tags", code="unknown_scheme",
                              details={"file": filename, "labels": list(pair)})  # fmt: skip
        if len(found) > MAX_ENTITIES:
            message = f"{filename} has {len(found)} kinds of spans; is it the right column?"
            raise InvalidData(message, param="data.columns", code="too_many_labels",
                              details={"file": filename})  # fmt: skip
        return self.model_copy(update={"entities": self.entities or found})

    def check(self, examples: Sequence[Example], problems: Problems) -> list[Example]:
        """Keep the examples whose spans are of known kinds."""
        known = set(self.entities or [])
        kept: list[Example] = []
        for example in examples:
            unknown = next((s.label for s in example.target.spans if s.label not in known), None)
            if unknown is None:
                kept.append(example)
                continue
            close = difflib.get_close_matches(unknown, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            names = ", ".join(map(cut, sorted(known)))
            message = (
                f"{cut(unknown)!r} is not among the kinds of spans that are learned ({names}){hint}"
            )
            column = "tags" if "tokens" in example.inputs else "spans"
            problems.add(Problem("unknown_label", message, example.row, column, cut(unknown)))
        return kept

    def report(self, rows: int, examples: Sequence[Example]) -> DataReport:
        """Describe labels, spans and lengths."""
        return report.describe(rows, examples)

    def stratum(self, example: Example) -> str | None:
        """Split at random."""
        del example
        return None

    def class_counts(self, examples: Sequence[Example]) -> list[int]:
        """Count words by tag, in the order of the logits."""
        counts: Counter[str] = Counter()
        for example in examples:
            _, words = data.text_and_words(example.inputs)
            counts.update(tags_of(cut_at(words, example.target.spans), example.target.spans))
        return [counts[label] for label in self.labels]

    def texts(self, example: Example) -> list[str]:
        """Return the text."""
        return [data.text_and_words(example.inputs)[0]]

    def untaught(self, examples: Sequence[Example]) -> list[str]:
        """Return the kinds of spans that no example has."""
        found = {span.label for example in examples for span in example.target.spans}
        return [name for name in self.entities or [] if name not in found]

    def when_too_long(self) -> str:
        """Say that it is read in windows."""
        return "is read in several windows"

    def piece_note(self, example: Example, pieces: Sequence[tuple[int, int]]) -> str | None:
        """Say whether a span begins or ends inside of a piece."""
        text, _ = data.text_and_words(example.inputs)
        return data.piece_note(text, example.target, pieces)

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], max_length: int
    ) -> list[Encoded]:
        """Tokenize; a long text becomes several windows, so that nothing is cut off."""
        return data.encode(tokenizer, examples, max_length, self.labels, self.stride)

    def network(self) -> Network:
        """Return the torch half."""
        from app.adapt.tasks.token_classification.model import TaggingNetwork

        return TaggingNetwork()

    def default_losses(self) -> list[dict[str, Any]]:
        """Cross-entropy over tokens."""
        return [{"kind": "cross_entropy"}]

    def metrics(self) -> Metrics:
        """Return span metrics."""
        return SpanMetrics(self.labels)

    def primary_metric(self) -> tuple[str, bool]:
        """F1 of spans."""
        return "f1", True

    def with_parameters(self, parameters: Any) -> Self:
        """Let the windows of a long text share what the call says."""
        if parameters.stride is None:
            return self
        return self.model_copy(update={"stride": parameters.stride})

    def parse_input(self, value: Any, index: int) -> Example:
        """Take a text or a list of tokens."""
        return predict.parse_input(value, index)

    def decode(self, scores: Scores, encoded: Encoded, parameters: Any) -> Any:
        """Return the probabilities of a window's pieces."""
        del parameters
        return predict.decode(scores, encoded)

    def merge(self, answers: list[Any], parameters: Any) -> Any:
        """Return the spans of a text, with their places in it."""
        return predict.merge(answers, self.labels, parameters)

    def target_of(self, scores: Scores, encoded: Encoded) -> Any:
        """Return the likeliest tag of each piece that the row answers for."""
        return data.target_of(scores, encoded)

    def align(self, scores: Sequence[Scores], theirs: Sequence[Encoded], ours: Encoded) -> Scores:
        """Return the teacher's scores of the pieces that lie where the student's do."""
        return align(scores, theirs, ours, self.labels)

    def input_columns(
        self, found: Sequence[str], given: Mapping[str, str], filename: str
    ) -> dict[str, str]:
        """Map tokens or else a text to a column; one that is given goes first."""
        columns = super().input_columns(found, given, filename)
        for role in [*(role for role in ("tokens", "text") if role in given), "tokens", "text"]:
            if role in columns:
                return {role: columns[role]}
        message = f"{filename} has no column for 'tokens' or 'text'; it has: {list(found)}"
        raise InvalidData(message, param="data.columns", code="column_not_found",
                          details={"file": filename, "found": list(found)})  # fmt: skip

    def row_loss(self, scores: Scores, encoded: Encoded) -> float:
        """Return the mean cross-entropy of the pieces that the row answers for."""
        return data.row_loss(scores, encoded)

    def expected(self, example: Example) -> Any:
        """Return the marked spans."""
        return [asdict(span) for span in example.target.spans]

    def as_base(self, config: Mapping[str, Any]) -> Self:
        """Take the kinds of spans from a base model's labels, which must be in our order."""
        if self.entities is not None:
            return self
        named: dict[str, str] = config.get("id2label") or {}
        labels = [named[key] for key in sorted(named, key=int)]
        entities = [label[2:] for label in labels if label.startswith("B-")]
        task = self.model_copy(update={"entities": entities or ["none"]})
        if task.labels != labels:
            message = (
                f"the model's labels are {labels[:6]}, and token-classification reads O, then B- and I- of "
                "each kind; a model that is fine-tuned here has them so"
            )
            raise InvalidSpec(message, param="model", code="model_does_not_fit")
        return task

    def example_input(self) -> Any:
        """Return a sentence with names in it."""
        return "Ada Lovelace met Charles Babbage in London."

    @property
    def labels(self) -> list[str]:
        """The network's labels: O, then B- and I- of each kind (IOB2)."""
        return [OUTSIDE, *(p + name for name in self.entities or [] for p in ("B-", "I-"))]


def _match(
    roles: Sequence[Role], free: Sequence[str], given: Mapping[str, str]
) -> dict[str, str] | None:
    """Return a column for each of the roles, None when one has none."""
    columns = {role.name: given[role.name] for role in roles if role.name in given}
    for role in roles:
        if role.name not in columns:
            known = (role.name, *role.aliases)
            names = [name for name in free if name.strip().lower() in known]
            names = [name for name in names if name not in columns.values()]
            if not names:
                return None
            columns[role.name] = names[0]
    return columns
