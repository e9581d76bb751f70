"""The `pretrain` job: a network learns from texts without labels, from scratch or going on from a base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from app.adapt.backbone import Backbone
from app.adapt.corpus import text_column
from app.adapt.dataset import resolve_columns
from app.adapt.objective import Objective
from app.adapt.plugins import BACKBONES, OBJECTIVES, SEGMENTERS, TASKS, AnyTask
from app.adapt.segmenter import Segmenter
from app.adapt.task import Task
from app.kit.registry import expand_kind
from app.kit.schema import Frozen
from app.spec.base import ModelId, Sides
from app.spec.choice import AutoMethod
from app.spec.data import Column, Data, FileId, Split
from app.spec.training import Stepwise


def _form(value: Any) -> str:
    """Tell the members of a union apart, so that an error is about the one that was meant."""
    return "id" if isinstance(value, str) else "made"


def _id_or(made: Any) -> Any:
    """Return a model's id, or what is made instead."""
    return Annotated[
        Annotated[ModelId, Tag("id")] | Annotated[made, Tag("made")], Discriminator(_form)
    ]


if TYPE_CHECKING:
    AnyBackbone = ModelId | Backbone
    AnyObjective = Objective
    AnySegmenter = ModelId | Segmenter
else:
    AnyBackbone: Any = _id_or(BACKBONES.union())
    AnyObjective: Any = Annotated[OBJECTIVES.union(), BeforeValidator(expand_kind)]
    AnySegmenter: Any = _id_or(SEGMENTERS.union())

CorpusFiles = Annotated[
    Annotated[FileId, Tag("file")]
    | Annotated[list[FileId], Field(min_length=1, max_length=1_000), Tag("files")],
    Discriminator(lambda value: "files" if isinstance(value, list) else "file"),
]


class Corpus(Frozen):
    """The texts: files of them, read one text at a time, however large they are."""

    train: CorpusFiles = Field(description="A file, or several that are read one after the other.")
    validation: CorpusFiles | None = Field(
        default=None, description="Texts to judge by; null: some of `train`, as `split` says."
    )
    columns: dict[str, Column] = Field(
        default={}, description="Which column the texts are in: {'text': 'abstract'}."
    )
    documents: Literal["rows", "paragraphs"] = Field(
        default="rows",
        description="What a document is: a row, or the rows up to a blank line or a gap (text files).",
    )
    split: Split = Field(
        default=Split(), description="How documents are held out: by their text, so that equal ones "
        "are on one side.",
    )  # fmt: skip
    on_bad_rows: Literal["fail", "skip"] = Field(
        default="fail", description="fail: any unusable row fails the job; skip: report and go on."
    )

    def sets(self) -> dict[str, Sides]:
        """Return the file of each field that names one."""
        found: dict[str, Sides] = {}
        for name, files in (("train", self.train), ("validation", self.validation)):
            if isinstance(files, str):
                found[name] = {None: files}
            else:
                found |= {f"{name}.{at}": {None: id_} for at, id_ in enumerate(files or [])}
        return found


class Probe(Frozen):
    """Labelled rows that tell what the pretraining is good for: a linear probe before and after it."""

    task: AnyTask = Field(
        default_factory=TASKS["text-classification"], description="One that a linear probe can do."
    )
    data: Data


class Pretrain(Stepwise):
    """Train `model` on texts alone, by `objective`."""

    kind: Literal["pretrain"] = "pretrain"
    model: AnyBackbone = Field(
        description='The model that is trained on, or a network of random weights: {"kind": "bert", '
        '"hidden_size": 256, "num_layers": 4}.'
    )
    revision: str | None = Field(
        default=None,
        max_length=255,
        description="Hub revision; pinned to a commit when the job runs.",
    )
    tokenizer: AnySegmenter | None = Field(
        default=None,
        description="Of a network of random weights: a vocabulary to learn from the corpus, or the model "
        "whose tokenizer it has; null: 8,000 pieces of the kind that its family has.",
    )
    objective: AnyObjective
    data: Corpus
    probe: Probe | None = None

    @property
    def base(self) -> str:
        """The id of the model that is trained on, or the kind of the network that is made."""
        return self.model if isinstance(self.model, str) else self.model.name()

    @property
    def task(self) -> Task:
        """What the finished model does."""
        given = self.objective.task()
        return TASKS[given["kind"]].model_validate(given)

    @property
    def segmenter(self) -> Segmenter | None:
        """What the vocabulary is learned by; None: it is there already."""
        if isinstance(self.model, str) or isinstance(self.tokenizer, str):
            return None
        return self.tokenizer or SEGMENTERS[self.model.segmenter].model_validate({})

    def sets(self) -> dict[str, Sides]:
        """See `BaseSpec.sets`."""
        found = {f"data.{name}": sides for name, sides in self.data.sets().items()}
        if self.probe is not None:
            probed = self.probe.data.sets()
            found |= {f"probe.data.{name}": sides for name, sides in probed.items()}
        return found

    def model_ids(self) -> dict[str, str]:
        """See `BaseSpec.model_ids`."""
        found = {"model": self.model} if isinstance(self.model, str) else {}
        return found | ({"tokenizer": self.tokenizer} if isinstance(self.tokenizer, str) else {})

    def check_set(
        self, field: str, found: Sequence[str], summary: Sequence[Mapping[str, Any]], filename: str
    ) -> None:
        """See `BaseSpec.check_set`."""
        if self.probe is None or not field.startswith("probe."):
            text_column(found, self.data.columns, filename)
            return
        columns = resolve_columns(self.probe.task, found, self.probe.data.columns, filename)
        if field == "probe.data.train" and summary:
            self.probe.task.check_summary(columns, summary, filename)

    @model_validator(mode="after")
    def _check_model(self) -> Self:
        if isinstance(self.model, str):
            if self.tokenizer is not None:
                message = (
                    f"tokenizer: {self.model} has one, which its weights belong to; leave it out"
                )
                raise ValueError(message)
            return self
        wanted, given = self.objective.architecture, self.model.architecture
        if wanted != given:
            able = [each.name() for each in BACKBONES if each.architecture == wanted]
            message = (
                f"model: {self.objective.name()} trains one of: {', '.join(able)}; "
                f"{self.model.name()} is of another kind ({given})"
            )
            raise ValueError(message)
        if self.revision is not None:
            message = "revision: a network that is made has none"
            raise ValueError(message)
        if self.method.name() != "full":
            message = "method: of random weights all are trained, by method 'full'"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _check_method(self) -> Self:
        method = self.method
        if isinstance(method, AutoMethod) or method.probes or not method.steps:
            message = (
                "method: a pretraining has steps and no head: use 'full', 'lora' or another such"
            )
            raise ValueError(message)
        if method.added_tokens:
            message = (
                f"method: {method.name()} puts tokens of its own before texts, which rows have not"
            )
            raise ValueError(message)
        shorthand = self.optimization.label_smoothing or self.optimization.class_weights
        if shorthand:
            message = "optimization: label_smoothing and class_weights are for labels, which texts have not"
            raise ValueError(message)
        if self.runtime.seeds not in {"auto", 1}:
            message = "runtime.seeds: a pretraining has one seed; submit several jobs"
            raise ValueError(message)
        return self
