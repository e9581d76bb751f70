"""The pretrain recipe: objectives and vocabularies, what comes of it, exactness, bad input."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.adapt.plugins import SEGMENTERS
from app.errors import InvalidData, InvalidSpec
from app.serving.engine import load_model
from app.serving.predictor import ModelRef
from app.serving.service import decode_answers, parse_parameters
from app.spec.job import parse_spec
from tests.corpora import CORPUS, LABELLED, SECOND, WAYS, Corpus
from tests.tiny import make_base_folder, make_model_folder
from tests.trainer_child import references
from workers.protocol import (
    Event,
    FinishedEvent,
    ResolvedEvent,
    SourceCheckpoint,
)
from workers.recipes import run_recipe

pytestmark = pytest.mark.usefixtures("one_thread_and_no_traces")


@pytest.fixture
def corpus(tmp_path) -> Corpus:
    return Corpus(tmp_path)


def ask(finished: FinishedEvent, inputs: list[Any], **parameters: Any) -> list[Any]:
    """Return what the server answers with the finished model."""
    facts = finished.manifest["facts"]
    ref = ModelRef(
        facts["model_id"], finished.folder, finished.manifest_sha256, facts["task"]["kind"]
    )
    served = load_model(ref)
    chosen = parse_parameters(served.task, parameters)
    asked = [served.task.parse_input(value, at) for at, value in enumerate(inputs)]
    encoded = served.encode(asked, chosen)
    return decode_answers(served.task, served.answer(encoded, chosen), encoded, chosen)


# --- what comes of it ---


@pytest.mark.parametrize("objective", WAYS)
@pytest.mark.parametrize("segmenter", SEGMENTERS.kinds)
def test_from_scratch(corpus, objective, segmenter):
    events: list[Event] = []
    spec = corpus.spec(objective, tokenizer={"kind": segmenter, "vocabulary_size": 420})
    spec["optimization"] |= {"max_steps": 30, "learning_rate": 3e-3}
    finished = corpus.run(spec, events)
    report = finished.report["pretraining"]
    assert report["perplexity"]["after"] < 0.7 * report["perplexity"]["before"]
    before = finished.report["baselines"]["untouched"]["validation"]
    assert before["metrics"]["perplexity"] == pytest.approx(report["perplexity"]["before"])
    low, high = finished.report["evaluation"]["validation"]["intervals"]["perplexity"]
    assert (
        low
        <= finished.metrics["validation/perplexity"]
        <= high
        < before["intervals"]["perplexity"][0]
    )
    assert report["vocabulary_size"] <= 420
    assert report["tokens_seen"] > 0
    assert (
        report["tokens"]["train"]["documents"] + report["tokens"]["validation"]["documents"] == 150
    )
    (resolved,) = [event for event in events if isinstance(event, ResolvedEvent)]
    assert "auto" not in json.dumps([resolved.spec["optimization"], resolved.spec["runtime"]])
    assert resolved.data["train"]["statistics"]["documents"] == 150
    assert "## How it was made" in (finished.folder / "README.md").read_text()


def test_a_masked_model_fills_masks(corpus):
    finished = corpus.run(corpus.spec())
    answers = ask(finished, ["a fine [MASK]"], top_k=3)
    assert len(answers[0]) == 3
    assert {"score", "token_str", "sequence"} <= answers[0][0].keys()


def test_a_causal_model_writes(corpus):
    finished = corpus.run(corpus.spec("causal_lm"))
    (answer,) = ask(finished, ["a fine"], max_new_tokens=5)
    assert "generated_text" in answer


def test_a_span_model_says_what_gaps_stand_for(corpus):
    spec = corpus.spec("span_corruption")
    spec["optimization"] |= {"max_steps": 40, "learning_rate": 1e-2}
    finished = corpus.run(spec)
    (answer,) = ask(finished, ["a <extra_id_0> film"], max_new_tokens=8)
    assert "generated_text" in answer
    assert "<extra_id_0>" in answer.get("spans", {})


@pytest.mark.parametrize(
    ("objective", "task"),
    [
        ("masked_lm", {"kind": "text-classification"}),
        ("causal_lm", {"kind": "text-classification"}),
        ("span_corruption", {"kind": "summarization", "decoding": {"max_new_tokens": 2}}),
    ],
)
def test_it_is_what_a_fine_tuning_starts_from(corpus, objective, task):
    """Sequential transfer: the encoder's weights are those of the pretrained model."""
    finished = corpus.run(corpus.spec(objective))
    corpus.models["ft:pre"] = finished.folder
    columns = {"document": "text", "summary": "label"} if task["kind"] == "summarization" else {}
    tuned = corpus.run(
        {
            "kind": "fine_tune", "model": "ft:pre", "task": task,
            "data": {"train": LABELLED, "columns": columns},
            "optimization": {"max_steps": 2, "learning_rate": 1e-9, "batch_size": 4},
            "runtime": {"seeds": 1, "baselines": False},
        }
    )  # fmt: skip
    from safetensors.torch import load_file

    source, made = (load_file(each.folder / "model.safetensors") for each in (finished, tuned))
    shared = source.keys() & made.keys()
    assert len(shared) > 10
    for name in shared:
        assert (source[name] - made[name]).abs().max() < 1e-5, name
    assert [entry["id"] for entry in tuned.manifest["facts"]["lineage"]][-1] == "ft:pre"


