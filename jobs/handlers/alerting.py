"""Delivers an alert: by signed webhook, by a Slack-compatible webhook, or by mail.

The job kind `tickwork.alert` carries one change of one alert to one channel, so that a channel that
is down keeps back nothing of the others. It is registered where a channel is set:

    JOBS_ALERT_WEBHOOK_URL, JOBS_ALERT_WEBHOOK_SECRET    signed as Standard Webhooks has it
    JOBS_ALERT_SLACK_URL                                 takes {"text": ...}: Slack, Mattermost, ...
    JOBS_ALERT_EMAIL                                     addresses; SMTP_URL and EMAIL_FROM send it

A delivery can arrive twice, when a runner dies between sending it and writing that down. The
`webhook-id`, and the mail's Message-ID, are the job's at every attempt.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from jobs.core.backoff import exponential
from jobs.core.context import JobContext
from jobs.core.errors import Discard
from jobs.core.look import ALERT_KIND, OWN_QUEUE, STORE_UNREACHABLE
from jobs.core.registry import Handler
from jobs.handlers.answers import Meaning, meaning_of
from jobs.handlers.errors import DeliveryFailed, DeliveryRefused, PermanentError
from jobs.handlers.mail.message import Mail
from jobs.handlers.mail.send import MailSettings, send_mail
from jobs.handlers.signing import sign_standard

TIMEOUT_SECONDS = 10.0


class AlertSettings(MailSettings, Protocol):
    """What delivering needs to know; the project's settings have it."""

    @property
    def alert_webhook_url(self) -> str | None: ...
    @property
    def alert_webhook_secret(self) -> str | None: ...
    @property
    def alert_slack_url(self) -> str | None: ...
    @property
    def alert_email(self) -> tuple[str, ...]: ...
    @property
    def namespace(self) -> str: ...


def alert_handler() -> Handler:
    """The handler of the kind, to be registered with one system."""
    return Handler(
        kind=ALERT_KIND,
        function=deliver_alert,
        queue=OWN_QUEUE,
        priority=1,
        max_attempts=8,
        backoff=exponential(10, factor=3),
        timeout=30,
    )


def deliver_alert(payload: dict[str, Any], ctx: JobContext) -> str:
    """Deliver what the payload says by the channel that it names."""
    try:
        deliver(payload["channel"], payload["alert"], ctx.settings, ctx.idempotency_key)
    except PermanentError as error:
        raise Discard(str(error)) from error
    return f"delivered by {payload['channel']}"


def deliver(
    channel: str, alert: Mapping[str, Any], settings: AlertSettings, delivery_id: str
) -> None:
    """Deliver one change of an alert by ``webhook``, ``slack`` or ``email``.

    alert: what `Change.as_dict()` gave
    delivery_id: the same at every attempt to deliver this
    Raises DeliveryRefused when a retry cannot help, DeliveryFailed when it can; mail raises as
    `send_mail` does.
    """
    senders: dict[str, Callable[..., None]] = {
        "webhook": _by_webhook,
        "slack": _by_slack,
        "email": _by_mail,
    }
    if channel not in senders:
        raise DeliveryRefused(f"there is no channel {channel!r:.40}")
    senders[channel](alert, settings, delivery_id)


def _by_webhook(alert: Mapping[str, Any], settings: AlertSettings, delivery_id: str) -> None:
    url, secret = settings.alert_webhook_url, settings.alert_webhook_secret
    if not url or not secret:
        raise DeliveryRefused("JOBS_ALERT_WEBHOOK_URL and its secret are not set any more")
    sent_at = int(time.time())
    document = {
        "type": f"alert.{alert['level']}",
        "timestamp": alert["since"],
        "data": {**alert, "namespace": settings.namespace},
    }
    body = json.dumps(document).encode()
    headers = {
        "webhook-id": delivery_id,
        "webhook-timestamp": str(sent_at),
        "webhook-signature": sign_standard(secret, delivery_id, sent_at, body),
    }
    _post("the webhook", url, body, headers)


def _by_slack(alert: Mapping[str, Any], settings: AlertSettings, delivery_id: str) -> None:
    if not settings.alert_slack_url:
        raise DeliveryRefused("JOBS_ALERT_SLACK_URL is not set any more")
    text = _subject(alert, settings) + "\n" + _plain(alert)
    # What such a text would take for a mention or a link: names come from whoever enqueues.
    for character, written in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(character, written)
    _post("the Slack webhook", settings.alert_slack_url, json.dumps({"text": text}).encode(), {})


def _by_mail(alert: Mapping[str, Any], settings: AlertSettings, delivery_id: str) -> None:
    if not settings.alert_email:
        raise DeliveryRefused("JOBS_ALERT_EMAIL is not set any more")
    mail = Mail(
        to=list(settings.alert_email),
        subject=_subject(alert, settings),
        text=_plain(alert) + "\n",
        idempotency_key=f"alert:{delivery_id}",
    )
    send_mail(mail, settings)


def _subject(alert: Mapping[str, Any], settings: AlertSettings) -> str:
    place = f"Tickwork {settings.namespace}".strip()
    level = "over" if alert["level"] == "ok" else str(alert["level"])
    subject = f" ({alert['subject']})" if alert.get("subject") else ""
    return f"[{place}] {level}: {alert['name']}{subject}"


def _plain(alert: Mapping[str, Any]) -> str:
    lines = [str(alert["words"]), f"Since {alert['since']}."]
    # Only the system's own alerts have a state, which somebody can acknowledge.
    is_own = "organizationId" not in alert and alert["name"] != STORE_UNREACHABLE
    if alert["level"] != "ok" and is_own:
        lines.append(f"Acknowledge it with: tickwork alerts ack {alert['name']} --by NAME")
    return "\n".join(lines)


def _post(what: str, url: str, body: bytes, headers: Mapping[str, str]) -> None:
    """The URL is in no message: whoever knows it can post there."""
    import urllib3  # late: only where something is delivered

    content = {"Content-Type": "application/json", "User-Agent": "tickwork-alerts", **headers}
    try:
        with urllib3.PoolManager(timeout=TIMEOUT_SECONDS) as pool:
            answer = pool.request(
                "POST", url, body=body, headers=content, redirect=False, retries=False
            )
    except urllib3.exceptions.HTTPError as error:
        raise DeliveryFailed(f"{what} cannot be reached: {type(error).__name__}") from None
    meaning = meaning_of(answer.status)
    if meaning is Meaning.DELIVERED:
        return
    said = f"{what} answered {answer.status}"
    raise DeliveryFailed(said) if meaning is Meaning.LATER else DeliveryRefused(said)
