"""`tickwork list`, `show` and `stats`: what they show, and what they must not let through."""

from __future__ import annotations

import pytest

from jobs import Job
from tests.cli.conftest import Cli, Place, document

LOOKS = ["list", "stats"]


@pytest.fixture
def shop(place: Place) -> dict[str, Job]:
    """A job in each state that a person is told of, by that state's name."""
    tickwork = place.tickwork
    tickwork.load_handlers("tests.cli.tasks")
    jobs = {
        "completed": tickwork.enqueue("greet", {"name": "Ada"}),
        "failed": tickwork.enqueue("hopeless"),
        "retrying": tickwork.enqueue("boom", {"message": "try again"}),
    }
    tickwork.tick()
    jobs["stalled"] = tickwork.enqueue("slow")
    tickwork.store.claim(1, kinds={"slow"}, lease_seconds=-60)
    jobs["processing"] = tickwork.enqueue("steady", tenant="org1")
    tickwork.store.claim(1, kinds={"steady"}, lease_seconds=600, mark=1)
    jobs["pending"] = tickwork.enqueue("greet", {"name": "Grace"})
    jobs["delayed"] = tickwork.enqueue("greet", {"name": "Joan"}, delay=600)
    jobs["cancelled"] = tickwork.cancel(tickwork.enqueue("greet", {"name": "Mary"}).id)
    return jobs


def test_a_listing_shows_the_newest_first(cli: Cli, shop: dict[str, Job]) -> None:
    lines = cli("list").stdout.splitlines()

    assert lines[0].split() == [
        *("ID", "KIND", "QUEUE", "TENANT", "STATE", "ATTEMPTS", "AGE", "WHEN", "ERROR")
    ]
    assert [line.split()[0] for line in lines[1:]] == sorted(
        (job.id for job in shop.values()), reverse=True
    )
    by_id = {line.split()[0]: line for line in lines[1:]}
    for state, said in {
        "pending": "due now",
        "delayed": "in 10 min",
        "retrying": "1/2",
        "processing": "runs for ",
        "stalled": "lease ended 60 s ago",
        "failed": "ValueError: first line",
        "cancelled": " ago",
        "completed": " ago",
    }.items():
        assert state in by_id[shop[state].id]
        assert said in by_id[shop[state].id]
    assert "second line" not in by_id[shop["failed"].id]


def test_a_listing_is_one_document_with_json(cli: Cli, shop: dict[str, Job]) -> None:
    said = document(cli("list", "--json"))

    assert said["more"] is False
    states = {job["id"]: job["shown_state"] for job in said["jobs"]}
    assert states == {job.id: state for state, job in shop.items()}


@pytest.mark.parametrize(
    ("filters", "states"),
    [
        (["--state", "pending"], {"pending", "delayed", "retrying"}),
        (["--state", "delayed"], {"delayed"}),
        (["--state", "retrying"], {"retrying"}),
        (["--state", "processing"], {"processing", "stalled"}),
        (["--state", "stalled"], {"stalled"}),
        (["--state", "completed"], {"completed"}),
        (["--state", "failed"], {"failed"}),
        (["--state", "cancelled"], {"cancelled"}),
        (["--kind", "boom"], {"retrying"}),
        (["--queue", "polite"], {"completed", "pending", "delayed", "cancelled"}),
        (["--tenant", "org1"], {"processing"}),
        (["--queue", "polite", "--state", "delayed"], {"delayed"}),
    ],
)
def test_filters(cli: Cli, shop: dict[str, Job], filters: list[str], states: set[str]) -> None:
    said = document(cli("list", *filters, "--json"))

    assert {job["id"] for job in said["jobs"]} == {shop[state].id for state in states}


def test_a_listing_goes_on_where_it_ended(cli: Cli, place: Place) -> None:
    ids = sorted(place.tickwork.enqueue_many([("greet", {"name": "Ada"})] * 5), reverse=True)

    first = cli("list", "--limit", "3")
    assert first.stderr == f"There are more: --before {ids[2]}\n"
    rest = document(cli("list", "--limit", "3", "--before", ids[2], "--json"))
    assert [job["id"] for job in rest["jobs"]] == ids[3:]
    assert rest["more"] is False


