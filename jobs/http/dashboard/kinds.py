"""Kinds: what each is and takes, and forms to enqueue one, or a job once more with changes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from flask import Response, request
from werkzeug.exceptions import BadRequest, NotFound

from jobs.core.errors import ConfigurationError
from jobs.core.job import Job
from jobs.core.registry import Handler
from jobs.http.dashboard.desk import Desk, link

_SIMPLE = {"string": "text", "integer": "number", "number": "number", "boolean": "checkbox"}
# A field left empty is not said.
_PREFIX = "field."


class Field(NamedTuple):
    """A field of a payload as a form has it; ``control`` is an input's type, select or json."""

    name: str
    control: str
    required: bool
    value: str = ""
    choices: tuple[str, ...] = ()
    step: str = ""
    hint: str = ""


def show(desk: Desk) -> Response:
    """``GET /kinds``."""
    handlers = sorted(desk.tickwork.registry, key=lambda handler: handler.kind)
    return desk.page("kinds.html", handlers=[(each, summary(each)) for each in handlers])


def one(desk: Desk, kind: str) -> Response:
    """``GET /kinds/<kind>``."""
    return _draw(desk, _handler(desk, kind), {})


def copy(desk: Desk, job_id: str) -> Response:
    """``GET /jobs/<id>/copy``: the form with what that job was given."""
    job = desk.tickwork.get(job_id, tenant=desk.tenant)
    if job is None:
        raise NotFound
    return _draw(desk, _handler(desk, job.kind), job.payload, copied=job)


def enqueue(desk: Desk, kind: str) -> Response:
    """``POST /kinds/<kind>/enqueue``."""
    handler = _handler(desk, kind)
    form = request.form
    payload = _payload(desk, handler)
    options: dict[str, Any] = {}
    if form.get("delay", "").strip():
        options["delay"] = _number(form["delay"], "delay")
    if form.get("dedupe_key", "").strip():
        options["dedupe_key"] = form["dedupe_key"].strip()
    if form.get("priority", "").strip():
        options["priority"] = int(_number(form["priority"], "priority"))
    tenant = desk.tenant if desk.tenant is not None else form.get("tenant", "").strip()
    if tenant:
        options["tenant"] = tenant
    job = desk.managing.enqueue(kind, payload, **options)
    text = "That job is there already: this one." if job.existing else "It is enqueued: this one."
    return desk.go(link(f"/jobs/{job.id}"), text)


def _draw(
    desk: Desk, handler: Handler, payload: Mapping[str, Any], copied: Job | None = None
) -> Response:
    schema = schema_of(handler)
    shown = desk.redacted(dict(payload), handler.kind)
    return desk.page(
        "kind.html",
        handler=handler,
        summary=summary(handler),
        schema=schema,
        fields=fields_of(schema, shown) if schema else [],
        payload_text=json.dumps(shown, indent=2, ensure_ascii=False),
        is_redacted=shown != dict(payload),
        copied=copied,
        closed=None if handler.api else _closed(handler.kind),
    )


def summary(handler: Handler) -> str:
    """The first line of what its function says of itself."""
    text = (getattr(handler.function, "__doc__", None) or "").strip()
    return text.splitlines()[0] if text else ""


def schema_of(handler: Handler) -> dict[str, Any] | None:
    """The JSON schema of its payload, ``None`` where any object will do."""
    declared: Any = handler.payload_type
    if declared is None:
        return None
    try:
        if hasattr(declared, "model_json_schema"):
            schema: dict[str, Any] = declared.model_json_schema()
        else:
            schema = msgspec.json.schema(declared)
    except (TypeError, ValueError):  # a type that has no schema is still validated
        return None
    reference = str(schema.get("$ref", "")).rpartition("/")[2]
    inner = schema.get("$defs", {}).get(reference)
    return {**inner, "$defs": schema["$defs"]} if inner else schema


def fields_of(schema: Mapping[str, Any], payload: Mapping[str, Any]) -> list[Field]:
    """A form's fields from a schema; what is no plain value is written as JSON."""
    required = set(schema.get("required", ()))
    fields = []
    for name, said in schema.get("properties", {}).items():
        about = _resolved(said, schema)
        value = payload.get(name, said.get("default", about.get("default")))
        choices = tuple(str(each) for each in about.get("enum", ()))
        control = "select" if choices else _SIMPLE.get(str(about.get("type")), "json")
        fields.append(
            Field(
                name,
                control,
                name in required,
                _text(value, control),
                choices,
                "1" if about.get("type") == "integer" else "any",
                str(about.get("description", "")),
            )
        )
    return fields


def _resolved(said: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """What stands behind a reference, and of an optional value what it is if it is there."""
    if "$ref" in said:
        found = schema.get("$defs", {}).get(str(said["$ref"]).rpartition("/")[2], {})
        return found if "enum" in found else {}
    if "anyOf" in said:
        rest = [each for each in said["anyOf"] if each.get("type") != "null"]
        return _resolved(rest[0], schema) if len(rest) == 1 else {}
    return said


def _text(value: Any, control: str) -> str:
    if value is None:
        return ""
    if control == "json":
        return json.dumps(value, indent=2, ensure_ascii=False)
    return ("yes" if value else "") if control == "checkbox" else str(value)


def _payload(desk: Desk, handler: Handler) -> dict[str, Any]:
    form = request.form
    if "payload" in form:
        return _object(form["payload"])
    payload: dict[str, Any] = {}
    for field in fields_of(schema_of(handler) or {}, {}):
        given = form.get(f"{_PREFIX}{field.name}", "")
        if field.control == "checkbox":
            payload[field.name] = given == "yes"
        elif given.strip() or (field.required and field.control == "text"):
            payload[field.name] = _read(field, given)
    return payload


def _read(field: Field, given: str) -> Any:
    match field.control:
        case "number":
            number = _number(given, field.name)
            return int(number) if field.step == "1" and number == int(number) else number
        case "json":
            try:
                return json.loads(given)
            except ValueError as error:
                raise BadRequest(f"{field.name} is no JSON: {error}.") from None
    return given


def _object(text: str) -> dict[str, Any]:
    try:
        payload = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"The payload is no JSON: {error}.") from None
    if not isinstance(payload, dict):
        raise BadRequest("The payload is a JSON object: {...}.")
    return payload


def _number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigurationError(f"{name} is a number, not {text!r}") from None


def _handler(desk: Desk, kind: str) -> Handler:
    handler = desk.tickwork.registry.find(kind)
    if handler is None:
        raise NotFound
    return handler


def _closed(kind: str) -> str:
    return (
        f"Jobs of {kind} are not enqueued over HTTP. To open it, declare the handler with api=True."
    )
