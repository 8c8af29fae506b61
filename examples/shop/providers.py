"""Payment providers, as little of them as the shop needs: look, capture, cancel, refund.

    STRIPE_SECRET_KEY                      STRIPE_API_URL     https://api.stripe.com
    RAZORPAY_KEY_ID, RAZORPAY_KEY_SECRET   RAZORPAY_API_URL   https://api.razorpay.com

`fake_bank.py` speaks the same on a laptop and in tests; no card is charged there.
"""

from __future__ import annotations

import base64
import json
import os
from typing import Any, Final, Protocol
from urllib.parse import quote, urlencode

import urllib3

from .tables import CURRENCY

TIMEOUT_SECONDS = 10.0
STRIPE_STATES: Final = {"requires_capture": "authorised", "succeeded": "captured"}
RAZORPAY_STATES: Final = {
    "authorized": "authorised",
    "captured": "captured",
    "refunded": "given back",
    "failed": "failed",
}


class DeclinedError(Exception):
    """The provider said no; the same request would hear the same again."""


class OutcomeUnknownError(Exception):
    """No answer, or a server error: the money may have moved. Look, then ask with the same key."""


class Provider(Protocol):
    """Moves money that a customer has authorised elsewhere."""

    def look(self, payment_id: str) -> str:
        """Return `authorised`, `captured`, `given back`, or what the provider calls it."""
        ...

    def capture(self, payment_id: str, amount: int, key: str) -> None:
        """Take the authorised money, so many paise."""
        ...

    def cancel(self, payment_id: str, key: str) -> None:
        """Let money go that was authorised and not taken."""
        ...

    def refund(self, payment_id: str, amount: int, key: str) -> None:
        """Send so many captured paise back."""
        ...


def capture(name: str, payment_id: str, amount: int) -> None:
    """Capture a payment, unless that is done. Raises DeclinedError and OutcomeUnknownError."""
    provider = PROVIDERS[name]
    state = provider.look(payment_id)
    if state == "authorised":
        provider.capture(payment_id, amount, f"capture-{payment_id}")
    elif state != "captured":
        raise DeclinedError(f"the payment {payment_id} is {state}")


def give_back(name: str, payment_id: str, amount: int) -> None:
    """Cancel or refund a payment, unless that is done. Raises as `capture`."""
    provider = PROVIDERS[name]
    state = provider.look(payment_id)
    if state == "authorised":
        provider.cancel(payment_id, f"cancel-{payment_id}")
    elif state == "captured":
        provider.refund(payment_id, amount, f"refund-{payment_id}")
    elif state not in ("given back", "canceled"):
        raise DeclinedError(f"the payment {payment_id} is {state}")


class Stripe:
    """Its idempotency keys make a repeat harmless for at least 24 hours."""

    def look(self, payment_id: str) -> str:
        intent = self._ask("GET", f"payment_intents/{quote(payment_id)}?expand[]=latest_charge")
        if (intent.get("latest_charge") or {}).get("refunded"):
            return "given back"
        return STRIPE_STATES.get(intent["status"], intent["status"])

    def capture(self, payment_id: str, amount: int, key: str) -> None:
        path = f"payment_intents/{quote(payment_id)}/capture"
        self._ask("POST", path, key, {"amount_to_capture": str(amount)})

    def cancel(self, payment_id: str, key: str) -> None:
        self._ask("POST", f"payment_intents/{quote(payment_id)}/cancel", key)

    def refund(self, payment_id: str, amount: int, key: str) -> None:
        self._ask("POST", "refunds", key, {"payment_intent": payment_id, "amount": str(amount)})

    def _ask(
        self, method: str, path: str, key: str = "", fields: dict[str, str] | None = None
    ) -> Any:
        headers = {"Authorization": f"Bearer {_secret('STRIPE_SECRET_KEY')}"}
        if key:
            headers["Idempotency-Key"] = key
        base = os.environ.get("STRIPE_API_URL", "https://api.stripe.com")
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        return _ask(method, f"{base}/v1/{path}", headers, body=urlencode(fields or {}))


class Razorpay:
    """It takes a key for refunds alone; whoever captures twice is refused the second time."""

    def look(self, payment_id: str) -> str:
        payment = self._ask("GET", f"payments/{quote(payment_id)}")
        return RAZORPAY_STATES.get(payment["status"], payment["status"])

    def capture(self, payment_id: str, amount: int, key: str) -> None:
        body = {"amount": amount, "currency": CURRENCY}
        self._ask("POST", f"payments/{quote(payment_id)}/capture", body=body)

    def cancel(self, payment_id: str, key: str) -> None:
        """There is nothing to ask: it goes back by itself when nobody captures it."""

    def refund(self, payment_id: str, amount: int, key: str) -> None:
        self._ask("POST", f"payments/{quote(payment_id)}/refund", key, {"amount": amount})

    def _ask(self, method: str, path: str, key: str = "", body: Any = None) -> Any:
        pair = f"{_secret('RAZORPAY_KEY_ID')}:{_secret('RAZORPAY_KEY_SECRET')}"
        headers = {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
        if key:
            headers["X-Refund-Idempotency"] = key
        base = os.environ.get("RAZORPAY_API_URL", "https://api.razorpay.com")
        return _ask(method, f"{base}/v1/{path}", headers, json=body)


PROVIDERS: Final[dict[str, Provider]] = {"stripe": Stripe(), "razorpay": Razorpay()}


def _secret(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise OutcomeUnknownError(f"{name} is not set; set it, and the job will go on")
    return value


def _ask(method: str, url: str, headers: dict[str, str], **body: Any) -> Any:
    try:
        with urllib3.PoolManager(timeout=TIMEOUT_SECONDS) as pool:
            # What to repeat, and when, is the job's to say.
            answer = pool.request(method, url, headers=headers, retries=False, **body)
    except urllib3.exceptions.HTTPError as error:
        raise OutcomeUnknownError(f"no answer: {type(error).__name__}") from error
    if answer.status < 300:
        return json.loads(answer.data)
    said = f"the provider answered {answer.status}: {_reason(answer.data)}"
    # 409: a request with this key is still running. 429: too many of them. 401: mend the key.
    if answer.status >= 500 or answer.status in (401, 409, 429):
        raise OutcomeUnknownError(said)
    raise DeclinedError(said)


def _reason(body: bytes) -> str:
    try:
        error = json.loads(body)["error"]
        return str(error.get("message") or error["description"])[:200]
    except (ValueError, KeyError, TypeError, AttributeError):
        return "no reason given"
