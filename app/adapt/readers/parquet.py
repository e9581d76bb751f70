"""Apache Parquet, one row group at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from app.adapt.reader import Problems, Reader, Row
from app.errors import InvalidData

BATCH_ROWS = 4096


class Parquet(Reader):
    """Reads `.parquet`. `Row.number` counts rows from 1."""

    kind: Literal["parquet"] = "parquet"
    extensions: ClassVar[tuple[str, ...]] = (".parquet",)

    def read(self, path: Path, problems: Problems) -> Iterator[Row]:
        """Yield each row; a damaged file is refused as a whole, because its format has no lines."""
        import pyarrow as pa  # noqa: PLC0415 - 50 MB that only this format needs
        import pyarrow.parquet as pq  # noqa: PLC0415

        filename = problems.filename
        if path.stat().st_size == 0:
            message = f"{filename}: the file is empty"
            raise InvalidData(message, param="file", code="empty_file", details={"file": filename})
        number = 0
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=BATCH_ROWS):
                    rows: list[dict[str, Any]] = batch.to_pylist()
                    for values in rows:
                        number += 1
                        yield Row(number, values)
        except (pa.ArrowException, OSError, ValueError) as error:
            message = f"{filename}: not a sound Parquet file (after row {number}): {error}"
            raise InvalidData(message[:500], param="file", code="broken_parquet",
                              details={"file": filename, "row": number}) from None  # fmt: skip
        if number == 0:
            message = f"{filename}: the file has no rows"
            raise InvalidData(message, param="file", code="empty_file", details={"file": filename})
