"""Start a server program for the tests, wait until it answers, and take it down for certain."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

START_SECONDS = 60.0  # a busy machine with two cores needs a few; nothing healthy needs this many
STOP_SECONDS = 20.0

# The shell becomes the server, so that its process id is the server's. Beside it stays a watcher at
# the end of a pipe that only the test process can write to: a line means "stop the server", and the
# end of the pipe means that the test process is gone, kill -9 included, so the folder goes too. The
# watcher is orphaned on purpose (the double parentheses): PostgreSQL would take the end of an
# unknown child for a crash of its own.
LEASH = """
stop_signal=$1 folder=$2
shift 2
exec 3<&0 0</dev/null
((
    if read -r _ <&3; then orphaned=no; else orphaned=yes; fi
    kill -"$stop_signal" $$
    [ $orphaned = yes ] || exit 0
    tries=0
    while kill -0 $$ && [ $tries -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
    cd / && rm -rf "$folder"
) &)
exec "$@" 3<&-
"""


class Account(TypedDict, total=False):
    """Arguments for `subprocess` that choose the account; empty for one's own."""

    user: int
    group: int
    extra_groups: list[int]


class ServerError(Exception):
    """A server program is there and did not come up; its own words are in the message."""


@dataclass(frozen=True)
class Home:
    """A private folder for one server and the account it runs as."""

    path: Path
    account: Account

    def run(self, *command: str | Path) -> None:
        """Run a preparing command as the server's account.

        Raises:
            ServerError: it failed.
        """
        done = subprocess.run(
            command,
            cwd=self.path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **self.account,
        )
        if done.returncode != 0:
            raise ServerError(f"{command[0]} ended with {done.returncode}:\n{done.stdout}")

    def write(self, name: str, text: str) -> Path:
        """Write a file that only the server's account (and root) can read."""
        path = self.path / name
        path.touch(mode=0o600)
        path.write_text(text)
        self.give(path)
        return path

    def give(self, path: Path) -> None:
        """Make the server's account the owner of `path`."""
        if self.account:
            os.chown(path, self.account["user"], self.account["group"])


@contextmanager
def home(name: str) -> Iterator[Home]:
    """A temporary folder, owned by an unprivileged account when the tests run as root.

    PostgreSQL, MariaDB and PgBouncer refuse to run as root. `nobody` exists everywhere, so no
    account has to be made and no folder of the machine has to be opened for it.
    """
    account: Account = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    path = Path(tempfile.mkdtemp(prefix=f"tickwork-{name}-"))
    place = Home(path, account)
    try:
        place.give(path)
        yield place
    finally:
        shutil.rmtree(path, ignore_errors=True)


def free_port() -> int:
    """A port of the loopback interface that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(
    place: Home,
    command: Callable[[int], Sequence[str | Path]],
    answers: Callable[[int], None],
    *,
    stop_signal: signal.Signals = signal.SIGTERM,
) -> Iterator[int]:
    """Run a server on a free port until the block ends; yields the port.

    Args:
        place: where it runs and as whom.
        command: the command line for a port.
        answers: connects to the port and returns once the server really answers; any exception
            means "not yet".
        stop_signal: what makes the server leave quickly and in order.

    Raises:
        ServerError: it did not come up, with the end of its log.
    """
    log = place.path / "log"
    # Between finding a port and listening on it somebody else may take it.
    for attempts_left in (2, 1, 0):
        port = free_port()
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["/bin/sh", "-c", LEASH, "sh", stop_signal.name[3:], place.path, *command(port)],
                cwd=place.path,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C in the terminal is for pytest, which then stops the server itself.
                start_new_session=True,
                **place.account,
            )
        try:
            problem = _wait_until(answers, port, process)
            if problem is None:
                yield port
                return
        finally:
            _stop(process)
        text = log.read_text(errors="replace")
        if "in use" not in text or not attempts_left:
            raise ServerError(f"{problem}; the end of its log:\n{text[-3000:]}")


def _wait_until(
    answers: Callable[[int], None], port: int, process: subprocess.Popen[bytes]
) -> str | None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            answers(port)
        except Exception as error:  # noqa: BLE001 - each driver has errors of its own for "not yet"
            if process.poll() is not None:
                return f"the server ended with {process.returncode}"
            if time.monotonic() > deadline:
                return f"no answer within {START_SECONDS:g} s ({error})"
            time.sleep(0.02)
        else:
            return None


def _stop(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    with process.stdin as leash:
        leash.write(b"stop\n")
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
