"""On a laptop jobs run by themselves: the tables are made and the local runner is started.

Under ``flask run`` and ``tickwork serve`` at once; under any other server at the first request,
since only that tells a process that serves from one that merely imported the application (a
reloader's parent, a shell, a test: an application with ``testing`` on is left alone).
"""

from __future__ import annotations

import logging
import os
import threading

import click
from flask import Flask
from flask.helpers import get_debug_flag

from jobs.core.errors import ConfigurationError
from jobs.core.settings import mask_url, on_platform
from jobs.core.store import Capability
from jobs.runtime.local import is_local, should_auto_start
from jobs.system import Tickwork

log = logging.getLogger("tickwork")


def install(app: Flask, tickwork: Tickwork) -> None:
    """Prepare and start what this process should; elsewhere than on a laptop, nothing."""
    settings = tickwork.settings
    if not settings.is_development or on_platform(os.environ) or not _is_ours(tickwork):
        return
    if settings.backend == "sql" and is_local(settings):
        tickwork.create_schema()
    command = click.get_current_context(silent=True)
    name = None if command is None else command.command.name
    if command is not None and name == "run":
        reload = command.params.get("reload")
        _start(tickwork, reloading=get_debug_flag() if reload is None else reload)
    elif name == "serve":
        _start(tickwork, reloading=False)
    else:
        once = threading.Lock()

        @app.before_request
        def start_with_first_request() -> None:
            if not app.testing and once.acquire(blocking=False):
                _start(tickwork, reloading=False)


def _is_ours(tickwork: Tickwork) -> bool:
    """Whether the settings speak of the store: one brought ready-made may be any database."""
    durable = Capability.DURABLE in tickwork.store.capabilities
    return not (durable and tickwork.settings.backend == "memory")


def _start(tickwork: Tickwork, *, reloading: bool) -> None:
    settings = tickwork.settings
    if tickwork.is_running or not should_auto_start(settings, os.environ, reloading=reloading):
        return
    _show_log()
    try:
        tickwork.start()
    except ConfigurationError as error:
        log.warning("jobs run only when /cron/process-jobs is called: %s", error)
        return
    place = mask_url(settings.database_url) if settings.database_url else "memory"
    log.info(
        "jobs in %s run by themselves: a look every %g s, %d at once "
        "(JOBS_AUTO_START=0 turns this off)",
        place,
        settings.poll_interval,
        settings.stub_concurrency,
    )


def _show_log() -> None:
    """In a process whose logging nobody has set up, show ours, as Werkzeug does with its own."""
    if log.level == logging.NOTSET and not log.hasHandlers():
        log.setLevel(logging.INFO)
        log.addHandler(logging.StreamHandler())
