"""Rows in the user's own SQL database: SQLite, PostgreSQL, MySQL and MariaDB."""

from jobs.stores.sql.attempts import ANSWER_SECONDS
from jobs.stores.sql.store import SqlStore
from jobs.stores.sql.tables import build_tables

__all__ = ["ANSWER_SECONDS", "SqlStore", "build_tables"]
