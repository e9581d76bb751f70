"""Streaming metrics of the three problems. Counts and sums only, so that memory does not grow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from app.adapt.tasks.text_classification.predict import sigmoid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.adapt.task import Scores


def _f1(true_positive: Any, predicted: Any, actual: Any) -> Any:
    """F1 = 2 TP / (predicted + actual), 0 where undefined (scikit-learn's zero_division=0)."""
    return np.divide(
        2.0 * true_positive, predicted + actual,
        out=np.zeros_like(true_positive, dtype=np.float64), where=(predicted + actual) > 0,
    )  # fmt: skip


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros_like(part, dtype=np.float64), where=whole > 0)


class SingleLabelMetrics:
    """Accuracy, macro F1 (micro F1 is accuracy) and Matthews' correlation, from one matrix."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = list(labels)
        self.confusion_CC = np.zeros((len(labels), len(labels)), dtype=np.int64)

    def add(self, scores: Scores, targets: Sequence[Any]) -> None:
        """Count a batch: rows of the matrix are the truth, columns the prediction."""
        np.add.at(self.confusion_CC, (np.asarray(targets), scores.argmax(axis=1)), 1)

    def compute(self) -> dict[str, float]:
        """Return accuracy, f1_macro and mcc (Gorodkin 2004, the multi-class form)."""
        matrix = self.confusion_CC.astype(np.float64)
        total, correct = matrix.sum(), np.trace(matrix)
        predicted, actual = matrix.sum(axis=0), matrix.sum(axis=1)
        # Labels that neither occur nor are predicted say nothing, as scikit-learn has it.
        seen = (predicted + actual) > 0
        f1 = _f1(np.diag(matrix), predicted, actual)[seen]
        covariance = correct * total - predicted @ actual
        spread = math.sqrt(
            max((total**2 - predicted @ predicted) * (total**2 - actual @ actual), 0.0)
        )
        return {
            "accuracy": float(correct / total) if total else 0.0,
            "f1_macro": float(f1.mean()) if f1.size else 0.0,
            "mcc": float(covariance / spread) if spread else 0.0,
        }

    def details(self) -> dict[str, Any]:
        """Return precision, recall, F1 and support of each label, and the confusion matrix."""
        matrix = self.confusion_CC
        hits, predicted, actual = np.diag(matrix), matrix.sum(axis=0), matrix.sum(axis=1)
        return {
            "per_label": _per_label(self.labels, hits, predicted, actual),
            "confusion": {"labels": self.labels, "rows_are": "truth", "matrix": matrix.tolist()},
        }


class MultiLabelMetrics:
    """Micro and macro F1 over labels, and the share of rows whose label set is exactly right."""

    def __init__(self, labels: Sequence[str], threshold: float) -> None:
        self.labels = list(labels)
        self.threshold = threshold
        self.counts_3C = np.zeros((3, len(labels)), dtype=np.int64)  # hits, predicted, actual
        self.exact = self.total = 0

    def add(self, scores: Scores, targets: Sequence[Any]) -> None:
        """Count a batch; targets are lists of label indices."""
        given = sigmoid(scores) >= self.threshold
        truth = np.zeros_like(given)
        for row, indices in enumerate(targets):
            truth[row, indices] = True
        self.counts_3C += np.stack(
            [(given & truth).sum(axis=0), given.sum(axis=0), truth.sum(axis=0)]
        )
        self.exact += int((given == truth).all(axis=1).sum())
        self.total += len(given)

    def compute(self) -> dict[str, float]:
        """Return f1_micro, f1_macro and subset_accuracy."""
        hits, predicted, actual = self.counts_3C
        micro = _f1(hits.sum(keepdims=True), predicted.sum(), actual.sum())
        return {
            "f1_micro": float(micro[0]),
            "f1_macro": float(_f1(hits, predicted, actual).mean()),
            "subset_accuracy": self.exact / self.total if self.total else 0.0,
        }

    def details(self) -> dict[str, Any]:
        """Return precision, recall, F1 and support of each label."""
        return {"per_label": _per_label(self.labels, *self.counts_3C)}


class RegressionMetrics:
    """Pearson's and Spearman's correlation, and errors. Ranks need all values, two floats a row."""

    def __init__(self) -> None:
        self._predicted: list[float] = []
        self._actual: list[float] = []

    def add(self, scores: Scores, targets: Sequence[Any]) -> None:
        """Take a batch of (B, 1) scores and numbers."""
        self._predicted += scores[:, 0].astype(float).tolist()
        self._actual += [float(target) for target in targets]

    def compute(self) -> dict[str, float]:
        """Return pearson, spearman, mse, rmse and mae; a constant has correlation 0."""
        predicted, actual = np.array(self._predicted), np.array(self._actual)
        if not predicted.size:
            return {"pearson": 0.0, "spearman": 0.0, "mse": 0.0, "rmse": 0.0, "mae": 0.0}
        mse = float(np.mean((predicted - actual) ** 2))
        return {
            "pearson": _pearson(predicted, actual),
            "spearman": _pearson(_ranks(predicted), _ranks(actual)),
            "mse": mse,
            "rmse": math.sqrt(mse),
            "mae": float(np.mean(np.abs(predicted - actual))),
        }

    def details(self) -> dict[str, Any]:
        """Return nothing: the numbers say it all."""
        return {}


def _pearson(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    first, second = first - first.mean(), second - second.mean()
    spread = math.sqrt(float(first @ first) * float(second @ second))
    return float(first @ second) / spread if spread > 0 else 0.0


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks from 1, ties sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2.0)[inverse]


def _per_label(labels: list[str], hits: Any, predicted: Any, actual: Any) -> list[dict[str, Any]]:
    precision, recall = _ratio(hits, predicted), _ratio(hits, actual)
    f1 = _f1(hits.astype(np.float64), predicted, actual)
    return [
        {
            "label": label,
            "precision": round(float(precision[i]), 6),
            "recall": round(float(recall[i]), 6),
            "f1": round(float(f1[i]), 6),
            "support": int(actual[i]),
        }
        for i, label in enumerate(labels)
    ]
