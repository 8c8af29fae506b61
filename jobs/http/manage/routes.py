"""Every route of the management API, who may call it, and which view answers.

This table is all there is: the application's rules, the guards, the OpenAPI document and the tests
are made from it.
"""

from __future__ import annotations

from typing import NamedTuple

from jobs.core.access import Role

VIEWER, OPERATOR, ADMIN = Role.VIEWER, Role.OPERATOR, Role.ADMIN


class Route(NamedTuple):
    """``view`` is ``module:function`` in :mod:`jobs.http.manage`."""

    method: str
    path: str
    role: Role
    view: str
    is_page: bool = False

    @property
    def name(self) -> str:
        """The view's name, unique among the routes."""
        return self.view.partition(":")[2]

    @property
    def endpoint(self) -> str:
        """What the application calls it."""
        return f"tickwork.manage.{self.name}"


_JOBS, _JOB = "/api/jobs/<queue>/jobs", "/api/jobs/<queue>/jobs/<job_id>"
_ADMIN = "/api/admin"

ROUTES = (
    Route("POST", "/api/jobs", OPERATOR, "produce:create_job"),
    Route("GET", "/api/jobs/stats", VIEWER, "overview:stats"),
    Route("GET", "/api/jobs/monitoring", VIEWER, "overview:monitoring"),
    Route("POST", "/api/jobs/monitoring/retry", OPERATOR, "queues:retry_failed"),
    Route("GET", "/api/jobs/<queue>", VIEWER, "overview:queue"),
    Route("POST", "/api/jobs/<queue>", OPERATOR, "queues:act_on_queue"),
    Route("POST", "/api/jobs/<queue>/clean", OPERATOR, "queues:clean_queue"),
    Route("GET", _JOBS, VIEWER, "jobs:list_jobs"),
    Route("POST", f"{_JOBS}/bulk", OPERATOR, "jobs:act_on_jobs"),
    Route("GET", _JOB, VIEWER, "jobs:get_job"),
    Route("DELETE", _JOB, OPERATOR, "jobs:delete_job"),
    Route("GET", f"{_JOB}/why", VIEWER, "jobs:why_job"),
    Route("POST", f"{_JOB}/retry", OPERATOR, "jobs:retry_job"),
    Route("POST", f"{_JOB}/cancel", OPERATOR, "jobs:cancel_job"),
    Route("POST", f"{_JOB}/discard", OPERATOR, "jobs:discard_job"),
    Route("GET", f"{_ADMIN}/me", VIEWER, "overview:me"),
    Route("GET", f"{_ADMIN}/kinds", VIEWER, "overview:kinds"),
    Route("GET", f"{_ADMIN}/queues", VIEWER, "queues:list_queues"),
    Route("PATCH", f"{_ADMIN}/queues/<queue>", ADMIN, "queues:set_queue"),
    Route("GET", f"{_ADMIN}/limits", VIEWER, "queues:list_limits"),
    Route("POST", f"{_ADMIN}/breakers/reset", OPERATOR, "queues:reset_breaker"),
    Route("GET", f"{_ADMIN}/alerts", VIEWER, "alerts:list_alerts"),
    Route("POST", f"{_ADMIN}/alerts/<alert>/acknowledge", OPERATOR, "alerts:acknowledge_alert"),
    Route("GET", f"{_ADMIN}/schedules", VIEWER, "schedules:list_schedules"),
    Route("POST", f"{_ADMIN}/schedules", OPERATOR, "schedules:create_schedule"),
    Route("GET", f"{_ADMIN}/schedules/<name>", VIEWER, "schedules:get_schedule"),
    Route("PATCH", f"{_ADMIN}/schedules/<name>", OPERATOR, "schedules:edit_schedule"),
    Route("DELETE", f"{_ADMIN}/schedules/<name>", OPERATOR, "schedules:delete_schedule"),
    Route("GET", f"{_ADMIN}/schedules/<name>/next", VIEWER, "schedules:next_runs"),
    Route("POST", f"{_ADMIN}/schedules/<name>/enable", OPERATOR, "schedules:enable_schedule"),
    Route("POST", f"{_ADMIN}/schedules/<name>/disable", OPERATOR, "schedules:disable_schedule"),
    Route("POST", f"{_ADMIN}/schedules/<name>/run", OPERATOR, "schedules:run_schedule"),
    Route("GET", f"{_ADMIN}/tokens", ADMIN, "tokens:list_tokens"),
    Route("POST", f"{_ADMIN}/tokens", ADMIN, "tokens:create_token"),
    Route("DELETE", f"{_ADMIN}/tokens/<token_id>", ADMIN, "tokens:revoke_token"),
    Route("GET", f"{_ADMIN}/audit", ADMIN, "tokens:list_audit"),
    Route("GET", "/openapi.json", VIEWER, "openapi:document"),
    Route("GET", "/api/explorer", VIEWER, "openapi:explorer", is_page=True),
)
