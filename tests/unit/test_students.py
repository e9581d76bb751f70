"""Students made of a model: layers cut from it, or its architecture in another size."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from transformers import (
    AutoModel,
    AutoTokenizer,
    BartConfig,
    BartForConditionalGeneration,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MarianConfig,
    MarianMTModel,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    Qwen3Config,
    Qwen3ForCausalLM,
    RobertaConfig,
    RobertaForTokenClassification,
    T5Config,
    T5ForConditionalGeneration,
)

from app.adapt.embeddings import reduce
from app.adapt.plugins import STUDENTS
from app.adapt.student import Material
from app.adapt.students.layers_of_teacher import blocks_of
from app.errors import InvalidSpec
from app.store.weights import check_model_folder
from tests.tiny import TEXTS, make_model_folder, make_vocab

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
HALVES = {
    f"{half}_{name}": size
    for half in ("encoder", "decoder")
    for name, size in (("layers", 4), ("attention_heads", 2), ("ffn_dim", 32))
}
IDS = {"vocab_size": len(make_vocab(TEXTS)), "pad_token_id": 0, "decoder_start_token_id": 0}
T5 = {
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 4,
    "num_decoder_layers": 4,
    "num_heads": 2,
}
TEACHERS = {
    "roberta": (RobertaForTokenClassification, RobertaConfig, {**SIZES, "num_labels": 3}),
    "distilbert": (
        DistilBertForSequenceClassification, DistilBertConfig,
        {"dim": 16, "n_layers": 4, "n_heads": 2, "hidden_dim": 32, "num_labels": 3},
    ),
    "gpt2": (GPT2LMHeadModel, GPT2Config, {"n_embd": 16, "n_layer": 4, "n_head": 2}),
    "llama": (LlamaForCausalLM, LlamaConfig, SIZES),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {**SIZES, "num_key_value_heads": 1, "head_dim": 8}),
    "t5": (T5ForConditionalGeneration, T5Config, T5),
    "bart": (BartForConditionalGeneration, BartConfig, {"d_model": 16, **HALVES}),
    "marian": (MarianMTModel, MarianConfig, {"d_model": 16, **HALVES}),
    "modernbert": (ModernBertForSequenceClassification, ModernBertConfig, SIZES),
}  # fmt: skip
UNLIKE = ("modernbert", [1, 3])  # its first layer has no normalization before its attention


def make_teacher(folder: Path, name: str) -> Any:
    """Make a folder of four layers of an architecture, with a head and BERT's tokenizer."""
    model_class, config_class, sizes = TEACHERS[name]
    torch.manual_seed(0)
    network = model_class(config_class(**IDS, **sizes)).eval()
    make_model_folder(folder)
    (folder / "config.json").unlink()
    network.save_pretrained(folder)
    (folder / "attune.json").write_text("{}")
    return network


def make(folder: Path, teacher: Path | None, kind: str, **fields: Any) -> Path:
    folder.mkdir()
    student = STUDENTS[kind].model_validate(fields)
    student.make(folder, Material(TEXTS, seed=0, teacher=teacher))
    check_model_folder(folder, kind)
    return folder


