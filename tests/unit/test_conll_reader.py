"""CoNLL files as people have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.adapt.reader import Problems, Row
from app.adapt.readers.conll import Conll
from app.errors import InvalidData


def read(tmp_path: Path, text: str) -> tuple[list[Row], Problems]:
    path = tmp_path / "f.conll"
    path.write_text(text, encoding="utf-8", newline="")
    problems = Problems("f.conll")
    return list(Conll().read(path, problems)), problems


def test_sentences_are_rows_numbered_by_their_first_line(tmp_path):
    text = "-DOCSTART- -X- O O\r\n\r\nEU NNP B-NP B-ORG\r\nrejects VBZ B-VP O\r\n\r\n\r\nPeter\tB-PER\n"
    rows, problems = read(tmp_path, text)
    assert not len(problems)
    assert rows == [
        Row(3, {"tokens": ["EU", "rejects"], "tags": ["B-ORG", "O"]}),
        Row(7, {"tokens": ["Peter"], "tags": ["B-PER"]}),
    ]


def test_a_tab_lets_a_token_hold_a_space(tmp_path):
    rows, _ = read(tmp_path, "New York\tB-LOC\n")
    assert rows[0].values == {"tokens": ["New York"], "tags": ["B-LOC"]}


def test_a_line_without_a_tag_spoils_its_sentence_only(tmp_path):
    rows, problems = read(tmp_path, "a O\nlonely\nb O\n\nc O\n")
    assert [row.number for row in rows] == [5]
    (problem,) = problems.first
    assert (problem.code, problem.row, problem.value) == ("wrong_columns", 2, "lonely")


def test_a_file_of_something_else(tmp_path):
    with pytest.raises(InvalidData, match="a token and its tag"):
        read(tmp_path, "one\ntwo\n")
