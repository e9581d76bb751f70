"""What goes on inside a network while any task's forward runs: hidden states, attention, its projections.

It watches the network from outside, by hooks that are gone after, so tasks and losses know nothing of it.

- The body is what the network's head sits on: transformers' base model, an encoder-decoder's encoder, the
  first encoder of `FeatureClassifier`.
- Hidden states and attention are what the body itself returns when asked, as every encoder and decoder of
  transformers does. Attention needs the eager implementation, the only one that makes its shares.
- Queries, keys and values are what attention's linear layers put out, before rotary positions: three
  layers in BERT, RoBERTa, XLM-R, ELECTRA, ALBERT (query, key, value), DistilBERT (q_lin, ...), Llama,
  Mistral, Qwen, Gemma, BART, OPT (q_proj, ...), DeBERTa (query_proj, ...), T5, MPNet (q, k, v); one for all
  three in GPT-2 (c_attn) and ModernBERT (Wqkv). GPT-NeoX, BLOOM, Falcon and Phi-3 lay theirs out otherwise
  and are refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from app.adapt.outputs import Batch, Internal, Outputs, Relation
from app.adapt.task import Network
from app.errors import InvalidSpec

SEPARATE = (
    ("query", "key", "value"),
    ("q_lin", "k_lin", "v_lin"),
    ("q_proj", "k_proj", "v_proj"),
    ("query_proj", "key_proj", "value_proj"),
    ("q", "k", "v"),
)
FUSED = ("c_attn", "Wqkv")
OTHERWISE = ("query_key_value", "qkv_proj")
DROPOUTS = ("dropout", "attn_dropout", "attention_dropout")
OPTIONS: dict[Internal, str] = {
    "hidden": "output_hidden_states",
    "attentions": "output_attentions",
}
FIELDS: dict[Internal, str] = {"hidden": "hidden_states", "attentions": "attentions"}
WORDS: dict[Internal, str] = {
    "hidden": "hidden states",
    "attentions": "attention",
    "relations": "queries, keys and values of attention",
}


@dataclass
class _Found:
    body: Any = None  # what the body returned
    blocks: list[dict[str, Tensor]] = field(default_factory=list[dict[str, Tensor]])


def forward(
    half: Network, network: nn.Module, batch: Batch, wants: AbstractSet[Internal]
) -> Outputs:
    """Run a task's network; fill what is wanted of its inside.

    While attention is read, its own dropout is off: what is left of the shares would be mostly noise.

    Raises:
        InvalidSpec: this kind of network does not have it.
    """
    if not wants:
        return half.forward(network, batch)
    with _watched(network, wants) as found:
        outputs = half.forward(network, batch)
    return replace(
        outputs,
        hidden=_returned(found, "hidden", network) if "hidden" in wants else None,
        attentions=_returned(found, "attentions", network) if "attentions" in wants else None,
        relations=_relations(found, network) if "relations" in wants else None,
    )


@contextmanager
def _watched(network: nn.Module, wants: AbstractSet[Internal]) -> Generator[_Found]:
    """Watch the body while this is open."""
    found, body = _Found(), body_of(network)
    options = {option: True for name, option in OPTIONS.items() if name in wants}
    if not _takes(body, options):
        raise _refusal(next(name for name in OPTIONS if name in wants), network)

    def ask(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, kwargs | options

    def keep(_: nn.Module, __: Any, output: Any) -> None:
        found.body = output

    attentions = [module for module in body.modules() if _projections(module) or _is_fused(module)]
    with ExitStack() as stack:
        if options:
            stack.enter_context(body.register_forward_pre_hook(ask, with_kwargs=True))
            stack.enter_context(body.register_forward_hook(keep))
        if "attentions" in wants:
            stack.enter_context(_eager(body))
            stack.enter_context(_without_dropout(attentions))
        if "relations" in wants:
            for module in attentions:
                _watch(module, found, stack)
        yield found


def body_of(network: nn.Module) -> nn.Module:
    """Return the part of a network that reads the tokens, without its head."""
    made: Any = network
    config: Any = getattr(network, "config", None)
    if getattr(config, "is_encoder_decoder", False):
        return made.get_encoder()
    body: Any = getattr(network, "base_model", network)
    if isinstance(body, nn.ModuleList):
        body = body[0]
    # OPT's head sits on the decoder inside of its base model.
    inner = [child for child in body.children() if isinstance(child, PreTrainedModel)]
    return inner[0] if len(inner) == 1 else body


def _takes(body: nn.Module, options: dict[str, bool]) -> bool:
    taken = inspect.signature(body.forward).parameters
    is_open = any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values())
    return is_open or options.keys() <= taken.keys()


def _returned(found: _Found, name: Internal, network: nn.Module) -> tuple[Tensor, ...]:
    value: Any = getattr(found.body, FIELDS[name], None)
    if not value or any(item is None for item in value):
        raise _refusal(name, network)
    return tuple(value)


def _relations(found: _Found, network: nn.Module) -> tuple[Relation, ...]:
    if not found.blocks or any(len(block) != 3 for block in found.blocks):  # noqa: PLR2004 - q, k, v
        raise _refusal("relations", network)
    return tuple((block["query"], block["key"], block["value"]) for block in found.blocks)


def _refusal(name: Internal, network: nn.Module) -> InvalidSpec:
    config: Any = getattr(network, "config", None)
    kind = getattr(config, "model_type", type(network).__name__)
    message = (
        f"losses: a loss reads the {WORDS[name]} of its networks, and there is no way to in {kind}"
    )
    return InvalidSpec(message, param="losses", code="model_does_not_fit")


# Attention.


def _projections(module: nn.Module) -> tuple[nn.Module, ...]:
    """Return what makes queries, keys and values: three layers, one for all, or nothing."""
    children = dict(module.named_children())
    for names in SEPARATE:
        if all(name in children for name in names):
            return tuple(children[name] for name in names)
    return tuple(children[name] for name in FUSED if name in children)[:1]


def _is_fused(module: nn.Module) -> bool:
    return any(hasattr(module, name) for name in OTHERWISE)


def _watch(attention: nn.Module, found: _Found, stack: ExitStack) -> None:
    """Note what the projections of one attention put out, each time that it runs.

    A module may run for several blocks (ALBERT shares one), and project more than tokens (DeBERTa, its
    relative positions, after the tokens): a block is one run, and the first output in it counts.
    """

    def begin(*_: Any) -> None:
        found.blocks.append({})

    def note(*names: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(_: nn.Module, __: Any, output: Tensor) -> None:
            for name, part in zip(names, output.chunk(len(names), dim=-1), strict=True):
                found.blocks[-1].setdefault(name, part)

        return hook

    stack.enter_context(attention.register_forward_pre_hook(begin))
    projections = _projections(attention)
    if len(projections) == 1:
        stack.enter_context(projections[0].register_forward_hook(note("query", "key", "value")))
        return
    for name, projection in zip(("query", "key", "value"), projections, strict=False):
        stack.enter_context(projection.register_forward_hook(note(name)))


@contextmanager
def _eager(body: nn.Module) -> Generator[None]:
    """Compute attention step by step while this is open."""
    made: Any = body
    before = getattr(made.config, "_attn_implementation", "eager")
    if before == "eager":
        yield
        return
    made.set_attn_implementation("eager")
    try:
        yield
    finally:
        made.set_attn_implementation(before)


@contextmanager
def _without_dropout(attentions: list[nn.Module]) -> Generator[None]:
    """Switch off the dropout of attention's shares, and of nothing else, while this is open."""
    modules = [
        module
        for attention in attentions
        for module in (attention, *(getattr(attention, name, None) for name in DROPOUTS))
        if isinstance(module, nn.Module) and module.training
    ]
    for module in modules:
        module.training = False  # not eval(): what lies below keeps its own
    try:
        yield
    finally:
        for module in modules:
            module.training = True
