"""Soft prompts: where their tokens are, what trains, and that a finished folder needs none of our code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BartConfig,
    BartForConditionalGeneration,
    ByT5Tokenizer,
    GPT2Config,
    GPT2Tokenizer,
    MBartConfig,
    MBartTokenizer,
    ModernBertConfig,
    ModernBertForMaskedLM,
    RobertaConfig,
    RobertaTokenizer,
    T5Config,
    T5Tokenizer,
    pipeline,
)

from app.adapt.layers.prompt import PromptEmbedding
from app.adapt.layers.prompt_tokens import extended
from app.adapt.method import Method
from app.adapt.plugins import METHODS
from app.adapt.soft_prompt import prompt_ids, with_prompt
from app.adapt.task import Example
from app.adapt.tasks.text_classification.config import TextClassification
from app.errors import InvalidSpec
from app.spec.optimization import Optimization
from tests.tiny import TEXTS, make_model_folder
from workers.protocol import CheckpointRef
from workers.training import checkpoint
from workers.training.optim import make_optimizer
from workers.training.report import Report
from workers.training.state import TrainState

TASK = TextClassification(problem="single_label", labels=["a", "b"], pair=False)
SIZE = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_model_folder(tmp_path_factory.mktemp("base"))


@pytest.fixture
def tokenizer(folder) -> Any:
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def method(**options: Any) -> Method:
    return METHODS["prompt"].model_validate({"num_tokens": SIZE, **options})


def prepared(folder: Path, seed: int = 0, **options: Any) -> tuple[Any, Any]:
    """Return a network with a soft prompt and its tokenizer."""
    torch.manual_seed(seed)
    network = TASK.network().load(TASK, folder).eval()
    base: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    tokenizer = method(**options).extend_tokenizer(base, network)
    return method(**options).prepare(network), tokenizer


def rows_of(network: nn.Module) -> nn.Parameter:
    return next(m.rows for m in network.modules() if isinstance(m, PromptEmbedding))


def logits_of(network: nn.Module, tokenizer: Any) -> torch.Tensor:
    half = TASK.network()
    items = TASK.encode(tokenizer, [Example(0, {"text": text}) for text in TEXTS], 64)
    with torch.no_grad():
        return half.forward(network, half.collate(TASK, items, tokenizer.pad_token_id)).logits


# --- tokens ---


def test_the_prompt_stands_between_the_start_token_and_the_text(folder, tokenizer):
    _, extended_one = prepared(folder)
    ids = prompt_ids(extended_one)
    assert ids == list(range(len(tokenizer), len(tokenizer) + SIZE))
    batch = extended_one("good film", return_offsets_mapping=True, return_special_tokens_mask=True)
    start, *rest = tokenizer("good film")["input_ids"]
    assert batch["input_ids"] == [start, *ids, *rest]
    assert batch["special_tokens_mask"][: SIZE + 1] == [1] * (SIZE + 1)
    assert batch["offset_mapping"][: SIZE + 1] == [(0, 0)] * (SIZE + 1)
    assert batch.word_ids()[: SIZE + 1] == [None] * (SIZE + 1)
    assert set(ids) <= set(extended_one.all_special_ids)
    assert extended_one.decode(batch["input_ids"], skip_special_tokens=True) == "good film"
    assert prompt_ids(tokenizer) == [], "the given tokenizer stays as it is"


def test_a_pair_has_it_once_and_what_is_cut_is_the_text(folder, tokenizer):
    _, extended_one = prepared(folder)
    ids = prompt_ids(extended_one)
    pair = extended_one("good film", "a dull plot")
    start, *rest = tokenizer("good film", "a dull plot")["input_ids"]
    assert pair["input_ids"] == [start, *ids, *rest]
    assert pair["token_type_ids"].count(1) == tokenizer("good film", "a dull plot")[
        "token_type_ids"
    ].count(1)
    cut = extended_one(TEXTS[0], truncation=True, max_length=8)["input_ids"]
    assert len(cut) == 8
    assert cut[: SIZE + 1] == [start, *ids]


BYTES = "abcdefghijklmnopqrstuvwxyzĠĊ.,ÃłŒ"
BPE = {name: at for at, name in enumerate(("<s>", "<pad>", "</s>", "<unk>", "<mask>", *BYTES))}
UNIGRAM = [(name, 0.0) for name in ("<s>", "<pad>", "</s>", "<unk>")]
UNIGRAM += [(letter, -5.0) for letter in "▁abcdefghijklmnopqrstuvwxyz.,"]


@pytest.mark.parametrize(
    ("make", "config", "before"),
    [
        (lambda: RobertaTokenizer(vocab=BPE, merges=[]), RobertaConfig(), ["<s>"]),
        (lambda: GPT2Tokenizer(vocab=BPE, merges=[], unk_token="<unk>"), GPT2Config(), []),
        (lambda: T5Tokenizer(vocab=UNIGRAM), T5Config(), []),
    ],
    ids=["roberta", "gpt2", "t5"],
)
def test_every_kind_of_template_takes_it(make, config, before):
    base = make()
    made, ids = extended(base, config, SIZE)
    for given in (("a film",), ("a film", "or two")):
        found = made(*given)["input_ids"]
        start = len(before)
        assert found[:start] == base.convert_tokens_to_ids(before)
        assert found[start : start + SIZE] == ids
        assert [t for t in found if t not in ids] == base(*given)["input_ids"]
    assert made.num_special_tokens_to_add() == base.num_special_tokens_to_add() + SIZE


def test_a_prompt_is_put_beside_an_earlier_one(folder, tmp_path):
    network, tokenizer = prepared(folder)
    TASK.network().save(method().finish(network), tmp_path)
    tokenizer.save_pretrained(tmp_path)
    before = logits_of(network, tokenizer)
    again, further = prepared(tmp_path)
    assert prompt_ids(further)[:SIZE] == prompt_ids(tokenizer)
    assert len(prompt_ids(further)) == 2 * SIZE
    assert rows_of(again).shape[0] == SIZE
    assert torch.equal(logits_of(again, tokenizer), before), "the earlier one is as it was"


def test_a_chat_template_writes_it(folder):
    _, tokenizer = prepared(folder)
    names = "".join(tokenizer.convert_ids_to_tokens(prompt_ids(tokenizer)))
    tokenizer.add_special_tokens({"bos_token": "[CLS]"})
    for template, expected in (
        ("{{ messages[0]['content'] }}\n", f"{names}hi"),
        ("{{ bos_token }} {{ messages[0]['content'] }}!", f"[CLS]{names} hi!"),
    ):
        tokenizer.chat_template = with_prompt(template, tokenizer)
        assert with_prompt(tokenizer.chat_template, tokenizer) == tokenizer.chat_template
        chat = [{"role": "user", "content": "hi"}]
        assert tokenizer.apply_chat_template(chat, tokenize=False) == expected


# --- the network ---


def test_it_begins_as_words_of_the_vocabulary(folder, tokenizer):
    """The logits are those of the untouched network that reads these words instead."""
    network, extended_one = prepared(folder)
    matrix = network.get_input_embeddings().weight
    vectors = network.get_input_embeddings().vectors
    words = [int((matrix - vector).abs().sum(1).argmin()) for vector in vectors]
    torch.testing.assert_close(vectors, matrix[words])
    assert set(words).isdisjoint(tokenizer.all_special_ids)
    torch.manual_seed(0)
    untouched = TASK.network().load(TASK, folder).eval()
    batch = extended_one(TEXTS[0], return_tensors="pt")
    found = network(**batch).logits
    place = dict(zip(prompt_ids(extended_one), words, strict=True))
    batch["input_ids"] = batch["input_ids"].apply_(lambda token: place.get(token, token))
    torch.testing.assert_close(found, untouched(**batch).logits)


def test_an_embedding_that_scales_its_rows_scales_the_prompts(tokenizer):
    config = BartConfig(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1, scale_embedding=True,
        encoder_ffn_dim=16, decoder_ffn_dim=16, encoder_attention_heads=2, decoder_attention_heads=2,
    )  # fmt: skip
    network = BartForConditionalGeneration(config).eval()
    method().extend_tokenizer(tokenizer, network)
    embedding = method().prepare(network).get_input_embeddings()
    assert embedding.scale == 4.0
    first = len(tokenizer)
    ids = torch.arange(first - 2, first + SIZE)[None]
    expected = torch.cat([embedding.weight[-2:], embedding.vectors]) * 4.0
    torch.testing.assert_close(embedding(ids)[0], expected)
    plain = method().finish(network).get_input_embeddings()
    torch.testing.assert_close(plain(ids)[0], expected)


def test_the_seed_decides_where_it_begins(folder):
    for init in ("vocabulary", "random"):
        first, again, other = (rows_of(prepared(folder, s, init=init)[0]) for s in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
    wide = prepared(folder, init="random", num_tokens=32)[0].get_input_embeddings()
    assert 0.8 < float(wide.vectors.detach().std() / wide.weight.std()) < 1.2
    assert 0.8 < float(wide.rows.detach().std()) < 1.2, "trained in units of the matrix's deviation"


def test_the_prompt_and_the_head_train_and_nothing_else(folder):
    network, tokenizer = prepared(folder)
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    assert trained == {
        "bert.embeddings.word_embeddings.rows", "bert.pooler.dense.weight", "bert.pooler.dense.bias",
        "classifier.weight", "classifier.bias",
    }  # fmt: skip
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    take_step(network, tokenizer, optimizer_of(network))
    moved = {name for name, p in network.named_parameters() if not torch.equal(p, before[name])}
    assert moved == trained
    assert all(p.grad is None for name, p in network.named_parameters() if name not in trained)


def optimizer_of(network: nn.Module) -> torch.optim.Optimizer:
    groups = method().parameter_groups(network, learning_rate=0.1, weight_decay=0.01)
    return make_optimizer(groups, Optimization())


def take_step(network: Any, tokenizer: Any, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    batch = tokenizer(list(TEXTS), padding=True, return_tensors="pt")
    network(**batch, labels=torch.tensor([0, 1, 0, 1, 0])).loss.backward()
    optimizer.step()


def test_the_prompt_is_not_decayed_and_the_head_takes_smaller_steps(folder):
    network, _ = prepared(folder)
    groups = method().parameter_groups(network, learning_rate=0.1, weight_decay=0.01)
    (prompt,) = [group for group in groups if any(p is rows_of(network) for p in group["params"])]
    assert prompt["params"] == [rows_of(network)]
    assert (prompt["lr"], prompt["weight_decay"]) == (0.1, 0.0)
    others = [group for group in groups if group is not prompt]
    assert all(group["lr"] < 0.1 / 2 for group in others)
    assert {group["weight_decay"] for group in others} == {0.01, 0.0}


def test_a_frozen_prompt_is_in_no_group(folder):
    network, _ = prepared(folder)
    rows_of(network).requires_grad_(requires_grad=False)
    groups = method().parameter_groups(network, learning_rate=0.1, weight_decay=0.01)
    assert all(p is not rows_of(network) for group in groups for p in group["params"])


def test_a_resumed_run_is_an_undisturbed_one(folder, tmp_path):
    network, tokenizer = prepared(folder)
    optimizer = optimizer_of(network)
    take_step(network, tokenizer, optimizer)
    state = TrainState(step=1, max_batch_tokens=64, threads=1)
    trained = checkpoint.Trained(network, nn.ModuleDict(), optimizer)
    event = checkpoint.save(tmp_path, trained, state, scaler={}, is_best=True)
    ref = CheckpointRef(
        id="ckpt-1", step=1, folder=event.folder, manifest_sha256=event.manifest_sha256
    )
    other, _ = prepared(folder, seed=5)
    fresh = optimizer_of(other)
    assert (
        checkpoint.restore(
            [ref], checkpoint.Trained(other, nn.ModuleDict(), fresh), Report([].append)
        )
        is not None
    )
    take_step(network, tokenizer, optimizer)
    take_step(other, tokenizer, fresh)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_a_checkpoint_needs_nothing_of_the_weights_that_it_is_loaded_over(folder, tmp_path):
    """A checkpoint is a source too: its weights come into a network that was made without any."""
    network, tokenizer = prepared(folder)
    take_step(network, tokenizer, optimizer_of(network))
    state = TrainState(step=1, max_batch_tokens=64, threads=1)
    trained = checkpoint.Trained(network, nn.ModuleDict(), optimizer_of(network))
    event = checkpoint.save(tmp_path, trained, state, scaler={}, is_best=True)
    fresh: Any = TASK.network().load(TASK, folder, fresh=True).eval()
    with torch.no_grad():
        fresh.get_input_embeddings().weight.mul_(7)
    method().extend_tokenizer(AutoTokenizer.from_pretrained(folder), fresh)
    checkpoint.load_network(method().prepare(fresh), event.folder)
    assert torch.equal(logits_of(fresh, tokenizer), logits_of(network, tokenizer))
    finished = method().finish(fresh)
    torch.testing.assert_close(logits_of(finished, tokenizer), logits_of(network, tokenizer))


def test_plain_transformers_says_the_same(folder, tmp_path):
    network, tokenizer = prepared(folder)
    optimizer = optimizer_of(network)
    for _ in range(3):
        take_step(network, tokenizer, optimizer)
    trained = logits_of(network, tokenizer)
    finished = method().finish(network)
    torch.testing.assert_close(logits_of(finished, tokenizer), trained)
    assert not any(isinstance(module, PromptEmbedding) for module in finished.modules())
    TASK.network().save(finished, tmp_path)
    tokenizer.save_pretrained(tmp_path)
    plain: Any = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    loaded: Any = AutoTokenizer.from_pretrained(tmp_path)
    assert len(loaded) == plain.config.vocab_size == len(plain.get_input_embeddings().weight)
    with torch.no_grad():
        found = plain(**loaded(list(TEXTS), padding=True, return_tensors="pt")).logits
    torch.testing.assert_close(found, trained)
    classify = pipeline("text-classification", model=str(tmp_path), tokenizer=str(tmp_path))
    expected = float(trained[0].softmax(-1).max())
    assert classify(TEXTS[0])[0]["score"] == pytest.approx(expected, abs=1e-5)


# --- what cannot have one ---


@pytest.mark.parametrize(
    ("make", "config", "says"),
    [
        (ByT5Tokenizer, T5Config(), "tokenizer.json"),
        (lambda: MBartTokenizer(vocab=UNIGRAM), MBartConfig(), "for each language"),
    ],
)
def test_a_tokenizer_that_cannot_is_refused(make, config, says):
    with pytest.raises(InvalidSpec, match=says) as caught:
        extended(make(), config, SIZE)
    assert caught.value.param == "method"
    assert "use lora" in caught.value.message


def test_a_prompt_must_leave_room_for_a_text(folder):
    with pytest.raises(InvalidSpec, match="at most 32") as caught:
        prepared(folder, num_tokens=33)  # of 64 positions
    assert caught.value.param == "method.num_tokens"


def test_a_head_that_could_predict_the_prompt_is_refused(folder, tokenizer):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id"), 0)
    config = ModernBertConfig(
        **sizes, **ids, sep_token_id=0, intermediate_size=16, vocab_size=len(tokenizer),
        decoder_bias=False,
    )  # fmt: skip
    network = ModernBertForMaskedLM(config)
    method().extend_tokenizer(tokenizer, network)
    with pytest.raises(InvalidSpec, match="predicting the prompt"):
        method().prepare(network)


def test_features_that_are_taken_of_several_encoders_are_refused(folder, tokenizer):
    probe = METHODS["linear_probe"].model_validate({})
    network = TASK.network().load_probe(TASK, [folder], probe)
    method().extend_tokenizer(tokenizer, network)
    with pytest.raises(InvalidSpec, match="one embedding matrix"):
        method().prepare(network)
