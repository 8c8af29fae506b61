"""`tickwork db`: on each database."""

from __future__ import annotations

import sys

import pytest
from sqlalchemy import create_engine, inspect, text

from jobs.stores.sql.tables import HEAD_REVISION
from tests.cli.conftest import Cli, document
from tests.support.databases import Database


@pytest.fixture
def here(bare: pytest.MonkeyPatch, bare_database: Database) -> Database:
    bare.setenv("DATABASE_URL", bare_database.url)
    return bare_database


def execute(database: Database, statement: str) -> None:
    engine = create_engine(database.url)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


def tables(database: Database) -> list[str]:
    engine = create_engine(database.url)
    names = inspect(engine).get_table_names()
    engine.dispose()
    return sorted(names)


def test_an_upgrade_makes_the_tables_and_does_so_once(cli: Cli, here: Database) -> None:
    assert cli("db", "upgrade").stdout == f"Made tickwork_jobs at revision {HEAD_REVISION}.\n"
    assert cli("db", "upgrade").stdout == (
        f"tickwork_jobs is at revision {HEAD_REVISION} already.\n"
    )
    assert document(cli("db", "upgrade", "--json")) == {
        "from": HEAD_REVISION,
        "to": HEAD_REVISION,
        "changed": False,
    }
    assert {"tickwork_alembic_version", "tickwork_jobs"} <= set(tables(here))
    assert cli("enqueue", "greet").exit_code == 0
    assert document(cli("stats", "--json"))["total"]["pending"] == 1


def test_an_upgrade_takes_prefix_from_the_environment(
    cli: Cli, here: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBS_TABLE_PREFIX", "shop_")

    assert document(cli("db", "upgrade", "--json")) == {
        "from": None,
        "to": HEAD_REVISION,
        "changed": True,
    }
    assert {"shop_alembic_version", "shop_jobs"} <= set(tables(here))
    assert all(name.startswith("shop_") for name in tables(here))


@pytest.mark.parametrize(
    "command", [["db", "check"], ["list"], ["stats"], ["tick"], ["enqueue", "boom"]]
)
def test_missing_tables_are_told_with_the_mend(
    cli: Cli, here: Database, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("JOBS_HANDLERS", "tests.cli.tasks")

    result = cli(*command, "--json")

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == (
        "tickwork: the database has no table 'tickwork_jobs': run `tickwork db upgrade` "
        "(or tickwork.create_schema() in development)\n"
    )


def test_check_tells_of_good_tables_and_older_ones(cli: Cli, here: Database) -> None:
    cli("db", "upgrade")
    good = cli("db", "check")
    assert good.exit_code == 0
    assert f"has what this version needs (at revision {HEAD_REVISION})" in good.stdout
    assert document(cli("db", "check", "--json"))["ok"] is True

    execute(here, "ALTER TABLE tickwork_jobs DROP COLUMN backoff")
    older = cli("db", "check")
    assert older.exit_code == 1
    assert "is older than this code: it lacks backoff; run `tickwork db upgrade`" in older.stderr


def test_tables_of_a_newer_version_are_left_alone(cli: Cli, here: Database) -> None:
    cli("db", "upgrade")
    execute(here, "UPDATE tickwork_alembic_version SET version_num = '9999'")

    result = cli("db", "upgrade")

    assert result.exit_code == 1
    assert "a newer Tickwork upgraded them" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_without_alembic_it_says_what_to_install(
    cli: Cli, bare: pytest.MonkeyPatch, sqlite_url: str
) -> None:
    bare.setenv("DATABASE_URL", sqlite_url)
    bare.setitem(sys.modules, "alembic", None)

    result = cli("db", "upgrade")

    assert result.exit_code == 2
    assert result.stderr == (
        "tickwork: migrations need alembic: pip install 'tickwork[migrations]'\n"
    )


def test_in_development_a_local_file_gets_its_tables_by_itself(
    cli: Cli, bare: pytest.MonkeyPatch, sqlite_url: str
) -> None:
    bare.setenv("DATABASE_URL", sqlite_url)
    bare.setenv("JOBS_ENV", "development")

    assert cli("enqueue", "x").exit_code == 0
    assert document(cli("db", "check", "--json"))["revision"] == HEAD_REVISION


def test_in_development_a_server_does_not(
    cli: Cli, bare: pytest.MonkeyPatch, bare_postgresql_database: Database
) -> None:
    bare.setenv("DATABASE_URL", bare_postgresql_database.url)
    bare.setenv("JOBS_ENV", "development")

    assert cli("enqueue", "x").exit_code == 1
    assert tables(bare_postgresql_database) == []
