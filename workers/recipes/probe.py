"""Fitting a linear head on frozen features: each text is encoded once, then the head is solved for.

Heads are scikit-learn's: logistic regression, one for each label where there may be several, ridge for
numbers. How strongly they are regularized is chosen on the validation set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from app.adapt.layers.language import IGNORED
from app.adapt.outputs import Encoded
from app.kit.clock import monotonic
from workers.training.batches import fit_tokens
from workers.training.device import autocast
from workers.training.evaluate import Stage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.adapt.method import FeatureMethod
    from app.adapt.task import Probed

    Features = NDArray[np.float32]

GRID = (0.1, 1.0, 10.0, 100.0)
MAX_ITERATIONS = 1_000
ABSENT = -30.0  # logit of a label that no training row has: a probability of about 1e-13


@dataclass(frozen=True)
class Head:
    """A fitted head: logits = weight_CD x + bias_C."""

    weight_CD: NDArray[np.float64]
    bias_C: NDArray[np.float64]
    regularization: float

    def logits(self, features_ND: Features) -> NDArray[np.float32]:
        """Return (N, C)."""
        return (features_ND @ self.weight_CD.T + self.bias_C).astype(np.float32)


@dataclass(frozen=True)
class Seen:
    """A set as a linear head sees it: features (N, D) and targets of its answers, n for each row."""

    items: Sequence[Encoded]
    rows: list[Features]
    targets: list[Any]

    @property
    def features_ND(self) -> Features:  # noqa: N802 - shapes are part of names
        """All answers' features, one below the other."""
        return np.concatenate(self.rows) if self.rows else np.empty((0, 0), dtype=np.float32)


@torch.no_grad()
def seen_by_head(stage: Stage, encoded: Sequence[Encoded], max_tokens: int) -> Seen:
    """Encode a set once."""
    network, half = stage.network.eval(), cast("Probed", stage.task.network())
    rows: dict[int, Features] = {}
    for part in fit_tokens(range(len(encoded)), [len(item) for item in encoded], max_tokens):
        stage.beat()
        items = [encoded[at] for at in part]
        batch = half.collate(stage.task, items, stage.pad_id).to(stage.device)
        with autocast(stage.device, stage.precision):
            rows |= dict(zip(part, half.features(network, batch, items), strict=True))
    targets = [target for item in encoded for target in half.answers(item)]
    return Seen(encoded, [rows[at] for at in range(len(encoded))], targets)


def fit_head(stage: Stage, method: FeatureMethod, train: Seen, validation: Seen) -> Head:
    """Return the head of the best regularization in the grid, judged by the task's primary metric."""
    grid = GRID if method.regularization == "auto" else (method.regularization,)
    heads = [_solve(cast("Any", stage.network).config, train, value) for value in grid]
    if len(heads) == 1:
        return heads[0]
    name, greater = stage.task.primary_metric()
    half = cast("Probed", stage.task.network())

    def judged(head: Head) -> float:
        metrics = stage.task.metrics()
        scores = [
            half.scores_of_answers(item, head.logits(row_nD))
            for item, row_nD in zip(validation.items, validation.rows, strict=True)
        ]
        metrics.add(scores, validation.items)
        return metrics.compute()[name] * (1 if greater else -1)

    return max(heads, key=judged)  # the first of equals: the stronger regularization


def install(network: torch.nn.Module, head: Head) -> None:
    """Put a head into its network."""
    classifier = cast("Any", network).classifier
    with torch.no_grad():
        classifier.weight.copy_(torch.from_numpy(head.weight_CD))
        classifier.bias.copy_(torch.from_numpy(head.bias_C))


def probe(
    stage: Stage, method: FeatureMethod, train: Sequence[Encoded], validation: Sequence[Encoded],
    max_tokens: int,
) -> dict[str, Any]:  # fmt: skip
    """Fit the stage's head and put it in; return what there is to say about it."""
    started = monotonic()
    train_seen = seen_by_head(stage, train, max_tokens)
    validation_seen = seen_by_head(stage, validation, max_tokens)
    encoded_at = monotonic()
    head = fit_head(stage, method, train_seen, validation_seen)
    install(stage.network, head)
    return {
        "rows": len(train),
        "features": int(head.weight_CD.shape[1]),
        "regularization": head.regularization,
        "encoding_s": round(encoded_at - started, 2),
        "fitting_s": round(monotonic() - encoded_at, 2),
    }


def _solve(config: Any, seen: Seen, regularization: float) -> Head:
    """Solve for the head of a network with this config: its kind of answers and their number."""
    from sklearn.linear_model import LogisticRegression, Ridge

    rows_ND, targets = seen.features_ND, seen.targets
    match config.problem_type:
        case "regression":
            fitted: Any = Ridge(alpha=1 / regularization).fit(rows_ND, targets)
            weight_CD, bias_C = np.atleast_2d(fitted.coef_), np.atleast_1d(fitted.intercept_)
        case "multi_label_classification":
            present_NC = np.zeros((len(targets), config.num_labels), dtype=np.int64)
            for row, labels in enumerate(targets):
                present_NC[row, labels] = 1
            one = [_binary(rows_ND, column, regularization) for column in present_NC.T]
            weight_CD, bias_C = np.stack([w for w, _ in one]), np.array([b for _, b in one])
        case _:
            counts = np.array(targets) != IGNORED
            weight_CD = np.zeros((config.num_labels, rows_ND.shape[1]))
            bias_C = np.full(config.num_labels, ABSENT)
            fitted = LogisticRegression(C=regularization, max_iter=MAX_ITERATIONS)
            fitted.fit(rows_ND[counts], np.array(targets)[counts])
            coefficients, intercepts = fitted.coef_, fitted.intercept_
            if len(fitted.classes_) == 2:  # noqa: PLR2004 - one row for both: logit of the second
                coefficients = np.concatenate([-coefficients / 2, coefficients / 2])
                intercepts = np.concatenate([-intercepts / 2, intercepts / 2])
            weight_CD[fitted.classes_] = coefficients
            bias_C[fitted.classes_] = intercepts
    return Head(weight_CD, bias_C, regularization)


def _binary(rows_ND: Features, present_N: Any, regularization: float) -> tuple[Any, float]:
    """Return weight and bias of one label; one that all or no rows have needs no regression."""
    from sklearn.linear_model import LogisticRegression

    if present_N.min() == present_N.max():
        return np.zeros(rows_ND.shape[1]), -ABSENT if present_N[0] else ABSENT
    fitted: Any = LogisticRegression(C=regularization, max_iter=MAX_ITERATIONS).fit(
        rows_ND, present_N
    )
    return fitted.coef_[0], float(fitted.intercept_[0])
