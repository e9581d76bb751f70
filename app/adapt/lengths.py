"""Which examples are longer than a model reads at once, what becomes of them, and what is said of it.

The trainer knows it from what it has encoded, the dry run by counting tokens; both say it by `tell`.
Torch-free.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from app.kit.counting import counted, in_rows

if TYPE_CHECKING:
    from app.adapt.outputs import Encoded
    from app.adapt.task import Task


@dataclass
class Measured:
    """The rows of a set that are too long, and those of which a task had something to say, by what."""

    too_long: list[int | None] = field(default_factory=list)
    notes: dict[str, list[int | None]] = field(default_factory=lambda: defaultdict(list))


def was_cut(batch: Any, position: int, max_length: int) -> bool:
    """Say whether a tokenizer cut the text at `position` of the batch that it returned."""
    if batch.encodings is None:  # tokenizers written in Python do not say
        return len(batch["input_ids"][position]) >= max_length
    return bool(batch.encodings[position].overflowing)


def measure(encoded: Sequence[Encoded]) -> Measured:
    """Find the examples that were cut (`extra["truncated"]`) or became several rows, and the notes."""
    windows = Counter(item.example for item in encoded)
    long: dict[int, int | None] = {}
    notes: dict[tuple[str, int], int | None] = {}
    for item in encoded:
        if windows[item.example] > 1 or item.extra.get("truncated"):
            long[item.example] = item.row
        if item.extra.get("note"):
            notes[item.extra["note"], item.example] = item.row
    measured = Measured(list(long.values()))
    for (note, _), row in notes.items():
        measured.notes[note].append(row)
    return measured


def tell(
    task: Task, report: Mapping[str, Any], sets: Mapping[str, Measured], max_length: int
) -> list[str]:
    """Put into the report of each set how many examples are too long; return that for people.

    `report` is `Prepared.report`. Nothing is said of a set without such examples.
    """
    said: list[str] = []
    for name, measured in sets.items():
        described: dict[str, Any] = report[name]
        rows = measured.too_long
        described["too_long"] = {"max_length": max_length, "examples": len(rows)}
        texts: list[str] = []
        if rows:
            verb = "is" if len(rows) == 1 else "are"
            texts.append(
                f"{len(rows):,} of {described['usable']:,} examples {verb} longer than {max_length} "
                f"tokens; what is too long {task.when_too_long()} ({in_rows(rows)})"
            )
        for note, noted in measured.notes.items():
            texts.append(f"{counted(len(noted), 'row')} {note} ({in_rows(noted)})")
        described["warnings"] += texts
        said += [f"{name}: {text}" for text in texts]
    return said


def tell_of_encoded(
    task: Task, report: Mapping[str, Any], sets: Mapping[str, Sequence[Encoded]], max_length: int
) -> list[str]:
    """Do what `tell` does for sets that are encoded to `max_length`."""
    measured = {name: measure(items) for name, items in sets.items() if items}
    return tell(task, report, measured, max_length)
