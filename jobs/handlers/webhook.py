"""The job kind `webhook`: a signed POST to somebody else's URL.

    queue_webhook(url="https://api.example.com/hooks", payload={"event": "incident.created"},
                  secret="...", event_type="incident.created", organization_id="org-1")

Name this module in JOBS_HANDLERS; `POST /api/jobs/webhooks` enqueues over HTTP. The body is the
payload as JSON, and the bytes that are signed are those that are sent. Headers:

    webhook-id                            the job's id, the same at every attempt
    webhook-timestamp                     when this attempt was sent, Unix seconds
    webhook-signature                     Standard Webhooks: v1,<base64>, one for each secret
    x-webhook-timestamp, -signature       hex over "<timestamp>.<body>", one for each secret
    x-webhook-event                       the event's type

What comes of it stands on the job: the result, or each attempt's error with the answer's beginning.
"""

from __future__ import annotations

import datetime as dt
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from jobs.core.backoff import exponential
from jobs.core.codec import cut, encode
from jobs.core.context import JobContext
from jobs.core.errors import ConfigurationError, Discard, PayloadError, Retry
from jobs.core.job import Job
from jobs.core.limits import Breaker
from jobs.core.masking import mask
from jobs.core.names import KEY_MAX_CHARS
from jobs.core.registry import handler
from jobs.handlers import webhook_secrets
from jobs.handlers.answers import Meaning, meaning_of, retry_after
from jobs.handlers.dialing import BODY_SECONDS, EXCERPT_BYTES, post
from jobs.handlers.errors import DeliveryFailed, PermanentError, SecretError, TargetRefused
from jobs.handlers.signing import sign_stamped, sign_standard
from jobs.handlers.targets import Allowed, check_target, read_target

TIMEOUT_SECONDS: Final = 30.0
ANSWER_SECONDS: Final = 20.0
"""Until the answer's head must be there; connecting and sending included."""
BACKOFF: Final = exponential(10, factor=5)
_EVENT = re.compile(r"[!-~]{1,100}")
_FIELDS: Final = ("url", "payload", "secret", "eventType")


@dataclass(frozen=True)
class Webhook:
    """The payload of the kind `webhook`.

    url: where to, https unless JOBS_WEBHOOK_ALLOW says otherwise
    payload: what is sent, any JSON
    secret: encrypted, or `env:WEBHOOK_SECRET_...`; made by `queue_webhook`, never in the clear
    eventType: visible ASCII, as `incident.created`
    organizationId: whose it is
    """

    url: str
    payload: Any
    secret: Any
    eventType: str | None = None  # noqa: N815 - the names that callers of forerunners send
    organizationId: str | None = None  # noqa: N815

    def __post_init__(self) -> None:
        if self.eventType is not None and not _EVENT.fullmatch(self.eventType):
            raise ValueError("eventType is visible ASCII of 1 to 100 characters, without spaces")
        try:
            read_target(self.url)
            webhook_secrets.check_kept(self.secret)
        except (TargetRefused, SecretError) as error:
            raise ValueError(str(error)) from None

    @property
    def host(self) -> str:
        """The host of the URL: what a circuit breaker stands for, and what logs show."""
        return read_target(self.url).host


def _host(request: Webhook) -> str:
    return request.host[-KEY_MAX_CHARS:]


@handler(
    "webhook",
    queue="webhooks",
    max_attempts=5,
    backoff=BACKOFF,
    timeout=TIMEOUT_SECONDS,
    concurrency_key=_host,
    breaker=Breaker(per_key=True),
    log_context=lambda request: {"host": request.host, "eventType": request.eventType},
)
def webhook(request: Webhook, ctx: JobContext) -> dict[str, Any]:
    """Deliver once; raises `Discard` for what no retry can mend, else leaves it to the backoff."""
    began = time.monotonic()
    try:
        secrets = webhook_secrets.secrets_of(request.secret, request.url, ctx.settings)
        body = encode(request.payload, ctx.settings.payload_max_bytes).encode()
        headers = signed_headers(request, body, secrets, ctx.idempotency_key, int(time.time()))
        answer = post(
            read_target(request.url),
            body,
            headers,
            allowed=Allowed.of(ctx.settings.webhook_allow),
            seconds=min(ANSWER_SECONDS, max(ctx.time_left() - BODY_SECONDS - 1, 1)),
        )
    except PermanentError as error:
        raise Discard(str(error)) from error
    except DeliveryFailed as error:
        _note(ctx, request, began, error=str(error))
        raise
    told = {
        "status": answer.status,
        "duration_ms": _note(ctx, request, began, status=answer.status),
        # Some echo what they were sent.
        "answer": cut(mask(answer.excerpt, secrets), EXCERPT_BYTES),
    }
    if meaning_of(answer.status) is not Meaning.DELIVERED:
        raise _failure(request.host, told, answer.retry_after, ctx.attempt)
    return told


