"""How commands end badly: what is said, where, with which exit code, and what is never said."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.cli.conftest import Cli, Place
from tests.support.databases import Database

ON_A_DATABASE = [
    ["list"],
    ["stats"],
    ["show", "x"],
    ["cancel", "x"],
    ["tick"],
    ["enqueue", "x"],
    ["db", "upgrade"],
    ["db", "check"],
]
PASSWORD = "s3cret-w0rd"


@pytest.mark.parametrize("command", ON_A_DATABASE, ids=" ".join)
def test_production_without_a_database_says_what_to_set(
    cli: Cli, bare: pytest.MonkeyPatch, command: list[str]
) -> None:
    result = cli(*command)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("tickwork: DATABASE_URL is not set: production keeps jobs in a")


@pytest.mark.parametrize("command", ON_A_DATABASE, ids=" ".join)
def test_the_stub_of_another_process_is_refused(
    cli: Cli, bare: pytest.MonkeyPatch, command: list[str]
) -> None:
    bare.setenv("JOBS_ENV", "development")

    result = cli(*command)

    assert result.exit_code == 2
    assert "DATABASE_URL is not set: jobs would live in the memory of this" in result.stderr
    assert "`tickwork serve --dev` runs without" in result.stderr


def test_the_stub_by_name_is_refused(cli: Cli, place: Place, bare: pytest.MonkeyPatch) -> None:
    bare.setenv("JOBS_BACKEND", "memory")

    result = cli("enqueue", "greet", '{"name": "Ada"}')

    assert result.exit_code == 2
    assert "JOBS_BACKEND=memory" in result.stderr
    assert place.tickwork.list() == []


def test_every_mistake_of_the_environment_is_told_a_line_each(
    cli: Cli, place: Place, bare: pytest.MonkeyPatch
) -> None:
    bare.setenv("JOBS_BATCH_SIZE", "many")
    bare.setenv("JOBS_TIMEOUT", "-1")
    bare.setenv("JOBS_ENV", "\x1b[2J")

    result = cli("list")

    assert result.exit_code == 2
    names = sorted(line.split()[1].rstrip(":") for line in result.stderr.splitlines())
    assert names == ["JOBS_BATCH_SIZE", "JOBS_ENV", "JOBS_TIMEOUT"]
    assert all(line.startswith("tickwork: ") for line in result.stderr.splitlines())
    assert "\x1b" not in result.stderr


@pytest.mark.parametrize(
    "command", [["nonsense"], ["list", "--nonsense"], ["list", "--state", "x"]]
)
def test_a_wrong_command_line(cli: Cli, place: Place, command: list[str]) -> None:
    assert cli(*command).exit_code == 2


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
@pytest.mark.parametrize("command", [["list"], ["-v", "tick"], ["db", "upgrade"], ["db", "check"]])
def test_an_unreachable_database_is_one_line_without_its_password(
    cli: Cli, bare: pytest.MonkeyPatch, scheme: str, command: list[str]
) -> None:
    bare.setenv("DATABASE_URL", f"{scheme}://me:{PASSWORD}@127.0.0.1:1/shop?password={PASSWORD}")

    result = cli(*command)

    assert result.exit_code == 1
    assert PASSWORD not in result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("tickwork: ")]
    assert "DATABASE_URL right" in line
    assert f"{scheme}://me:***@127.0.0.1:1/shop" in line
    assert "Traceback" not in result.output


def test_a_refused_login_does_not_tell_the_password(
    cli: Cli, bare: pytest.MonkeyPatch, mysql_database: Database
) -> None:
    url = make_url(mysql_database.url).set(username="stranger", password=PASSWORD)
    bare.setenv("DATABASE_URL", url.render_as_string(hide_password=False))

    result = cli("stats")

    assert result.exit_code == 1
    assert "Access denied for user 'stranger'" in result.stderr
    assert PASSWORD not in result.output


def test_a_file_that_is_no_database(cli: Cli, bare: pytest.MonkeyPatch) -> None:
    Path("jobs.db").write_text("not a database, but long enough to be taken for one" * 100)
    bare.setenv("DATABASE_URL", "sqlite:///jobs.db")

    result = cli("list")

    assert result.exit_code == 1
    assert "file is not a database" in result.stderr
    assert "Traceback" not in result.stderr


def test_what_the_database_refuses_is_told_without_statement_and_values(
    cli: Cli, place: Place
) -> None:
    with place.tickwork.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER refuse BEFORE INSERT ON tickwork_jobs "
            "BEGIN SELECT RAISE(ABORT, 'not today'); END"
        )

    result = cli("enqueue", "greet", '{"name": "private words"}')

    assert result.exit_code == 1
    assert "not today" in result.stderr
    assert "private words" not in result.output
    assert "INSERT" not in result.stderr


@pytest.mark.parametrize("command", [["tick"], ["enqueue", "x"]])
def test_a_handler_module_that_breaks_is_shown_with_its_trace(
    cli: Cli, place: Place, bare: pytest.MonkeyPatch, command: list[str]
) -> None:
    name = f"broken_{command[0]}"  # each its own: a broken import is not cached, a sound one is
    (place.folder / f"{name}.py").write_text(f"raise RuntimeError('at db://me:{PASSWORD}@h/x')")
    bare.setenv("JOBS_HANDLERS", name)

    result = cli(*command, "--json")

    assert result.exit_code == 1
    assert result.stdout == ""
    assert f'{name}.py", line 1' in result.stderr
    assert "RuntimeError: at db://me:***@h/x" in result.stderr
    assert PASSWORD not in result.stderr


@pytest.mark.parametrize("place_of_it", [["-v", "tick"], ["tick", "-v"]])
def test_verbose_shows_logs_on_stderr(cli: Cli, place: Place, place_of_it: list[str]) -> None:
    place.tickwork.enqueue("greet", {"name": "Ada"})

    quiet, loud = cli("tick"), cli(*place_of_it)
    assert "INFO" not in quiet.output
    place.tickwork.enqueue("greet", {"name": "Ada"})
    loud = cli(*place_of_it)
    assert "INFO tickwork.tick: " in loud.stderr
    assert "INFO" not in loud.stdout
    assert "sqlalchemy" not in loud.stderr


def test_logs_do_not_tell_the_password_either(
    cli: Cli, place: Place, bare: pytest.MonkeyPatch
) -> None:
    (place.folder / "telltale.py").write_text(
        "import logging, os\n"
        "logging.getLogger('mine').warning('at %s with %s', os.environ['SMTP_URL'], 'p@ss/word')\n"
    )
    bare.setenv("JOBS_HANDLERS", "telltale")
    bare.setenv("SMTP_URL", "smtp://me:p%40ss%2Fword@mail/")

    result = cli("tick")

    assert "WARNING mine: at smtp://me:***@mail/ with ***" in result.stderr