@pytest.mark.parametrize("method", ["full", {"kind": "lora", "rank": 2}])
def test_a_base_goes_on(corpus, method):
    """DAPT: an encoder without a head for words gets one, and keeps its tokenizer."""
    texts = corpus.paths[CORPUS].read_text().splitlines()
    make_model_folder(corpus.folder / "bases" / "tiny", texts=texts)
    spec = corpus.spec(model="tiny", tokenizer=None, method=method)
    spec["optimization"] |= {"max_steps": 20, "learning_rate": 3e-3}
    finished = corpus.run(spec)
    figures = finished.report["pretraining"]["perplexity"]
    assert figures["after"] < figures["before"]
    folders = (corpus.folder / "bases" / "tiny", finished.folder)
    source, made = (json.loads((each / "tokenizer.json").read_bytes()) for each in folders)
    assert source["model"] == made["model"]
    assert finished.manifest["facts"]["base"] == "tiny"


def test_a_network_can_have_another_models_tokenizer(corpus):
    make_base_folder(corpus.folder / "bases" / "decoder", "decoder")
    finished = corpus.run(corpus.spec("causal_lm", tokenizer="decoder"))
    theirs = json.loads((corpus.folder / "bases" / "decoder" / "tokenizer.json").read_bytes())
    ours = json.loads((finished.folder / "tokenizer.json").read_bytes())
    assert ours["model"]["vocab"] == theirs["model"]["vocab"]


def test_a_probe_judges_before_and_after_on_the_same_rows(corpus):
    probe = {"data": {"train": LABELLED, "columns": {"text": "text"}}}
    finished = corpus.run(corpus.spec(probe=probe))
    found = finished.report["probe"]
    assert (found["task"], found["set"]) == ("text-classification", "validation")
    for side in ("before", "after"):
        low, high = found[side]["validation"]["intervals"][found["metric"]]
        assert low <= found[side]["validation"]["metrics"][found["metric"]] <= high
    gain = (found["after"]["validation"]["metrics"][found["metric"]]
            - found["before"]["validation"]["metrics"][found["metric"]])  # fmt: skip
    assert found["gain"] == pytest.approx(gain)


