"""A dataset: its query, its filters, and the statement they make with given values."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast

import sqlalchemy as sa

from jobs.handlers.datasets.binding import bind_type
from jobs.handlers.datasets.filters import CHECKS, Filter, Where, listed, shown
from jobs.handlers.errors import DatasetError

Build = Callable[[Mapping[str, Any]], sa.SelectBase]

EVERYBODY: Final = "*"
"""As a dataset's `tenant`: its rows are for every tenant to see."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
_FILTER_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}\Z")


@dataclass(frozen=True, slots=True)
class Dataset:
    """What may be exported under one name.

    name: part of the file's name, so letters, digits, `_`, `.` and `-` only
    query: a select, a function of the filters that returns one, or a query as text
    filters: what may be filtered, by name
    description: one line for people
    count: whether the rows are counted beforehand, for the progress
    tenant: the filter that holds the tenant, bound to the job's and never to a value of a request;
        `EVERYBODY` for rows that every tenant may see; None where nothing is said
    """

    name: str
    query: sa.SelectBase | Build | sa.TextClause
    filters: Mapping[str, Filter] = field(default_factory=dict)
    description: str = ""
    count: bool = True
    tenant: str | None = None

    def check_access(self, tenant: str) -> None:
        """Raise DatasetError where a tenant's job asks for rows that may be everybody's.

        For what is asked from outside: nothing said of tenants means that it is not a tenant's.
        """
        if tenant and self.tenant is None:
            raise DatasetError(
                f"dataset {self.name!r} does not say whose its rows are: declare tenant= with the "
                f"filter that holds the tenant, or {EVERYBODY!r} if every tenant may see them all"
            )

    def statement(
        self, filters: Mapping[str, Any] | None = None, tenant: str = ""
    ) -> sa.Executable:
        """Check the filters and return the statement to run, with their values bound.

        tenant: the job's, which a dataset with a tenant filter is narrowed to
        Raises DatasetError for an undeclared filter, a missing required one, a wrong value, and
        where the tenant is missing or was given as a filter.
        """
        values = self.check(filters or {}, tenant)
        if isinstance(self.query, sa.TextClause):
            return self.query.bindparams(
                *(
                    sa.bindparam(name, value, type_=bind_type(self.filters[name], value))
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
            where = cast("Where", self.filters[name].where)  # check_dataset has seen to it
            statement = cast("sa.Select[Any]", statement).where(where(value))
        return cast("sa.Executable", statement)

    @property
    def tenant_filter(self) -> str | None:
        """The filter that the job's tenant is bound to, if there is one."""
        return None if self.tenant == EVERYBODY else self.tenant

    def check(self, filters: Mapping[str, Any], tenant: str = "") -> dict[str, Any]:
        """Return a checked value for every declared filter: as given, its default, or None.

        Raises as `statement` does.
        """
        if self.tenant_filter is not None:
            filters = self._with_tenant(filters, tenant)
        for name in filters:
            if name not in self.filters:
                raise DatasetError(
                    f"dataset {self.name!r} has no filter {shown(name)}; "
                    f"its filters: {listed(self.filters)}"
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

    def _with_tenant(self, filters: Mapping[str, Any], tenant: str) -> dict[str, Any]:
        name = cast("str", self.tenant)
        if name in filters:
            raise DatasetError(
                f"filter {name!r} of dataset {self.name!r} is the job's tenant: leave it out"
            )
        if not tenant:
            raise DatasetError(
                f"dataset {self.name!r} is kept by tenant, and this job has none: "
                "enqueue it with tenant=..."
            )
        value: Any = tenant
        if self.filters[name].type == "integer" and tenant.isascii() and tenant.isdigit():
            value = int(tenant)
        return {**filters, name: value}


def check_dataset(dataset: Dataset) -> Dataset:
    """Return the dataset with checked defaults, or raise DatasetError with what must change."""
    if not _NAME.match(dataset.name):
        raise DatasetError(
            f"{shown(dataset.name)} cannot name a dataset: use up to 64 letters, digits, '_', '.' "
            "and '-', a letter or digit first"
        )
    if dataset.tenant_filter is not None and dataset.tenant not in dataset.filters:
        raise DatasetError(
            f"dataset {dataset.name!r} has no filter {shown(dataset.tenant)} to bind the tenant to"
        )
    checked = {}
    for name, filter_ in dataset.filters.items():
        where = f"filter {name!r} of dataset {dataset.name!r}"
        if not _FILTER_NAME.match(name):
            raise DatasetError(f"{where}: use letters, digits and '_', no digit first")
        if filter_.type not in CHECKS:
            raise DatasetError(
                f"{where} has the type {shown(filter_.type)}; choose one of {listed(CHECKS)}"
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
