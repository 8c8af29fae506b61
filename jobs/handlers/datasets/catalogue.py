"""The datasets that a program knows: registered in Python, or written in a TOML file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from jobs.handlers.datasets.dataset import Build, Dataset, check_dataset
from jobs.handlers.datasets.filters import Filter, filter_of_column, listed, shown
from jobs.handlers.datasets.toml import load_datasets
from jobs.handlers.errors import DatasetError


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
        tenant: str | None = None,
    ) -> Dataset:
        """Make a dataset known by name; the same name again replaces it.

        query: a SQLAlchemy Core select, or a function that gets the given filters (checked, those
            not given left out) and returns one
        filters: by name: a column (equality, typed by the column), a Filter, or, for a function,
            the name of a type
        description: one line for people
        count: whether the rows are counted beforehand, for the progress
        tenant: the filter that holds the tenant, or EVERYBODY; see Dataset
        Returns the dataset. Raises DatasetError when it could not work.
        """
        made = {
            key: _filter_of(name, key, declared) for key, declared in dict(filters or {}).items()
        }
        dataset = check_dataset(Dataset(name, query, made, description, count, tenant))
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
            hint = f"the datasets: {listed(sorted(known))}"
        else:
            hint = "there are none: call register_dataset, or set EXPORT_DATASETS to a TOML file"
        raise DatasetError(f"there is no dataset {shown(name)}; {hint}")


_catalogue: Final = Catalogue()
register_dataset: Final = _catalogue.register
find_dataset: Final = _catalogue.find


def _filter_of(dataset: str, name: str, declared: sa.ColumnElement[Any] | Filter | str) -> Filter:
    if isinstance(declared, Filter):
        return declared
    if isinstance(declared, str):
        return Filter(declared)
    try:
        return filter_of_column(declared)
    except DatasetError as error:
        raise DatasetError(f"filter {name!r} of dataset {dataset!r}: {error}") from None
