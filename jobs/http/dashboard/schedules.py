"""Schedules: in plain words, when they come next, what they made; run, switched and edited."""

from __future__ import annotations

import json
from typing import Any

from flask import Response, request
from werkzeug.exceptions import BadRequest, NotFound

from jobs.core.errors import ConfigurationError
from jobs.core.schedule import Schedule
from jobs.core.slots import read_zone, rule_of, upcoming
from jobs.core.store import JobFilter
from jobs.http.dashboard.asked import WINDOW
from jobs.http.dashboard.desk import Desk, link

NEXT_SHOWN = 5
HISTORY_SHOWN = 20
MISSED = ("latest", "none", "all:10")


def show(desk: Desk) -> Response:
    """``GET /schedules``."""
    table = desk.tickwork.schedules
    rows = [(row, table.words(row)) for row in table.list(desk.tenant)]
    return desk.page("schedules.html", rows=rows)


def one(desk: Desk, name: str) -> Response:
    """``GET /schedules/<name>``."""
    row = _row(desk, name)
    zone = read_zone(row.timezone)
    where = JobFilter(kind=row.kind, tenant=row.tenant or desk.tenant, window=WINDOW)
    made = [job for job in desk.store.list(where, 200) if job.schedule == row.name]
    paused = desk.store.paused()
    shown_payload = desk.redacted(row.payload, row.kind)
    return desk.page(
        "schedule.html",
        row=row,
        words=desk.tickwork.schedules.words(row),
        next_runs=[
            (slot, slot.astimezone(zone)) for slot in upcoming(rule_of(row), desk.now, NEXT_SHOWN)
        ],
        history=[(job, desk.shown(job, paused)) for job in made[:HISTORY_SHOWN]],
        payload=shown_payload,
        payload_text=json.dumps(row.payload, indent=2, ensure_ascii=False),
        is_redacted=shown_payload != row.payload,
        editable=row.source != "code",
        missed=MISSED,
    )


def act(desk: Desk, name: str, action: str) -> Response:
    """``POST /schedules/<name>/<action>``: run, enable, disable, edit, remove."""
    row = _row(desk, name)
    managing, here = desk.managing, _link(row)
    match action:
        case "run":
            job = managing.run_schedule(row.name, row.tenant)
            return desk.go(link(f"/jobs/{job.id}"), f"One job of {row.name} is enqueued: this one.")
        case "enable":
            managing.switch_schedule(row.name, row.tenant, on=True)
            text = f"{row.name} is on, from its next time."
        case "disable":
            managing.switch_schedule(row.name, row.tenant, on=False)
            text = f"{row.name} is off until somebody enables it."
        case "edit":
            _edit(desk, row)
            text = f"{row.name} is saved."
        case "remove":
            if request.form.get("typed", "").strip() != row.name:
                raise ConfigurationError(f"type the schedule's name, {row.name}, to remove it")
            managing.remove_schedule(row.name, row.tenant)
            here, text = link("/schedules"), f"{row.name} is removed; the jobs it made stay."
        case _:
            raise NotFound
    return desk.go(here, text)


def _edit(desk: Desk, row: Schedule) -> None:
    if row.source == "code":
        raise ConfigurationError(f"schedule {row.name!r} is declared in code: change it there")
    form = request.form
    text = form.get("payload")
    try:
        payload = row.payload if text is None else json.loads(text or "{}")
    except ValueError as error:
        raise BadRequest(f"The payload is no JSON: {error}.") from None
    if not isinstance(payload, dict):
        raise BadRequest("The payload is a JSON object: {...}.")
    rule: dict[str, Any] = {}
    given = form.get("rule", row.rule).strip()
    cron = None
    if given.startswith("every "):
        rule["every"] = _seconds(given.removeprefix("every ").split(" ")[0])
    elif given.startswith("at "):
        raise ConfigurationError("a schedule for one instant is removed and made anew")
    else:
        cron = given
    desk.managing.add_schedule(
        row.name,
        cron,
        row.kind,
        payload,
        timezone=form.get("timezone", row.timezone).strip(),
        missed=form.get("missed", row.missed),
        tenant=row.tenant,
        **rule,
        **{name: value for name, value in row.options.items() if name != "tenant"},
    )


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigurationError(f"write every 300 (seconds), not every {text}") from None


def _row(desk: Desk, name: str) -> Schedule:
    # A tenant comes from the identity; whoever sees all names whose schedule is meant.
    tenant = request.values.get("tenant", "") if desk.tenant is None else desk.tenant
    row = desk.tickwork.schedules.get(name, tenant)
    if row is None:
        raise NotFound
    return row


def _link(row: Schedule) -> str:
    return link(f"/schedules/{row.name}", tenant=row.tenant)
