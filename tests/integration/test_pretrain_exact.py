"""Exact resume of pretrainings: stopped after every step, killed, with and without what the cache keeps."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest

from tests.corpora import CORPUS, WAYS, Corpus, weights
from tests.tiny import make_model_folder
from tests.trainer_child import TrainerChild, references, series
from workers.protocol import Event, FinishedEvent, MetricsEvent, PhaseEvent, ResolvedEvent
from workers.training.loop import Drained

pytestmark = pytest.mark.usefixtures("one_thread_and_no_traces")


@pytest.fixture
def corpus(tmp_path) -> Corpus:
    return Corpus(tmp_path)


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("objective", WAYS)
def test_a_run_that_was_stopped_after_every_step_ends_the_same(corpus, objective, packing):
    """And without what the first run kept: tokens and vocabulary come out the same again."""
    spec = corpus.spec(objective)
    spec["optimization"] |= {"packing": packing}
    undisturbed: list[Event] = []
    reference = corpus.run(spec, undisturbed)
    shutil.rmtree(corpus.folder / "cache")
    seen: list[Event] = []
    finished = None
    while finished is None:
        try:
            finished = corpus.run(spec, seen, references(seen), lambda: True)
        except Drained:
            continue
    assert weights(finished) == weights(reference)
    assert series(seen) == series(undisturbed)
    assert finished.metrics == reference.metrics
    for name in ("tokenizer.json", "config.json"):
        assert (finished.folder / name).read_bytes() == (reference.folder / name).read_bytes()


def test_what_is_kept_is_used_again(corpus):
    corpus.run(corpus.spec())
    folders = {path.name: path.stat().st_ino for path in (corpus.folder / "cache").iterdir()}
    kinds = sorted(name.partition("-")[0] for name in folders)
    assert kinds == ["corpus", "tokenizer", "tokens"]
    other = corpus.spec()
    other["runtime"] = {"seed": 8}
    corpus.run(other)
    again = {path.name: path.stat().st_ino for path in (corpus.folder / "cache").iterdir()}
    assert again == folders


def test_a_damaged_token_file_is_written_again(corpus):
    reference = corpus.run(corpus.spec())
    (path,) = (corpus.folder / "cache").glob("tokens-*/train/tokens.bin")
    content = bytearray(path.read_bytes())
    content[10] ^= 0xFF
    path.write_bytes(content)
    assert weights(corpus.run(corpus.spec())) == weights(reference)


def test_held_out_rows_have_the_same_tokens_hidden_whatever_the_seed(corpus):
    losses = []
    for seed in (1, 2):
        spec = corpus.spec()
        texts = corpus.paths[CORPUS].read_text().splitlines()
        make_model_folder(corpus.folder / "bases" / "tiny", texts=texts)
        spec |= {"model": "tiny", "tokenizer": None, "objective": "masked_lm"}
        spec["runtime"] = {**spec["runtime"], "seed": seed}
        # The head is drawn by the seed: one network for both.
        if not losses:
            first = corpus.run(spec)
            corpus.models["ft:pre"] = first.folder
        events: list[Event] = []
        corpus.run(spec | {"model": "ft:pre"}, events)
        losses.append(series(events)[0, "eval/loss"])
    assert losses[0] == losses[1]


@pytest.mark.faults
def test_killed_anywhere_it_ends_with_the_same_bytes(corpus):
    """`kill -9` of the real trainer while it reads the corpus, and after a step in the middle of it."""
    spec = corpus.spec()
    reference = corpus.run(spec)
    shutil.rmtree(corpus.folder / "cache")
    seen: list[Event] = []
    for moment in (is_phase("validating"), is_step(3), None):
        child = TrainerChild()
        try:
            child.until_ready()
            child.send(corpus.assignment(spec, references(seen)))
            if moment is None:
                child.until_end()
            else:
                child.until(moment)
                child.kill()
            seen += child.seen
        finally:
            child.close()
    resumed = [event.resumed_from_step for event in seen if isinstance(event, ResolvedEvent)]
    assert resumed[-1] is not None
    assert resumed[-1] >= 2
    # A busy machine may let a child come further than asked before the signal reaches it.
    finished = [event for event in seen if isinstance(event, FinishedEvent)][-1]
    assert weights(finished) == weights(reference)
    assert finished.metrics == reference.metrics


def is_phase(name: str) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, PhaseEvent) and event.phase == name


def is_step(step: int) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, MetricsEvent) and event.step == step
