"""Programs that serve HTTP, started as they are started in real life, and asked over a socket."""

from __future__ import annotations

import http.client
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.servers import Home, running

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Answer:
    """What came back: the body as bytes, header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Web:
    """A server on loopback, and the file that its output goes to."""

    port: int
    log_file: Path

    def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str | bytes] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """One request on a connection of its own; redirects are not followed."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as line:
            line.request(method, path, body, dict(headers or {}))
            response = line.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, names, response.read())

    @property
    def log(self) -> str:
        """What the server has printed so far."""
        return self.log_file.read_text(errors="replace")


@contextmanager
def serving(
    folder: Path, command: Callable[[int], Sequence[str]], environ: Mapping[str, str]
) -> Iterator[Web]:
    """Run a web server in ``folder`` with no other environment than ``environ`` until the end.

    Args:
        folder: where it runs; its Python modules can be imported.
        command: arguments for the Python interpreter, for a port.
        environ: its environment, beside the paths it needs.
    """
    own = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]),
        "PYTHONUNBUFFERED": "1",
        **environ,
    }
    words = [f"{name}={value}" for name, value in own.items()]

    def whole(port: int) -> Sequence[str]:
        return ["env", "-i", *words, sys.executable, *command(port)]

    log_file = folder / "log"

    def answers(port: int) -> None:
        assert Web(port, log_file).ask("GET", "/healthz").status == 200

    with running(Home(folder, {}), whole, answers) as port:
        yield Web(port, log_file)


def eventually(holds: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> bool:
    """Whether something that other threads or processes bring about becomes true in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
