"""The TOML file of datasets (`EXPORT_DATASETS`)."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from jobs.handlers.datasets.dataset import Dataset, check_dataset
from jobs.handlers.datasets.filters import CHECKS, Filter, listed, shown
from jobs.handlers.errors import DatasetError

_DATASET_KEYS: Final = ("query", "filters", "description", "count", "tenant")
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
    return check_dataset(
        Dataset(
            name,
            text,
            filters,
            description=_typed(table, "description", str, "", place),
            count=_typed(table, "count", bool, True, place),
            tenant=_typed(table, "tenant", str, None, place),
        )
    )


def _read_filter(place: str, raw: Any) -> Filter:
    table = {"type": raw} if isinstance(raw, str) else _table(raw, place.strip("[]"))
    _only(table, _FILTER_KEYS, place)
    if "type" not in table:
        raise DatasetError(f'{place} has no type; write type = "string" (or {listed(CHECKS)})')
    return Filter(
        type=_typed(table, "type", str, "", place),
        required=_typed(table, "required", bool, False, place),
        default=table.get("default"),
        choices=_typed(table, "choices", list, None, place),
        description=_typed(table, "description", str, "", place),
    )


def _table(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DatasetError(f"{place} must be a table, not {shown(value)}")
    return value


def _only(table: Mapping[str, Any], known: Sequence[str], place: str) -> None:
    for key in table:
        if key not in known:
            raise DatasetError(f"{place} has the unknown key {shown(key)}; known: {listed(known)}")


def _typed(table: Mapping[str, Any], key: str, kind: type, default: Any, place: str) -> Any:
    value = table.get(key, default)
    if value is not default and not isinstance(value, kind):
        raise DatasetError(f"{place} {key} must be a {kind.__name__}, not {shown(value)}")
    return value
