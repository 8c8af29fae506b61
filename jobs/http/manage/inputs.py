"""Input: query and body, read once and validated; every refusal names its place."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from flask import request
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from jobs.core.errors import TickworkError
from jobs.core.names import EVERY_QUEUE, NAME, RESERVED_QUEUES

IDEMPOTENCY_HEADER = "Idempotency-Key"
_KEY_MAX_CHARS = 200


class Invalid(TickworkError):
    """Input that does not fit its model: an error for each place."""

    def __init__(self, status: int, errors: list[dict[str, str]]) -> None:
        self.status = status
        self.errors = errors
        super().__init__("; ".join(f"{each['path']}: {each['message']}" for each in errors))


def check_queue_path(name: str) -> None:
    """A path with a name that no queue can have leads nowhere."""
    if name != EVERY_QUEUE and (name in RESERVED_QUEUES or not NAME.fullmatch(name)):
        raise Invalid(
            HTTPStatus.NOT_FOUND, [{"path": "queue", "message": "no queue can be called so"}]
        )


def query_values() -> dict[str, str]:
    """The query's parameters, each given once."""
    given = request.args.to_dict(flat=False)
    repeated = sorted(name for name, values in given.items() if len(values) > 1)
    if repeated:
        query_refused(repeated, "given more than once")
    return {name: values[0] for name, values in given.items()}


def query_refused(names: list[str], message: str = "there is no such parameter") -> None:
    """Refuse these parameters."""
    raise Invalid(HTTPStatus.BAD_REQUEST, [{"path": name, "message": message} for name in names])


def body_value(*, optional: bool) -> Any:
    """The JSON of the body; an empty one counts as ``{}`` where it is optional."""
    # Read whole, up to the application's limit: what is over it is refused by its length.
    raw = request.get_data(cache=True)
    if not raw.strip():
        if optional:
            return {}
        raise BadRequest("A JSON body is needed.")
    if not request.is_json:
        raise UnsupportedMediaType("The body is JSON: send Content-Type: application/json.")
    try:
        return json.loads(raw)
    except RecursionError:
        raise BadRequest("The body is nested too deeply.") from None
    except ValueError:  # UnicodeDecodeError as well
        raise BadRequest("The body is not JSON.") from None


def validated(model: Any, given: Any, status: int) -> Any:
    """An instance of a pydantic model, or :class:`Invalid` with this status."""
    try:
        return model.model_validate(given)
    except RecursionError:
        raise Invalid(status, [{"path": "$", "message": "nested too deeply"}]) from None
    except ValueError as error:
        # Without the input, which may hold a secret.
        details = error.errors(include_url=False, include_input=False, include_context=False)  # type: ignore[attr-defined]
        raise Invalid(
            status,
            [{"path": _path(each["loc"]), "message": str(each["msg"])} for each in details[:20]],
        ) from None


def _path(location: tuple[Any, ...]) -> str:
    return ".".join(str(part)[:100] for part in location) or "$"


def idempotency_key() -> str | None:
    """What the caller sent as ``Idempotency-Key``."""
    key = request.headers.get(IDEMPOTENCY_HEADER)
    if key is None:
        return None
    if not 0 < len(key) <= _KEY_MAX_CHARS or not key.isprintable():
        raise BadRequest(
            f"{IDEMPOTENCY_HEADER} is printable text of 1 to {_KEY_MAX_CHARS} characters."
        )
    return key
