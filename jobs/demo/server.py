"""The server of the demo: the real application, on a free port of this machine alone.

    python -m jobs.demo.server < pipe

It prints its port as one line, and ends when its input does: so it cannot outlive the demo, however
that ends.
"""

from __future__ import annotations

import logging
import sys
import threading

from werkzeug.serving import WSGIRequestHandler, make_server

from jobs.http import create_app

PORT_LINE = "listening on port "
log = logging.getLogger("jobs.demo.server")


class _Plain(WSGIRequestHandler):
    """Logs a request as one line, in a file where colours would be noise."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        log.info("%r %s", self.requestline, code)


def main() -> None:
    """Serve until the input ends."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )
    # `api/index.py`, which Vercel runs, is these same two words; it is not in the wheel.
    app = create_app()
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Plain)
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    sys.stdout.write(f"{PORT_LINE}{server.port}\n")
    sys.stdout.flush()
    try:
        sys.stdin.read()
    except KeyboardInterrupt:
        log.info("interrupted")
    server.shutdown()
    server.server_close()
    app.extensions["tickwork"].close()


if __name__ == "__main__":
    main()
