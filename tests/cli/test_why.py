"""`tickwork why`: the reason, its mend, and what stands behind it."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Cli, Place, document


def test_the_reason_and_its_mend(cli: Cli, place: Place) -> None:
    job = place.tickwork.enqueue("greet", delay=600)

    result = cli("why", job.id)

    assert result.exit_code == 0
    first, second = result.stdout.splitlines()
    assert first.startswith("delayed: it is not due until ")
    assert second == f"Mend: wait, or `tickwork retry {job.id}` to make it due now."


def test_the_next_tick_takes_what_nothing_holds_back(cli: Cli, place: Place) -> None:
    job = place.tickwork.enqueue("greet", {"name": "Ada"})

    assert cli("why", job.id).stdout.startswith("next-tick: the next tick takes it.\n")


def test_all_that_holds_a_job_back(cli: Cli, place: Place) -> None:
    job = place.tickwork.enqueue("unheard-of", delay=600)
    place.tickwork.pause("default", by="ann", because="a sale")

    lines = cli("why", job.id).stdout.splitlines()

    assert lines[0].startswith("no-handler: kind 'unheard-of' has no handler in this deployment")
    assert lines[3].startswith("And paused: queue 'default' was paused ")
    assert "by ann: a sale" in lines[3]
    assert lines[6].startswith("And delayed: ")


def test_one_document_with_json(cli: Cli, place: Place) -> None:
    job = place.tickwork.enqueue("greet", delay=600)

    said = document(cli("why", job.id, "--json"))

    assert said["id"] == job.id
    assert (said["reason"], said["claimable"]) == ("delayed", False)
    assert said["facts"]["run_at"].endswith("Z")
    assert [each["reason"] for each in said["reasons"]] == ["delayed"]


def test_passwords_are_masked(cli: Cli, place: Place) -> None:
    place.tickwork.load_handlers("tests.cli.tasks")
    job = place.tickwork.enqueue("boom", {"message": "postgresql://app:hunter22@db is away"})
    place.tickwork.tick()

    for arguments in (["why", job.id], ["why", job.id, "--json"]):
        said = cli(*arguments).stdout
        assert "retrying" in said
        assert "hunter22" not in said


def test_it_works_when_the_handlers_do_not(
    cli: Cli, place: Place, bare: pytest.MonkeyPatch
) -> None:
    job = place.tickwork.enqueue("greet")
    bare.setenv("JOBS_HANDLERS", "no.such.module")

    result = cli("why", job.id)

    assert result.exit_code == 0
    assert result.stdout.startswith("no-handler: ")
    assert "no.such.module" in result.stderr


def test_no_such_job(cli: Cli, place: Place) -> None:
    result = cli("why", "01900000-0000-7000-8000-000000000000")

    assert result.exit_code == 1
    assert "no job" in result.stderr
