"""The packaged migrations: the same tables as `create_schema()`, from nothing, on each database."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import sqlalchemy.dialects.mysql
import sqlalchemy.dialects.postgresql
from alembic.autogenerate import compare_metadata, produce_migrations, render_python_code
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, MetaData, inspect, make_url, text

import jobs
from jobs import SchemaError, Tickwork
from jobs.stores.sql import SqlStore, build_tables, schema
from jobs.stores.sql.tables import HEAD_REVISION
from tests.support import pgbouncer
from tests.support.crashing import Crasher
from tests.support.databases import Database
from tests.support.scenarios import EXIT_CODE

ROOT = Path(__file__).parents[1]
LONG_AGO = "2020-01-01 00:00:00.000000"


@pytest.fixture
def database(bare_database: Database) -> Database:
    return bare_database


@contextmanager
def opened(database: Database, **options: Any) -> Iterator[SqlStore]:
    store = SqlStore(database.url, **options)
    try:
        yield store
    finally:
        store.close()


@pytest.fixture
def store(database: Database) -> Iterator[SqlStore]:
    with opened(database) as store:
        yield store


def upgrade(store: SqlStore) -> str | None:
    return schema.upgrade(store.engine, store.tables)


def drop_tables(store: SqlStore) -> None:
    with store.engine.begin() as connection:
        store.tables.metadata.drop_all(connection)
        qualified = f"{store.tables.schema}." if store.tables.schema else ""
        connection.execute(text(f"DROP TABLE {qualified}{store.tables.version_table}"))
    assert made(store) == []


def made(store: SqlStore) -> list[str]:
    return sorted(inspect(store.engine).get_table_names(store.tables.schema))


def all_tables(*prefixes: str) -> list[str]:
    """The tables of upgrades under these prefixes, as ``made`` lists them."""
    names = [
        "alembic_version",
        "alerts",
        "audit",
        "controls",
        "groups",
        "jobs",
        "keys",
        "limits",
        "measures",
        "schedules",
        "takings",
        "ticks",
        "tokens",
    ]
    return sorted(f"{prefix}{name}" for prefix in prefixes for name in names)


def noted(store: SqlStore) -> list[str]:
    qualified = f"{store.tables.schema}." if store.tables.schema else ""
    with store.engine.connect() as connection:
        statement = text(f"SELECT version_num FROM {qualified}{store.tables.version_table}")
        return list(connection.execute(statement).scalars())


# What the database itself says of all its tables, in its own words.


def dump(store: SqlStore) -> list[Any]:
    with store.engine.connect() as connection:
        found = DUMPS[store.engine.dialect.name](connection, made(store), store.tables.schema)
    assert found
    return found


def _rows(connection: Connection, statement: str, **values: Any) -> list[Any]:
    return [tuple(row) for row in connection.execute(text(statement), values)]


def _sqlite_dump(connection: Connection, *_: Any) -> list[Any]:
    rows = _rows(connection, "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name")
    return [(*row[:3], _ordered("".join((row[3] or "").split()))) for row in rows]


def _ordered(statement: str) -> str:
    """Without what means nothing: here spaces, and columns after the table's constraints."""
    constraint = ",PRIMARYKEY(id)"
    return f"{statement.replace(constraint, '')} {constraint * statement.count(constraint)}"


def _postgresql_dump(connection: Connection, names: list[str], within: str | None) -> list[Any]:
    here = {"schema": within or "public"}
    columns = """
        SELECT c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
            a.attgenerated, pg_get_expr(d.adbin, d.adrelid), l.collname, c.reloptions
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        LEFT JOIN pg_collation l ON l.oid = a.attcollation
        WHERE c.relkind = 'r' AND n.nspname = :schema ORDER BY 1, 2
        """
    constraints = """
        SELECT conname, pg_get_constraintdef(c.oid) FROM pg_constraint c
        JOIN pg_namespace n ON n.oid = c.connamespace WHERE nspname = :schema ORDER BY 1
        """
    indexes = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = :schema ORDER BY 1"
    return [
        names,
        *_rows(connection, columns, **here),
        *_rows(connection, constraints, **here),
        *_rows(connection, indexes, **here),
    ]


def _mysql_dump(connection: Connection, names: list[str], within: str | None) -> list[Any]:
    assert within is None
    dumped: list[Any] = []
    for name in names:
        ((_, statement),) = _rows(connection, f"SHOW CREATE TABLE {name}")
        lines = [line.strip().rstrip(",") for line in statement.splitlines()]
        keys = [line for line in lines if " KEY " in f" {line}"]
        # In the order of their making, which means nothing.
        dumped += [*(line for line in lines if line not in keys), *sorted(keys)]
    return dumped


