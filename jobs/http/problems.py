"""Errors as problem documents (RFC 9457), which tell the caller enough and an attacker nothing."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.http import HTTP_STATUS_CODES

from jobs.core.errors import CapabilityError, ConfigurationError, SchemaError, StoreUnavailable

log = logging.getLogger("tickwork.http")
RETRY_AFTER_SECONDS = 30


def problem(
    status: int,
    detail: str,
    *,
    headers: dict[str, str] | list[tuple[str, str]] | None = None,
    more: Mapping[str, Any] | None = None,
) -> Response:
    """An answer of ``application/problem+json``; the title is the status's own phrase.

    ``more`` are members beside those of every problem.
    """
    document = {
        "type": "about:blank",
        "title": HTTP_STATUS_CODES.get(status, "Error"),
        "status": status,
        "detail": detail,
        **(more or {}),
    }
    response = Response(
        json.dumps(document) + "\n", status, content_type="application/problem+json"
    )
    for name, value in headers.items() if isinstance(headers, dict) else headers or ():
        response.headers[name] = value
    return response


def install(app: Flask) -> None:
    """Answer every error of ``app`` with a problem document."""
    app.register_error_handler(HTTPException, _refused)
    app.register_error_handler(StoreUnavailable, _unavailable)
    app.register_error_handler(SchemaError, _wrong_schema)
    app.register_error_handler(CapabilityError, _not_set_up)
    app.register_error_handler(ConfigurationError, _not_set_up)
    app.register_error_handler(Exception, _broken)


def _refused(error: HTTPException) -> HTTPException | Response:
    if error.code is None or error.code < 400 or error.response is not None:
        return error  # a redirect, or an answer that a view made itself
    headers = [(name, value) for name, value in error.get_headers() if name != "Content-Type"]
    return problem(error.code, error.description or "", headers=headers)


def _unavailable(error: StoreUnavailable) -> Response:
    log.error("%s %r: the database is unavailable: %s", request.method, request.path, error)
    return problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "The database cannot be reached; jobs wait and nothing is lost.",
        headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
    )


def _wrong_schema(error: SchemaError) -> Response:
    log.error("%s %r: %s", request.method, request.path, error)
    return problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "The database's tables are missing or do not fit this version: run `tickwork db upgrade`.",
        headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
    )


def _not_set_up(error: CapabilityError | ConfigurationError) -> Response:
    # These texts are written for whoever sets the server up; they name variables, not their values.
    log.error("%s %r: %s", request.method, request.path, error)
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, f"This server is not set up for that: {error}")


def _broken(error: Exception) -> Response:
    # The traceback goes to the log and nothing of it into the answer: it may hold SQL, a
    # connection string or somebody's data.
    log.error("%s %r failed", request.method, request.path, exc_info=error)
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR, "Something went wrong here; the log of this server tells."
    )
