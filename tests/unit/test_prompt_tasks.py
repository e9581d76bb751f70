"""Soft prompts in every task: where an encoding has them, and that no answer does."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer, pipeline

from app.adapt.generation import GenerationParameters
from app.adapt.outputs import Encoded
from app.adapt.plugins import LOSSES, METHODS, TASKS
from app.adapt.reader import Problems
from app.adapt.soft_prompt import CONFIG_KEY, prompt_ids
from app.adapt.task import Example, Task
from app.adapt.tasks.text_generation.data import Answer
from tests.conformance.test_tasks import example_rows
from tests.tiny import make_base_folder

SIZE = 4
METHOD = METHODS["prompt"].model_validate({"num_tokens": SIZE})


class Case:
    """A task with its examples, a network with a prompt that is not where it began, both tokenizers."""

    def __init__(self, kind: str, folder: Path, spare_rows: int = 0) -> None:
        task = TASKS[kind].model_validate({"kind": kind})
        rows = example_rows(kind)
        columns = task.resolve_columns(list(rows[0].values), {}, "example.jsonl")
        self.examples = task.parse(rows, columns, Problems("example.jsonl"))
        self.task: Task = task.fit(self.examples, "example.jsonl")
        texts = [text for example in self.examples for text in self.task.texts(example)]
        make_base_folder(folder, self.task.architecture, texts=texts)
        self.base: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        torch.manual_seed(0)
        self.half: Any = self.task.network()
        self.network: Any = self.half.load(self.task, folder).eval()
        if spare_rows:
            self.network.resize_token_embeddings(len(self.base) + spare_rows)
        self.tokenizer: Any = METHOD.extend_tokenizer(self.base, self.network)
        METHOD.prepare(self.network)
        with torch.no_grad():
            for name, parameter in self.network.named_parameters():
                if name.endswith(".rows"):
                    parameter.add_(torch.randn_like(parameter) * 5)

    @property
    def ids(self) -> list[int]:
        return prompt_ids(self.tokenizer)

    def encode(self, length: int = 64) -> list[Encoded]:
        return self.task.encode(self.tokenizer, self.examples, length)

    def outputs(self, network: nn.Module, items: list[Encoded] | None = None) -> Any:
        with torch.no_grad():
            batch = self.half.collate(
                self.task, items or self.encode(), self.tokenizer.pad_token_id
            )
            return self.half.forward(network, batch), batch


@pytest.fixture(scope="module", params=TASKS.kinds)
def case(request, tmp_path_factory) -> Case:
    return Case(request.param, tmp_path_factory.mktemp("base"))


def made(kind: str, folder: Path, **options: Any) -> Case:
    return Case(kind, folder / "base", **options)


def test_every_row_begins_with_it_and_is_otherwise_as_before(case):
    for length in (64, 24):
        rows = case.encode(length)
        assert all(item.longest <= length for item in rows)
        for item in rows:
            start = item.input_ids.index(case.ids[0])
            assert start <= 1
            assert item.input_ids[start : start + SIZE] == case.ids
            assert sum(token in case.ids for token in item.input_ids) == SIZE
    before = case.task.encode(case.base, case.examples, 64 - SIZE)
    for item, plain in zip(case.encode(), before, strict=True):
        assert [t for t in item.input_ids if t not in case.ids] == plain.input_ids
        assert item.units == plain.units


def test_a_step_lowers_the_loss_through_the_prompt(case):
    losses = [LOSSES[spec["kind"]].model_validate(spec) for spec in case.task.default_losses()]
    rows = next(p for name, p in case.network.named_parameters() if name.endswith(".rows"))
    batch = case.half.collate(case.task, case.encode(), case.tokenizer.pad_token_id)
    start = rows.detach().clone()
    values = []
    for _ in range(2):
        rows.grad = None
        outputs = case.half.forward(case.network, batch)
        loss = torch.stack([term.compute(outputs, batch, None) for term in losses]).sum()
        loss.backward()
        values.append(loss.item())
        with torch.no_grad():
            rows -= 1e-3 * rows.grad / rows.grad.norm()
    with torch.no_grad():
        rows.copy_(start)
    assert values[1] < values[0]


def test_the_finished_folder_says_what_was_trained(case, tmp_path):
    """Scores are the same before and after the merge, and of the folder that is loaded."""
    items = case.encode()
    outputs, batch = case.outputs(case.network, items)
    trained = case.half.scores(case.task, outputs, batch)
    finished = METHOD.finish(copy.deepcopy(case.network))
    case.half.save(finished, tmp_path)
    case.tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    again = case.task.encode(loaded, case.examples, 64)
    assert [item.input_ids for item in again] == [item.input_ids for item in items]
    for network in (finished, case.half.load(case.task, tmp_path).eval()):
        outputs, batch = case.outputs(network, items)
        found = case.half.scores(case.task, outputs, batch)
        for expected, given in zip(trained, found, strict=True):
            torch.testing.assert_close(torch.as_tensor(given), torch.as_tensor(expected))


# --- language models ---


def generation_case(folder: Path, *, is_tied: bool) -> Case:
    case = made("text-generation", folder)
    if is_tied:
        case.network.lm_head.weight = case.network.get_input_embeddings().base.weight
        case.network.config.tie_word_embeddings = True
    return case


@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize("beams", [1, 4])
def test_what_is_written_never_has_it_and_is_the_same_without_our_code(tmp_path, is_tied, beams):
    case = generation_case(tmp_path, is_tied=is_tied)
    asked = [Example(0, {"prompt": "the bridge"}), Example(1, {"prompt": "who"})]
    rows = case.task.encode(case.tokenizer, asked, 64)
    parameters = GenerationParameters(max_new_tokens=12, num_beams=beams)
    written = case.half.generate(case.task, case.network, rows, case.tokenizer, parameters)
    finished = METHOD.finish(case.network)
    case.half.save(finished, tmp_path / "made")
    case.tokenizer.save_pretrained(tmp_path / "made")
    network: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "made").eval()
    assert (network.lm_head.weight[case.ids] == 0).all() != is_tied
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path / "made")
    for row, (answer,) in zip(rows, written, strict=True):
        assert set(answer.token_ids).isdisjoint(case.ids)
        ids = tokenizer("the bridge" if row.row == 0 else "who", return_tensors="pt")["input_ids"]
        ids = ids[:, :-1]  # this tokenizer is an encoder's and ends a text
        assert ids[0].tolist() == row.input_ids
        plain = network.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, num_beams=beams
        )[0, len(row.input_ids) :].tolist()
        assert plain[: len(answer.token_ids)] == answer.token_ids
        assert set(plain).isdisjoint(case.ids)


def test_spare_rows_of_a_padded_matrix_are_used(tmp_path):
    for spare, longer in ((SIZE + 3, 0), (SIZE, 0), (SIZE - 1, 1)):
        case = made("text-generation", tmp_path / str(spare), spare_rows=spare)
        (before, _), rows = case.outputs(case.network), case.network.config.vocab_size
        finished = METHOD.finish(case.network)
        after, _ = case.outputs(finished)
        assert finished.config.vocab_size == rows + longer == after.logits.shape[-1]
        torch.testing.assert_close(after.logits[..., :rows], before.logits)


def test_a_long_prompt_loses_its_middle_and_the_answer_is_learned(tmp_path):
    case = made("text-generation", tmp_path)
    example = Example(0, {"prompt": "the bridge " * 40}, Answer("completion", "is closed"))
    (row,) = case.task.encode(case.tokenizer, [example], 32)
    assert row.longest == 32
    assert row.input_ids[1 : SIZE + 1] == case.ids
    (asked,) = case.task.encode(case.tokenizer, [Example(0, example.inputs)], 32)
    assert len(asked.input_ids) == 32
    assert asked.input_ids[1 : SIZE + 1] == case.ids
    plain = case.base("the bridge " * 40, add_special_tokens=False)["input_ids"]
    assert asked.input_ids[SIZE + 1 :] == plain[-(32 - SIZE - 1) :]


def test_each_piece_of_a_long_text_has_it_and_does_not_learn_it(tmp_path):
    case = made("text-generation", tmp_path)
    text = "the bridge is closed " * 20
    task = case.task.model_copy(update={"form": "text"})
    rows = task.encode(case.tokenizer, [Example(0, {"text": text}, Answer("text"))], 24)
    assert len(rows) > 2
    words = []
    for row in rows:
        assert row.input_ids[1 : SIZE + 1] == case.ids
        learned = row.extra["learned"]
        assert learned == [False] * (SIZE + 1) + [True] * (len(row.input_ids) - SIZE - 1)
        words += row.input_ids[SIZE + 1 :]
    assert words == case.base(text, add_special_tokens=False)["input_ids"]
    batch = case.half.collate(task, rows, case.tokenizer.pad_token_id)
    assert not set(batch.target.flatten().tolist()) & set(case.ids)
    assert int((batch.target != -100).sum()) == sum(row.units for row in rows)


def test_a_chat_has_it_once(tmp_path):
    case = made("text-generation", tmp_path)
    chat = [{"role": "user", "content": "who"}, {"role": "assistant", "content": "ada"},
            {"role": "user", "content": "when"}]  # fmt: skip
    (asked,) = case.task.encode(case.tokenizer, [Example(0, {"messages": chat})], 64)
    assert [t for t in asked.input_ids if t in case.ids] == case.ids
    ours = case.tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
    assert asked.input_ids == [case.tokenizer.bos_token_id, *ours]
    example = Example(0, {"messages": chat}, Answer("messages", "at ten"))
    (row,) = case.task.encode(case.tokenizer, [example], 64)
    learned = [t for t, wanted in zip(row.input_ids, row.extra["learned"], strict=True) if wanted]
    assert set(learned).isdisjoint(case.ids)
    assert "ada" in case.tokenizer.decode(learned)


def test_targets_are_without_it(tmp_path):
    case = made("translation", tmp_path)
    before = case.task.encode(case.base, case.examples, 24)
    for row, plain in zip(case.encode(24), before, strict=True):
        assert row.target == plain.target


def test_an_output_matrix_that_is_not_tied_stays_as_it_was(tmp_path):
    """T5 1.1's config calls it tied; resizing with transformers would tie it."""
    case = made("summarization", tmp_path)
    head = case.network.lm_head
    head.weight = nn.Parameter(torch.randn_like(head.weight))
    kept = head.weight.detach().clone()
    (outputs, _), finished = case.outputs(case.network), METHOD.finish(case.network)
    after, _ = case.outputs(finished)
    assert torch.equal(finished.lm_head.weight[: len(kept)], kept)
    torch.testing.assert_close(after.logits[..., : len(kept)], outputs.logits)
    assert after.logits[..., case.ids].max() == torch.finfo(torch.float32).min
    assert finished.generation_config.suppress_tokens == case.ids


