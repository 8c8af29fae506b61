"""The application: routes and manners around a Tickwork, made for a platform and for a laptop."""

from __future__ import annotations

from flask import Blueprint, Flask, Response

from jobs.http import (
    access,
    autostart,
    cron,
    ending,
    files,
    health,
    incoming,
    login,
    manage,
    metrics,
    pages,
    problems,
)
from jobs.http.access import Identify
from jobs.http.auth import Gatekeeper
from jobs.http.rules import LateRule
from jobs.system import Tickwork

MAX_BODY_BYTES = 1_048_576
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def create_app(tickwork: Tickwork | None = None, *, identify: Identify | None = None) -> Flask:
    """The Flask application that serves the tick of ``tickwork``, by default the environment's.

    A module with handlers (``JOBS_HANDLERS``) that defines a Flask Blueprint named ``blueprint``
    brings its routes along; they answer for their own protection. The system stands in
    ``app.extensions["tickwork"]``. In development jobs run by themselves: see
    :mod:`jobs.http.autostart`.

    ``identify(request)`` is the host application's own say in who manages jobs: an
    :class:`~jobs.http.access.Identity`, or ``None`` for nobody it knows.

    Raises :class:`~jobs.core.errors.ConfigurationError` if the environment describes no system.
    """
    tickwork = tickwork or Tickwork.from_env()
    settings = tickwork.settings
    app = Flask(__name__, static_folder=None)
    app.url_rule_class = LateRule
    app.extensions["tickwork"] = tickwork
    app.secret_key = settings.secret_key
    # Escaping may double a payload, and the largest one allowed must still get in.
    app.config["MAX_CONTENT_LENGTH"] = max(MAX_BODY_BYTES, 2 * settings.payload_max_bytes)
    # A platform's cron does not follow redirects: the job would silently do nothing.
    app.url_map.strict_slashes = app.url_map.merge_slashes = False
    app.json.sort_keys = False  # type: ignore[attr-defined]
    if not settings.is_development:
        app.debug = False  # FLASK_DEBUG may have been left on
    app.after_request(_add_headers)
    problems.install(app)
    health.install(app, tickwork)
    files.install(app, tickwork)
    busy, gatekeeper = ending.Busy(), Gatekeeper(settings)
    cron.install(app, tickwork, gatekeeper, busy)
    metrics.install(app, tickwork, gatekeeper)
    ending.install(tickwork, busy)
    incoming.install(app, tickwork)
    doors = access.install(app, tickwork, identify)
    login.install(app, tickwork, doors)
    manage.install(app, tickwork, doors)
    pages.install(app, tickwork, doors)
    _mount_blueprints(app, tickwork)
    autostart.install(app, tickwork)
    return app


def _add_headers(response: Response) -> Response:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def _mount_blueprints(app: Flask, tickwork: Tickwork) -> None:
    found = (getattr(module, "blueprint", None) for module in tickwork.modules)
    # Each once: a module may import another's.
    for blueprint in dict.fromkeys(each for each in found if isinstance(each, Blueprint)):
        app.register_blueprint(blueprint)
