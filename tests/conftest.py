"""Real databases for every test that asks for one.

`database` runs a test on SQLite, PostgreSQL and MySQL/MariaDB alike; `sqlite_url` and the
`*_database` fixtures bring a single one. Each is empty, belongs to one test, and goes with it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import make_url

from tests.support import alone, mariadb, pgbouncer, postgresql, quick_aws
from tests.support.crashing import Crasher
from tests.support.databases import Database
from tests.support.furnished import Furnished, sqlite_file
from tests.support.requirements import missing, required

# How fast a busy machine makes up examples says nothing of what is tested. The same examples each
# time: a run says what the change did. `TICKWORK_SEARCH=1` looks for new ones.
settings.register_profile(
    "tickwork",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="TICKWORK_SEARCH" not in os.environ,
)
settings.load_profile("tickwork")


def pytest_configure() -> None:
    quick_aws.read_endpoints_once()
    required()  # a misspelt name is refused before anything runs


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the second clock of the shipped suite to the slow tests where no statement is tested.

    The database's own time is in the texts of the stores' statements, which run on both clocks.
    """
    for item in items:
        given = getattr(item, "callspec", None)
        own = given is not None and given.params.get("clock") == "own"
        if own and _is_of_the_runtime(item):
            item.add_marker(pytest.mark.slow)


def _is_of_the_runtime(item: pytest.Item) -> bool:
    function = getattr(item, "function", None)
    return getattr(function, "__module__", "").startswith("jobs.testing.areas.runtime_")


TURNS = pytest.StashKey[Path]()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a process of several where the locks are by which they take turns."""
    stash = node.config.stash
    if TURNS not in stash:
        stash[TURNS] = Path(tempfile.mkdtemp(prefix="tickwork-turns-"))
        node.config.add_cleanup(lambda: shutil.rmtree(stash[TURNS], ignore_errors=True))
    node.workerinput["turns"] = str(stash[TURNS])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """One process of several waits where a test must have the machine to itself."""
    given = getattr(item.config, "workerinput", {}).get("turns")
    if given is None:
        return (yield)
    with alone.turn(Path(given), alone=item.get_closest_marker("alone") is not None):
        return (yield)


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """A PostgreSQL server: `TEST_POSTGRESQL_URL`, or one started for this run."""
    given = os.environ.get("TEST_POSTGRESQL_URL")
    if given:
        url = make_url(given).set(drivername="postgresql+psycopg")
        yield url.render_as_string(hide_password=False)
        return
    try:
        with postgresql.server() as started:
            yield started
    except postgresql.PostgresqlMissingError as error:
        missing("postgresql", str(error))


@pytest.fixture(scope="session")
def mysql_url() -> Iterator[str]:
    """A MySQL or MariaDB server: `TEST_MYSQL_URL`, or a MariaDB started for this run.

    One is started only where it is asked for, by `TEST_MYSQL=auto` or `TICKWORK_REQUIRE=mysql`: a
    plain `make test` depends on nothing that happens to be installed.
    """
    given = os.environ.get("TEST_MYSQL_URL")
    if given:
        url = make_url(given).set(drivername="mysql+pymysql")
        yield url.render_as_string(hide_password=False)
        return
    if "mysql" not in required() and os.environ.get("TEST_MYSQL") != "auto":
        missing("mysql", "set TEST_MYSQL_URL to run on MySQL/MariaDB")
    try:
        with mariadb.server() as started:
            yield started
    except mariadb.MariadbMissingError as error:
        missing("mysql", str(error))


@pytest.fixture(scope="session")
def pgbouncer_url(postgresql_url: str) -> Iterator[str]:
    """`postgresql_url`, seen through a PgBouncer in transaction mode."""
    try:
        with pgbouncer.server(postgresql_url) as started:
            yield started
    except pgbouncer.PgbouncerMissingError as error:
        missing("pgbouncer", str(error))


@pytest.fixture(scope="session")
def postgresql_databases(postgresql_url: str) -> Iterator[postgresql.Databases]:
    with closing(postgresql.Databases(postgresql_url)) as databases:
        yield databases


@pytest.fixture(scope="session")
def mysql_databases(mysql_url: str) -> Iterator[mariadb.Databases]:
    with closing(mariadb.Databases(mysql_url)) as databases:
        yield databases


@pytest.fixture(scope="session")
def postgresql_furnished(postgresql_databases: postgresql.Databases) -> Iterator[Furnished]:
    with closing(Furnished(postgresql_databases)) as furnished:
        yield furnished


@pytest.fixture(scope="session")
def mysql_furnished(mysql_databases: mariadb.Databases) -> Iterator[Furnished]:
    with closing(Furnished(mysql_databases)) as furnished:
        yield furnished


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("template") / "tickwork.db"


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'tickwork.db'}"


@pytest.fixture
def sqlite_database(sqlite_url: str, sqlite_template: Path, tmp_path: Path) -> Database:
    sqlite_file(sqlite_template, tmp_path / "tickwork.db")
    return Database("sqlite", sqlite_url)


@pytest.fixture
def postgresql_database(postgresql_furnished: Furnished) -> Iterator[Database]:
    with postgresql_furnished.lent() as url:
        yield Database("postgresql", url)


@pytest.fixture
def mysql_database(mysql_furnished: Furnished) -> Iterator[Database]:
    with mysql_furnished.lent() as url:
        yield Database("mysql", url)


@pytest.fixture
def pgbouncer_database(postgresql_database: Database, pgbouncer_url: str) -> Database:
    """A fresh PostgreSQL database, reached through the pooler."""
    return Database("postgresql", pgbouncer.pooled(postgresql_database.url, pgbouncer_url))


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def database(request: pytest.FixtureRequest) -> Database:
    """A database of each kind in turn, with the tables and without rows."""
    place: Database = request.getfixturevalue(f"{request.param}_database")
    return place


@pytest.fixture
def bare_sqlite_database(sqlite_url: str) -> Database:
    return Database("sqlite", sqlite_url)


@pytest.fixture
def bare_postgresql_database(postgresql_databases: postgresql.Databases) -> Iterator[Database]:
    with postgresql_databases.fresh() as url:
        yield Database("postgresql", url)


@pytest.fixture
def bare_mysql_database(mysql_databases: mariadb.Databases) -> Iterator[Database]:
    with mysql_databases.fresh() as url:
        yield Database("mysql", url)


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def bare_database(request: pytest.FixtureRequest) -> Database:
    """A database of each kind in turn, without anything in it."""
    place: Database = request.getfixturevalue(f"bare_{request.param}_database")
    return place


@pytest.fixture(scope="module")
def crasher() -> Iterator[Crasher]:
    """Starts processes that may die in the middle of what they do."""
    with Crasher() as started:
        yield started


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where those processes write down what they began."""
    return tmp_path / "log"
