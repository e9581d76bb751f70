"""A method that is chosen by trying several on a budget."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from app.adapt.method import Method
from app.adapt.plugins import METHODS, AnyMethod
from app.kit.registry import Plugin


def _candidates() -> list[Method]:
    return [METHODS[kind].model_validate({}) for kind in ("linear_probe", "lora", "full")]


class AutoMethod(Plugin):
    """Train with each candidate for a while, then go on with the one that does best on held-out rows.

    Each starts from the source anew and has its own schedule within the budget. Of equals, the first is
    taken: name the cheapest first. A candidate that does not fit the task or the model is passed over.
    """

    added_tokens: ClassVar[int] = 0  # a candidate's own tokens count when it is tried

    kind: Literal["auto"] = "auto"
    candidates: list[AnyMethod] = Field(
        default_factory=_candidates, min_length=2, max_length=8,
        description="What is compared, the cheapest first.",
    )  # fmt: skip
    budget: float = Field(
        default=0.2,
        gt=0,
        le=1,
        description="Share of the training's steps that each candidate has.",
    )
