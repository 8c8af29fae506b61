"""Schedules: from what a program says to rows, and from rows whose slot has come to jobs.

Loaded only where there are schedules: it brings the reading of cron expressions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypedDict

from msgspec.structs import replace

from jobs.core.backoff import Backoff, as_backoff
from jobs.core.codec import decode, encode_payload
from jobs.core.errors import ConfigurationError, StoreUnavailable, TickworkError
from jobs.core.job import NewJob
from jobs.core.names import check_kind, check_schedule, check_tenant
from jobs.core.payload import dump
from jobs.core.registry import Registry
from jobs.core.schedule import (
    BY_CODE,
    Schedule,
    Source,
    check_jitter,
    check_missed,
    defined_as,
    jitter_of,
    slot_text,
)
from jobs.core.slots import due_slots, next_slot, read_rule, write_rule
from jobs.runtime.base import Runtime
from jobs.runtime.enqueue import (
    Enqueued,
    EnqueueOptions,
    Seconds,
    announce,
    build_job,
    draft,
    is_heard,
)

log = logging.getLogger("tickwork.schedules")
# A tick has jobs to run as well: what is left of the schedules waits for the next one.
FIRES_PER_TICK = 100
JOBS_MADE_PER_TICK = 500
FIRING_SECONDS = 5.0
# A schedule that code declared and that no deployment declares any more is never fired; so long
# after its slot it is switched off as well.
LAPSED_AFTER_SECONDS = 86_400.0
TRIES = 10
_NO_OPTION = frozenset(
    {
        *("delay", "run_at", "dedupe_key", "dedupe_window", "job_id"),
        *("replace", "debounce", "debounce_max"),
    }
)


class RuleOptions(TypedDict, total=False):
    """When a schedule's jobs are made; ``None`` is the same as not said."""

    every: Seconds | None
    at: datetime | None
    start: datetime | None
    timezone: str | None
    missed: str | None
    jitter: Seconds | None


class ScheduleOptions(RuleOptions, EnqueueOptions, total=False):
    """What may be said of a schedule beside name, cron expression, kind and payload.

    What is not of the rule is said of each of its jobs, as at an enqueue.
    """


def make_schedule(
    runtime: Runtime,
    name: str,
    cron: str | None,
    kind: str | None,
    payload: object,
    options: Mapping[str, Any],
    source: Source,
) -> Schedule:
    """A validated schedule that no store knows yet; ``kind`` is the name unless given.

    Raises :class:`~jobs.core.errors.ConfigurationError` and
    :class:`~jobs.core.errors.PayloadError` for what makes no sense.
    """
    said = {key: value for key, value in options.items() if value is not None}
    unknown = ", ".join(sorted(map(str, said.keys() - ScheduleOptions.__annotations__.keys())))
    refused = ", ".join(sorted(said.keys() & _NO_OPTION))
    if refused:
        raise ConfigurationError(
            f"a schedule's jobs have no {refused}: the rule says when, and a slot makes one job"
        )
    if unknown:
        allowed = ", ".join(sorted(ScheduleOptions.__annotations__.keys() - _NO_OPTION))
        raise ConfigurationError(
            f"no option of a schedule is called {unknown}: there are {allowed}"
        )
    check_schedule(name)
    kind = name if kind is None else check_kind(kind)
    rule = write_rule(cron, every=said.get("every"), at=said.get("at"), start=said.get("start"))
    timezone = said.get("timezone", "UTC")
    read_rule(rule, timezone, runtime.clock.now())
    handler = runtime.registry.find(kind)
    plain = dump(payload, handler.payload_type if handler is not None else None)
    return Schedule(
        name=name,
        tenant=check_tenant(said.get("tenant", "")),
        kind=kind,
        rule=rule,
        # As it will be read back, so that two of them can be compared.
        payload=decode(encode_payload(plain, runtime.settings.payload_max_bytes)),
        options=_job_options(runtime, kind, said),
        timezone=timezone,
        jitter_seconds=check_jitter(said.get("jitter", 0.0)),
        missed=check_missed(said.get("missed", "latest")),
        source=source,
    )


