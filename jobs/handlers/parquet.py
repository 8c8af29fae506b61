"""Streams rows into a Parquet file, a row group at a time, with pyarrow (extra `parquet`).

The type of a column is that of its values in the first row group (ROWS_PER_GROUP rows); one that
holds only NULL there is text. A later value that does not fit ends the writing with the column's
name: a cast in the query settles it. Decimal keeps all its digits (38 at most); UUID, interval,
JSON and whatever else Parquet has no type for is text, as `writers` writes it.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import IO, TYPE_CHECKING, Any, Final

from jobs.handlers.errors import FormatError
from jobs.handlers.writers import Tally, Written, distinct, plain_text

if TYPE_CHECKING:
    import pyarrow as pa

CONTENT_TYPE: Final = "application/vnd.apache.parquet"
ROWS_PER_GROUP: Final = 20_000
_DECIMAL_DIGITS: Final = 38


def check_parquet() -> None:
    """Raise FormatError where Parquet cannot be written here."""
    try:
        import pyarrow.parquet  # noqa: F401 - late, and only to see that it is there
    except ModuleNotFoundError as error:
        raise FormatError(
            "Parquet needs pyarrow, which is not installed: pip install tickwork[parquet]"
        ) from error


def write_parquet(
    file: IO[bytes],
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    rows_per_group: int = ROWS_PER_GROUP,
) -> Written:
    """Write rows into a binary file, with as much memory as one row group needs.

    file, columns, rows: as for `write_rows`
    rows_per_group: how many rows are held at once
    Returns the number of rows, the number of bytes and their SHA-256.
    Raises FormatError without pyarrow, and for a value that does not fit its column.
    """
    check_parquet()
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = distinct(columns)
    tally = Tally(file)
    groups = _groups(rows, rows_per_group)
    first = next(groups, [])
    schema = pa.schema(
        [(name, _type_of([row[index] for row in first])) for index, name in enumerate(names)]
    )
    total_rows = 0
    sink = pa.PythonFile(tally, mode="w")
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for group in itertools.chain([first] if first else [], groups):
            writer.write_table(_table(schema, group))
            total_rows += len(group)
    return Written(total_rows, tally.bytes, tally.digest.hexdigest())


def _groups(rows: Iterable[Sequence[Any]], size: int) -> Iterator[list[Sequence[Any]]]:
    ahead = iter(rows)
    while group := list(itertools.islice(ahead, size)):
        yield group


def _type_of(values: Sequence[Any]) -> pa.DataType:
    """The narrowest type that holds them all; text where there is none."""
    import pyarrow as pa

    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pa.bool_()
    if kinds == {int}:
        fits = all(-(2**63) <= value < 2**63 for value in values if value is not None)
        return pa.int64() if fits else pa.string()
    if kinds and kinds <= {int, float}:
        return pa.float64()
    if kinds and kinds <= {int, Decimal}:
        return _decimal_type(values)
    if kinds == {dt.datetime}:
        aware = {value.tzinfo is not None for value in values if value is not None}
        # A mixture has no type; text keeps the offset of each.
        return pa.string() if len(aware) > 1 else pa.timestamp("us", "UTC" if True in aware else "")
    simple = {dt.date: pa.date32(), dt.time: pa.time64("us"), bytes: pa.binary()}
    return simple.get(next(iter(kinds)), pa.string()) if len(kinds) == 1 else pa.string()


def _decimal_type(values: Sequence[Any]) -> pa.DataType:
    import pyarrow as pa

    scale = 0
    for value in values:
        if isinstance(value, Decimal):
            exponent = value.as_tuple().exponent
            if not isinstance(exponent, int):  # NaN or infinity, which a decimal of Parquet is not
                return pa.string()
            scale = max(scale, -exponent)
    return pa.decimal128(_DECIMAL_DIGITS, scale) if scale <= _DECIMAL_DIGITS else pa.string()


def _table(schema: pa.Schema, group: Sequence[Sequence[Any]]) -> pa.Table:
    import pyarrow as pa

    arrays = []
    for index, field in enumerate(schema):
        values = [row[index] for row in group]
        try:
            if pa.types.is_string(field.type):
                values = [None if value is None else plain_text(value) for value in values]
            arrays.append(pa.array(values, field.type))
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise FormatError(
                f"column {field.name!r} began as {field.type} and then holds a value that is none; "
                "cast the column in the query to the type that you mean, or export to CSV"
            ) from error
    return pa.table(arrays, schema=schema)
