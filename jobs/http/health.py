"""Liveness: this process answers. Open to all, so it says nothing else and touches no database."""

from __future__ import annotations

from flask import Flask


def install(app: Flask) -> None:
    """Serve ``/healthz``."""
    app.add_url_rule("/healthz", "tickwork.health", health)


def health() -> dict[str, str]:
    """The process is up."""
    return {"status": "ok"}