def _job_options(runtime: Runtime, kind: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """The options of each job, checked, as JSON holds them."""
    wanted: Any = {
        name: value
        for name, value in said.items()
        if name not in RuleOptions.__annotations__ and name != "tenant"
    }
    # By a registry that knows no kind: the handler may be declared after its schedule.
    draft(replace(runtime, registry=Registry()), kind, wanted)
    return {name: _as_json(name, value) for name, value in wanted.items()}


def _as_json(name: str, value: Any) -> Any:
    if name == "backoff":
        return as_backoff(value).to_json()
    return value.total_seconds() if isinstance(value, timedelta) else value


def scheduled_job(runtime: Runtime, schedule: Schedule, slot: datetime | None) -> NewJob:
    """The job of a slot, due then (and its jitter later); without one, a job that is due now."""
    options: Any = {**schedule.options, "tenant": schedule.tenant}
    if "backoff" in options:
        options["backoff"] = Backoff.from_json(options["backoff"])
    if slot is not None:
        options["run_at"] = slot + timedelta(seconds=jitter_of(schedule, slot))
    new = build_job(runtime, schedule.kind, schedule.payload, options)
    return new._replace(schedule=schedule.name, slot=None if slot is None else slot_text(slot))


# -- what the code declares ------------------------------------------------------------------------


def synchronise(runtime: Runtime) -> None:
    """Bring the rows to what the code of this deployment declares.

    A new declaration becomes a row, a changed one changes its row. A row that other code declared
    and this one does not is switched off if this deployment handles its kind: another deployment's
    schedules are none of its business. What a person switched off stays off, and a schedule that
    was made at run time is not taken over.
    """
    changes, declared = runtime.declared.snapshot()
    store = runtime.store
    rows = {row.key: row for row in store.schedules(source="code")}
    for each in declared:
        if each.kind not in runtime.registry.kinds:
            log.warning(
                "schedule %r makes no job here: its kind %r has no handler here, and only a "
                "deployment with both fires it; declare it beside its handler",
                each.name,
                each.kind,
            )
        row = rows.get(each.key)
        if row is None and not _add(runtime, each):
            row = store.get_schedule(each.name, each.tenant)
        if row is not None and row.source != "code":
            log.warning(
                "schedule %r is declared in code, but one of that name was made at run time and "
                "stays: remove it (tickwork schedules remove %s) or rename yours",
                each.name,
                each.name,
            )
        elif row is not None:
            change(runtime, row, partial(_declared_again, each))
    for key, row in rows.items():
        if row.enabled and key not in runtime.declared and row.kind in runtime.registry.kinds:
            change(runtime, row, switched_off_by_code)
            log.warning("schedule %r is not declared any more: switched off", row.name)
    runtime.declared.synchronised(changes)


def _add(runtime: Runtime, declared: Schedule) -> bool:
    return runtime.store.add_schedule(begun(declared, runtime.store.now(), BY_CODE))


def begun(schedule: Schedule, now: datetime, by: str | None) -> Schedule:
    """A schedule as its row begins. Intervals are counted from then, in whole seconds."""
    fresh = replace(schedule, created_at=now.replace(microsecond=0), changed_at=now, changed_by=by)
    return replace(fresh, next_at=next_slot(fresh, now))


def redefined(row: Schedule, wanted: Schedule, now: datetime, by: str | None) -> Schedule:
    """The row with another definition; its slots begin anew where the rule is another."""
    if row.defines_the_same(wanted):
        return row
    after = replace(defined_as(row, wanted), changed_at=now, changed_by=by)
    if row.enabled and (row.rule, row.timezone) != (after.rule, after.timezone):
        after = replace(after, next_at=next_slot(after, now))
    return after


def switched_on(row: Schedule, now: datetime, by: str | None) -> Schedule:
    """Enabled: from the next slot on, whatever went by meanwhile."""
    if row.enabled:
        return row
    return replace(row, enabled=True, next_at=next_slot(row, now), changed_at=now, changed_by=by)


def switched_off(row: Schedule, now: datetime, by: str | None) -> Schedule:
    """Disabled: without a slot to come."""
    if not row.enabled:
        return row if row.changed_by == by else replace(row, changed_at=now, changed_by=by)
    return replace(row, enabled=False, next_at=None, changed_at=now, changed_by=by)


def switched_off_by_code(row: Schedule, now: datetime) -> Schedule:
    """Disabled until a declaration comes back."""
    return switched_off(row, now, BY_CODE)


def _declared_again(declared: Schedule, row: Schedule, now: datetime) -> Schedule:
    # Who switched it off is remembered: a person's word outlives every deployment.
    after = redefined(row, declared, now, BY_CODE if row.enabled else row.changed_by)
    return switched_on(after, now, BY_CODE) if row.changed_by == BY_CODE else after


def change(
    runtime: Runtime, row: Schedule, make: Callable[[Schedule, datetime], Schedule]
) -> Schedule | None:
    """Write what ``make(row, now)`` says, again from the row as it is if somebody came between.

    Returns the row as it then stands; ``None`` if it was removed meanwhile.
    """
    now = runtime.store.now()
    for _ in range(TRIES):
        after = make(row, now)
        if after == row or runtime.store.replace_schedule(row, after):
            return after
        found = runtime.store.get_schedule(row.name, row.tenant)
        if found is None:
            return None
        row = found
    raise StoreUnavailable(f"schedule {row.name!r} keeps being changed by somebody else")


# -- slots that have come --------------------------------------------------------------------------


def fire_due(runtime: Runtime) -> int:
    """Make the jobs of the slots that have come; returns how many.

    Only of kinds that this deployment handles, and of what code declares only what this code does.
    """
    kinds = runtime.registry.kinds
    if not kinds:
        return 0
    begun = runtime.clock.monotonic()
    now, rows = runtime.store.due_schedules(kinds, FIRES_PER_TICK)
    made: list[NewJob] = []
    for row in rows:
        if len(made) >= JOBS_MADE_PER_TICK or runtime.clock.monotonic() - begun > FIRING_SECONDS:
            log.warning("many schedules are due at once: some wait for the next tick")
            break
        if row.source == "code" and row.key not in runtime.declared:
            _lapse(runtime, row, now)
        else:
            made += _fire(runtime, row, now)
    if made and is_heard(runtime):
        announce(runtime, [Enqueued.of(runtime, job) for job in made])
    return len(made)


def _fire(runtime: Runtime, row: Schedule, now: datetime) -> list[NewJob]:
    try:
        slots = due_slots(row, now)
        new = [scheduled_job(runtime, row, slot) for slot in slots]
        after = replace(
            row, next_at=next_slot(row, now), last_at=slots[-1] if slots else row.last_at
        )
    except TickworkError as error:
        # One that cannot be fired must not keep the others, nor the jobs, from running.
        log.error("schedule %r makes no job until this is mended: %s", row.name, error)
        return []
    return runtime.store.fire_schedule(row, after, new)


def _lapse(runtime: Runtime, row: Schedule, now: datetime) -> None:
    assert row.next_at is not None
    if now - row.next_at > timedelta(seconds=LAPSED_AFTER_SECONDS):
        runtime.store.replace_schedule(row, switched_off_by_code(row, now))
        log.warning("schedule %r is declared by no deployment any more: switched off", row.name)
