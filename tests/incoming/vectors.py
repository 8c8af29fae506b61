"""What providers send.

GitHub's and Standard Webhooks' are of their documentation; the others were signed by openssl:

    printf '1614265330.{"id":...}' | openssl dgst -sha256 -hmac 'whsec_test_secret_of_stripe'
"""

from __future__ import annotations

from typing import NamedTuple

AT = 1614265330


class Vector(NamedTuple):
    """One request; ``at`` is AT."""

    provider: str
    secret: str
    body: bytes
    signature_header: str
    headers: dict[str, str]


VECTORS = (
    Vector(
        "stripe",
        "whsec_test_secret_of_stripe",
        b'{"id":"evt_1","type":"payment_intent.succeeded"}',
        "stripe-signature",
        {
            "stripe-signature": "t=1614265330,"
            "v1=6208a032e24f310b4a9c781cf01087cf9c633688ced7d4cf7942533cbaf2b1cd"
        },
    ),
    Vector(
        "shopify",
        "hush-this-is-shopify",
        b'{"id":820982911946154508,"name":"#1001"}',
        "x-shopify-hmac-sha256",
        {
            "x-shopify-hmac-sha256": "d5Q7cteeh178wgab/1va3mdb/csZvlUR+zRxzOfhB/w=",
            "x-shopify-topic": "orders/create",
            "x-shopify-webhook-id": "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043",
        },
    ),
    Vector(
        "razorpay",
        "razorpay-secret-0001",
        b'{"event":"payment.captured","created_at":1400826760}',
        "x-razorpay-signature",
        {
            "x-razorpay-signature": "6624abdc941be41216bb7e7322d00ac5"
            "88c7eb58a860246aad055164b75ca154",
            "x-razorpay-event-id": "evt_rzp_1",
        },
    ),
    Vector(
        "github",
        "It's a Secret to Everybody",
        b"Hello, World!",
        "x-hub-signature-256",
        {
            "x-hub-signature-256": "sha256="
            "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
            "x-github-event": "push",
            "x-github-delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        },
    ),
    Vector(
        "standard",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        b'{"test": 2432232314}',
        "webhook-signature",
        {
            "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "webhook-timestamp": "1614265330",
            "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        },
    ),
)
