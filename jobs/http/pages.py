"""The dashboard's routes. What draws a page is imported when the first page is asked for."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

from flask import Flask
from flask.typing import ResponseReturnValue

from jobs.http.access import Access, Role
from jobs.http.login import HOME_PATH
from jobs.system import Tickwork


class Page(NamedTuple):
    """A route: its view is the function ``view`` of ``jobs.http.dashboard.<module>``."""

    path: str
    module: str
    view: str
    role: Role | None = Role.VIEWER
    method: str = "GET"


LOOK, STEER, MANAGE = Role.VIEWER, Role.OPERATOR, Role.ADMIN
PAGES = (
    Page("", "overview", "show"),
    Page("/jobs", "listing", "show"),
    Page("/jobs/change", "bulk", "confirm", STEER),
    Page("/jobs/change", "bulk", "carry_out", STEER, "POST"),
    Page("/jobs/<job_id>", "detail", "show"),
    Page("/jobs/<job_id>/why", "detail", "why"),
    Page("/jobs/<job_id>/copy", "kinds", "copy", STEER),
    Page("/jobs/<job_id>/<action>", "detail", "act", STEER, "POST"),
    Page("/groups/<group_id>", "groups", "show"),
    Page("/failed", "failed", "show"),
    Page("/queues", "queues", "show"),
    Page("/queues/<name>", "queues", "one"),
    Page("/limits", "queues", "limits"),
    Page("/queues/<name>/<action>", "queues", "act", STEER, "POST"),
    Page("/alerts/<name>/acknowledge", "alerts", "acknowledge", STEER, "POST"),
    Page("/breakers/reset", "queues", "reset_breaker", STEER, "POST"),
    Page("/schedules", "schedules", "show"),
    Page("/schedules/<name>", "schedules", "one"),
    Page("/schedules/<name>/<action>", "schedules", "act", STEER, "POST"),
    Page("/metrics", "metrics", "show"),
    Page("/deliveries", "deliveries", "show"),
    Page("/kinds", "kinds", "show"),
    Page("/kinds/<kind>", "kinds", "one"),
    Page("/kinds/<kind>/enqueue", "kinds", "enqueue", STEER, "POST"),
    Page("/audit", "audit", "show"),
    Page("/system", "system", "show", MANAGE),
    Page("/settings", "looks", "keep", None, "POST"),
    Page("/login", "login", "show", None),
    Page("/static/<version>/<name>", "assets", "serve", None),
)


def install(app: Flask, tickwork: Tickwork, access: Access) -> None:
    """Add the routes; whoever may not see a page is sent to sign in."""
    for page in PAGES:
        view = _late(tickwork, page)
        if page.role is not None:
            view = access.guards(page.role, view, page=True)
        app.add_url_rule(
            f"{HOME_PATH}{page.path}",
            f"tickwork.dashboard.{page.module}.{page.view}",
            view,
            methods=[page.method],
            provide_automatic_options=False,
        )


def _late(tickwork: Tickwork, page: Page) -> Callable[..., ResponseReturnValue]:
    def view(**values: Any) -> ResponseReturnValue:
        from jobs.http.dashboard import desk  # late: Jinja's templates and what pages know

        module = import_module(f"jobs.http.dashboard.{page.module}")
        return desk.answer(tickwork, getattr(module, page.view), values)

    return view
