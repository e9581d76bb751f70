"""What teachers say about the rows of a student: once, before the training, or batch by batch within it.

Answers (logits, vectors) are computed once and kept on disk. What goes on inside a teacher (hidden states,
attentions) is too large for that: it is run again beside its student, on the same tokens.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from app.adapt.layers.internals import forward
from app.adapt.layers.top_tokens import laid_out, likeliest
from app.adapt.loss import internals
from app.adapt.network import new_parameters
from app.adapt.outputs import Batch, Encoded, Outputs
from app.adapt.source import Source
from app.adapt.task import Task
from app.adapt.tokenizers import Tokenizers
from app.errors import InvalidSpec
from workers.protocol import Assignment
from workers.recipes.objective import own_losses
from workers.recipes.sources import SourceLoader, pad_id_of, task_of
from workers.training.batches import fit_tokens
from workers.training.device import autocast
from workers.training.evaluate import Stage

if TYPE_CHECKING:
    from app.adapt.task import Scores
    from workers.recipes.bench import Preparation

TAUGHT = "taught"  # the place of a teacher's scores in a row's `extra`
BATCH_TOKENS = 8_192
BATCH_LOGITS, MIN_TOKENS = 2**26, 256  # of whole vocabularies: 256 MiB at once


@dataclass(frozen=True)
class Teacher:
    """A network that knows the task, as it is run for its answers."""

    source: Source
    stage: Stage
    tokenizers: Tokenizers
    max_length: int

    @property
    def digest(self) -> str:
        """What tells its answers from those of any other: SHA-256 of the weights, and the precision."""
        return f"{self.source.sha256 or self.source.id}/{self.stage.precision}"


def teacher_task(assignment: Assignment, model_id: str, asked: Task, param: str) -> Task:
    """Return the task that a teacher does; a base model does the one that is asked for.

    Raises:
        InvalidSpec: it does another one.
    """
    task = task_of(assignment, model_id, param=param)
    if task is None:
        return asked
    if task.name() != asked.name():
        message = f"{param}: {model_id} does {task.name()}, and the job asks for {asked.name()}"
        raise InvalidSpec(message, param=param, code="teacher_does_not_fit")
    return task


def common_task(tasks: dict[str, Task]) -> Task:
    """Return the task of all teachers, by the field that names each.

    Raises:
        InvalidSpec: they answer differently; the message says in what.
    """
    (first, task), *others = tasks.items()
    for param, other in others:
        differ = [name for name, value in task if getattr(other, name, None) != value]
        if differ:
            name = differ[0]
            message = (
                f"{param}: the teachers must answer alike, and {name!r} is "
                f"{_short(getattr(other, name, None))} here and {_short(getattr(task, name))} in {first}"
            )
            raise InvalidSpec(message, param=param, code="teachers_differ")
    return task


def load_teacher(
    loader: SourceLoader, model_id: str, param: str, like: Stage, task: Task
) -> Teacher:
    """Return a teacher, run as the student's stage is, with the task's own objective.

    Raises:
        InvalidSpec: the model has no head for the task.
    """
    loaded = loader.load(model_id)
    network = task.network().load(task, loaded.source.folder)
    drawn = new_parameters(network)
    if drawn:
        message = (
            f"{param}: {model_id} has not learned {task.name()} ({min(drawn)} is missing); fine-tune it "
            "first, and name the finished model"
        )
        raise InvalidSpec(message, param=param, code="teacher_does_not_fit")
    network = network.to(like.device).eval().requires_grad_(requires_grad=False)
    stage = replace(
        like, network=network, losses=own_losses(task), tokenizer=loaded.tokenizers.first,
        pad_id=pad_id_of(loaded.tokenizers.first), task=task, teach=None,
    )  # fmt: skip
    return Teacher(loaded.source, stage, loaded.tokenizers, loaded.max_length)


def encoded_by(teacher: Teacher, preparation: Preparation, name: str) -> list[Encoded]:
    """Return a set as the teacher reads it: cut where the student's is when both have the same tokens."""
    bench = preparation.bench
    ours, theirs = bench.loaded.tokenizers.first, teacher.tokenizers.first
    length = teacher.max_length
    if ours.get_vocab() == theirs.get_vocab():
        length = min(length, int(preparation.spec.optimization.max_length))
    return teacher.tokenizers.encode(teacher.stage.task, bench.examples[name], length)


