"""From files to a task's examples: the one path that the dry run and the trainer share. Torch-free."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol

from app.adapt.lines import check_container
from app.adapt.plugins import READERS, TASKS
from app.adapt.reader import Problems, Reader, Row
from app.adapt.task import Example, Task
from app.errors import InvalidData

VALIDATION_SHARE = 0.1
MIN_VALIDATION = 50
MAX_VALIDATION = 2_000


class SplitRule(Protocol):
    """How rows are held out; `app.spec.data.Split` is one."""

    @property
    def validation(self) -> float | Literal["auto"]:
        """Share of the training rows."""
        ...

    @property
    def seed(self) -> int:
        """Seed of the choice."""
        ...


class DataRules(Protocol):
    """What a job says about its data; `app.spec.data.Data` does. Specs lie above this layer."""

    @property
    def columns(self) -> Mapping[str, str]:
        """Role to column."""
        ...

    @property
    def split(self) -> SplitRule:
        """The rule that holds without a validation file."""
        ...

    @property
    def on_bad_rows(self) -> Literal["fail", "skip"]:
        """What happens to rows that cannot be used."""
        ...


@dataclass(frozen=True)
class Dataset:
    """The rows of one file, and what was wrong with the others."""

    filename: str
    rows: list[Row]
    columns: list[str]
    problems: Problems


@dataclass(frozen=True)
class Prepared:
    """A fitted task and its examples; `report` is JSON-able, with a section for each set."""

    task: Task
    train: list[Example]
    validation: list[Example]
    test: list[Example]
    columns: dict[str, str]
    report: dict[str, Any]
    warnings: list[str] = field(default_factory=list)


def reader_for(filename: str, path: Path) -> Reader:
    """Return the reader of a file, by its extension, or by its first bytes when that says nothing.

    Raises:
        InvalidData: no reader takes it; the message names those there are. Empty, or an archive.
    """
    suffix = Path(filename).suffix.lower()
    start = check_container(path, filename)
    for plugin in READERS:
        if suffix in plugin.extensions and plugin.recognizes(start):
            return plugin.model_validate({})
    head = start[:64].lstrip(b"\xef\xbb\xbf \r\n\t")
    kind = {b"{": "jsonl", b"P": "parquet" if head.startswith(b"PAR1") else None}.get(head[:1])
    if kind is not None and kind in READERS.kinds:
        return READERS[kind].model_validate({})
    known = ", ".join(sorted(e for plugin in READERS for e in plugin.extensions))
    message = f"{filename}: no reader for {suffix or 'a file without an extension'}; known: {known}"
    raise InvalidData(message, param="file", code="unknown_format", details={"file": filename})


def read_dataset(path: Path, filename: str, *, max_rows: int) -> Dataset:
    """Read a whole file.

    Raises:
        InvalidData: not one row can be read, or there are more than `max_rows`.
    """
    problems = Problems(filename)
    rows = list(islice(reader_for(filename, path).read(path, problems), max_rows + 1))
    if len(rows) > max_rows:
        message = f"{filename} has more than {max_rows} rows, the limit"
        raise InvalidData(message, param="file", code="too_many_rows", details={"file": filename})
    if not rows:
        problems.raise_if_any()
        message = f"{filename} has no rows"
        raise InvalidData(message, param="file", code="empty_file", details={"file": filename})
    return Dataset(filename, rows, columns_of(rows), problems)


def columns_of(rows: Iterable[Row]) -> list[str]:
    """Return every column in the order of its first appearance."""
    columns: dict[str, None] = {}
    for row in rows:
        columns.update(dict.fromkeys(row.values))
    return list(columns)


def resolve_columns(
    task: Task, found: Sequence[str], given: Mapping[str, str], filename: str
) -> dict[str, str]:
    """Map the task's roles to columns; where they are missing, say which task the data looks like.

    Raises:
        InvalidData: as `Task.resolve_columns`.
    """
    try:
        return task.resolve_columns(found, given, filename)
    except InvalidData as error:
        others = [name for name in tasks_for(found) if name != task.name()]
        if error.error_code != "column_not_found" or given or not others:
            raise
        message = f"{error.message}; it looks like data for {' or '.join(others)}"
        raise InvalidData(
            message, param=error.param, code=error.error_code,
            details={**error.details, "looks_like": others},
        ) from None  # fmt: skip


def tasks_for(found: Sequence[str]) -> list[str]:
    """Return the tasks whose columns are all there; fill-mask, which takes any text, only by itself."""
    fitting: list[str] = []
    for plugin in TASKS:
        task = plugin.model_validate({"kind": plugin.name()})
        try:
            task.resolve_columns(found, {}, "")
        except InvalidData:
            continue
        fitting.append(plugin.name())
    special = [name for name in fitting if name != "fill-mask"]
    return special or fitting


def prepare(
    task: Task, data: DataRules, train: Dataset, validation: Dataset | None, test: Dataset | None
) -> Prepared:
    """Fit the task on the training rows and return every set that it can use.

    Raises:
        InvalidData: wrong columns, unusable rows (unless they are to be skipped), or too few of them.
    """
    columns = resolve_columns(task, train.columns, data.columns, train.filename)
    skip = data.on_bad_rows == "skip"
    warnings: list[str] = []
    examples = _parse(task, train, columns, "data.train", skip=skip, warnings=warnings)
    task = task.fit(examples, train.filename)
    examples = _check(task, train, examples, "data.train", skip=skip, warnings=warnings)
    if not examples:
        raise _no_usable_rows(train.filename, "data.train")
    sets: dict[str, list[Example]] = {}
    for name, dataset in (("validation", validation), ("test", test)):
        if dataset is None:
            continue
        where = f"data.{name}"
        found = resolve_columns(task, dataset.columns, data.columns, dataset.filename)
        parsed = _parse(task, dataset, found, where, skip=skip, warnings=warnings)
        sets[name] = _check(task, dataset, parsed, where, skip=skip, warnings=warnings)
        if not sets[name]:
            raise _no_usable_rows(dataset.filename, where)
    kept = examples
    if "validation" not in sets:
        kept, sets["validation"] = split_examples(
            examples, task, data.split.validation, data.split.seed
        )
    sets = {"train": kept, **sets}
    rows = {"train": train, "validation": validation, "test": test}
    report = _report(task, sets, rows, columns, warnings)
    return Prepared(task, kept, sets["validation"], sets.get("test", []), columns, report, warnings)


def split_examples(
    examples: Sequence[Example], task: Task, share: float | Literal["auto"], seed: int
) -> tuple[list[Example], list[Example]]:
    """Hold out a share of the examples: seeded, in proportion by stratum, equal inputs on one side.

    A pure function of its arguments. `auto` is 10 %, at least 50 and at most 2,000 examples, and never
    more than half. Every stratum keeps at least one example in the training set.

    Raises:
        InvalidData: the examples are too few or too alike to be split.
    """
    if share == "auto":
        wanted = min(MAX_VALIDATION, max(MIN_VALIDATION, round(len(examples) * VALIDATION_SHARE)))
    else:
        wanted = max(1, round(len(examples) * share))
    wanted = min(wanted, len(examples) // 2)
    groups: dict[Any, list[int]] = defaultdict(list)
    for index, example in enumerate(examples):
        groups[tuple(sorted((k, str(v)) for k, v in example.inputs.items()))].append(index)
    left = Counter(map(task.stratum, examples))
    strata: dict[str | None, list[list[int]]] = defaultdict(list)
    for group in groups.values():
        strata[task.stratum(examples[group[0]])].append(group)
    held: set[int] = set()
    debt = 0.0
    for stratum in sorted(strata, key=str):
        members = strata[stratum]
        random.Random(f"{seed}/{stratum}").shuffle(members)  # noqa: S311 - a split, not a secret
        debt += wanted * sum(map(len, members)) / len(examples)
        for group in members:
            leaving = Counter(task.stratum(examples[index]) for index in group)
            is_last = any(left[name] <= count for name, count in leaving.items())
            is_over = len(held) + len(group) > len(examples) // 2
            if is_last or is_over or debt < len(group) / 2:
                continue
            held.update(group)
            left -= leaving
            debt -= len(group)
    if not held:
        message = "the training rows are too few or too alike to hold any out; name data.validation"
        raise InvalidData(message, param="data.split", code="cannot_split")
    kept = [example for index, example in enumerate(examples) if index not in held]
    return kept, [examples[index] for index in sorted(held)]


def _no_usable_rows(filename: str, param: str) -> InvalidData:
    message = f"{filename} has no usable row"
    details = {"file": filename}
    return InvalidData(message, param=param, code="no_usable_rows", details=details)


def _parse(
    task: Task, dataset: Dataset, columns: dict[str, str], param: str, *, skip: bool,
    warnings: list[str],
) -> list[Example]:  # fmt: skip
    # Problems of the file and of its rows together: the first one by row is what people fix first.
    problems = Problems(dataset.filename, first=list(dataset.problems.first),
                        counts=dataset.problems.counts.copy())  # fmt: skip
    examples = task.parse(dataset.rows, columns, problems)
    problems.first.sort(key=lambda problem: problem.row or 0)
    _settle(problems, param, skip=skip, warnings=warnings)
    return examples


def _check(
    task: Task, dataset: Dataset, examples: list[Example], param: str, *, skip: bool,
    warnings: list[str],
) -> list[Example]:  # fmt: skip
    problems = Problems(dataset.filename)
    kept = task.check(examples, problems)
    _settle(problems, param, skip=skip, warnings=warnings)
    return kept


def _settle(problems: Problems, param: str, *, skip: bool, warnings: list[str]) -> None:
    if not skip:
        problems.raise_if_any(param=param)
    elif len(problems):
        listed = ", ".join(f"{count} {code}" for code, count in problems.counts.items())
        warnings.append(f"{problems.filename}: {len(problems)} rows are skipped ({listed})")


def _report(
    task: Task, sets: dict[str, list[Example]], files: dict[str, Dataset | None],
    columns: dict[str, str], warnings: list[str],
) -> dict[str, Any]:  # fmt: skip
    report: dict[str, Any] = {"columns": columns}
    for name, examples in sets.items():
        file = files[name]
        rows = len(examples) if file is None else len(file.rows) + len(file.problems)
        if name == "train" and files["validation"] is None:
            rows -= len(sets["validation"])
        described = task.report(rows, examples)
        report[name] = asdict(described)
        if name == "train":  # advice is about what is learned from; the report has the others' too
            warnings += [f"{name}: {text}" for text in described.warnings]
    train = {_inputs(example) for example in sets["train"]}
    for name in ("validation", "test"):
        leaked = sum(_inputs(example) in train for example in sets.get(name, []))
        if name in report:
            report[name]["also_in_train"] = leaked
        if leaked:
            warnings.append(f"{name}: {leaked} rows have the same text as a training row")
    return report


def _inputs(example: Example) -> tuple[Any, ...]:
    return tuple(sorted((key, str(value)) for key, value in example.inputs.items()))
