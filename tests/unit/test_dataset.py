"""From files to a task's examples: splits, columns, bad rows, leakage, and the summary of an upload."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from app.adapt.dataset import (
    Dataset,
    Prepared,
    prepare,
    read_dataset,
    reader_for,
    resolve_columns,
    split_examples,
    tasks_for,
)
from app.adapt.plugins import TASKS
from app.adapt.summary import summarize
from app.adapt.task import Example, Task
from app.errors import InvalidData
from app.spec.data import Data
from tests.published import DATA, needs_published

FILE_ID = "file-" + "0" * 26
TASK = TASKS["text-classification"]()


def spec(**fields: Any) -> Data:
    return Data.model_validate({"train": FILE_ID, **fields})


def dataset(folder: Path, rows: list[dict[str, Any]], name: str = "train.jsonl") -> Dataset:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read_dataset(path, name, max_rows=100_000)


def labelled(count: int, labels: str = "ab") -> list[dict[str, Any]]:
    return [{"text": f"text {i}", "label": labels[i % len(labels)]} for i in range(count)]


def fitted(examples: list[Example]) -> Task:
    return TASK.fit(examples, "x")


def made(*targets: str) -> list[Example]:
    return [Example(i, {"text": f"text {i}"}, target) for i, target in enumerate(targets)]


def refused(*args: Any) -> InvalidData:
    with pytest.raises(InvalidData) as caught:
        prepare(TASK, *args)
    return caught.value


# ---- splits


@pytest.mark.parametrize(
    ("count", "held"), [(4, 1), (60, 15), (100, 25), (400, 50), (1000, 100), (30_000, 2000)]
)
def test_an_automatic_split_is_a_tenth_within_bounds(count: int, held: int) -> None:
    examples = made(*("ab"[i % 2] for i in range(count)))
    train, validation = split_examples(examples, fitted(examples), "auto", 0)
    assert (len(train), len(validation)) == (count - held, held)
    assert sorted(e.row for e in train + validation) == list(range(count))


def test_a_split_depends_on_its_arguments_alone() -> None:
    examples = made(*("ab"[i % 2] for i in range(200)))
    task = fitted(examples)
    first = split_examples(examples, task, 0.25, 7)
    assert first == split_examples(examples, task, 0.25, 7)
    assert first != split_examples(examples, task, 0.25, 8)


def test_a_split_keeps_the_proportions_of_labels() -> None:
    examples = made(*(["a"] * 800 + ["b"] * 150 + ["c"] * 50))
    _, validation = split_examples(examples, fitted(examples), 0.2, 0)
    assert Counter(e.target for e in validation) == {"a": 160, "b": 30, "c": 10}


@pytest.mark.parametrize("seed", range(10))
def test_every_label_stays_in_train_even_where_texts_are_shared(seed: int) -> None:
    examples = made(*(["a"] * 20 + ["b"] * 20), "rare")
    examples[40] = Example(40, {"text": "text 0"}, "rare")  # the same text as an "a"
    train, validation = split_examples(examples, fitted(examples), 0.5, seed)
    assert {e.target for e in train} == {"a", "b", "rare"}
    assert not {e.inputs["text"] for e in train} & {e.inputs["text"] for e in validation}


@pytest.mark.parametrize("seed", range(10))
def test_never_more_than_half_is_held_out(seed: int) -> None:
    examples = [Example(i, {"text": f"t{0 if i < 6 else i}"}, "ab"[i % 2]) for i in range(10)]
    train, validation = split_examples(examples, fitted(examples), "auto", seed)
    assert 0 < len(validation) <= len(train)


def test_rows_that_cannot_be_split_are_refused() -> None:
    examples = made("a", "b")
    with pytest.raises(InvalidData, match=r"data\.validation") as caught:
        split_examples(examples, fitted(examples), 0.5, 0)
    assert caught.value.param == "data.split"


# ---- prepare


def test_prepare_fits_splits_and_reports(tmp_path: Path) -> None:
    prepared = prepare(TASK, spec(), dataset(tmp_path, labelled(200)), None, None)
    assert isinstance(prepared, Prepared)
    assert prepared.task.labels == ["a", "b"]  # pyright: ignore[reportAttributeAccessIssue]
    assert (len(prepared.train), len(prepared.validation), prepared.test) == (150, 50, [])
    assert prepared.columns == {"text": "text", "label": "label"}
    json.dumps(prepared.report, allow_nan=False)
    assert prepared.report["train"]["rows"] == 150
    assert prepared.report["validation"]["also_in_train"] == 0


def test_columns_are_found_in_each_file(tmp_path: Path) -> None:
    train = dataset(tmp_path, [{"sentence": f"t{i}", "intent": "ab"[i % 2]} for i in range(20)])
    test = dataset(tmp_path, labelled(6), "test.jsonl")
    prepared = prepare(TASK, spec(), train, None, test)
    assert prepared.columns == {"text": "sentence", "label": "intent"}
    assert len(prepared.test) == 6


def test_a_missing_column_names_those_found(tmp_path: Path) -> None:
    error = refused(spec(columns={"text": "txt"}), dataset(tmp_path, labelled(4)), None, None)
    assert error.param == "data.columns.text"
    assert error.details["found"] == ["text", "label"]
    assert "did you mean 'text'" in error.message


def test_one_label_only_is_refused(tmp_path: Path) -> None:
    error = refused(spec(), dataset(tmp_path, labelled(10, "a")), None, None)
    assert error.error_code == "one_label"


def test_bad_rows_fail_with_the_row_or_are_skipped_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    rows = "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(20))
    path.write_text(f"text,label\n{rows},a\nshort\nx,\n")
    train = read_dataset(path, "train.csv", max_rows=100)
    error = refused(spec(), train, None, None)
    assert error.param == "data.train"
    assert (error.error_code, error.details["row"], error.details["column"]) == (
        "empty_text",
        22,
        "text",
    )
    assert error.details["problems"]["count"] == 3
    prepared = prepare(TASK, spec(on_bad_rows="skip"), train, None, None)
    assert len(prepared.train) + len(prepared.validation) == 20
    assert any("3 rows are skipped" in warning for warning in prepared.warnings)


def test_unseen_labels_name_row_and_closest_label(tmp_path: Path) -> None:
    train = dataset(
        tmp_path, [{"text": f"t{i}", "label": ["good", "bad"][i % 2]} for i in range(8)]
    )
    rows = [{"text": "x", "label": "good"}, {"text": "y", "label": "goood"}]
    validation = dataset(tmp_path, rows, "validation.jsonl")
    error = refused(spec(validation=FILE_ID), train, validation, None)
    assert (error.param, error.error_code) == ("data.validation", "unknown_label")
    assert error.details["row"] == 2
    assert "did you mean 'good'" in error.message
    data = spec(validation=FILE_ID, on_bad_rows="skip")
    assert len(prepare(TASK, data, train, validation, None).validation) == 1


def test_a_set_without_a_usable_row_is_refused(tmp_path: Path) -> None:
    train = dataset(tmp_path, labelled(8))
    empty = dataset(tmp_path, [{"text": "x", "label": "unseen"}], "validation.jsonl")
    error = refused(spec(on_bad_rows="skip"), train, empty, None)
    assert (error.param, error.error_code) == ("data.validation", "no_usable_rows")


def test_leakage_is_counted_and_warned_about(tmp_path: Path) -> None:
    train = dataset(tmp_path, labelled(20))
    test = dataset(tmp_path, [*labelled(3), {"text": "new", "label": "a"}], "test.jsonl")
    validation = dataset(tmp_path, [{"text": "v", "label": "a"}], "validation.jsonl")
    prepared = prepare(TASK, spec(), train, validation, test)
    assert prepared.report["test"]["also_in_train"] == 3
    assert any("3 rows have the same text" in warning for warning in prepared.warnings)


# ---- reading and summaries


def test_unknown_formats_are_sniffed_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_text('{"a": 1}\n')
    assert reader_for("data", path).name() == "jsonl"
    path.write_bytes(b"\x89PNG\r\n")
    with pytest.raises(InvalidData, match="jsonl") as caught:
        reader_for("picture.png", path)
    assert caught.value.error_code == "unknown_format"


def test_more_rows_than_allowed_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n" + "1,2\n" * 11)
    for read in (read_dataset, summarize):
        with pytest.raises(InvalidData) as caught:
            read(path, "x.csv", max_rows=10)
        assert caught.value.error_code == "too_many_rows"


def test_a_summary_counts_columns_kinds_values_and_lengths(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    rows: list[dict[str, Any]] = [
        {"text": "x" * (i % 100), "n": i, "tags": ["a"], "ok": True, "m": i if i % 2 else "s"}
        for i in range(1500)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "broken\n")
    summary = summarize(path, "x.jsonl", max_rows=10_000)
    json.dumps(summary, allow_nan=False)
    assert (summary["format"], summary["rows"]) == ("jsonl", 1500)
    columns = {column["name"]: column for column in summary["columns"]}
    assert {name: column["kind"] for name, column in columns.items()} == {
        "text": "text",
        "n": "integer",
        "tags": "list",
        "ok": "boolean",
        "m": "mixed",
    }
    assert (columns["text"]["filled"], columns["text"]["empty"]) == (1485, 15)
    assert columns["text"]["length"] == {"min": 1, "mean": 50.0, "p50": 50, "p95": 95, "max": 99}
    assert (columns["n"]["distinct"], columns["n"]["top"]) == (None, [])
    assert columns["ok"]["top"] == [{"value": "true", "count": 1500}]
    assert len(columns["text"]["top"]) == 50
    assert summary["problems"]["by_code"] == {"invalid_json": 1}
    assert summary["preview"] == rows[:3]


def test_a_summary_bounds_the_number_of_columns(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("".join(f'{{"c{i}": 1}}\n' for i in range(1001)))
    with pytest.raises(InvalidData) as caught:
        summarize(path, "x.jsonl", max_rows=10_000)
    assert (caught.value.error_code, caught.value.details["row"]) == ("too_many_columns", 1001)


@needs_published
def test_real_mess_is_skipped_row_by_row() -> None:
    folder = DATA / "robustness" / "derived_mess"
    usable = {"empty_rows.csv": 120, "ragged.csv": 121, "bad_line.jsonl": 21}
    for name, count in usable.items():
        read = read_dataset(folder / name, name, max_rows=1000)
        prepared = prepare(TASK, spec(on_bad_rows="skip"), read, None, None)
        assert len(prepared.train) + len(prepared.validation) == count, name
        assert refused(spec(), read, None, None).details["row"] > 1
    single = read_dataset(folder / "single_class.jsonl", "single_class.jsonl", max_rows=1000)
    assert refused(spec(), single, None, None).error_code == "one_label"


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["tokens", "tags"], "token-classification"),
        (["question", "context", "answers"], "question-answering"),
        (["messages"], "text-generation"),
        (["document", "summary"], "summarization"),
        (["translation"], "translation"),
        (["sentence1", "sentence2", "score"], "sentence-similarity"),
        (["prompt", "chosen", "rejected"], "text-generation"),
    ],
)
def test_data_of_another_task_is_recognized(columns, expected):
    assert expected in tasks_for(columns)
    other = "text-classification" if "tags" in columns else "token-classification"
    with pytest.raises(InvalidData, match=expected) as caught:
        resolve_columns(TASKS[other](), columns, {}, "rows.jsonl")
    assert expected in caught.value.details["looks_like"]
    assert str(columns[0]) in caught.value.message
