"""What every reader must do. A new file under `readers/` is tested here without an edit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.adapt.plugins import READERS
from app.adapt.reader import Problems, Reader, Row
from app.errors import InvalidData

ROWS = [{"text": f"sentence number {index}", "label": "ab"[index % 2]} for index in range(2500)]


def write(kind: str, path: Path) -> None:
    """Write ROWS in a reader's format; a new format adds its case, or its rows are not tested."""
    match kind:
        case "jsonl":
            import json

            path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        case "csv":
            body = "".join(f"{row['text']},{row['label']}\n" for row in ROWS)
            path.write_text("text,label\n" + body)
        case "parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=1000)
        case "json":
            import json

            path.write_text(json.dumps(ROWS))
        case _:
            pytest.skip(f"no writer for {kind} in this test")


def read(reader: Reader, path: Path) -> tuple[list[Row], Problems]:
    problems = Problems(path.name)
    return list(reader.read(path, problems)), problems


def outcome(reader: Reader, path: Path) -> tuple[list[Row], int, InvalidData | None]:
    """Return the good rows, the number of problems, and the refusal if there was one."""
    try:
        rows, problems = read(reader, path)
    except InvalidData as refused:
        return [], 0, refused
    return rows, len(problems), None


@pytest.fixture(params=READERS.kinds)
def reader(request: pytest.FixtureRequest) -> Reader:
    return READERS[request.param].model_validate({})


def test_an_empty_file_is_refused(reader: Reader, tmp_path: Path):
    path = tmp_path / "empty"
    path.write_bytes(b"")
    with pytest.raises(InvalidData) as caught:
        read(reader, path)
    assert caught.value.error_code == "empty_file"
    assert caught.value.param == "file"
    assert caught.value.details["file"] == "empty"


@pytest.mark.parametrize(
    "content",
    [b"\x1f\x8b\x08\x00rest", b"PK\x03\x04rest", bytes(range(256)) * 64, b"\xff\xfe", b"\xef\xbb\xbf",
     b"PAR1", b"PAR1PAR1", b"\0" * 1000, b"\n\n\n", b"[" * 200_000],
    ids=["gzip", "zip", "binary", "utf16-mark", "utf8-mark", "magic", "magics", "nuls", "blank", "deep"],
)  # fmt: skip
def test_what_is_not_data_gives_no_row_and_one_clear_error(
    reader: Reader, content: bytes, tmp_path: Path
):
    path = tmp_path / "junk"
    path.write_bytes(content)
    rows, num_problems, refused = outcome(reader, path)
    assert rows == []
    if refused is None:
        assert num_problems > 0
    else:
        assert "junk" in refused.message
        assert refused.param == "file"
        assert refused.error_code != "invalid_data"


def test_rows_come_in_order_with_growing_numbers(reader: Reader, tmp_path: Path):
    path = tmp_path / "rows"
    write(reader.name(), path)
    rows, problems = read(reader, path)
    assert [row.values for row in rows] == ROWS
    assert len(problems) == 0
    first = rows[0].number
    assert first in {1, 2}  # below a header, the first row is line 2
    assert [row.number for row in rows] == list(range(first, first + len(ROWS)))


def test_reading_is_lazy_and_can_be_left_at_any_row(reader: Reader, tmp_path: Path):
    path = tmp_path / "rows"
    write(reader.name(), path)
    rows = reader.read(path, Problems(path.name))
    assert isinstance(rows, Iterator)
    assert next(rows).values == ROWS[0]
    rows.close()  # pyright: ignore[reportAttributeAccessIssue] - readers are generators
    path.unlink()


def test_the_file_is_opened_for_reading_only(reader: Reader, tmp_path: Path):
    path = tmp_path / "rows"
    write(reader.name(), path)
    before = path.read_bytes()
    path.chmod(0o400)
    assert len(read(reader, path)[0]) == len(ROWS)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["rows"]


def test_a_file_cut_off_anywhere_never_crashes_and_never_invents(reader: Reader, tmp_path: Path):
    whole = tmp_path / "whole"
    write(reader.name(), whole)
    content = whole.read_bytes()
    path = tmp_path / "part"
    for size in {*range(1, 60), *range(60, len(content), max(1, len(content) // 60))}:
        path.write_bytes(content[:size])
        rows, num_problems, _ = outcome(reader, path)
        # Only the last row can be a part of one, and text formats cannot know.
        assert [row.values for row in rows[:-1]] == ROWS[: max(0, len(rows) - 1)]
        assert num_problems <= 1


def test_damage_in_any_byte_is_an_error_a_problem_or_another_text(reader: Reader, tmp_path: Path):
    whole = tmp_path / "whole"
    write(reader.name(), whole)
    content = whole.read_bytes()[:4000] if reader.name() != "parquet" else whole.read_bytes()
    path = tmp_path / "damaged"
    for position in range(0, len(content), max(1, len(content) // 150)):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        _, _, refused = outcome(reader, path)
        assert refused is None or "damaged" in refused.message


def test_extensions_are_lower_case_and_a_shared_one_is_told_apart_by_its_content():
    extensions = [(extension, plugin) for plugin in READERS for extension in plugin.extensions]
    for extension, plugin in extensions:
        assert extension.startswith(".")
        assert extension == extension.lower()
        sharing = [other for taken, other in extensions if taken == extension]
        asked = [each for each in sharing if each.recognizes is not Reader.recognizes]
        assert len(sharing) - len(asked) <= 1, f"{extension} needs {plugin.name()}.recognizes"
