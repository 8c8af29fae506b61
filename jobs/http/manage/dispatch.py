"""From a request to a view and back: validated input, one way to tell of errors, ETags."""

from __future__ import annotations

import hashlib
import importlib
import json
from http import HTTPStatus
from typing import Any

from flask import Response, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from jobs.choosing import NotConfirmed
from jobs.core.errors import (
    CapabilityError,
    ConfigurationError,
    GroupNotFound,
    JobNotFound,
    JobStateConflict,
    NoSuchAlert,
    NoSuchLimit,
    NotAllowed,
    OtherTenant,
    PayloadError,
    PayloadTooLarge,
    ScheduleNotFound,
    TickworkError,
    TokenNotFound,
)
from jobs.http.access import current
from jobs.http.manage.inputs import (
    Invalid,
    body_value,
    check_queue_path,
    idempotency_key,
    query_refused,
    query_values,
    validated,
)
from jobs.http.manage.operations import OPERATION, Answer, Call, Operation
from jobs.http.manage.routes import Route
from jobs.http.problems import problem
from jobs.managing import Managing
from jobs.system import Tickwork

_NOT_FOUND = (
    *(JobNotFound, ScheduleNotFound, TokenNotFound, GroupNotFound, OtherTenant),
    *(NoSuchAlert, NoSuchLimit),
)


def respond(tickwork: Tickwork, route: Route, path: dict[str, str]) -> ResponseReturnValue:
    """Call the view of a route; the view itself is loaded with the first call."""
    try:
        return _answer(tickwork, load(route), path)
    except (TickworkError, HTTPException) as error:
        told = _told(error)
        if told is None:
            raise
        return told


def _answer(tickwork: Tickwork, declared: Operation, path: dict[str, str]) -> Response:
    if "queue" in path:
        check_queue_path(path["queue"])
    identity = current()
    values: dict[str, Any] = dict(path)
    if declared.query is not None:
        values["query"] = validated(declared.query, query_values(), HTTPStatus.BAD_REQUEST)
    elif request.args:
        query_refused(sorted(request.args))
    if declared.body is not None:
        given = body_value(optional=declared.body_is_optional)
        values["body"] = validated(declared.body, given, HTTPStatus.UNPROCESSABLE_ENTITY)
    call = Call(
        tickwork,
        Managing(tickwork, identity.name, identity.tenant),
        identity.role,
        idempotency_key(),
    )
    said = declared.view(call, **values)
    return _response(said if isinstance(said, Answer) else Answer(said))


def load(route: Route) -> Operation:
    """The route's operation; its module and pydantic are imported with the first."""
    module, _, name = route.view.partition(":")
    view = getattr(importlib.import_module(f"jobs.http.manage.{module}"), name)
    declared: Operation = getattr(view, OPERATION)
    return declared


def _response(answer: Answer) -> Response:
    if answer.content_type == "application/json":
        # ASCII, so that no lone surrogate of a payload can fail on the way out.
        text = json.dumps(answer.document, separators=(",", ":")) + "\n"
    else:
        text = str(answer.document)
    body = text.encode()
    response = Response(body, answer.status, content_type=answer.content_type)
    response.headers.extend(dict(answer.headers))
    if request.method in ("GET", "HEAD") and answer.status == HTTPStatus.OK:
        response.set_etag(hashlib.sha256(body).hexdigest()[:32])
        response.make_conditional(request)
    return response


def _told(error: TickworkError | HTTPException) -> Response | None:
    """The problem that an error is told as, or ``None`` for one that is told elsewhere."""
    match error:
        case Invalid():
            return problem(error.status, str(error), more={"errors": error.errors})
        case NotConfirmed():
            more = {"count": error.chosen.found, "confirm": error.chosen.confirm}
            return problem(HTTPStatus.CONFLICT, _sentence(error), more=more)
        case JobStateConflict():
            return problem(HTTPStatus.CONFLICT, _sentence(error), more={"state": error.state})
        case PayloadTooLarge():
            return problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _sentence(error))
        case PayloadError():
            errors = [{"path": f"payload{error.path.removeprefix('$')}", "message": error.reason}]
            return problem(
                HTTPStatus.UNPROCESSABLE_ENTITY, _sentence(error), more={"errors": errors}
            )
        case ConfigurationError():
            return problem(HTTPStatus.UNPROCESSABLE_ENTITY, _sentence(error))
        case CapabilityError():
            return None
    if isinstance(error, _NOT_FOUND):
        # In the same words for what is not there and for what is another tenant's.
        return problem(HTTPStatus.NOT_FOUND, _sentence(error))
    if isinstance(error, NotAllowed):
        return problem(HTTPStatus.FORBIDDEN, _sentence(error))
    return None


def _sentence(error: Exception) -> str:
    text = str(error).encode("ascii", "backslashreplace").decode()
    return text[:1].upper() + text[1:]
