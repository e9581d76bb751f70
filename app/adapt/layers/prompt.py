"""A soft prompt in a network: trained rows beside a frozen embedding, and rows of it in the end.

Source: Lester et al. 2021 (arXiv 2104.08691). While it trains, output matrices stay as they were; in the
finished network they are as long as the embedding, and what they say of the prompt is silenced.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from app.adapt.architectures.features import FeatureClassifier
from app.adapt.layers.prompt_tokens import does_not_fit
from app.adapt.soft_prompt import CONFIG_KEY

NEVER = -1e4  # a logit that no softmax gives a share, within the range of 16 bits


@dataclass(frozen=True)
class PromptTokens:
    """The ids of a prompt's tokens, and of the words whose vectors it may begin with."""

    ids: list[int]
    words: list[int]


class PromptEmbedding(nn.Module):
    """A frozen embedding in which the ids from `first` on are trained rows (P, H).

    They are trained in units of the matrix's deviation, so that one rate fits all: Adam moves each number
    by about its rate, and what is much for one matrix (MiniLM's deviation is 0.056) is little for another.
    """

    unit: Tensor

    def __init__(self, base: nn.Embedding, first: int, rows_PH: Tensor) -> None:
        super().__init__()
        self.base = base.requires_grad_(requires_grad=False)
        self.first = first
        self.scale = scale_of(base)
        # In checkpoints: one may be loaded into a network whose matrix was another when this was made.
        self.register_buffer("unit", base.weight.detach().std())
        self.rows = nn.Parameter(rows_PH / self.unit)

    @property
    def weight(self) -> Tensor:
        """The frozen matrix, for what reads its size or device."""
        return self.base.weight

    @property
    def vectors(self) -> Tensor:
        """The prompt (P, H) as rows of the matrix."""
        return self.rows * self.unit

    def forward(self, ids: Tensor) -> Tensor:
        """Return (..., H)."""
        places = ids - self.first
        is_prompt = (places >= 0) & (places < len(self.rows))
        known = self.base(ids.masked_fill(is_prompt, 0))
        mine = functional.embedding(places.clamp(0, len(self.rows) - 1), self.vectors) * self.scale
        return torch.where(is_prompt.unsqueeze(-1), mine, known)


def note_prompt(network: Any, tokens: PromptTokens) -> None:
    """Note on a network which tokens of its tokenizer are its prompt; its config keeps the ids."""
    network.attune_prompt = tokens
    known: list[int] = getattr(network.config, CONFIG_KEY, None) or []
    setattr(network.config, CONFIG_KEY, [*known, *tokens.ids])


def add_prompt(network: Any, init: Literal["vocabulary", "random"]) -> None:
    """Put the noted prompt into the network's embedding.

    vocabulary: the vectors of words drawn from the noted ones; random: of normal numbers with the mean
    and the deviation that the matrix has in each dimension.

    Raises:
        InvalidSpec: its embedding does more than to look up, or its answers could be the prompt.
    """
    tokens: PromptTokens | None = getattr(network, "attune_prompt", None)
    if tokens is None:
        message = "extend_tokenizer comes before prepare: it says which tokens the prompt is"
        raise AssertionError(message)
    base: Any = network.get_input_embeddings()
    if isinstance(network, FeatureClassifier) or not isinstance(base, nn.Embedding):
        raise does_not_fit("its inputs are not rows of one embedding matrix")
    if network.config.is_encoder_decoder:
        read = network.get_encoder().get_input_embeddings()
        if read.weight is not base.weight:
            raise does_not_fit("its encoder and decoder have embeddings of their own")
    head = network.get_output_embeddings()
    if head is not None and not _biases(network) and not network.can_generate():
        raise does_not_fit("nothing keeps its output matrix from predicting the prompt")
    weight_VH = base.weight.detach()
    if init == "vocabulary":
        words = torch.tensor([word for word in tokens.words if word < len(weight_VH)])
        rows_PH = weight_VH[words[torch.randint(len(words), (len(tokens.ids),))]].clone()
    else:
        noise_PH = torch.randn(len(tokens.ids), weight_VH.shape[1])
        rows_PH = weight_VH.mean(0) + weight_VH.std(0) * noise_PH
    wrapper = PromptEmbedding(base, tokens.ids[0], rows_PH)

    def reads_it(module: nn.Module) -> bool:
        return isinstance(module, nn.Embedding) and module.weight is base.weight

    _replace(network, reads_it, wrapper)
    _silence(network)


