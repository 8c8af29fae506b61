"""Where the demo lives: a folder made anew, its secrets, and the server in a process of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, Final

import sqlalchemy as sa

from jobs.core.errors import TickworkError
from jobs.demo.server import PORT_LINE

HANDLERS: Final = ("jobs.demo.orders", "jobs.handlers.export", "jobs.demo.kinds")
FOLDER: Final = Path(".tickwork") / "demo"
_START_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 10.0
_FOLDERS_AT_MOST: Final = 9
# Nothing else of the caller's environment reaches the server: with their SMTP_URL, for example, the
# demo would send mails to people.
_KEPT_VARIABLES: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT", "TEMP", "TMP")


class DemoError(TickworkError):
    """The demo cannot be run here; the message says why."""


@dataclass(frozen=True)
class Place:
    """The folder of one demo, and the secrets that its server asks for."""

    folder: Path
    cron_secret: str
    admin_token: str

    @property
    def database(self) -> Path:
        return self.folder / "shop.db"

    @property
    def database_url(self) -> str:
        url = sa.URL.create("sqlite", database=str(self.database.absolute()))
        return url.render_as_string(hide_password=False)

    @property
    def blobs(self) -> Path:
        return self.folder / "files"

    @property
    def outbox(self) -> Path:
        return self.folder / "outbox"

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    @property
    def environment(self) -> dict[str, str]:
        """The server's environment: production's clothes, on this machine."""
        kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        root = str(Path(__file__).parents[2])
        return {
            **kept,
            "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH")))),
            "PYTHONUTF8": "1",
            "JOBS_ENV": "production",
            "DATABASE_URL": self.database_url,
            "JOBS_HANDLERS": ",".join(HANDLERS),
            "CRON_SECRET": self.cron_secret,
            "ADMIN_TOKEN": self.admin_token,
            "BLOB_URL": str(self.blobs.absolute()),
            "SMTP_URL": str(self.outbox.absolute()),
            "EMAIL_FROM": "StormCom <shop@stormcom.example>",
        }


@contextmanager
def fresh_place(parent: Path = FOLDER) -> Iterator[Place]:
    """Give an empty folder with secrets in it, which no other demo uses until the block ends.

    parent: the folder; beside it `-2`, `-3` ... are taken while other demos still serve
    Raises DemoError when no folder can be made.
    """
    folder, lock = _locked(parent)
    with lock:
        for left in folder.iterdir():
            if left.name != _LOCK:
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        place = Place(folder, secrets.token_urlsafe(32), secrets.token_urlsafe(32))
        _write_private(folder / "cron-secret", place.cron_secret)
        _write_private(folder / "admin-token", place.admin_token)
        yield place


_LOCK: Final = "in-use"


def _locked(parent: Path) -> tuple[Path, IO[str]]:
    for number in range(1, _FOLDERS_AT_MOST + 1):
        folder = parent if number == 1 else parent.with_name(f"{parent.name}-{number}")
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = (folder / _LOCK).open("w")
        except OSError as error:
            raise DemoError(
                f"the demo keeps its database in {folder}, which cannot be made here "
                f"({error.strerror}); run it in a folder of your own"
            ) from error
        if _take(lock):
            return folder, lock
        lock.close()
    raise DemoError(f"{_FOLDERS_AT_MOST} demos are running here already; end one of them")


def _take(lock: IO[str]) -> bool:
    try:
        fcntl = import_module("fcntl")
    except ModuleNotFoundError:  # Windows has none; there the second demo disturbs the first
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


@contextmanager
def serving(place: Place) -> Iterator[str]:
    """Run the application in a process of its own until the block ends; gives its base URL.

    Raises DemoError with the end of its log when it does not come up.
    """
    with place.log.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jobs.demo.server"],
            env=place.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            # Ctrl-C is for the demo, which then ends its server in order.
            start_new_session=True,
        )
    try:
        yield f"http://127.0.0.1:{_port(process, place)}"
    finally:
        _stop(process)


def _port(process: subprocess.Popen[str], place: Place) -> int:
    assert process.stdout is not None
    line = process.stdout.readline()  # it ends with the process, if that ends first
    if line.startswith(PORT_LINE):
        return int(line.removeprefix(PORT_LINE))
    with suppress(subprocess.TimeoutExpired):
        process.wait(_START_SECONDS)
    tail = place.log.read_text("utf-8", "replace")[-2_000:]
    raise DemoError(f"the server of the demo did not start; the end of {place.log}:\n{tail}")


def _stop(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdout, suppress(BrokenPipeError):
        process.stdin.close()  # the end of its input ends it
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
