"""Deliveries: mails, webhooks and alerts that were sent, or were to be; the jobs are their log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from flask import Response, request

from jobs.core.job import Job
from jobs.core.look import ALERT_KIND
from jobs.http.dashboard.asked import Asked
from jobs.http.dashboard.desk import Desk
from jobs.http.dashboard.listing import draw

# Kinds of the batteries, by what people call what they send, and the modules that bring them.
SENT = {"email": "Mail", "webhook": "Webhooks", ALERT_KIND: "Alerts"}
BROUGHT_BY = {
    "email": "name jobs.handlers.email in JOBS_HANDLERS",
    "webhook": "name jobs.handlers.webhook in JOBS_HANDLERS",
    ALERT_KIND: "set a channel, such as JOBS_ALERT_EMAIL",
}
RECEIVERS_SHOWN = 3


class Delivery(NamedTuple):
    """Where a job was to deliver to, and what the other side said."""

    receiver: str
    answer: str


def show(desk: Desk) -> Response:
    """``GET /deliveries``: those of one kind, newest first."""
    known = [kind for kind in SENT if kind in desk.tickwork.registry.kinds]
    kind = request.args.get("kind", "")
    kind = kind if kind in SENT else next(iter(known), "email")
    asked = Asked.of({**request.args.to_dict(), "kind": kind})
    return draw(
        desk,
        asked,
        "deliveries.html",
        path="/deliveries",
        sent=SENT,
        is_known=kind in known,
        brought_by=BROUGHT_BY[kind],
        delivery=lambda job: delivery_of(desk, job),
    )


def delivery_of(desk: Desk, job: Job) -> Delivery:
    """A job as a delivery."""
    payload = desk.redacted(job.payload, job.kind)
    return Delivery(receiver_of(payload), answer_of(desk.redacted(job.result, job.kind)))


def receiver_of(payload: Mapping[str, Any]) -> str:
    """Addresses, the host of a URL (its path may be a secret), or a channel.

    >>> receiver_of({"url": "https://hooks.example/T0/B1"}), receiver_of({"to": ["a@x", "b@x"]})
    ('hooks.example', 'a@x, b@x')
    """
    to, url = payload.get("to"), payload.get("url")
    if isinstance(url, str):
        return _host(url)
    if isinstance(to, str):
        return to
    if isinstance(to, list):
        shown = ", ".join(str(each) for each in to[:RECEIVERS_SHOWN])
        rest = len(to) - RECEIVERS_SHOWN
        return f"{shown} and {rest} more" if rest > 0 else shown
    channel = payload.get("channel")
    return channel if isinstance(channel, str) else ""


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def answer_of(result: Any) -> str:
    """What a result says of the delivery.

    >>> answer_of({"transport": "smtp", "message_id": "<1@x.io>"}), answer_of({"status": 204})
    ('smtp <1@x.io>', '204')
    """
    if isinstance(result, str):
        return result
    if not isinstance(result, Mapping):
        return ""
    said = [result.get(name) for name in ("status", "transport", "message_id")]
    return " ".join(str(each) for each in said if each not in (None, ""))
