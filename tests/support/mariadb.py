"""A real MariaDB of our own, and fresh databases on it or on any other MySQL server."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pymysql
from pymysql.cursors import Cursor
from sqlalchemy import URL

from tests.support.databases import Lender
from tests.support.servers import home, running

# Nothing here has to survive a power cut; the rest is a small server.
SETTINGS = {
    "bind-address": "127.0.0.1",
    "innodb-buffer-pool-size": "64M",
    "innodb-doublewrite": "0",
    "innodb-flush-log-at-trx-commit": "0",
    "innodb-flush-method": "nosync",
    "innodb-log-file-size": "16M",
    "max-connections": "200",
    "performance-schema": "OFF",
}


class MariadbMissingError(Exception):
    """No MariaDB programs on this machine."""


def _program(name: str) -> str:
    # Debian keeps the server in a folder that only root has in its PATH.
    path = shutil.which(
        name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"
    )
    if path is None:
        raise MariadbMissingError(f"found no {name}; set TEST_MYSQL_URL to run on MySQL/MariaDB")
    return path


@contextmanager
def server() -> Iterator[str]:
    """Run a MariaDB of our own for the length of the block; yields its SQLAlchemy URL.

    Raises:
        MariadbMissingError: its programs are not installed.
        ServerError: they are installed and do not start.
    """
    program, installer = _program("mariadbd"), _program("mariadb-install-db")
    with home("mariadb") as place:
        data = place.path / "data"
        password = secrets.token_urlsafe(12)
        # root has no password, and is asked for none: it can only come in through the socket, and
        # the folder around the socket is closed to everybody else.
        place.run(
            installer,
            "--no-defaults",
            f"--datadir={data}",
            f"--tmpdir={place.path}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
        )
        init_file = place.write(
            "init.sql",
            f"CREATE USER tickwork@'127.0.0.1' IDENTIFIED BY '{password}';\n"
            "GRANT ALL ON *.* TO tickwork@'127.0.0.1' WITH GRANT OPTION;\n",
        )

        def url(port: int) -> URL:
            return URL.create("mysql+pymysql", "tickwork", password, "127.0.0.1", port)

        def command(port: int) -> list[str | Path]:
            return [
                program,
                "--no-defaults",
                f"--datadir={data}",
                f"--init-file={init_file}",
                f"--pid-file={place.path / 'pid'}",
                f"--port={port}",
                f"--socket={place.path / 'socket'}",
                f"--tmpdir={place.path}",
                "--skip-name-resolve",
                *(f"--{name}={value}" for name, value in SETTINGS.items()),
            ]

        def answers(port: int) -> None:
            connect(url(port)).close()

        with running(place, command, answers) as port:
            yield url(port).render_as_string(hide_password=False)


def connect(url: URL) -> pymysql.Connection[Cursor]:
    """A connection in autocommit mode."""
    return pymysql.connect(
        host=url.host,
        port=url.port or 3306,
        user=url.username,
        password=url.password or "",
        autocommit=True,
        connect_timeout=10,
    )


class Databases(Lender):
    """Makes and drops databases on one server, over one kept connection."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._admin = connect(self._url)

    def lend(self) -> str:
        """An empty database, by its name."""
        name = self._new_name()
        self._execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        return name

    def rename(self, name: str) -> str:
        """End its connections and move its tables to a database of another name."""
        self._end_connections(name)
        renamed = self.lend()
        named = f"SELECT table_name FROM information_schema.tables WHERE table_schema = '{name}'"
        moves = [f"{name}.`{table}` TO {renamed}.`{table}`" for (table,) in self._execute(named)]
        if moves:
            self._execute(f"RENAME TABLE {', '.join(moves)}")
        self._execute(f"DROP DATABASE {name}")
        return renamed

    def give_back(self, name: str) -> None:
        """Drop it."""
        self._end_connections(name)
        self._execute(f"DROP DATABASE {name}")

    def _end_connections(self, name: str) -> None:
        # A connection left in a transaction holds a metadata lock, and DROP would wait for it.
        leftovers = f"SELECT id FROM information_schema.processlist WHERE db = '{name}'"
        for (thread,) in self._execute(leftovers):
            try:
                self._execute(f"KILL {thread}")
            except pymysql.err.MySQLError as error:
                if error.args[0] != pymysql.constants.ER.NO_SUCH_THREAD:
                    raise

    def _execute(self, statement: str) -> list[tuple[object, ...]]:
        with self._admin.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def close(self) -> None:
        """Let go of the server."""
        self._admin.close()
