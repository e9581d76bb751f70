"""The method contract: which weights change, and how fast."""

from __future__ import annotations

from abc import ABC
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from app.kit.registry import Plugin

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase


SMALL = 60_000_000
LARGE = 250_000_000


def full_learning_rate(num_parameters: int) -> float:
    """Return the rate at which a whole network of this size is tuned; smaller ones take larger steps.

    Source: Devlin et al. 2019 (arXiv 1810.04805, A.3) search 2e-5 to 5e-5 for BERT-base, Turc et al. 2019
    (arXiv 1908.08962) 3e-5 to 3e-4 for compact ones; 1e-5 is usual for large ones. Of 1e-4 and 2e-4, the
    latter did better or as well on held-out rows of three sets (docs/results.md).
    """
    if num_parameters < SMALL:
        return 2e-4
    return 3e-5 if num_parameters < LARGE else 1e-5


class Method(Plugin, ABC):
    """How a network is adapted. Subclass it in one file under `methods/`; as it is, it tunes everything."""

    freezes: ClassVar[bool] = False  # some weights never train, so they had better be pretrained
    probes: ClassVar[bool] = (
        False  # a linear head is fitted on frozen features before anything trains
    )
    steps: ClassVar[bool] = True  # it trains by steps of gradient descent

    freeze: list[str] = Field(
        default=[],
        description='Layers that stay as they are: "embeddings", "head", blocks ("0-3", "5"), or patterns '
        'of parameter names ("*.attention.*").',
    )

    def learning_rate(self, num_parameters: int, full: float | None = None) -> float:
        """Return the value that `"auto"` stands for, for a network of this size.

        `full` is the rate at which the whole of it is tuned, where its kind has one of its own (a model's
        config says so as `attune_learning_rate`); None: by its size.
        """
        return full or full_learning_rate(num_parameters)

    @property
    def added_tokens(self) -> int:
        """How many tokens it puts before a text, which take their room of `max_length`; default: 0."""
        return 0

    def extend_tokenizer(
        self, tokenizer: PreTrainedTokenizerBase, network: nn.Module
    ) -> PreTrainedTokenizerBase:
        """Return the tokenizer that texts are read with from here on; default: the model's own.

        Called once, with the network just loaded, before anything is encoded and before `prepare`, which
        finds on the network what this notes there. The result is saved with the model; the given
        tokenizer stays as it is, for what the model is compared to.
        """
        del network
        return tokenizer

    def prepare(self, network: nn.Module) -> nn.Module:
        """Freeze, wrap or extend the network in place; default: everything trains.

        Called once, before the optimizer exists.
        """
        return network.requires_grad_(requires_grad=True)

    def parameter_groups(
        self, network: nn.Module, *, learning_rate: float, weight_decay: float
    ) -> list[dict[str, Any]]:
        """Return the optimizer's groups: each `{"params", "lr", "weight_decay"}`, in a stable order.

        Default: of what trains, matrices with decay and vectors (biases, normalization) without.
        """
        from app.adapt.layers.depth import decay_groups

        return decay_groups(
            network.parameters(), learning_rate=learning_rate, weight_decay=weight_decay
        )

    def before_step(self, network: nn.Module, *, fraction: float) -> None:
        """Adjust what trains at this point of the training (`fraction` in [0, 1)); default: nothing.

        Must depend on `fraction` alone, so that a resumed run does what an undisturbed one does.
        """

    def finish(self, network: nn.Module) -> nn.Module:
        """Return the network to save: adapters merged, hooks gone; default: unchanged."""
        return network


class LayerwiseMethod(Method, ABC):
    """A method whose rates fall from the top layer down."""

    layer_decay: float = Field(
        default=0.95, gt=0, le=1, description="Rate of a layer as a share of that above it."
    )

    def parameter_groups(
        self, network: nn.Module, *, learning_rate: float, weight_decay: float
    ) -> list[dict[str, Any]]:
        """Return the groups of each depth, the top first."""
        from app.adapt.layers.depth import groups_by_depth

        return groups_by_depth(
            network,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            layer_decay=self.layer_decay,
        )


class FeatureMethod(Method, ABC):
    """A method that begins with a linear head on frozen, pooled features."""

    probes: ClassVar[bool] = True

    layers: list[int] = Field(
        default=[-1], min_length=1, max_length=64,
        description="Hidden states that features are taken of: 0 the embeddings, -1 the last layer.",
    )  # fmt: skip
    poolings: list[Literal["mean", "max", "cls", "last"]] = Field(
        default=["mean"], min_length=1, max_length=4,
        description="How the states of all tokens become one vector; several lie side by side.",
    )  # fmt: skip
    normalize: bool = Field(
        default=True, description="Each vector to length 1 before they are joined."
    )
    regularization: Annotated[float, Field(gt=0)] | Literal["auto"] = Field(
        default="auto", description="C of the regression, small is strong; auto: by held-out rows."
    )