def loaded(network_class: Any, folder: Path) -> Any:
    network, info = network_class.from_pretrained(folder, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return network.eval()


@pytest.fixture
def base(tmp_path) -> Path:
    return make_model_folder(tmp_path / "teacher", ["a", "b"], layers=4)


# --- layers of the teacher ---


@pytest.mark.parametrize(
    ("name", "keep"),
    [(name, keep) for name in TEACHERS for keep in ([0, 2], [1, 3]) if (name, keep) != UNLIKE],
)
def test_what_is_cut_loads_whole_with_its_head_and_tokenizer(name, keep, tmp_path):
    network = make_teacher(tmp_path / "teacher", name)
    folder = make(tmp_path / "cut", tmp_path / "teacher", "layers_of_teacher", keep=keep)
    student = loaded(type(network), folder)
    assert student.config.num_hidden_layers == 2
    assert getattr(student.config, "decoder_layers", 2) == 2
    assert sum(p.numel() for p in student.parameters()) < sum(
        p.numel() for p in network.parameters()
    )
    assert AutoTokenizer.from_pretrained(folder)("a film") == AutoTokenizer.from_pretrained(
        tmp_path / "teacher"
    )("a film")
    assert not (folder / "attune.json").exists()


@pytest.mark.parametrize(
    ("name", "stacks"),
    [
        ("roberta", ["roberta.encoder.layer"]),
        ("distilbert", ["distilbert.transformer.layer"]),
        ("gpt2", ["transformer.h"]),
        ("llama", ["model.layers"]),
        ("t5", ["encoder.block", "decoder.block"]),
        ("bart", ["model.encoder.layers", "model.decoder.layers"]),
    ],
)
def test_a_cut_model_computes_what_the_teacher_does_without_the_other_layers(
    name, stacks, tmp_path
):
    network = make_teacher(tmp_path / "teacher", name)
    folder = make(tmp_path / "cut", tmp_path / "teacher", "layers_of_teacher", keep=[0, 3])
    student = loaded(type(network), folder)
    for path in stacks:
        layers = network.get_submodule(path)
        kept = nn.ModuleList([layers[0], layers[3]])
        parent, _, attribute = path.rpartition(".")
        setattr(network.get_submodule(parent), attribute, kept)
    ids = torch.arange(5, 13)[None]
    inputs: dict[str, Any] = {"input_ids": ids}
    if network.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids
    elif name in {"gpt2", "llama"}:
        inputs["use_cache"] = False  # the cache goes by the old numbers
    with torch.inference_mode():
        ours, theirs = student(**inputs).logits, network(**inputs).logits
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_distances_that_the_first_layer_holds_for_all_move_to_the_new_first_one(tmp_path):
    network = make_teacher(tmp_path / "teacher", "t5")
    folder = make(tmp_path / "cut", tmp_path / "teacher", "layers_of_teacher", keep=[1, 3])
    student = loaded(T5ForConditionalGeneration, folder)
    bias = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    for half in ("encoder", "decoder"):
        old, new = (model.get_parameter(f"{half}.{bias}") for model in (network, student))
        assert torch.equal(old, new)


def test_the_halves_of_an_encoder_decoder_may_be_cut_differently(tmp_path):
    make_teacher(tmp_path / "teacher", "t5")
    fields = {"keep": [0, 1, 3], "keep_decoder": "last", "num_decoder_layers": 1}
    folder = make(tmp_path / "cut", tmp_path / "teacher", "layers_of_teacher", **fields)
    config = loaded(T5ForConditionalGeneration, folder).config
    assert (config.num_layers, config.num_decoder_layers) == (3, 1)


@pytest.mark.parametrize(
    ("keep", "number", "count", "expected"),
    [
        ("first", 2, 6, [0, 1]),
        ("last", 2, 6, [4, 5]),
        ("even", 6, 12, [0, 2, 4, 7, 9, 11]),  # DistilBERT's choice of BERT's layers
        ("even", None, 6, [0, 2, 5]),
        ("even", 1, 6, [0]),
        ("even", 6, 6, [0, 1, 2, 3, 4, 5]),
        ([1, 4], None, 6, [1, 4]),
    ],
)
def test_words_stand_for_layers(keep, number, count, expected):
    assert blocks_of(keep, number, count) == expected


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"keep": [0, 4]}, "keep", "0 to 3"),
        ({"keep": "first", "num_layers": 5}, "num_layers", "4 layers"),
        ({"keep_decoder": "first"}, "keep_decoder", "no decoder"),
        ({"num_decoder_layers": 1}, "num_decoder_layers", "no decoder"),
    ],
)
def test_layers_that_are_not_there_are_refused_with_those_that_are(
    fields, param, said, base, tmp_path
):
    with pytest.raises(InvalidSpec, match=said) as caught:
        make(tmp_path / "cut", base, "layers_of_teacher", **fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    "fields",
    [{"keep": []}, {"keep": [2, 1]}, {"keep": [1, 1]}, {"keep": [-1]}, {"keep": "odd"},
     {"keep": [1], "num_layers": 1}, {"keep_decoder": [1], "num_decoder_layers": 1}],
)  # fmt: skip
def test_a_choice_that_says_two_things_is_refused(fields):
    with pytest.raises(ValidationError):
        STUDENTS["layers_of_teacher"].model_validate(fields)


def test_layers_that_are_no_model_by_themselves_are_refused(tmp_path):
    name, keep = UNLIKE
    make_teacher(tmp_path / "teacher", name)
    with pytest.raises(InvalidSpec, match="alone") as caught:
        make(tmp_path / "cut", tmp_path / "teacher", "layers_of_teacher", keep=keep)
    assert caught.value.error_code == "model_does_not_fit"


