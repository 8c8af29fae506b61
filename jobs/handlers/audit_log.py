"""The job kind `audit_log_created`: an application's own act, into the audit log.

    tickwork.enqueue("audit_log_created", {
        "action": "escrow.released", "actor": "ann@example.com", "subject": "esc-123",
        "organizationId": "org1", "reason": "both sides agreed",
    }, session=session)                       # committed with what it tells of, or not at all

The entry stands once, however often the job runs: its id is the job's. It shows in `tickwork audit`
and `GET /api/admin/audit`, is kept for a year, and holds no details. A function declared with
`@audit_sink` gets the entries instead, details included, to write them where you keep yours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa

from jobs.core.access import LABEL_MAX_CHARS, REASON_MAX_CHARS, SUBJECT_MAX_CHARS, NewChange
from jobs.core.backoff import exponential
from jobs.core.codec import clean_text
from jobs.core.context import JobContext
from jobs.core.errors import ConfigurationError, Discard, PayloadError
from jobs.core.names import check_kind
from jobs.core.registry import handler


@dataclass(frozen=True)
class AuditLogCreated:
    """The payload of the kind.

    action: a word such as `escrow.released`
    actor: who did it
    subject: what it was done to
    organizationId: whose that is; the job's tenant where there is one
    reason: one line
    details: any JSON, for an `@audit_sink` alone
    """

    action: str
    actor: str
    subject: str
    organizationId: str | None = None  # noqa: N815 - forerunners' name
    reason: str | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            check_kind(self.action)
        except ConfigurationError:
            raise PayloadError(
                "$.action", "is a word of ASCII letters, digits and _ . : @ + -, up to 100"
            ) from None
        most = {"actor": LABEL_MAX_CHARS, "subject": SUBJECT_MAX_CHARS, "reason": REASON_MAX_CHARS}
        for name, characters in most.items():
            text = getattr(self, name)
            if text is not None and not 0 < len(text) <= characters:
                raise PayloadError(f"$.{name}", f"is text of 1 to {characters} characters")


@dataclass(frozen=True)
class AuditEntry:
    """What a sink is given. `id` is the same at every attempt: make it unique where you write."""

    id: str
    tenant: str | None
    entry: AuditLogCreated


AuditSink = Callable[[AuditEntry], object]
SINKS: Final[list[AuditSink]] = []


def audit_sink(function: AuditSink) -> AuditSink:
    """Declare the function that writes entries. Raises ConfigurationError for a second one."""
    if SINKS and _place(SINKS[0]) != _place(function):
        raise ConfigurationError(f"there is an audit sink already: {_place(SINKS[0])}")
    SINKS[:] = [function]
    return function


def _place(function: AuditSink) -> str:
    return f"{function.__module__}.{getattr(function, '__qualname__', repr(function))}"


@handler(
    "audit_log_created",
    queue="audit",
    max_attempts=3,
    backoff=exponential(2),
    timeout=30,
    log_context=["action", "subject"],
)
def audit_log_created(payload: AuditLogCreated, ctx: JobContext) -> str:
    """Write the entry, unless an earlier attempt did."""
    if ctx.tenant and payload.organizationId not in (None, ctx.tenant):
        raise Discard("organizationId is not the tenant that this job belongs to")
    tenant = ctx.tenant or payload.organizationId
    if SINKS:
        SINKS[0](AuditEntry(ctx.job_id, tenant, payload))
        return "given to the sink"
    if payload.details:
        raise Discard("the audit log keeps no details: declare an @audit_sink, or leave them out")
    change = NewChange(
        ctx.job_id,
        clean_text(payload.actor),
        payload.action,
        clean_text(payload.subject),
        tenant,
        reason=None if payload.reason is None else clean_text(payload.reason),
    )
    try:
        audit_log_created.system.store.note_changes([change])
    except sa.exc.IntegrityError:
        return "was written before"  # its id is taken: by an attempt whose end was lost
    return "written"
