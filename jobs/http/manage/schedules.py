"""Schedules: listed, made, changed, switched, run."""

from __future__ import annotations

from typing import Any

from jobs.core.backoff import Backoff
from jobs.core.errors import ScheduleNotFound
from jobs.core.schedule import Schedule
from jobs.core.slots import options_of_rule
from jobs.http.manage.models import (
    EditScheduleBody,
    JobTold,
    NewScheduleBody,
    NextQuery,
    NextTold,
    RemovedTold,
    SchedulesTold,
    ScheduleTold,
    TenantQuery,
)
from jobs.http.manage.operations import Answer, Call, operation
from jobs.http.manage.words import told_now
from jobs.managing import redactor

_RULE = ("cron", "every", "at", "start")


@operation("List schedules", "schedules", query=TenantQuery, answers={200: SchedulesTold})
def list_schedules(call: Call, query: TenantQuery) -> dict[str, Any]:
    """By tenant and name."""
    found = call.tickwork.schedules.list(call.desk.whose(query.tenant))
    return {"schedules": [_told(call, each) for each in found]}


@operation(
    "Make a schedule, or change the one of that name",
    "schedules",
    body=NewScheduleBody,
    answers={200: ScheduleTold, 201: ScheduleTold},
    problems=(403, 404),
)
def create_schedule(call: Call, body: NewScheduleBody) -> Answer:
    """201 if it is new."""
    options = _options(body)
    was_there = call.desk.schedule(body.name, body.tenant) is not None
    made = call.desk.add_schedule(
        body.name, options.pop("cron", None), body.kind, body.payload, **options
    )
    return Answer(_told(call, made), 200 if was_there else 201)


@operation(
    "Show a schedule", "schedules", query=TenantQuery, answers={200: ScheduleTold}, problems=(404,)
)
def get_schedule(call: Call, name: str, query: TenantQuery) -> dict[str, Any]:
    """With its rule in plain words."""
    return _told(call, _row(call, name, query.tenant))


@operation(
    "Change a schedule",
    "schedules",
    body=EditScheduleBody,
    answers={200: ScheduleTold},
    problems=(403, 404),
)
def edit_schedule(call: Call, name: str, body: EditScheduleBody) -> dict[str, Any]:
    """What is left out stays, the rule as a whole."""
    row = _row(call, name, body.tenant)
    said = _options(body)
    options: dict[str, Any] = {
        **row.options,
        "timezone": row.timezone,
        "missed": row.missed,
        "jitter": row.jitter_seconds,
        **said,
        "tenant": row.tenant,
    }
    if not said.keys() & set(_RULE):
        options |= options_of_rule(row.rule)
    if "backoff" in row.options:
        options["backoff"] = Backoff.from_json(row.options["backoff"])
    payload = row.payload if body.payload is None else body.payload
    made = call.desk.add_schedule(
        name, options.pop("cron", None), body.kind or row.kind, payload, **options
    )
    return _told(call, made)


@operation(
    "Delete a schedule",
    "schedules",
    query=TenantQuery,
    answers={200: RemovedTold},
    problems=(404, 422),
)
def delete_schedule(call: Call, name: str, query: TenantQuery) -> dict[str, Any]:
    """The jobs it has made stay."""
    call.desk.remove_schedule(name, query.tenant)
    return {"removed": name}


@operation(
    "Show the next runs of a schedule",
    "schedules",
    query=NextQuery,
    answers={200: NextTold},
    problems=(404,),
)
def next_runs(call: Call, name: str, query: NextQuery) -> dict[str, Any]:
    """In the schedule's own time zone."""
    row = _row(call, name, query.tenant)
    slots = call.tickwork.schedules.preview(name, query.count, row.tenant)
    words = call.tickwork.schedules.words(row)
    return {"words": words, "slots": [slot.isoformat() for slot in slots]}


@operation(
    "Switch a schedule on",
    "schedules",
    query=TenantQuery,
    answers={200: ScheduleTold},
    problems=(404,),
)
def enable_schedule(call: Call, name: str, query: TenantQuery) -> dict[str, Any]:
    """From its next slot."""
    return _told(call, call.desk.switch_schedule(name, query.tenant, on=True))


@operation(
    "Switch a schedule off",
    "schedules",
    query=TenantQuery,
    answers={200: ScheduleTold},
    problems=(404,),
)
def disable_schedule(call: Call, name: str, query: TenantQuery) -> dict[str, Any]:
    """Until somebody enables it."""
    return _told(call, call.desk.switch_schedule(name, query.tenant, on=False))


@operation(
    "Enqueue one job of a schedule now",
    "schedules",
    query=TenantQuery,
    answers={201: JobTold},
    problems=(404,),
)
def run_schedule(call: Call, name: str, query: TenantQuery) -> Answer:
    """Beside its slots, whether it is on or off."""
    return Answer(told_now(call.desk, call.desk.run_schedule(name, query.tenant)), 201)


def _row(call: Call, name: str, tenant: str | None) -> Schedule:
    row = call.desk.schedule(name, tenant)
    if row is None:
        raise ScheduleNotFound(name)
    return row


def _options(body: Any) -> dict[str, Any]:
    given: dict[str, Any] = body.model_dump(exclude={"name", "kind", "payload"}, exclude_none=True)
    return given


def _told(call: Call, row: Schedule) -> dict[str, Any]:
    shown = {**row.as_dict(), "words": call.tickwork.schedules.words(row)}
    shown["payload"] = redactor(call.tickwork.settings.redact).value(row.payload)
    return shown
