"""`attune predict`: ask a model."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.context import of
from app.cli.exits import Code, Failure
from app.cli.spec import assign

AT_ONCE = 64


def predict(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="A model's id (ft:...).")],
    text: Annotated[
        list[str] | None, typer.Argument(help="What to predict; several make a batch.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="One input a line: plain text, or JSON for .jsonl; - reads stdin."),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A parameter, e.g. top_k=3; repeatable.")
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="Which task, of a model that does several.")
    ] = None,
) -> None:
    """Print what a model says about each text: one line, or one JSON line, for each input."""
    from app.cli.client import encode

    here = of(context)
    parameters: dict[str, Any] = {}
    for item in set_ or []:
        assign(parameters, item)
    for batch in _batches(_inputs(text or [], file)):
        body: dict[str, Any] = {"inputs": batch, "parameters": parameters}
        if task is not None:
            body["task"] = task
        answer = here.client.post(f"/v1/models/{encode(model)}/predict", body)
        for given, result in zip(batch, results_of(answer), strict=True):
            if here.out.is_json:
                here.out.json({"input": given, "output": result}, is_line=True)
            elif here.out.is_quiet:
                here.out.line(_short(result, scores=False))
            else:
                shown = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
                here.out.line(f"{_short(result)}\t{shown}")


def results_of(answer: dict[str, Any]) -> list[Any]:
    """Return one result for each input of a batch."""
    found = answer.get("outputs", answer.get("data", answer.get("predictions")))
    if not isinstance(found, list):
        raise Failure("the server's answer holds no predictions")
    return list(found)


def best_of(result: Any) -> tuple[str, float | None]:
    """Return the first label of a classification with its score, or the result as text."""
    if isinstance(result, list) and result and isinstance(result[0], dict):
        result = result[0]
    if isinstance(result, dict):
        label = result.get("label", result.get("text"))
        if label is not None:
            return str(label), result.get("score")
        if "labels" in result:
            return best_of(result["labels"])
    return (result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)), None


def _short(result: Any, *, scores: bool = True) -> str:
    label, score = best_of(result)
    return f"{label}\t{score:.4f}" if scores and score is not None else label


def _inputs(texts: list[str], file: Path | None) -> Iterator[Any]:
    yield from texts
    if file is None:
        if not texts:
            raise Failure("nothing to predict: give texts, or --file", Code.USAGE)
        return
    try:
        lines = sys.stdin if str(file) == "-" else file.open(encoding="utf-8")
        with lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _parse(line, number, file)
    except OSError as error:
        raise Failure(f"cannot read {file}: {error.strerror or error}", Code.DATA) from None
    except UnicodeDecodeError as error:
        raise Failure(f"{file} is not UTF-8 (byte {error.start})", Code.DATA) from None


def _parse(line: str, number: int, file: Path) -> Any:
    if file.suffix not in {".jsonl", ".ndjson"}:
        return line.rstrip("\n")
    try:
        return json.loads(line)
    except ValueError as error:
        raise Failure(f"{file}, row {number}: not JSON: {error}", Code.DATA) from None


def _batches(inputs: Iterator[Any]) -> Iterator[list[Any]]:
    batch: list[Any] = []
    for value in inputs:
        batch.append(value)
        if len(batch) == AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch
