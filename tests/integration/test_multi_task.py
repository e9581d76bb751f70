"""Several tasks around one encoder: trained together, resumed, compared, and served at one id."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from app.adapt.heads import export, load_heads
from app.adapt.layers.shared_trunk import load_part, load_trunk
from app.adapt.tokenizers import Tokenizers
from app.cli.report import comparison
from app.errors import InvalidRequest, InvalidSpec
from app.spec.job import parse_spec
from app.store.durable import sha256_of
from app.store.manifest import Manifest
from tests.served import served
from tests.trainer_child import TRAIN_ID, TinyJob, references, series
from workers.protocol import Event, FinishedEvent, InputFile, LogEvent
from workers.recipes import run_recipe
from workers.training.loop import Drained

TAGS_ID = "file-" + "t" * 26
THIRD_ID = "file-" + "q" * 26

pytestmark = pytest.mark.usefixtures("one_thread_and_no_traces")


class Office:
    """Jobs of two tasks on the same texts: whether they are good, and which of their words are names."""

    def __init__(self, folder: Path) -> None:
        self.job = TinyJob(folder, epochs=2)
        self.job.runtime |= {"seeds": 1, "baselines": False}
        rows = [json.loads(line) for line in self.job.file.read_text().splitlines()]
        tagged = [
            {"tokens": row["text"].split(),
             "tags": ["B-X" if word == "film" else "O" for word in row["text"].split()]}
            for row in rows[: len(rows) // 2]
        ]  # fmt: skip
        self.models: dict[str, Path] = {}
        self.files: dict[str, InputFile] = {}
        self.add(TAGS_ID, tagged)

    def add(self, file_id: str, rows: list[dict[str, Any]]) -> None:
        path = self.job.folder / f"{file_id}.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)))
        self.files[file_id] = InputFile(
            id=file_id, filename=path.name, path=path, sha256=sha256_of(path)
        )

    def spec(self, **fields: Any) -> dict[str, Any]:
        split = {"validation": 0.5}
        tasks = {
            "mood": {"task": "text-classification", "data": {"train": TRAIN_ID, "split": split}},
            "names": {"task": "token-classification", "data": {"train": TAGS_ID, "split": split}},
        }
        return {
            "kind": "multi_task", "model": "tiny", "tasks": tasks,
            "optimization": self.job.optimization, "runtime": self.job.runtime, **fields,
        }  # fmt: skip

    def run(
        self, events: list[Event] | None = None, *, checkpoints=(), drain: bool = False,
        **fields: Any,
    ) -> FinishedEvent:  # fmt: skip
        assignment = self.job.assignment(checkpoints)
        update = {"files": {**assignment.files, **self.files}, "models": self.models}
        spec = parse_spec(self.spec(**fields))
        seen = [] if events is None else events
        return run_recipe(assignment.model_copy(update=update), spec, seen.append, lambda: drain)

    def fine_tune(self, **fields: Any) -> FinishedEvent:
        assignment = self.job.assignment()
        update = {"files": {**assignment.files, **self.files}, "models": self.models}
        spec = parse_spec({**self.job.spec(), **fields})
        return run_recipe(assignment.model_copy(update=update), spec, [].append, lambda: False)


@pytest.fixture
def office(tmp_path) -> Office:
    return Office(tmp_path)


def files_of(finished: FinishedEvent) -> dict[str, bytes]:
    return {
        str(path.relative_to(finished.folder)): path.read_bytes()
        for path in sorted(finished.folder.rglob("*.safetensors"))
    }


def test_two_tasks_are_learned_at_once(office):
    office.job.runtime["baselines"] = True
    events: list[Event] = []
    finished = office.run(events)
    report = finished.report
    assert {"validation/mood/accuracy", "validation/names/f1"} <= finished.metrics.keys()
    assert report["primary_metrics"] == {"mood": "accuracy", "names": "f1"}
    assert set(report["apart"]) == {"mood", "names"}
    for name, metric in (("mood", "accuracy"), ("names", "f1")):
        apart = report["apart"][name]
        ours = finished.metrics[f"validation/{name}/{metric}"]
        assert apart["delta"] == pytest.approx(ours - apart["validation"]["metrics"][metric])
        assert apart["steps"] == report["steps"]
    columns, rows = comparison(report)
    assert columns == ["data", "metric", "majority", "apart", "adapted", "95 % interval"]
    assert rows[0][:2] == ["validation/mood", "accuracy"]
    assert all(row[3] is not None for row in rows)
    assert ["validation/names", "f1"] in [row[:2] for row in rows]
    card = (finished.folder / "README.md").read_text()
    assert "| a model of this task alone | validation/names f1 |" in card
    together, apart = report["parameters"]["together"], report["parameters"]["apart"]
    assert together < apart < 2 * together
    points = series(events)
    assert {name for _, name in points if name.startswith("eval/names/")} >= {"eval/names/f1"}
    assert any(isinstance(e, LogEvent) and "rows of mood" in e.message for e in events)
    assert set(files_of(finished)) == {
        "model.safetensors", "heads/mood/head.safetensors", "heads/names/head.safetensors",
    }  # fmt: skip
    facts = finished.manifest["facts"]
    assert facts["task"] == {"kind": "multi-task"}
    assert facts["tasks"]["names"]["task"]["kind"] == "token-classification"


@pytest.mark.parametrize("weighting", ["fixed", "uncertainty", "pcgrad"])
def test_a_resumed_run_is_an_undisturbed_one(office, weighting):
    office.job.optimization |= {"epochs": 1}
    undisturbed: list[Event] = []
    reference = office.run(undisturbed, weighting=weighting)
    seen: list[Event] = []
    finished = None
    while finished is None:
        try:
            finished = office.run(
                seen, checkpoints=references(seen), drain=True, weighting=weighting
            )
        except Drained:
            continue
    assert files_of(finished) == files_of(reference)
    assert series(seen) == series(undisturbed)
    if weighting == "uncertainty":
        learned = finished.report["learned_weights"]
        assert set(learned) == {"mood", "names"}
        assert all(value != 1 for value in learned.values())


def test_weights_matter(office):
    office.job.optimization |= {"epochs": 1}
    plain = office.run()
    tasks = office.spec()["tasks"]
    tasks["names"]["weight"] = 0.01
    assert files_of(office.run(tasks=tasks)) != files_of(plain)


def test_each_task_is_a_plain_model_of_its_own(office, tmp_path):
    from transformers import AutoModelForTokenClassification

    finished = office.run()
    trunk = load_trunk(finished.folder)
    part: Any = load_part(finished.folder, "names", AutoModelForTokenClassification, trunk)
    part.eval()
    part.save_pretrained(tmp_path / "names")
    alone = AutoModelForTokenClassification.from_pretrained(tmp_path / "names").eval()
    ids = torch.tensor([[2, 5, 6, 3]])
    with torch.no_grad():
        assert torch.equal(part(ids).logits, alone(ids).logits)


@pytest.mark.parametrize("method", ["lora", "layerwise_lr", "gradual_unfreezing", "bias_only"])
def test_methods(office, method):
    office.job.optimization |= {"epochs": 1}
    finished = office.run(method=method)
    assert finished.report["trained_parameters"] > 0
    names = load_file(finished.folder / "model.safetensors").keys()
    assert not any("down" in name or "base." in name for name in names), "adapters are merged"


def test_a_head_joins_the_others_later(office):
    first = office.run()
    office.models["ft:both"] = first.folder
    rows = [
        {"text": row, "label": str(len(row) % 2)}
        for row in (f"a film {n} {'good' * (n % 3)}" for n in range(40))
    ]
    office.add(THIRD_ID, rows)
    tasks = {"length": {"task": "text-classification", "data": {"train": THIRD_ID}}}
    second = office.run(model="ft:both", tasks=tasks, trunk="frozen")
    before, after = files_of(first), files_of(second)
    assert {name: after[name] for name in before} == before, "what there was is what it was"
    assert "heads/length/head.safetensors" in after
    facts = second.manifest["facts"]
    assert set(facts["tasks"]) == {"length", "mood", "names"}
    assert facts["lineage"][-1]["id"] == "ft:both"
    taken = {"mood": tasks["length"]}
    with pytest.raises(InvalidSpec, match="has a head of this name"):
        office.run(model="ft:both", tasks=taken, trunk="frozen")
    events: list[Event] = []
    office.run(events, model="ft:both")
    assert any("left behind" in e.message for e in events if isinstance(e, LogEvent))


def texts_of(finished: FinishedEvent, name: str) -> list[Any]:
    """Return what a task's network says of a few texts, raw."""
    facts = json.loads((finished.folder / "attune.json").read_text())
    task, network, length = load_heads(finished.folder, facts)[name]
    tokenizers = Tokenizers.load(finished.folder)
    half = task.network()
    examples = [task.parse_input(text, 0) for text in ("a fine film", "what a dull film")]
    batch = half.collate(task, tokenizers.encode(task, examples, length), 0)
    with torch.no_grad():
        return half.forward(network.eval(), batch).logits.tolist()


