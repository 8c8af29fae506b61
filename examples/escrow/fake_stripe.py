"""A Stripe for a laptop: holds, captures and cancels in memory, and goes wrong when it is told to.

It keeps to what the real one promises of idempotency keys: the first answer to a key is the answer.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

_AFTER = {"capture": "succeeded", "cancel": "canceled"}


class FakeStripe:
    """Serves while the block runs.

    intents: the state of each PaymentIntent, `requires_capture` to begin with
    moved: each time that money moved, as `(verb, intent)`
    trouble: what happens to the next requests: `decline`, `hang up` (after the money has moved) or
        `500` (before); an empty list is a good day
    """

    def __init__(self) -> None:
        self.intents: dict[str, str] = {}
        self.moved: list[tuple[str, str]] = []
        self.trouble: list[str] = []
        self._answers: dict[str, tuple[int, dict[str, Any]]] = {}
        self._lock = threading.Lock()
        fake = self

        class Door(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                fake._serve(self)

            def log_message(self, *_: object) -> None:
                """Not a line for each request."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def hold(self, intent: str) -> None:
        """A buyer's card was authorised; the money waits."""
        self.intents[intent] = "requires_capture"

    def _serve(self, door: BaseHTTPRequestHandler) -> None:
        *_, intent, verb = door.path.split("/")
        key = door.headers["Idempotency-Key"]
        with self._lock:
            trouble = self.trouble.pop(0) if self.trouble else ""
            if trouble == "500":
                status, document = 500, _error("something broke")
            else:
                if key not in self._answers:
                    self._answers[key] = self._move(intent, verb, trouble == "decline")
                status, document = self._answers[key]
        if trouble == "hang up":
            return  # the money has moved, and nobody hears of it
        body = json.dumps(document).encode()
        door.send_response(status)
        door.send_header("Content-Length", str(len(body)))
        door.end_headers()
        door.wfile.write(body)

    def _move(self, intent: str, verb: str, declined: bool) -> tuple[int, dict[str, Any]]:
        if self.intents.get(intent) != "requires_capture":
            return 400, _error(f"{intent} is {self.intents.get(intent, 'unknown')}")
        if declined:
            return 402, _error("Your card was declined.")
        self.intents[intent] = _AFTER[verb]
        self.moved.append((verb, intent))
        return 200, {"id": intent, "status": _AFTER[verb]}

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message}}