def merge_prompt(network: Any) -> nn.Module:
    """Return the network with its prompt's rows in a plain embedding, grown where it is too short."""
    wrapper: PromptEmbedding = next(m for m in network.modules() if isinstance(m, PromptEmbedding))
    _replace(network, lambda module: module is wrapper, wrapper.base)
    ids = slice(wrapper.first, wrapper.first + len(wrapper.rows))
    _lengthen(network, wrapper.base.weight, ids.stop)
    with torch.no_grad():
        embedding = network.get_input_embeddings()
        head = network.get_output_embeddings()
        if head is not None and head.weight is not embedding.weight:
            head.weight[ids] = 0.0
        for bias in _biases(network):
            bias[..., ids] = NEVER
        embedding.weight[ids] = wrapper.vectors
    return cast("nn.Module", network)


def without_prompt(network: Any, logits: Tensor) -> Tensor:
    """Return logits (..., V) with those of a soft prompt's tokens at their least, in place."""
    known: list[int] = getattr(network.config, CONFIG_KEY, None) or []
    ids = [token for token in known if token < logits.shape[-1]]
    if ids:
        logits[..., ids] = torch.finfo(logits.dtype).min
    return logits


def scale_of(embedding: nn.Embedding) -> float:
    """Return what an embedding multiplies its rows by (Gemma's and BART's do).

    Raises:
        InvalidSpec: it does something else.
    """
    rows = torch.arange(min(8, embedding.num_embeddings), device=embedding.weight.device)
    with torch.no_grad():
        scale = float(getattr(embedding, "embed_scale", 1.0))
        if not torch.allclose(embedding(rows), embedding.weight[rows] * scale):
            raise does_not_fit("its embedding does more than to look up")
    return scale


def _silence(network: Any) -> None:
    """Keep `generate` from writing the prompt, and its beams from counting what it did not write."""
    if network.can_generate() and network.generation_config is not None:
        config = network.generation_config
        ids: list[int] = getattr(network.config, CONFIG_KEY)
        config.suppress_tokens = sorted({*(config.suppress_tokens or []), *ids})
        config.renormalize_logits = True


def _lengthen(network: Any, weight_VH: Tensor, length: int) -> None:
    """Give all that has a place for each token `length` of them.

    Not `resize_token_embeddings`: it ties an output matrix that the config calls tied and the weights do
    not (T5 1.1), and leaves out biases of heads that are not tied.
    """
    more = length - len(weight_VH)
    if more <= 0:
        return
    head, biases = network.get_output_embeddings(), _biases(network)
    weights = [weight_VH] if head is None or head.weight is weight_VH else [weight_VH, head.weight]
    for weight in weights:
        _swap(network, weight, functional.pad(weight.detach(), (0, 0, 0, more)))
    for bias in biases:
        _swap(network, bias, functional.pad(bias.detach(), (0, more)))
    network.config.get_text_config().vocab_size = length
    if hasattr(network, "vocab_size"):
        network.vocab_size = length


def _biases(network: Any) -> list[Tensor]:
    """Return what is added to the logits of all tokens: of the output matrix, beside it (BERT), BART's."""
    head = network.get_output_embeddings()
    if head is None:
        return []
    name = next(name for name, module in network.named_modules() if module is head)
    beside = network.get_submodule(name.rpartition(".")[0])
    found = [getattr(head, "bias", None), getattr(beside, "bias", None),
             getattr(network, "final_logits_bias", None)]  # fmt: skip
    length = len(head.weight)
    return list({id(b): b for b in found if b is not None and b.shape[-1] == length}.values())


def _swap(network: nn.Module, old: Tensor, values: Tensor) -> None:
    """Put longer values in all places of a parameter or buffer, so that what is tied stays tied."""
    is_parameter = isinstance(old, nn.Parameter)
    new = nn.Parameter(values, requires_grad=old.requires_grad) if is_parameter else values
    for module in network.modules():
        own = [*module.named_parameters(recurse=False, remove_duplicate=False),
               *module.named_buffers(recurse=False, remove_duplicate=False)]  # fmt: skip
        for name, tensor in own:
            if tensor is old:
                setattr(module, name, new)
        if isinstance(module, nn.Embedding):
            module.num_embeddings = len(module.weight)
        elif isinstance(module, nn.Linear):
            module.out_features = len(module.weight)


def _replace(network: nn.Module, is_old: Callable[[nn.Module], bool], new: nn.Module) -> None:
    """Put a module in all places of those that it replaces; a model may have one under many names."""
    for name, module in list(network.named_modules(remove_duplicate=False)):
        if is_old(module):
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, new)
