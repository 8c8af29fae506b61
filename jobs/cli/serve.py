"""``tickwork serve``: the real application on a development server."""

from __future__ import annotations

import logging
import os
import signal
from typing import Any

import click

from jobs.cli.base import Command
from jobs.cli.system import import_from_here
from jobs.cli.text import say


@click.command(cls=Command)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=8000,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@click.option("--dev", is_flag=True, help="JOBS_ENV=development: jobs run by themselves.")
def serve(host: str, port: int, dev: bool) -> None:
    """Serve the application over HTTP.

    With --dev and no DATABASE_URL, jobs live in memory.
    """
    if dev:
        # For the modules with handlers as well: they ask the environment themselves.
        os.environ["JOBS_ENV"] = "development"
    import_from_here()
    logging.getLogger().setLevel(logging.INFO)  # a server shows what it does
    from werkzeug.serving import WSGIRequestHandler, make_server

    from jobs.http import create_app  # late: only this command needs Flask

    class Handler(WSGIRequestHandler):
        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            self.log("info", '"%s" %s', self.requestline, code)  # without Werkzeug's colours

    app = create_app()
    server = make_server(host, port, app, threaded=True, request_handler=Handler)
    shown = f"[{host}]" if ":" in host else host
    _end_at_sigterm()
    try:
        say(f"Serving on http://{shown}:{server.port} (Ctrl-C ends it)", err=True)
        if not dev:
            say("This is not a production server: deploy api/index.py, or use gunicorn.", err=True)
        server.serve_forever()
    except (KeyboardInterrupt, SystemExit):
        say(err=True)  # after the terminal's ^C
    finally:
        server.server_close()
    say("Ending.", err=True)
    _finish(app)


def _finish(app: Any) -> None:
    tickwork = app.extensions["tickwork"]
    if tickwork.is_running:
        say("Waiting for the jobs that run; Ctrl-C again leaves at once.", err=True)
        try:
            tickwork.stop()
        except (KeyboardInterrupt, SystemExit):
            return
    tickwork.close()


def _end_at_sigterm() -> None:
    def end(*_: object) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
