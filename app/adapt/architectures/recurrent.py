"""Recurrent networks: an architecture of our own, registered with transformers' Auto classes.

Words become vectors, layers of LSTM or GRU cells read them in both directions, a head answers. What loads
any other model loads this one; importing this module is what makes its folders loadable.

Shapes: B batch, T tokens, E embedding, H hidden (both directions side by side), C classes.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
    initialization,
)
from transformers.modeling_outputs import (
    BaseModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)

from app.adapt.architectures.features import pool
from app.adapt.recurrent import LEARNING_RATE

CELLS: dict[str, type[nn.LSTM | nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}
FORGET = 1.0  # the forget gate's first bias: Jozefowicz et al. 2015, section 3.2
EMBEDDING_STD = 0.25  # about that of published word vectors


class RecurrentConfig(PreTrainedConfig):
    """The sizes of a recurrent network. `hidden_size` is a state's width, both directions together."""

    model_type = "attune-recurrent"

    vocab_size: int = 1
    embedding_size: int = 300
    hidden_size: int = 300
    num_hidden_layers: int = 1
    cell: str = "lstm"
    embedding_dropout: float = 0.0
    dropout: float = 0.0
    pooling: str = "max"
    head_size: int | None = None
    max_position_embeddings: int | None = None
    pad_token_id: int | None = 0
    attune_learning_rate: float = LEARNING_RATE

    @property
    def state_sizes(self) -> list[int]:
        """Width of each of the hidden states: the embeddings', then the layers'."""
        return [self.embedding_size, *[self.hidden_size] * self.num_hidden_layers]


class RecurrentLayer(nn.Module):
    """One layer of cells in both directions.

    Padding, which is on the right, has no effect on what comes before it: one direction is past all tokens
    when it gets there, and the other reads each sequence from its own last token. Packed sequences do the
    same, more slowly where lengths are alike: torch's oneDNN kernels do not take them (docs/results.md).
    """

    def __init__(self, input_size: int, config: RecurrentConfig) -> None:
        super().__init__()
        cell = CELLS[config.cell]
        self.ahead = cell(input_size, config.hidden_size // 2, batch_first=True)
        self.back = cell(input_size, config.hidden_size // 2, batch_first=True)

    def forward(self, x_BTE: Tensor, turned: Tensor) -> Tensor:
        """Return (B, T, H); `turned` (B * T) is where each place of a turned sequence comes from."""
        ahead, _ = self.ahead(x_BTE)
        back, _ = self.back(_taken(x_BTE, turned))
        return torch.cat([ahead, _taken(back, turned)], dim=-1)


class RecurrentEmbeddings(nn.Module):
    """The vectors of tokens."""

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        self.words = nn.Embedding(
            config.vocab_size, config.embedding_size, padding_idx=config.pad_token_id
        )
        self.dropout = nn.Dropout(config.embedding_dropout)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return (B, T, E)."""
        return self.dropout(self.words(input_ids))


class RecurrentPreTrainedModel(PreTrainedModel):
    """What all of them share: the config, the names of weights, how new ones are drawn."""

    config_class = RecurrentConfig
    base_model_prefix = "recurrent"

    def _init_weights(self, module: nn.Module) -> None:
        """Draw as Keras and the literature do.

        Inputs Glorot & Bengio 2010, recurrent matrices orthogonal (Saxe et al. 2014), each gate by itself.
        """
        if isinstance(module, nn.RNNBase):
            for name, parameter in module.named_parameters():
                if name.startswith("bias"):
                    initialization.zeros_(parameter)
                    continue
                draw = "xavier_uniform_" if name.startswith("weight_ih") else "orthogonal_"
                for gate in parameter.chunk(parameter.shape[0] // module.hidden_size):
                    getattr(initialization, draw)(gate)
            if isinstance(module, nn.LSTM):
                initialization.constant_(_forget_bias(module), FORGET)
        elif isinstance(module, nn.Linear):
            initialization.xavier_uniform_(module.weight)
            initialization.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            initialization.normal_(module.weight, std=EMBEDDING_STD)
            if module.padding_idx is not None:
                initialization.zeros_(module.weight[module.padding_idx])


class RecurrentModel(RecurrentPreTrainedModel):
    """States of tokens."""

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__(config)
        self.embeddings = RecurrentEmbeddings(config)
        self.layers = nn.ModuleList(
            RecurrentLayer(size, config) for size in config.state_sizes[:-1]
        )
        self.dropout = nn.Dropout(config.dropout)
        self.post_init()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, *,
        output_hidden_states: bool = False,
    ) -> BaseModelOutput:  # fmt: skip
        """Return the last layer's states (B, T, H), and with `output_hidden_states` all of them.

        The first of all are the embeddings, (B, T, E). What they are at padding means nothing.
        """
        x = self.embeddings(input_ids)
        turned = _turned(input_ids, attention_mask)
        states = [x]
        for number, layer in enumerate(self.layers):
            x = layer(self.dropout(x) if number else x, turned)
            states.append(x)
        hidden = tuple(states) if output_hidden_states else None
        return BaseModelOutput(last_hidden_state=x, hidden_states=cast("Any", hidden))

    def get_input_embeddings(self) -> nn.Module:
        """Return the embeddings of tokens."""
        return self.embeddings.words

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Take other embeddings."""
        self.embeddings.words = cast("nn.Embedding", value)


class RecurrentForSequenceClassification(RecurrentPreTrainedModel):
    """Logits (B, C) of the pooled states of a text, through a layer of rectified units where there is one.

    Source: Tang et al. 2019 (arXiv 1903.12136, 3.1), who take the last state of each direction ("last").
    """

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__(config)
        self.recurrent = RecurrentModel(config)
        self.dropout = nn.Dropout(config.dropout)
        width = config.head_size or config.hidden_size
        if config.head_size:
            self.dense = nn.Linear(config.hidden_size, config.head_size)
        if config.pooling == "attention":
            self.attention = nn.Linear(config.hidden_size, 1)
        self.classifier = nn.Linear(width, cast("Any", config).num_labels)
        self.post_init()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, *,
        output_hidden_states: bool = False,
    ) -> SequenceClassifierOutput:  # fmt: skip
        """Return the logits, and with `output_hidden_states` the states."""
        config = cast("RecurrentConfig", self.config)
        found = self.recurrent(input_ids, attention_mask, output_hidden_states=output_hidden_states)
        mask_BT = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        x_BTH = found.last_hidden_state
        if config.pooling == "attention":
            weights_BT1 = self.attention(x_BTH).masked_fill(mask_BT.unsqueeze(-1) == 0, -torch.inf)
            x_BH = (weights_BT1.softmax(dim=1) * x_BTH).sum(dim=1)
        elif config.pooling == "last":
            ahead_BH, back_BH = pool(x_BTH, mask_BT, "last"), pool(x_BTH, mask_BT, "cls")
            half = config.hidden_size // 2
            x_BH = torch.cat([ahead_BH[:, :half], back_BH[:, half:]], dim=-1)
        else:
            x_BH = pool(x_BTH, mask_BT, config.pooling)
        x_BH = self.dropout(x_BH)
        if config.head_size:
            x_BH = self.dropout(functional.relu(self.dense(x_BH)))
        return SequenceClassifierOutput(
            logits=self.classifier(x_BH), hidden_states=found.hidden_states
        )


class RecurrentForTokenClassification(RecurrentPreTrainedModel):
    """Logits (B, T, C) of each token."""

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__(config)
        self.recurrent = RecurrentModel(config)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.hidden_size, cast("Any", config).num_labels)
        self.post_init()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, *,
        output_hidden_states: bool = False,
    ) -> TokenClassifierOutput:  # fmt: skip
        """Return the logits, and with `output_hidden_states` the states."""
        found = self.recurrent(input_ids, attention_mask, output_hidden_states=output_hidden_states)
        logits_BTC = self.classifier(self.dropout(found.last_hidden_state))
        return TokenClassifierOutput(logits=logits_BTC, hidden_states=found.hidden_states)


