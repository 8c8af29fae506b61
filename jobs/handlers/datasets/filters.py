"""Filters: what a dataset may be narrowed by, and how a given value is checked."""

from __future__ import annotations

import datetime as dt
import math
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

import sqlalchemy as sa

from jobs.handlers.errors import DatasetError

Where = Callable[[Any], sa.ColumnElement[bool]]


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter that a dataset allows.

    type: `string`, `integer`, `number`, `boolean`, `date`, `datetime` or `uuid`
    required: the export is refused without it
    default: the value when it is not given, checked like a given one
    choices: the only values allowed
    description: one line for people
    where: for a select registered in Python: the condition for a value
    """

    type: str
    required: bool = False
    default: Any = None
    choices: Sequence[Any] | None = None
    description: str = ""
    where: Where | None = field(default=None, compare=False)

    def check(self, value: Any) -> Any:
        """Return the value as Python holds it (a date for "2024-05-31"); None stays None.

        Raises DatasetError with what was expected.
        """
        if value is None:
            return None
        checked = CHECKS[self.type](value)
        if checked is None:
            raise DatasetError(f"expects {_EXPECTED[self.type]}, not {shown(value)}")
        if self.choices is not None and checked not in self.choices:
            raise DatasetError(f"must be one of {listed(self.choices)}, not {shown(value)}")
        return checked


def _check_string(value: Any) -> str | None:
    # No database takes NUL in a text everywhere, and PostgreSQL takes it nowhere.
    return value if isinstance(value, str) and "\0" not in value else None


def _check_integer(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if -(2**63) <= value < 2**63 else None


def _check_number(value: Any) -> int | float | None:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return _check_integer(value)


def _check_boolean(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


_date_like = re.compile(r"\d{4}-\d\d-\d\d\Z").match
_datetime_like = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d").match


def _check_date(value: Any) -> dt.date | None:
    if isinstance(value, dt.date):
        return None if isinstance(value, dt.datetime) else value
    if not isinstance(value, str) or not _date_like(value):
        return None
    try:
        return dt.date.fromisoformat(value)
    except ValueError:
        return None


def _check_datetime(value: Any) -> dt.datetime | None:
    if isinstance(value, str) and _datetime_like(value):
        try:
            value = dt.datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, dt.datetime):
        return None
    try:
        return value if value.tzinfo is None else value.astimezone(dt.UTC)
    except OverflowError:
        return None


def _check_uuid(value: Any) -> uuid.UUID | None:
    if isinstance(value, uuid.UUID):
        return value
    try:
        return uuid.UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None


CHECKS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "string": _check_string,
    "integer": _check_integer,
    "number": _check_number,
    "boolean": _check_boolean,
    "date": _check_date,
    "datetime": _check_datetime,
    "uuid": _check_uuid,
}
_EXPECTED: Final[Mapping[str, str]] = {
    "string": "a text without NUL",
    "integer": "a whole number such as 42",
    "number": "a number such as 12.5",
    "boolean": "true or false",
    "date": 'a date such as "2024-05-31"',
    "datetime": 'a date and time such as "2024-05-31T08:00:00"',
    "uuid": 'a UUID such as "0190a5c4-7d5e-7000-8000-000000000000"',
}


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def listed(names: Any) -> str:
    return ", ".join(str(name) for name in names) or "none"


def filter_of_column(column: sa.ColumnElement[Any]) -> Filter:
    """Return the equality filter on a column, typed by the column's own type."""
    kind = column.type
    column_types = (
        (sa.Enum, "string"),  # before the types that it could be mistaken for
        (sa.Boolean, "boolean"),
        (sa.Integer, "integer"),
        (sa.Numeric, "number"),
        (sa.DateTime, "datetime"),
        (sa.Date, "date"),
        (sa.Uuid, "uuid"),
        (sa.String, "string"),
    )
    name = next(
        (name for column_type, name in column_types if isinstance(kind, column_type)),
        None,
    )
    if name is None:
        raise DatasetError(
            f"a filter cannot be made of a column of type {kind!r}; write Filter(type, where=...)"
        )

    def where(value: Any) -> sa.ColumnElement[bool]:
        if isinstance(value, dt.datetime) and not getattr(kind, "timezone", False):
            # It is UTC already; the column knows no offset to compare it with.
            value = value.replace(tzinfo=None)
        if isinstance(kind, sa.Uuid) and not kind.as_uuid:
            value = str(value)
        return cast("sa.ColumnElement[bool]", column == value)

    choices = tuple(kind.enums) if isinstance(kind, sa.Enum) else None
    return Filter(name, choices=choices, where=where)