def test_a_tagger_joins_and_leaves_a_classifiers_pooler_alone(office):
    tasks = office.spec()["tasks"]
    more = {**tasks["mood"], "data": {**tasks["mood"]["data"], "split": {"validation": 0.3}}}
    first = office.run(tasks={"mood": tasks["mood"], "other": more})
    office.models["ft:first"] = first.folder
    second = office.run(model="ft:first", tasks={"names": tasks["names"]}, trunk="frozen")
    for name in ("mood", "other"):
        assert texts_of(second, name) == texts_of(first, name)


def test_a_classifier_that_joins_taggers_learns_a_pooler(office):
    tasks = office.spec()["tasks"]
    more = {**tasks["names"], "data": {**tasks["names"]["data"], "split": {"validation": 0.3}}}
    first = office.run(tasks={"names": tasks["names"], "other": more})
    office.models["ft:first"] = first.folder
    assert not any("pooler" in name for name in load_file(first.folder / "model.safetensors"))
    seeds = [
        office.run(
            model="ft:first", tasks={"mood": tasks["mood"]}, trunk="frozen",
            optimization={**office.job.optimization, "max_steps": steps, "epochs": 50},
        )
        for steps in (1, 40)
    ]  # fmt: skip
    poolers = [
        load_file(each.folder / "model.safetensors")["pooler.dense.weight"] for each in seeds
    ]
    assert not torch.equal(*poolers), "what the source has no values for is trained"
    assert texts_of(seeds[1], "names") == texts_of(first, "names")


