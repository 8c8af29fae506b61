"""`tickwork enqueue` and `tickwork cancel`."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs import State
from tests.cli.conftest import Cli, Place, document


def test_a_payload_comes_as_an_argument(cli: Cli, place: Place) -> None:
    result = cli("enqueue", "greet", '{"name": "Ada"}')

    assert result.exit_code == 0
    (job,) = place.tickwork.list()
    assert result.stdout == f"Enqueued {job.id}: greet in queue polite, due now.\n"
    assert job.payload == {"name": "Ada"}
    assert (job.queue, job.priority) == ("polite", 2)  # as its handler says


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "with a byte order mark"])
def test_a_payload_comes_from_stdin_or_a_file(cli: Cli, place: Place, mark: bytes) -> None:
    raw = mark + '{"name": "آدا"}'.encode()
    Path("payload.json").write_bytes(raw)

    assert cli("enqueue", "greet", "-", input=raw).exit_code == 0
    assert cli("enqueue", "greet", "@payload.json").exit_code == 0
    assert [job.payload for job in place.tickwork.list()] == [{"name": "آدا"}] * 2


def test_every_option_arrives(cli: Cli, place: Place) -> None:
    said = document(
        cli(
            *("enqueue", "elsewhere", "--queue", "q", "--priority", "5", "--delay", "10m"),
            *("--max-attempts", "7", "--timeout", "1.5h", "--expires-in", "2d"),
            *("--tenant", "org 1", "--json"),
        )
    )

    job = place.tickwork.get(said["id"])
    assert job is not None
    assert (job.queue, job.priority, job.max_attempts, job.tenant) == ("q", 5, 7, "org 1")
    assert job.payload == {}
    assert job.timeout_seconds == 5400
    assert (job.run_at - job.created_at).total_seconds() == pytest.approx(600, abs=1)
    assert job.expires_at is not None
    assert (job.expires_at - job.created_at).total_seconds() == pytest.approx(172_800, abs=1)
    assert said["shown_state"] == "delayed"


def test_run_at_takes_an_instant(cli: Cli, place: Place) -> None:
    assert cli("enqueue", "x", "--run-at", "2099-01-31T08:00:00+05:30").exit_code == 0

    (job,) = place.tickwork.list()
    assert job.run_at.isoformat() == "2099-01-31T02:30:00+00:00"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["greet", '{"name": '], "not JSON at line 1, column 10"),
        (["x", "{}x"], "not JSON at line 1, column 3"),
        (["x", '{"a": 1, "a": 2}'], "the key 'a' is given twice"),
        (["x", "@missing.json"], "missing.json cannot be read: No such file"),
        (["x", "[" * 100_000], "nested far too deep"),
        (["x", '{"a": %s}' % ("[" * 70 + "]" * 70)], "nested deeper than 64 levels"),
        (["x", '{"a": [1, {"b": NaN}]}'], "$.a[1].b: nan is not JSON"),
        (["x", '{"a": "\\u0000"}'], "$.a: text with a NUL character"),
        (["x", '{"a": "\\ud800"}'], "$.a: text with a lone surrogate"),
        (["x", "[1]"], "$: a payload is an object"),
        (["x", '{"a": "%s"}' % ("x" * 100_001)], "over the limit of 100,000"),
        (["greet", "{}"], "$: Object missing required field `name`"),
        (["greet", '{"name": 1}'], "$.name: Expected `str`, got `int`"),
        (["bad kind"], "kind 'bad kind' is not a name"),
        (["x", "--queue", "all"], "queue 'all' is reserved"),
        (["x", "--priority", "9"], "priority"),
        (["x", "--max-attempts", "0"], "max_attempts"),
        (["x", "--delay", "soon"], "'soon' is not a duration"),
        (["x", "--delay", "99999d"], "delay is from 0 seconds to 10 years"),
        (["x", "--run-at", "2099-01-31T08:00:00"], "has no time zone: add Z"),
        (["x", "--run-at", "tomorrow"], "is not a time"),
        (["x", "--run-at", "2099-01-31T08:00:00Z", "--delay", "5"], "run_at or delay, not both"),
        (["x", "--tenant", "a\nb"], "must be printable"),
        (["x", "--dedupe-key", ""], "dedupe_key '' must be printable text of 1 to 200"),
        (["x", "--dedupe-window", "5"], "give dedupe_key as well"),
        (["x", "--dedupe-key", "k", "--debounce", "5", "--delay", "5"], "give one of the two"),
        (["x", "--job-id", "01890a5d-ac96-774b-bcce-b302099a8057"], "the shape of a UUID"),
    ],
)
def test_what_makes_no_sense_is_refused(
    cli: Cli, place: Place, arguments: list[str], reason: str
) -> None:
    result = cli("enqueue", *arguments, "--json")

    assert result.exit_code == 2
    assert reason in result.stderr
    assert result.stdout == ""
    assert place.tickwork.list() == []


def test_a_unique_job_is_made_once(cli: Cli, place: Place) -> None:
    unique = ("--dedupe-key", "s1-daily", "--dedupe-window", "2h", "--delay", "10m")
    first = document(cli("enqueue", "x", '{"n": 1}', *unique, "--json"))
    again = cli("enqueue", "x", '{"n": 2}', *unique)
    said = document(cli("enqueue", "x", '{"n": 2}', *unique, "--json"))

    assert again.exit_code == 0
    assert again.stdout == f"Existing {first['id']}: x in queue default is delayed, in 10 min.\n"
    assert (first["existing"], said["existing"], said["id"]) == (False, True, first["id"])
    (job,) = place.tickwork.list()
    assert job.payload == {"n": 1}


def test_a_waiting_job_is_replaced_or_put_off(cli: Cli, place: Place) -> None:
    cli("enqueue", "x", '{"n": 1}', "--dedupe-key", "r", "--delay", "1h")
    cli("enqueue", "x", '{"n": 2}', "--dedupe-key", "r", "--replace", "--priority", "1")
    cli("enqueue", "y", '{"n": 1}', "--dedupe-key", "d", "--debounce", "30s")
    cli("enqueue", "y", '{"n": 2}', "--dedupe-key", "d", "--debounce", "10m")

    y, x = place.tickwork.list()
    assert (x.payload, x.priority) == ({"n": 2}, 1)
    assert (x.run_at - x.created_at).total_seconds() < 60
    assert y.payload == {"n": 2}
    assert (y.run_at - y.created_at).total_seconds() == pytest.approx(600, abs=30)


def test_a_job_goes_by_a_name_of_the_callers(cli: Cli, place: Place) -> None:
    said = document(cli("enqueue", "x", "--job-id", "cancel-42", "--tenant", "acme", "--json"))

    assert said["alias"] == "cancel-42"
    assert cli("enqueue", "x", "--job-id", "cancel-42", "--tenant", "acme").stdout.startswith(
        f"Existing {said['id']}: x in queue default is pending"
    )
    assert document(cli("show", "cancel-42", "--tenant", "acme", "--json"))["id"] == said["id"]
    assert "job_id        cancel-42\n" in cli("show", said["id"]).stdout
    for wrong in (("show", "cancel-42"), ("cancel", said["id"], "--tenant", "other")):
        refused = cli(*wrong)
        assert refused.exit_code == 1
        assert "no job" in refused.stderr
    assert cli("cancel", "cancel-42", "--tenant", "acme").stdout == f"Cancelled {said['id']}.\n"


def test_stdin_must_be_utf_8(cli: Cli, place: Place) -> None:
    result = cli("enqueue", "x", "-", input=b'{"a": "\xff"}')

    assert result.exit_code == 2
    assert "stdin is not UTF-8 at byte 7" in result.stderr


def test_a_waiting_job_is_cancelled(cli: Cli, place: Place) -> None:
    job = place.tickwork.enqueue("x")

    assert cli("cancel", job.id).stdout == f"Cancelled {job.id}.\n"
    cancelled = place.tickwork.get(job.id)
    assert cancelled is not None
    assert cancelled.state == State.CANCELLED

    again = cli("cancel", job.id)
    assert again.exit_code == 1
    assert "is cancelled: it cannot be cancelled" in again.stderr


def test_a_running_job_is_asked_to_stop(cli: Cli, place: Place) -> None:
    job = place.tickwork.enqueue("x")
    place.tickwork.store.claim(1, kinds={"x"}, lease_seconds=60, mark=1)

    assert cli("cancel", job.id).stdout.startswith(f"Asked {job.id} to stop: it runs")
    assert "asked to stop" in cli("show", job.id).stdout


def test_an_unknown_job_cannot_be_cancelled(cli: Cli, place: Place) -> None:
    result = cli("cancel", "nope", "--json")

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == "tickwork: no job 'nope' in this namespace\n"