def test_a_mask_is_never_filled_with_it(tmp_path):
    case = made("fill-mask", tmp_path)
    finished = METHOD.finish(case.network)
    case.half.save(finished, tmp_path / "made")
    case.tokenizer.save_pretrained(tmp_path / "made")
    network: Any = AutoModelForMaskedLM.from_pretrained(tmp_path / "made")
    assert getattr(network.config, CONFIG_KEY) == case.ids
    fill = pipeline(
        "fill-mask", model=network, tokenizer=AutoTokenizer.from_pretrained(tmp_path / "made")
    )
    answers = fill("the [MASK] is closed", top_k=len(case.tokenizer))
    assert {a["token"] for a in answers if a["score"] > 0}.isdisjoint(case.ids)
    assert sum(a["score"] for a in answers) == pytest.approx(1, abs=1e-3)


def test_words_are_hidden_as_without_it_and_it_never_is(tmp_path):
    case = made("fill-mask", tmp_path)
    before = case.task.encode(case.base, case.examples, 64 - SIZE)
    with torch.no_grad():
        plain = case.half.collate(case.task, before, 0)
        batch = case.half.collate(case.task, case.encode(), 0)
    assert torch.equal(batch.target[:, SIZE + 1 :], plain.target[:, 1:])
    assert torch.equal(batch.input_ids_BT[:, SIZE + 1 :], plain.input_ids_BT[:, 1:])
    torch.manual_seed(0)
    for _ in range(50):
        drawn = case.half.collate(case.task, case.encode(), 0)
        assert sum(int((drawn.input_ids_BT == token).sum()) for token in case.ids) == SIZE * len(
            case.encode()
        )


