"""``/metrics`` for Prometheus: closed to all but those who bring a secret."""

from __future__ import annotations

import threading
from http import HTTPStatus

from flask import Flask, Response, request
from flask.typing import ResponseReturnValue

from jobs.core.settings import Settings
from jobs.http.auth import Gatekeeper, bearer_is_one_of, unauthorized, usable_secrets
from jobs.http.problems import problem
from jobs.system import Tickwork


def install(app: Flask, tickwork: Tickwork, gatekeeper: Gatekeeper) -> None:
    """Serve ``/metrics`` of ``tickwork``."""
    app.add_url_rule(
        "/metrics",
        "tickwork.metrics",
        Metrics(tickwork, gatekeeper),
        provide_automatic_options=False,
    )


class Metrics:
    """The view. What it needs is loaded when somebody scrapes."""

    __name__ = "metrics"

    def __init__(self, tickwork: Tickwork, gatekeeper: Gatekeeper) -> None:
        self._tickwork = tickwork
        self._gatekeeper = gatekeeper
        self._readers = readers_of(tickwork.settings)
        self._lock = threading.Lock()

    def __call__(self) -> ResponseReturnValue:
        """The metrics as text, in the format that the scraper asks for."""
        refused = self._refusal()
        if refused is not None:
            return refused
        try:
            from jobs.ops.metrics import exposition  # late: only those who are scraped need it
        except ModuleNotFoundError:
            return problem(
                HTTPStatus.NOT_IMPLEMENTED,
                "This server has no prometheus_client: pip install 'tickwork[metrics]'.",
            )
        # One scrape at a time: each reads a bounded part of the tables, many at once would not be.
        with self._lock:
            text, content_type = exposition(
                self._tickwork.store,
                self._tickwork.registry.kinds,
                self._tickwork.settings.tick_every,
                request.headers.get("Accept", ""),
            )
        return Response(text, content_type=content_type)

    def _refusal(self) -> Response | None:
        if bearer_is_one_of(request, self._readers):
            return None
        # Whoever may run a tick may read; where only a reader's secret is set, nobody else may.
        if self._readers and not self._gatekeeper.has_secrets:
            return unauthorized()
        return self._gatekeeper.refusal(request)


def readers_of(settings: Settings) -> list[bytes]:
    """The secrets that let somebody read the metrics, besides that of the tick."""
    named = {"METRICS_TOKEN": settings.metrics_token, "ADMIN_TOKEN": settings.admin_token}
    return usable_secrets(named)
