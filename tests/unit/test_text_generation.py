"""Text generation: rows in every form, which tokens are learned, pairs, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from app.adapt.losses.dpo import Dpo
from app.adapt.reader import Problems, Row
from app.adapt.tasks.text_generation.config import TextGeneration
from app.errors import InvalidData, InvalidRequest
from tests.tiny import make_base_folder

CHAT = [
    {"role": "user", "content": "who came"},
    {"role": "assistant", "content": "ada did"},
    {"role": "user", "content": "when"},
    {"role": "assistant", "content": "at ten"},
]
TEXTS = ("who came ada did when at ten", "good bad one two three four")


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return make_base_folder(tmp_path_factory.mktemp("decoder"), "decoder", texts=TEXTS)


@pytest.fixture
def tokenizer(base) -> Any:
    return AutoTokenizer.from_pretrained(base, local_files_only=True)


def parse(*values: dict[str, Any]) -> tuple[list[Any], Problems]:
    problems = Problems("rows.jsonl")
    columns = TextGeneration().resolve_columns(list(values[0]), {}, "rows.jsonl")
    rows = [Row(number, value) for number, value in enumerate(values, 1)]
    return TextGeneration().parse(rows, columns, problems), problems


@pytest.mark.parametrize(
    ("row", "form", "inputs", "answer"),
    [
        ({"messages": CHAT}, "messages", {"messages": CHAT[:-1]}, "at ten"),
        (
            {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]},
            "messages", {"messages": [{"role": "user", "content": "hi"}]}, "ho",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]},
                          {"role": "assistant", "content": "ho"}]},
            "messages", {"messages": [{"role": "user", "content": "hi"}]}, "ho",
        ),
        ({"prompt": "hi", "completion": "ho"}, "completion", {"prompt": "hi"}, "ho"),
        (
            {"instruction": "add", "input": "1 2", "output": "3"},
            "completion", {"prompt": "add\n\n1 2"}, "3",
        ),
        ({"text": "once upon"}, "text", {"text": "once upon"}, ""),
        ({"prompt": "hi", "chosen": "ho", "rejected": "no"}, "preference", {"prompt": "hi"}, "ho"),
        (
            {"conversations": [{"from": "human", "value": "hi"}],
             "chosen": {"from": "gpt", "value": "ho"}, "rejected": {"from": "gpt", "value": "no"}},
            "preference", {"messages": [{"role": "user", "content": "hi"}]}, "ho",
        ),
        (
            {"chosen": CHAT, "rejected": [*CHAT[:-1], {"role": "assistant", "content": "never"}]},
            "preference", {"messages": CHAT[:-1]}, "at ten",
        ),
    ],
)  # fmt: skip
def test_every_form_is_read(row, form, inputs, answer):
    (example,), problems = parse(row)
    assert len(problems) == 0
    assert example.inputs == inputs
    assert (example.target.form, example.target.text) == (form, answer)
    assert TextGeneration().fit([example], "rows").form == form


@pytest.mark.parametrize(
    ("row", "code", "column"),
    [
        ({"messages": []}, "wrong_messages", "messages"),
        ({"messages": [{"role": "clown", "content": "x"}]}, "wrong_messages", "messages"),
        ({"messages": [{"role": "user", "content": 7}]}, "wrong_messages", "messages"),
        ({"messages": CHAT[:1]}, "no_answer", "messages"),
        ({"prompt": "", "completion": "x"}, "empty_text", "prompt"),
        ({"prompt": "x", "completion": None}, "empty_text", "completion"),
        ({"text": " "}, "empty_text", "text"),
        ({"prompt": "x", "chosen": "a", "rejected": "a"}, "same_answers", "rejected"),
        ({"prompt": "x", "chosen": "a", "rejected": ""}, "empty_text", "rejected"),
        ({"chosen": "a", "rejected": "b"}, "no_prompt", "chosen"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_row_and_column(row, code, column):
    examples, problems = parse(row)
    assert examples == []
    (problem,) = problems.first
    assert (problem.row, problem.code, problem.column) == (1, code, column)


def test_columns_of_no_form_are_refused_with_the_forms():
    with pytest.raises(InvalidData, match="prompt and completion"):
        TextGeneration().resolve_columns(["prompt", "label"], {}, "rows.csv")


def learned(tokenizer: Any, row: dict[str, Any], max_length: int = 200) -> list[str]:
    """Return, of each sequence, what the network is to learn to write."""
    examples, _ = parse(row)
    task = TextGeneration().fit(examples, "rows")
    encoded = task.encode(tokenizer, examples, max_length)
    batch = task.network().collate(task, encoded, 0)
    assert batch.target is not None
    rows = batch.target.flatten(0, -2).tolist()
    assert sum(item.units for item in encoded) == sum(token >= 0 for r in rows for token in r) or (
        task.form == "preference"
    )
    return [tokenizer.decode([token for token in row if token >= 0]) for row in rows]


def test_of_a_chat_every_answer_is_learned_with_its_end_and_nothing_else(tokenizer):
    assert learned(tokenizer, {"messages": CHAT}) == ["ada did [SEP] at ten [SEP]"]


def test_of_a_prompt_the_answer_is_learned_and_of_a_text_all(tokenizer):
    assert learned(tokenizer, {"prompt": "who came", "completion": "ada"}) == ["ada [SEP]"]
    assert learned(tokenizer, {"text": "who came when"}) == ["who came when [SEP]"]


def test_both_answers_of_a_pair_follow_the_same_prompt(tokenizer):
    row = {"prompt": "who came", "chosen": "ada did", "rejected": "two"}
    assert learned(tokenizer, row) == ["ada did [SEP]", "two [SEP]"]


def test_a_long_prompt_loses_its_beginning_and_a_long_text_becomes_pieces(tokenizer):
    prompt = " ".join(["good"] * 50 + ["bad"])
    examples, _ = parse({"prompt": prompt, "completion": "one two"})
    (row,) = TextGeneration().encode(tokenizer, examples, 16)
    assert len(row) == row.longest == 16
    assert tokenizer.decode(row.input_ids).endswith("good bad")
    assert tokenizer.decode(row.target) == "one two [SEP]"
    examples, _ = parse({"text": " ".join(["one", "two", "three", "four"] * 10)})
    pieces = TextGeneration().encode(tokenizer, examples, 16)
    assert all(piece.longest <= 16 for piece in pieces)
    words = [token for piece in pieces for token in piece.input_ids]
    assert tokenizer.decode(words[1:]).split() == ["one", "two", "three", "four"] * 10


def test_an_own_template_is_used_in_training_and_when_asked(tokenizer):
    template = "{% for m in messages %}one {{ m['content'] }} {% endfor %}two "
    task = TextGeneration(form="messages", chat_template=template)
    asked = task.parse_input("who came", 0)
    (row,) = task.encode(tokenizer, [asked], 64)
    assert tokenizer.decode(row.input_ids) == "[CLS] one who came two"


def test_dpo_prefers_by_the_margin_over_the_reference(base, tokenizer):
    examples, _ = parse(
        {"prompt": "who came", "chosen": "ada did", "rejected": "two"},
        {"prompt": "when", "chosen": "at ten", "rejected": "three four one"},
    )
    task = TextGeneration().fit(examples, "rows")
    half = task.network()
    network = half.load(task, base).eval()
    encoded = half.annotate(task, network, task.encode(tokenizer, examples, 64), 0)
    batch = half.collate(task, encoded, 0)
    outputs = half.forward(network, batch)
    loss = Dpo(beta=0.5).compute(outputs, batch, None)
    assert loss.item() == pytest.approx(math.log(2), abs=1e-5)  # the network is its own reference
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    for _ in range(5):
        optimizer.zero_grad()
        loss = Dpo(beta=0.5).compute(half.forward(network, batch), batch, None)
        loss.backward()
        optimizer.step()
    metrics = task.metrics()
    with torch.no_grad():
        metrics.add(list(half.scores(task, half.forward(network, batch), batch)), encoded)
    assert metrics.compute()["reward_accuracy"] == 1.0
    assert metrics.compute()["reward_margin"] > 0
    assert loss.item() < math.log(2)


def test_sampling_with_a_seed_does_not_depend_on_the_neighbours(base, tokenizer):
    task = TextGeneration(form="completion")
    half = task.network()
    network = half.load(task, base).eval()
    parameters = task.parameters.model_validate(
        {"do_sample": True, "seed": 3, "max_new_tokens": 12}
    )
    asked = [task.parse_input(text, i) for i, text in enumerate(["who came", "one two three four"])]
    encoded = task.encode(tokenizer, asked, 64)
    together = half.generate(task, network, encoded, tokenizer, parameters)
    alone = [half.generate(task, network, [row], tokenizer, parameters)[0] for row in encoded]
    assert together == alone
    assert half.generate(task, network, encoded, tokenizer, parameters) == together


def test_padding_on_the_left_changes_no_answer(base, tokenizer):
    task = TextGeneration(form="completion")
    half = task.network()
    network = half.load(task, base).eval()
    parameters = task.parameters.model_validate({"max_new_tokens": 12})
    asked = [task.parse_input(text, i) for i, text in enumerate(["who", "one two three four"])]
    encoded = task.encode(tokenizer, asked, 64)
    together = half.generate(task, network, encoded, tokenizer, parameters)
    alone = [half.generate(task, network, [row], tokenizer, parameters)[0] for row in encoded]
    assert together == alone


@pytest.mark.parametrize("value", ["", 7, {"words": "x"}, {"messages": [{"role": "x"}]}, []])
def test_an_input_that_is_none_is_refused_by_its_place(value):
    with pytest.raises(InvalidRequest) as caught:
        TextGeneration().parse_input(value, 2)
    assert caught.value.param == "inputs.2"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ raise_exception('a system message is needed first') }}", "a system message is needed"),
        ("{% for m in messages %}{{ m.content }}", "refuses the messages"),
    ],
)
def test_a_template_that_refuses_is_named_with_the_row(tokenizer, template, words):
    task = TextGeneration(form="messages", chat_template=template)
    examples, _ = parse({"messages": CHAT})
    with pytest.raises(InvalidRequest, match=words) as caught:
        task.encode(tokenizer, examples, 64)
    assert (caught.value.error_code, caught.value.details["row"]) == ("chat_template", 1)
    asked = task.parse_input({"messages": CHAT[:1]}, 0)
    with pytest.raises(InvalidRequest, match=words) as caught:
        task.encode(tokenizer, [asked], 64)
    assert caught.value.param == "inputs.0"
