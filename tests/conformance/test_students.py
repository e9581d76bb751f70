"""Every student that is made: texts and a tiny teacher become a folder that is a model to all the rest."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from transformers import AutoTokenizer

from app.adapt.plugins import STUDENTS, TASKS
from app.adapt.reader import Problems, Row
from app.adapt.student import Material, Student
from app.adapt.task import Example, Task
from app.errors import InvalidSpec
from app.store.weights import check_model_folder
from tests.tiny import make_model_folder

MAX_LENGTH = 64


def as_they_come(kind: str) -> Student | None:
    """Return the student of a kind with all defaults, None for one that must be told more."""
    try:
        return STUDENTS[kind].model_validate({"kind": kind})
    except ValidationError:
        return None


# The teacher is an encoder, and what is made of one is asked to do an encoder's tasks.
ENCODED = [kind for kind in TASKS.kinds if TASKS[kind].architecture == "encoder"]
MADE = [kind for kind in STUDENTS.kinds if as_they_come(kind) is not None]


def examples_of(kind: str) -> tuple[Task, list[Example]]:
    """Return a task that is fitted to its own examples, and these."""
    path = Path(str(importlib.import_module(TASKS[kind].__module__).__file__))
    lines = path.with_name("example.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [Row(number, json.loads(line)) for number, line in enumerate(lines, start=1)]
    task = TASKS[kind].model_validate({"kind": kind})
    columns = task.resolve_columns(list(rows[0].values), {}, "example.jsonl")
    examples = task.parse(rows, columns, Problems("example.jsonl"))
    return task.fit(examples, "example.jsonl"), examples


def texts_of(task: Task, examples: Sequence[Example]) -> list[str]:
    return list(dict.fromkeys(text for example in examples for text in task.texts(example)))


@pytest.fixture(params=MADE)
def student(request) -> Student:
    student = as_they_come(request.param)
    assert student is not None
    return student


@pytest.fixture(scope="module")
def material(tmp_path_factory) -> Material:
    texts = [text for kind in TASKS.kinds for text in texts_of(*examples_of(kind))]
    return Material(texts, 0, make_model_folder(tmp_path_factory.mktemp("teacher"), texts=texts))


@pytest.fixture
def folder(student, material, tmp_path) -> Path:
    made = tmp_path / "made"
    made.mkdir()
    student.make(made, material)
    return made


def loaded(kind: str, folder: Path) -> tuple[Task, list[Example], torch.nn.Module] | None:
    """Return a task with the network for it, None where this kind of network cannot do the task."""
    task, examples = examples_of(kind)
    torch.manual_seed(0)
    with suppress(InvalidSpec):
        return task, examples, task.network().load(task, folder)
    return None


def outputs_of(task: Task, examples: list[Example], network: Any, folder: Path) -> torch.Tensor:
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    encoded = task.encode(tokenizer, examples, MAX_LENGTH)
    half = task.network()
    with torch.inference_mode():
        batch = half.collate(task, encoded, tokenizer.pad_token_id)
        return half.forward(network.eval(), batch).logits


def test_the_folder_is_a_safe_model(folder):
    config = check_model_folder(folder, "made")
    assert config["model_type"]


def test_the_same_material_makes_the_same_bytes(student, material, folder, tmp_path):
    torch.manual_seed(99)  # what others drew before has no say
    (tmp_path / "again").mkdir()
    student.make(tmp_path / "again", material)
    for path in sorted(folder.iterdir()):
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_making_it_leaves_no_trace(student, material, tmp_path):
    torch.manual_seed(5)
    threads, expected = torch.get_num_threads(), torch.rand(3)
    torch.manual_seed(5)
    student.make(tmp_path, material)
    assert torch.equal(torch.rand(3), expected), "the draws that follow are those of the job's seed"
    assert torch.get_num_threads() == threads


def test_it_does_a_task_and_comes_back_from_disk_as_it_was(folder, tmp_path):
    done = []
    for kind in ENCODED:
        found = loaded(kind, folder)
        if found is None:
            continue
        task, examples, network = found
        before = outputs_of(task, examples, network, folder)
        assert before.isfinite().all()
        saved = tmp_path / kind
        saved.mkdir()
        task.network().save(network, saved)
        again = task.network().load(task, saved)
        assert torch.equal(outputs_of(task, examples, again, folder), before)
        done.append(kind)
    assert done


def test_it_survives_json(student):
    assert type(student).model_validate_json(student.model_dump_json()) == student
