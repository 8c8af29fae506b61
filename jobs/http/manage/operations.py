"""What a view declares of itself: what it reads, what it answers, and how that is said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from jobs.core.access import Role
from jobs.managing import Managing
from jobs.system import Tickwork

View = TypeVar("View", bound=Callable[..., Any])


@dataclass(frozen=True)
class Call:
    """One call: who acts (``desk``), with which role, and the headers that matter."""

    tickwork: Tickwork
    desk: Managing
    role: Role
    idempotency_key: str | None = None


@dataclass(frozen=True)
class Answer:
    """What a view returns where 200 and a document is not all."""

    document: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


@dataclass(frozen=True)
class Operation:
    """A view with its declaration. ``answers`` are models by status; 4xx are problems."""

    summary: str
    tag: str
    query: Any
    body: Any
    body_is_optional: bool
    answers: Mapping[int, Any]
    problems: tuple[int, ...]
    view: Callable[..., Any]


OPERATION = "tickwork_operation"


def operation(
    summary: str,
    tag: str,
    *,
    query: Any = None,
    body: Any = None,
    body_is_optional: bool = False,
    answers: Mapping[int, Any] | None = None,
    problems: tuple[int, ...] = (),
) -> Callable[[View], View]:
    """Declare a view: pydantic models for what it reads and for what it answers."""

    def declare(view: View) -> View:
        made = Operation(
            summary, tag, query, body, body_is_optional, answers or {200: Any}, problems, view
        )
        setattr(view, OPERATION, made)
        return view

    return declare
