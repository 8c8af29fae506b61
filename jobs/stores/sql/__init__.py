"""Rows in the user's own SQL database: SQLite, PostgreSQL, MySQL and MariaDB."""

from jobs.stores.sql.store import ANSWER_SECONDS, SqlStore
from jobs.stores.sql.tables import build_tables

__all__ = ["ANSWER_SECONDS", "SqlStore", "build_tables"]
