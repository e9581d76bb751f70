"""Rank correlation by scipy; retrieval by torchmetrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from app.adapt.interval import bootstrap
from app.adapt.task import Metrics
from app.adapt.tasks.sentence_similarity.predict import cosines

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.adapt.outputs import Encoded
    from app.adapt.task import Scores

MAX_QUERIES = 2_000  # each is ranked against all texts of the set
RANKS = 10
NAMES = ("ndcg_at_10", "mrr_at_10", "accuracy_at_1")
MIN_ROWS = 3


class ScoreMetrics(Metrics):
    """How the cosine of two sentences goes with their score."""

    def __init__(self) -> None:
        self._pairs: list[tuple[float, float]] = []

    def add(self, scores: Sequence[Scores], items: Sequence[Encoded]) -> None:
        """Take vectors (2, D) of each pair."""
        for vectors_SD, item in zip(scores, items, strict=True):
            cosine = float(cosines(vectors_SD[:1], vectors_SD[1:2])[0, 0])
            self._pairs.append((cosine, float(item.target)))

    def compute(self) -> dict[str, float]:
        """Return spearman and pearson."""
        pairs_N2 = np.array(self._pairs).reshape(-1, 2)
        return {name: _correlation(pairs_N2, name) for name in ("spearman", "pearson")}

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Return those of both."""
        pairs_N2 = np.array(self._pairs).reshape(-1, 2)
        if len(pairs_N2) < MIN_ROWS:
            return {}

        def interval(name: str) -> tuple[float, float]:
            return bootstrap(len(pairs_N2), lambda drawn: _correlation(pairs_N2[drawn], name))

        return {name: interval(name) for name in ("spearman", "pearson")}


def _correlation(pairs_N2: NDArray[Any], name: str) -> float:
    """Return the correlation, 0 where one side does not vary."""
    from scipy import stats

    if len(pairs_N2) < 2 or np.ptp(pairs_N2, axis=0).min() == 0:  # noqa: PLR2004
        return 0.0
    compute: Any = {"spearman": stats.spearmanr, "pearson": stats.pearsonr}[name]
    return float(compute(pairs_N2[:, 0], pairs_N2[:, 1]).statistic)


class RetrievalMetrics(Metrics):
    """How high what belongs to a text ranks among all texts of the set, by cosine.

    Of pairs, the anchors look for their positives; of labelled texts, each looks for those of its label.
    """

    def __init__(self) -> None:
        self._vectors: list[Scores] = []
        self._items: list[Encoded] = []
        self._judged: NDArray[Any] | None = None

    def add(self, scores: Sequence[Scores], items: Sequence[Encoded]) -> None:
        """Take vectors (S, D) of each row's texts."""
        self._judged = None
        self._vectors += scores
        self._items += items

    def compute(self) -> dict[str, float]:
        """Return nDCG and reciprocal rank at 10, and how often the first is right."""
        rows_N3 = self._rows()
        means = rows_N3.mean(axis=0).tolist() if len(rows_N3) else [0.0] * len(NAMES)
        return dict(zip(NAMES, means, strict=True))

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Return those of every figure."""
        rows_N3 = self._rows()
        if not len(rows_N3):
            return {}
        return {
            name: bootstrap(len(rows_N3), lambda drawn, at=at: float(rows_N3[drawn, at].mean()))
            for at, name in enumerate(NAMES)
        }

    def _rows(self) -> NDArray[Any]:
        """Return (N, 3): the figures of each query that has something to find."""
        if self._judged is None:
            # In the order of the rows, so that it is the same however they were batched.
            order = sorted(range(len(self._items)), key=lambda at: self._items[at].example)
            vectors = [self._vectors[at] for at in order]
            items = [self._items[at] for at in order]
            is_paired = bool(items) and bool(items[0].others)
            ranked = _paired(vectors, items) if is_paired else _labelled(vectors, items)
            rows = [_figures(*query) for query in ranked]
            self._judged = np.array(rows).reshape(-1, len(NAMES))
        return self._judged


def _paired(vectors: Sequence[Scores], items: Sequence[Encoded]) -> list[tuple[Any, Any]]:
    """Return (cosines, relevance) of each anchor with every positive and negative."""
    texts: dict[str, Any] = {}
    for rows_SD, item in zip(vectors, items, strict=True):
        texts.update(zip(item.extra["texts"][1:], rows_SD[1:], strict=True))
    names = np.array(list(texts))
    queries_QD = np.stack([rows_SD[0] for rows_SD in vectors[:MAX_QUERIES]])
    cosines_QM = cosines(queries_QD, np.stack(list(texts.values())))
    belongs: dict[str, set[str]] = {}
    for item in items:
        belongs.setdefault(item.extra["texts"][0], set()).add(str(item.target))
    return [
        (row, np.isin(names, list(belongs[item.extra["texts"][0]])))
        for row, item in zip(cosines_QM, items, strict=False)
    ]


def _labelled(vectors: Sequence[Scores], items: Sequence[Encoded]) -> list[tuple[Any, Any]]:
    """Return (cosines, relevance) of each text with every other one."""
    if not items:
        return []
    rows_ND = np.stack([rows_SD[0] for rows_SD in vectors])
    labels = np.array([item.target for item in items])
    cosines_QN = cosines(rows_ND[:MAX_QUERIES], rows_ND)
    found: list[tuple[Any, Any]] = []
    for at, row in enumerate(cosines_QN):
        others = np.arange(len(items)) != at
        relevant = labels[others] == labels[at]
        if relevant.any():
            found.append((row[others], relevant))
    return found


def _figures(cosines_M: Any, relevant_M: Any) -> tuple[float, ...]:
    import torch
    from torchmetrics.functional import retrieval

    made = cast("Any", retrieval)
    scores, target = torch.from_numpy(cosines_M), torch.from_numpy(relevant_M)
    return (
        float(made.retrieval_normalized_dcg(scores, target, top_k=RANKS)),
        float(made.retrieval_reciprocal_rank(scores, target, top_k=RANKS)),
        float(made.retrieval_precision(scores, target, top_k=1)),
    )
