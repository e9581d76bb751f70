"""Span metrics by seqeval, the library that repeats the CoNLL evaluation script."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from app.adapt.interval import bootstrap
from app.adapt.task import Metrics
from app.adapt.tasks.token_classification.words import OUTSIDE, Offsets, spans_of, tags_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.adapt.outputs import Encoded
    from app.adapt.task import Scores

DIGITS = 6


class SpanMetrics(Metrics):
    """Precision, recall and F1 of exactly right spans, and the share of words with the right tag."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = list(labels)
        self._truth: dict[int, list[str]] = {}
        self._given: dict[int, list[str]] = {}

    def add(self, scores: Sequence[Scores], items: Sequence[Encoded]) -> None:
        """Take logits (T, C) and rows; the windows of one text may come in any order."""
        for row, item in zip(scores, items, strict=True):
            truth = item.extra["tags"]
            self._truth[item.example] = truth
            given = self._given.setdefault(item.example, [OUTSIDE] * len(truth))
            best = [self._labels[at] for at in row[item.extra["pieces"]].argmax(axis=-1)]
            for word, tag in word_tags(best, item.extra["offsets"], item.extra["words"]):
                given[word] = tag

    def compute(self) -> dict[str, float]:
        """Return precision, recall and f1 of spans (micro average), and accuracy of words."""
        truth, given = self._tags()
        if not truth:
            return dict.fromkeys(("precision", "recall", "f1", "accuracy"), 0.0)
        from seqeval.metrics import accuracy_score

        figures = self._report(truth, given).get("micro avg", {})
        return {
            "precision": float(figures.get("precision", 0.0)),
            "recall": float(figures.get("recall", 0.0)),
            "f1": float(figures.get("f1-score", 0.0)),
            "accuracy": float(cast("Any", accuracy_score)(truth, given)),
        }

    def details(self) -> dict[str, Any]:
        """Return precision, recall, F1 and support of each label."""
        truth, given = self._tags()
        report = self._report(truth, given) if truth else {}
        return {
            "per_label": [
                {
                    "label": label,
                    "precision": round(float(figures["precision"]), DIGITS),
                    "recall": round(float(figures["recall"]), DIGITS),
                    "f1": round(float(figures["f1-score"]), DIGITS),
                    "support": int(figures["support"]),
                }
                for label, figures in report.items()
                if not label.endswith(" avg")
            ]
        }

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Return that of F1 = 2 TP / (given + true), from counts by text."""
        truth, given = self._tags()
        if not truth:
            return {}
        pairs = [(_entities(a), _entities(b)) for a, b in zip(truth, given, strict=True)]
        hits = np.array([len(a & b) for a, b in pairs])
        both = np.array([len(a) + len(b) for a, b in pairs])

        def f1(rows: NDArray[np.int64]) -> float:
            return float(2 * hits[rows].sum() / max(1, both[rows].sum()))

        return {"f1": bootstrap(len(pairs), f1)}

    def _tags(self) -> tuple[list[list[str]], list[list[str]]]:
        """Return true and given tags by text, the given ones as whole spans."""
        order = sorted(self._truth)
        return [self._truth[at] for at in order], [as_spans(self._given[at]) for at in order]

    def _report(self, truth: list[list[str]], given: list[list[str]]) -> dict[str, Any]:
        from seqeval.metrics import classification_report

        if not any(tag != OUTSIDE for tags in (*truth, *given) for tag in tags):
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of labels that never occur, which get 0
            report: Any = cast("Any", classification_report)(
                truth, given, output_dict=True, zero_division=0
            )
        return report


def word_tags(
    tags: Sequence[str], pieces: Sequence[Offsets], words: Sequence[Offsets]
) -> list[tuple[int, str]]:
    """Return (word, tag) of the words that begin in one of these pieces; a word has its first piece's.

    Where one piece holds the beginnings of several words, the later ones go on what the first began.
    """
    found: list[tuple[int, str]] = []
    at, used = 0, -1
    for word, (start, _) in enumerate(words):
        while at < len(pieces) and pieces[at][1] <= start:
            at += 1
        if at == len(pieces):
            break
        if pieces[at][0] > start:
            continue
        tag = tags[at]
        if used == at and tag.startswith("B-"):
            tag = "I-" + tag[2:]
        found.append((word, tag))
        used = at
    return found


def as_spans(tags: Sequence[str]) -> list[str]:
    """Return tags in which every span begins with B-, as `spans_of` reads them."""
    words = [(at, at + 1) for at in range(len(tags))]
    return tags_of(words, spans_of(tags, words)[0])


def _entities(tags: list[str]) -> set[tuple[str, int, int]]:
    from seqeval.metrics.sequence_labeling import get_entities

    return set(cast("Any", get_entities)(tags))
