"""The ground the other tests stand on: the databases are real, fresh, and gone afterwards."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, NullPool, create_engine, inspect, make_url, text

from tests.support import mariadb, postgresql
from tests.support.alone import turn
from tests.support.databases import Database
from tests.support.furnished import furnish
from tests.support.requirements import missing, required

VERSION_QUERIES = {"sqlite": "SELECT sqlite_version()"}
VERSION_MARKS = {"sqlite": "3.", "postgresql": "PostgreSQL", "mysql": ""}


@contextmanager
def connection(url: str) -> Iterator[Connection]:
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connected:
        yield connected


def test_the_database_is_real(database: Database) -> None:
    query = VERSION_QUERIES.get(database.name, "SELECT version()")
    with connection(database.url) as connected:
        version = str(connected.execute(text(query)).scalar_one())

    assert version.startswith(VERSION_MARKS[database.name])
    assert any(character.isdigit() for character in version)


@pytest.mark.parametrize("turn", [1, 2])
def test_a_bare_database_is_empty(bare_database: Database, turn: int) -> None:
    """Runs twice with the same table name: the second turn must not see the first one's table."""
    with connection(bare_database.url) as connected:
        assert inspect(connected).get_table_names() == []
        connected.execute(text("CREATE TABLE left_behind (turn INTEGER)"))
        connected.execute(text("INSERT INTO left_behind VALUES (:turn)"), {"turn": turn})
        assert connected.execute(text("SELECT turn FROM left_behind")).scalars().all() == [turn]


CHANGES = (
    "INSERT INTO tickwork_takings VALUES ('', 'a', '2020-01-01 00:00:00.000000', 'b', 1)",
    "CREATE TABLE left_behind (turn INTEGER)",
    "ALTER TABLE tickwork_jobs ADD COLUMN left_behind INTEGER",
    "CREATE INDEX left_behind ON tickwork_jobs (kind)",
    "DROP TABLE tickwork_schedules",
    "UPDATE tickwork_alembic_version SET version_num = '0001'",
)


@pytest.mark.parametrize("change", [*CHANGES, ""])
def test_a_database_is_as_if_it_was_new(
    database: Database, bare_database: Database, change: str
) -> None:
    """Whatever the test before it did. Runs once more than there are changes."""
    if database.name != bare_database.name:
        pytest.skip("compares databases of one kind")
    furnish(bare_database.url)
    seen = []
    for each in (database, bare_database):
        with connection(each.url) as connected:
            names = sorted(inspect(connected).get_table_names())
            rows = [connected.execute(text(f"SELECT * FROM {name}")).all() for name in names]
            columns = [[str(c) for c in inspect(connected).get_columns(name)] for name in names]
            indexes = [
                sorted(str(i["name"]) for i in inspect(connected).get_indexes(name))
                for name in names
            ]
            seen.append((names, rows, columns, indexes))
    assert seen[0] == seen[1]
    if change:
        with connection(database.url) as connected:
            connected.execute(text(change))


def test_a_postgresql_database_is_taken_from_those_who_still_hold_it(
    postgresql_databases: postgresql.Databases,
) -> None:
    with postgresql_databases.fresh() as url:
        left_open = postgresql.connect(make_url(url))
        left_open.execute("CREATE SCHEMA elsewhere CREATE TABLE finished (number int)")
        left_open.execute("BEGIN")
        left_open.execute("CREATE TABLE unfinished (number int)")

    with closing(left_open), pytest.raises(psycopg.OperationalError):
        left_open.execute("SELECT 1")
    with postgresql_databases.fresh() as next_url, connection(next_url) as connected:
        with pytest.raises(psycopg.OperationalError, match="does not exist"):
            postgresql.connect(make_url(url))
        assert inspect(connected).get_schema_names() == ["information_schema", "public"]
        assert inspect(connected).get_table_names() == []