def signed_headers(
    request: Webhook, body: bytes, secrets: Sequence[str], message_id: str, sent_at: int
) -> dict[str, str]:
    """The headers of a delivery.

    body: the bytes that are sent
    secrets: what signs, the newest first
    message_id: the same at every attempt
    sent_at: Unix seconds
    """
    stamp = str(sent_at)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "tickwork-webhooks",
        "webhook-id": message_id,
        "webhook-timestamp": stamp,
        "webhook-signature": " ".join(
            sign_standard(secret, message_id, sent_at, body) for secret in secrets
        ),
        "x-webhook-timestamp": stamp,
        "x-webhook-signature": ",".join(sign_stamped(secret, sent_at, body) for secret in secrets),
    }
    if request.eventType is not None:
        headers["x-webhook-event"] = request.eventType
    return headers


def _failure(host: str, told: dict[str, Any], asked: str | None, attempt: int) -> Exception:
    """What to raise for an answer that is no yes; its first line says what and not why."""
    said = f"{host} answered {told['status']} after {told['duration_ms']} ms"
    if told["answer"]:
        said += f"\n{told['answer']}"
    meaning = meaning_of(told["status"])
    if meaning is Meaning.GONE:
        return Discard(f"the receiver wants no more, take its URL off the list: {said}")
    if meaning is Meaning.REFUSED:
        return Discard(said)
    seconds = retry_after(asked, dt.datetime.now(dt.UTC))
    if seconds is None:
        return DeliveryFailed(said)
    # Never sooner than without being asked: "in a second" would soon have used all attempts.
    return Retry(said, after=max(seconds, BACKOFF.delay(attempt)))


def _note(ctx: JobContext, request: Webhook, began: float, **fields: Any) -> int:
    took_ms = round((time.monotonic() - began) * 1000)
    ctx.log(
        "webhook sent" if "status" in fields else "webhook not sent",
        host=request.host,
        eventType=request.eventType,
        durationMs=took_ms,
        **fields,
    )
    return took_ms


# --- enqueueing


def queue_webhook(
    *,
    url: str,
    payload: Any,
    secret: str | Sequence[str],
    event_type: str | None = None,
    organization_id: str | None = None,
    tickwork: Any = None,
    **options: Any,
) -> Job:
    """Enqueue a webhook.

    url: where to
    payload: what to send, any JSON
    secret: what signs it, encrypted before it is kept; a list of two while one replaces the other
        (the new one first); or `env:WEBHOOK_SECRET_...`
    event_type: told in `x-webhook-event`
    organization_id: the job's tenant
    tickwork: by default the system that the kind is registered with
    options: those of `Tickwork.enqueue`, `session` among them
    Raises PayloadError for what cannot be sent: the URL, the secret, the payload.
    """
    system = tickwork if tickwork is not None else webhook.system
    if system is None:
        raise ConfigurationError(
            "the kind webhook belongs to no Tickwork yet: name jobs.handlers.webhook in "
            "JOBS_HANDLERS"
        )
    made = _payload(url, payload, secret, system.settings)
    made |= {"eventType": event_type} if event_type is not None else {}
    if organization_id is not None:
        made["organizationId"] = organization_id
        options.setdefault("tenant", organization_id)
    job: Job = system.enqueue(webhook.kind, made, **options)
    return job


def _payload(url: object, payload: object, secret: object, settings: Any) -> dict[str, Any]:
    try:
        target = read_target(url)
        check_target(target, Allowed.of(settings.webhook_allow))
    except TargetRefused as error:
        raise PayloadError("$.url", str(error)) from None
    try:
        sealed = webhook_secrets.kept(secret, str(url), settings)
    except SecretError as error:
        raise PayloadError("$.secret", str(error)) from None
    return {"url": url, "payload": payload, "secret": sealed}


def produce_webhook(body: Mapping[str, Any]) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """`POST /api/jobs/webhooks`: `{url, payload, secret, eventType}`.

    A caller names no variable of this server: whose secret it holds, nobody could say.
    Raises PayloadError with the field that does not fit.
    """
    for name in body:
        if name not in _FIELDS:
            raise PayloadError(f"$.{name}", f"no such field; there are {', '.join(_FIELDS)}")
    for name in ("url", "payload", "secret"):
        if body.get(name) is None:
            raise PayloadError(f"$.{name}", "is required")
    if isinstance(body["secret"], str) and body["secret"].startswith(webhook_secrets.REFERENCE):
        raise PayloadError("$.secret", "is the secret itself; variables are named in code alone")
    made = _payload(body["url"], body["payload"], body["secret"], webhook.system.settings)
    if body.get("eventType") is not None:
        made["eventType"] = body["eventType"]
    return webhook.kind, made, {}


producers = {"webhooks": produce_webhook}
