"""From files to a task's examples: the one path that the dry run and the trainer share. Torch-free."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol

from app.adapt.lines import check_container
from app.adapt.plugins import READERS
from app.adapt.reader import Problems, Reader, Row
from app.adapt.recognition import tasks_for
from app.adapt.task import Example, Task
from app.errors import InvalidData
from app.kit.counting import all_of, counted, in_rows, listed

VALIDATION_SHARE = 0.1
MIN_VALIDATION = 50
LARGEST_SHARE = 0.25  # what few rows there are had better train
MAX_VALIDATION = 2_000
LONGEST_NAME = 40  # of a column; what is longer is a row where a header should be


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


class RowRules(Protocol):
    """What a job says about the rows of a set. Specs lie above this layer."""

    @property
    def columns(self) -> Mapping[str, str]:
        """Role to column."""
        ...

    @property
    def on_bad_rows(self) -> Literal["fail", "skip"]:
        """What happens to rows that cannot be used."""
        ...


class DataRules(RowRules, Protocol):
    """What a job says about data that it learns from; `app.spec.data.Data` does."""

    @property
    def split(self) -> SplitRule:
        """The rule that holds without a validation file."""
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
        if error.error_code != "column_not_found" or given:
            raise
        others = tasks_for(found)
        if others and task.name() not in others:
            raise _looking_like(error, others) from None
        if not others and any(map(_is_value, found)):
            message = f"{error.message}; is the first line a header? It must name the columns"
            raise InvalidData(
                message, param=error.param, code=error.error_code, details=error.details
            ) from None
        raise


def _is_value(column: str) -> bool:
    """Say whether a column's name looks like a row's value: a number, or a sentence."""
    is_number = column.replace(".", "", 1).isdigit()
    return is_number or len(column) > LONGEST_NAME or column.endswith(tuple(".!?。！？"))


def _cannot_split(count: int, texts: int, strata: Sequence[Sequence[Any]]) -> InvalidData:
    """Say why nothing can be held out of `count` examples with so many different texts."""
    if count == 1:
        why = "there is only one training row"
    elif texts == 1:
        why = f"all {count} training rows have the same text"
    elif len(strata) > 1 and all(len(groups) == 1 for groups in strata):
        why = f"each of the {len(strata)} labels has one text only, and each is needed for training"
    else:
        why = "the training rows are too few or too alike"
    message = f"{why}: none can be held out; add rows, or name data.validation"
    return InvalidData(message, param="data.split", code="cannot_split")


def _looking_like(error: InvalidData, others: list[str]) -> InvalidData:
    return InvalidData(
        f"{error.message}; it looks like data for {all_of(others, 'or')}",
        param=error.param,
        code=error.error_code,
        details={**error.details, "looks_like": others},
    )


def name_columns(problems: Problems, columns: Mapping[str, str]) -> None:
    """Name columns as the file does where problems name the roles that a task knows."""
    problems.first = [
        replace(problem, column=columns.get(problem.column or "", problem.column))
        for problem in problems.first
    ]


def prepare(
    task: Task, data: DataRules, train: Dataset, validation: Dataset | None, test: Dataset | None
) -> Prepared:
    """Fit the task on the training rows and return every set that it can use.

    Raises:
        InvalidData: wrong columns, unusable rows (unless they are to be skipped), or too few of them.
    """
    reading = Reading(data)
    examples = reading.parse(task, train, "train")
    task = task.fit(examples, train.filename)
    examples = reading.check(task, examples, "train")
    sets: dict[str, list[Example]] = {}
    for name, dataset in (("validation", validation), ("test", test)):
        if dataset is not None:
            sets[name] = reading.check(task, reading.parse(task, dataset, name), name)
    kept = examples
    if "validation" not in sets:
        kept, sets["validation"] = split_examples(
            examples, task, data.split.validation, data.split.seed
        )
    sets = {"train": kept, **sets}
    rows = {"train": train, "validation": validation, "test": test}
    columns, warnings = reading.columns["train"], reading.warnings
    report = _report(task, sets, rows, columns, warnings)
    for name, problems in reading.problems.items():
        if problems:
            report[name]["problems"] = problems.to_dict()
    return Prepared(task, kept, sets["validation"], sets.get("test", []), columns, report, warnings)


def split_examples(
    examples: Sequence[Example], task: Task, share: float | Literal["auto"], seed: int
) -> tuple[list[Example], list[Example]]:
    """Hold out a share of the examples: seeded, in proportion by stratum, equal inputs on one side.

    A pure function of its arguments. `auto` is 10 %, at least 50 examples or a fourth where that is
    fewer, and at most 2,000. Every stratum keeps at least one example in the training set.

    Raises:
        InvalidData: the examples are too few or too alike to be split.
    """
    if share == "auto":
        fewest = min(MIN_VALIDATION, round(len(examples) * LARGEST_SHARE))
        wanted = min(MAX_VALIDATION, max(1, fewest, round(len(examples) * VALIDATION_SHARE)))
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
        raise _cannot_split(len(examples), len(groups), [list(g) for g in strata.values()])
    kept = [example for index, example in enumerate(examples) if index not in held]
    return kept, [examples[index] for index in sorted(held)]


class Reading:
    """The way from rows to the examples that can be used, and what was wrong with the others."""

    def __init__(self, data: RowRules) -> None:
        self.data = data
        self.columns: dict[str, dict[str, str]] = {}
        self.problems: dict[str, Problems] = {}  # of each set, once there are any
        self.warnings: list[str] = []

    def parse(self, task: Task, dataset: Dataset, name: str) -> list[Example]:
        """Read the rows of a set."""
        columns = resolve_columns(task, dataset.columns, self.data.columns, dataset.filename)
        self.columns[name] = columns
        # Problems of the file and of its rows together: the first one by row is what people fix first.
        problems = Problems(dataset.filename, first=list(dataset.problems.first),
                            counts=dataset.problems.counts.copy())  # fmt: skip
        examples = task.parse(dataset.rows, columns, problems)
        problems.first.sort(key=lambda problem: problem.row or 0)
        if not examples and not self.data.columns:
            others = tasks_for(dataset.columns, dataset.rows, at_least=len({*columns.values()}))
            if others and task.name() not in others:
                raise _looking_like(problems.error(param=f"data.{name}"), others)
        return self._settle(problems, examples, name)

    def check(self, task: Task, examples: list[Example], name: str) -> list[Example]:
        """Keep what the fitted task can use."""
        filename = self.problems[name].filename
        problems = Problems(filename)
        kept = task.check(examples, problems)
        name_columns(problems, self.columns[name])
        return self._settle(problems, kept, name)

    def _settle(self, problems: Problems, kept: list[Example], name: str) -> list[Example]:
        if self.data.on_bad_rows == "fail":
            problems.raise_if_any(param=f"data.{name}")
        found = self.problems.setdefault(name, Problems(problems.filename))
        found.merge(problems)
        if not kept:
            raise _no_usable_rows(found, f"data.{name}")
        if problems:
            count = counted(len(problems), "row is", "rows are")
            self.warnings.append(f"{problems.filename}: {count} skipped: {_by_code(problems)}")
        return kept


def _no_usable_rows(problems: Problems, param: str) -> InvalidData:
    message = f"{problems.filename} has no usable row"
    details: dict[str, Any] = {"file": problems.filename}
    if problems:
        message += f": {_by_code(problems)}; {in_rows([problems.first[0].row])}: "
        message += problems.first[0].message
        details["problems"] = problems.to_dict()
    return InvalidData(message, param=param, code="no_usable_rows", details=details)


def _by_code(problems: Problems) -> str:
    """Return each code with its count and rows."""
    return ", ".join(
        f"{count} {code} ({in_rows([p.row for p in problems.first if p.code == code])})"
        for code, count in problems.counts.items()
    )


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
        said = [*described.repairs, *described.warnings]
        report[name] = {
            name: value for name, value in asdict(described).items() if name != "repairs"
        }
        report[name]["warnings"] = said
        # Advice is about what is learned from; the report has the others' too.
        warnings += [f"{name}: {text}" for text in (said if name == "train" else described.repairs)]
    untaught = task.untaught(sets["train"])
    if untaught:
        count = counted(len(untaught), "label has", "labels have")
        warnings.append(
            f"train: {count} no training row, and will not be learned: {listed(untaught)}"
        )
    train = {_inputs(example) for example in sets["train"]}
    for name in ("validation", "test"):
        leaked = [example.row for example in sets.get(name, []) if _inputs(example) in train]
        if name in report:
            report[name]["also_in_train"] = len(leaked)
        if leaked:
            count = counted(len(leaked), "row has", "rows have")
            warnings.append(f"{name}: {count} the same text as a training row ({in_rows(leaked)})")
    return report


def _inputs(example: Example) -> tuple[Any, ...]:
    return tuple(sorted((key, str(value)) for key, value in example.inputs.items()))
