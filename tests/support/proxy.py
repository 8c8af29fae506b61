"""A TCP proxy before a database that cuts lines, freezes them, and loses answers on purpose."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from sqlalchemy import make_url


@dataclass
class Cut:
    """Cut a line once: at the request that holds ``at``, after one with ``after`` went through.

    ``answered``: the server gets the request and acts on it, and only its answer is lost.
    """

    at: bytes
    after: bytes = b""
    answered: bool = False
    done: threading.Event = field(default_factory=threading.Event)


class _Line:
    """One client's connection and its other half."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.flowing = threading.Event()
        self.flowing.set()
        self.seen_after = False
        self.losing = False

    def close(self) -> None:
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class Proxy:
    """Stands at ``port``; while it is :meth:`down`, connections are refused."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._lines: set[_Line] = set()
        self._lock = threading.Lock()
        self._flowing = threading.Event()
        self._flowing.set()
        self.cuts: list[Cut] = []
        self.port = 0
        self.up()

    def up(self) -> None:
        """Listen, on the same port as before."""
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=50)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def down(self) -> None:
        """Refuse new connections and cut those there are."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Cut every line."""
        with self._lock:
            lines = list(self._lines)
        for line in lines:
            line.close()

    def freeze(self) -> None:
        """Keep the lines and pass nothing on."""
        self._flowing.clear()

    def strand(self) -> None:
        """Freeze the lines there are, for good; new ones flow."""
        with self._lock:
            for line in self._lines:
                line.flowing.clear()

    def thaw(self) -> None:
        self._flowing.set()
        with self._lock:
            for line in self._lines:
                line.flowing.set()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
                server = socket.create_connection(self._target)
            except OSError:
                return
            line = _Line(client, server)
            with self._lock:
                self._lines.add(line)
            for way in (self._ask, self._answer):
                threading.Thread(target=self._pass_on, args=(way, line), daemon=True).start()

    def _pass_on(self, way: object, line: _Line) -> None:
        try:
            way(line)  # type: ignore[operator]
        except OSError:
            pass
        finally:
            line.close()
            with self._lock:
                self._lines.discard(line)

    def _ask(self, line: _Line) -> None:
        while data := line.client.recv(1 << 20):
            self._flowing.wait()
            line.flowing.wait()
            for cut in self.cuts:
                if cut.done.is_set():
                    continue
                if cut.at in data and (not cut.after or line.seen_after):
                    cut.done.set()
                    if not cut.answered:
                        return
                    line.losing = True
                if cut.after and cut.after in data:
                    line.seen_after = True
            line.server.sendall(data)

    def _answer(self, line: _Line) -> None:
        while data := line.server.recv(1 << 20):
            self._flowing.wait()
            line.flowing.wait()
            if line.losing:
                return
            line.client.sendall(data)


@contextlib.contextmanager
def proxied(url: str) -> Iterator[tuple[Proxy, str]]:
    """A proxy before the database of ``url``; yields it and the URL through it."""
    behind = make_url(url)
    assert behind.host is not None
    assert behind.port is not None
    proxy = Proxy(behind.host, behind.port)
    through = behind.set(host="127.0.0.1", port=proxy.port)
    if behind.get_backend_name() == "postgresql":
        through = through.update_query_dict({"sslmode": "disable"})
    try:
        yield proxy, through.render_as_string(hide_password=False)
    finally:
        proxy.thaw()
        proxy.down()