# --- positions ---


def test_answers_and_tags_are_where_they_were(tmp_path):
    for kind, key in (("question-answering", "offsets"), ("token-classification", "pieces")):
        case = made(kind, tmp_path / kind)
        before = case.task.encode(case.base, case.examples, 64 - SIZE)
        for row, plain in zip(case.encode(), before, strict=True):
            if key == "offsets":
                moved = [None] * SIZE + plain.extra[key]
                assert row.extra[key] == moved
                assert row.target == tuple(at and at + SIZE for at in plain.target)
            else:
                assert list(row.extra[key]) == [at + SIZE for at in plain.extra[key]]
                assert row.target == [plain.target[0], *[-100] * SIZE, *plain.target[1:]]


def test_windows_of_a_long_context_each_have_it(tmp_path):
    case = made("question-answering", tmp_path)
    context = "the bridge was closed on monday because of the flood and will open again on friday"
    asked = Example(0, {"question": "when", "context": f"{context}. {context}. {context}."})
    rows = case.task.encode(case.tokenizer, [asked], 32)
    assert len(rows) > 1
    assert all(row.input_ids[1 : SIZE + 1] == case.ids for row in rows)
    assert all(len(row.input_ids) <= 32 for row in rows)


def test_sentence_transformers_counts_it_into_the_mean_as_we_do(tmp_path):
    from sentence_transformers import SentenceTransformer

    case = made("sentence-similarity", tmp_path)
    finished = METHOD.finish(case.network)
    case.half.save(finished, tmp_path / "made")
    case.tokenizer.save_pretrained(tmp_path / "made")
    texts = ["the bridge is closed", "tea"]
    rows = [
        row
        for text in texts
        for row in case.task.encode(case.tokenizer, [case.task.parse_input(text, 0)], 64)
    ]
    outputs, _ = case.outputs(finished, rows)
    theirs = SentenceTransformer(str(tmp_path / "made"), device="cpu").encode(texts)
    torch.testing.assert_close(torch.as_tensor(theirs), outputs.logits[:, 0], atol=1e-4, rtol=1e-4)
