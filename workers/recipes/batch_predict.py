"""The `batch_predict` recipe: rows in, answers out, chunk by chunk, so that a crash costs one chunk.

What a row is answered depends on the rows that it is batched with in the last digits of a float, so a
chunk is always made of the same rows: those between two multiples of its size. A run that goes on for
another skips what is behind the last chunk on record, and the output is the same, byte for byte.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, cast

from app.adapt.inputs import Input, columns_of_file, inputs_of
from app.adapt.reader import Problem, Problems
from app.adapt.summary import summarize
from app.adapt.task import Task
from app.errors import AttuneError, InvalidData
from app.jobs.state import Phase
from app.kit.counting import counted
from app.spec.batch_predict import BatchPredict
from workers.protocol import DoneEvent, OutputFile, ResolvedEvent
from workers.recipes import parts
from workers.recipes.asking import (
    Asked,
    answers_or_errors,
    beating,
    known,
    load_asked,
    own_task,
    resolved,
)
from workers.recipes.reading import MAX_ROWS, checked
from workers.recipes.recipe import Recipe
from workers.recipes.sources import SourceLoader
from workers.training.device import environment, seed_step

PURPOSE = "batch_output"
MAX_STEM = 200


@dataclass(frozen=True)
class Questions:
    """The file of inputs, as the task reads it."""

    path: Path
    filename: str
    task: Task
    columns: dict[str, str]
    keep: list[str]
    rows: int
    report: dict[str, Any] = field(default_factory=dict)

    def rows_from(self, start: int) -> Iterator[Input]:
        """Yield the rows behind the first `start`."""
        return islice(inputs_of(self.path, self.filename, self.task, self.columns), start, None)


@dataclass(frozen=True)
class BatchPredictRecipe(Recipe[BatchPredict]):
    """One `batch_predict` job, from its assignment to a file of answers."""

    def run(self) -> DoneEvent:
        """Do the job.

        Raises:
            AttuneError: the data or the model is at fault.
            Drained: asked to stop; the next run goes on behind the last chunk.
        """
        report = self.report
        device = self.begin()
        spec = cast("BatchPredict", known(self.assignment, self.spec))
        beat = beating(report, self.should_drain)
        loader = SourceLoader(self.assignment, spec.runtime.seed)
        loaded = loader.load(spec.model, spec.revision)
        spec = spec.model_copy(update={"task": own_task(spec, loaded)})
        source = self._read(spec, beat)
        report.phase(Phase.LOADING)
        asked = load_asked(self.assignment, spec, loaded, spec.known_task, device)
        asked = replace(asked, stage=replace(asked.stage, beat=beat))
        done = parts.restore(self.assignment.checkpoints, report)
        size = spec.rows_a_chunk(source.rows)
        report.emit(
            ResolvedEvent(
                spec=resolved(spec, asked, chunk_rows=size),
                data=source.report,
                environment=environment(device),
                resumed_from_step=done[-1].step if done else None,
            )
        )
        report.phase(Phase.PREDICTING)
        for part in self._predict(source, asked, done[-1].step if done else 0, size):
            done.append(part)
        report.phase(Phase.SAVING)
        return self._finish(source, done)

    def _read(self, spec: BatchPredict, beat: Callable[[], None]) -> Questions:
        """Find columns and problems before anything is answered."""
        (file_id,) = spec.file_ids()
        path, filename = checked(self.assignment, file_id)
        found, rows = columns_of_file(path, filename, max_rows=MAX_ROWS)
        task = spec.known_task
        columns = task.input_columns(found, spec.data.columns, filename)
        source = Questions(path, filename, task, columns, spec.kept_columns(found, filename), rows)
        problems, usable = Problems(filename), 0
        for entry in source.rows_from(0):
            beat()
            if entry.problem is None:
                usable += 1
            else:
                problems.add(_in_columns(entry.problem, columns))
        if spec.data.on_bad_rows == "fail":
            problems.raise_if_any(param="data.inputs")
        if not usable:
            message = f"{filename} has no usable row: {problems.error().message}"
            raise InvalidData(message, param="data.inputs", code="no_usable_rows",
                              details={"file": filename, "problems": problems.to_dict()})  # fmt: skip
        said: dict[str, Any] = {"columns": columns, "rows": rows, "usable": usable}
        if problems:
            said["problems"] = problems.to_dict()
            what = "skipped" if spec.data.on_bad_rows == "skip" else "answered by an error"
            count = counted(len(problems), "row is", "rows are")
            self.report.log(f"{problems.error().message}; {count} {what}", "warning")
        return replace(source, report=said)

    def _predict(
        self, source: Questions, asked: Asked, start: int, size: int
    ) -> Iterator[parts.Part]:
        """Answer chunk after chunk; a part is on disk when it is yielded."""
        folder = self.assignment.folder / "checkpoints"
        rows = source.rows_from(start)
        self._tell(source, start)
        while chunk := list(islice(rows, size - start % size)):
            seed_step(self.spec.runtime.seed, start)
            lines, counts = self._answer(source, asked, chunk)
            covered = range(start, start + len(chunk))
            yield parts.save(folder, covered, _filler(lines), {"counts": counts}, self.report)
            start = covered.stop
            self.report.trained(len(chunk), counts.get("tokens", 0))
            self.report.speed()
            self._tell(source, start)

    def _tell(self, source: Questions, done: int) -> None:
        share, is_end = done / source.rows, done == source.rows
        self.report.progress(done, source.rows, share, unit="row", force=is_end)

    def _answer(
        self, source: Questions, asked: Asked, chunk: Sequence[Input]
    ) -> tuple[list[str], dict[str, int]]:
        """Return a line for each row of the chunk that has one, and counts for the report.

        Raises:
            InvalidData: a row that only the model's tokenizer refuses, where that fails the job.
        """
        examples = [entry.example for entry in chunk if entry.example is not None]
        found, tokens = answers_or_errors(asked, examples)
        answers = iter(found)
        lines: list[str] = []
        counts: Counter[str] = Counter(tokens=tokens)
        for entry in chunk:
            kept = _kept(entry, source.keep)
            answer = entry.problem or next(answers)
            if isinstance(answer, Problem):
                line, code = _failed(kept, _in_columns(answer, source.columns).to_dict())
            else:
                line, code = _answered(kept, answer)
            counts["answered" if code is None else f"error/{code}"] += 1
            is_bad = isinstance(answer, Problem | AttuneError)
            if is_bad and self.spec.data.on_bad_rows == "fail":
                message = (
                    f"{source.filename}, row {entry.number}: {json.loads(line)['error']['message']}"
                )
                raise InvalidData(message, param="data.inputs", code=code,
                                  details={"file": source.filename, "row": entry.number})  # fmt: skip
            if not is_bad or self.spec.data.on_bad_rows == "report":
                lines.append(line)
        return lines, dict(counts)

    def _finish(self, source: Questions, done: Sequence[parts.Part]) -> DoneEvent:
        counts: Counter[str] = Counter()
        for part in done:
            counts.update(part.facts["counts"])
        path = self.assignment.folder / "answers.jsonl"
        size, digest = parts.join(done, path)
        filename = f"{Path(source.filename).stem[:MAX_STEM]}.answers.jsonl"
        errors = {
            name.removeprefix("error/"): count
            for name, count in sorted(counts.items())
            if name.startswith("error/")
        }
        output = OutputFile(
            path=path, filename=filename, purpose=PURPOSE, bytes=size, sha256=digest,
            summary=_summary(path, filename),
        )  # fmt: skip
        report = {
            "model": self.spec.model,
            "task": source.task.model_dump(mode="json"),
            "data": source.report,
            "rows": source.rows,
            "answered": counts["answered"],
            "errors": errors,
            "tokens": counts["tokens"],
        }
        message = counted(counts["answered"], "row answered", "rows answered")
        if errors:
            message += f", {counted(sum(errors.values()), 'row')} not"
        return DoneEvent(message=message, report=report, outputs=[output])


def _filler(lines: Sequence[str]) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        (folder / parts.LINES).write_text("".join(lines), encoding="utf-8")

    return fill


def _kept(entry: Input, keep: Sequence[str]) -> dict[str, Any]:
    """Return the fields that a line begins with: the row's number, and the columns that are copied."""
    fields: dict[str, Any] = {"row": entry.number}
    values: Mapping[str, Any] = {} if entry.row is None else entry.row.values
    return fields | {name: values[name] for name in keep if name in values}


def _answered(kept: dict[str, Any], answer: Any) -> tuple[str, str | None]:
    """Return a row's line, and the code of what is wrong with it, if anything is."""
    if isinstance(answer, AttuneError):
        _, _, message = answer.message.partition(": ")
        return _failed(kept, {"code": answer.error_code, "message": message or answer.message})
    try:
        return parts.line_of({**kept, "answer": answer}), None
    except ValueError:
        message = "the model's answer is not a finite number"
        return _failed(kept, {"code": "not_finite", "message": message})


def _failed(kept: dict[str, Any], error: dict[str, Any]) -> tuple[str, str]:
    error = {name: error[name] for name in ("code", "message", "column") if name in error}
    return parts.line_of({**kept, "error": error}), str(error["code"])


def _in_columns(problem: Problem, columns: Mapping[str, str]) -> Problem:
    """Name the file's column where a task has one role, and so one column, to blame."""
    if problem.column is not None or len(columns) != 1:
        return problem
    return replace(problem, column=next(iter(columns.values())))


def _summary(path: Path, filename: str) -> dict[str, Any] | None:
    """Return what an upload of this file would say of it; None where it has no line to read."""
    try:
        return summarize(path, filename, max_rows=MAX_ROWS)
    except InvalidData:
        return None
