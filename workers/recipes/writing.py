"""Sequence-level distillation: a teacher writes the answers that its student learns.

Source: Kim and Rush 2016 (arXiv 1606.07947), section 3.2: the teacher's own output in place of the data's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch

from app.adapt.outputs import Encoded
from app.adapt.task import Example, Task
from app.errors import InvalidData
from app.spec.distill import Distill
from app.spec.resolve import precision_of
from workers.recipes import teacher_cache
from workers.recipes.sources import SourceLoader
from workers.recipes.teaching import BATCH_TOKENS, Teacher, load_teacher
from workers.training.batches import fit_tokens
from workers.training.device import autocast, has_bf16
from workers.training.evaluate import Stage
from workers.training.report import Report


def writer(
    loader: SourceLoader, spec: Distill, task: Task, device: torch.device, report: Report
) -> Teacher:
    """Return the first teacher, as it is run to write."""
    given = spec.runtime.precision
    precision = precision_of(device.type, has_bf16=has_bf16(device)) if given == "auto" else given
    like = Stage(
        task=task, network=torch.nn.Identity(), losses=(), tokenizer=cast("Any", None), pad_id=0,
        device=device, precision=precision, beat=report.alive,
    )  # fmt: skip
    param, model_id = next(iter(spec.teachers.items()))
    return load_teacher(loader, model_id, param, like, task)


def written(
    teacher: Teacher, examples: Sequence[Example], cache: Any, report: Report
) -> list[Example]:
    """Return the examples with the teacher's answers as their targets, those without one left out.

    It writes as its model does when a predict call says nothing else. What it wrote is kept.

    Raises:
        InvalidSpec: the examples ask for nothing.
        InvalidData: it has nothing to say to any of them.
    """
    task = teacher.stage.task
    task.answered(examples[0], "")  # before an hour of writing
    asked = [task.asked(example) or example for example in examples]
    rows = teacher.tokenizers.encode(task, asked, teacher.max_length)
    parameters = task.parameters.model_validate(task.default_parameters())
    key = teacher_cache.key_of(f"{teacher.digest}/{parameters.model_dump_json()}", rows)
    said, was_kept = teacher_cache.kept(
        cache, key, lambda: [_bytes(text) for text in _write(teacher, rows, parameters)]
    )
    texts = [bytes(row.astype(np.uint8)).decode() for row in said]
    found = [
        task.answered(example, text)
        for example, text in zip(asked, texts, strict=True)
        if text.strip()
    ]
    if not found:
        message = "data.answers: the teacher writes nothing to any of these texts"
        raise InvalidData(message, param="data.answers", code="no_usable_rows")
    silent = len(examples) - len(found)
    report.log(
        f"{teacher.source.id} has written answers to {len(found)} texts"
        + (f", nothing to {silent}, which are left out" if silent else "")
        + (", from the cache" if was_kept else ""),
        data={"rows": len(found), "empty": silent, "cached": len(found) if was_kept else 0},
    )
    return found


def _write(teacher: Teacher, rows: Sequence[Encoded], parameters: Any) -> list[str]:
    stage, half = teacher.stage, teacher.stage.task.network()
    texts = [""] * len(rows)
    for part in fit_tokens(range(len(rows)), [len(item) for item in rows], BATCH_TOKENS):
        stage.beat()
        items = [rows[at] for at in part]
        with autocast(stage.device, stage.precision):
            answers = half.generate(stage.task, stage.network, items, stage.tokenizer, parameters)
        for at, several in zip(part, answers, strict=True):
            texts[at] = several[0].text
    return texts


def _bytes(text: str) -> Any:
    """Return a text as the cache keeps what is of another length in each row: (bytes, 1)."""
    return cast("Any", np.frombuffer(text.encode() or b" ", dtype=np.uint8)[:, None])