DUMPS: dict[str, Callable[[Connection, list[str], str | None], list[Any]]] = {
    "sqlite": _sqlite_dump,
    "postgresql": _postgresql_dump,
    "mysql": _mysql_dump,
}


def test_the_code_and_the_migrations_name_the_same_head() -> None:
    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))

    assert ScriptDirectory.from_config(config).get_heads() == [HEAD_REVISION]


@pytest.mark.parametrize("prefix", ["tickwork_", "shop_"])
def test_an_upgrade_from_nothing_makes_what_create_schema_makes(
    database: Database, prefix: str
) -> None:
    with opened(database, prefix=prefix) as store:
        store.create_schema()
        created = dump(store)
        drop_tables(store)

        assert upgrade(store) is None
        assert made(store) == all_tables(prefix)
        assert dump(store) == created
        assert noted(store) == [HEAD_REVISION]
        store.check_schema()


def test_an_upgrade_works_in_a_schema_of_its_own(bare_postgresql_database: Database) -> None:
    with opened(bare_postgresql_database, schema="background") as store:
        with store.engine.begin() as connection:
            connection.execute(text("CREATE SCHEMA background"))
        store.create_schema()
        created = dump(store)
        drop_tables(store)

        upgrade(store)

        assert dump(store) == created
        assert inspect(store.engine).get_table_names("public") == []
        assert upgrade(store) == HEAD_REVISION


def test_an_upgrade_after_create_schema_changes_nothing(store: SqlStore) -> None:
    store.create_schema()
    before = dump(store)

    assert upgrade(store) == HEAD_REVISION
    assert dump(store) == before
    assert noted(store) == [HEAD_REVISION]


def test_a_second_upgrade_keeps_the_rows(database: Database) -> None:
    tickwork = Tickwork(database.url)
    try:
        upgrade(tickwork.store)  # type: ignore[arg-type]
        job = tickwork.enqueue("greet", {"name": "Ada"})

        assert upgrade(tickwork.store) == HEAD_REVISION  # type: ignore[arg-type]
        assert tickwork.get(job.id) is not None
    finally:
        tickwork.close()


def test_the_rows_of_every_earlier_revision_are_kept(database: Database) -> None:
    tickwork = Tickwork(database.url)
    tickwork.register_handler("greet", lambda payload: payload["name"])
    store: Any = tickwork.store
    try:
        schema.upgrade(store.engine, store.tables, "0001")
        values = {
            "namespace": "",
            "tenant": "acme",
            "queue": "default",
            "kind": "greet",
            "priority": 3,
            "state": "pending",
            "payload": '{"name": "Ada"}',
            "max_attempts": 3,
            "created_at": LONG_AGO,
            "run_at": LONG_AGO,
        }
        with store.engine.begin() as connection:
            for number in range(3):
                row = {"id": f"job-{number}", **values}
                connection.execute(
                    text(
                        f"INSERT INTO tickwork_jobs ({', '.join(row)}) "
                        f"VALUES ({', '.join(f':{name}' for name in row)})"
                    ),
                    row,
                )
        with pytest.raises(SchemaError, match=r"it lacks ring_at, rings"):
            tickwork.list()

        assert upgrade(store) == "0001"
        assert noted(store) == [HEAD_REVISION]
        assert [job.tenant for job in tickwork.list()] == ["acme"] * 3
        with store.engine.connect() as connection:
            rings = connection.execute(text("SELECT ring_at, rings FROM tickwork_jobs")).all()
        assert [tuple(row) for row in rings] == [(None, 0)] * 3
        assert tickwork.tick().succeeded == 3
    finally:
        tickwork.close()


def test_create_schema_after_an_upgrade_changes_nothing(store: SqlStore) -> None:
    upgrade(store)
    before = dump(store)

    store.create_schema()

    assert dump(store) == before
    assert noted(store) == [HEAD_REVISION]


def test_two_prefixes_live_in_one_database(database: Database) -> None:
    with opened(database, prefix="a_") as first, opened(database, prefix="b_") as second:
        upgrade(first)
        upgrade(second)

        assert made(first) == all_tables("a_", "b_")


