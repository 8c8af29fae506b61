"""Tickwork over HTTP: the Flask application with the protected tick."""

from jobs.http.factory import create_app

__all__ = ["create_app"]
