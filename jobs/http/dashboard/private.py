"""What pages show of data: without what keys call a secret, and without passwords in texts."""

from __future__ import annotations

import re
from typing import Any

HIDDEN = "(hidden)"
_SECRET_KEY = re.compile(
    r"passw(?:or)?d|passphrase|secret|token|authorization|api[-_ ]?key|private[-_ ]?key|cookie"
    r"|credential|\bpin\b|\bcvv\b|iban|card[-_ ]?number",
    re.IGNORECASE,
)
_URL_PASSWORD = re.compile(r"(://[^\s/@:]*):[^\s/]*@")


def redacted(value: Any) -> Any:
    """A value of JSON without the secrets in it, at whatever depth."""
    if isinstance(value, dict):
        return {
            key: HIDDEN if _SECRET_KEY.search(str(key)) and each is not None else redacted(each)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [redacted(each) for each in value]
    return masked(value) if isinstance(value, str) else value


def masked(text: str | None) -> str:
    """A text without the passwords of the addresses in it."""
    return _URL_PASSWORD.sub(r"\1:***@", text or "")
