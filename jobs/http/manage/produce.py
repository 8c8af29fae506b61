"""Jobs from outside: ``POST /api/jobs``, and the paths that kinds bring for themselves."""

from __future__ import annotations

import hashlib
from typing import Any

from jobs.core.codec import decode, encode_payload
from jobs.core.errors import ConfigurationError
from jobs.core.job import Job
from jobs.core.payload import dump
from jobs.core.sealed import comparable
from jobs.http.manage.models import CreatedTold, NewJobBody
from jobs.http.manage.operations import Answer, Call, operation
from jobs.http.manage.words import told_now

_OPTIONS = (
    *("queue", "delay", "run_at", "priority", "dedupe_key", "dedupe_window", "max_attempts"),
    *("timeout", "expires_in", "concurrency_key", "job_id", "tenant"),
)


@operation(
    "Enqueue a job",
    "jobs",
    body=NewJobBody,
    answers={200: CreatedTold, 201: CreatedTold},
    problems=(403, 404, 413),
)
def create_job(call: Call, body: NewJobBody) -> Answer:
    """201 with the job, or 200 with the one that is there already (``existing``).

    Only kinds whose handler says ``api=True``. A request sent again with the same
    ``Idempotency-Key`` makes no second job as long as the first is kept.
    """
    options = {name: getattr(body, name) for name in _OPTIONS if getattr(body, name) is not None}
    return create(call, body.kind, body.payload, options)


def create(
    call: Call,
    kind: str,
    payload: dict[str, Any],
    options: dict[str, Any],
    *,
    on_own_path: bool = False,
) -> Answer:
    """Enqueue, once for each idempotency key."""
    if call.idempotency_key is not None and "job_id" not in options:
        digest = hashlib.sha256(f"{call.desk.by}\n{call.idempotency_key}".encode()).hexdigest()
        options["job_id"] = f"idempotency:{digest[:40]}"
    job = call.desk.enqueue(kind, payload, on_own_path=on_own_path, **options)
    if job.existing and call.idempotency_key is not None and not _is_same(call, job, kind, payload):
        raise ConfigurationError(
            "that Idempotency-Key came with another job before: a new job needs a new key"
        )
    document = told_now(call.desk, job)
    headers = {"Location": f"/api/jobs/{job.queue}/jobs/{job.id}"}
    return Answer(document, 200 if job.existing else 201, headers)


def _is_same(call: Call, job: Job, kind: str, payload: dict[str, Any]) -> bool:
    if job.kind != kind:
        return False
    handler = call.tickwork.registry.get(kind)
    most = call.tickwork.settings.payload_max_bytes
    plain = dump(payload, handler.payload_type, most)
    return bool(comparable(decode(encode_payload(plain, most))) == comparable(job.payload))
