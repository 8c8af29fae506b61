"""An ERP for a laptop: takes orders, tells what lies in the warehouse, goes wrong when told to."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class FakeErp:
    """Serves while the block runs.

    orders: what it has, by its own ids
    keys: the key of every request for an order, also of those that it knew already
    stock: what lies in the warehouse, by SKU
    trouble: what happens to the next orders: `500`, `429` (later, in two minutes), `400` or
        `silence` (it has taken the order, and says nothing until the block ends)
    """

    def __init__(self, stock: dict[str, int] | None = None) -> None:
        self.orders: dict[str, dict[str, Any]] = {}
        self.keys: list[str] = []
        self.stock = stock or {}
        self.trouble: list[str] = []
        self._ids: dict[str, str] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        fake = self

        class Door(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                lying = [{"sku": sku, "onHand": count} for sku, count in fake.stock.items()]
                _answer(self, 200, {"products": lying})

            def do_POST(self) -> None:
                fake._take(self)

            def log_message(self, *_: object) -> None:
                """Not a line for each request."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _take(self, door: BaseHTTPRequestHandler) -> None:
        document = json.loads(door.rfile.read(int(door.headers["Content-Length"])))
        key = door.headers["Idempotency-Key"]
        with self._lock:
            self.keys.append(key)
            trouble = self.trouble.pop(0) if self.trouble else ""
            if trouble in ("500", "429", "400"):
                _answer(door, int(trouble), {"error": "not now"})
                return
            if key not in self._ids:
                self._ids[key] = f"erp-{len(self.orders) + 1}"
                self.orders[self._ids[key]] = document
        if trouble == "silence":
            self._over.wait()
        else:
            _answer(door, 201, {"id": self._ids[key]})

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()


def _answer(door: BaseHTTPRequestHandler, status: int, document: Any) -> None:
    body = json.dumps(document).encode()
    door.send_response(status)
    if status == 429:
        door.send_header("Retry-After", "120")
    door.send_header("Content-Length", str(len(body)))
    door.end_headers()
    door.wfile.write(body)
