"""What a broken or hostile CSV file costs: never more than its own rows, never the meaning of others."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.adapt.reader import Problems, Row
from app.adapt.readers.csv import Csv
from app.errors import InvalidData


def read(path: Path, text: str) -> tuple[list[Row], Problems]:
    path.write_text(text)
    problems = Problems(path.name)
    return list(Csv().read(path, problems)), problems


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.csv"


@pytest.mark.parametrize("line", ['x""","""', 'x","'])
def test_quotes_that_every_line_opens_again_end_in_a_refusal(path: Path, line: str):
    # Each line runs on to the limit and is read again from the next: minutes, were it not bounded.
    with pytest.raises(InvalidData) as caught:
        read(path, "a,b\n" + f"{line}\n" * 200_000)
    assert caught.value.error_code == "bad_quote"
    assert caught.value.details["row"] > 1


@pytest.mark.parametrize("line", ['"', '"x,y', '"a""b'])
def test_quotes_that_break_at_once_are_problems_of_their_rows(path: Path, line: str):
    rows, problems = read(path, "a,b\n" + f"{line}\n" * 2000)
    assert rows == []
    assert len(problems) >= 1000


def test_one_open_quote_costs_one_row_of_a_long_file(path: Path):
    good = "".join(f"text {index},{index % 2}\n" for index in range(20_000))
    rows, problems = read(path, f'a,b\n"never closed,1\n{good}')
    assert [row.number for row in rows] == list(range(3, 20_003))
    assert [(problem.code, problem.row) for problem in problems.first] == [("bad_quote", 2)]


def test_a_broken_header_is_never_replaced_by_the_first_row(path: Path):
    with pytest.raises(InvalidData, match="the header in line 1 cannot be read") as caught:
        read(path, '"te"xt,label\ngood,a\nbad,b\n')
    assert caught.value.error_code == "no_header"
    assert caught.value.details["row"] == 1


def test_bare_quotes_between_tabs_are_text_wherever_they_first_appear(path: Path):
    plain = "".join(f"text {index}\t0\n" for index in range(100))
    quoted = '"Go," he said.\t1\n"never closed\t0\nhe said "go"\t1\n"a" and "b"\t0\n'
    rows, problems = read(path, f"text\tlabel\n{plain}{quoted}")
    assert len(problems) == 0
    assert [row.number for row in rows] == list(range(2, 106))
    assert [row.values["text"] for row in rows[100:]] == [
        '"Go," he said.', '"never closed', 'he said "go"', '"a" and "b"'
    ]  # fmt: skip


@pytest.mark.parametrize("num_rows", [1, 300])
def test_json_lines_under_the_wrong_name_are_called_by_the_right_one(path: Path, num_rows: int):
    with pytest.raises(InvalidData, match=r"looks like JSON.*\.jsonl") as caught:
        read(path, '{"text": "a", "label": "b"}\n' * num_rows)
    assert caught.value.error_code == "wrong_format"
