"""The doctor on real databases: healthy ones have no findings, and each illness has its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import IntegrityError

from jobs import Tickwork
from jobs.core.clock import ManualClock
from jobs.managing import Managing
from jobs.ops.doctor import Finding, Level, Surroundings, diagnose
from jobs.ops.doctor.database import too_old
from tests.support.databases import Database

Examine = Callable[..., dict[str, Finding]]


def examined(tickwork: Tickwork, tmp_path: Path, **more: Any) -> dict[str, Finding]:
    """The findings about a system by code, in surroundings that have none of their own.

    A test server runs without autovacuum, rightly: that has a test of its own.
    """
    around = Surroundings(
        environ={"CRON_SECRET": "k3Jw9qZt7Rb2LxNv5Hc8"},
        folder=tmp_path,
        settings=tickwork.settings,
        registry=tickwork.registry,
        store=tickwork.store,
        temporary=(),
        **more,
    )
    found = {each.code: each for each in diagnose(around)}
    found.pop("autovacuum-off", None)
    return found


def a_system(database: Any, **more: Any) -> Tickwork:
    tickwork = Tickwork(database, cron_secret="k3Jw9qZt7Rb2LxNv5Hc8", **more)
    tickwork.register_handler("greet", lambda payload: None)
    return tickwork


@pytest.fixture
def tickwork(database: Database) -> Iterator[Tickwork]:
    with closing(a_system(database.url)) as made:
        made.create_schema()
        yield made


def execute(tickwork: Tickwork, statement: str, **values: Any) -> None:
    with tickwork.engine.connect() as connection:
        connection.execute(text(statement), values)
        connection.commit()


def test_a_healthy_database_has_no_findings(tickwork: Tickwork, tmp_path: Path) -> None:
    tickwork.enqueue("greet")
    tickwork.enqueue("greet", delay=3600)
    tickwork.schedule("daily", "0 8 * * *", "greet")
    tickwork.tick()

    assert examined(tickwork, tmp_path) == {}


def test_tokens_that_nobody_can_sign_in_with_are_told(tickwork: Tickwork, tmp_path: Path) -> None:
    _, token = Managing(tickwork, "test").create_token("viewer")
    found = examined(tickwork, tmp_path)
    assert set(found) == {"session-key-missing"}
    assert found["session-key-missing"].level is Level.WARNING
    Managing(tickwork, "test").revoke_token(token.id)
    assert examined(tickwork, tmp_path) == {}


def test_an_admin_token_that_everybody_shares_is_told(database: Database, tmp_path: Path) -> None:
    secrets = {"admin_token": "x4Rm7TqW9zLc2VbN6kJd", "secret_key": "v8Hq2ZrT6mWc4LxJ9bNs"}
    with closing(a_system(database.url, **secrets)) as tickwork:
        tickwork.create_schema()
        assert examined(tickwork, tmp_path)["admin-token-alone"].level is Level.NOTE
        Managing(tickwork, "test").create_token("operator")
        assert examined(tickwork, tmp_path) == {}


def test_an_examination_changes_nothing(tickwork: Tickwork, tmp_path: Path) -> None:
    before = tickwork.get(tickwork.enqueue("other").id)
    assert before is not None

    examined(tickwork, tmp_path)

    assert tickwork.list() == [before]


def test_missing_tables_are_told_once(bare_database: Database, tmp_path: Path) -> None:
    with closing(a_system(bare_database.url)) as tickwork:
        found = examined(tickwork, tmp_path)

    assert set(found) == {"schema"}
    assert found["schema"].level is Level.ERROR
    assert "tickwork db upgrade" in found["schema"].mend


def test_a_missing_column_is_told(tickwork: Tickwork, tmp_path: Path) -> None:
    execute(tickwork, "ALTER TABLE tickwork_controls DROP COLUMN paused_because")

    assert "paused_because" in examined(tickwork, tmp_path)["schema"].sentence


@pytest.mark.parametrize(
    ("noted", "code"), [("0001", "migrations-behind"), ("9", "migrations-ahead")]
)
def test_a_revision_that_is_not_this_ones_is_told(
    noted: str, code: str, tickwork: Tickwork, tmp_path: Path
) -> None:
    execute(tickwork, "UPDATE tickwork_alembic_version SET version_num = :noted", noted=noted)

    assert set(examined(tickwork, tmp_path)) == {code}


def drop_index(tickwork: Tickwork, name: str) -> None:
    on = " ON tickwork_jobs" if tickwork.engine.dialect.name in ("mysql", "mariadb") else ""
    execute(tickwork, f"DROP INDEX {name}{on}")


def test_a_claim_without_its_index_is_told(tickwork: Tickwork, tmp_path: Path) -> None:
    name = "ix_tickwork_jobs_pending"
    if tickwork.engine.dialect.name in ("mysql", "mariadb"):
        name += "_by_state"
    drop_index(tickwork, name)

    found = examined(tickwork, tmp_path)

    assert set(found) == {"claim-plan", "index-missing"}
    assert name in found["claim-plan"].sentence
    assert found["claim-plan"].level is Level.ERROR


def test_another_missing_index_is_told(tickwork: Tickwork, tmp_path: Path) -> None:
    drop_index(tickwork, "ix_tickwork_jobs_kept")

    found = examined(tickwork, tmp_path)

    assert set(found) == {"index-missing"}
    assert "ix_tickwork_jobs_kept" in found["index-missing"].sentence


def test_the_claim_goes_by_its_index_with_a_history_and_a_backlog(
    tickwork: Tickwork, tmp_path: Path
) -> None:
    tickwork.enqueue_many(("greet", {"n": number}) for number in range(300))
    tickwork.tick(limit=50)

    assert examined(tickwork, tmp_path) == {}


def test_unknown_kinds_are_counted(tickwork: Tickwork, tmp_path: Path) -> None:
    tickwork.enqueue_many([("resize", {}), ("resize", {})])
    execute(
        tickwork,
        "UPDATE tickwork_jobs SET created_at = :at",
        at=_stored(tickwork, datetime.now(UTC) - timedelta(days=3)),
    )

    found = examined(tickwork, tmp_path)

    assert set(found) == {"kind-unknown"}
    assert "2 jobs of kind 'resize'" in found["kind-unknown"].sentence
    assert "3 d ago" in found["kind-unknown"].sentence


def _stored(tickwork: Tickwork, at: datetime) -> Any:
    return tickwork.store.sql.bind_instant(at)  # type: ignore[attr-defined]


def test_payloads_of_newer_code_are_counted(tickwork: Tickwork, tmp_path: Path) -> None:
    with closing(Tickwork(tickwork.engine)) as newer:
        newer.register_handler(
            "greet", lambda payload: None, version=2, upgrade=lambda payload, _: payload
        )
        newer.enqueue("greet")
        assert "payload-newer" not in examined(newer, tmp_path)

    found = examined(tickwork, tmp_path)

    assert set(found) == {"payload-newer"}
    assert "1 job of kind 'greet' has payloads of version 2" in found["payload-newer"].sentence


def test_stalled_jobs_are_counted(tickwork: Tickwork, tmp_path: Path) -> None:
    tickwork.enqueue("greet")
    tickwork.store.claim(1, kinds={"greet"}, lease_seconds=-1, mark=1)

    found = examined(tickwork, tmp_path)

    assert set(found) == {"stalled"}
    assert "1 job is stalled" in found["stalled"].sentence


def test_due_jobs_that_nobody_runs_are_told(tickwork: Tickwork, tmp_path: Path) -> None:
    tickwork.enqueue("greet", run_at=datetime.now(UTC) - timedelta(hours=3))
    assert set(examined(tickwork, tmp_path)) == {"ticks-overdue"}

    tickwork.pause(kind="greet", by="ann")
    assert examined(tickwork, tmp_path) == {}


def test_ticks_that_stopped_are_told_though_nothing_waits(
    tickwork: Tickwork, tmp_path: Path
) -> None:
    for minutes in (61, 66, 71, 76):
        tickwork.tick(trigger="cron")
        ended = _stored(tickwork, datetime.now(UTC) - timedelta(minutes=minutes))
        last = tickwork.ticks(1)[0].id
        execute(
            tickwork, "UPDATE tickwork_ticks SET ended_at = :at WHERE id = :id", at=ended, id=last
        )

    found = examined(tickwork, tmp_path)

    assert set(found) == {"ticks-overdue"}
    assert "no tick for 61 min" in found["ticks-overdue"].sentence
    assert "every 5 min" in found["ticks-overdue"].sentence
    tickwork.tick(trigger="cron")
    assert examined(tickwork, tmp_path) == {}


def test_dead_letters_are_noted(tickwork: Tickwork, tmp_path: Path) -> None:
    def fail(_: Any) -> None:
        raise ValueError("no")

    tickwork.register_handler("fails", fail, max_attempts=1)
    tickwork.enqueue("fails")
    tickwork.tick()

    found = examined(tickwork, tmp_path)

    assert set(found) == {"dead-letters"}
    assert found["dead-letters"].level is Level.NOTE


def test_a_schedule_without_a_handler_is_told(tickwork: Tickwork, tmp_path: Path) -> None:
    tickwork.schedule("weekly", "0 8 * * 1", "greet")
    with closing(a_system(tickwork.engine)) as elsewhere:
        elsewhere.register_handler("report", lambda _: None)
        elsewhere.schedules.add("monthly", "0 8 1 * *", kind="report")

    found = examined(tickwork, tmp_path)

    assert set(found) == {"schedule-without-handler"}
    assert "'monthly'" in found["schedule-without-handler"].sentence


def test_a_schedule_that_nobody_fires_is_told(tickwork: Tickwork, tmp_path: Path) -> None:
    tickwork.schedules.add("hourly", "0 * * * *", kind="greet")
    execute(
        tickwork,
        "UPDATE tickwork_schedules SET next_at = :at",
        at=_stored(tickwork, datetime.now(UTC) - timedelta(hours=5)),
    )

    assert set(examined(tickwork, tmp_path)) == {"schedule-overdue"}


def test_a_schedule_that_cannot_be_read_is_told(tickwork: Tickwork, tmp_path: Path) -> None:
    tickwork.schedules.add("hourly", "0 * * * *", kind="greet")
    execute(tickwork, "UPDATE tickwork_schedules SET timezone = 'Mars/Olympus'")

    assert set(examined(tickwork, tmp_path)) == {"schedule-unreadable"}


@pytest.mark.parametrize(
    ("name", "version", "is_old"),
    [
        ("postgresql", (11, 22), True),
        ("postgresql", (12, 0), False),
        ("mysql", (5, 7, 44), True),
        ("mysql", (8, 0, 36), False),
        ("mariadb", (10, 5, 27), True),
        ("mariadb", (11, 4, 2), False),
        ("sqlite", (3, 40, 0), False),
    ],
)
def test_a_server_that_is_too_old_is_told(
    name: str, version: tuple[int, ...], is_old: bool
) -> None:
    """No such server is at hand: the rule alone."""
    assert [each.code for each in too_old(name, version)] == ["database-old"] * is_old


@pytest.mark.parametrize(("ahead", "word"), [(90, "ahead of"), (-90, "behind")])
def test_a_host_with_a_wrong_clock_is_told(
    ahead: float, word: str, sqlite_database: Database, tmp_path: Path
) -> None:
    with closing(a_system(sqlite_database.url)) as tickwork:
        tickwork.create_schema()
        wrong = ManualClock(datetime.now(UTC) + timedelta(seconds=ahead))
        found = examined(tickwork, tmp_path, clock=wrong)

    assert set(found) == {"clock-skew"}
    assert word in found["clock-skew"].sentence


# -- one database each -----------------------------------------------------------------------------


def test_a_sqlite_file_without_wal_is_told(bare_sqlite_database: Database, tmp_path: Path) -> None:
    with closing(a_system(create_engine(bare_sqlite_database.url))) as tickwork:
        tickwork.create_schema()
        found = examined(tickwork, tmp_path)
        tickwork.engine.dispose()

    assert set(found) == {"sqlite-wal-off"}


def test_a_sqlite_file_that_cannot_be_written_is_told(
    sqlite_database: Database, tmp_path: Path
) -> None:
    with closing(a_system(sqlite_database.url)) as tickwork:
        tickwork.create_schema()
    path = make_url(sqlite_database.url).database
    read_only = create_engine(f"sqlite:///file:{path}?mode=ro&uri=true")
    with closing(a_system(read_only)) as tickwork:
        found = examined(tickwork, tmp_path)
        read_only.dispose()

    assert set(found) == {"sqlite-read-only"}
    assert found["sqlite-read-only"].level is Level.ERROR


def test_mysql_at_its_own_isolation_level_is_told(mysql_database: Database, tmp_path: Path) -> None:
    engine = create_engine(mysql_database.url)
    with closing(a_system(engine)) as tickwork:
        tickwork.create_schema()
        found = examined(tickwork, tmp_path)
        engine.dispose()

    assert set(found) == {"isolation-level"}


@pytest.fixture
def postgres(postgresql_database: Database) -> Iterator[Tickwork]:
    with closing(a_system(postgresql_database.url)) as made:
        made.create_schema()
        yield made


def test_postgresql_without_autovacuum_is_told(postgres: Tickwork, tmp_path: Path) -> None:
    execute(postgres, "ALTER TABLE tickwork_jobs SET (autovacuum_enabled = false)")

    assert set(examined(postgres, tmp_path)) == {"autovacuum-off-table"}


def test_a_server_without_autovacuum_is_told(postgres: Tickwork) -> None:
    with postgres.engine.connect() as connection:
        setting = connection.execute(text("SHOW autovacuum")).scalar()

    found = {each.code for each in postgres.doctor(folder="/nowhere")}
    assert ("autovacuum-off" in found) is (setting == "off")


def test_an_idle_transaction_is_told(postgres: Tickwork, tmp_path: Path) -> None:
    with postgres.engine.connect() as forgotten:
        forgotten.execute(text("SELECT 1"))

        assert examined(postgres, tmp_path) == {}
        found = examined(postgres, tmp_path, idle_seconds=0.0)

    assert set(found) == {"idle-in-transaction"}
    assert "1 session of this database sits idle" in found["idle-in-transaction"].sentence


def test_an_invalid_index_is_told(postgres: Tickwork, tmp_path: Path) -> None:
    """As a CREATE INDEX CONCURRENTLY leaves behind that met two rows alike."""
    postgres.enqueue_many([("greet", {}), ("greet", {})])
    build = text("CREATE UNIQUE INDEX CONCURRENTLY one_of_each ON tickwork_jobs (kind)")
    own = postgres.engine.execution_options(isolation_level="AUTOCOMMIT")
    with own.connect() as connection, pytest.raises(IntegrityError):
        connection.execute(build)

    found = examined(postgres, tmp_path)

    assert set(found) == {"index-invalid"}
    assert "one_of_each" in found["index-invalid"].sentence


def test_prepared_statements_behind_a_pooler_are_told(
    pgbouncer_database: Database, tmp_path: Path
) -> None:
    """The host is not called a pooler's, as Neon's is; the URL says so, as Prisma's do."""
    url = f"{pgbouncer_database.url}?pgbouncer=true"
    with closing(a_system(url)) as right:
        right.create_schema()
        assert examined(right, tmp_path) == {}

        engine = create_engine(pgbouncer_database.url)
        with closing(a_system(engine)) as wrong:
            wrong.settings = right.settings
            found = examined(wrong, tmp_path)
            engine.dispose()

    assert set(found) == {"prepared-statements"}


def test_a_database_that_is_away_is_told_once_and_without_its_password(tmp_path: Path) -> None:
    with closing(a_system("postgresql://app:hunter22@127.0.0.1:1/app")) as tickwork:
        found = examined(tickwork, tmp_path)

    assert set(found) == {"database-unreachable"}
    assert "127.0.0.1" in found["database-unreachable"].mend
    assert "hunter22" not in str(found["database-unreachable"].as_dict())
