"""The payment provider, as little of it as an escrow needs.

    STRIPE_SECRET_KEY    the key; there is no default
    STRIPE_API_URL       https://api.stripe.com, or a fake's URL

`fake_stripe.py` speaks the same on a laptop and in tests; no card is charged there.
"""

from __future__ import annotations

import json
import os

import urllib3

TIMEOUT_SECONDS = 10.0


class DeclinedError(Exception):
    """The provider said no, and a repeat of the same request would hear the same."""


class OutcomeUnknownError(Exception):
    """No answer, or a server error: the money may have moved. Ask again with the same key."""


def move_money(action: str, intent: str, idempotency_key: str) -> None:
    """Capture the held money (`release`), or let it go back (`refund`).

    Money that was only authorised goes back by cancelling: there is no charge to refund yet.

    intent: the id of the PaymentIntent, made with `capture_method=manual`
    idempotency_key: with the same key the provider moves money once and repeats its answer
    """
    verb = {"release": "capture", "refund": "cancel"}[action]
    key = os.environ.get("STRIPE_SECRET_KEY")
    if not key:
        raise OutcomeUnknownError("STRIPE_SECRET_KEY is not set; set it, and the job will go on")
    base = os.environ.get("STRIPE_API_URL", "https://api.stripe.com")
    try:
        with urllib3.PoolManager(timeout=TIMEOUT_SECONDS) as pool:
            answer = pool.request(
                "POST",
                f"{base}/v1/payment_intents/{intent}/{verb}",
                headers={"Authorization": f"Bearer {key}", "Idempotency-Key": idempotency_key},
                retries=False,  # what to repeat, and when, is the job's to say
            )
    except urllib3.exceptions.HTTPError as error:
        raise OutcomeUnknownError(f"Stripe did not answer: {type(error).__name__}") from error
    if answer.status < 300:
        return
    said = f"Stripe answered {answer.status}: {_message(answer.data)}"
    # 409: a request with this key is still running. 429: too many of them. 401: mend the key.
    if answer.status >= 500 or answer.status in (401, 409, 429):
        raise OutcomeUnknownError(said)
    raise DeclinedError(said)


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])[:200]
    except (ValueError, KeyError, TypeError):
        return "no reason given"
