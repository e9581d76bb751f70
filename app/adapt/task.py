"""The task contract: from rows to examples to token ids, and from scores back to answers.

A task is a frozen config. `fit` fills in what the data decides (labels, problem type), and the fitted
config is what the manifest of a finished model stores: prediction and evaluation rebuild everything
from it. Only `network()` may import torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

from app.adapt.columns import Role, match_columns
from app.adapt.outputs import Batch, Encoded, Outputs, Teaching
from app.adapt.reader import Problem, Problems, Row
from app.adapt.rows import RowByRow
from app.errors import InvalidRequest, InvalidSpec
from app.kit.registry import Plugin
from app.kit.schema import Frozen

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    Scores = NDArray[np.float32]


Architecture = Literal["encoder", "decoder", "encoder_decoder"]


@dataclass(frozen=True)
class Example:
    """One parsed row: what goes in (by role) and the target, None when there is none."""

    row: int
    inputs: dict[str, Any]
    target: Any = None


@dataclass(frozen=True)
class DataReport:
    """What the data looks like to the task: counts, balance, lengths, and warnings for people.

    `warnings` are advice, given for what is learned from; `repairs` say which rows were read otherwise
    than they stand there, and are told of every set.
    """

    rows: int
    usable: int
    warnings: list[str] = field(default_factory=list)
    statistics: dict[str, Any] = field(default_factory=dict)
    repairs: list[str] = field(default_factory=list)


class Network(Protocol):
    """The torch half of a task, in its `model.py`; `app.adapt.network` has what most of them share."""

    def load(self, task: Any, folder: Path, *, fresh: bool = False) -> nn.Module:
        """Build the network from a model folder; `fresh` keeps the architecture, not the weights.

        Raises:
            InvalidSpec: this kind of model cannot do the task.
        """
        ...

    def load_probe(self, task: Any, folders: Sequence[Path], method: Any) -> nn.Module:
        """Build a network whose head is linear, on the frozen features of encoders.

        Raises:
            InvalidSpec: this task's answers are not read off by a linear head, or not off these features.
        """
        ...

    def annotate(
        self, task: Any, network: nn.Module, encoded: list[Encoded], pad_id: int
    ) -> list[Encoded]:
        """Note in training data what only the untouched network can say (a reference's answers)."""
        ...

    def collate(self, task: Any, encoded: Sequence[Encoded], pad_id: int) -> Batch:
        """Pad a batch to its longest member."""
        ...

    def pack(self, task: Any, encoded: Sequence[Encoded], pad_id: int) -> Batch:
        """Make a training batch in which short sequences share a row; only tasks that pack have this."""
        ...

    def forward(self, network: nn.Module, batch: Batch) -> Outputs:
        """Run the network."""
        ...

    def scores(self, task: Any, outputs: Outputs, batch: Batch) -> Sequence[Scores]:
        """Return what metrics and `decode` read: one array for each row of the batch."""
        ...

    def generate(
        self, task: Any, network: nn.Module, encoded: Sequence[Encoded],
        tokenizer: PreTrainedTokenizerBase, parameters: Any, emit: Callable[[str], None] | None = None,
    ) -> list[Any]:  # fmt: skip
        """Write an answer to each row, which `decode` reads; only tasks that generate have this.

        With `emit`, there is one row, and each piece of its text goes there as soon as it is written.
        """
        ...

    def save(self, network: nn.Module, folder: Path) -> None:
        """Write `config.json` and `model.safetensors` as `save_pretrained` does."""
        ...


class Probed(Network, Protocol):
    """The torch half of a task whose answers a linear head on frozen features can give."""

    def features(self, network: nn.Module, batch: Batch, encoded: Sequence[Encoded]) -> list[Any]:
        """Return what the head of a probe reads: an array (n, D) of each row's n answers."""
        ...

    def answers(self, encoded: Encoded) -> list[Any]:
        """Return the targets of a row's n answers, -100 where one does not count."""
        ...

    def scores_of_answers(self, encoded: Encoded, logits: Scores) -> Scores:
        """Return the row's scores, as `scores` does, of the logits (n, C) of its answers."""
        ...


class Metrics(ABC):
    """Figures of one set: feed it batch by batch, then ask. A figure has the library that defines it."""

    @abstractmethod
    def add(self, scores: Sequence[Scores], items: Sequence[Encoded]) -> None:
        """Take one batch: what the network's `scores` returned, and the rows it was about."""

    def add_generated(self, answers: Sequence[Any], items: Sequence[Encoded]) -> None:
        """Take what the network's `generate` returned; only tasks that generate are asked."""
        message = f"{type(self).__name__} judges no generated text"
        raise NotImplementedError(message)

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Return every metric by name; of no rows at all, 0 for each."""

    def details(self) -> dict[str, Any]:
        """Return what is not a number: per-class figures, the confusion matrix."""
        return {}

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Return the 95 % confidence interval of the metrics that have one; see `app.adapt.interval`."""
        return {}


class Parameters(Frozen):
    """Options of one predict call; a task subclasses it with its own."""


class Task(RowByRow, Plugin, ABC):
    """What a model is for. One folder under `tasks/`: config, data, model, metrics, predict."""

    roles: ClassVar[tuple[Role, ...]]
    parameters: ClassVar[type[Parameters]]
    architecture: ClassVar[Architecture] = "encoder"  # the kind of base model that does it best
    generates: ClassVar[bool] = False  # answers are written token by token, not read off scores
    teaching: ClassVar[Teaching | None] = None  # how a student is taught it; None: it cannot be
    augments: ClassVar[bool] = False  # a text with words hidden is still a text with an answer
    adds_head: ClassVar[bool] = True  # a base model has no weights of what answers it
    pipeline: ClassVar[str | None] = (
        None  # the pipeline of transformers that a finished folder works with
    )
    minds_pieces: ClassVar[bool] = False  # `piece_note` has something to say

    # Data; free of torch.
    @abstractmethod
    def parse(
        self, rows: Iterable[Row], columns: Mapping[str, str], problems: Problems
    ) -> list[Example]:
        """Turn rows into examples; a row that cannot be used goes to `problems` with the reason."""

    @abstractmethod
    def fit(self, examples: Sequence[Example], filename: str) -> Self:
        """Return this config with every open field decided by the training data.

        Raises:
            InvalidData: the data cannot train this task (one label only, no usable row, ...).
        """

    @abstractmethod
    def check(self, examples: Sequence[Example], problems: Problems) -> list[Example]:
        """Return the examples that fit the fitted config; the others (unseen labels) are problems.

        A problem's column may be given as the name of its role.
        """

    @abstractmethod
    def report(self, rows: int, examples: Sequence[Example]) -> DataReport:
        """Describe the data: balance, duplicates, lengths, with warnings."""

    @abstractmethod
    def stratum(self, example: Example) -> str | None:
        """Return the group that an automatic split keeps in proportion, None to split at random."""

    @abstractmethod
    def encode(
        self, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], max_length: int
    ) -> list[Encoded]:
        """Tokenize the examples, cut to `max_length` tokens."""

    def texts(self, example: Example) -> list[str]:
        """Return the texts of an example."""
        return [str(value) for value in example.inputs.values()]

    def sequences(self, example: Example) -> list[list[str]]:
        """Return what the model reads of an example, for counting tokens before there is a tokenizer.

        One list for each sequence that `max_length` limits, with the texts that are joined in it.
        """
        return [self.texts(example)]

    def when_too_long(self) -> str:
        """Say what becomes of an example that is longer than `max_length`: "it is cut", without "it"."""
        return "is cut"

    def piece_note(self, example: Example, pieces: Sequence[tuple[int, int]]) -> str | None:
        """Say what an example loses by how its text is cut into pieces, as "have ..."; None: nothing.

        `pieces` are where the tokens of its one text begin and end, in characters. Only tasks that set
        `minds_pieces` are asked; their `encode` puts the same into `extra["note"]`.
        """
        del example, pieces
        return None

    def untaught(self, examples: Sequence[Example]) -> list[str]:
        """Return the labels that the fitted task knows and none of these examples has."""
        del examples
        return []

    def class_counts(self, examples: Sequence[Example]) -> list[int]:
        """Return how often each class is the target, in the logits' order; empty where none is."""
        labels: list[str] = getattr(self, "labels", None) or []
        counts = Counter(map(self.stratum, examples))
        return [] if None in counts else [counts[label] for label in labels]

    # Training.
    @abstractmethod
    def network(self) -> Network:
        """Return the torch half; the one build seam."""

    @abstractmethod
    def default_losses(self) -> list[dict[str, Any]]:
        """Return the objective when the spec names none, as loss specs."""

    def packs(self) -> bool:
        """Say whether training rows can lie side by side: each token's target follows from those before it.

        If so, the network's `pack` makes the batch, and losses see tokens, not rows.
        """
        return False

    @abstractmethod
    def metrics(self) -> Metrics:
        """Return an empty metric of the fitted task."""

    @abstractmethod
    def primary_metric(self) -> tuple[str, bool]:
        """Return the metric that picks the best checkpoint, and whether greater is better."""

    def generation(self, *, final: bool) -> tuple[int, Any]:
        """Return how many held-out rows an evaluation answers by generating, and with which parameters.

        `final` is the evaluation of the finished model; the others come every so many steps.
        """
        del final
        return 0, None

    # Prediction.
    def default_parameters(self) -> dict[str, Any]:
        """Return the parameters that hold for a predict call that names no others."""
        return {}

    def with_parameters(self, parameters: Any) -> Self:
        """Return the config that encodes the inputs of a predict call with these parameters."""
        del parameters
        return self

    @abstractmethod
    def parse_input(self, value: Any, index: int) -> Example:
        """Turn one element of a predict request's `inputs` into an example.

        Raises:
            InvalidRequest: with param `inputs` or `inputs.<index>`.
        """

    @abstractmethod
    def decode(self, scores: Any, encoded: Encoded, parameters: Any) -> Any:
        """Turn the scores of one row (what was generated for it) into the answer that clients see."""

    def merge(self, answers: list[Any], parameters: Any) -> Any:
        """Return the one answer to an input that was encoded as several rows; default: of the only one."""
        del parameters
        (answer,) = answers
        return answer

    # Distillation.
    def distance(self) -> str:
        """Return the kind of loss that compares answers with a teacher's when the spec names none."""
        return "kl_divergence"

    def unlabeled(
        self, rows: Iterable[Row], columns: Mapping[str, str], problems: Problems
    ) -> list[Example]:
        """Return the examples of rows that have no answers, for a teacher to answer.

        Default: what a predict request would be, made of all columns that are there.
        """
        examples: list[Example] = []
        for row in rows:
            given = {role: row.values.get(column) for role, column in columns.items()}
            try:
                asked = self.parse_input(self.input_value(given), 0)
                examples.append(replace(asked, row=row.number))
            except InvalidRequest as error:
                _, _, message = error.message.partition(": ")
                problems.add(Problem("no_input", message or error.message, row.number))
        return examples

    def check_teaching(self) -> None:
        """Refuse what a student cannot be taught in this form of the task; default: nothing.

        Raises:
            InvalidSpec: with the field that says otherwise.
        """

    def target_of(self, scores: Any, encoded: Encoded) -> Any:
        """Return what these scores of a row answer, as the target of `Encoded`.

        Raises:
            InvalidSpec: this task's answers cannot be given by a teacher yet.
        """
        del scores, encoded
        message = f"{self.name()}: texts without answers cannot be taught yet; leave them out"
        raise InvalidSpec(message, param="data.unlabeled", code="unlabeled_not_possible")

    def align(self, scores: Sequence[Any], theirs: Sequence[Encoded], ours: Encoded) -> Any:
        """Return a teacher's scores of an example for a student's row, which has tokens of its own.

        `theirs` are the teacher's rows of the example. Default: None, it cannot be done.
        """
        del scores, theirs, ours
        return None

    # Documentation.
    def example_input(self) -> Any:
        """Return an element of a predict request's `inputs`, for the model card."""
        return "some text"

    def cautions(self) -> list[str]:
        """Return what whoever uses the finished model should know, for the model card."""
        return []

    # Shared by all tasks.
    def check_summary(
        self, columns: Mapping[str, str], summary: Sequence[Mapping[str, Any]], filename: str
    ) -> None:
        """Refuse at submission what the summary of the training file shows; `fit` has the last word.

        `summary` is the `columns` of the file's summary: name, kind, distinct values with their counts.

        Raises:
            InvalidData: the data cannot train this task.
        """

    def input_columns(
        self, found: Sequence[str], given: Mapping[str, str], filename: str
    ) -> dict[str, str]:
        """Map the roles of a file without answers to its columns; `given` may name those of others.

        Raises:
            InvalidData: as `resolve_columns`.
        """
        inputs = [role for role in self.roles if not role.is_target]
        names = {role.name for role in inputs}
        kept = {role: column for role, column in given.items() if role in names and column in found}
        return match_columns(self.name(), inputs, found, kept, filename)

    def resolve_columns(
        self, found: Sequence[str], given: Mapping[str, str], filename: str
    ) -> dict[str, str]:
        """Map roles to columns: as given, else by the role's aliases.

        Raises:
            InvalidData: a named column is missing, a role is unknown, or a required one is not found.
        """
        return match_columns(self.name(), self.roles, found, given, filename)
