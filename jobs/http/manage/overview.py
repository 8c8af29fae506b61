"""Overviews: counts of all queues and of one, kinds, and who one is."""

from __future__ import annotations

from typing import Any

import msgspec
from pydantic import RootModel, TypeAdapter

from jobs.core.job import State
from jobs.core.names import EVERY_QUEUE
from jobs.core.store import JobFilter
from jobs.http.manage.models import (
    KindsTold,
    MeTold,
    MonitoringTold,
    QueueCounts,
    QueueTold,
    TenantQuery,
)
from jobs.http.manage.operations import Call, operation
from jobs.http.manage.words import counted, nothing, totals, with_total

FAILED_SHOWN = 10
Stats = RootModel[dict[str, QueueCounts]]


@operation("Count the jobs of every queue", "overview", query=TenantQuery, answers={200: Stats})
def stats(call: Call, query: TenantQuery) -> dict[str, Any]:
    """By queue and state, in Bull's words, each up to 10,000: ``more`` says that there are more."""
    found = counted(call.desk, query.tenant)
    return {queue: with_total(counts) for queue, counts in found.items()}


@operation(
    "Count the jobs of every queue, with totals",
    "overview",
    query=TenantQuery,
    answers={200: MonitoringTold},
)
def monitoring(call: Call, query: TenantQuery) -> dict[str, Any]:
    """The same counts, and their sums."""
    queues = counted(call.desk, query.tenant)
    return {"success": True, "data": {"queues": queues, "totals": totals(queues.values())}}


@operation(
    "Show a queue: its counts and its newest failures",
    "overview",
    query=TenantQuery,
    answers={200: QueueTold},
    problems=(404,),
)
def queue(call: Call, queue: str, query: TenantQuery) -> dict[str, Any]:
    """The ten newest of its failed jobs."""
    found = counted(call.desk, query.tenant)
    counts = totals(found.values()) if queue == EVERY_QUEUE else found.get(queue)
    where = JobFilter(
        State.FAILED, queue=None if queue == EVERY_QUEUE else queue, tenant=query.tenant
    )
    failed = [call.desk.shown(job) for job in call.desk.jobs(where, FAILED_SHOWN)]
    return {
        "success": True,
        "data": {
            "queueName": queue,
            "stats": counts or nothing(),
            "failedJobs": [
                {
                    "id": job["id"],
                    "data": job["payload"],
                    "failedReason": job["error"],
                    "attemptsMade": job["attempts"],
                }
                for job in failed
            ],
        },
    }


@operation("Tell who I am", "access", answers={200: MeTold})
def me(call: Call) -> dict[str, Any]:
    """Name, role and tenant of whoever asks."""
    return {"name": call.desk.by, "role": str(call.role), "tenant": call.desk.tenant}


@operation("List the kinds that are handled here", "overview", answers={200: KindsTold})
def kinds(call: Call) -> dict[str, Any]:
    """With the schema of the payload, where its type says one."""
    return {
        "kinds": [
            {
                "kind": handler.kind,
                "queue": handler.queue,
                "api": handler.api,
                "payload_schema": _schema(handler.payload_type),
            }
            for handler in sorted(call.tickwork.registry, key=lambda each: each.kind)
        ]
    }


def _schema(declared: type | None) -> dict[str, Any] | None:
    if declared is None:
        return None
    try:
        if issubclass(declared, msgspec.Struct):
            return msgspec.json.schema(declared)
        return TypeAdapter(declared).json_schema()
    except Exception:  # noqa: BLE001 - a type that pydantic cannot describe is simply not described
        return None
