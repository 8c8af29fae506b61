"""Stripe and Razorpay for a laptop: they hold, capture, refund and list, and fail when told to.

All of it is in memory; no card is charged. Stripe, and Razorpay's refunds, keep to their keys: the
first answer to a key is the answer. Razorpay's captures have none, and a second one is refused.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs

_STRIPE = {"authorised": "requires_capture", "captured": "succeeded", "refunded": "succeeded"}
_RAZORPAY = {"authorised": "authorized"}


@dataclass
class Payment:
    """What a customer has authorised; amounts in paise."""

    id: str
    order_id: str
    amount: int
    state: str = "authorised"


class FakeBank:
    """Serves while the block runs.

    payments: by their ids
    moved: each time that money moved, as `(verb, payment)`
    trouble: what happens to the next requests that move money: `decline`, `500` (before it has
        moved) or `hang up` (after); an empty list is a good day
    """

    def __init__(self) -> None:
        self.payments: dict[str, Payment] = {}
        self.moved: list[tuple[str, str]] = []
        self.trouble: list[str] = []
        self._answers: dict[str, tuple[int, dict[str, Any]]] = {}
        self._lock = threading.Lock()
        fake = self

        class Door(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with fake._lock:
                    _answer(self, *fake._look(self.path.partition("?")[0].split("/")[2:]))

            def do_POST(self) -> None:
                fake._move(self)

            def log_message(self, *_: object) -> None:
                """Not a line for each request."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def hold(self, payment_id: str, order_id: str, amount: int, state: str = "authorised") -> None:
        """A customer has authorised a payment."""
        self.payments[payment_id] = Payment(payment_id, order_id, amount, state)

    def intent(self, payment_id: str) -> dict[str, Any]:
        """A payment as Stripe shows it."""
        return _intent(self.payments[payment_id])

    def entity(self, payment_id: str) -> dict[str, Any]:
        """A payment as Razorpay shows it."""
        return _entity(self.payments[payment_id])

    def _look(self, path: list[str]) -> tuple[int, dict[str, Any]]:
        is_stripe, show = path[0] == "payment_intents", _shown_by[path[0]]
        if len(path) == 1:
            listed = [show(each) for each in self.payments.values() if _is_of(each, is_stripe)]
            return 200, {"data": listed, "has_more": False} if is_stripe else {"items": listed}
        found = self.payments.get(path[1])
        return (404, _error("no such payment")) if found is None else (200, show(found))

    def _move(self, door: BaseHTTPRequestHandler) -> None:
        body = door.rfile.read(int(door.headers.get("Content-Length") or 0))
        key = door.headers.get("Idempotency-Key") or door.headers.get("X-Refund-Idempotency")
        path = door.path.split("/")[2:]
        if path == ["refunds"]:
            fields = parse_qs(body.decode())
            path = ["payment_intents", fields["payment_intent"][0], "refund"]
        with self._lock:
            trouble = self.trouble.pop(0) if self.trouble else ""
            if trouble == "500":
                answer = 500, _error("something broke")
            else:
                answer = self._answers.get(key or "") or self._moved(path, trouble == "decline")
                if key:
                    self._answers[key] = answer
        if trouble != "hang up":  # or the money has moved, and nobody hears of it
            _answer(door, *answer)

    def _moved(self, path: list[str], declined: bool) -> tuple[int, dict[str, Any]]:
        place, payment_id, verb = path
        start, target = {
            "capture": ("authorised", "captured"),
            "cancel": ("authorised", "canceled"),
            "refund": ("captured", "refunded"),
        }[verb]
        payment = self.payments.get(payment_id)
        if payment is None or payment.state != start:
            return 400, _error(f"{payment_id} is {payment.state if payment else 'unknown'}")
        if declined:
            return 402, _error("Your card was declined.")
        payment.state = target
        self.moved.append((verb, payment_id))
        return 200, _shown_by[place](payment)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _is_of(payment: Payment, is_stripe: bool) -> bool:
    return payment.id.startswith("pi_") is is_stripe


def _intent(payment: Payment) -> dict[str, Any]:
    return {
        "id": payment.id,
        "amount": payment.amount,
        "status": _STRIPE.get(payment.state, payment.state),
        "metadata": {"orderId": payment.order_id},
        "latest_charge": {"refunded": payment.state == "refunded"},
    }


def _entity(payment: Payment) -> dict[str, Any]:
    return {
        "id": payment.id,
        "amount": payment.amount,
        "status": _RAZORPAY.get(payment.state, payment.state),
        "notes": {"orderId": payment.order_id},
    }


_shown_by = {"payment_intents": _intent, "payments": _entity}


def _answer(door: BaseHTTPRequestHandler, status: int, document: dict[str, Any]) -> None:
    body = json.dumps(document).encode()
    door.send_response(status)
    door.send_header("Content-Length", str(len(body)))
    door.end_headers()
    door.wfile.write(body)


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "description": message}}