def test_a_checkpoint_is_what_a_job_starts_from(corpus):
    events: list[Event] = []
    spec = corpus.spec()
    corpus.run(spec, events)
    (resolved,) = [event for event in events if isinstance(event, ResolvedEvent)]
    newest = references(events)[0]
    given = SourceCheckpoint(
        folder=newest.folder, manifest_sha256=newest.manifest_sha256, spec=resolved.spec
    )
    tuned = {
        "kind": "fine_tune", "model": "ckpt-x", "task": "text-classification",
        "data": {"train": LABELLED}, "optimization": {"max_steps": 2, "batch_size": 4},
        "runtime": {"seeds": 1, "baselines": False},
    }  # fmt: skip
    assignment = corpus.assignment(tuned).model_copy(update={"sources": {"ckpt-x": given}})
    finished = run_recipe(assignment, parse_spec(tuned), events.append, lambda: False)
    assert finished.manifest["facts"]["base"] == "ckpt-x"
    assert "validation/accuracy" in finished.metrics


def test_several_files_are_one_corpus(corpus):
    finished = corpus.run(corpus.spec(data={"train": [CORPUS, SECOND]}))
    counts = finished.report["pretraining"]["tokens"]
    assert counts["train"]["documents"] + counts["validation"]["documents"] == 190


def test_a_validation_file_is_what_it_is_judged_by(corpus):
    finished = corpus.run(corpus.spec(data={"train": CORPUS, "validation": SECOND}))
    counts = finished.report["pretraining"]["tokens"]
    assert (counts["train"]["documents"], counts["validation"]["documents"]) == (150, 40)


# --- bad input ---


def refused(corpus: Corpus, spec: dict[str, Any], kind: type = InvalidSpec) -> Any:
    with pytest.raises(kind) as caught:
        corpus.run(spec)
    return caught.value


@pytest.mark.parametrize("content", ["\n\n\n", "   \n \t\n"])
def test_a_corpus_of_empty_lines(corpus, content):
    corpus.paths[CORPUS].write_text(content)
    error = refused(corpus, corpus.spec(), InvalidData)
    assert (error.param, error.error_code) == ("data.train", "empty_file")
    assert "corpus.txt" in error.message


def test_the_file_of_several_that_is_wrong_is_named(corpus):
    corpus.paths[SECOND].write_bytes(b"fine\nK\xf6ln\n")
    error = refused(corpus, corpus.spec(data={"train": [CORPUS, SECOND]}), InvalidData)
    assert error.param == "data.train.1"
    assert "second.txt: line 2" in error.message


def test_texts_that_are_one_and_the_same(corpus):
    corpus.paths[CORPUS].write_text("the same\n" * 20)
    error = refused(corpus, corpus.spec(), InvalidData)
    assert (error.error_code, error.param) == ("cannot_split", "data.train")


def test_a_vocabulary_that_is_too_small(corpus):
    spec = corpus.spec(tokenizer={"kind": "bpe", "vocabulary_size": 100})
    assert refused(corpus, spec).param == "tokenizer.vocabulary_size"


@pytest.mark.parametrize(
    ("objective", "architecture", "message"),
    [
        ("causal_lm", "encoder_decoder", "cannot do text-generation"),
        ("span_corruption", "decoder", "sentinels"),
        ("span_corruption", "encoder", "sentinels"),
    ],
)
def test_a_base_that_does_not_fit_the_objective(corpus, objective, architecture, message):
    make_base_folder(corpus.folder / "bases" / "tiny", architecture)
    spec = corpus.spec(objective, model="tiny", tokenizer=None)
    error = refused(corpus, spec)
    assert error.error_code == "model_does_not_fit"
    assert message in error.message


def test_a_probe_that_is_none(corpus):
    task = {"kind": "summarization"}
    columns = {"document": "text", "summary": "label"}
    probe = {"task": task, "data": {"train": LABELLED, "columns": columns}}
    assert refused(corpus, corpus.spec(probe=probe)).param == "probe.task"


def test_rows_of_a_probe_that_do_not_fit(corpus):
    corpus.paths[LABELLED].write_text('{"text": "a", "label": "b"}\n{"text": "", "label": "c"}\n')
    spec = corpus.spec(probe={"data": {"train": LABELLED}})
    error = refused(corpus, spec, InvalidData)
    assert (error.param, error.error_code) == ("probe.data.train", "empty_text")
    assert "labelled.jsonl, row 2" in error.message
