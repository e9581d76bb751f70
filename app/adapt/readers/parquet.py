"""Apache Parquet, read batch by batch. It knows Arrow's types, nothing about tasks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from app.adapt.lines import PARQUET_MAGIC as MAGIC
from app.adapt.lines import check_container
from app.adapt.reader import Problem, Problems, Reader, Row
from app.errors import InvalidData

BATCH_ROWS = 1024
# What a file of a few kilobytes may claim to unpack to, for one row group.
MAX_GROUP_BYTES = 1024 * 1024 * 1024
MAX_CELL_CHARACTERS = 256 * 1024
METADATA_LIMIT = 16 * 1024 * 1024


class Parquet(Reader):
    """Rows of a Parquet file, numbered from 1.

    NaN means empty; dates become ISO text, decimals numbers.
    """

    kind: Literal["parquet"] = "parquet"
    extensions = (".parquet", ".pq")
    media_types = ("application/vnd.apache.parquet", "application/x-parquet")

    def read(self, path: Path, problems: Problems) -> Iterator[Row]:
        """Yield the rows; a cell that no JSON value can stand for is a problem of its row.

        Raises:
            InvalidData: not a Parquet file, cut off, corrupted, or too large once unpacked.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        _check_ends(path, problems.filename)
        try:
            with pq.ParquetFile(
                path,
                pre_buffer=False,
                thrift_string_size_limit=METADATA_LIMIT,
                thrift_container_size_limit=METADATA_LIMIT,
            ) as file:
                _check_size(file.metadata, problems.filename)
                _check_names(file.schema_arrow.names, problems.filename)
                number = 0
                for batch in file.iter_batches(batch_size=BATCH_ROWS, use_threads=False):
                    for values in batch.to_pylist():
                        number += 1
                        row = _plain_row(values, number, problems)
                        if row is not None:
                            yield row
        except (
            pa.ArrowException,
            OSError,
            UnicodeError,
            MemoryError,
            ValueError,
            OverflowError,
        ) as e:
            reason = str(e).splitlines()[0][:200] if str(e) else type(e).__name__
            raise _unusable(
                problems.filename, "corrupted", f"the file is corrupted: {reason}"
            ) from e
        if not number:
            raise _unusable(problems.filename, "no_rows", "the file has no rows")


def _check_ends(path: Path, filename: str) -> None:
    with path.open("rb") as file:
        if not check_container(path, filename).startswith(MAGIC):
            raise _unusable(filename, "wrong_format", "this is not a Parquet file")
        file.seek(-len(MAGIC), 2)
        if path.stat().st_size <= 2 * len(MAGIC) or file.read() != MAGIC:
            raise _unusable(filename, "cut_off", "the file is cut off; upload it again")


def _check_size(metadata: Any, filename: str) -> None:
    for index in range(metadata.num_row_groups):
        size = metadata.row_group(index).total_byte_size
        if size > MAX_GROUP_BYTES:
            reason = (
                f"row group {index} unpacks to {size} bytes, the limit is {MAX_GROUP_BYTES}; "
                "write smaller row groups"
            )
            raise _unusable(filename, "row_group_too_large", reason)


def _check_names(names: list[str], filename: str) -> None:
    for position, name in enumerate(names):
        if not name.strip():
            raise _unusable(filename, "empty_column_name", f"column {position + 1} has no name")
        if name in names[:position]:
            raise _unusable(filename, "duplicate_column", f"two columns are named {name!r}")


def _plain_row(values: dict[str, Any], number: int, problems: Problems) -> Row | None:
    plain: dict[str, Any] = {}
    for column, value in values.items():
        try:
            plain[column] = _plain(value)
        except (TypeError, ValueError, OverflowError) as error:
            problems.add(Problem("wrong_type", str(error), number, column))
            return None
    return Row(number, plain)


def _plain(value: Any) -> Any:
    """Return a value as JSON could hold it.

    Raises:
        TypeError: bytes that are no text, or a type without a JSON form.
        ValueError: infinity, or a text past the limit.
    """
    match value:
        case int():  # a boolean too
            if not -(2**63) <= value < 2**63:
                message = "a whole number of more than 64 bits"
                raise ValueError(message)
        case float():
            return _finite(value)
        case str():
            if len(value) > MAX_CELL_CHARACTERS:
                message = f"the cell is longer than {MAX_CELL_CHARACTERS // 1024} Ki characters"
                raise ValueError(message)
        case list():
            return [_plain(item) for item in value]
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case _:
            return None if value is None else _plain_other(value)
    return value


def _finite(value: float) -> float | None:
    if math.isinf(value):
        message = "infinity is not a value"
        raise ValueError(message)
    return None if math.isnan(value) else value


def _plain_other(value: Any) -> Any:
    from datetime import date, time
    from decimal import Decimal
    from uuid import UUID

    match value:
        case bytes():
            try:
                return _plain(value.decode())
            except UnicodeDecodeError:
                message = "binary data; a text column holds strings"
                raise TypeError(message) from None
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case date() | time():
            return value.isoformat()
        case tuple():
            return [_plain(item) for item in value]
        case UUID():
            return str(value)
        case _:
            message = f"values of type {type(value).__name__} cannot be read"
            raise TypeError(message)


def _unusable(filename: str, code: str, reason: str) -> InvalidData:
    return InvalidData(f"{filename}: {reason}", param="file", code=code, details={"file": filename})
