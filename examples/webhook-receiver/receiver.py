"""Receives webhooks and believes only what is signed. Python 3.11 or newer, nothing to install.

    WEBHOOK_SECRET=... python receiver.py 8000

Two secrets, comma-separated, are both accepted: so one can replace the other.
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRETS = [each for each in os.environ["WEBHOOK_SECRET"].split(",") if each]
TOLERANCE_SECONDS = 300
MOST_BYTES = 1_000_000
SEEN: set[str] = set()  # in production a table with a unique column, written with the effect


def key_of(secret: str) -> bytes:
    if secret.startswith("whsec_"):
        return base64.b64decode(secret.removeprefix("whsec_"))
    return secret.encode()


def is_genuine(headers, body: bytes) -> bool:
    """Whether the body is the sender's, and new: Standard Webhooks, over the bytes as they came."""
    message_id, sent_at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not sent_at.isdigit() or abs(time.time() - int(sent_at)) > TOLERANCE_SECONDS:
        return False
    signed = f"{message_id}.{sent_at}.".encode() + body
    presented = headers.get("webhook-signature", "").encode().split()
    genuine = False
    for secret in SECRETS:
        digest = hmac.new(key_of(secret), signed, hashlib.sha256).digest()
        expected = b"v1," + base64.b64encode(digest)
        for signature in presented:
            genuine |= hmac.compare_digest(signature, expected)
    return genuine


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(min(length, MOST_BYTES))
        if not is_genuine(self.headers, body):
            self.answer(401)
            return
        message_id = self.headers["webhook-id"]
        if message_id not in SEEN:  # a delivery may come twice
            SEEN.add(message_id)
            print(message_id, json.loads(body), flush=True)
        self.answer(204)

    def answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_) -> None: ...


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver)
    print("listening on", server.server_port, flush=True)
    server.serve_forever()
