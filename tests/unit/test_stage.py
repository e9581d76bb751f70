"""A stage with a teacher: what losses are given, what they learn, what is refused in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from transformers import AutoTokenizer

from app.adapt.layers.internals import forward
from app.adapt.loss import Loss, internals
from app.adapt.outputs import Batch, Encoded, Outputs
from app.adapt.plugins import TASKS, AnyLoss
from app.adapt.task import Example, Task
from app.adapt.tasks.text_generation.data import Answer
from app.adapt.tasks.token_classification.data import Marked
from app.adapt.tasks.token_classification.words import Span
from app.errors import InvalidSpec
from tests.tiny import TEXTS, make_base_folder, make_model_folder
from workers.recipes.objective import check_objective, with_learned
from workers.training.evaluate import Stage, evaluate, units

LOSSES: TypeAdapter[list[Loss]] = TypeAdapter(list[AnyLoss])
NER = {"kind": "token-classification", "entities": ["X"]}
CLASSES = {"kind": "text-classification", "problem": "single_label", "labels": ["bad", "good"]}
NUMBERS = {"kind": "text-classification", "problem": "regression"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Any]:
    """A student of two blocks, and a teacher of three that are wider; one vocabulary."""
    root = tmp_path_factory.mktemp("models")
    return {
        "student": make_model_folder(root / "student"),
        "teacher": make_model_folder(root / "teacher", hidden=48, layers=3, seed=1),
    }


def make_stage(folders: dict[str, Any], task: Task, losses: Sequence[Any], *, deep=True) -> Stage:
    """Return a student's stage; a teacher that is not `deep` is as wide as its student."""
    half = task.network()
    student = half.load(task, folders["student"]).train()
    torch.manual_seed(5)
    teacher = half.load(task, folders["teacher" if deep else "student"]).eval()
    parsed = LOSSES.validate_python(list(losses))

    @torch.no_grad()
    def teach(items: Sequence[Encoded], batch: Batch) -> Outputs:
        del items
        return forward(half, teacher, batch, internals(parsed))

    return Stage(
        task=task,
        network=student,
        losses=parsed,
        tokenizer=AutoTokenizer.from_pretrained(folders["student"], local_files_only=True),
        pad_id=0,
        device=torch.device("cpu"),
        precision="fp32",
        teach=teach,
    )


def rows(stage: Stage, target: Any = None) -> list[Encoded]:
    """Return a row for each text, without targets unless there is one for all."""
    examples = [Example(row, {"text": text}, target) for row, text in enumerate(TEXTS)]
    return stage.task.encode(stage.tokenizer, examples, 64)


def task(config: dict[str, Any]) -> Task:
    return TASKS[config["kind"]].model_validate(config)


EVERY_LAYER = ["hidden_mse", "hidden_cosine", "attention_transfer", "minilm_relations"]


def test_all_that_reads_the_inside_trains_student_and_projections(folders):
    stage = make_stage(folders, task(CLASSES), ["kl_divergence", *EVERY_LAYER])
    items = rows(stage)
    stage = with_learned(stage, items, seed=3)
    shapes = {name: tuple(p.shape) for name, p in stage.learned.named_parameters()}
    assert shapes == {
        "1.maps.0.weight": (48, 32),
        "1.maps.1.weight": (48, 32),
        "1.maps.2.weight": (48, 32),
        "2.maps.2.weight": (48, 32),
    }
    parameters = [*stage.network.parameters(), *stage.learned.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=3e-3)
    values = []
    for _ in range(15):
        optimizer.zero_grad()
        _, _, loss = stage.run(items)
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert all(p.grad is not None for p in stage.learned.parameters())
    assert sum(values[-3:]) < 0.8 * sum(values[:3])


def test_what_is_learned_comes_from_the_seed_alone(folders):
    stage = make_stage(folders, task(CLASSES), ["hidden_mse"])
    first, again, other = (
        with_learned(stage, rows(stage), seed=seed).learned.state_dict() for seed in (3, 3, 4)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)
    stage.network.eval()
    before = torch.get_rng_state()
    with_learned(stage, rows(stage), seed=3)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("target", [None, Marked((Span(0, 3, "X"),))])
def test_parts_weighted_by_their_targets_make_the_whole(folders, target):
    """Of rows without targets too: each stands for the tokens that it would have an answer for."""
    names = ["kl_divergence", "reverse_kl", "jensen_shannon", "logit_mse", *EVERY_LAYER]
    stage = make_stage(folders, task(NER), names)
    stage.network.eval()
    items = rows(stage, target)
    stage = with_learned(stage, items, seed=0)
    assert len({item.units for item in items}) > 1
    with torch.no_grad():
        whole = stage.run(items)[2]
        parts = [items[:2], items[2:]]
        summed = sum(stage.run(part)[2] * units(part) for part in parts) / units(items)
    torch.testing.assert_close(whole, summed)


