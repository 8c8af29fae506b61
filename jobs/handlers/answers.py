"""What the answer of an HTTP receiver means for a delivery, and when to try again. Pure rules."""

from __future__ import annotations

import datetime as dt
import re
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final

LONGEST_WAIT_SECONDS: Final = 3600.0
"""No `Retry-After` puts a delivery off for longer."""
# Answers of 4xx that another attempt may mend: timeout, too early, too many.
_PASSING: Final = frozenset({408, 425, 429})
_SECONDS = re.compile(r"\d{1,9}")


class Meaning(StrEnum):
    """What an answer says."""

    DELIVERED = "delivered"
    LATER = "later"
    GONE = "gone"
    REFUSED = "refused"


def meaning_of(status: int) -> Meaning:
    """What a status says: 2xx delivered; 410 gone, for good and for all that is sent there; other
    4xx refused for good, but for 408, 425 and 429; every other later, redirects among them: they
    are not followed, and often are a door that is shut for an hour."""
    if 200 <= status < 300:
        return Meaning.DELIVERED
    if status == 410:
        return Meaning.GONE
    if 400 <= status < 500 and status not in _PASSING:
        return Meaning.REFUSED
    return Meaning.LATER


def retry_after(header: str | None, now: dt.datetime) -> float | None:
    """Seconds to wait by a `Retry-After`, 0 to LONGEST_WAIT_SECONDS; None if it says nothing.

    header: seconds, or an HTTP date (RFC 9110, 10.2.3)
    now: with an offset
    """
    text = (header or "").strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), LONGEST_WAIT_SECONDS)
    try:
        until = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=dt.UTC)
    return min(max((until - now).total_seconds(), 0.0), LONGEST_WAIT_SECONDS)
