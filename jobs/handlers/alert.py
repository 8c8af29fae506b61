"""The job kind `alert`: something that an organisation's people should know.

    queue_alert(organization_id="456", alert_type="DATA_ANOMALY", severity="HIGH",
                message="Revenue dropped 50% from yesterday",
                metadata={"metric": "revenue", "change": -50})

It is delivered by every channel that is set (`JOBS_ALERT_WEBHOOK_URL`, `JOBS_ALERT_SLACK_URL`,
`JOBS_ALERT_EMAIL`; see `alerting.py`) and given to every function declared with `@alert_hook`.
Each of them is remembered once it has it, so one that is down is tried again alone. A runner that
dies in between may repeat one, with the same `webhook-id` or Message-ID.

Every severity goes out at once and none is gathered: a gathered alert would need a second queue to
be lost in. HIGH and CRITICAL have priority 1, MEDIUM 3, LOW 5.

The system's own alerts (a failure rate, a tick that does not come) are another thing: they have a
state and are raised by rules. This kind carries what an application has to say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, Unpack

from jobs.core.backoff import exponential
from jobs.core.context import JobContext
from jobs.core.errors import ConfigurationError, Discard, PayloadError
from jobs.core.names import check_kind
from jobs.core.redact import Redactor
from jobs.core.registry import handler
from jobs.handlers.alerting import deliver
from jobs.handlers.errors import HandlerError, PermanentError
from jobs.handlers.queueing import enqueue
from jobs.runtime.enqueue import EnqueueOptions

if TYPE_CHECKING:
    from jobs.core.job import Job

QUEUE: Final = "alerts"
PRIORITIES: Final = {"LOW": 5, "MEDIUM": 3, "HIGH": 1, "CRITICAL": 1}
_MOST_LINES: Final = 20
_LINE_CHARACTERS: Final = 300
_HOOK: Final = "hook:"


@dataclass(frozen=True)
class Alert:
    """The payload of the kind; the names are forerunners'."""

    organizationId: str  # noqa: N815
    alertType: str  # noqa: N815
    severity: Literal["LOW", "MEDIUM", "HIGH", "CRITICAL"]
    message: str
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("alertType", "message"):
            if not getattr(self, name).strip():
                raise PayloadError(f"$.{name}", "is empty")


AlertHook = Callable[[Alert, str], object]
HOOKS: Final[dict[str, AlertHook]] = {}


class AlertNotDelivered(HandlerError):
    """Some channels do not have the alert yet."""


def alert_hook(name: str) -> Callable[[AlertHook], AlertHook]:
    """Declare a function that is given every alert: it may write a row, or page somebody.

    name: how results and errors call it
    Returns the decorator. The function takes the Alert and a key that is the same at every attempt.
    """
    check_kind(name)

    def declare(function: AlertHook) -> AlertHook:
        HOOKS[name] = function
        return function

    return declare


@handler(
    "alert",
    queue=QUEUE,
    max_attempts=8,
    backoff=exponential(10, factor=3),
    timeout=30,
    log_context=["organizationId", "alertType", "severity"],
)
def alert(payload: Alert, ctx: JobContext) -> dict[str, Any]:
    """Deliver by each channel that has not had it; `{"delivered": [...], "refused": {...}}`."""
    if ctx.tenant not in ("", payload.organizationId):
        raise Discard("organizationId is not the tenant that this job belongs to")
    channels = [*ctx.settings.alert_channels, *(f"{_HOOK}{name}" for name in HOOKS)]
    if not channels:
        raise Discard(
            "nobody hears alerts here: set JOBS_ALERT_WEBHOOK_URL, JOBS_ALERT_SLACK_URL or "
            "JOBS_ALERT_EMAIL, or declare an @alert_hook; then retry this job"
        )
    state = ctx.state or {"delivered": [], "refused": {}, "since": datetime.now(UTC).isoformat()}
    failures: dict[str, Exception] = {}
    for channel in channels:
        if channel in state["delivered"] or channel in state["refused"]:
            continue
        try:
            _deliver(channel, payload, state["since"], ctx)
        except PermanentError as error:
            state["refused"][channel] = str(error)
        except Exception as error:  # noqa: BLE001 - one that is down keeps back no other
            failures[channel] = error
            continue
        else:
            state["delivered"].append(channel)
        ctx.checkpoint(state=state)
    if failures:
        first = next(iter(failures.values()))
        listed = "; ".join(f"{channel}: {error}" for channel, error in failures.items())
        raise AlertNotDelivered(listed) from first
    if not state["delivered"]:
        listed = "; ".join(f"{channel}: {why}" for channel, why in state["refused"].items())
        raise Discard(f"no channel took the alert: {listed}")
    return {"delivered": state["delivered"], "refused": state["refused"]}


def _deliver(channel: str, payload: Alert, since: str, ctx: JobContext) -> None:
    if channel.startswith(_HOOK):
        HOOKS[channel.removeprefix(_HOOK)](payload, ctx.idempotency_key)
    else:
        deliver(channel, _as_change(payload, since, ctx), ctx.settings, ctx.idempotency_key)


def _as_change(payload: Alert, since: str, ctx: JobContext) -> dict[str, Any]:
    """The alert in the shape that the channels know."""
    shown = Redactor(ctx.settings.redact).value(payload.metadata)
    lines = [f"{name}: {value}"[:_LINE_CHARACTERS] for name, value in shown.items()]
    return {
        **asdict(payload),
        "metadata": shown,
        "level": payload.severity.lower(),
        "name": payload.alertType,
        "subject": payload.organizationId,
        "words": "\n".join([payload.message, *lines[:_MOST_LINES]]),
        "since": since,
    }


# --- producers


class AlertOptions(EnqueueOptions, total=False):
    """What `queue_alert` takes: the payload, and the options of `enqueue`."""

    organization_id: str
    alert_type: str
    severity: Literal["LOW", "MEDIUM", "HIGH", "CRITICAL"]
    message: str
    metadata: Mapping[str, Any]


def queue_alert(*, session: Any = None, tickwork: Any = None, **said: Unpack[AlertOptions]) -> Job:
    """Enqueue an alert, as urgent as its severity, and return its job.

    session: the caller's SQLAlchemy session or connection; the job commits with it or not at all
    tickwork: the system; the one that this module is registered with if not given
    said: the fields of Alert in snake case, and the options of `Tickwork.enqueue`;
        `organization_id` is the tenant
    Raises PayloadError for a mistake in the fields, ConfigurationError for one in the options.
    """
    severity = said.get("severity")
    if severity not in PRIORITIES:
        raise ConfigurationError(f"severity is one of {', '.join(PRIORITIES)}, not {severity!r}")
    urgent: Any = {"priority": PRIORITIES[severity], **said}
    return enqueue(alert, urgent, session=session, tickwork=tickwork)
