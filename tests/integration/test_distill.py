"""The distill recipe in this process: what teaches whom, what is kept, compared and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.adapt.plugins import TASKS
from app.adapt.task import Example
from app.adapt.tasks.token_classification.data import Marked
from app.adapt.tasks.token_classification.words import Span
from app.errors import InvalidSpec
from app.spec.job import parse_spec
from app.store.durable import sha256_of
from tests.tiny import make_model_folder
from tests.trainer_child import BAD, ENDINGS, GOOD, SENTENCES, TRAIN_ID, TinyJob, references, series
from workers.protocol import Event, FinishedEvent, InputFile, LogEvent, ResolvedEvent
from workers.recipes import run_recipe
from workers.training.loop import Drained

UNLABELED_ID = "file-" + "u" * 26


pytestmark = pytest.mark.usefixtures("one_thread_and_no_traces")


class School:
    """A teacher that has learned its task, and jobs that distill it."""

    def __init__(self, folder: Path) -> None:
        self.job = TinyJob(folder)
        self.cache = folder / "cache"
        self.models: dict[str, Path] = {}
        self.files: dict[str, InputFile] = {}
        letters = " ".join("abcdefghijklmnopqrstuvwxyz0123456789")
        make_model_folder(folder / "bases" / "letters", texts=[letters], hidden=16, seed=1)
        make_model_folder(folder / "bases" / "narrow", texts=(*SENTENCES, "0 1 2 3 4 5 6 7 8 9"),
                          hidden=16, layers=1, seed=2)  # fmt: skip

    def teach(self, name: str = "ft:teacher", **fields: Any) -> FinishedEvent:
        finished = run_recipe(
            self.job.assignment(),
            parse_spec({**self.job.spec(), **fields}),
            [].append,
            lambda: False,
        )
        self.models[name] = finished.folder
        return finished

    def add_file(self, file_id: str, content: str, name: str = "texts.jsonl") -> None:
        path = self.job.folder / f"{file_id}-{name}"
        path.write_text(content)
        self.files[file_id] = InputFile(
            id=file_id, filename=name, path=path, sha256=sha256_of(path)
        )

    def spec(self, **fields: Any) -> dict[str, Any]:
        plain = self.job.spec()
        del plain["model"]
        return {**plain, "kind": "distill", "teacher": "ft:teacher", "student": "narrow", **fields}

    def distill(
        self,
        events: list[Event] | None = None,
        *,
        checkpoints=(),
        drain: bool = False,
        **fields: Any,
    ) -> FinishedEvent:
        assignment = self.job.assignment(checkpoints)
        assignment = assignment.model_copy(
            update={
                "models": self.models,
                "cache": self.cache,
                "files": {**assignment.files, **self.files},
            }
        )
        seen = [] if events is None else events
        spec = parse_spec(self.spec(**fields))
        return run_recipe(assignment, spec, seen.append, lambda: drain)


@pytest.fixture(scope="module")
def school(tmp_path_factory) -> School:
    made = School(tmp_path_factory.mktemp("school"))
    made.teach()
    return made


def logs(events: list[Event]) -> list[str]:
    return [event.message for event in events if isinstance(event, LogEvent)]


def weights(finished: FinishedEvent) -> bytes:
    return (finished.folder / "model.safetensors").read_bytes()


def test_a_student_is_compared_with_its_teacher_and_with_itself_alone(school):
    finished = school.distill()
    report = finished.report["distillation"]
    (teacher,) = report["teachers"]
    assert teacher["id"] == "ft:teacher"
    assert (
        report["teacher"]["validation"]["metrics"]["accuracy"] == teacher["validation"]["accuracy"]
    )
    for who in ("teacher", "student"):
        assert report[who]["parameters"] > 0
        assert report[who]["texts_per_s"] > 0
        assert report[who]["latency_ms"] > 0
        assert "accuracy" in report[who]["validation"]["intervals"]
    assert report["student"]["parameters"] < report["teacher"]["parameters"]
    assert report["student_without_teacher"]["steps"] == finished.report["steps"]
    kept = report["kept"]
    ours = finished.metrics["validation/accuracy"]
    assert kept["share"] == pytest.approx(ours / teacher["validation"]["accuracy"])
    assert {"role": "teacher"}.items() <= finished.manifest["facts"]["lineage"][0].items()
    assert (report["labelled"], report["unlabeled"], report["augmented"]) == (48, 0, 0)


@pytest.mark.parametrize("student", ["narrow", "letters"])
def test_the_answers_are_computed_once(school, student):
    first: list[Event] = []
    second: list[Event] = []
    before = school.distill(first, student=student)
    again = school.distill(second, student=student)
    assert any("96 of them from the cache" in line for line in logs(second))
    assert weights(before) == weights(again)


def test_a_cache_that_is_damaged_is_made_anew(school):
    reference = school.distill()
    for file in school.cache.glob("*/answers.safetensors"):
        content = bytearray(file.read_bytes())
        content[-3] ^= 0xFF
        file.write_bytes(content)
    seen: list[Event] = []
    finished = school.distill(seen)
    assert not any("from the cache" in line for line in logs(seen))
    assert weights(finished) == weights(reference)


def test_it_resumes_exactly(school):
    losses = [
        {"kind": "cross_entropy", "weight": 0.5},
        {"kind": "kl_divergence", "temperature": {"start": 4, "end": 1}},
        {"kind": "hidden_mse", "layers": "last"},
    ]
    # The student without a teacher is trained after all that is worth a checkpoint.
    alone = {**school.job.runtime, "baselines": False}
    undisturbed: list[Event] = []
    reference = school.distill(undisturbed, losses=losses, runtime=alone)
    seen: list[Event] = []
    finished = None
    while finished is None:
        try:
            finished = school.distill(seen, checkpoints=references(seen), drain=True, losses=losses,
                                      runtime=alone)  # fmt: skip
        except Drained:
            continue
    assert weights(finished) == weights(reference)
    assert series(seen) == series(undisturbed)


def test_texts_without_answers_are_answered_by_the_teacher(school):
    texts = [f"{head}{end} again" for head in (*GOOD, *BAD) for end in ENDINGS]
    rows = [json.dumps({"text": text}) for text in texts]
    school.add_file(UNLABELED_ID, "\n".join(rows))
    data = {
        **school.job.spec()["data"],
        "unlabeled": UNLABELED_ID,
        "augmentation": {"copies": 2, "mask": 0.3},
    }
    seen: list[Event] = []
    finished = school.distill(seen, data=data)
    report = finished.report["distillation"]
    assert report["unlabeled"] == len(texts)
    assert 48 < report["augmented"] <= 96
    (resolved,) = [event for event in seen if isinstance(event, ResolvedEvent)]
    rows_in_all = 48 + len(texts) + report["augmented"]
    assert finished.report["steps"] == resolved.spec["optimization"]["epochs"] * -(
        -rows_in_all // 8
    )


def test_several_teachers(school):
    school.teach(
        "ft:other", transfer="structure", optimization={**school.job.optimization, "max_steps": 2}
    )
    teachers = ["ft:teacher", "ft:other"]
    finished = school.distill(teacher=teachers, teacher_weights="validation")
    found = finished.report["distillation"]["teachers"]
    assert [each["id"] for each in found] == teachers
    assert sum(each["weight"] for each in found) == pytest.approx(1, abs=1e-3)
    assert found[0]["weight"] > found[1]["weight"]
    with pytest.raises(InvalidSpec, match="from one teacher only"):
        school.distill(teacher=teachers, losses=[{"kind": "hidden_mse"}])


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"teacher": "tiny"}, "teacher", "fine-tune it first"),
        ({"teacher": "ft:nowhere"}, "model", "no base model"),
        ({"student": "letters", "losses": [{"kind": "hidden_mse"}]}, "losses", "token by token"),
        ({"losses": [{"kind": "hidden_mse", "layers": [[9, 0]]}]}, "losses.0.layers", "0 to 1"),
        ({"losses": [{"kind": "cross_entropy"}]}, "body", "none of them reads"),
        ({"losses": [{"kind": "kl_divergence", "weight": 0}]}, "body", "all weights are 0"),
        ({"losses": [{"kind": "kl_divergence", "temperature": 0}]}, "losses.0.temperature", "greater"),
        ({"method": "linear_probe"}, "body", "step by step"),
        ({"method": "prompt"}, "body", "tokens of its own"),
    ],
)  # fmt: skip
def test_what_cannot_meet_is_refused(school, fields, param, words):
    with pytest.raises(InvalidSpec, match=words) as caught:
        school.distill(**fields)
    assert caught.value.param == param


def test_spans_are_carried_over_to_other_tokens(tmp_path):
    """The teacher reads words, the student letters: of each letter, what the teacher says of its word."""
    school = School(tmp_path)
    rows = [
        {"text": text, "spans": [{"start": text.index("film"), "end": text.index("film") + 4,
                                  "label": "WORK"}]}
        for text in (f"{a} film {b}" for a in ("a fine", "what a", "this") for b in SENTENCES[:16])
    ]  # fmt: skip
    school.job.file.write_text("\n".join(map(json.dumps, rows)))
    school.job.task = "token-classification"
    school.job.optimization |= {"epochs": 2}
    taught = school.teach()
    school.add_file(
        UNLABELED_ID, "\n".join(f"another film {text}" for text in SENTENCES), "texts.txt"
    )
    data = {"train": TRAIN_ID, "unlabeled": UNLABELED_ID}
    finished = school.distill(student="letters", data=data)
    report = finished.report["distillation"]
    carried = report["teacher"]["validation"]["metrics"]["f1"]
    assert carried == pytest.approx(taught.metrics["validation/f1"], abs=0.05)
    assert report["unlabeled"] == len(SENTENCES)
    with pytest.raises(InvalidSpec, match="applies to single texts"):
        school.distill(data={"train": TRAIN_ID, "augmentation": {}})


def test_what_a_teacher_knows_of_words_is_known_of_letters(tmp_path):
    """With a teacher that is always right, each piece of other tokens gets the tag that it should."""
    from transformers import AutoTokenizer

    school = School(tmp_path)
    task = TASKS["token-classification"].model_validate({"entities": ["WORK", "SEASON"]})
    text = "a fine film of last summer, and winter"
    spans = (Span(2, 11, "WORK"), Span(20, 26, "SEASON"), Span(32, 38, "SEASON"))
    examples = [Example(1, {"text": text}, Marked(spans))]
    readers = [
        AutoTokenizer.from_pretrained(school.job.folder / "bases" / name, local_files_only=True)
        for name in ("tiny", "letters")
    ]
    for theirs, ours in (readers, reversed(readers)):
        said = task.encode(theirs, examples, 64)
        scores = [np.eye(len(task.labels))[np.clip(item.target, 0, None)] for item in said]
        (row,) = task.encode(ours, examples, 64)
        assert row.input_ids != said[0].input_ids
        assert task.target_of(task.align(scores, said, row), row) == row.target


def test_vectors_are_learned_from_a_base_model(tmp_path):
    school = School(tmp_path)
    rows = [json.dumps({"sentence1": a, "sentence2": b, "score": float(a[0] == b[0])})
            for a, b in zip(SENTENCES, SENTENCES[7:], strict=False)]  # fmt: skip
    school.job.file.write_text("\n".join(rows))
    school.job.task = "sentence-similarity"
    finished = school.distill(teacher="tiny", losses=[{"kind": "embedding_cosine"}])
    report = finished.report["distillation"]
    assert report["teachers"][0]["id"] == "tiny"
    assert "spearman" in report["student"]["validation"]["metrics"]


def test_teachers_of_other_tasks_and_other_labels_are_refused(school, tmp_path):
    other = School(tmp_path)
    with pytest.raises(
        InvalidSpec, match="does text-classification, and the job asks for"
    ) as caught:
        school.distill(task="token-classification")
    assert caught.value.param == "teacher"
    rows = [json.dumps({"text": text, "label": "xyz"[at % 3]}) for at, text in enumerate(SENTENCES)]
    other.job.file.write_text("\n".join(rows))
    other.teach("ft:three")
    school.models["ft:three"] = other.models["ft:three"]
    with pytest.raises(InvalidSpec, match="'labels' is") as caught:
        school.distill(teacher=["ft:teacher", "ft:three"])
    assert caught.value.param == "teacher.1"
