"""Every task, from its own example.jsonl: rows in, a trained step, answers out."""

from __future__ import annotations

import importlib
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from app.adapt.layers.internals import forward
from app.adapt.plugins import LOSSES, TASKS
from app.adapt.reader import Problems, Row
from app.adapt.task import Example, Task
from tests.tiny import make_base_folder

MAX_LENGTH = 64
KINDS = TASKS.kinds


def example_rows(kind: str) -> list[Row]:
    module = importlib.import_module(TASKS[kind].__module__)
    path = Path(str(module.__file__)).with_name("example.jsonl")
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Row(number, json.loads(line)) for number, line in enumerate(lines, start=1)]


@pytest.fixture(scope="module", params=KINDS)
def parsed(request) -> tuple[Task, list[Example]]:
    task = TASKS[request.param].model_validate({"kind": request.param})
    rows = example_rows(request.param)
    problems = Problems("example.jsonl")
    columns = task.resolve_columns(list(rows[0].values), {}, "example.jsonl")
    examples = task.parse(rows, columns, problems)
    assert problems.to_dict()["first"] == []
    assert len(examples) == len(rows)
    return task.fit(examples, "example.jsonl"), examples


@pytest.fixture(scope="module")
def base(parsed, tmp_path_factory) -> Path:
    task, examples = parsed
    texts = [text for example in examples for text in task.texts(example)]
    return make_base_folder(tmp_path_factory.mktemp("base"), task.architecture, texts=texts)


@pytest.fixture(scope="module")
def tokenizer(base) -> Any:
    return AutoTokenizer.from_pretrained(base, local_files_only=True)


def test_a_fitted_task_survives_json(parsed):
    task, examples = parsed
    assert type(task).model_validate_json(task.model_dump_json()) == task
    assert task.fit(examples, "example.jsonl") == task


def test_every_example_fits_and_is_described(parsed):
    task, examples = parsed
    problems = Problems("example.jsonl")
    assert task.check(examples, problems) == examples
    assert len(problems) == 0
    report = task.report(len(examples), examples)
    assert (report.rows, report.usable) == (len(examples), len(examples))
    json.dumps(report.statistics, allow_nan=False)


def test_one_step_trains_it(parsed, base, tokenizer):
    task, examples = parsed
    half = task.network()
    network = half.load(task, base)
    encoded = task.encode(tokenizer, examples, MAX_LENGTH)
    batch = half.collate(task, encoded, tokenizer.pad_token_id)
    losses = [LOSSES[spec["kind"]].model_validate(spec) for spec in task.default_losses()]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    values = []
    for _ in range(2):
        optimizer.zero_grad()
        outputs = half.forward(network.eval(), batch)
        loss = torch.stack([term.compute(outputs, batch, None) for term in losses]).sum()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert math.isfinite(values[0])
    assert values[1] < values[0]
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_padding_changes_nothing(parsed, base, tokenizer):
    task, examples = parsed
    half = task.network()
    network = half.load(task, base).eval()
    encoded = task.encode(tokenizer, examples, MAX_LENGTH)
    with torch.inference_mode():
        together = half.forward(network, half.collate(task, encoded, tokenizer.pad_token_id)).logits
        for row, item in enumerate(encoded):
            alone = half.forward(network, half.collate(task, [item], tokenizer.pad_token_id)).logits
            expected = together[row : row + 1]
            if expected.ndim == 3:  # one prediction a token
                expected = expected[:, : alone.shape[1]]
            torch.testing.assert_close(alone, expected, atol=1e-4, rtol=1e-4)


