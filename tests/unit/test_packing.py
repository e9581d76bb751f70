"""Packing: rows that hold several sequences, losses and gradients as if each had its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from app.adapt.layers.packing import keeps_apart, pack
from app.adapt.losses.cross_entropy import CrossEntropy
from app.adapt.outputs import Encoded
from app.adapt.tasks.text_generation.config import TextGeneration
from app.errors import InvalidSpec
from app.spec.job import parse_spec
from app.spec.resolve import GIB, Facts, resolve

VOCAB = 50
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "initializer_range": 0.5,
}  # fmt: skip
MAKERS: dict[str, Any] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "mistral": lambda: MistralForCausalLM(
        MistralConfig(num_key_value_heads=2, sliding_window=4, **SIZES)
    ),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=64,
            initializer_range=0.5, bos_token_id=1, eos_token_id=2,
        )
    ),
    "bloom": lambda: BloomForCausalLM(
        BloomConfig(vocab_size=VOCAB, hidden_size=32, n_layer=2, n_head=4)
    ),
    "mamba": lambda: MambaForCausalLM(
        MambaConfig(vocab_size=VOCAB, hidden_size=32, state_size=4, num_hidden_layers=2)
    ),
}  # fmt: skip


def make(name: str, attention: str = "sdpa") -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = MAKERS[name]().eval()
    if attention != "sdpa":
        network.set_attn_implementation(attention)
    return network


def rows(form: str) -> list[Encoded]:
    """Return sequences of 1 to 24 tokens of which some, all or none of the prompt is learned."""
    generator = torch.Generator().manual_seed(1)
    made = []
    for number, size in enumerate([24, 3, 17, 9, 5, 12, 2, 7, 1, 20]):
        ids = torch.randint(3, VOCAB, (size,), generator=generator).tolist()
        cut = size if form == "text" else (size + 1) // 2
        learned = [form == "text" or (form == "messages" and at % 2 == 0) for at in range(cut)]
        answer = ids[cut:]
        made.append(
            Encoded(
                ids[:cut], target=answer, row=number, others=(answer,), is_joined=True,
                units=sum(learned[1:]) + len(answer), extra={"learned": learned},
            )
        )  # fmt: skip
    return made


def loss_and_gradients(task: Any, network: Any, batch: Any) -> tuple[float, dict[str, Any]]:
    network.zero_grad()
    loss = CrossEntropy().compute(task.network().forward(network, batch), batch, None)
    loss.backward()
    return loss.item(), {n: p.grad.clone() for n, p in network.named_parameters()}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("form", ["messages", "completion", "text"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral"])
def test_losses_and_gradients_are_those_of_the_padded_batch(name, form, attention):
    task, network = TextGeneration(form=form), make(name, attention)
    half, items = task.network(), rows(form)
    padded, packed = half.collate(task, items, 0), half.pack(task, items, 0)
    assert packed.input_ids_BT.shape == (5, 24)
    assert packed.mask_BT.sum() == padded.mask_BT.sum() == sum(map(len, items))
    loss, gradients = loss_and_gradients(task, network, padded)
    again, others = loss_and_gradients(task, network, packed)
    assert again == pytest.approx(loss, rel=1e-5)
    scale = max(float(gradient.abs().max()) for gradient in gradients.values())
    for key, gradient in gradients.items():
        torch.testing.assert_close(others[key], gradient, atol=1e-5 * scale, rtol=1e-4, msg=key)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_each_sequence_has_the_logits_that_it_has_alone(name):
    task, network = TextGeneration(form="text"), make(name)
    half, items = task.network(), rows("text")
    layout = pack([len(item) for item in items])
    with torch.no_grad():
        together = half.forward(network, half.pack(task, items, 0)).logits
        for number, row in enumerate(layout):
            begin = 0
            for index in row:
                alone = half.forward(network, half.collate(task, [items[index]], 0)).logits[0]
                found = together[number, begin : begin + len(alone)]
                torch.testing.assert_close(found, alone, atol=1e-5, rtol=1e-5)
                begin += len(alone)


def test_sequences_that_do_not_fit_beside_each_other_are_padded_as_ever():
    task = TextGeneration(form="text")
    items = [item for item in rows("text") if len(item) > 12]
    padded, packed = (
        make_batch(task, items, 0) for make_batch in (task.network().collate, task.network().pack)
    )
    assert packed.others == {}
    torch.testing.assert_close(packed.input_ids_BT, padded.input_ids_BT)


@pytest.mark.parametrize(
    ("name", "is_kept"),
    [("llama", True), ("gpt2", True), ("mistral", True), ("bloom", False), ("mamba", False)],
)
@pytest.mark.filterwarnings("ignore")  # Mamba says that its fast kernels are not installed
def test_a_network_is_tried_for_keeping_sequences_apart(name, is_kept):
    network = make(name).train()
    assert keeps_apart(network) is is_kept
    assert network.training


def test_a_network_that_ignores_borders_is_found_out(monkeypatch):
    network = make("llama")
    monkeypatch.setattr(
        "transformers.models.llama.modeling_llama.create_causal_mask", lambda **_: None
    )
    assert not keeps_apart(network)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40))
def test_rows_lose_nothing_and_are_no_longer_than_the_longest(lengths):
    laid = pack(lengths)
    assert sorted(index for row in laid for index in row) == list(range(len(lengths)))
    assert all(sum(lengths[index] for index in row) <= max(lengths) for row in laid)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40))
def test_each_sequence_is_in_the_first_row_with_room_if_that_pays(lengths):
    room: list[int] = []
    for size in sorted(lengths, reverse=True):
        place = next((row for row, free in enumerate(room) if size <= free), None)
        if place is None:
            room.append(max(lengths) - size)
        else:
            room[place] -= size
    laid = pack(lengths)
    if len(room) <= 0.9 * len(lengths):
        assert room == [max(lengths) - sum(lengths[index] for index in row) for row in laid]
    else:
        assert laid == [[index] for index in range(len(lengths))]


@pytest.mark.parametrize(
    ("task", "given", "expected"),
    [
        ({"kind": "text-generation", "form": "messages"}, "auto", True),
        ({"kind": "text-generation", "form": "text"}, False, False),
        ({"kind": "text-generation", "form": "preference"}, "auto", False),
        ({"kind": "text-generation", "form": "preference"}, True, None),
        ({"kind": "text-classification", "problem": "regression"}, "auto", False),
        ({"kind": "text-classification", "problem": "regression"}, True, None),
    ],
)
def test_auto_packs_where_the_task_can_and_true_is_refused_where_not(task, given, expected):
    spec = parse_spec(
        {
            "kind": "fine_tune", "model": "tiny", "task": task,
            "data": {"train": "file-" + "0" * 26}, "optimization": {"packing": given},
        }
    )  # fmt: skip
    facts = Facts(
        lengths=[10, 20], num_parameters=1, model_max_length=64, memory_bytes=GIB, device="cpu"
    )
    if expected is None:
        with pytest.raises(InvalidSpec) as caught:
            resolve(spec, facts)
        assert caught.value.param == "optimization.packing"
    else:
        assert resolve(spec, facts).optimization.packing is expected
