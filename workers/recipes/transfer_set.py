"""Texts that only the teacher has an answer for: a file of them, and variations of the training texts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from app.adapt.augment import augment
from app.adapt.dataset import Prepared
from app.adapt.parallel import read_set
from app.adapt.reader import Problems
from app.adapt.task import Example
from app.errors import InvalidData, InvalidSpec
from app.spec.distill import Distill
from workers.protocol import Assignment
from workers.recipes.reading import MAX_ROWS, checked
from workers.training.report import Report

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def unlabeled(
    assignment: Assignment, spec: Distill, prepared: Prepared, report: Report
) -> list[Example]:
    """Return the examples of `data.unlabeled`; none that is among the held-out rows.

    Raises:
        InvalidData: the file has no columns that the task reads, or no usable row.
    """
    sides = spec.data.sets().get("unlabeled")
    if sides is None:
        return []
    files = {role: checked(assignment, file_id) for role, file_id in sides.items()}
    dataset = read_set(files, "data.unlabeled", max_rows=MAX_ROWS)
    columns = prepared.task.input_columns(dataset.columns, spec.data.columns, dataset.filename)
    problems = Problems(dataset.filename)
    # What hides words of its own texts learns of these as of any other.
    read = prepared.task.parse if prepared.task.teaching == "beside" else prepared.task.unlabeled
    examples = read(dataset.rows, columns, problems)
    if spec.data.on_bad_rows == "fail":
        problems.raise_if_any(param="data.unlabeled")
    elif len(problems):
        report.log(f"{dataset.filename}: {len(problems)} rows are skipped", "warning")
    held_out = {_text(example) for example in (*prepared.validation, *prepared.test)}
    kept = [example for example in examples if _text(example) not in held_out]
    if len(kept) < len(examples):
        report.log(
            f"{dataset.filename}: {len(examples) - len(kept)} texts are held out, and left out here"
        )
    if not kept:
        message = f"{dataset.filename} has no usable row"
        raise InvalidData(message, param="data.unlabeled", code="no_usable_rows")
    return kept


def augmented(
    spec: Distill, prepared: Prepared, tokenizer: PreTrainedTokenizerBase
) -> list[Example]:
    """Return variations of the training texts, as `data.augmentation` says.

    Raises:
        InvalidSpec: the task's answers do not survive words that are hidden.
    """
    rule = spec.data.augmentation
    if rule is None:
        return []
    task, sample = prepared.task, prepared.train[0]
    if not task.augments or len(sample.inputs) > 1:
        message = f"data.augmentation applies to single texts, not to this data of {task.name()}"
        raise InvalidSpec(message, param="data.augmentation")
    token = tokenizer.mask_token or tokenizer.unk_token or ""
    first = [str(next(iter(example.inputs.values()))) for example in prepared.train]
    held_out = [str(next(iter(e.inputs.values()))) for e in (*prepared.validation, *prepared.test)]
    texts = augment(first, rule, str(token), spec.runtime.seed)
    kept = set(held_out)
    name = next(iter(sample.inputs))
    return [
        replace(sample, row=0, inputs={name: text}, target=None)
        for text in texts
        if text not in kept
    ]


def _text(example: Example) -> tuple[str, ...]:
    return tuple(str(value) for value in example.inputs.values())
