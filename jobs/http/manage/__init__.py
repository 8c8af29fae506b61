"""The management API: a table of routes, and views that are loaded with the first call.

A deployment that only ticks pays for the table alone: pydantic and the views come when somebody
manages something.
"""

from __future__ import annotations

from collections.abc import Callable

from flask import Flask
from flask.typing import ResponseReturnValue
from werkzeug.routing import BaseConverter

from jobs.core.names import EVERY_QUEUE, RESERVED_QUEUES
from jobs.http.access import Access
from jobs.http.manage.routes import ROUTES, Route
from jobs.system import Tickwork

_WORDS = "|".join(sorted(RESERVED_QUEUES - {EVERY_QUEUE}))


class QueueConverter(BaseConverter):
    """A queue's name in a path: the reserved words lead to routes of their own, or nowhere."""

    regex = rf"(?!(?:{_WORDS})\Z)[^/]+"


def install(app: Flask, tickwork: Tickwork, access: Access) -> None:
    """Serve the routes of :data:`~jobs.http.manage.routes.ROUTES` to whom ``access`` lets in."""
    app.url_map.converters["queue"] = QueueConverter
    for route in ROUTES:
        view = access.guards(route.role, _late(tickwork, route), page=route.is_page)
        app.add_url_rule(
            route.path.replace("<queue>", "<queue:queue>"),
            route.endpoint,
            view,
            methods=[route.method],
            provide_automatic_options=False,
        )


def _late(tickwork: Tickwork, route: Route) -> Callable[..., ResponseReturnValue]:
    def view(**path: str) -> ResponseReturnValue:
        from jobs.http.manage.dispatch import (
            respond,  # late: what a deployment that ticks needs not
        )

        return respond(tickwork, route, path)

    view.__name__ = route.name
    return view
