"""What may be exported of a shop: orders, customers and products, always those of one store.

The three are datasets of the general kind `export` as well, as `shop-orders` and so on.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa

from jobs.demo.tables import ORDER_STATUSES, customers, order_items, orders, products, stores
from jobs.handlers.datasets import Dataset, Filter, register_dataset
from jobs.handlers.errors import DatasetError

STORE: Final = "storeId"


def _from(column: sa.ColumnElement[Any]) -> Filter:
    return Filter(
        "date",
        description="first day, included (UTC)",
        where=lambda day: column >= _midnight(day),
    )


def _to(column: sa.ColumnElement[Any]) -> Filter:
    return Filter(
        "date",
        description="last day, included (UTC)",
        where=lambda day: column < _midnight(day + dt.timedelta(days=1)),
    )


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time())


def _one_store(column: sa.ColumnElement[Any]) -> Filter:
    return Filter("string", required=True, where=lambda store_id: column == store_id)


_items = (
    sa.select(sa.func.sum(order_items.c.quantity))
    .where(order_items.c.order_id == orders.c.id)
    .scalar_subquery()
)

EXPORTS: Final[Mapping[str, Dataset]] = {
    "orders": register_dataset(
        "shop-orders",
        sa.select(
            orders.c.number.label("order"),
            orders.c.created_at.label("created"),
            orders.c.status,
            customers.c.name.label("customer"),
            customers.c.email,
            customers.c.country,
            _items.label("items"),
            orders.c.total,
            stores.c.currency,
            orders.c.note,
        )
        .select_from(orders)
        .join(stores, stores.c.id == orders.c.store_id)
        .outerjoin(customers, customers.c.id == orders.c.customer_id)
        .order_by(orders.c.created_at, orders.c.id),
        filters={
            STORE: _one_store(orders.c.store_id),
            "status": Filter(
                "string",
                choices=ORDER_STATUSES,
                where=lambda status: orders.c.status == status,
            ),
            "from": _from(orders.c.created_at),
            "to": _to(orders.c.created_at),
            "country": Filter("string", where=lambda code: customers.c.country == code),
            "customerId": orders.c.customer_id,
            "minTotal": Filter("number", where=lambda total: orders.c.total >= total),
        },
        description="Orders of a store, the oldest first",
    ),
    "customers": register_dataset(
        "shop-customers",
        sa.select(
            customers.c.id,
            customers.c.name,
            customers.c.email,
            customers.c.country,
            customers.c.phone,
            customers.c.created_at.label("created"),
        ).order_by(customers.c.id),
        filters={
            STORE: _one_store(customers.c.store_id),
            "country": customers.c.country,
            "from": _from(customers.c.created_at),
            "to": _to(customers.c.created_at),
        },
        description="Customers of a store",
    ),
    "products": register_dataset(
        "shop-products",
        sa.select(
            products.c.sku,
            products.c.name,
            products.c.price,
            products.c.stock,
            products.c.active,
        ).order_by(products.c.id),
        filters={
            STORE: _one_store(products.c.store_id),
            "active": products.c.active,
            "minStock": Filter("integer", where=lambda stock: products.c.stock >= stock),
        },
        description="Products of a store, with their stock",
    ),
}


def statement_of(export_type: str, store_id: str, filters: Mapping[str, Any]) -> sa.Executable:
    """Return the select that exports `export_type` of a store, narrowed by filters.

    export_type: `orders`, `customers` or `products`
    store_id: the store whose rows they are; no filter can reach another one's
    filters: values by name, checked by type; null means not given
    Raises DatasetError, in words for whoever asked, for a filter that is not declared or mistyped.
    """
    dataset = EXPORTS[export_type]
    allowed = [name for name in dataset.filters if name != STORE]
    for name in filters:
        if name not in allowed:
            raise DatasetError(
                f"{export_type} cannot be filtered by {name!r:.60}; only by {', '.join(allowed)}"
            )
    return dataset.statement({**filters, STORE: store_id})
