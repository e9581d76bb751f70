"""The torch half of tasks that turn one text into another: transformers' encoder-decoders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import AutoModelForSeq2SeqLM

from app.adapt.layers.generating import write
from app.adapt.layers.language import token_scores
from app.adapt.layers.prompt import without_prompt
from app.adapt.network import TransformerNetwork, inputs_of, pad
from app.adapt.outputs import Batch, Outputs
from app.adapt.text_to_text import TextToText, set_languages
from app.errors import InvalidSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from app.adapt.outputs import Encoded

IGNORED = -100


class TextToTextNetwork(TransformerNetwork):
    """Logits (B, U, V) of each token of the target, from the source and the tokens before it."""

    model_class = AutoModelForSeq2SeqLM

    def target(self, task: Any, encoded: Sequence[Encoded], shape: tuple[int, int]) -> torch.Tensor:
        """Return token ids (B, U), padding as -100."""
        del task, shape
        ids_BU, _ = pad([item.target for item in encoded], IGNORED)
        return ids_BU

    def forward(self, network: nn.Module, batch: Batch) -> Outputs:
        """Run the network on sources and on targets shifted to the right."""
        made: Any = network
        if batch.target is None:
            message = "an encoder-decoder is run on targets; without them it generates"
            raise AssertionError(message)
        shifted_BU = made.prepare_decoder_input_ids_from_labels(labels=batch.target)
        answer = made(**inputs_of(batch), decoder_input_ids=shifted_BU, use_cache=False)
        return Outputs(logits=without_prompt(made, answer.logits), mask_BT=batch.mask_BT)

    def scores(self, task: Any, outputs: Outputs, batch: Batch) -> Sequence[NDArray[np.float32]]:
        """Return for each row: its tokens' negative log-likelihood, how many are right, how many."""
        del task
        return token_scores(outputs.logits, batch.target)

    def generate(
        self, task: TextToText, network: nn.Module, encoded: Sequence[Encoded],
        tokenizer: PreTrainedTokenizerBase, parameters: Any, emit: Callable[[str], None] | None = None,
    ) -> list[Any]:  # fmt: skip
        """Write the answers to each row."""
        made: Any = network
        pad_id: Any = tokenizer.pad_token_id
        ids_BT, mask_BT = pad([item.input_ids for item in encoded], pad_id or 0)
        inputs = {"input_ids": ids_BT, "attention_mask": mask_BT}
        inputs = {name: tensor.to(made.device) for name, tensor in inputs.items()}
        return write(
            made, inputs, tokenizer, parameters, emit=emit, **_first_token(task, tokenizer)
        )


def _first_token(task: TextToText, tokenizer: Any) -> dict[str, Any]:
    """Return the token that a many-language model is told the target's language by."""
    _, code = task.languages
    if code is None or not hasattr(tokenizer, "tgt_lang"):
        return {}
    set_languages(tokenizer, task.languages)
    get = getattr(tokenizer, "get_lang_id", tokenizer.convert_tokens_to_ids)
    try:
        found = get(code)
    except KeyError:
        found = tokenizer.unk_token_id
    if found is None or found == tokenizer.unk_token_id:
        message = f"task.target_language: this model's tokenizer knows no language {code!r}"
        raise InvalidSpec(message, param="task.target_language", code="language_not_found")
    return {"forced_bos_token_id": found}
