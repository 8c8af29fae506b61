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
from jobs.http.manage.words import by_queue, declared_queues, totals

FAILED_SHOWN = 10
Stats = RootModel[dict[str, QueueCounts]]


@operation("Count the jobs of every queue", "overview", query=TenantQuery, answers={200: Stats})
def stats(call: Call, query: TenantQuery) -> dict[str, Any]:
    """By queue and state, in Bull's words."""
    return {
        queue: {**counts, "total": sum(counts.values())}
        for queue, counts in _counted(call, query).items()
    }


@operation(
    "Count the jobs of every queue, with totals",
    "overview",
    query=TenantQuery,
    answers={200: MonitoringTold},
)
def monitoring(call: Call, query: TenantQuery) -> dict[str, Any]:
    """The same counts, and their sums."""
    queues = _counted(call, query)
    return {"success": True, "data": {"queues": queues, "totals": totals(queues)}}


@operation(
    "Show a queue: its counts and its newest failures",
    "overview",
    query=TenantQuery,
    answers={200: QueueTold},
    problems=(404,),
)
def queue(call: Call, queue: str, query: TenantQuery) -> dict[str, Any]:
    """The ten newest of its failed jobs."""
    counted = _counted(call, query)
    counts = totals(counted) if queue == EVERY_QUEUE else counted.get(queue)
    where = JobFilter(
        State.FAILED, queue=None if queue == EVERY_QUEUE else queue, tenant=query.tenant
    )
    failed = [call.desk.shown(job) for job in call.desk.jobs(where, FAILED_SHOWN)]
    return {
        "success": True,
        "data": {
            "queueName": queue,
            "stats": counts or totals({}),
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


def _counted(call: Call, query: TenantQuery) -> dict[str, dict[str, int]]:
    counts = call.tickwork.counts(call.desk.whose(query.tenant))
    return by_queue(counts, declared_queues(call.desk))


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
