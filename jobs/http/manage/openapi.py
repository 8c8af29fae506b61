"""The API described: as OpenAPI 3.1, and as a plain page to read.

Both are made from the table of routes and what its views declare, so they cannot differ from what
is served.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from functools import lru_cache
from html import escape
from http import HTTPStatus
from typing import Any

from pydantic.json_schema import models_json_schema

from jobs import __version__
from jobs.http.manage.dispatch import load
from jobs.http.manage.inputs import IDEMPOTENCY_HEADER
from jobs.http.manage.models import Problem
from jobs.http.manage.operations import Answer, Call, Operation, operation
from jobs.http.manage.routes import ROUTES, Route

_PARAMETER = re.compile(r"<(\w+)>")
_PATH_SCHEMAS: dict[str, dict[str, Any]] = {
    "queue": {"type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.:@+-]{0,99}$"},
}
_ANY_PATH = {"type": "string", "minLength": 1, "maxLength": 200}
# What any call may be told: who asks is not known, may not, asks too often; nobody can answer.
_ALWAYS = (400, 401, 403, 429, 503)
_WITH_BODY = (413, 415, 422)
_REFS = "#/components/schemas/{model}"


@operation("Describe this API", "about")
def document(call: Call) -> dict[str, Any]:
    """OpenAPI 3.1."""
    return described()


@operation("Describe this API for people", "about")
def explorer(call: Call) -> Answer:
    """A page without scripts."""
    return Answer(_page(described()), content_type="text/html; charset=utf-8")


@lru_cache(maxsize=1)
def described() -> dict[str, Any]:
    """The whole document."""
    operations = {route: load(route) for route in ROUTES}
    models = sorted(_models(operations), key=lambda each: (each[0].__name__, each[1]))
    refs, schemas = models_json_schema(models, ref_template=_REFS)  # type: ignore[arg-type]
    paths: dict[str, dict[str, Any]] = {}
    for route, declared in operations.items():
        path = _PARAMETER.sub(r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, declared, refs)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tickwork management",
            "version": __version__,
            "description": "Look at jobs and steer them. Every call needs a token.",
        },
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas.get("$defs", {}),
        },
    }


def _models(operations: dict[Route, Operation]) -> set[tuple[Any, str]]:
    found: set[tuple[Any, str]] = {(Problem, "serialization")}
    for declared in operations.values():
        found |= {(each, "validation") for each in (declared.body,) if each is not None}
        found |= {(each, "serialization") for each in declared.answers.values() if each is not Any}
    return found


def _operation(route: Route, declared: Operation, refs: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": route.name,
        "summary": declared.summary,
        "description": f"{inspect.getdoc(declared.view) or ''}\n\nNeeds the role {route.role}.",
        "tags": [declared.tag],
        "parameters": [*_path_parameters(route), *_query_parameters(declared)],
        "responses": dict(_responses(route, declared, refs)),
    }
    if route.name == "create_job":
        made["parameters"].append(
            {
                "name": IDEMPOTENCY_HEADER,
                "in": "header",
                "schema": {"type": "string", "pattern": "^[A-Za-z0-9_.:-]{1,200}$"},
            }
        )
    if declared.body is not None:
        made["requestBody"] = {
            "required": not declared.body_is_optional,
            "content": {"application/json": {"schema": refs[declared.body, "validation"]}},
        }
    return made


def _path_parameters(route: Route) -> Iterator[dict[str, Any]]:
    for name in _PARAMETER.findall(route.path):
        schema = _PATH_SCHEMAS.get(name, _ANY_PATH)
        yield {"name": name, "in": "path", "required": True, "schema": schema}


def _query_parameters(declared: Operation) -> Iterator[dict[str, Any]]:
    if declared.query is None:
        return
    schema = declared.query.model_json_schema()
    for name, inner in schema["properties"].items():
        said = _without_null(inner)
        description = said.pop("description", None)
        made = {"name": name, "in": "query", "required": False, "schema": said}
        yield made | ({} if description is None else {"description": description})


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Of an optional parameter: a query cannot say null."""
    said = {name: value for name, value in schema.items() if name not in ("title", "default")}
    choices = [each for each in said.pop("anyOf", ()) if each != {"type": "null"}]
    return {**said, **choices[0]} if choices else said


def _responses(route: Route, declared: Operation, refs: Any) -> Iterator[tuple[str, Any]]:
    for status, model in sorted(declared.answers.items()):
        kind = "text/html" if route.is_page else "application/json"
        schema = {} if model is Any else refs[model, "serialization"]
        content = {kind: {"schema": schema}}
        yield str(status), {"description": HTTPStatus(status).phrase, "content": content}
    if route.method == "GET":
        yield "304", {"description": "Nothing has changed since the ETag of If-None-Match."}
    if route.is_page:
        yield "303", {"description": "To the page of signing in."}
    told = {*_ALWAYS, *declared.problems}
    if "<queue>" in route.path:
        told.add(404)
    if declared.body is not None:
        told |= set(_WITH_BODY)
    for status in sorted(told):
        content = {"application/problem+json": {"schema": refs[Problem, "serialization"]}}
        yield str(status), {"description": HTTPStatus(status).phrase, "content": content}


def _page(document: dict[str, Any]) -> str:
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width, initial-scale=1'>",
        f"<title>{escape(document['info']['title'])}</title>",
        f"<h1>{escape(document['info']['title'])} {escape(document['info']['version'])}</h1>",
        f"<p>{escape(document['info']['description'])} ",
        "<a href='/openapi.json'>openapi.json</a></p>",
    ]
    for path, methods in document["paths"].items():
        for method, each in methods.items():
            parts.append(f"<h2 id='{escape(each['operationId'])}'>")
            parts.append(f"<code>{method.upper()} {escape(path)}</code></h2>")
            parts.append(f"<p><strong>{escape(each['summary'])}.</strong> ")
            parts.append(f"{escape(each['description'])}</p>")
            parts += _fields("Parameters", _parameter_rows(each))
            parts += _fields("Body", _body_rows(document, each))
            answers = ", ".join(each["responses"])
            parts.append(f"<p>Answers: {escape(answers)}</p>")
    return "\n".join(parts) + "\n"


def _parameter_rows(each: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (f"{given['name']} ({given['in']})", _type(given["schema"], given.get("description")))
        for given in each["parameters"]
    ]


def _body_rows(document: dict[str, Any], each: dict[str, Any]) -> list[tuple[str, str]]:
    if "requestBody" not in each:
        return []
    reference = each["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    schema = document["components"]["schemas"][reference.rpartition("/")[2]]
    required = schema.get("required", ())
    return [
        (f"{name}{' (required)' if name in required else ''}", _type(inner))
        for name, inner in schema["properties"].items()
    ]


def _type(schema: dict[str, Any], description: str | None = None) -> str:
    said = _without_null(schema)
    shown = said.get("enum") or said.get("const") or said.get("$ref", "").rpartition("/")[2]
    words = (
        ", ".join(map(str, shown)) if isinstance(shown, list) else str(shown or said.get("type"))
    )
    more = description or said.get("description")
    return f"{words}: {more}" if more else words


def _fields(heading: str, rows: list[tuple[str, str]]) -> Iterator[str]:
    if rows:
        yield f"<h3>{heading}</h3><dl>"
        for name, said in rows:
            yield f"<dt><code>{escape(name)}</code></dt><dd>{escape(said)}</dd>"
        yield "</dl>"
