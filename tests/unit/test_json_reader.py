"""JSON documents as people have them, and how they are told from JSON lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.adapt.dataset import read_dataset
from app.errors import InvalidData

SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "title": "t",
            "paragraphs": [
                {"context": "Ada wrote.", "qas": [
                    {"id": "1", "question": "Who?", "answers": [{"text": "Ada", "answer_start": 0}]},
                    {"id": "2", "question": "Why?", "answers": [], "is_impossible": True},
                ]},
                {"context": "B.", "qas": [{"id": "3", "question": "What?", "answers": []}]},
            ],
        }
    ],
}  # fmt: skip


def read(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "f.json"
    path.write_text(text, encoding="utf-8")
    return read_dataset(path, "f.json", max_rows=100)


@pytest.mark.parametrize("indent", [None, 2])
def test_squad_is_a_row_for_each_question(tmp_path, indent):
    data = read(tmp_path, json.dumps(SQUAD, indent=indent))
    assert [(row.number, row.values["id"], row.values["context"]) for row in data.rows] == [
        (1, "1", "Ada wrote."), (2, "2", "Ada wrote."), (3, "3", "B."),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        '[{"a": 1}, {"a": 2}]',
        '[\n  {"a": 1},\n  {"a": 2}\n]',
        '{"data": [{"a": 1}, {"a": 2}]}',
        '{\n"data": [{"a": 1},\n{"a": 2}]\n}',
        '{"a": 1}\n{"a": 2}\n',
        '{"a": 1}\r\n{"a": 2}',
    ],
)
def test_documents_and_lines_are_told_apart(tmp_path, text):
    assert [row.values for row in read(tmp_path, text).rows] == [{"a": 1}, {"a": 2}]


def test_one_line_is_a_line(tmp_path):
    assert [row.values for row in read(tmp_path, '{"a": 1}\n').rows] == [{"a": 1}]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("[1, 2]", "wrong_format"),
        ("[]", "empty_file"),
        ('[{"a": 1}', "invalid_json"),
        ('{"data": 3,\n "a": 1}', "wrong_format"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, text, code):
    with pytest.raises(InvalidData) as caught:
        read(tmp_path, text)
    assert caught.value.error_code == code


def test_an_element_that_is_no_object_is_a_problem(tmp_path):
    data = read(tmp_path, '[{"a": 1}, 2]')
    assert len(data.rows) == 1
    (problem,) = data.problems.first
    assert (problem.code, problem.row) == ("not_an_object", 2)