class RecurrentForQuestionAnswering(RecurrentPreTrainedModel):
    """Logits (B, T) of being an answer's first token, and of being its last."""

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__(config)
        self.recurrent = RecurrentModel(config)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.hidden_size, 2)
        self.post_init()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, *,
        output_hidden_states: bool = False,
    ) -> QuestionAnsweringModelOutput:  # fmt: skip
        """Return the logits, and with `output_hidden_states` the states."""
        found = self.recurrent(input_ids, attention_mask, output_hidden_states=output_hidden_states)
        start_BT, end_BT = self.classifier(self.dropout(found.last_hidden_state)).unbind(dim=-1)
        return QuestionAnsweringModelOutput(
            start_logits=start_BT, end_logits=end_BT, hidden_states=found.hidden_states
        )


def _turned(input_ids: Tensor, mask_BT: Tensor | None) -> Tensor:
    """Return (B * T): where the tokens of each sequence come from when it is read from its last one.

    Padding stays where it is, so turning twice changes nothing.
    """
    count, length = input_ids.shape
    places_1T = torch.arange(length, device=input_ids.device).unsqueeze(0)
    starts_B1 = torch.arange(count, device=input_ids.device).unsqueeze(1) * length
    if mask_BT is None:
        return (starts_B1 + length - 1 - places_1T).flatten()
    lengths_B1 = mask_BT.sum(dim=1, keepdim=True)
    turned_BT = torch.where(places_1T < lengths_B1, lengths_B1 - 1 - places_1T, places_1T)
    return (starts_B1 + turned_BT).flatten()


def _taken(x_BTE: Tensor, order: Tensor) -> Tensor:
    """Return the places of all sequences in another order."""
    return x_BTE.flatten(0, 1).index_select(0, order).view_as(x_BTE)


def _forget_bias(module: nn.LSTM) -> Tensor:
    """Return the part of torch's bias (input, forget, cell, output) that belongs to the forget gate."""
    return cast("Tensor", module.bias_ih_l0)[module.hidden_size : 2 * module.hidden_size]


AutoConfig.register(RecurrentConfig.model_type, RecurrentConfig)
AutoModel.register(RecurrentConfig, RecurrentModel)
AutoModelForSequenceClassification.register(RecurrentConfig, RecurrentForSequenceClassification)
AutoModelForTokenClassification.register(RecurrentConfig, RecurrentForTokenClassification)
AutoModelForQuestionAnswering.register(RecurrentConfig, RecurrentForQuestionAnswering)
