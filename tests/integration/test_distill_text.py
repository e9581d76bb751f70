"""Distillation of tasks that write: token by token, by what the teacher writes, and beside the student."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from app.adapt.task import Architecture
from app.errors import InvalidSpec
from app.spec.job import parse_spec
from app.store.durable import sha256_of
from tests.tiny import make_base_folder
from tests.trainer_child import TinyJob, references, series
from workers.protocol import Event, FinishedEvent, InputFile, LogEvent
from workers.recipes import run_recipe
from workers.training.loop import Drained

UNLABELED_ID = "file-" + "u" * 26
COLOURS, THINGS = ("red", "blue", "green", "grey"), ("cat", "dog", "bird", "fish", "horse")
LETTERS = " ".join("abcdefghijklmnopqrstuvwxyz0123456789")

pytestmark = pytest.mark.usefixtures("one_thread_and_no_traces")


class School:
    """A teacher of one task, and students: of the same words (`narrow`), of letters (`letters`)."""

    def __init__(self, folder: Path, task: Any, rows: list[dict[str, Any]], kind: Architecture):
        self.job = TinyJob(folder, epochs=3)
        self.job.task = task
        self.job.file.write_text("\n".join(map(json.dumps, rows)))
        self.job.runtime |= {"seeds": 1}
        words = ("say the", " ".join(COLOURS), " ".join(THINGS), "yes no a of")
        shutil.rmtree(folder / "bases" / "tiny")
        for name, texts, seed in (
            ("tiny", words, 0),
            ("narrow", words, 2),
            ("letters", [LETTERS], 1),
        ):
            make_base_folder(folder / "bases" / name, kind, texts=texts, seed=seed)
        self.cache = folder / "cache"
        self.models: dict[str, Path] = {}
        self.files: dict[str, InputFile] = {}

    def teach(self, name: str = "ft:teacher", **fields: Any) -> None:
        spec = parse_spec({**self.job.spec(), **fields})
        finished = run_recipe(self.job.assignment(), spec, [].append, lambda: False)
        self.models[name] = finished.folder

    def add_unlabeled(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        path = self.job.folder / "unlabeled.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)))
        self.files[UNLABELED_ID] = InputFile(
            id=UNLABELED_ID, filename=path.name, path=path, sha256=sha256_of(path)
        )
        return {**self.job.spec()["data"], "unlabeled": UNLABELED_ID}

    def distill(
        self, events: list[Event] | None = None, *, checkpoints=(), drain: bool = False,
        **fields: Any,
    ) -> FinishedEvent:  # fmt: skip
        assignment = self.job.assignment(checkpoints)
        files = {**assignment.files, **self.files}
        update = {"models": self.models, "cache": self.cache, "files": files}
        plain = self.job.spec()
        del plain["model"]
        spec = {**plain, "kind": "distill", "teacher": "ft:teacher", "student": "narrow", **fields}
        seen = [] if events is None else events
        return run_recipe(
            assignment.model_copy(update=update), parse_spec(spec), seen.append, lambda: drain
        )

    def written(self, **fields: Any) -> dict[str, Any]:
        return {**self.job.spec()["data"], "answers": "teacher", **fields}


def prompts() -> list[dict[str, Any]]:
    return [
        {"prompt": f"say the {colour} {thing}", "completion": f"a {thing} of {colour}"}
        for colour in COLOURS
        for thing in THINGS
    ]


@pytest.fixture(scope="module")
def prompter(tmp_path_factory) -> School:
    school = School(tmp_path_factory.mktemp("prompts"), "text-generation", prompts() * 3, "decoder")
    school.teach()
    return school


def logs(events: list[Event]) -> list[str]:
    return [event.message for event in events if isinstance(event, LogEvent)]


def facts_of(finished: FinishedEvent) -> dict[str, Any]:
    return finished.report["distillation"]


# --- token by token ---


def test_a_student_learns_the_likeliest_tokens(prompter):
    first: list[Event] = []
    finished = prompter.distill(first, top_k=5)
    facts = facts_of(finished)
    assert facts["answers"] == "data"
    for who in ("teacher", "student", "student_without_teacher"):
        assert facts[who]["validation"]["metrics"]["perplexity"] > 1
        assert facts["student"]["texts_per_s"] > 0
    kept = facts["kept"]
    assert kept["metric"] == "perplexity"
    teacher, student = (
        facts[who]["validation"]["metrics"]["perplexity"] for who in ("teacher", "student")
    )
    assert kept["share"] == pytest.approx(teacher / student), "less is better"
    again: list[Event] = []
    second = prompter.distill(again, top_k=5)
    assert any("kept for other runs" in line for line in logs(first))
    assert any("of them from the cache" in line for line in logs(again))
    name = "model.safetensors"
    assert (finished.folder / name).read_bytes() == (second.folder / name).read_bytes()
    more: list[Event] = []
    prompter.distill(more, top_k=6)
    assert not any("from the cache" in line for line in logs(more)), (
        "other answers are other answers"
    )


def test_only_the_likeliest_are_kept(prompter):
    prompter.distill(top_k=3)
    shapes = {
        load_file(path)["scores"].shape[1:] for path in prompter.cache.glob("*/answers.safetensors")
    }
    assert (2, 4) in shapes, "log-shares and ids of three tokens and the rest"


def test_a_resumed_student_is_an_undisturbed_one(prompter):
    fields = {"runtime": {**prompter.job.runtime, "baselines": False}}
    undisturbed: list[Event] = []
    reference = prompter.distill(undisturbed, **fields)
    seen: list[Event] = []
    finished = None
    while finished is None:
        try:
            finished = prompter.distill(seen, checkpoints=references(seen), drain=True, **fields)
        except Drained:
            continue
    name = "model.safetensors"
    assert (finished.folder / name).read_bytes() == (reference.folder / name).read_bytes()
    assert series(seen) == series(undisturbed)


def test_two_teachers_are_one(prompter):
    prompter.teach("ft:other", optimization={**prompter.job.optimization, "max_steps": 2})
    teachers = ["ft:teacher", "ft:other"]
    facts = facts_of(prompter.distill(teacher=teachers, teacher_weights="validation"))
    good, bad = facts["teachers"]
    assert good["validation"]["perplexity"] < bad["validation"]["perplexity"]
    assert good["weight"] > bad["weight"], "less perplexity counts for more"


def test_what_goes_on_inside_is_learned_beside_the_teacher(prompter):
    losses = [{"kind": "kl_divergence"}, {"kind": "hidden_mse"}]
    assert facts_of(prompter.distill(losses=losses))["student"]


def test_layers_of_the_teacher_are_a_student(prompter):
    finished = prompter.distill(student={"kind": "layers_of_teacher", "keep": [0]})
    facts = facts_of(finished)
    assert facts["student"]["parameters"] < facts["teacher"]["parameters"]


# --- what the teacher writes ---


def test_a_student_of_other_tokens_learns_what_the_teacher_writes(prompter):
    with pytest.raises(InvalidSpec, match='"answers": "teacher"') as caught:
        prompter.distill(student="letters")
    assert (caught.value.param, caught.value.error_code) == ("student", "tokens_differ")
    data = prompter.add_unlabeled([{"prompt": f"say the {thing}"} for thing in THINGS])
    data |= {"answers": "teacher"}
    first: list[Event] = []
    finished = prompter.distill(first, student="letters", data=data)
    facts = facts_of(finished)
    assert (facts["answers"], facts["unlabeled"]) == ("teacher", 5)
    assert facts["student_without_teacher"]["steps"] > 0
    (line,) = [line for line in logs(first) if "has written answers" in line]
    assert "from the cache" not in line
    again: list[Event] = []
    prompter.distill(again, student="letters", data=data)
    assert any(line.endswith("from the cache") for line in logs(again) if "has written" in line)


def test_prompts_without_answers_get_the_teachers(prompter):
    data = prompter.add_unlabeled([{"prompt": f"say the {thing}"} for thing in THINGS])
    events: list[Event] = []
    facts = facts_of(prompter.distill(events, data=data))
    assert (facts["answers"], facts["unlabeled"]) == ("data", 5)
    assert any("has written answers to 5 texts" in line for line in logs(events))


def test_chats_are_answered(tmp_path):
    rows = [
        {"messages": [{"role": "user", "content": row["prompt"]},
                      {"role": "assistant", "content": row["completion"]}]}
        for row in prompts()
    ]  # fmt: skip
    school = School(tmp_path, "text-generation", rows, "decoder")
    school.teach()
    unlabeled = [
        {"messages": [{"role": "user", "content": "say the red cat"}]},
        {"messages": rows[0]["messages"]},
    ]
    data = school.add_unlabeled(unlabeled) | {"answers": "teacher"}
    facts = facts_of(
        school.distill(data=data, optimization={**school.job.optimization, "epochs": 1})
    )
    assert facts["unlabeled"] == 2


@pytest.mark.parametrize("student", ["narrow", "letters"])
def test_translation(tmp_path, student):
    rows = [
        {"translation": {"en": f"{colour} {thing}", "xx": f"{thing} of {colour}"}}
        for colour in COLOURS
        for thing in THINGS
    ] * 2
    task = {"kind": "translation", "source_language": "en", "target_language": "xx"}
    task["decoding"] = {"max_new_tokens": 8}
    school = School(tmp_path, task, rows, "encoder_decoder")
    school.job.optimization |= {"epochs": 1}
    school.teach()
    if student == "narrow":
        facts = facts_of(school.distill())
    else:
        facts = facts_of(school.distill(student=student, data=school.written()))
    for who in ("teacher", "student", "student_without_teacher"):
        assert "bleu" in facts[who]["validation"]["metrics"]


# --- hidden words ---


def test_hidden_words_are_learned_beside_the_teacher(tmp_path):
    rows = [{"text": f"say the {row['prompt']} {row['completion']}"} for row in prompts()]
    school = School(tmp_path, "fill-mask", rows, "encoder")
    school.job.optimization |= {"epochs": 1}
    school.teach()
    data = school.add_unlabeled([{"text": "the horse of red"}])
    facts = facts_of(school.distill(data=data))
    assert facts["unlabeled"] == 1
    assert facts["teacher"]["validation"]["metrics"]["perplexity"] > 1
    with pytest.raises(InvalidSpec, match="one teacher only"):
        school.distill(teacher=["ft:teacher", "ft:teacher"])
    with pytest.raises(InvalidSpec, match="token by token"):
        school.distill(student="letters")


# --- refused ---


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"losses": [{"kind": "logit_mse"}]}, "only the likeliest are kept"),
        ({"top_k": 0}, "greater than or equal to 1"),
        (
            {"teacher": ["ft:teacher", "ft:two"], "data": {"answers": "teacher"}},
            "takes one teacher",
        ),
    ],
)
def test_what_cannot_be_is_refused(prompter, fields, words):
    if "data" in fields:
        fields = {**fields, "data": prompter.written()}
    with pytest.raises(InvalidSpec, match=words):
        prompter.distill(**fields)


def test_plain_texts_and_pairs_have_no_answers_to_write(tmp_path):
    texts = [{"text": f"{row['prompt']} {row['completion']}"} for row in prompts()]
    school = School(tmp_path / "texts", "text-generation", texts, "decoder")
    school.teach()
    with pytest.raises(InvalidSpec, match="plain texts"):
        school.distill(data=school.written())
    assert facts_of(school.distill())["student"], "their tokens are learned all the same"
    pairs = [
        {"prompt": row["prompt"], "chosen": row["completion"], "rejected": "no"}
        for row in prompts()
    ]
    school = School(tmp_path / "pairs", "text-generation", pairs, "decoder")
    with pytest.raises(InvalidSpec, match="DPO"):
        school.distill(teacher="tiny")


def test_tasks_that_do_not_write_have_no_written_answers(prompter):
    with pytest.raises(InvalidSpec, match="for tasks that write"):
        prompter.distill(task="text-classification", data=prompter.written())
