"""Metrics of the three problems, by scikit-learn and SciPy: they define them, here they are collected."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from app.adapt.interval import bootstrap
from app.adapt.task import Metrics
from app.adapt.tasks.text_classification.predict import sigmoid

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import NDArray

    from app.adapt.outputs import Encoded
    from app.adapt.task import Scores

DIGITS = 6
MIN_ROWS = 2  # a correlation needs two points


class SingleLabelMetrics(Metrics):
    """Accuracy, macro F1 (micro F1 is accuracy) and Matthews' correlation."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = list(labels)
        self._truth: list[int] = []
        self._given: list[int] = []

    def add(self, scores: Sequence[Scores], items: Sequence[Encoded]) -> None:
        """Take logits (C,) and label indices."""
        self._given += [int(row.argmax()) for row in scores]
        self._truth += [item.target for item in items]

    def compute(self) -> dict[str, float]:
        """Return accuracy, f1_macro and mcc; labels that neither occur nor are given count nowhere."""
        sk = _sklearn()

        truth, given = self._truth, self._given
        if not truth:
            return {"accuracy": 0.0, "f1_macro": 0.0, "mcc": 0.0}
        with _quiet():
            return {
                "accuracy": float(sk.accuracy_score(truth, given)),
                "f1_macro": float(sk.f1_score(truth, given, average="macro", zero_division=0)),
                "mcc": float(sk.matthews_corrcoef(truth, given)),
            }

    def details(self) -> dict[str, Any]:
        """Return precision, recall, F1 and support of each label, and the confusion matrix."""
        sk = _sklearn()

        every = range(len(self.labels))
        matrix = (
            sk.confusion_matrix(self._truth, self._given, labels=list(every)).tolist()
            if self._truth
            else [[0 for _ in every] for _ in every]
        )
        return {
            "per_label": _per_label(self.labels, self._truth, self._given, labels=list(every)),
            "confusion": {"labels": self.labels, "rows_are": "truth", "matrix": matrix},
        }

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Return those of accuracy and macro F1."""
        sk = _sklearn()

        truth, given = np.array(self._truth), np.array(self._given)
        if not truth.size:
            return {}
        right = truth == given

        def f1(rows: NDArray[np.int64]) -> float:
            return float(sk.f1_score(truth[rows], given[rows], average="macro", zero_division=0))

        with _quiet():
            return {
                "accuracy": bootstrap(len(truth), lambda rows: float(right[rows].mean())),
                "f1_macro": bootstrap(len(truth), f1, resamples=200),  # a slow function
            }


class MultiLabelMetrics(Metrics):
    """Micro and macro F1 over labels, and the share of rows whose label set is exactly right."""

    def __init__(self, labels: Sequence[str], threshold: float) -> None:
        self.labels = list(labels)
        self.threshold = threshold
        self._truth: list[NDArray[np.bool_]] = []
        self._given: list[NDArray[np.bool_]] = []

    def add(self, scores: Sequence[Scores], items: Sequence[Encoded]) -> None:
        """Take logits (C,) and lists of label indices."""
        for row, item in zip(scores, items, strict=True):
            truth = np.zeros(len(self.labels), dtype=np.bool_)
            truth[item.target] = True
            self._truth.append(truth)
            self._given.append(sigmoid(row) >= self.threshold)

    def compute(self) -> dict[str, float]:
        """Return f1_micro, f1_macro and subset_accuracy."""
        sk = _sklearn()

        if not self._truth:
            return {"f1_micro": 0.0, "f1_macro": 0.0, "subset_accuracy": 0.0}
        truth, given = np.stack(self._truth), np.stack(self._given)
        return {
            "f1_micro": float(sk.f1_score(truth, given, average="micro", zero_division=0)),
            "f1_macro": float(sk.f1_score(truth, given, average="macro", zero_division=0)),
            "subset_accuracy": float(sk.accuracy_score(truth, given)),
        }

    def details(self) -> dict[str, Any]:
        """Return precision, recall, F1 and support of each label."""
        shape = (0, len(self.labels))
        truth = np.stack(self._truth) if self._truth else np.zeros(shape, dtype=np.bool_)
        given = np.stack(self._given) if self._given else np.zeros(shape, dtype=np.bool_)
        return {"per_label": _per_label(self.labels, truth, given)}

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Return that of micro F1 = 2 TP / (given + true), from counts by row."""
        if not self._truth:
            return {}
        truth, given = np.stack(self._truth), np.stack(self._given)
        hits, both = (truth & given).sum(axis=1), truth.sum(axis=1) + given.sum(axis=1)

        def f1(rows: NDArray[np.int64]) -> float:
            return float(2 * hits[rows].sum() / max(1, both[rows].sum()))

        return {"f1_micro": bootstrap(len(hits), f1)}


class RegressionMetrics(Metrics):
    """Pearson's and Spearman's correlation, and errors."""

    def __init__(self) -> None:
        self._given: list[float] = []
        self._truth: list[float] = []

    def add(self, scores: Sequence[Scores], items: Sequence[Encoded]) -> None:
        """Take scores (1,) and numbers."""
        self._given += [float(row[0]) for row in scores]
        self._truth += [float(item.target) for item in items]

    def compute(self) -> dict[str, float]:
        """Return pearson, spearman, mse, rmse and mae; a constant has correlation 0."""
        from scipy.stats import pearsonr, spearmanr

        sk = _sklearn()

        truth, given = self._truth, self._given
        if not truth:
            return dict.fromkeys(("pearson", "spearman", "mse", "rmse", "mae"), 0.0)
        mse = float(sk.mean_squared_error(truth, given))
        return {
            "pearson": _correlation(pearsonr, truth, given),
            "spearman": _correlation(spearmanr, truth, given),
            "mse": mse,
            "rmse": mse**0.5,
            "mae": float(sk.mean_absolute_error(truth, given)),
        }

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Return those of both correlations."""
        from scipy.stats import pearsonr, spearmanr

        truth, given = np.array(self._truth), np.array(self._given)
        if not truth.size:
            return {}

        def interval(function: Callable[..., Any]) -> tuple[float, float]:
            return bootstrap(
                len(truth), lambda rows: _correlation(function, truth[rows], given[rows])
            )

        return {"pearson": interval(pearsonr), "spearman": interval(spearmanr)}


def _correlation(function: Callable[..., Any], truth: Any, given: Any) -> float:
    """Return a correlation, 0 where it is not defined: one value only, or always the same."""
    if len(truth) < MIN_ROWS or np.ptp(truth) == 0 or np.ptp(given) == 0:
        return 0.0
    with _quiet():
        return float(function(truth, given).statistic)


def _per_label(names: list[str], truth: Any, given: Any, **options: Any) -> list[dict[str, Any]]:

    if not len(truth):
        figures: Any = np.zeros((4, len(names)))
    else:
        figures = _sklearn().precision_recall_fscore_support(
            truth, given, zero_division=0, **options
        )
    return [
        {
            "label": label,
            "precision": round(float(precision), DIGITS),
            "recall": round(float(recall), DIGITS),
            "f1": round(float(f1), DIGITS),
            "support": int(support),
        }
        for label, precision, recall, f1, support in zip(names, *figures, strict=True)
    ]


def _sklearn() -> Any:
    from sklearn import metrics

    return metrics


@contextmanager
def _quiet() -> Generator[None]:
    """Keep scikit-learn and SciPy from warning of what is handled: one class only, near-constants."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
