"""An HTTP server on loopback that notes what it is asked, byte by byte, and answers as told."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from time import monotonic

# Bytes, or pieces that are made and sent one by one.
Answer = bytes | Iterable[bytes]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@dataclass(frozen=True)
class Request:
    """What was asked, on which connection (by number), when (monotonic seconds), with what body."""

    line: str
    headers: dict[str, str]
    connection: int
    at: float
    body: bytes = b""


@dataclass
class Receiver:
    """``answer`` returns the bytes to send back to a request; with ``b""`` the line is cut."""

    port: int
    answer: Callable[[Request], Answer] = lambda _: OK
    requests: list[Request] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def receiver(context: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """Receive until the block ends; with ``context`` over TLS."""
    listening = socket.create_server(("127.0.0.1", 0))
    place = Receiver(listening.getsockname()[1])
    lines: list[socket.socket] = []

    def serve(line: socket.socket, number: int) -> None:
        with suppress(OSError):
            if context is not None:
                line = context.wrap_socket(line, server_side=True)
            with line, line.makefile("rb") as words:
                while first := words.readline():
                    headers = {}
                    while (word := words.readline()) not in (b"\r\n", b""):
                        name, _, value = word.decode("latin-1").partition(":")
                        headers[name.strip().lower()] = value.strip()
                    body = words.read(int(headers.get("content-length", 0)))
                    asked = Request(first.decode().strip(), headers, number, monotonic(), body)
                    place.requests.append(asked)
                    back = place.answer(asked)
                    if not back:
                        return
                    for piece in (back,) if isinstance(back, bytes) else back:
                        line.sendall(piece)

    def accept() -> None:
        with suppress(OSError):
            while True:
                line, _ = listening.accept()
                lines.append(line)
                place.connections += 1
                threading.Thread(target=serve, args=(line, place.connections), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield place
    finally:
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        for line in lines:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
            line.close()
