"""Scripts and styles, each under the hash of what is in it, so that browsers may keep them."""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from importlib.resources import files
from typing import Any

from flask import Response, request
from werkzeug.exceptions import NotFound

from jobs.http.login import HOME_PATH as HOME

YEAR_SECONDS = 365 * 86_400
TYPES = {
    "htmx.js": "text/javascript; charset=utf-8",
    "uplot.js": "text/javascript; charset=utf-8",
    "dashboard.js": "text/javascript; charset=utf-8",
    "charts.js": "text/javascript; charset=utf-8",
    "dashboard.css": "text/css; charset=utf-8",
    "uplot.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


@cache
def content_of(name: str) -> bytes:
    """What is in a file of ``jobs/http/static``."""
    return files("jobs.http").joinpath("static", name).read_bytes()


@cache
def version_of(name: str) -> str:
    """The hash that stands in its address."""
    return hashlib.blake2b(content_of(name), digest_size=8).hexdigest()


@cache
def compressed(name: str) -> bytes:
    """The same, for a browser that takes gzip."""
    return gzip.compress(content_of(name), 9, mtime=0)


def url_of(name: str) -> str:
    """Where a page finds it."""
    return f"{HOME}/static/{version_of(name)}/{name}"


def serve(desk: Any, version: str, name: str) -> Response:
    """A file, to be kept for ever; another version than ours is not here."""
    if name not in TYPES or version != version_of(name):
        raise NotFound
    packed = bool(request.accept_encodings["gzip"])
    response = Response(compressed(name) if packed else content_of(name), content_type=TYPES[name])
    if packed:
        response.headers["Content-Encoding"] = "gzip"
    response.headers["Vary"] = "Accept-Encoding"
    response.headers["Cache-Control"] = f"public, max-age={YEAR_SECONDS}, immutable"
    return response