def test_a_mysql_database_goes_in_spite_of_open_connections(
    mysql_url: str, mysql_databases: mariadb.Databases
) -> None:
    with mysql_databases.fresh() as url:
        name = make_url(url).database
        left_open = mariadb.connect(make_url(url))
        with left_open.cursor() as cursor:
            cursor.execute(f"USE {name}")
            cursor.execute("CREATE TABLE locked (number int) ENGINE=InnoDB")
            cursor.execute("BEGIN")
            cursor.execute("SELECT * FROM locked")
    left_open.close()

    with closing(mariadb.connect(make_url(mysql_url))) as admin, admin.cursor() as cursor:
        assert cursor.execute("SHOW DATABASES LIKE %s", [name]) == 0


def test_the_pooler_pools_by_transaction(pgbouncer_database: Database) -> None:
    """Two server connections serve many clients, and a client does not keep the one it had."""
    url = make_url(pgbouncer_database.url)
    clients = [postgresql.connect(url) for _ in range(6)]
    try:
        for client in clients:
            client.prepare_threshold = None
        backends = {
            client.execute("SELECT pg_backend_pid()").fetchone()
            for _ in range(3)
            for client in clients
        }
    finally:
        for client in clients:
            client.close()

    assert len(backends) <= 2


def test_the_pooler_reaches_the_database_of_the_test(pgbouncer_database: Database) -> None:
    with connection(pgbouncer_database.url) as connected:
        assert "PostgreSQL" in str(connected.execute(text("SELECT version()")).scalar_one())
        name = connected.execute(text("SELECT current_database()")).scalar_one()

    assert name == make_url(pgbouncer_database.url).database


def test_a_missing_counterpart_is_a_skip_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TICKWORK_REQUIRE", raising=False)

    with pytest.raises(pytest.skip.Exception, match="set TEST_MYSQL_URL"):
        missing("mysql", "set TEST_MYSQL_URL to run on MySQL/MariaDB")


def test_a_required_counterpart_must_not_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKWORK_REQUIRE", "postgresql, mysql")

    with pytest.raises(pytest.fail.Exception, match="mysql is required by TICKWORK_REQUIRE"):
        missing("mysql", "found no mariadbd")
    with pytest.raises(pytest.skip.Exception):
        missing("pgbouncer", "found no pgbouncer")


def test_a_misspelt_requirement_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKWORK_REQUIRE", "postgres")

    with pytest.raises(pytest.UsageError, match="names postgres; known are"):
        required()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A temporary folder that the servers' account may use; `tmp_path` is closed to it."""
    with tempfile.TemporaryDirectory(prefix="tickwork-test-") as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder


@pytest.mark.slow
def test_a_killed_test_run_leaves_nothing_behind(open_folder: Path) -> None:
    """kill -9 gives Python no chance to clean up; the pipe to the server closes all the same."""
    program = """
from tests.support import postgresql
with postgresql.server() as url:
    print(url, flush=True)
    input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(open_folder)},
        text=True,
    ) as run:
        assert run.stdout is not None
        url = make_url(run.stdout.readline().strip())
        postgresql.connect(url).close()
        assert list(open_folder.iterdir())
        run.kill()

    deadline = time.monotonic() + 30
    while any(open_folder.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(open_folder.iterdir()) == []
    with pytest.raises(psycopg.OperationalError, match="refused"):
        postgresql.connect(url)


def _is_locked(path: Path) -> bool:
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_who_is_alone_waits_for_the_others_and_they_for_him(tmp_path: Path) -> None:
    seen: list[str] = []

    def test(name: str, *, alone: bool) -> None:
        with turn(tmp_path, alone=alone):
            seen.append(name)

    with turn(tmp_path, alone=False), turn(tmp_path, alone=False):  # two share the machine
        only = threading.Thread(target=test, args=("alone",), kwargs={"alone": True})
        only.start()
        only.join(0.1)
        later = threading.Thread(target=test, args=("later",), kwargs={"alone": False})
        later.start()  # comes behind him, though the machine is shared at this moment
        later.join(0.1)
        assert seen == []
    for thread in (only, later):
        thread.join(30)
    assert seen == ["alone", "later"]