def test_a_job_of_one_task_starts_from_the_encoder(office):
    office.models["ft:both"] = office.run().folder
    finished = office.fine_tune(
        model="ft:both", optimization={**office.job.optimization, "max_steps": 1}
    )
    assert finished.manifest["facts"]["lineage"][0]["id"] == "tiny"


def test_tasks_with_and_without_heads_share_an_encoder(office):
    office.job.optimization |= {"epochs": 1}
    pairs = [
        {"sentence1": f"a film {n}", "sentence2": f"film {n}", "score": n % 5} for n in range(30)
    ]
    office.add(THIRD_ID, pairs)
    tasks = office.spec()["tasks"]
    tasks["near"] = {"task": "sentence-similarity", "data": {"train": THIRD_ID}}
    del tasks["mood"]
    finished = office.run(tasks=tasks)
    assert "validation/near/spearman" in finished.metrics
    tasks = office.spec()["tasks"]
    tasks["words"] = {"task": "fill-mask", "data": {"train": TRAIN_ID}}
    finished = office.run(tasks=tasks)
    assert finished.metrics["validation/words/perplexity"] > 1
    head = load_file(finished.folder / "heads" / "words" / "head.safetensors")
    assert not any(tensor.shape[0] > 1000 for tensor in head.values())


# --- serving ---


def test_one_id_serves_every_task(office, tmp_path):
    finished = office.run()
    model_id = "ft:tiny:both:0000000000"
    with served(tmp_path / "server") as api:
        folder = api.services.layout.model("both")
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(finished.folder, folder)
        manifest = Manifest.model_validate(finished.manifest)
        api.register(model_id, folder, manifest, finished.manifest_sha256)
        listed = api.client.get(f"/v1/models/{model_id}").json()
        assert listed["task"] == "multi-task"
        assert listed["tasks"] == {"mood": "text-classification", "names": "token-classification"}

        def ask(**body: Any) -> Any:
            url = f"/v1/models/{model_id}/predict"
            return api.client.post(url, json={"inputs": ["a fine film"], **body})

        mood = ask(task="mood").json()
        assert mood["task"] == "text-classification"
        assert mood["data"][0]["label"] in {"bad", "good"}
        names = ask(task="names").json()
        assert names["task"] == "token-classification"
        for body, words in (({}, "say which one"), ({"task": "taste"}, "it does not do 'taste'")):
            answer = ask(**body)
            assert answer.status_code == 400
            error = answer.json()["error"]
            assert error["param"] == "task"
            assert "mood, names" in error["message"]
            assert words in error["message"]
        predictor: Any = api.services.predictor
        assert predictor.loaded() == [model_id]
        card = (folder / "README.md").read_text()
        assert '"task": "mood"' in card
        assert "`names` (token-classification)" in card


