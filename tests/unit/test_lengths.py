"""Examples that are too long: the dry run and the trainer find the same ones, in every task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from app.adapt.lengths import Measured, measure, tell, tell_of_encoded
from app.adapt.plugins import TASKS
from app.adapt.reader import Problems, Row
from app.adapt.source import Source, model_limit
from app.adapt.task import Example, Task
from app.adapt.tokens import TokenCounter, estimated
from app.kit.counting import all_of, counted, cut, in_rows, listed
from tests.bad_rows import GOOD, TASK_OF
from tests.tiny import make_base_folder

LENGTH = 16
WORDS = "good bad new old one two three"
COLUMN = {"answers": "context", "label": "text", "spans": "text"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_base_folder(tmp_path_factory.mktemp("base"), "encoder_decoder")


@pytest.fixture(scope="module")
def tokenizer(folder) -> Any:
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def fitted(kind: str, rows: list[dict[str, Any]]) -> tuple[Task, list[Example]]:
    task = TASKS[TASK_OF.get(kind, kind)]()
    numbered = [Row(number, row) for number, row in enumerate(rows, 1)]
    columns = task.resolve_columns(list(rows[0]), {}, "rows.jsonl")
    problems = Problems("rows.jsonl")
    examples = task.parse(numbered, columns, problems)
    assert problems.to_dict()["first"] == []
    return task.fit(examples, "rows.jsonl"), examples


def lengthened(row: dict[str, Any], words: int) -> dict[str, Any]:
    """Return a row whose longest text has so many words more; answers and spans stay where they are."""
    more = " ".join((WORDS.split() * words)[:words])
    if "tokens" in row:
        return {"tokens": row["tokens"] + more.split(), "tags": row["tags"] + ["O"] * words}
    if "translation" in row:
        return {"translation": row["translation"] | {"de": f"a {more}"}}
    names = ("context", "document", "target", "target_text", "completion", "chosen", "positive",
             "sentence2", "text")  # fmt: skip
    column = next(name for name in names if name in row)
    return row | {column: f"{row[column]} {more}"}


@pytest.mark.parametrize("kind", [kind for kind in GOOD if kind != "text-generation"])
def test_the_dry_run_and_the_trainer_find_the_same_examples(kind, folder, tokenizer):
    rows = [lengthened(row, words) for words, row in enumerate(GOOD[kind] * 2)]
    task, examples = fitted(kind, rows)
    counts = TokenCounter(folder / "tokenizer.json").count(task, examples)
    by_counting = [each.row for each in counts if each.longest > LENGTH]
    # Special tokens depend on what is joined, which only `encode` knows: two tokens are left open.
    surely = [each.row for each in counts if each.longest > LENGTH + 2]
    encoded = measure(task.encode(tokenizer, examples, LENGTH)).too_long
    if task.generates and kind not in {
        "summarization",
        "translation",
        "nested",
        "text2text-generation",
    }:
        assert set(surely) <= set(encoded)
        assert set(encoded) <= {each.row for each in counts if each.longest > LENGTH - 2}
    else:
        assert encoded == by_counting
    assert 0 < len(encoded) < len(examples)


@pytest.mark.parametrize("kind", ["text-classification", "summarization", "sentence-similarity"])
def test_what_just_fits_is_not_cut(kind, tokenizer):
    task, examples = fitted(kind, [lengthened(row, 6) for row in GOOD[kind]])
    size = max(item.longest for item in task.encode(tokenizer, examples, 64))
    assert measure(task.encode(tokenizer, examples, size)).too_long == []
    assert len(measure(task.encode(tokenizer, examples, size - 1)).too_long) == len(examples)


def test_what_is_asked_of_a_model_is_marked_the_same(tokenizer):
    task, _ = fitted("text-classification", GOOD["text-classification"])
    asked = [Example(0, {"text": WORDS}), Example(1, {"text": "good"})]
    encoded = task.encode(tokenizer, asked, 6)
    assert [item.extra["truncated"] for item in encoded] == [True, False]


def test_an_answer_that_no_window_holds_is_noted(tokenizer):
    long = " ".join(WORDS.split() * 3)
    rows = [
        {"question": "what", "context": f"{long} old", "answers": long},
        {"question": long, "context": "ada", "answers": "ada"},
        *GOOD["question-answering"],
    ]
    task, examples = fitted("question-answering", rows)
    notes = measure(task.encode(tokenizer, examples, LENGTH)).notes
    assert {note.partition(":")[0]: rows for note, rows in notes.items()} == {
        "with an answer that no window holds whole": [1],
        "with a question that is longer than half a window, and cut there": [2],
    }


def test_spans_within_a_token_are_noted_by_both(folder, tokenizer):
    rows = [*GOOD["spans"], {"text": "where is it", "spans": [[0, 3, "PER"]]}]
    task, examples = fitted("spans", rows)
    counts = TokenCounter(folder / "tokenizer.json").count(task, examples)
    (note,) = {each.note for each in counts if each.note is not None}
    assert [each.row for each in counts if each.note is not None] == [13]
    assert dict(measure(task.encode(tokenizer, examples, 64)).notes) == {note: [13]}


def report_of(**usable: int) -> dict[str, Any]:
    return {name: {"usable": count, "warnings": []} for name, count in usable.items()}


def test_every_set_says_how_many_and_what_is_done(tokenizer):
    task, examples = fitted("fill-mask", [lengthened(row, 20) for row in GOOD["fill-mask"]])
    sets = {
        "train": task.encode(tokenizer, examples, LENGTH),
        "validation": task.encode(tokenizer, examples[:1], LENGTH),
        "test": [],
    }
    report = report_of(train=12, validation=1, test=0)
    said = tell_of_encoded(task, report, sets, LENGTH)
    words = f"longer than {LENGTH} tokens; what is too long becomes several rows"
    assert said == [
        f"train: 12 of 12 examples are {words} (rows 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ...)",
        f"validation: 1 of 1 examples is {words} (row 1)",
    ]
    assert report["train"]["too_long"] == {"max_length": LENGTH, "examples": 12}
    assert report["validation"]["warnings"] == [said[1].removeprefix("validation: ")]


def test_nothing_is_said_of_what_fits():
    report = report_of(train=3)
    assert tell(TASKS["fill-mask"](), report, {"train": Measured()}, LENGTH) == []
    assert report["train"] == {
        "usable": 3, "warnings": [], "too_long": {"max_length": LENGTH, "examples": 0}
    }  # fmt: skip


def test_without_a_tokenizer_characters_are_counted():
    task, (example, *_) = fitted(
        "summarization", [{"document": "a" * 40, "summary": b} for b in "ab"]
    )
    found = estimated(task, example)
    assert (found.total, found.longest) == (10 + 3 + 3, 10 + 3)


def test_a_model_s_limit_is_the_smaller_of_what_is_said(tmp_path):
    def source(positions: int | None) -> Source:
        config = {} if positions is None else {"max_position_embeddings": positions}
        return Source("x", "local", tmp_path, config)

    assert model_limit(None) is None
    assert model_limit(source(None)) is None
    assert model_limit(source(64)) == 64
    (tmp_path / "tokenizer_config.json").write_text(
        '{"model_max_length": 1000000000000000019884624838656}'
    )
    assert model_limit(source(64)) == 64
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 32}')
    assert model_limit(source(64)) == 32
    assert model_limit(source(None)) == 32


def test_words_of_counts():
    assert [counted(n, "row") for n in (1, 2, 1000)] == ["1 row", "2 rows", "1,000 rows"]
    assert counted(2, "summary") == "2 summaries"
    assert counted(1, "row is", "rows are") == "1 row is"
    assert in_rows([3]) == "row 3"
    assert in_rows([*range(12), None]) == "rows 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ..."
    assert listed(["a", "b", "c"], 2) == "'a', 'b' and 1 more"
    assert [all_of(["a"]), all_of(["a", "b"]), all_of(["a", "b", "c"], "or")] == [
        "a", "a and b", "a, b or c"
    ]  # fmt: skip
    assert cut("abcdef", 3) == "abc..."
