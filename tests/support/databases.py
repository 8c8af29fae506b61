"""The value that a test gets for a database."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Database:
    """A database for one test.

    Attributes:
        name: `sqlite`, `postgresql` or `mysql`.
        url: its SQLAlchemy URL, password included.
    """

    name: str
    url: str