def test_jobs_ask_one_of_its_heads(office):
    finished = office.run()
    office.models["ft:both"] = finished.folder

    def ask(**fields: Any) -> Any:
        spec = {"kind": "evaluate", "model": "ft:both", "data": {"test": TAGS_ID}, **fields}
        assignment = office.job.assignment()
        update = {"files": {**assignment.files, **office.files}, "models": office.models}
        return run_recipe(
            assignment.model_copy(update=update), parse_spec(spec), [].append, lambda: False
        )

    done = ask(head="names")
    assert 0 <= done.report["evaluation"]["test"]["metrics"]["f1"] <= 1
    for fields, words in (({}, "does mood, names"), ({"head": "taste"}, "name one of them")):
        with pytest.raises(InvalidSpec, match=words) as caught:
            ask(**fields)
        assert caught.value.param == "head"
    assignment = office.job.assignment().model_copy(update={"models": office.models})
    data = {"train": TRAIN_ID}
    spec = {"kind": "distill", "teacher": "ft:both", "student": "tiny", "data": data}
    distill = parse_spec({**spec, "task": "text-classification"})
    with pytest.raises(InvalidSpec, match="takes a model of one"):
        run_recipe(assignment, distill, [].append, lambda: False)


def test_a_task_is_taken_out_as_a_model_of_its_own(office, tmp_path):
    from transformers import pipeline

    finished = office.run()
    export(finished.folder, "mood", tmp_path / "mood")
    classify = pipeline("text-classification", model=str(tmp_path / "mood"))
    assert classify("a fine film")[0]["label"] in {"bad", "good"}
    with pytest.raises(InvalidRequest, match="it does: mood, names"):
        export(finished.folder, "taste", tmp_path / "taste")


@pytest.mark.parametrize(
    ("change", "param", "words"),
    [
        ({"tasks": {}}, "tasks", "at least 1"),
        ({"method": "linear_probe"}, "body", "step by step"),
        ({"method": "prompt"}, "body", "one task's texts"),
        ({"weighting": "best"}, "weighting", "fixed"),
        ({"sampling_exponent": 2}, "sampling_exponent", "less than or equal to 1"),
        ({"optimization": {"label_smoothing": 0.1}}, "body", "losses of each task"),
    ],
)
def test_what_cannot_be_is_refused(office, change, param, words):
    with pytest.raises(InvalidSpec, match=words) as caught:
        office.run(**change)
    assert caught.value.param == param


def test_errors_name_the_task(office):
    tasks = office.spec()["tasks"]
    wrong = {**tasks, "names": {**tasks["names"], "losses": [{"kind": "kl_divergence"}]}}
    with pytest.raises(InvalidSpec, match=r"tasks\.names: losses\.0") as caught:
        office.run(tasks=wrong)
    assert caught.value.param == "tasks.names.losses.0"
    alone = {"mood": tasks["mood"]}
    with pytest.raises(InvalidSpec, match="two or more"):
        office.run(tasks=alone)
    with pytest.raises(InvalidSpec, match="no other heads"):
        office.run(tasks=alone, trunk="frozen")
    writes = {**tasks, "talk": {"task": "text-generation", "data": tasks["mood"]["data"]}}
    with pytest.raises(InvalidSpec, match="writes text"):
        office.run(tasks=writes)
    office.add(TAGS_ID, [{"tokens": ["a"], "tags": []}] * 5)
    with pytest.raises(Exception, match=r"tasks\.names") as found:
        office.run()
    assert found.value.param.startswith("tasks.names.")
