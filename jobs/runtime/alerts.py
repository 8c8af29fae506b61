"""Alerts: what was measured is looked at, and raises and clears them; once a minute, over all."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from jobs.core.alerts import DEPTH_CAP, FAILED_CAP, Change, evaluate
from jobs.core.job import NewJob
from jobs.core.look import ALERT_KIND, EVERY_SECONDS, Level
from jobs.core.masking import mask
from jobs.core.rules import Seen
from jobs.runtime.base import Runtime
from jobs.runtime.enqueue import announce_inserted, build_job
from jobs.runtime.pulse import read_pulse

log = logging.getLogger("tickwork.alerts")
BUCKET_SECONDS = 60.0
_LEVELS = {Level.OK: logging.INFO, Level.WARNING: logging.WARNING, Level.ALERT: logging.ERROR}


def look(runtime: Runtime) -> list[Change]:
    """Look, unless somebody did within the minute; returns what changed.

    What is to be delivered is enqueued in the transaction that writes the change.
    """
    store, rules = runtime.store, runtime.alert_rules.book
    if not store.claim_alerts(EVERY_SECONDS):
        return []
    reach_seconds = rules.longest_window_seconds + BUCKET_SECONDS
    buckets = store.measures(reach_seconds, BUCKET_SECONDS)
    kinds = runtime.registry.kinds | {bucket.kind for bucket in buckets}
    seen = Seen(
        now=store.now(),
        buckets=buckets,
        depths=store.depths(DEPTH_CAP),
        failed=store.failed_counts(kinds, FAILED_CAP),
        pulse=read_pulse(store, runtime.settings.tick_every),
    )
    evaluation = evaluate(rules, seen, store.alerts())
    jobs = [job for change in evaluation.changes for job in deliveries(runtime, change)]
    if not store.save_alerts(evaluation, jobs):
        return []  # somebody acknowledged one meanwhile: the next look decides anew
    announce_inserted(runtime, jobs)
    for change in evaluation.changes:
        log.log(
            _LEVELS[change.after.level],
            "%s",
            mask(change.words),
            extra={
                "alert": change.after.name,
                "subject": change.after.subject,
                "alertLevel": str(change.after.level),
            },
        )
    return evaluation.changes


def deliveries(runtime: Runtime, change: Change) -> Sequence[NewJob]:
    """A job for each channel, if the change is told at all."""
    if not change.is_told or ALERT_KIND not in runtime.registry.kinds:
        return []
    said = change.as_dict()
    return [
        build_job(
            runtime,
            ALERT_KIND,
            {"channel": channel, "alert": said},
            {"group": None},
        )
        for channel in runtime.settings.alert_channels
    ]
