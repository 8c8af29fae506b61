"""`tickwork retry`, `cancel`, `discard`, `dead`, `clean`, `remove` and `reclaim`."""

from __future__ import annotations

import pytest

from jobs import Job
from jobs.core.ids import new_id
from jobs.core.job import State
from tests.cli.conftest import Cli, Place, document


@pytest.fixture
def dead(place: Place) -> list[Job]:
    """Two dead letters of one kind and one of another queue."""
    tickwork = place.tickwork
    tickwork.load_handlers("tests.cli.tasks")
    jobs = [tickwork.enqueue("hopeless") for _ in range(2)]
    jobs.append(tickwork.enqueue("hopeless", queue="other"))
    tickwork.tick()
    return jobs


def states(place: Place, jobs: list[Job]) -> list[str]:
    found = map(place.tickwork.get, (job.id for job in jobs))
    return ["gone" if job is None else job.status for job in found]


def test_dead_letters_are_listed(cli: Cli, place: Place, dead: list[Job]) -> None:
    listed = document(cli("dead", "--json"))["jobs"]
    assert [job["id"] for job in listed] == [job.id for job in reversed(dead)]
    assert listed[0]["error"].startswith("ValueError: first line")
    assert len(document(cli("dead", "--queue", "other", "--json"))["jobs"]) == 1
    assert len(document(cli("dead", "--error", "second line", "--json"))["jobs"]) == 3
    assert cli("dead", "--error", "third line").stdout == "No such jobs.\n"
    assert cli("dead", "--older-than", "1h").stdout == "No such jobs.\n"


def test_single_ones_are_retried(cli: Cli, place: Place, dead: list[Job]) -> None:
    said = cli("retry", dead[0].id, dead[1].id, "--attempts", "4", "--by", "ada")
    assert said.stdout == "".join(f"{job.id} runs again: due now.\n" for job in dead[:2])
    assert states(place, dead) == ["pending", "pending", "failed"]
    retried = place.tickwork.get(dead[0].id)
    assert retried is not None
    assert (retried.max_attempts, retried.attempts) == (4, 0)
    assert "retried by ada" in cli("show", dead[0].id).stdout
    later = document(cli("retry", dead[2].id, "--run-at", "2099-01-01T00:00:00Z", "--json"))
    assert (later["shown_state"], later["run_at"]) == ("delayed", "2099-01-01T00:00:00Z")


def test_many_are_counted_and_asked_for(cli: Cli, place: Place, dead: list[Job]) -> None:
    filters = ["--failed", "--queue", "default", "--kind", "hopeless", "--error", "first"]
    refused = cli("retry", *filters, input="n\n")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "Retry 2 jobs? [y/N]" in refused.stderr
    assert states(place, dead) == ["failed"] * 3
    assert cli("retry", *filters, input="y\n").stdout == "Retried 2 jobs.\n"
    assert states(place, dead) == ["pending", "pending", "failed"]
    rest = document(cli("retry", "--failed", "--per-second", "0.5", "--yes", "--json"))
    assert rest == {"retried": 1}


def test_completed_ones_need_force(cli: Cli, place: Place) -> None:
    place.tickwork.load_handlers("tests.cli.tasks")
    job = place.tickwork.enqueue("greet", {"name": "Ada"})
    place.tickwork.tick()
    refused = cli("retry", job.id)
    assert refused.exit_code == 1
    assert "is completed: it cannot be retried; force=True (--force)" in refused.stderr
    assert cli("retry", job.id, "--force").exit_code == 0
    assert states(place, [job]) == ["pending"]


def test_many_are_cancelled(cli: Cli, place: Place) -> None:
    tickwork = place.tickwork
    waiting = [tickwork.enqueue("x", queue="mail"), tickwork.enqueue("x", queue="other")]
    running = tickwork.enqueue("steady")
    tickwork.store.claim(1, kinds={"steady"}, lease_seconds=600, mark=1)
    assert "Cancel 2 jobs?" in cli("cancel", "--pending", input="n\n").stderr
    said = cli("cancel", "--pending", "--queue", "mail", "--yes")
    assert said.stdout == "Cancelled 1 job, or asked them to stop.\n"
    assert states(place, waiting) == ["cancelled", "pending"]
    assert document(cli("cancel", "--all", "--yes", "--json")) == {"cancelled": 2}
    assert states(place, [*waiting, running]) == ["cancelled", "cancelled", "processing"]


def test_ended_ones_are_cleaned(cli: Cli, place: Place, dead: list[Job]) -> None:
    waiting = place.tickwork.enqueue("x")
    old = ["clean", "--state", "failed", "--older-than", "7d"]
    assert cli(*old, "--yes").stdout == "Deleted 0 jobs.\n"
    assert "Delete 3 jobs? [y/N]" in cli("clean", "--state", "failed", input="n\n").stderr
    assert cli("clean", "--state", "failed", "--queue", "other", "-y").stdout == "Deleted 1 job.\n"
    assert document(cli("clean", "--state", "failed", "-y", "--json")) == {"deleted": 2}
    assert states(place, [*dead, waiting]) == ["gone", "gone", "gone", "pending"]


