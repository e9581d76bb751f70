"""The teacher's logits as numbers to hit."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from app.adapt.loss import Loss, taught

if TYPE_CHECKING:
    from torch import Tensor

    from app.adapt.outputs import Batch, Outputs


class LogitMse(Loss):
    """L = 1/(n C) sum_i |f_i - g_i|^2, f student, g teacher, C logits an answer.

    n answers: one a row, or one a token; tokens that are padding or have no target (-100) do not count.
    A span has two answers, each of as many logits as the row has tokens. Source: Tang et al. 2019 (arXiv
    1903.12136), who have no 1/C; Kim et al. 2021 (arXiv 2105.08919).
    """

    needs_teacher: ClassVar[bool] = True

    kind: Literal["logit_mse"] = "logit_mse"

    def compute(self, student: Outputs, batch: Batch, teacher: Outputs | None) -> Tensor:
        """Return the mean over answers; logits are classes, labels, spans, or one number a row."""
        from app.adapt.layers.answers import mean_of_answers, mean_of_tokens, same_answers

        teacher = taught(teacher)
        if teacher.top_ids is not None:
            message = "it compares all logits, and of a vocabulary only the likeliest are kept"
            raise ValueError(message)
        same_answers(student, teacher)
        if student.answer == "vector" or student.logits.ndim not in {2, 3}:
            shape = tuple(student.logits.shape)
            message = f"it compares logits, and {student.answer} answers {shape} are none"
            raise ValueError(message)
        is_span = student.answer == "span"
        squares = (student.logits.float() - teacher.logits.detach().float()).square().mean(-1)
        if is_span:
            return mean_of_tokens(squares, student.mask_BT != 0, batch)
        return mean_of_answers(squares, batch)
