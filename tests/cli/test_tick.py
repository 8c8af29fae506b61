"""`tickwork tick`."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Cli, Place, document
from tests.cli.tasks import boom, greet


def test_the_end_of_each_job_is_told(cli: Cli, place: Place) -> None:
    greeted = place.tickwork.enqueue("greet", {"name": "Ada"})
    tried = place.tickwork.enqueue("boom", {"message": "\x1b[2Jgone"}, max_attempts=2)
    failed = place.tickwork.enqueue("hopeless", max_attempts=1)
    place.tickwork.enqueue("nobody-knows")

    result = cli("tick")

    assert result.exit_code == 0
    *lines, summary = result.stdout.splitlines()
    told = {line.split()[1]: line for line in lines}
    assert told[greeted.id].startswith(f"completed {greeted.id} greet (")
    assert "attempt 1 of 2, again in " in told[tried.id]
    assert told[tried.id].endswith("ValueError: \\x1b[2Jgone")
    assert told[failed.id].startswith("failed")
    assert told[failed.id].endswith("ValueError: first line")
    assert summary.startswith("3 processed, 1 succeeded, 1 failed, 1 retried; 0 still due; took ")


def test_one_document_with_json(cli: Cli, place: Place) -> None:
    job = place.tickwork.enqueue("greet", {"name": "Ada"})

    said = document(cli("tick", "--json"))

    assert said["jobs"] == [job.id]
    assert (said["processed"], said["succeeded"], said["remaining"]) == (1, 1, 0)
    # The answer of the tick over HTTP, and a little more.
    assert {"failed", "retried", "released", "more", "duration_ms", "ticks"} <= said.keys()


def test_nothing_due(cli: Cli, place: Place) -> None:
    assert cli("tick").stdout.startswith("Nothing was due; 0 still due; took ")


def test_the_limit_holds(cli: Cli, place: Place) -> None:
    place.tickwork.enqueue_many([("greet", {"name": "Ada"})] * 5)

    said = document(cli("tick", "--limit", "2", "--json"))

    assert (said["processed"], said["remaining"], said["ticks"]) == (2, 3, 1)


@pytest.mark.parametrize("limit", ["0", "1001", "many"])
def test_a_limit_out_of_range_is_refused(cli: Cli, place: Place, limit: str) -> None:
    assert cli("tick", "--limit", limit).exit_code == 2


def test_drain_ticks_until_nothing_is_due(cli: Cli, place: Place) -> None:
    place.tickwork.enqueue_many([("greet", {"name": "Ada"})] * 25)
    place.tickwork.enqueue("greet", {"name": "later"}, delay=3600)
    place.tickwork.enqueue("nobody-knows")

    said = document(cli("tick", "--drain", "--limit", "10", "--json"))

    assert (said["processed"], said["succeeded"], said["remaining"], said["ticks"]) == (
        25,
        25,
        0,
        3,
    )
    assert len(set(said["jobs"])) == 25
    assert "25 processed" not in cli("tick", "--drain").stdout


def test_drain_ends_when_jobs_only_put_themselves_off(cli: Cli, place: Place) -> None:
    place.tickwork.enqueue("put-off")

    result = cli("tick", "--drain")

    assert result.exit_code == 0
    assert "1 processed, 1 snoozed; 1 still due" in result.stdout
    assert "Stopped: the last tick only put off what is due." in result.stderr


def test_a_longer_time_budget_is_given_to_the_jobs(cli: Cli, place: Place) -> None:
    job = place.tickwork.enqueue("time-left", timeout=500)

    document(cli("tick", "--time-budget", "600", "--json"))

    ran = place.tickwork.get(job.id)
    assert ran is not None
    assert ran.result == pytest.approx(500, abs=5)  # its own timeout; the tick leaves 635 s


def test_without_handlers_it_says_so(
    cli: Cli, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JOBS_HANDLERS")
    place.tickwork.enqueue("greet", {"name": "Ada"})

    result = cli("tick")

    assert result.exit_code == 0
    assert "name their modules in JOBS_HANDLERS" in result.stderr


def test_a_missing_handler_module_is_told(
    cli: Cli, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBS_HANDLERS", "nowhere.tasks")

    result = cli("tick")

    assert result.exit_code == 2
    assert result.stderr == (
        "tickwork: JOBS_HANDLERS: there is no module 'nowhere.tasks' on the import path\n"
    )


def test_the_handlers_stay_plain_functions() -> None:
    assert (greet.kind, boom.kind) == ("greet", "boom")