@pytest.mark.parametrize("way", ["upgrade", "create_schema", "both"])
def test_several_at_once_do_not_break_each_other(database: Database, way: str) -> None:
    runners = 4
    together = threading.Barrier(runners)
    troubles: list[BaseException] = []

    def run(number: int) -> None:
        with opened(database) as store:
            store.engine.connect().close()
            together.wait(timeout=30)
            try:
                if way == "upgrade" or (way == "both" and number % 2):
                    upgrade(store)
                else:
                    store.create_schema()
            except Exception as error:  # noqa: BLE001 - shown below
                troubles.append(error)

    threads = [
        threading.Thread(target=run, args=(number,), daemon=True) for number in range(runners)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)

    assert troubles == []
    with opened(database) as store:
        assert noted(store) == [HEAD_REVISION]
        store.check_schema()


def test_several_processes_may_upgrade_at_once(database: Database) -> None:
    """As when every instance of a deployment upgrades first."""
    program = (
        "import sys; from jobs.stores.sql import SqlStore, schema;"
        "store = SqlStore(sys.argv[1]); store.engine.connect().close(); print('ready', flush=True);"
        "sys.stdin.readline(); schema.upgrade(store.engine, store.tables)"
    )
    command = [sys.executable, "-c", program, database.url]
    pipe = subprocess.PIPE
    runners = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=ROOT)
        for _ in range(2)
    ]
    try:
        for runner in runners:
            assert runner.stdout is not None
            assert runner.stdout.readline() == "ready\n"
        # Each ends its wait for a line when its stdin is closed, as communicate() does.
        with ThreadPoolExecutor(len(runners)) as pool:
            outputs = list(pool.map(lambda runner: runner.communicate(timeout=60), runners))
    finally:
        for runner in runners:
            runner.kill()
            runner.communicate()
    assert [runner.returncode for runner in runners] == [0, 0], outputs
    with opened(database) as store:
        assert noted(store) == [HEAD_REVISION]


