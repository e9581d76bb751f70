"""What is reported is what scikit-learn and SciPy say of all rows at once, fed in parts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from app.adapt.outputs import Encoded
from app.adapt.tasks.text_classification.metrics import (
    MultiLabelMetrics,
    RegressionMetrics,
    SingleLabelMetrics,
)

LABELS = ["a", "b", "c", "d"]


def fed(metric, scores, targets, size=7):
    items = [Encoded([0], target=target) for target in targets]
    for start in range(0, len(targets), size):
        metric.add(scores[start : start + size], items[start : start + size])
    return metric


@pytest.mark.parametrize("seed", range(5))
def test_single_label(seed):
    rng = np.random.default_rng(seed)
    truth = rng.choice(4, size=60, p=[0.6, 0.3, 0.1, 0.0])
    scores = (rng.normal(size=(60, 4)) + 1.5 * np.eye(4)[truth]).astype(np.float32)
    scores[:, 3] -= 100.0  # a label that neither occurs nor is predicted
    guess = scores.argmax(axis=1)
    ours = fed(SingleLabelMetrics(LABELS), scores, truth.tolist())
    values = ours.compute()
    assert values["accuracy"] == pytest.approx(sk.accuracy_score(truth, guess))
    assert values["f1_macro"] == pytest.approx(sk.f1_score(truth, guess, average="macro"))
    assert values["mcc"] == pytest.approx(sk.matthews_corrcoef(truth, guess))
    details = ours.details()
    expected = sk.confusion_matrix(truth, guess, labels=range(4))
    assert details["confusion"]["matrix"] == expected.tolist()
    columns = sk.precision_recall_fscore_support(truth, guess, labels=range(4), zero_division=0)
    for row, (p, r, f, n) in zip(details["per_label"], zip(*columns, strict=True), strict=True):
        assert (row["precision"], row["recall"], row["f1"]) == pytest.approx((p, r, f), abs=1e-6)
        assert row["support"] == n


def test_a_constant_answer_has_no_correlation():
    scores = np.zeros((4, 2), dtype=np.float32)
    values = fed(SingleLabelMetrics(["a", "b"]), scores, [0, 1, 0, 1]).compute()
    assert values == {"accuracy": 0.5, "f1_macro": pytest.approx(1 / 3), "mcc": 0.0}


@pytest.mark.parametrize("threshold", [0.3, 0.5])
def test_multi_label(threshold):
    rng = np.random.default_rng(0)
    truth = (rng.random((50, 4)) < 0.4).astype(int)
    scores = (rng.normal(size=(50, 4)) + 2 * truth - 1).astype(np.float32)
    guess = (1 / (1 + np.exp(-scores)) >= threshold).astype(int)
    targets = [np.flatnonzero(row).tolist() for row in truth]
    ours = fed(MultiLabelMetrics(LABELS, threshold), scores, targets)
    values = ours.compute()
    assert values["f1_micro"] == pytest.approx(sk.f1_score(truth, guess, average="micro"))
    assert values["f1_macro"] == pytest.approx(sk.f1_score(truth, guess, average="macro"))
    assert values["subset_accuracy"] == pytest.approx(sk.accuracy_score(truth, guess))
    assert [row["support"] for row in ours.details()["per_label"]] == truth.sum(axis=0).tolist()


def test_regression():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 6, size=80) / 2  # many ties
    scores = (truth + rng.normal(size=80)).astype(np.float32).round(1)[:, None]
    values = fed(RegressionMetrics(), scores, truth.tolist()).compute()
    guess = scores[:, 0].astype(float)
    assert values["pearson"] == pytest.approx(stats.pearsonr(truth, guess).statistic)
    assert values["spearman"] == pytest.approx(stats.spearmanr(truth, guess).statistic)
    assert values["mse"] == pytest.approx(sk.mean_squared_error(truth, guess))
    assert values["rmse"] == pytest.approx(sk.root_mean_squared_error(truth, guess))
    assert values["mae"] == pytest.approx(sk.mean_absolute_error(truth, guess))


def test_regression_of_a_constant_is_no_correlation():
    values = fed(
        RegressionMetrics(), np.ones((5, 1), dtype=np.float32), [1.0, 2, 3, 4, 5]
    ).compute()
    assert (values["pearson"], values["spearman"]) == (0.0, 0.0)


@pytest.mark.parametrize("make", [
    lambda: fed(SingleLabelMetrics(LABELS), np.eye(4)[[0, 1, 2, 3, 3] * 20], [0, 1, 2, 3, 2] * 20),
    lambda: fed(MultiLabelMetrics(LABELS, 0.5), np.eye(4)[[0, 1, 2, 3] * 25] * 9 - 4,
                [[0], [1, 2], [2], []] * 25),
    lambda: fed(RegressionMetrics(), np.arange(100.0)[:, None] % 17, list(np.arange(100.0) % 13)),
])  # fmt: skip
def test_intervals_hold_the_figure(make):
    metric = make()
    values, intervals = metric.compute(), metric.intervals()
    assert intervals
    for name, (low, high) in intervals.items():
        assert low < values[name] < high
