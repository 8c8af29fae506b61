"""Tickwork over HTTP: the Flask application with the protected tick."""

from jobs.http.access import Identity, Role
from jobs.http.factory import create_app

__all__ = ["Identity", "Role", "create_app"]
