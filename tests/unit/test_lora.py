"""LoRA where it is not plain: tied output matrices, bare encoders."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from app.adapt.layers.depth import head_names, select
from app.adapt.layers.lora import LowRank
from app.adapt.plugins import METHODS, TASKS
from app.errors import InvalidSpec
from tests.tiny import make_base_folder


def loaded(kind: str, folder: Any) -> Any:
    task = TASKS[kind].model_validate({"kind": kind})
    make_base_folder(folder, task.architecture)
    torch.manual_seed(0)
    return task.network().load(task, folder).eval()


def test_a_tied_output_matrix_stays_and_t5_runs(tmp_path):
    """T5 ties it, and asks a linear layer for the type of its weight."""
    network = loaded("summarization", tmp_path)
    ids = torch.arange(5, 13)[None]
    before = network(input_ids=ids, decoder_input_ids=ids).logits
    METHODS["lora"].model_validate({}).prepare(network)
    assert network.lm_head.weight is network.shared.weight
    assert isinstance(network.encoder.block[0].layer[1].DenseReluDense.wo, LowRank)
    after = network(input_ids=ids, decoder_input_ids=ids).logits
    torch.testing.assert_close(after, before)


@pytest.mark.parametrize("kind", ["lora", "bias_only"])
def test_the_last_block_of_a_bare_encoder_is_no_head(tmp_path, kind):
    network = loaded("sentence-similarity", tmp_path)
    assert head_names(network) == set()
    METHODS[kind].model_validate({}).prepare(network)
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    assert trained
    ends = (".up", ".down") if kind == "lora" else ("bias",)
    assert all(name.endswith(ends) for name in trained)
    assert any(".layer.1." in name for name in trained)


def test_only_parts_that_are_there_can_be_frozen(tmp_path):
    network = loaded("sentence-similarity", tmp_path)
    assert len(select(network, ["0-1"])) == len(select(network, ["0"])) * 2
    with pytest.raises(InvalidSpec, match="blocks 0-1"):
        select(network, ["head"])
