"""``tickwork serve``: the real application on a development server."""

from __future__ import annotations

import logging
import os
import signal
import time
from typing import TYPE_CHECKING

import click

from jobs.cli.base import Command
from jobs.cli.system import import_from_here
from jobs.cli.text import say
from jobs.system import Tickwork

if TYPE_CHECKING:
    from jobs.http.ending import Busy

# What platforms and service managers give a process between SIGTERM and SIGKILL is 10 s or more.
GRACE_SECONDS = 10.0


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

    With --dev and no DATABASE_URL, jobs live in memory. At SIGTERM or Ctrl-C no more jobs start,
    and what runs has 10 seconds to end; a second one leaves at once.
    """
    if dev:
        # For the modules with handlers as well: they ask the environment themselves.
        os.environ["JOBS_ENV"] = "development"
    import_from_here()
    logging.getLogger().setLevel(logging.INFO)  # a server shows what it does
    from werkzeug.serving import WSGIRequestHandler, make_server

    from jobs.http import create_app  # late: only this command needs Flask
    from jobs.http.ending import Busy

    requests = Busy()  # the server's threads are nobody's to join

    class Handler(WSGIRequestHandler):
        def run_wsgi(self) -> None:
            with requests:
                super().run_wsgi()

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
    _finish(app.extensions["tickwork"], requests)


def _finish(tickwork: Tickwork, requests: Busy) -> None:
    """Let what runs end, within the grace; a thread cannot be ended, its row is left to its lease.

    The threads are daemons: the process ends with or without them.
    """
    try:
        tickwork.stop_starting()
        if tickwork.is_running or not requests.wait(0):
            say(
                f"Waiting up to {GRACE_SECONDS:g} s for what runs; Ctrl-C again leaves at once.",
                err=True,
            )
        over_at = time.monotonic() + GRACE_SECONDS
        ended = tickwork.stop(GRACE_SECONDS) and requests.wait(over_at - time.monotonic())
    except (KeyboardInterrupt, SystemExit):
        ended = False
    if ended:
        tickwork.close()
    else:
        say("Left what still runs: it is run again when its lease is over.", err=True)


def _end_at_sigterm() -> None:
    def end(*_: object) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
