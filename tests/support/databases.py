"""The value that a test gets for a database, and who lends databases of a server."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import make_url


@dataclass(frozen=True)
class Database:
    """A database for one test.

    Attributes:
        name: `sqlite`, `postgresql` or `mysql`.
        url: its SQLAlchemy URL, password included.
    """

    name: str
    url: str


class Lender(ABC):
    """Lends databases of one server, by names that are never used twice."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        self._named = 0
        # Several suites may run on one server at a time.
        self._prefix = f"tickwork_test_{secrets.token_hex(4)}"

    @contextmanager
    def fresh(self) -> Iterator[str]:
        """An empty database for the length of the block; yields its SQLAlchemy URL."""
        name = self.lend()
        try:
            yield self.url_of(name)
        finally:
            self.give_back(name)

    def url_of(self, name: str) -> str:
        """Its SQLAlchemy URL."""
        return self._url.set(database=name).render_as_string(hide_password=False)

    def _new_name(self) -> str:
        self._named += 1
        return f"{self._prefix}_{self._named}"

    @abstractmethod
    def lend(self) -> str:
        """An empty database, by its name."""

    @abstractmethod
    def rename(self, name: str) -> str:
        """End what a test has left open, and give it another name, which is returned."""

    @abstractmethod
    def give_back(self, name: str) -> None:
        """Empty it or drop it."""
