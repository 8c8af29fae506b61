"""How a filter's value is bound in a query of text, where no column says its type."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping
from typing import Any, Final, cast

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from jobs.handlers.datasets.filters import Filter


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


def bind_type(filter_: Filter, value: Any) -> sa.types.TypeEngine[Any]:
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