def test_a_queue_is_emptied(cli: Cli, place: Place, dead: list[Job]) -> None:
    jobs = [
        place.tickwork.enqueue("x", queue="mail", tenant="acme"),
        place.tickwork.enqueue("x", queue="mail", delay=60),
        place.tickwork.enqueue("x", queue="other"),
    ]
    emptied = cli("clean", "--empty", "mail", "--tenant", "acme", "--yes")
    assert emptied.stdout == "Deleted 1 job.\n"
    assert "Delete 1 job?" in cli("clean", "--empty", "mail", input="y\n").stderr
    assert states(place, [*jobs, *dead]) == ["gone", "gone", "pending", *["failed"] * 3]
    assert document(cli("clean", "--empty", "all", "--yes", "--json")) == {"deleted": 1}


def test_one_is_given_up_with_a_reason(cli: Cli, place: Place, dead: list[Job]) -> None:
    waiting = place.tickwork.enqueue("hopeless", delay=60)
    said = cli("discard", waiting.id, "--by", "ada", "--because", "no such address")
    assert said.stdout == f"Gave up {waiting.id}: it is a dead letter now.\n"
    found = place.tickwork.get(waiting.id)
    assert found is not None
    assert (found.status, found.error) == (
        "failed",
        "Discarded: given up by ada: no such address",
    )
    refused = cli("discard", dead[0].id)
    assert refused.exit_code == 1
    assert "it has ended already" in refused.stderr
    (entry,) = document(cli("audit", "--json"))["changes"]
    assert (entry["action"], entry["by"], entry["reason"]) == (
        *("job.discard", "cli:ada"),
        "no such address",
    )


def test_one_is_removed_unless_it_runs(cli: Cli, place: Place) -> None:
    waiting, running = place.tickwork.enqueue("x"), place.tickwork.enqueue("steady")
    place.tickwork.store.claim(1, kinds={"steady"}, lease_seconds=600, mark=1)
    assert cli("remove", waiting.id).stdout == f"Deleted {waiting.id} (pending).\n"
    refused = cli("remove", running.id)
    assert (refused.exit_code, states(place, [running])) == (1, ["processing"])
    assert "cancel it, and remove it once it has ended" in refused.stderr
    assert cli("remove", new_id()).exit_code == 1


def test_stuck_ones_are_put_back(cli: Cli, place: Place) -> None:
    tickwork = place.tickwork
    job = tickwork.enqueue("steady")
    tickwork.store.claim(1, kinds={"steady"}, lease_seconds=9000, mark=1)
    assert cli("reclaim").stdout == "Put back 0 jobs.\n"
    assert document(cli("reclaim", "--older-than", "30m", "--yes", "--json")) == {"reclaimed": 0}
    half_an_hour = cli("reclaim", "--older-than", "--yes")
    assert "in processing for over 30 min" in half_an_hour.stderr
    refused = cli("reclaim", "--older-than", "0", input="n\n")
    assert refused.exit_code == 1
    assert "may run twice at once" in refused.stderr
    assert states(place, [job]) == ["processing"]
    assert cli("reclaim", "--older-than", "0", "--yes").stdout == "Put back 1 job.\n"
    back = tickwork.get(job.id)
    assert back is not None
    assert (back.state, back.started_at) == (State.PENDING, None)


@pytest.mark.parametrize(
    "arguments",
    [
        ["retry"],
        ["retry", "x", "--failed"],
        ["retry", "x", "--queue", "mail"],
        ["retry", "x", "--per-second", "1"],
        ["retry", "--failed", "--force", "--yes"],
        ["retry", "--failed", "--per-second", "0", "--yes"],
        ["retry", "--failed", "--attempts", "0", "--yes"],
        ["retry", "--failed", "--queue", "stats", "--yes"],
        ["cancel"],
        ["cancel", "x", "--all"],
        ["clean", "--yes"],
        ["clean", "--state", "failed", "--empty", "mail"],
        ["clean", "--state", "pending"],
        ["clean", "--empty", "mail", "--queue", "mail", "--yes"],
        ["clean", "--empty", "mail", "--older-than", "1d", "--yes"],
        ["remove"],
        ["reclaim", "--older-than", "soon"],
    ],
    ids=" ".join,
)
def test_what_is_asked_wrongly(cli: Cli, place: Place, arguments: list[str]) -> None:
    place.tickwork.enqueue("x", queue="mail")
    result = cli(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(place.tickwork.list()) == 1