def test_computed_states_are_looked_for_beyond_a_page(
    cli: Cli, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.cli.look._PAGE", 2)
    delayed = place.tickwork.enqueue("x", delay=60)
    place.tickwork.enqueue_many([("x", {})] * 7)
    assert document(cli("list", "--state", "delayed", "--json"))["jobs"][0]["id"] == delayed.id

    monkeypatch.setattr("jobs.cli.look._LOOKED_THROUGH_AT_MOST", 4)
    short = cli("list", "--state", "delayed")
    assert short.stdout == "No such jobs.\n"
    assert short.stderr == "Looked through the newest 4 pending jobs only.\n"


@pytest.mark.parametrize("look", LOOKS)
def test_an_empty_database(cli: Cli, place: Place, look: str) -> None:
    assert cli(look).stdout == "No jobs.\n"
    assert document(cli(look, "--json"))


def test_a_failed_job_is_shown_with_all_it_left(cli: Cli, shop: dict[str, Job]) -> None:
    shown = cli("show", shop["failed"].id).stdout

    assert "kind          hopeless\n" in shown
    assert "state         failed (" in shown
    assert "attempts      1 of 1\n" in shown
    assert "error\n    ValueError: first line\n    second line\n" in shown
    assert "attempt 1 at " in shown
    assert 'raise ValueError("first line' in shown  # the traceback


def test_a_completed_job_is_shown_with_payload_and_result(cli: Cli, shop: dict[str, Job]) -> None:
    shown = cli("show", shop["completed"].id).stdout

    assert 'payload\n    {\n      "name": "Ada"\n    }\n' in shown
    assert 'result\n    "hello Ada"\n' in shown


def test_show_is_one_document_with_json(cli: Cli, shop: dict[str, Job]) -> None:
    said = document(cli("show", shop["failed"].id, "--json"))

    assert said["shown_state"] == said["state"] == "failed"
    assert said["payload"] == {}
    (entry,) = said["errors"]
    assert entry["attempt"] == 1
    assert "Traceback" in entry["traceback"] or "raise ValueError" in entry["traceback"]


def test_an_unknown_id_is_told(cli: Cli, place: Place) -> None:
    result = cli("show", "nope", "--json")

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == "tickwork: no job 'nope' in this namespace\n"


def test_stats_count_by_queue_kind_and_state(cli: Cli, shop: dict[str, Job]) -> None:
    heading, *lines = (line.split() for line in cli("stats").stdout.splitlines())

    assert heading == [
        *("QUEUE", "KIND", "PENDING", "PAUSED", "DELAYED", "RETRYING", "PROCESSING", "STALLED"),
        *("COMPLETED", "FAILED", "CANCELLED", "TOTAL"),
    ]
    assert ["polite", "greet", "1", "0", "1", "0", "0", "0", "1", "0", "1", "4"] in lines
    assert ["default", "boom", "0", "0", "0", "1", "0", "0", "0", "0", "0", "1"] in lines
    assert lines[-1] == ["all", "1", "0", *["1"] * 7, "8"]


def test_stats_are_one_document_with_json(cli: Cli, shop: dict[str, Job]) -> None:
    said = document(cli("stats", "--json"))

    assert said["total"] == {**dict.fromkeys(shop, 1), "paused": 0, "total": 8}
    assert said["queues"]["polite"]["total"] == 4
    assert said["kinds"]["hopeless"]["failed"] == 1
    assert said["kinds"]["hopeless"]["total"] == 1


NASTY = "\x1b]0;owned\x07\x1b[2J\r\x9b31m\u202etxt.exe\u2028"


def test_nothing_from_the_database_reaches_the_terminal_as_a_command(
    cli: Cli, place: Place
) -> None:
    place.tickwork.handler("nasty", max_attempts=1)(_raise_nasty)
    job = place.tickwork.enqueue("nasty", {NASTY: NASTY})
    place.tickwork.tick()
    with place.tickwork.engine.begin() as connection:
        # Our own rules refuse such names; another writer of the database has none.
        connection.exec_driver_sql("UPDATE tickwork_jobs SET kind = ?", ("\x1b[8m",))

    for arguments in (["list"], ["show", job.id], ["stats"]):
        for extra in ([], ["--json"]):
            result = cli(*arguments, *extra)
            assert result.exit_code == 0
            assert not set(result.output) & set("\x1b\x07\r\x9b\u202e\u2028"), result.output
    assert "\\x1b]0;owned\\x07" in cli("show", job.id).stdout
    assert document(cli("show", job.id, "--json"))["payload"] == {NASTY: NASTY}


def _raise_nasty(payload: dict[str, str]) -> None:
    raise ValueError(NASTY)


@pytest.mark.parametrize("look", [["list"], ["stats"], ["show", "ID"], ["cancel", "ID"]])
def test_who_looks_needs_no_handlers(
    cli: Cli, place: Place, monkeypatch: pytest.MonkeyPatch, look: list[str]
) -> None:
    """They may be what is broken."""
    job = place.tickwork.enqueue("x")
    monkeypatch.setenv("JOBS_HANDLERS", "nowhere.tasks")

    assert cli(*(job.id if word == "ID" else word for word in look)).exit_code == 0


def test_other_namespaces_are_invisible(
    cli: Cli, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = place.tickwork.enqueue("x")
    monkeypatch.setenv("JOBS_NAMESPACE", "preview-1")

    assert cli("list").stdout == "No jobs.\n"
    assert cli("show", job.id).exit_code == 1
