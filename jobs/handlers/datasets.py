"""Datasets: what may be exported, by name, and by which filters it may be narrowed.

In Python, a SQLAlchemy Core select, or a function of the filters that returns one:

    register_dataset("orders", select(orders), filters={
        "store_id": orders.c.store_id,                               # equality, typed by the column
        "since": Filter("date", where=lambda day: orders.c.created_at >= day),
    })
    register_dataset("report", build_report, filters={"year": Filter("integer", required=True)})

In a TOML file (`EXPORT_DATASETS=path/to/datasets.toml`), a query with bound parameters, one for
each filter. A filter that is not given is NULL:

    [datasets.orders]
    description = "Orders, the newest first"
    query = '''
      SELECT * FROM "Orders"
      WHERE (:country IS NULL OR "ShipCountry" = :country)
        AND (:since IS NULL OR "OrderDate" >= :since)
      ORDER BY "OrderDate" DESC'''
    [datasets.orders.filters]
    country = "string"
    since = { type = "date", required = true, description = "first day, included" }

Keys of a dataset: `query`, `filters`, `description`, `count` (false: the rows are not counted
beforehand, for a query too dear to run twice). Keys of a filter: `type`, `required`, `default`,
`choices`, `description`. A colon that is no parameter is written `\\:`.

Values of filters only ever travel as bound parameters, and must have the declared type:

    string      text
    integer     a whole number of 64 bits
    number      a finite number
    boolean     true or false
    date        "2024-05-31"
    datetime    "2024-05-31T08:00:00", with or without an offset; with one, it is turned into UTC
    uuid        "0190a5c4-..." (native on PostgreSQL, text elsewhere)

null means that the filter is not given.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import tomllib
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, cast

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from jobs.handlers.errors import DatasetError

Where = Callable[[Any], sa.ColumnElement[bool]]
Build = Callable[[Mapping[str, Any]], sa.SelectBase]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
_FILTER_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}\Z")


# --- filters


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
        checked = _CHECKS[self.type](value)
        if checked is None:
            raise DatasetError(f"expects {_EXPECTED[self.type]}, not {_shown(value)}")
        if self.choices is not None and checked not in self.choices:
            raise DatasetError(f"must be one of {_listed(self.choices)}, not {_shown(value)}")
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


_CHECKS: Final[Mapping[str, Callable[[Any], Any]]] = {
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


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _listed(names: Any) -> str:
    return ", ".join(str(name) for name in names) or "none"


def _filter_of_column(column: sa.ColumnElement[Any]) -> Filter:
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


# --- how a filter's value is bound in a query of text, where no column says it


class _Number(sa.types.UserDefinedType[float]):
    # PostgreSQL cannot tell the type of a bare `$1 IS NULL`; the cast says it.
    render_bind_cast = True
    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "DOUBLE PRECISION"


class _Boolean(sa.Boolean):
    render_bind_cast = True


class _Datetime(TypeDecorator[dt.datetime]):
    """On SQLite as text without needless zeros, so that `>=` includes rows of that very second."""

    impl = sa.DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> sa.types.TypeEngine[Any]:
        return dialect.type_descriptor(
            sa.String() if dialect.name == "sqlite" else cast("sa.DateTime", self.impl_instance)
        )

    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        value = value.replace(tzinfo=None)
        return value.isoformat(" ") if dialect.name == "sqlite" else value


class _Uuid(TypeDecorator[uuid.UUID]):
    """Native on PostgreSQL, the usual text elsewhere."""

    impl = sa.String
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> sa.types.TypeEngine[Any]:
        native = dialect.name == "postgresql"
        return dialect.type_descriptor(sa.Uuid() if native else sa.String())

    def process_bind_param(self, value: uuid.UUID | None, dialect: Dialect) -> Any:
        return value if value is None or dialect.name == "postgresql" else str(value)


def _bind_type(filter_: Filter, value: Any) -> sa.types.TypeEngine[Any]:
    if filter_.type == "datetime":
        return _Datetime(timezone=value is not None and value.tzinfo is not None)
    return _BIND_TYPES[filter_.type]


_BIND_TYPES: Final[Mapping[str, sa.types.TypeEngine[Any]]] = {
    "string": sa.String(),
    "integer": sa.BigInteger(),
    "number": _Number(),
    "boolean": _Boolean(),
    "date": sa.Date(),
    "uuid": _Uuid(),
}


# --- datasets


@dataclass(frozen=True, slots=True)
class Dataset:
    """What may be exported under one name.

    name: part of the file's name, so letters, digits, `_`, `.` and `-` only
    query: a select, a function of the filters that returns one, or a query as text
    filters: what may be filtered, by name
    description: one line for people
    count: whether the rows are counted beforehand, for the progress
    """

    name: str
    query: sa.SelectBase | Build | sa.TextClause
    filters: Mapping[str, Filter] = field(default_factory=dict)
    description: str = ""
    count: bool = True

    def statement(self, filters: Mapping[str, Any] | None = None) -> sa.Executable:
        """Check the filters and return the statement to run, with their values bound.

        Raises DatasetError for an undeclared filter, a missing required one, or a wrong value.
        """
        values = self.check(filters or {})
        if isinstance(self.query, sa.TextClause):
            return self.query.bindparams(
                *(
                    sa.bindparam(name, value, type_=_bind_type(self.filters[name], value))
                    for name, value in values.items()
                )
            )
        given = {name: value for name, value in values.items() if value is not None}
        if not isinstance(self.query, sa.SelectBase):
            built = self.query(given)
            if not isinstance(built, sa.SelectBase):
                raise DatasetError(
                    f"the function of dataset {self.name!r} must return a select, "
                    f"not {type(built).__name__}"
                )
            return cast("sa.Executable", built)
        statement = self.query
        for name, value in given.items():
            where = cast("Where", self.filters[name].where)  # _check_dataset has seen to it
            statement = cast("sa.Select[Any]", statement).where(where(value))
        return cast("sa.Executable", statement)

    def check(self, filters: Mapping[str, Any]) -> dict[str, Any]:
        """Return a checked value for every declared filter: as given, its default, or None.

        Raises DatasetError for an undeclared filter, a missing required one, or a wrong value.
        """
        for name in filters:
            if name not in self.filters:
                raise DatasetError(
                    f"dataset {self.name!r} has no filter {_shown(name)}; "
                    f"its filters: {_listed(self.filters)}"
                )
        values = {}
        for name, filter_ in self.filters.items():
            value = filters.get(name)
            if value is None:
                value = filter_.default
            if value is None and filter_.required:
                raise DatasetError(
                    f"dataset {self.name!r} needs the filter {name!r} ({filter_.type})"
                )
            try:
                values[name] = filter_.check(value)
            except DatasetError as error:
                raise DatasetError(f"filter {name!r} of dataset {self.name!r} {error}") from None
        return values


class Catalogue:
    """A set of datasets. Most programs use the one behind `register_dataset` and `find_dataset`."""

    def __init__(self) -> None:
        self._datasets: dict[str, Dataset] = {}

    def register(
        self,
        name: str,
        query: sa.SelectBase | Build,
        *,
        filters: Mapping[str, sa.ColumnElement[Any] | Filter | str] | None = None,
        description: str = "",
        count: bool = True,
    ) -> Dataset:
        """Make a dataset known by name; the same name again replaces it.

        query: a SQLAlchemy Core select, or a function that gets the given filters (checked, those
            not given left out) and returns one
        filters: by name: a column (equality, typed by the column), a Filter, or, for a function,
            the name of a type
        description: one line for people
        count: whether the rows are counted beforehand, for the progress
        Returns the dataset. Raises DatasetError when it could not work.
        """
        made = {
            key: _filter_of(name, key, declared) for key, declared in dict(filters or {}).items()
        }
        dataset = _check_dataset(Dataset(name, query, made, description, count))
        self._datasets[name] = dataset
        return dataset

    def find(self, name: str, toml: str | Path | None = None) -> Dataset:
        """Return a dataset by name, from those registered here and those of a TOML file.

        toml: the file of EXPORT_DATASETS, read anew at each call
        Raises DatasetError when there is none, when both have it, or when the file is malformed.
        """
        written = load_datasets(toml) if toml else {}
        if both := sorted(self._datasets.keys() & written.keys()):
            raise DatasetError(
                f"dataset {both[0]!r} is registered in Python and in {str(toml)!r}; rename one"
            )
        known = {**self._datasets, **written}
        if name in known:
            return known[name]
        if known:
            hint = f"the datasets: {_listed(sorted(known))}"
        else:
            hint = "there are none: call register_dataset, or set EXPORT_DATASETS to a TOML file"
        raise DatasetError(f"there is no dataset {_shown(name)}; {hint}")


_catalogue: Final = Catalogue()
register_dataset: Final = _catalogue.register
find_dataset: Final = _catalogue.find


def _filter_of(dataset: str, name: str, declared: sa.ColumnElement[Any] | Filter | str) -> Filter:
    if isinstance(declared, Filter):
        return declared
    if isinstance(declared, str):
        return Filter(declared)
    try:
        return _filter_of_column(declared)
    except DatasetError as error:
        raise DatasetError(f"filter {name!r} of dataset {dataset!r}: {error}") from None


def _check_dataset(dataset: Dataset) -> Dataset:
    """Return the dataset with checked defaults, or raise DatasetError with what must change."""
    if not _NAME.match(dataset.name):
        raise DatasetError(
            f"{_shown(dataset.name)} cannot name a dataset: use up to 64 letters, digits, '_', '.' "
            "and '-', a letter or digit first"
        )
    checked = {}
    for name, filter_ in dataset.filters.items():
        where = f"filter {name!r} of dataset {dataset.name!r}"
        if not _FILTER_NAME.match(name):
            raise DatasetError(f"{where}: use letters, digits and '_', no digit first")
        if filter_.type not in _CHECKS:
            raise DatasetError(
                f"{where} has the type {_shown(filter_.type)}; choose one of {_listed(_CHECKS)}"
            )
        if isinstance(dataset.query, sa.SelectBase):
            if filter_.where is None:
                raise DatasetError(
                    f"{where} does not say what it does: give a column, or where=..."
                )
            if not isinstance(dataset.query, sa.Select):
                raise DatasetError(f"{where}: only a plain select can be filtered; use a function")
        try:
            plain = replace(filter_, choices=None)
            choices = filter_.choices
            if choices is not None:
                choices = tuple(plain.check(choice) for choice in choices)
            filter_ = replace(filter_, choices=choices)
            checked[name] = replace(filter_, default=filter_.check(filter_.default))
        except DatasetError as error:
            raise DatasetError(f"{where}, default or choices: {error}") from None
    return replace(dataset, filters=checked)


# --- the TOML file


_DATASET_KEYS: Final = ("query", "filters", "description", "count")
_FILTER_KEYS: Final = ("type", "required", "default", "choices", "description")


def load_datasets(path: str | Path) -> dict[str, Dataset]:
    """Read the datasets of a TOML file.

    path: the file, relative to the working directory
    Returns the datasets by name.
    Raises DatasetError, naming the place and the mend, when the file is missing or malformed.
    """
    try:
        document = tomllib.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise DatasetError(
            f"EXPORT_DATASETS: cannot read {str(path)!r}: {error.strerror}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DatasetError(f"EXPORT_DATASETS: {str(path)!r} is not valid TOML: {error}") from error
    try:
        _only(document, ("datasets",), "the file")
        tables = _table(document.get("datasets", {}), "datasets")
        return {name: _read_dataset(name, table) for name, table in tables.items()}
    except DatasetError as error:
        raise DatasetError(f"EXPORT_DATASETS: {str(path)!r}: {error}") from None


def _read_dataset(name: str, raw: Any) -> Dataset:
    place = f"[datasets.{name}]"
    table = _table(raw, f"datasets.{name}")
    _only(table, _DATASET_KEYS, place)
    query = table.get("query")
    if not isinstance(query, str) or not query.strip():
        raise DatasetError(f'{place} has no query; write query = "SELECT ..."')
    filters = {
        key: _read_filter(f"[datasets.{name}.filters.{key}]", declared)
        for key, declared in _table(table.get("filters", {}), f"datasets.{name}.filters").items()
    }
    # The line break keeps a comment in the last line from swallowing what a count puts behind it.
    text = sa.text(query.strip().rstrip(";") + "\n")
    used = set(text.compile().params)
    if undeclared := sorted(used - filters.keys()):
        raise DatasetError(
            f"{place} uses :{undeclared[0]}, which is no filter: add {undeclared[0]} to "
            f"[datasets.{name}.filters], or write \\:{undeclared[0]} if it is no parameter"
        )
    if unused := sorted(filters.keys() - used):
        raise DatasetError(
            f"{place} declares the filter {unused[0]!r}; its query has no :{unused[0]}"
        )
    return _check_dataset(
        Dataset(
            name,
            text,
            filters,
            description=_typed(table, "description", str, "", place),
            count=_typed(table, "count", bool, True, place),
        )
    )


def _read_filter(place: str, raw: Any) -> Filter:
    table = {"type": raw} if isinstance(raw, str) else _table(raw, place.strip("[]"))
    _only(table, _FILTER_KEYS, place)
    if "type" not in table:
        raise DatasetError(f'{place} has no type; write type = "string" (or {_listed(_CHECKS)})')
    return Filter(
        type=_typed(table, "type", str, "", place),
        required=_typed(table, "required", bool, False, place),
        default=table.get("default"),
        choices=_typed(table, "choices", list, None, place),
        description=_typed(table, "description", str, "", place),
    )


def _table(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DatasetError(f"{place} must be a table, not {_shown(value)}")
    return value


def _only(table: Mapping[str, Any], known: Sequence[str], place: str) -> None:
    for key in table:
        if key not in known:
            raise DatasetError(
                f"{place} has the unknown key {_shown(key)}; known: {_listed(known)}"
            )


def _typed(table: Mapping[str, Any], key: str, kind: type, default: Any, place: str) -> Any:
    value = table.get(key, default)
    if value is not default and not isinstance(value, kind):
        raise DatasetError(f"{place} {key} must be a {kind.__name__}, not {_shown(value)}")
    return value
