"""Options of writing text, named as transformers' `generate` names them. Torch-free."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from app.adapt.task import Parameters

MAX_NEW_TOKENS = 128


class GenerationParameters(Parameters):
    """How an answer is searched for: greedily, by beams, or by sampling."""

    max_new_tokens: int = Field(default=MAX_NEW_TOKENS, ge=1, le=8192)
    min_new_tokens: int = Field(default=0, ge=0, le=8192)
    num_beams: int = Field(default=1, ge=1, le=32, description="1 is greedy search, or sampling.")
    length_penalty: float = Field(
        default=1.0, ge=-10, le=10, description="Beams: above 0 favours longer answers."
    )
    early_stopping: bool = Field(
        default=False, description="Beams: stop as soon as there are num_beams answers."
    )
    do_sample: bool = Field(
        default=False, description="Draw each token instead of taking the best."
    )
    temperature: float = Field(default=1.0, gt=0, le=10, description="Sampling: below 1 is bolder.")
    top_k: int = Field(
        default=0, ge=0, le=100_000, description="Sampling: of the best k; 0: of all."
    )
    top_p: float = Field(
        default=1.0, gt=0, le=1, description="Sampling: of the fewest that have this probability."
    )
    repetition_penalty: float = Field(default=1.0, gt=0, le=10)
    no_repeat_ngram_size: int = Field(
        default=0, ge=0, le=100, description="No run of so many tokens twice; 0: any."
    )
    num_return_sequences: int = Field(default=1, ge=1, le=32)
    seed: int | None = Field(
        default=None, ge=0, lt=2**31, description="Sampling: the same seed, the same answer."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_new_tokens > self.max_new_tokens:
            message = "min_new_tokens is greater than max_new_tokens"
            raise ValueError(message)
        if not self.do_sample and self.num_return_sequences > self.num_beams:
            message = "num_return_sequences: without do_sample there are only as many answers as num_beams"
            raise ValueError(message)
        drawn = self.model_dump(
            include={"temperature", "top_k", "top_p", "seed"}, exclude_defaults=True
        )
        if drawn and not self.do_sample:
            message = f"{min(drawn)} is an option of sampling: set do_sample to true"
            raise ValueError(message)
        return self

    def options(self) -> dict[str, Any]:
        """Return what `generate` takes; a seed is not among it."""
        options = self.model_dump(exclude={"seed", "temperature", "top_k", "top_p"})
        if self.do_sample:
            options |= self.model_dump(include={"temperature", "top_k", "top_p"})
        if self.num_beams == 1:
            del options["length_penalty"], options["early_stopping"]
        return options