def test_a_file_that_another_program_writes_to_is_waited_for(
    bare_sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's busy timeout does not hold for the switch of its journal."""
    path = make_url(bare_sqlite_database.url).database
    assert path is not None
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TABLE theirs (n)")
        other.execute("BEGIN IMMEDIATE")
        other.execute("INSERT INTO theirs VALUES (1)")
        waits: list[float] = []

        def wait(seconds: float) -> None:
            waits.append(seconds)
            other.execute("COMMIT")

        monkeypatch.setattr("jobs.stores.sql.engine.time.sleep", wait)
        with opened(bare_sqlite_database) as store:
            upgrade(store)

            assert len(waits) == 1
            assert made(store) == ["theirs", *all_tables("tickwork_")]


WAYS = {"upgrade": upgrade, "create_schema": SqlStore.create_schema}


@pytest.mark.parametrize("mend", WAYS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("steps", ["some", pytest.param("every", marks=pytest.mark.slow)])
def test_what_was_killed_while_it_made_the_tables_is_gone_on_with(
    database: Database, way: str, mend: str, steps: str
) -> None:
    """Wherever it was; on MySQL each step stays, elsewhere all are taken back."""
    with opened(database) as store, Crasher() as crasher:
        upgrade(store)
        whole = dump(store)
        drop_tables(store)
        last = 80  # there are fewer
        for crash_after in range(1, last + 1) if steps == "every" else (2, 17, 31, last):
            code = crasher.run("make_tables", url=database.url, way=way, crash_after=crash_after)
            try:
                WAYS[mend](store)
            except SchemaError:
                # The tables of an earlier revision, which create_schema() cannot upgrade.
                assert (database.name, way, mend) == ("mysql", "upgrade", "create_schema")
                with pytest.raises(SchemaError, match="run `tickwork db upgrade`"):
                    store.create_schema()
                upgrade(store)
            assert dump(store) == whole, crash_after
            assert noted(store) == [HEAD_REVISION]
            if code == 0:
                return
            assert code == EXIT_CODE
            drop_tables(store)
    raise AssertionError("the tables were never finished")


def test_an_upgrade_works_behind_a_transaction_pooler(
    bare_postgresql_database: Database, pgbouncer_url: str
) -> None:
    pooled = pgbouncer.pooled(bare_postgresql_database.url, pgbouncer_url)
    with opened(Database("postgresql", pooled)) as store:
        upgrade(store)

        assert upgrade(store) == HEAD_REVISION
        store.check_schema()


def test_a_downgrade_takes_the_table_away(store: SqlStore) -> None:
    from alembic import command

    upgrade(store)
    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    with store.engine.begin() as connection:
        config.attributes.update(connection=connection, tables=store.tables)
        command.downgrade(config, "base")

    assert made(store) == [store.tables.version_table]
    assert upgrade(store) is None
    store.check_schema()


# A team's own Alembic takes the tables as MetaData.


def compare(connection: Connection, theirs: MetaData) -> MigrationContext:
    options = {
        "compare_type": True,
        "target_metadata": theirs,
        "include_name": lambda name, kind, _: kind != "table" or name in theirs.tables,
    }
    return MigrationContext.configure(connection, opts=options)


def test_autogenerate_sees_no_difference_after_an_upgrade(store: SqlStore) -> None:
    upgrade(store)
    theirs = build_tables(metadata=MetaData(), dialect=store.engine.dialect.name).metadata

    with store.engine.connect() as connection:
        assert compare_metadata(compare(connection, theirs), theirs) == []


def test_a_migration_written_by_autogenerate_makes_the_same_tables(store: SqlStore) -> None:
    with store.engine.begin() as connection:
        store.tables.metadata.create_all(connection)
    ours = dump(store)
    with store.engine.begin() as connection:
        store.tables.metadata.drop_all(connection)
    theirs = build_tables(metadata=MetaData(), dialect=store.engine.dialect.name).metadata

    with store.engine.begin() as connection:
        context = compare(connection, theirs)
        steps = produce_migrations(context, theirs).upgrade_ops
        assert steps is not None
        code = dedent(f"    {render_python_code(steps, migration_context=context)}")
        with Operations.context(context) as op:
            names = {"op": op, "sa": sqlalchemy, "jobs": jobs} | vars(sqlalchemy.dialects)
            exec(code, names)  # noqa: S102 - what Alembic would have written to a file

    store.check_schema()
    assert dump(store) == ours


def test_tables_from_other_migrations_are_theirs_to_upgrade(store: SqlStore) -> None:
    with store.engine.begin() as connection:
        store.tables.metadata.create_all(connection)
    store.check_schema()  # good to work with

    with pytest.raises(SchemaError, match="notes no revision"):
        upgrade(store)
    assert made(store) == [name for name in all_tables("tickwork_") if "alembic" not in name]


def test_tables_from_a_newer_tickwork_are_refused(store: SqlStore) -> None:
    upgrade(store)
    with store.engine.begin() as connection:
        connection.execute(text(f"UPDATE {store.tables.version_table} SET version_num = '9999'"))

    with pytest.raises(SchemaError, match=r"revision 9999.*newer Tickwork"):
        upgrade(store)


# A missing or older schema is told as such, by whoever meets it first.


@pytest.fixture
def tickwork(database: Database) -> Iterator[Tickwork]:
    tickwork = Tickwork(database.url)
    tickwork.handler("greet")(lambda payload: payload["name"])
    yield tickwork
    tickwork.close()


def enqueue(tickwork: Tickwork) -> None:
    tickwork.enqueue("greet", {"name": "Ada"})


def enqueue_many(tickwork: Tickwork) -> None:
    tickwork.enqueue_many([("greet", {"name": "Ada"})] * 3)


def enqueue_in_a_transaction(tickwork: Tickwork) -> None:
    with tickwork.engine.begin() as connection:
        tickwork.enqueue("greet", {"name": "Ada"}, session=connection)


def tick(tickwork: Tickwork) -> None:
    tickwork.tick()


def listing(tickwork: Tickwork) -> None:
    tickwork.list()


EVERY_WAY = [enqueue, enqueue_many, enqueue_in_a_transaction, tick, listing]


@pytest.mark.parametrize("act", EVERY_WAY)
def test_missing_tables_are_told_with_the_mend(
    tickwork: Tickwork, act: Callable[[Tickwork], None]
) -> None:
    with pytest.raises(SchemaError, match=r"no table 'tickwork_jobs': run `tickwork db upgrade`"):
        act(tickwork)

    tickwork.create_schema()
    act(tickwork)


@pytest.mark.parametrize("act", EVERY_WAY)
def test_older_tables_are_told_with_what_they_lack(
    tickwork: Tickwork, act: Callable[[Tickwork], None]
) -> None:
    tickwork.create_schema()
    tickwork.enqueue("greet", {"name": "Grace"})
    drop_column(tickwork.engine, "backoff")

    with pytest.raises(SchemaError, match=r"it lacks backoff; run `tickwork db upgrade`"):
        act(tickwork)


def drop_column(engine: Engine, name: str) -> None:
    with engine.begin() as connection:
        connection.execute(text(f"ALTER TABLE tickwork_jobs DROP COLUMN {name}"))
