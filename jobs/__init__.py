"""Background jobs for serverless Python: rows in your SQL database, one URL called by a cron."""

from __future__ import annotations

__version__ = "0.1.0"
