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

Keys of a dataset: `query`, `filters`, `description`, `tenant`, `count` (false: the rows are not
counted beforehand, for a query too dear to run twice). Keys of a filter: `type`, `required`,
`default`, `choices`, `description`. A colon that is no parameter is written `\\:`.

`tenant` names the filter that is bound to the tenant of the job, and to nothing that a request says
(`tenant="store_id"`); `"*"` means that every tenant may see all rows.

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

from jobs.handlers.datasets.catalogue import Catalogue, find_dataset, register_dataset
from jobs.handlers.datasets.dataset import EVERYBODY, Dataset
from jobs.handlers.datasets.filters import Filter
from jobs.handlers.datasets.toml import load_datasets

__all__ = [
    "EVERYBODY",
    "Catalogue",
    "Dataset",
    "Filter",
    "find_dataset",
    "load_datasets",
    "register_dataset",
]
