"""What can be read of the inside of networks: states, attention, queries, keys and values."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import nn

from app.adapt.architectures.features import FeatureConfig, make_classifier
from app.adapt.layers.internals import body_of, forward
from app.adapt.network import TransformerNetwork, inputs_of
from app.adapt.outputs import Batch, Outputs
from app.adapt.plugins import METHODS
from app.errors import InvalidSpec

EVERYTHING = frozenset({"hidden", "attentions", "relations"})
ROWS, TOKENS, HIDDEN, LAYERS, HEADS, VOCAB = 3, 7, 32, 3, 4, 60
USUAL: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": 40,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "initializer_range": 0.3,
    # Its name differs from model to model.
    "attention_dropout": 0.5,
    "attention_probs_dropout_prob": 0.5,
}
GPT2 = {"n_embd": HIDDEN, "n_layer": LAYERS, "n_head": HEADS, "vocab_size": VOCAB,
        "attn_pdrop": 0.5}  # fmt: skip
T5 = {"d_model": HIDDEN, "d_kv": 8, "d_ff": 40, "num_layers": LAYERS, "num_heads": HEADS,
      "vocab_size": VOCAB, "decoder_start_token_id": 0}  # fmt: skip
BART = {"d_model": HIDDEN, "encoder_layers": LAYERS, "decoder_layers": 2, "encoder_ffn_dim": 40,
        "encoder_attention_heads": HEADS, "decoder_attention_heads": HEADS,
        "decoder_ffn_dim": 40, "vocab_size": VOCAB}  # fmt: skip
DISTIL = {
    "dim": HIDDEN,
    "n_layers": LAYERS,
    "n_heads": HEADS,
    "hidden_dim": 40,
    "vocab_size": VOCAB,
}
DEBERTA = USUAL | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"],
                   "share_att_key": True, "max_relative_positions": 16}  # fmt: skip
# Model class, its config's fields, the width of keys and values.
READ: list[tuple[str, dict[str, Any], int]] = [
    ("BertForSequenceClassification", USUAL, HIDDEN),
    ("RobertaForTokenClassification", USUAL, HIDDEN),
    ("ElectraForSequenceClassification", USUAL | {"embedding_size": 16}, HIDDEN),
    ("AlbertForSequenceClassification", USUAL | {"embedding_size": 16}, HIDDEN),
    ("DistilBertForQuestionAnswering", DISTIL, HIDDEN),
    ("MPNetForSequenceClassification", USUAL, HIDDEN),
    ("DebertaV2ForSequenceClassification", DEBERTA, HIDDEN),
    (
        "ModernBertForMaskedLM",
        USUAL | {"cls_token_id": 1, "sep_token_id": 2, "global_attn_every_n_layers": 2},
        HIDDEN,
    ),
    ("GPT2LMHeadModel", GPT2, HIDDEN),
    ("OPTForCausalLM", USUAL | {"ffn_dim": 40, "word_embed_proj_dim": HIDDEN}, HIDDEN),
    ("LlamaForCausalLM", USUAL | {"num_key_value_heads": 2}, HIDDEN // 2),
    (
        "Qwen3ForSequenceClassification",
        USUAL | {"num_key_value_heads": 2, "head_dim": 8},
        HIDDEN // 2,
    ),
    ("T5ForConditionalGeneration", T5, HIDDEN),
    ("BartForConditionalGeneration", BART, HIDDEN),
]


class Half(TransformerNetwork):
    """Any network on any batch."""

    def forward(self, network: nn.Module, batch: Batch) -> Outputs:
        made: Any = network
        options = inputs_of(batch)
        if made.config.is_encoder_decoder:
            options["decoder_input_ids"] = batch.input_ids_BT[:, :4]
        answer = made(**options)
        logits = answer.logits if "logits" in answer else answer.start_logits
        return Outputs(logits=logits, mask_BT=batch.mask_BT)


def make(name: str, config: dict[str, Any]) -> Any:
    kind: Any = getattr(transformers, name)
    torch.manual_seed(0)
    return kind(kind.config_class(**config))


def batch() -> Batch:
    ids = torch.randint(5, VOCAB, (ROWS, TOKENS), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(TOKENS) < torch.tensor([7, 4, 5])[:, None]).long()
    return Batch(input_ids_BT=ids.where(mask.bool(), 0), mask_BT=mask)


def read(network: nn.Module, wants=EVERYTHING) -> Outputs:
    return forward(Half(), network, batch(), wants)


@pytest.fixture(scope="module", params=READ, ids=[name for name, _, _ in READ])
def network(request) -> tuple[Any, int]:
    name, config, width = request.param
    made = make(name, config)
    made.attention_at_first = body_of(made).config._attn_implementation
    return made, width


def test_it_is_what_transformers_says_itself(network):
    made, width = network
    outputs = read(made.eval())
    body = body_of(made)
    implementation = made.config._attn_implementation
    body.set_attn_implementation("eager")
    expected = body(**inputs_of(batch()), output_hidden_states=True, output_attentions=True)
    body.set_attn_implementation(implementation)
    for ours, theirs in zip(outputs.hidden, expected.hidden_states, strict=True):
        torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(outputs.hidden[-1], expected.last_hidden_state)
    for ours, theirs in zip(outputs.attentions, expected.attentions, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert len(outputs.hidden) == LAYERS + 1
    assert [tuple(layer.shape) for layer in outputs.attentions] == [
        (ROWS, HEADS, TOKENS, TOKENS)
    ] * LAYERS
    shapes = [[tuple(part.shape) for part in block] for block in outputs.relations]
    assert shapes == [[(ROWS, TOKENS, w) for w in (HIDDEN, width, width)]] * LAYERS


def test_attention_of_a_training_network_is_shares_without_noise(network):
    """Its own dropout is off; everything else is as it was."""
    made, _ = network
    outputs = read(made.train())
    seen_N11T = batch().mask_BT[:, None, None, :] != 0
    for layer in outputs.attentions:
        torch.testing.assert_close(layer.sum(-1), torch.ones(layer.shape[:-1]))
        from_tokens = layer.transpose(1, 2)[batch().mask_BT != 0]
        to_padding = layer.masked_fill(seen_N11T, 0).transpose(1, 2)[batch().mask_BT != 0]
        assert from_tokens.sum() > 0
        assert to_padding.sum() == 0
    assert all(module.training for module in made.modules())


def test_other_dropout_goes_on():
    made = make("BertForSequenceClassification", USUAL).train()
    first, second = read(made), read(made)
    assert not torch.equal(first.hidden[-1], second.hidden[-1])


def test_nothing_is_left_behind(network):
    made, _ = network
    made.eval()
    before = Half().forward(made, batch()).logits
    read(made)  # transformers leaves hooks of its own, once
    hooks = count_hooks(made)
    read(made)
    assert count_hooks(made) == hooks
    assert body_of(made).config._attn_implementation == made.attention_at_first
    plain = read(made, frozenset())
    torch.testing.assert_close(plain.logits, before, atol=0, rtol=0)
    assert (plain.hidden, plain.attentions, plain.relations) == (None, None, None)


def test_nothing_is_left_behind_by_a_failure(network):
    made, _ = network
    read(made)
    hooks = count_hooks(made)
    wrong = batch()
    wrong.input_ids_BT[0, 0] = VOCAB
    with pytest.raises(IndexError):
        forward(Half(), made.train(), wrong, EVERYTHING)
    assert count_hooks(made) == hooks
    assert body_of(made).config._attn_implementation == made.attention_at_first
    assert all(module.training for module in made.modules())


def count_hooks(network: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())


def test_only_what_is_wanted_is_read():
    made = make("BertForSequenceClassification", USUAL)
    for name in EVERYTHING:
        outputs = read(made, {name})
        assert {n for n in EVERYTHING if getattr(outputs, n) is not None} == {name}


@pytest.mark.parametrize(
    ("name", "config"), [("BertForSequenceClassification", USUAL), ("GPT2LMHeadModel", GPT2)]
)
def test_attention_is_made_of_the_queries_and_keys_that_are_read(name, config):
    """softmax(q k^T / sqrt(d)) over the tokens that may be looked at is what the network attends with."""
    outputs = read(make(name, config).eval())
    for (query, key, _), expected in zip(outputs.relations, outputs.attentions, strict=True):
        q, k = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (query, key))
        scores = (q @ k.transpose(2, 3) / (HIDDEN // HEADS) ** 0.5).masked_fill(
            batch().mask_BT[:, None, None, :] == 0, -torch.inf
        )
        if name.startswith("GPT2"):
            past = torch.ones((TOKENS, TOKENS)).tril().bool()
            scores = scores.masked_fill(~past, -torch.inf)
        torch.testing.assert_close(scores.softmax(-1), expected)


def test_values_are_what_attention_sums_up():
    made = make("BertForSequenceClassification", USUAL).eval()
    outputs = read(made)
    summed: list[torch.Tensor] = []
    for layer in made.bert.encoder.layer:
        layer.attention.self.register_forward_hook(lambda _, __, out: summed.append(out[0]))
    Half().forward(made, batch())
    for (_, _, value), shares, expected in zip(
        outputs.relations, outputs.attentions, summed, strict=True
    ):
        v = value.unflatten(-1, (HEADS, -1)).transpose(1, 2)
        ours = (shares @ v).transpose(1, 2).flatten(2)
        torch.testing.assert_close(ours, expected)


def test_llama_is_read_before_its_rotation():
    made = make("LlamaForCausalLM", USUAL).eval()
    outputs = read(made)
    for number, layer in enumerate(made.model.layers):
        normed = layer.input_layernorm(outputs.hidden[number])
        expected = [getattr(layer.self_attn, f"{n}_proj")(normed) for n in "qkv"]
        for ours, theirs in zip(outputs.relations[number], expected, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_adapters_are_part_of_what_is_read():
    made = make("GPT2LMHeadModel", GPT2)
    METHODS["lora"].model_validate({"rank": 2}).prepare(made).eval()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith(".up"):
                parameter.fill_(0.1)
    outputs = read(made)
    block = made.transformer.h[0]
    expected = block.attn.c_attn(block.ln_1(outputs.hidden[0])).chunk(3, dim=-1)
    for ours, theirs in zip(outputs.relations[0], expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    sum(part.sum() for part in outputs.relations[-1]).backward()
    assert all(p.grad is not None for n, p in made.named_parameters() if n.endswith("c_attn.up"))


def test_of_several_encoders_the_first_is_read():
    encoders = [make("BertModel", USUAL), make("BertModel", USUAL | {"hidden_size": 16})]
    config = FeatureConfig(layers=[-1], poolings=["mean"], num_labels=2)
    made = make_classifier(config, encoders).eval()

    class Both(Half):
        def forward(self, network: nn.Module, batch: Batch) -> Outputs:
            inputs = inputs_of(batch)
            return Outputs(network(**inputs, further=[inputs]).logits, batch.mask_BT)

    outputs = forward(Both(), made, batch(), EVERYTHING)
    assert [state.shape[-1] for state in outputs.hidden] == [HIDDEN] * (LAYERS + 1)
    assert len(outputs.attentions) == len(outputs.relations) == LAYERS


@pytest.mark.parametrize(
    ("name", "more"),
    [("GPTNeoXForCausalLM", {}), ("Phi3ForCausalLM", {"num_key_value_heads": 2})],
)
def test_projections_that_are_laid_out_otherwise_are_refused(name, more):
    made = make(name, USUAL | more).train()
    shares = torch.stack(read(made, {"attentions"}).attentions)
    torch.testing.assert_close(shares.sum(-1), torch.ones(shares.shape[:-1]))
    with pytest.raises(InvalidSpec, match="queries, keys and values of attention") as caught:
        read(made, {"relations"})
    assert caught.value.error_code == "model_does_not_fit"


@pytest.mark.parametrize("name", sorted(EVERYTHING))
def test_a_network_of_another_kind_is_refused(name):
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(VOCAB, 8)
            self.cell = nn.LSTM(8, 8, batch_first=True)

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
            del attention_mask
            states, _ = self.cell(self.embed(input_ids))
            return transformers.modeling_outputs.SequenceClassifierOutput(logits=states[:, -1])

    class Plain(TransformerNetwork):
        pass

    with pytest.raises(InvalidSpec, match="there is no way to in Recurrent"):
        forward(Plain(), Recurrent(), batch(), {name})
