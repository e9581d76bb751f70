"""Where a network starts from: a base model, a finished one, a checkpoint, or one made for the job."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from app.adapt.plugins import AnyTask
from app.adapt.source import SHELL, Source, Sources, described, finished_source
from app.adapt.student import Material, Student
from app.adapt.task import Task
from app.adapt.tokenizers import Tokenizers
from app.errors import AttuneError
from app.spec.job import parse_training
from app.store.manifest import verify_folder
from app.store.weights import check_model_folder
from workers.protocol import Assignment, SourceCheckpoint
from workers.training.checkpoint import load_network

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TASK: TypeAdapter[Task] = TypeAdapter(AnyTask)
FACTS = "attune.json"
NO_LIMIT = 10**9  # tokenizers that know no limit say 10**30
USUAL_LIMIT = 512


@dataclass(frozen=True)
class Loaded:
    """A source, further ones whose features lie beside its own, and the tokenizers of all of them."""

    source: Source
    tokenizers: Tokenizers
    max_length: int
    further: list[Source] = field(default_factory=list)
    teachers: list[Source] = field(default_factory=list)

    @property
    def folders(self) -> list[Path]:
        """The folders of all sources."""
        return [source.folder for source in (self.source, *self.further)]


class SourceLoader:
    """Finds and makes the sources that one job names; what is made lies in the run's own folder."""

    def __init__(self, assignment: Assignment, seed: int) -> None:
        self.assignment = assignment
        self._seed = seed
        self._made = 0

    def load(
        self, model: str | Student, revision: str | None = None, further: Sequence[str] = (),
        texts: Sequence[str] = (), teacher: Path | None = None,
    ) -> Loaded:  # fmt: skip
        """Return the source with its tokenizers; `texts` and `teacher` are what a student is made of.

        Raises:
            InvalidSpec: no such model, or a student that cannot be made of this.
            UnsafeModel: its files are not safe to load.
            CorruptFolder: the checkpoint that it is is damaged.
        """
        if isinstance(model, str):
            source = self.find(model, revision)
        else:
            name = model.source()
            source = self._make(model, texts, teacher) if name is None else self.find(name)
        others = [self.find(model_id) for model_id in further]
        found = [(each, Tokenizers.load(each.folder)) for each in (source, *others)]
        limits = [_set_limits(*pair) for pair in found]
        first, *rest = (tokenizer for _, tokenizers in found for tokenizer in tokenizers)
        return Loaded(source, Tokenizers(first, rest), limits[0], others)

    def find(self, model_id: str, revision: str | None = None) -> Source:
        """Return the source of an id."""
        folder = self.assignment.models.get(model_id)
        if folder is not None:
            return finished_source(model_id, folder)
        checkpoint = self.assignment.sources.get(model_id)
        if checkpoint is not None:
            return self._from_checkpoint(model_id, checkpoint)
        sources = Sources(self.assignment.model_dirs, hub=self.assignment.hub)
        return sources.resolve(model_id, revision)

    def _make(self, student: Student, texts: Sequence[str], teacher: Path | None) -> Source:
        folder = self._new_folder()
        models = {name: self.find(name).folder for name in student.model_ids().values()}
        try:
            student.make(folder, Material(texts, self._seed, teacher, models))
        except AttuneError as error:
            field = "model" if teacher is None else "student"
            error.param = f"{field}.{error.param}" if error.param else field
            raise
        return Source(student.name(), "made", folder, check_model_folder(folder, student.name()))

    def _from_checkpoint(self, checkpoint_id: str, given: SourceCheckpoint) -> Source:
        """Make the model that the checkpoint's run would have finished with, had it stopped there."""
        verify_folder(given.folder, given.manifest_sha256)
        spec = parse_training(given.spec)
        shell = given.folder / SHELL
        half = spec.task.network()
        method, tokenizers = spec.chosen_method, Tokenizers.load(shell)
        network = half.load(spec.task, shell, fresh=True)
        extended = method.extend_tokenizer(tokenizers.first, network)
        network = method.prepare(network)
        load_network(network, given.folder)
        folder = self._new_folder()
        half.save(method.finish(network), folder)
        tokenizers.with_first(extended).save(folder)
        config = check_model_folder(folder, checkpoint_id)
        return Source(checkpoint_id, "checkpoint", folder, config)

    def _new_folder(self) -> Path:
        folder = self.assignment.folder / f"source-{self._made}"
        self._made += 1
        folder.mkdir()
        return folder


def facts_of(folder: Path) -> dict[str, Any]:
    """Return what a finished model's folder says of it; of another folder nothing."""
    path = folder / FACTS
    return json.loads(path.read_text()) if path.is_file() else {}


def task_of(
    assignment: Assignment, model_id: str, head: str | None = None, param: str = "head"
) -> Task | None:
    """Return the task that a finished model or a checkpoint does; None of a base model.

    Raises:
        InvalidSpec: it does several, and `head` is none of them; with `param`.
    """
    folder, checkpoint = assignment.models.get(model_id), assignment.sources.get(model_id)
    if folder is not None:
        facts = facts_of(folder)
        return _TASK.validate_python(described(facts, head, model_id, param)["task"])
    return None if checkpoint is None else parse_training(checkpoint.spec).task


def length_of(assignment: Assignment, model_id: str, head: str | None = None) -> int | None:
    """Return to how many tokens a finished model or a checkpoint cuts texts; None of a base model."""
    folder, checkpoint = assignment.models.get(model_id), assignment.sources.get(model_id)
    if folder is not None:
        facts = facts_of(folder)
        return int(described(facts, head, model_id)["max_length"])
    if checkpoint is None:
        return None
    length = parse_training(checkpoint.spec).optimization.max_length
    return None if length == "auto" else length


def _set_limits(source: Source, tokenizers: Tokenizers) -> int:
    """Tell the tokenizers how long a text may be, and return what the first was told."""
    limits = [max_length_of(source, tokenizer) for tokenizer in tokenizers]
    for tokenizer, limit in zip(tokenizers, limits, strict=True):
        tokenizer.model_max_length = limit
    return limits[0]


def max_length_of(source: Source, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return how many tokens the model can take: its positions, or its tokenizer's word for it."""
    limit = min(source.max_positions or NO_LIMIT, tokenizer.model_max_length)
    return int(limit) if limit < NO_LIMIT else USUAL_LIMIT


def token_id(value: Any) -> int | None:
    """Return the id of a special token, None where the tokenizer has none."""
    return None if value is None else int(value)


def pad_id_of(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the token that batches are padded with; what a mask hides may be any."""
    return token_id(tokenizer.pad_token_id) or 0