def test_sharing_rows_changes_no_loss(parsed, base, tokenizer):
    task, examples = parsed
    half = task.network()
    encoded = task.encode(tokenizer, examples, MAX_LENGTH)
    if not task.packs():
        with pytest.raises(NotImplementedError):
            half.pack(task, encoded, tokenizer.pad_token_id)
        return
    network = half.load(task, base).eval()
    encoded += task.encode(tokenizer, examples, MAX_LENGTH // 4)  # some fit beside each other
    batches = [make(task, encoded, tokenizer.pad_token_id) for make in (half.collate, half.pack)]
    assert batches[1].input_ids_BT.numel() < batches[0].input_ids_BT.numel()
    losses = [LOSSES[spec["kind"]].model_validate(spec) for spec in task.default_losses()]
    with torch.inference_mode():
        padded, packed = (
            torch.stack([term.compute(half.forward(network, b), b, None) for term in losses])
            for b in batches
        )
    torch.testing.assert_close(packed, padded, atol=1e-5, rtol=1e-5)


def test_its_inside_can_be_read(parsed, base, tokenizer):
    """What losses of a teacher rely on, of any task and without its help."""
    task, examples = parsed
    half = task.network()
    network = half.load(task, base).eval()
    encoded = task.encode(tokenizer, examples, MAX_LENGTH)
    batch = half.collate(task, encoded, tokenizer.pad_token_id)
    plain = half.forward(network, batch)
    outputs = forward(half, network, batch, {"hidden", "attentions", "relations"})
    torch.testing.assert_close(outputs.logits, plain.logits, atol=1e-4, rtol=1e-4)
    assert outputs.answer == plain.answer
    shape = tuple(batch.mask_BT.shape)
    assert [tuple(state.shape[:2]) for state in outputs.hidden] == [shape] * 3
    assert [tuple(layer.shape) for layer in outputs.attentions] == [
        (shape[0], 2, shape[1], shape[1])
    ] * 2
    assert [tuple(part.shape[:2]) for block in outputs.relations for part in block] == [shape] * 6
    again = half.forward(network, batch)
    torch.testing.assert_close(again.logits, plain.logits, atol=0, rtol=0)


def test_metrics_judge_and_answers_are_json(parsed, base, tokenizer):
    task, examples = parsed
    half = task.network()
    network = half.load(task, base).eval()
    encoded = task.encode(tokenizer, examples, MAX_LENGTH)
    batch = half.collate(task, encoded, tokenizer.pad_token_id)
    with torch.inference_mode():
        scores = half.scores(task, half.forward(network, batch), batch)
    whole, in_parts = task.metrics(), task.metrics()
    whole.add(scores, encoded)
    for row, item in zip(scores, encoded, strict=True):
        in_parts.add([row], [item])
    count, parameters = task.generation(final=True)
    if count:
        with torch.inference_mode():
            answers = half.generate(task, network, encoded, tokenizer, parameters)
        whole.add_generated(answers, encoded)
        for answer, item in zip(answers, encoded, strict=True):
            in_parts.add_generated([answer], [item])
    assert whole.compute() == in_parts.compute()
    assert task.primary_metric()[0] in whole.compute()
    assert all(low <= high for low, high in whole.intervals().values())
    json.dumps([whole.compute(), whole.details(), whole.intervals()], allow_nan=False)
    json.dumps(task.metrics().compute(), allow_nan=False)  # of nothing
    assert task.metrics().intervals() == {}


def test_every_input_has_one_answer_that_is_json(parsed, base, tokenizer):
    task, examples = parsed
    half = task.network()
    network = half.load(task, base).eval()
    asked = [replace(example, target=None) for example in examples]
    encoded = task.encode(tokenizer, asked, MAX_LENGTH)
    assert sorted({item.example for item in encoded}) == list(range(len(examples)))
    parameters = type(task).parameters.model_validate(task.default_parameters())
    with torch.inference_mode():
        if task.generates:
            raw = half.generate(task, network, encoded, tokenizer, parameters)
        else:
            batch = half.collate(task, encoded, tokenizer.pad_token_id)
            raw = half.scores(task, half.forward(network, batch), batch)
    for index in range(len(examples)):
        rows = [
            (row, item) for row, item in zip(raw, encoded, strict=True) if item.example == index
        ]
        answers = [task.decode(row, item, parameters) for row, item in rows]
        json.dumps(task.merge(answers, parameters), allow_nan=False)


def test_predict_inputs_become_the_same_tokens(parsed, tokenizer):
    task, examples = parsed
    for index, example in enumerate(examples):
        inputs = dict(example.inputs)
        value = inputs if len(inputs) > 1 else next(iter(inputs.values()))
        asked = task.parse_input(value, index)
        assert asked.target is None
        (trained,) = task.encode(tokenizer, [example], MAX_LENGTH)
        (served,) = task.encode(tokenizer, [replace(asked, row=example.row)], MAX_LENGTH)
        assert served.input_ids == trained.input_ids
        assert served.target is None


def test_what_is_saved_is_what_is_loaded(parsed, base, tokenizer, tmp_path):
    task, examples = parsed
    half = task.network()
    network = half.load(task, base).eval()
    half.save(network, tmp_path)
    again = half.load(task, tmp_path).eval()
    batch = half.collate(task, task.encode(tokenizer, examples, MAX_LENGTH), 0)
    with torch.inference_mode():
        first, second = half.forward(network, batch), half.forward(again, batch)
    np.testing.assert_array_equal(first.logits.numpy(), second.logits.numpy())


def test_fresh_weights_are_not_the_base_models(parsed, base):
    task, _ = parsed
    half = task.network()
    torch.manual_seed(1)  # the base was drawn from 0
    kept, fresh = half.load(task, base), half.load(task, base, fresh=True)
    assert [p.shape for p in kept.parameters()] == [p.shape for p in fresh.parameters()]
    pairs = zip(kept.parameters(), fresh.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)


def test_configs_import_without_torch():
    modules = sorted({TASKS[kind].__module__ for kind in KINDS} | {"app.adapt.plugins"})
    script = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "assert not {'torch', 'transformers'} & sys.modules.keys()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