@torch.no_grad()
def scores_of(teacher: Teacher, items: Sequence[Encoded], top_k: int) -> list[Scores]:
    """Return what the teacher says about rows of its own, in their order.

    Where it is taught token by token, of each token that is to be written its `top_k` likeliest.
    """
    stage, half = teacher.stage, teacher.stage.task.network()
    is_by_token = stage.task.teaching == "tokens"
    budget = BATCH_TOKENS
    if is_by_token:
        budget = min(budget, max(MIN_TOKENS, BATCH_LOGITS // len(cast("Any", stage.tokenizer))))
    found: dict[int, Scores] = {}
    for part in fit_tokens(range(len(items)), [len(item) for item in items], budget):
        stage.beat()
        asked = [items[at] for at in part]
        if not is_by_token:  # some of the rows have no targets, and none is asked for
            asked = [replace(item, target=None) for item in asked]
        batch = half.collate(stage.task, asked, stage.pad_id).to(stage.device)
        with autocast(stage.device, stage.precision):
            outputs = half.forward(stage.network, batch)
        if is_by_token and batch.target is not None:
            said = likeliest(outputs.logits, batch.target, top_k)
        else:
            said = half.scores(stage.task, outputs, batch)
        found |= dict(zip(part, said, strict=True))
    return [found[at] for at in range(len(items))]


def same_tokens(theirs: Sequence[Encoded], ours: Sequence[Encoded]) -> bool:
    """Say whether teacher and student read the same rows, all of their sequences, as the same tokens."""
    return [(item.input_ids, item.others) for item in theirs] == [
        (item.input_ids, item.others) for item in ours
    ]


def aligned(
    task: Task, scores: Sequence[Scores], theirs: Sequence[Encoded], ours: Sequence[Encoded]
) -> list[Scores]:
    """Return the teacher's scores for the student's rows, which may have other tokens.

    Raises:
        InvalidSpec: this task's answers cannot be carried over.
    """
    if same_tokens(theirs, ours):
        return list(scores)
    pairs = groupby(zip(scores, theirs, strict=True), key=lambda pair: pair[1].example)
    by_example = {example: list(members) for example, members in pairs}
    found: list[Scores] = []
    for item in ours:
        members = by_example[item.example]
        answer = task.align([s for s, _ in members], [t for _, t in members], item)
        if answer is None:
            message = (
                f"student: it cuts texts into other tokens than its teacher, and answers of {task.name()} "
                "cannot be carried over; take a student with the teacher's tokenizer"
            )
            if task.generates:
                message += (
                    ', or let the teacher write what is learned: "answers": "teacher" in data'
                )
            raise InvalidSpec(message, param="student", code="tokens_differ")
        found.append(answer)
    return found


def taught(items: Sequence[Encoded], scores: Sequence[Scores], task: Task) -> list[Encoded]:
    """Return the rows with what the teacher says; those without an answer get the teacher's."""
    rows: list[Encoded] = []
    for item, row_scores in zip(items, scores, strict=True):
        noted = replace(item, extra={**item.extra, TAUGHT: row_scores})
        if item.target is None:
            noted = replace(noted, target=task.target_of(row_scores, item))
        rows.append(noted)
    return rows


Teach = Callable[[Sequence[Encoded], Batch], Outputs]


def from_rows(device: torch.device, task: Task) -> Teach:
    """Return what hands out the scores that are noted in the rows, padded as their batch is."""
    is_by_token = task.teaching == "tokens"

    def teach(items: Sequence[Encoded], batch: Batch) -> Outputs:
        scores: list[Any] = [item.extra[TAUGHT] for item in items]
        if is_by_token and batch.target is not None:
            shares, ids = laid_out(scores, batch.target)
            return Outputs(logits=shares, mask_BT=batch.mask_BT, top_ids=ids)
        longest = max(len(row) for row in scores)
        padded = [
            np.pad(row, [(0, longest - len(row))] + [(0, 0)] * (row.ndim - 1)) for row in scores
        ]
        logits = torch.from_numpy(np.stack(padded)).to(device)
        return Outputs(logits=logits, mask_BT=batch.mask_BT)

    return teach


def from_network(teacher: Teacher, student: Stage) -> Teach:
    """Return what runs the teacher beside its student, on the same tokens, for what goes on inside."""
    wanted, half = internals(student.losses), teacher.stage.task.network()

    @torch.no_grad()
    def teach(items: Sequence[Encoded], batch: Batch) -> Outputs:
        del items
        with autocast(student.device, student.precision):
            outputs = forward(half, teacher.stage.network, batch, wanted)
        return replace(outputs, logits=outputs.logits.float())

    return teach


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:80] + "..."  # noqa: PLR2004
