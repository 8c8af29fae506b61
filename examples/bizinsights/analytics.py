"""A connector of its own: Google Analytics is asked by POST, with a query in the body."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import urllib3

from jobs.handlers.sync import (
    AuthRefused,
    Credentials,
    Page,
    PlatformDown,
    PlatformRefused,
    RateLimited,
)

_FIRST_DAY: Final = "2015-08-14"  # the API knows none before
_LATER_SECONDS: Final = 60.0
_TIMEOUT: Final = urllib3.Timeout(connect=10, read=20)


@dataclass(frozen=True)
class GoogleAnalytics:
    """Sessions by day: `runReport` of the Data API.

    url: of the property, as in `https://analyticsdata.googleapis.com/v1beta/properties/123`
    page_rows: how many days a page has
    """

    url: str
    credentials: Credentials
    page_rows: int = 1_000

    def page(self, cursor: str | None, since: datetime | None, until: datetime | None) -> Page:
        """Ask for a page; its cursor is how many rows came before. See Connector."""
        offset = int(cursor or 0)
        document = self._ask(
            {
                "dateRanges": [
                    {
                        "startDate": since.date().isoformat() if since else _FIRST_DAY,
                        "endDate": until.date().isoformat() if until else "today",
                    }
                ],
                "dimensions": [{"name": "date"}],
                "metrics": [{"name": "sessions"}],
                "orderBys": [{"dimension": {"dimensionName": "date"}}],
                "limit": self.page_rows,
                "offset": offset,
            }
        )
        rows, total = document.get("rows", []), document.get("rowCount", 0)
        after = offset + len(rows)
        return Page(rows, str(after) if rows and after < total else None, total)

    def _ask(self, query: dict[str, Any]) -> dict[str, Any]:
        try:
            with urllib3.PoolManager(timeout=_TIMEOUT) as pool:
                answer = pool.request(
                    "POST",
                    f"{self.url}:runReport",
                    body=json.dumps(query),
                    headers={"Content-Type": "application/json", **self.credentials.headers()},
                    redirect=False,
                    retries=False,
                )
        except urllib3.exceptions.HTTPError as error:
            raise PlatformDown(
                f"Google Analytics cannot be reached: {type(error).__name__}"
            ) from None
        said = f"Google Analytics answered {answer.status}"
        match answer.status:
            case 200:
                return self._read(answer.data)
            case 401 | 403:
                raise AuthRefused(said)
            case 429:
                seconds = answer.headers.get("retry-after", "")
                raise RateLimited(said, float(seconds) if seconds.isdigit() else _LATER_SECONDS)
            case status if 400 <= status < 500:
                raise PlatformRefused(said)
        raise PlatformDown(said)

    def _read(self, body: bytes) -> dict[str, Any]:
        try:
            found = json.loads(body)
        except ValueError:
            raise PlatformDown("Google Analytics sent no JSON") from None
        if not isinstance(found, dict):
            raise PlatformDown("Google Analytics sent no object")
        return found