def test_a_teacher_may_read_packed_rows(tmp_path):
    """Rows that hold several examples count by the targets that they hold."""
    base = make_base_folder(tmp_path, "decoder")
    config = {"kind": "text-generation", "form": "text"}
    names = ["kl_divergence", "jensen_shannon", "logit_mse"]
    stage = make_stage({"student": base, "teacher": base}, task(config), names)
    with torch.no_grad():
        for parameter in stage.network.parameters():
            parameter.mul_(0.9)  # a student that is not its teacher
    stage.network.eval()
    texts = ["where is my transfer", "a dull plot", "the film", TEXTS[0], "good bad", "my card was"]
    examples = [Example(n, {"text": text}, Answer("text")) for n, text in enumerate(texts)]
    items = stage.task.encode(stage.tokenizer, examples, 64)
    with torch.no_grad():
        padded, _, expected = stage.run(items)
        packed, _, loss = stage.run(items, packs=True)
    assert len(packed.input_ids_BT) < len(padded.input_ids_BT)
    assert expected > 0
    torch.testing.assert_close(loss, expected)


def test_an_evaluation_has_a_teacher_too_and_ends_where_schedules_end(folders):
    losses = [
        {"kind": "kl_divergence", "weight": {"start": 0, "end": 2}, "temperature": 2},
        {"kind": "hidden_mse", "weight": {"start": 1, "end": 0}},
    ]
    stage = make_stage(folders, task(CLASSES), losses)
    stage.network.eval()
    items = rows(stage, target="good")
    stage = with_learned(stage, items, seed=0)
    alone = replace(stage, losses=LOSSES.validate_python([{**losses[0], "weight": 2}]))
    with torch.no_grad():
        expected = alone.run(items)[2]
        torch.testing.assert_close(stage.run(items)[2], expected)
        half_way = stage.run(items, fraction=0.5)[2]
        hidden = replace(stage, losses=LOSSES.validate_python(["hidden_mse"]))
        hidden = with_learned(hidden, items, seed=0)
        hidden.learned["0"].load_state_dict(stage.learned["1"].state_dict())
        torch.testing.assert_close(half_way, expected / 2 + hidden.run(items)[2] / 2)
    assert evaluate(stage, items, 10_000).metrics["loss"] == pytest.approx(expected.item())


def test_a_student_that_is_its_teacher_has_nothing_to_learn(folders):
    stage = make_stage(folders, task(CLASSES), [*EVERY_LAYER], deep=False)
    stage.network.eval()
    items = rows(stage)
    stage = with_learned(stage, items, seed=0)
    assert len(stage.learned) == 0
    with torch.no_grad():
        assert stage.run(items)[2].item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("loss", "param", "words"),
    [
        ({"kind": "hidden_mse", "layers": [[1, 4]]}, "losses.1.layers", "the teacher 0 to 3"),
        ({"kind": "attention_transfer", "layers": [[3, 3]]}, "losses.1.layers", "layers 1 to 2"),
        ({"kind": "minilm_relations", "layers": [[0, 1]]}, "losses.1.layers", "layers 1 to 2"),
        ({"kind": "minilm_relations", "relation_heads": 3}, "losses.1.relation_heads", "divide 16"),
    ],
)
def test_a_loss_that_does_not_fit_the_networks_is_refused_by_its_field(folders, loss, param, words):
    stage = make_stage(folders, task(CLASSES), ["kl_divergence", loss])
    with pytest.raises(InvalidSpec, match=words) as caught:
        with_learned(stage, rows(stage), seed=0)
    assert caught.value.param == param
    assert caught.value.message.startswith(f"{param}: ")


@pytest.mark.parametrize(
    ("config", "kind", "words"),
    [
        (NUMBERS, "kl_divergence", "compares distributions"),
        (NUMBERS, "jensen_shannon", "compares distributions"),
        (CLASSES, "embedding_cosine", "compares the vectors of texts"),
        (CLASSES, "contrastive_distillation", "compares the vectors of texts"),
    ],
)
def test_a_loss_that_does_not_fit_the_task_is_refused(folders, config, kind, words):
    stage = make_stage(folders, task(config), [kind])
    with pytest.raises(InvalidSpec, match=words) as caught:
        check_objective(stage, rows(stage))
    assert caught.value.param == "losses"


def test_what_logits_are_is_said_by_the_task(folders):
    labels = {**CLASSES, "problem": "multi_label"}
    for config, answer in ((CLASSES, "class"), (NUMBERS, "number"), (labels, "labels")):
        stage = make_stage(folders, task(config), ["logit_mse"])
        _, outputs, loss = stage.run(rows(stage))
        assert outputs.answer == answer
        assert loss.isfinite()