def test_a_model_without_layers_of_its_own_is_refused(base, tmp_path):
    table = make(tmp_path / "table", base, "static")
    with pytest.raises(InvalidSpec, match="no layers"):
        make(tmp_path / "cut", table, "layers_of_teacher")


def test_the_weights_of_several_files_are_read(base, tmp_path):
    teacher = BertForSequenceClassification.from_pretrained(base)
    (base / "model.safetensors").unlink()
    teacher.save_pretrained(base, max_shard_size="20KB")
    assert len(list(base.glob("model-*.safetensors"))) > 1
    folder = make(tmp_path / "cut", base, "layers_of_teacher", keep="last", num_layers=1)
    student = loaded(BertForSequenceClassification, folder)
    for name, tensor in student.bert.encoder.layer[0].state_dict().items():
        assert torch.equal(tensor, teacher.bert.encoder.layer[3].state_dict()[name])
    assert torch.equal(student.classifier.weight, teacher.classifier.weight)


# --- a fresh transformer ---

SMALL = {"hidden_size": 8, "num_layers": 2, "num_heads": 2, "intermediate_size": 12}


@pytest.mark.parametrize("name", TEACHERS)
def test_every_architecture_can_be_had_in_another_size(name, tmp_path):
    make_teacher(tmp_path / "teacher", name)
    folder = make(tmp_path / "fresh", tmp_path / "teacher", "transformer", **SMALL)
    network = loaded(AutoModel, folder)
    ids = torch.arange(5, 13)[None]
    inputs = {"decoder_input_ids": ids} if network.config.is_encoder_decoder else {}
    with torch.inference_mode():
        states = network(input_ids=ids, **inputs).last_hidden_state
    assert states.shape == (1, 8, 8)
    assert torch.isfinite(states).all()
    assert network.config.num_hidden_layers == 2
    assert network.config.num_attention_heads == 2
    inner = [p.shape for p in network.parameters() if p.ndim == 2 and 12 in p.shape]
    assert inner, "no matrix is intermediate_size wide"


def test_its_weights_are_drawn_from_the_seed(base, tmp_path):
    state = torch.get_rng_state()
    digests = []
    for number, seed in enumerate((0, 0, 1)):
        torch.manual_seed(number)  # whatever was drawn before
        folder = tmp_path / str(number)
        folder.mkdir()
        student = STUDENTS["transformer"].model_validate(SMALL)
        student.make(folder, Material(TEXTS, seed=seed, teacher=base))
        digests.append(hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest())
    torch.set_rng_state(state)
    assert digests[0] == digests[1] != digests[2]


def test_a_named_model_stands_in_for_the_teacher(base, tmp_path):
    student = STUDENTS["transformer"].model_validate({**SMALL, "tokenizer": "tiny"})
    assert not student.needs_teacher
    assert student.model_ids() == {"tokenizer": "tiny"}
    (tmp_path / "fresh").mkdir()
    student.make(tmp_path / "fresh", Material(TEXTS, seed=0, models={"tiny": base}))
    assert loaded(AutoModel, tmp_path / "fresh").config.model_type == "bert"
    assert STUDENTS["transformer"].model_validate(SMALL).needs_teacher


def test_embeddings_are_the_teacher_s_where_they_fit_and_its_main_components_where_not(
    base, tmp_path
):
    theirs = AutoModel.from_pretrained(base).get_input_embeddings().weight.detach()
    sizes = {**SMALL, "embeddings": "teacher"}
    for width in (32, 8):
        folder = make(tmp_path / str(width), base, "transformer", **{**sizes, "hidden_size": width})
        ours = loaded(AutoModel, folder).get_input_embeddings().weight.detach()
        expected = theirs if width == 32 else torch.from_numpy(reduce(theirs.numpy(), width))
        assert torch.equal(ours, expected)
    with pytest.raises(InvalidSpec, match="32 wide") as caught:
        make(tmp_path / "wide", base, "transformer", **{**sizes, "hidden_size": 64})
    assert caught.value.param == "embeddings"


def test_a_size_that_an_architecture_lacks_is_named(base, tmp_path):
    table = make(tmp_path / "table", base, "static")
    with pytest.raises(InvalidSpec, match="attune-static") as caught:
        make(tmp_path / "fresh", table, "transformer", **SMALL)
    assert caught.value.param == "num_layers"


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValidationError, match="multiple of num_heads"):
        STUDENTS["transformer"].model_validate({"hidden_size": 10, "num_heads": 3})
