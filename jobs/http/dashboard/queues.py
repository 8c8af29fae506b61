"""Queues: what stands in each, pauses with their reasons, settings, limits and breakers."""

from __future__ import annotations

from typing import Any

from flask import Response, request
from werkzeug.exceptions import NotFound

from jobs.core.controls import REASON_MAX_CHARS
from jobs.core.errors import ConfigurationError
from jobs.core.names import EVERY_QUEUE, check_queue
from jobs.http.dashboard import rhythm
from jobs.http.dashboard.desk import Desk, link
from jobs.http.dashboard.detail import reason_of
from jobs.http.dashboard.overview import BOARD_CAP, COUNT_CAP, queue_rows
from jobs.ops.words import many

WHOLE_NUMBERS = ("max_concurrency", "concurrency_in_process", "max_attempts", "priority")
SETTINGS = (*WHOLE_NUMBERS, "timeout", "rate_limit")
HINTS = {
    "max_concurrency": "jobs at once, over all processes",
    "concurrency_in_process": "jobs at once in one process",
    "max_attempts": "executions in all, the first one included",
    "priority": "1 goes first, 5 last",
    "timeout": "seconds a job may run",
    "rate_limit": "such as 100/s, 10/m or 3/10s",
}


def show(desk: Desk) -> Response:
    """``GET /queues``."""
    board = desk.store.board(BOARD_CAP, desk.tenant)
    desk.now = board.now
    system, is_all = desk.tickwork, desk.tenant is None
    known = {handler.queue for handler in system.registry} | set(system.queues())
    controls = {each.subject: each for each in desk.store.controls()} if is_all else {}
    return desk.page(
        "queues.html",
        rows=queue_rows(board, known if is_all else ()),
        controls=controls,
        everything=controls.get("queue/all"),
        kinds_paused=[
            (subject.removeprefix("kind/"), control)
            for subject, control in controls.items()
            if subject.startswith("kind/") and control.is_paused
        ],
        activity=rhythm.by_queue(desk, rhythm.lately(desk)),
        reason_max_chars=REASON_MAX_CHARS,
    )


def limits(desk: Desk) -> Response:
    """``GET /limits``."""
    desk.need_control()
    return desk.page("limits.html", limits=desk.tickwork.limits())


def one(desk: Desk, name: str) -> Response:
    """``GET /queues/<name>``: its settings, and how to empty it."""
    desk.need_control()
    system = desk.tickwork
    system.learn_queues()
    sources = {} if name == EVERY_QUEUE else system.queue_sources(check_queue(name))
    control = next(
        (each for each in desk.store.controls() if each.subject == f"queue/{name}"), None
    )
    return desk.page(
        "queue.html",
        name=name,
        sources=sources,
        settings=SETTINGS,
        hints=HINTS,
        control=control,
        waiting=system.count("pending", queue=name, cap=COUNT_CAP),
        cap=COUNT_CAP,
        reason_max_chars=REASON_MAX_CHARS,
    )


def act(desk: Desk, name: str, action: str) -> Response:
    """``POST /queues/<name>/<action>``: pause, resume, settings, empty."""
    desk.need_control()
    managing, label = desk.managing, "every queue" if name == EVERY_QUEUE else f"queue {name}"
    kind = request.form.get("kind") or None
    subject: dict[str, Any] = {"kind": kind} if kind else {"queue": name}
    match action:
        case "pause":
            reason = reason_of(request.form.get("because"))
            managing.pause(**subject, because=reason)
            text = f"Paused {f'kind {kind}' if kind else label}: what runs goes on, nothing starts."
        case "resume":
            was = managing.resume(**subject)
            text = f"Resumed {f'kind {kind}' if kind else label}." if was else "It was not paused."
        case "settings":
            changes = {field: _value(field) for field in SETTINGS if field in request.form}
            managing.set_queue(name, changes)
            text = f"Saved; every process knows with its next tick ({label})."
        case "empty":
            if request.form.get("typed", "").strip() != name:
                raise ConfigurationError(f"type the queue's name, {name}, to empty it")
            text = f"{many(managing.empty(name), 'waiting job')} deleted from {label}."
        case _:
            raise NotFound
    return desk.back(text)


def reset_breaker(desk: Desk) -> Response:
    """``POST /breakers/reset``."""
    desk.need_control()
    name = request.form.get("name", "")
    desk.managing.reset_breaker(name)
    return desk.go(link("/limits"), f"The breaker {name} is closed.")


def _value(field: str) -> Any:
    text = request.form[field].strip()
    if not text:
        return None
    if field == "rate_limit":
        return text
    try:
        return int(text) if field in WHOLE_NUMBERS else float(text)
    except ValueError:
        raise ConfigurationError(f"{field} is a number, not {text!r}") from None
