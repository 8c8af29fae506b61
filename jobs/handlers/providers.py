"""Who sends webhooks, and how each of them proves it. Pure: headers and bytes in, an event out.

    stripe     Stripe-Signature: t=...,v1=...   hex over "<t>.<body>", at most five minutes old
    shopify    X-Shopify-Hmac-Sha256            base64 over the body
    razorpay   X-Razorpay-Signature             hex over the body
    github     X-Hub-Signature-256: sha256=...  hex over the body
    standard   webhook-id, -timestamp, -signature (Standard Webhooks), at most five minutes old

Where only the body is signed, the headers with the event's id and type are proved by TLS alone.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from jobs.handlers.errors import SignatureRefused
from jobs.handlers.signing import digest, is_one_of, sign_stamped, sign_standard

TOLERANCE_SECONDS: Final = 300
_STAMP = re.compile(r"[0-9]{1,12}")
# A header with thousands of signatures is no signature.
_MOST_SIGNATURES: Final = 10


class Arrived(NamedTuple):
    """A request: header names in lower case, the body as it came, and when (Unix seconds)."""

    headers: Mapping[str, str]
    body: bytes
    at: float

    def header(self, name: str) -> str:
        """A header that must be there. Raises SignatureRefused."""
        value = self.headers.get(name, "").strip()
        if not value:
            raise SignatureRefused(f"it has no header {name}")
        return value


# What was signed with: returns the signature as it came, or raises SignatureRefused.
Verify = Callable[[Arrived, Sequence[str]], str]
# From the request and its JSON to the event's type or id; "" where it has none.
Read = Callable[[Arrived, Any], str]


@dataclass(frozen=True, slots=True)
class Provider:
    """Somebody who sends webhooks.

    name: as in the path, `/webhooks/<name>`, and in `@on_webhook(name)`
    verify: raises SignatureRefused for what is not theirs
    event_type, event_id: where they say those
    """

    name: str
    verify: Verify
    event_type: Read
    event_id: Read

    @property
    def setting(self) -> str:
        """The settings' field with its secrets; they come from the variable of `variable`."""
        return f"{self.name}_webhook_secrets"

    @property
    def variable(self) -> str:
        """The variable of its secrets, comma-separated while one replaces the other."""
        return f"{self.name.upper()}_WEBHOOK_SECRET"


def key_of_event(provider: Provider, arrived: Arrived, document: Any) -> str:
    """What is the same of two deliveries of one event: its id, else a digest of the body."""
    found = provider.event_id(arrived, document)
    if found and len(found) <= 150 and found.isprintable() and found == found.strip():
        return found
    return "sha256:" + hashlib.sha256(found.encode("utf-8", "replace") or arrived.body).hexdigest()


def _stripe(arrived: Arrived, secrets: Sequence[str]) -> str:
    signature = arrived.header("stripe-signature")
    pairs = [part.strip().partition("=") for part in signature.split(",")]
    stamp = next((value for name, _, value in pairs if name == "t"), "")
    _check_stamp(stamp, arrived.at)
    presented = [value for name, _, value in pairs if name == "v1"]
    _check(presented, [sign_stamped(secret, int(stamp), arrived.body) for secret in secrets])
    return signature


def _standard(arrived: Arrived, secrets: Sequence[str]) -> str:
    message_id, stamp = arrived.header("webhook-id"), arrived.header("webhook-timestamp")
    signature = arrived.header("webhook-signature")
    _check_stamp(stamp, arrived.at)
    expected = [sign_standard(each, message_id, int(stamp), arrived.body) for each in secrets]
    _check(signature.split(), expected)
    return signature


def _over_body(header: str, written: Callable[[bytes], str]) -> Verify:
    def verify(arrived: Arrived, secrets: Sequence[str]) -> str:
        signature = arrived.header(header)
        keys = (secret.encode("utf-8", "surrogateescape") for secret in secrets)
        _check([signature], [written(digest(key, arrived.body)) for key in keys])
        return signature

    return verify


def _check_stamp(stamp: str, at: float) -> None:
    if not _STAMP.fullmatch(stamp):
        raise SignatureRefused("it has no timestamp")
    if abs(at - int(stamp)) > TOLERANCE_SECONDS:
        raise SignatureRefused(
            f"its timestamp is more than {TOLERANCE_SECONDS} seconds away: it is replayed, or a "
            "clock is wrong"
        )


def _check(presented: Sequence[str], expected: Sequence[str]) -> None:
    if not is_one_of(presented[:_MOST_SIGNATURES], expected):
        raise SignatureRefused("its signature is of another secret, or of another body")


def _header(name: str) -> Read:
    return lambda arrived, _: arrived.headers.get(name, "").strip()


def _member(name: str) -> Read:
    def read(_: Arrived, document: Any) -> str:
        value = document.get(name) if isinstance(document, dict) else None
        return value if isinstance(value, str) else ""

    return read


PROVIDERS: Final[Mapping[str, Provider]] = {
    each.name: each
    for each in (
        Provider("stripe", _stripe, _member("type"), _member("id")),
        Provider(
            "shopify",
            _over_body("x-shopify-hmac-sha256", lambda mac: base64.b64encode(mac).decode()),
            _header("x-shopify-topic"),
            _header("x-shopify-webhook-id"),
        ),
        Provider(
            "razorpay",
            _over_body("x-razorpay-signature", bytes.hex),
            _member("event"),
            _header("x-razorpay-event-id"),
        ),
        Provider(
            "github",
            _over_body("x-hub-signature-256", lambda mac: f"sha256={mac.hex()}"),
            _header("x-github-event"),
            _header("x-github-delivery"),
        ),
        Provider("standard", _standard, _member("type"), _header("webhook-id")),
    )
}
