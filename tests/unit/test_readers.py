"""The three readers on good and bad files: rows with the right lines, faults with a code and a place."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.adapt.plugins import READERS
from app.adapt.reader import Problems, Row
from app.errors import InvalidData
from tests.published import DATA, needs_published

Write = Callable[[str, Any], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


def read(path: Path, kind: str | None = None) -> tuple[list[Row], Problems]:
    kind = kind or {".tsv": "csv"}.get(path.suffix, path.suffix[1:])
    problems = Problems(path.name)
    return list(READERS[kind]().read(path, problems)), problems


def refusal(path: Path, kind: str | None = None) -> InvalidData:
    with pytest.raises(InvalidData) as caught:
        read(path, kind)
    assert caught.value.details["file"] == path.name
    return caught.value


def faults(problems: Problems) -> list[tuple[str, int | None]]:
    return [(problem.code, problem.row) for problem in problems.first]


def test_jsonl_numbers_lines_and_reports_each_bad_one(write: Write) -> None:
    text = '{"a": 1}\n\n{"a": \n[1]\n{"a": NaN}\n{"a": "\\ud800"}\n{"a": 1e999}\n{"a": 2}'
    rows, problems = read(write("x.jsonl", text))
    assert [(row.number, row.values) for row in rows] == [(1, {"a": 1}), (8, {"a": 2})]
    assert faults(problems) == [
        ("invalid_json", 3),
        ("not_an_object", 4),
        ("invalid_json", 5),
        ("invalid_json", 6),
        ("invalid_json", 7),
    ]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ('{"a": "' + "x" * 300_000 + '"}', "line_too_long"),
        ('{"a":' * 33 + "1" + "}" * 33, "too_deep"),
        ('{"a":' + "[" * 100_000 + "]" * 100_000 + "}", "too_deep"),
        ('{"a": 123456789012345678901}', "number_too_large"),
        ('{"a": ' + "9" * 5000 + "}", None),
    ],
)
def test_jsonl_refuses_what_would_hurt_later(write: Write, line: str, code: str | None) -> None:
    rows, problems = read(write("x.jsonl", f'{line}\n{{"a": 1}}\n'))
    assert [row.number for row in rows] == [2]
    assert faults(problems)[0][1] == 1
    assert code is None or faults(problems)[0][0] == code


def test_jsonl_allows_32_levels(write: Write) -> None:
    rows, _ = read(write("x.jsonl", '{"a":' * 32 + "1" + "}" * 32))
    assert len(rows) == 1


def test_csv_gives_each_record_the_line_it_begins_on(write: Write) -> None:
    text = 'text,label\n"two\nlines",a\n\nshort\n"a ""b"", c",d\n1,2,3\nlast,z'
    rows, problems = read(write("x.csv", text))
    assert [(row.number, row.values["text"]) for row in rows] == [
        (2, "two\nlines"),
        (6, 'a "b", c'),
        (8, "last"),
    ]
    assert faults(problems) == [("ragged_row", 5), ("ragged_row", 7)]
    assert problems.first[0].column == "label"
    assert problems.first[1].value == "1,2,3"


def test_csv_loses_only_the_record_with_the_bad_quote(write: Write) -> None:
    text = 'text,label\n"open,a\nb,c\n"closed"x,d\ne,f\n"never closed,g\nh,i\n'
    rows, problems = read(write("x.csv", text))
    assert [row.values["text"] for row in rows] == ["b", "e", "h"]
    assert faults(problems) == [("bad_quote", 2), ("bad_quote", 4), ("bad_quote", 6)]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_finds_the_delimiter(write: Write, delimiter: str) -> None:
    lines = [("text", "label"), ("one, two; three", "a"), ("x", "b")]
    text = "\n".join(delimiter.join(f'"{cell}"' for cell in line) for line in lines)
    rows, problems = read(write("x.csv", text))
    assert [row.values for row in rows] == [
        dict(zip(lines[0], line, strict=True)) for line in lines[1:]
    ]
    assert not problems


def test_tsv_takes_bare_quotes_as_text(write: Write) -> None:
    rows, problems = read(write("x.tsv", 'text\tlabel\n"Great" film\t1\n"bad\t0\nfine\t1\n'))
    assert [row.values["text"] for row in rows] == ['"Great" film', '"bad', "fine"]
    assert not problems


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_csv_reads_every_line_end_and_encoding(write: Write, end: str, encoding: str) -> None:
    content = f" text ,label{end}héllo 世界,a{end}b,c{end}".encode(encoding)
    rows, problems = read(write("x.csv", content))
    assert [row.values for row in rows] == [
        {"text": "héllo 世界", "label": "a"},
        {"text": "b", "label": "c"},
    ]
    assert [row.number for row in rows] == [2, 3]
    assert not problems


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("x.csv", "", "empty_file"),
        ("x.csv", "\n \n", "no_header"),
        ("x.csv", "a,b\n", "no_rows"),
        ("x.csv", "a,a\n1,2\n", "duplicate_column"),
        ("x.csv", "a,\n1,2\n", "empty_column_name"),
        ("x.csv", '{"a": 1, "b": 2}\n', "wrong_format"),
        ("x.csv", b"a,b\n1,\x002\n", "nul_byte"),
        ("x.csv", b"PAR1....", "wrong_format"),
        ("x.csv", gzip.compress(b"a,b\n1,2\n", mtime=0), "archive"),
        ("x.csv", b"PK\x03\x04....", "archive"),
        ("x.csv", b"\xff\xfea\x00,\x00b\x00\n", "wrong_encoding"),
        ("x.jsonl", "", "empty_file"),
        ("x.jsonl", " \n\n", "empty_file"),
        ("x.jsonl", '[{"a": 1}]', "wrong_format"),
        ("x.jsonl", "a,b\n1,2\n", "wrong_format"),
        ("x.jsonl", '{"a": 1}\n{"a": "\x00"}\n', "nul_byte"),
        ("x.parquet", "", "empty_file"),
        ("x.parquet", "a,b\n1,2\n", "wrong_format"),
        ("x.parquet", b"PAR1" + b"x" * 100 + b"PAR1", "corrupted"),
        ("x.parquet", b"PAR1xx", "cut_off"),
    ],
)
def test_an_unusable_file_is_refused(write: Write, name: str, content: Any, code: str) -> None:
    error = refusal(write(name, content))
    assert error.error_code == code
    assert name in error.message


def test_a_wrong_encoding_names_byte_line_and_likely_encoding(write: Write) -> None:
    good = b"text,label\nfine,a\n"
    text = "这家酒店非常不错，早餐也很好，服务热情，下次还会再来。房间干净舒适。"
    error = refusal(write("x.csv", good + f"{text},b\n".encode("gb18030")))
    assert error.error_code == "wrong_encoding"
    assert error.details["byte"] == len(good)
    assert error.details["row"] == 3
    assert error.details["likely"] in {"gb18030", "gbk", "gb2312", "cp936"}


def test_parquet_keeps_types_and_counts_rows(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"t": ["a", None], "n": [1, 2], "x": [0.5, float("nan")], "l": [["p"], []]})
    pq.write_table(table, tmp_path / "x.parquet")
    rows, problems = read(tmp_path / "x.parquet")
    assert [(row.number, row.values) for row in rows] == [
        (1, {"t": "a", "n": 1, "x": 0.5, "l": ["p"]}),
        (2, {"t": None, "n": 2, "x": None, "l": []}),
    ]
    assert not problems


def test_parquet_with_any_byte_damaged_or_cut_never_breaks_the_reader(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"t": [f"text {i}" for i in range(50)]}), path)
    whole = path.read_bytes()
    for position in range(0, len(whole), 7):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        with_damage = Problems("x.parquet")
        try:
            list(READERS["parquet"]().read(path, with_damage))
        except InvalidData:
            continue
    path.write_bytes(whole[: len(whole) // 2])
    assert refusal(path).error_code == "cut_off"


EXPECTED_MESS = {
    "utf8_bom.csv": (120, {}),
    "crlf.csv": (120, {}),
    "empty_rows.csv": (124, {}),
    "ragged.csv": (121, {"ragged_row": 2, "bad_quote": 1}),
    "huge_cell.csv": (121, {}),
    "single_class.jsonl": (120, {}),
    "mixed_types.jsonl": (27, {"not_an_object": 2}),
    "bad_line.jsonl": (21, {"invalid_json": 1}),
}


@needs_published
@pytest.mark.parametrize("name", EXPECTED_MESS)
def test_real_mess_gives_the_rows_that_can_be_used(name: str) -> None:
    rows, problems = read(DATA / "robustness" / "derived_mess" / name)
    assert (len(rows), dict(problems.counts)) == EXPECTED_MESS[name]
    assert set(rows[0].values) == {"label", "text"}


@needs_published
def test_gb18030_is_recognized() -> None:
    error = refusal(DATA / "robustness" / "derived_mess" / "gb18030.csv")
    assert (error.error_code, error.details["likely"]) == ("wrong_encoding", "gb18030")


SPECTRUM = sorted((DATA / "robustness" / "csv_spectrum" / "csvs").glob("*.csv"))
# As published, these two pairs differ: another phone number; LF in the CSV and CRLF in the JSON.
UNEQUAL_PAIRS = {"location_coordinates", "newlines_crlf"}


@needs_published
@pytest.mark.parametrize("path", SPECTRUM, ids=lambda path: path.stem)
def test_csv_spectrum(path: Path) -> None:
    rows, problems = read(path)
    wanted = json.loads((path.parent.parent / "json" / f"{path.stem}.json").read_text("utf-8"))
    wanted = wanted if isinstance(wanted, list) else [wanted]
    assert not problems
    assert len(rows) == len(wanted)
    if path.stem not in UNEQUAL_PAIRS:
        assert [row.values for row in rows] == wanted


@needs_published
def test_json_test_suite_within_a_line(tmp_path: Path) -> None:
    """Every one-line y_ value is read and every one-line n_ value is a problem or a refusal."""
    wrong: list[str] = []
    for path in sorted((DATA / "robustness" / "json_test_suite").glob("[yn]_*.json")):
        raw = path.read_bytes()
        if not raw.strip() or b"\n" in raw.strip() or path.name == "n_structure_open_object.json":
            continue
        target = tmp_path / "x.jsonl"
        target.write_bytes(b'{"v": ' + raw.strip(b"\n") + b"}\n" + b'{"v": 0}\n')
        try:
            is_read = len(read(target)[0]) == 2
        except InvalidData:
            is_read = False
        if is_read != path.name.startswith("y_"):
            wrong.append(path.name)
    assert wrong == []


@needs_published
def test_naughty_strings_survive_each_format(tmp_path: Path) -> None:
    import csv

    import pyarrow as pa
    import pyarrow.parquet as pq

    strings: list[str] = json.loads((DATA / "robustness/naughty_strings/blns.json").read_bytes())
    strings = [text for text in strings if "\0" not in text]
    lines = "".join(json.dumps({"text": s, "label": "a"}) + "\n" for s in strings)
    (tmp_path / "x.jsonl").write_text(lines, encoding="utf-8")
    with (tmp_path / "x.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *((s, "a") for s in strings)])
    pq.write_table(
        pa.table({"text": strings, "label": ["a"] * len(strings)}), tmp_path / "x.parquet"
    )
    for name in ("x.jsonl", "x.csv", "x.parquet"):
        rows, problems = read(tmp_path / name)
        assert [row.values["text"] for row in rows] == strings, name
        assert not problems


@needs_published
@pytest.mark.parametrize("kind", READERS.kinds)
def test_no_shared_file_breaks_a_reader(kind: str) -> None:
    refusals: dict[str, InvalidData] = {}
    for path in sorted((DATA / "robustness").rglob("*")):
        if path.is_file():
            try:
                read(path, kind)
            except InvalidData as error:
                refusals[path.name] = error
    assert all(error.details["file"] == name for name, error in refusals.items())
