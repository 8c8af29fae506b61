"""What lies in the tables: jobs that nobody here can run, that wait too long, that failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

from sqlalchemy import func, select

from jobs.core.job import State
from jobs.ops.doctor.base import Family, Finding, Surroundings, note, warning
from jobs.ops.words import age, many
from jobs.runtime.pulse import read_pulse
from jobs.stores.sql.engine import READ_ONLY
from jobs.stores.sql.store import SqlStore

_NAMED = 5
_WAITING = frozenset({"pending", "paused", "delayed", "retrying"})


def unknown_kinds(around: Surroundings) -> Iterator[Finding]:
    """Jobs whose kind has no handler here: they wait, whoever calls the tick."""
    if not around.kinds:
        return
    waiting: Counter[str] = Counter()
    for (_, kind, state), count in around.counts.items():
        if state in _WAITING and kind not in around.kinds:
            waiting[kind] += count
    for kind, count in waiting.most_common(_NAMED):
        oldest = _oldest(around, kind)
        since = "" if oldest is None else f", the oldest enqueued {age(oldest)} ago"
        yield warning(
            "kind-unknown",
            f"{many(count, 'job')} of kind {kind!r} {'waits' if count == 1 else 'wait'} for a "
            f"deployment that has a handler for it{since}; this one has none",
            "name its module in JOBS_HANDLERS, deploy the code that handles it, or cancel the jobs",
        )
    if len(waiting) > _NAMED:
        yield note(
            "kind-unknown",
            f"{many(len(waiting) - _NAMED, 'more kind')} without a handler here",
            "`tickwork stats` lists them",
        )


def _oldest(around: Surroundings, kind: str) -> float | None:
    store = around.sql
    if store is None:
        return None
    c = store.tables.jobs.c
    statement = select(func.min(c.created_at)).where(
        c.namespace == store.namespace, c.kind == kind, c.state == str(State.PENDING)
    )
    with store.engine.connect().execution_options(**READ_ONLY) as connection:
        created = connection.execute(statement).scalar()
    return None if created is None else (store.now() - created).total_seconds()


def newer_payloads(around: Surroundings) -> Iterator[Finding]:
    """Jobs that newer code has enqueued: this deployment hands them back, again and again."""
    store, registry = around.sql, around.registry
    if store is None or registry is None:
        return
    c = store.tables.jobs.c
    statement = (
        select(c.kind, c.version, func.count())
        .where(c.namespace == store.namespace, c.state == str(State.PENDING), c.version > 1)
        .group_by(c.kind, c.version)
        .order_by(c.kind, c.version)
    )
    with store.engine.connect().execution_options(**READ_ONLY) as connection:
        found = connection.execute(statement).all()
    for kind, version, count in found:
        handler = registry.find(kind)
        if handler is not None and version > handler.version:
            yield warning(
                "payload-newer",
                f"{many(count, 'job')} of kind {kind!r} {'has' if count == 1 else 'have'} payloads "
                f"of version {version}; the handler here knows up to {handler.version}",
                "deploy the newer code here, too, or let the rolling deploy end",
            )


def stalled(around: Surroundings) -> Iterator[Finding]:
    """Jobs whose runner died, and that nobody has put back."""
    store = around.store
    if store is None:
        return
    count = sum(n for (_, _, state), n in around.counts.items() if state == "stalled")
    if not count:
        return
    yield warning(
        "stalled",
        f"{many(count, 'job')} {'is' if count == 1 else 'are'} stalled: the lease ran out, so the "
        "runner is dead, and no tick has come since to put them back",
        "let ticks come (is the cron there?), or run `tickwork reclaim`; "
        "`tickwork list --state stalled` shows which",
    )


def overdue(around: Surroundings) -> Iterator[Finding]:
    """Ticks that used to come and do not; due jobs of kinds handled here that nobody runs."""
    store = around.sql
    if store is None:
        return
    every = None if around.settings is None else around.settings.tick_every
    pulse = read_pulse(store, every)
    if pulse.age_seconds is not None and not pulse.is_beating:
        how = "as they used to" if pulse.learnt else "at the least" if every is None else "as said"
        yield warning(
            "ticks-overdue",
            f"there was no tick for {age(pulse.age_seconds)}; {how}, one comes every "
            f"{age(pulse.cadence_seconds)}",
            "look at the platform's cron log: does it call, with the right secret and address? "
            "`tickwork tick` runs one by hand, `tickwork ticks` lists the last",
        )
        return
    if not around.kinds:
        return
    limit = timedelta(seconds=around.late_seconds)
    waiting = _longest_waiting(around, store)
    if waiting is not None and waiting > limit:
        yield warning(
            "ticks-overdue",
            f"a job that could run has been due for {age(waiting.total_seconds())}: ticks do not "
            "come, or too few",
            "look at the platform's cron log; `tickwork tick` runs one by hand, `tickwork why ID` "
            "tells of a single job",
        )


def _longest_waiting(around: Surroundings, store: SqlStore) -> timedelta | None:
    """For how long the first claimable row of any lane that is open has been due."""
    c = store.tables.jobs.c
    lanes = store.probe().lanes
    now = store.now()
    found = None
    with store.engine.connect().execution_options(**READ_ONLY) as connection:
        for lane in lanes:
            if lane.split("/", 3)[2] not in around.kinds:
                continue
            run_at = connection.execute(
                select(func.min(c.run_at)).where(
                    c.namespace == store.namespace,
                    c.state == str(State.PENDING),
                    c.lane == lane,
                )
            ).scalar()
            if run_at is not None and run_at <= now:
                found = max(found or timedelta(), now - run_at)
    return found


def dead_letters(around: Surroundings) -> Iterator[Finding]:
    """Jobs that failed for good."""
    failed: Counter[str] = Counter()
    for (_, kind, state), count in around.counts.items():
        if state == str(State.FAILED):
            failed[kind] += count
    if failed:
        most = ", ".join(f"{count:,} of {kind}" for kind, count in failed.most_common(_NAMED))
        yield note(
            "dead-letters",
            f"{many(failed.total(), 'job')} failed for good ({most})",
            "`tickwork list --state failed` shows them with their errors; mend the cause, then "
            "`tickwork retry`",
        )


FAMILY = Family("rows", (unknown_kinds, newer_payloads, stalled, overdue, dead_letters))
