"""What a task says of one row by itself: how wrong an answer is, what was expected, what is asked.

Torch-free. `Task` inherits it; a task overrides what is different for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.adapt.outputs import Encoded, Generated
    from app.adapt.task import Example


class RowByRow:
    """See `app.adapt.task.Task`."""

    def row_loss(self, scores: Any, encoded: Encoded) -> float | None:
        """Return the loss of this row alone, as the task's own loss has it; None where it has none.

        The loss of a set is the mean of these, each weighted by the row's `units`.
        """
        del scores, encoded
        return None

    def sentence_score(self, answer: Generated, encoded: Encoded) -> tuple[str, float] | None:
        """Return name and value of how good a written answer is, more being better; None: not judged."""
        del answer, encoded
        return None

    def expected(self, example: Example) -> Any:
        """Return the right answer of a labelled example, as JSON has it."""
        return example.target

    def asked(self, example: Example) -> Example | None:
        """Return a labelled example as a predict call would ask it; None where there is no such call."""
        return replace(example, target=None)

    def answered(self, example: Example, text: str) -> Example:
        """Return the example with a text that a teacher wrote as its target; asked if it `generates`.

        Raises:
            InvalidSpec: examples of this form have no answer.
        """
        raise NotImplementedError

    def input_value(self, given: Mapping[str, Any]) -> Any:
        """Return an element of a predict call's `inputs`, of a row's values by role."""
        return next(iter(given.values())) if len(given) == 1 else dict(given)

    def as_base(self, config: Mapping[str, Any]) -> Self:
        """Return this config with what the `config.json` of a base model says of its head.

        Raises:
            InvalidSpec: its head does something else.
        """
        del config
        return self


def log_softmax(scores: NDArray[Any]) -> NDArray[np.float64]:
    """Return x_i - log sum_j exp(x_j) along the last axis."""
    shifted = np.asarray(scores, dtype=np.float64)
    shifted = shifted - shifted.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
