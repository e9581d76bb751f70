"""Which rows a model does worst: by the score of what it wrote where that is judged, else by the loss."""

from __future__ import annotations

import heapq
import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from app.adapt.outputs import Encoded, Generated
from app.adapt.task import Example, Task
from app.kit.counting import cut
from workers.recipes.asking import Asked
from workers.recipes.memory import Memory
from workers.training.evaluate import Seen
from workers.training.report import Report

SHOWN = 500  # characters of each text
DIGITS = 6


class Judged:
    """Follows an evaluation: what each example came to, and how far it is; it recalls an earlier run's."""

    def __init__(self, task: Task, memory: Memory, report: Report, total: int) -> None:
        self._task = task
        self._memory = memory
        self._report = report
        self._total = total
        self._done = 0
        self._recalled: set[int] = set()
        self._losses: dict[int, float] = defaultdict(float)  # sums over the targets of an example
        self._units: dict[int, int] = defaultdict(int)
        self.texts: dict[int, str] = {}
        self.scores: dict[int, tuple[str, float]] = {}

    def recall(self, number: int) -> Seen | None:
        """Return what an earlier run has seen."""
        seen = self._memory.recall(number)
        if seen is not None:
            self._recalled.add(number)
        return seen

    def scored(self, number: int, seen: Seen, items: Sequence[Encoded]) -> None:
        """Take the scores of rows; an example may have several."""
        for row, item in zip(seen.rows, items, strict=True):
            loss = self._task.row_loss(row, item)
            if loss is not None:
                self._losses[item.example] += loss * item.units
                self._units[item.example] += item.units
        self._tell(number, seen, items)

    def written(self, number: int, seen: Seen, items: Sequence[Encoded]) -> None:
        """Take the answers that were written to rows, the first of each."""
        for found, item in zip(seen.rows, items, strict=True):
            first: Generated = found[0]
            self.texts[item.example] = first.text
            score = self._task.sentence_score(first, item)
            if score is not None:
                self.scores[item.example] = score
        self._tell(number, seen, items)

    def loss(self, example: int) -> float | None:
        """Return the mean loss over an example's targets."""
        units = self._units.get(example)
        return None if not units else self._losses[example] / units

    def worst(self, count: int) -> list[int]:
        """Return the examples that are worst, the worst first; of equals the earlier row."""
        if self.scores:
            return heapq.nsmallest(count, self.scores, key=lambda at: (self.scores[at][1], at))
        known = {at: loss for at in self._units if (loss := self.loss(at)) is not None}
        return heapq.nsmallest(count, known, key=lambda at: (-known[at], at))

    def _tell(self, number: int, seen: Seen, items: Sequence[Encoded]) -> None:
        self._done += len(items)
        if number in self._recalled:
            return
        self._memory.add(number, seen, len(items))
        self._report.trained(len(items), sum(len(item) for item in items))
        self._report.speed()
        self._report.progress(
            self._done, self._total, self._done / self._total, unit="row",
            force=self._done == self._total,
        )  # fmt: skip


def worst_rows(
    judged: Judged, asked: Asked, examples: Sequence[Example], count: int
) -> list[dict[str, Any]]:
    """Return row number, input, what was expected and answered, and how bad it was."""
    chosen = judged.worst(count)
    answers = _answers(judged, asked, [examples[at] for at in chosen], chosen)
    rows: list[dict[str, Any]] = []
    for at, answer in zip(chosen, answers, strict=True):
        example, loss = examples[at], judged.loss(at)
        row: dict[str, Any] = {"row": example.row, "input": _short(example.inputs)}
        row |= {"expected": _short(asked.stage.task.expected(example)), "answered": _short(answer)}
        row["loss"] = None if loss is None else round(loss, DIGITS)
        if at in judged.scores:
            name, value = judged.scores[at]
            row[name] = round(value, DIGITS)
        rows.append(row)
    return rows


def _answers(
    judged: Judged, asked: Asked, examples: Sequence[Example], places: Sequence[int]
) -> list[Any]:
    """Return what the model answers to these; what it has written already it does not write again."""
    if judged.scores:
        return [judged.texts[at] for at in places]
    questions = [asked.stage.task.asked(example) for example in examples]
    known = [question for question in questions if question is not None]
    answers = iter(asked.answers(known)[0] if known else [])
    return [None if question is None else next(answers) for question in questions]


def _short(value: Any) -> Any:
    """Return a value with its texts cut; what is long in another way becomes a text."""
    if isinstance(value, str):
        return cut(value, SHOWN)
    if isinstance(value, dict):
        return {str(key): _short(inner) for key, inner in _items(value)}
    text = json.dumps(value, ensure_ascii=False, default=str)
    return value if len(text) <= SHOWN else cut(text, SHOWN)


def _items(value: Any) -> Any:
    return value.items()
