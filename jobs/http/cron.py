"""The tick over HTTP: ``/cron/process-jobs``, and the two endpoints of forerunners beside it."""

from __future__ import annotations

import re
import threading
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from flask import Flask, Request, g, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, ServiceUnavailable

from jobs.core.chain import CHAIN_HEADER, KICK_AGENT
from jobs.core.deadline import start_seconds, until_deadline
from jobs.core.job import TERMINAL, Job, State
from jobs.http.auth import Gatekeeper
from jobs.http.deadline import deadline_of
from jobs.http.ending import Busy
from jobs.http.problems import RETRY_AFTER_SECONDS
from jobs.ops import sentry
from jobs.runtime.tick import TickResult
from jobs.system import Tickwork

LIMIT_MIN, LIMIT_MAX = 1, 1000
SEED_LIMIT = 10
SAMPLE = 10
# Ticks at once in this process. Each may run JOBS_CONCURRENCY jobs and use one or two of the pool's
# connections, so a burst of calls must not become as many ticks; the others wait, in their budget.
TICKS_AT_ONCE = 4
CRON_AGENT = "vercel-cron/"


def install(app: Flask, tickwork: Tickwork, gatekeeper: Gatekeeper, busy: Busy) -> None:
    """Serve the ticks of ``tickwork`` to those whom ``gatekeeper`` lets in, counted by ``busy``."""
    ticks = Ticks(tickwork, busy)
    app.before_request(ticks.note_beginning)
    for path, name, view in (
        ("/cron/process-jobs", "tick", ticks.process_jobs),
        ("/api/cron/process-export-jobs", "export_tick", ticks.process_export_jobs),
        ("/api/jobs/process", "batch", ticks.process),
    ):
        app.add_url_rule(
            path,
            f"tickwork.{name}",
            gatekeeper.guards(view),
            methods=["GET", "POST"],
            provide_automatic_options=False,
        )
    for rule in app.url_map.iter_rules():
        # A GET rule takes HEAD as well, and a question about a page must not run jobs.
        if rule.endpoint.startswith("tickwork.") and rule.methods and "POST" in rule.methods:
            rule.methods.discard("HEAD")


class Ticks:
    """The views. Callers prove themselves before any of them is called."""

    def __init__(self, tickwork: Tickwork, busy: Busy) -> None:
        self._tickwork = tickwork
        self._busy = busy
        self._gate = threading.BoundedSemaphore(TICKS_AT_ONCE)

    def note_beginning(self) -> None:
        """The platform's clock runs from here, so the time budget does too."""
        g.begun = self._tickwork.clock.monotonic()

    def process_jobs(self) -> ResponseReturnValue:
        """``GET|POST /cron/process-jobs?limit=``: one tick."""
        if (request.content_length or 0) > (request.max_content_length or 0):
            raise RequestEntityTooLarge
        return self._tick(_limit_of_query()).as_dict()

    def process_export_jobs(self) -> ResponseReturnValue:
        """``/api/cron/process-export-jobs``: one tick of ten, in the answer of its first users."""
        result = self._tick(SEED_LIMIT)
        return {"processed": result.processed, "jobs": list(result.jobs)}

    def process(self) -> ResponseReturnValue:
        """``/api/jobs/process``: POST asks for a batch; GET is the platform's cron, or a look."""
        if request.method == "POST":
            return self._tick(_limit_of_body()).as_dict()
        if request.user_agent.string.startswith(CRON_AGENT):
            return self._tick(SEED_LIMIT).as_dict()
        return self._stats()

    def _tick(self, limit: int | None) -> TickResult:
        begun: float = g.begun
        tickwork, settings = self._tickwork, self._tickwork.settings
        gone = tickwork.clock.monotonic() - begun
        tick_limit = until_deadline(
            settings.tick_limit, gone, datetime.now(UTC), deadline_of(request)
        )
        # A shorter tick leaves its last jobs as much of its time to end, up to a half.
        room = settings.tick_limit - settings.time_budget
        time_budget = min(settings.time_budget, start_seconds(tick_limit, room))
        if not self._gate.acquire(timeout=max(0.0, time_budget - gone)):
            raise ServiceUnavailable(
                f"{TICKS_AT_ONCE} ticks are running here already.", retry_after=RETRY_AFTER_SECONDS
            )
        try:
            with self._busy:
                result = tickwork.tick(
                    limit=limit,
                    time_budget=time_budget,
                    tick_limit=tick_limit,
                    begun=begun,
                    look_ahead=True,
                    trigger=_trigger(request),
                )
                tickwork.go_on(result, request.headers.get(CHAIN_HEADER))
                return result
        finally:
            self._gate.release()
            sentry.flush()

    def _stats(self) -> dict[str, Any]:
        waiting: Counter[str] = Counter(dict.fromkeys(self._tickwork.registry.kinds, 0))
        dead = 0
        for (_queue, kind, state), count in self._tickwork.counts().items():
            if state == State.FAILED:
                dead += count
            elif state not in TERMINAL:
                waiting[kind] += count
        sample = self._tickwork.list(state=State.FAILED, limit=SAMPLE) if dead else []
        return {
            "stats": {**dict(sorted(waiting.items())), "dead_letter": dead},
            "deadLetterCount": dead,
            "deadLetterSample": [_dead_letter(job) for job in sample],
        }


def _trigger(asking: Request) -> str:
    """What called: a tick before this one, a commit, or else some cron."""
    if CHAIN_HEADER in asking.headers:
        return "chain"
    return "kick" if asking.user_agent.string == KICK_AGENT else "cron"


def _dead_letter(job: Job) -> dict[str, Any]:
    # Without the payload: a look at what failed is not a look at somebody's data.
    return {
        "id": job.id,
        "type": job.kind,
        "lastError": job.error,
        "attemptCount": job.attempts,
        "maxAttempts": job.max_attempts,
        "failedAt": job.finished_at.isoformat() if job.finished_at else None,
    }


def _limit_of_query() -> int | None:
    given = request.args.getlist("limit")
    if not given:
        return None
    if len(given) > 1 or not re.fullmatch(r"[0-9]{1,9}", given[0]):
        raise BadRequest(_limit_problem())
    return _within(int(given[0]))


def _limit_of_body() -> int:
    try:
        # The first users' `curl -d` names no content type.
        body = request.get_json(force=True, silent=True)
    except RecursionError:
        raise BadRequest("The body is nested too deeply.") from None
    if not isinstance(body, dict) or body.get("action") != "process-batch":
        raise BadRequest('The body is {"action": "process-batch", "limit": 10}; no other action.')
    limit = body.get("limit", SEED_LIMIT)
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise BadRequest(_limit_problem())
    return _within(limit)


def _within(limit: int) -> int:
    if not LIMIT_MIN <= limit <= LIMIT_MAX:
        raise BadRequest(_limit_problem())
    return limit


def _limit_problem() -> str:
    return f"`limit` is one whole number from {LIMIT_MIN} to {LIMIT_MAX}."
