"""Queues: paused, resumed, emptied, cleaned, set; limits and breakers."""

from __future__ import annotations

from dataclasses import asdict, is_dataclass
from typing import Any

from jobs.core.controls import EVERYTHING
from jobs.core.errors import NotAllowed, PayloadError, PayloadTooLarge
from jobs.core.job import State
from jobs.core.names import EVERY_QUEUE
from jobs.http.manage.inputs import Invalid, body_value, validated
from jobs.http.manage.models import (
    ActedTold,
    ActionQuery,
    BreakerBody,
    CleanBody,
    CreatedTold,
    LimitsTold,
    QueueSettingsBody,
    QueueSettingsTold,
    QueuesTold,
    ReasonBody,
    RetryFailedBody,
    TenantQuery,
)
from jobs.http.manage.operations import Answer, Call, operation
from jobs.http.manage.produce import create
from jobs.http.manage.words import counted, nothing, with_total

DAY_SECONDS = 86_400.0
_GRACE_SECONDS = {"failed": 7 * DAY_SECONDS}


@operation(
    "Pause, resume, empty or clean a queue; without an action, produce on a kind's own path",
    "queues",
    query=ActionQuery,
    answers={200: ActedTold, 201: CreatedTold},
    problems=(403, 404, 413, 415, 422),
)
def act_on_queue(call: Call, queue: str, query: ActionQuery) -> Any:
    """Bodies: ``{"reason"}``; of ``clean`` as of its own path."""
    match query.action:
        case None:
            return _produce(call, queue)
        case "clean":
            body = validated(CleanBody, body_value(optional=True), 422)
            return clean_queue(call, queue, body)
    given = validated(ReasonBody, body_value(optional=True), 422)
    if query.action == "pause":
        call.desk.pause(queue, because=given.reason)
        return {"success": True, "queueName": queue, "paused": True}
    if query.action == "resume":
        was = call.desk.resume(queue, reason=given.reason)
        return {"success": True, "queueName": queue, "paused": False, "wasPaused": was}
    total = call.desk.empty(queue, tenant=query.tenant, reason=given.reason)
    return {"success": True, "queueName": queue, "removed": total}


def _produce(call: Call, path: str) -> Answer:
    """What a module with handlers says of this path: ``producers = {"email": produce_email}``."""
    tenant = {"tenant": call.desk.tenant or ""}
    for module in call.tickwork.modules:
        producer = getattr(module, "producers", {}).get(path)
        if producer is not None:
            body = body_value(optional=False)
            if not isinstance(body, dict):
                raise Invalid(422, [{"path": "$", "message": "the body is an object"}])
            if isinstance(producer, str):
                return create(call, producer, body, tenant)
            try:
                kind, payload, options = producer(body)
                return create(call, kind, payload, {**options, **tenant}, on_own_path=True)
            except PayloadTooLarge:
                raise
            except PayloadError as error:  # here the body is the payload
                place = error.path.removeprefix("$").removeprefix(".") or "$"
                raise Invalid(422, [{"path": place, "message": error.reason}]) from error
    raise Invalid(400, [{"path": "action", "message": "say ?action=pause, resume, empty or clean"}])


@operation(
    "Delete jobs that ended a while ago",
    "queues",
    body=CleanBody,
    body_is_optional=True,
    answers={200: ActedTold},
    problems=(404,),
)
def clean_queue(call: Call, queue: str, body: CleanBody) -> dict[str, Any]:
    """``grace`` in milliseconds: what ended later stays."""
    grace = (
        _GRACE_SECONDS.get(body.status, DAY_SECONDS) if body.grace is None else body.grace / 1000
    )
    total = call.desk.clean(
        queue, grace, State(body.status), tenant=body.tenant, reason=body.reason
    )
    return {"success": True, "queueName": queue, "removed": total}


@operation(
    "Retry a failed job, or all of a queue",
    "queues",
    body=RetryFailedBody,
    answers={200: ActedTold},
    problems=(404, 409),
)
def retry_failed(call: Call, body: RetryFailedBody) -> dict[str, Any]:
    """Without ``jobId``, all that failed."""
    if body.jobId is None:
        total = call.desk.retry_failed(body.queueName)
    else:
        call.desk.retry(body.jobId, body.queueName)
        total = 1
    return {"success": True, "queueName": body.queueName, "retried": total}


@operation(
    "List queues with counts, pauses and settings",
    "queues",
    query=TenantQuery,
    answers={200: QueuesTold},
)
def list_queues(call: Call, query: TenantQuery) -> dict[str, Any]:
    """Each setting with whence it comes: run time, code or default."""
    call.tickwork.learn_queues()
    found = counted(call.desk, query.tenant)
    controls = {each.subject: each for each in call.tickwork.controls()}
    if call.desk.tenant is None:
        for subject in controls:
            what, _, name = subject.partition("/")
            if what == "queue" and name != EVERY_QUEUE:
                found.setdefault(name, nothing())
    everything = controls.get(EVERYTHING)
    return {
        "all_paused": bool(everything and everything.is_paused),
        "queues": [_queue_told(call, name, counts, controls) for name, counts in found.items()],
    }


def _queue_told(
    call: Call, name: str, counts: dict[str, int] | None, controls: dict[str, Any]
) -> dict[str, Any]:
    control = controls.get(f"queue/{name}")
    paused = bool(control and control.is_paused)
    because = control.paused_because if control and paused else None
    settings = {
        setting: {"value": _plain(value), "from": whence}
        for setting, (value, whence) in call.tickwork.queue_sources(name).items()
    }
    return {
        "queue": name,
        "paused": paused,
        "paused_because": because,
        "counts": None if counts is None else with_total(counts),
        "settings": settings,
    }


@operation(
    "Change a queue's settings at run time",
    "queues",
    body=QueueSettingsBody,
    answers={200: QueueSettingsTold},
    problems=(403, 404),
)
def set_queue(call: Call, queue: str, body: QueueSettingsBody) -> dict[str, Any]:
    """``null`` takes a setting back; the others stay."""
    if queue == EVERY_QUEUE:
        raise Invalid(404, [{"path": "queue", "message": "settings are said of one queue"}])
    call.desk.set_queue(queue, body.model_dump(include=body.model_fields_set))
    controls = {each.subject: each for each in call.tickwork.controls()}
    return _queue_told(call, queue, None, controls)


@operation("List limits and circuit breakers", "queues", answers={200: LimitsTold}, problems=(403,))
def list_limits(call: Call) -> dict[str, Any]:
    """As they stand: what is allowed and what is used."""
    if call.desk.tenant is not None:
        raise NotAllowed("limits are every tenant's: this needs access to all")
    return {"limits": [each.as_dict() for each in call.tickwork.limits()]}


@operation(
    "Close a circuit breaker",
    "queues",
    body=BreakerBody,
    answers={200: ActedTold},
    problems=(403, 404),
)
def reset_breaker(call: Call, body: BreakerBody) -> dict[str, Any]:
    """And forget what it counted; ``name`` as the limits tell it."""
    call.desk.reset_breaker(body.name)
    return {"success": True, "name": body.name}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)
