"""Dead letters: failed jobs in groups by kind and error, and one by one."""

from __future__ import annotations

from flask import Response, request

from jobs.core.failures import grouped
from jobs.http.dashboard.asked import Asked
from jobs.http.dashboard.desk import Desk
from jobs.http.dashboard.listing import draw

LOOKED_AT = 2000


def show(desk: Desk) -> Response:
    """``GET /failed``."""
    asked = Asked.of({**request.args.to_dict(), "state": "failed"})
    failures = desk.store.failures(LOOKED_AT, desk.tenant)
    return draw(
        desk,
        asked,
        "failed.html",
        groups=grouped(failures),
        looked_at=LOOKED_AT if len(failures) >= LOOKED_AT else None,
    )
