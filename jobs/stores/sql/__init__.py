"""Rows in the user's own SQL database: SQLite, PostgreSQL, MySQL and MariaDB."""

from jobs.stores.sql.store import SqlStore
from jobs.stores.sql.tables import build_tables

__all__ = ["SqlStore", "build_tables"]
