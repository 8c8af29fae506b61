"""Signatures of webhooks, one way for those that are sent and those that come.

Two schemes, both HMAC-SHA256:

    standard   Standard Webhooks: base64 over `<id>.<timestamp>.<body>`; a secret `whsec_...` is
               base64 of the key, any other is the key itself
    stamped    hex over `<timestamp>.<body>`, as Stripe has it; the key is the secret as it is
               written

Pure: bytes in, text out. https://www.standardwebhooks.com
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable
from typing import Final

PREFIX: Final = "whsec_"


def key_of(secret: str) -> bytes:
    """The key that a secret stands for, in the standard scheme.

    Raises ValueError for a `whsec_` secret that is not base64.
    """
    if secret.startswith(PREFIX):
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    return _bytes(secret)


def sign_standard(secret: str, message_id: str, sent_at: int, body: bytes) -> str:
    """The `webhook-signature` of a message: `v1,` and the digest in base64.

    secret: `whsec_...` or any other
    message_id: the `webhook-id`
    sent_at: the `webhook-timestamp`, Unix seconds
    body: the bytes that are sent
    """
    signed = b"%s.%d.%s" % (_bytes(message_id), sent_at, body)
    return "v1," + base64.b64encode(digest(key_of(secret), signed)).decode()


def sign_stamped(secret: str, sent_at: int, body: bytes) -> str:
    """Hex over `<timestamp>.<body>`; parameters as of `sign_standard`."""
    return digest(_bytes(secret), b"%d.%s" % (sent_at, body)).hex()


def digest(key: bytes, signed: bytes) -> bytes:
    """HMAC-SHA256."""
    return hmac.new(key, signed, hashlib.sha256).digest()


def is_one_of(presented: Iterable[str], expected: Iterable[str]) -> bool:
    """Whether a signature that came is one that was expected.

    All pairs are compared, each in constant time and as bytes, so that the time taken does not tell
    how near one was; a header may hold any characters.
    """
    wanted = [_bytes(each) for each in expected]
    same = [hmac.compare_digest(_bytes(each), want) for each in presented for want in wanted]
    return any(same)


def _bytes(text: str) -> bytes:
    # An environment may hold any bytes.
    return text.encode("utf-8", "surrogateescape")
