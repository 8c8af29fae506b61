"""`tickwork schedules`: make, look, steer, and try a rule out."""

from __future__ import annotations

from datetime import datetime

import pytest

from tests.cli.conftest import Cli, Place, document


def test_from_nothing_to_a_job(cli: Cli, place: Place) -> None:
    assert cli("schedules").stdout == "No schedules.\n"
    added = cli(
        *("schedules", "add", "weekly", "0 8 * * 1", "greet", '{"name": "Ada"}'),
        *("--timezone", "Asia/Kolkata", "--missed", "all:3", "--jitter", "5m"),
        *("--queue", "reports", "--priority", "2"),
    )
    assert added.exit_code == 0, added.output
    assert added.stdout.startswith(
        "Schedule weekly makes jobs of greet: At 08:00 on Monday, Asia/Kolkata (next: in "
    )
    (row,) = document(cli("schedules", "--json"))["schedules"]
    assert row["words"] == "At 08:00 on Monday, Asia/Kolkata"
    assert (row["missed"], row["jitter_seconds"], row["timezone"]) == ("all:3", 300, "Asia/Kolkata")
    assert row["options"] == {"queue": "reports", "priority": 2}
    assert (row["source"], row["changed_by"]) == ("user", "command line")
    assert row["next_at"].endswith("02:30:00Z")

    heading, line = cli("schedules", "list").stdout.splitlines()
    assert heading.split("  ")[0] == "NAME"
    assert line.startswith("weekly  greet  in ")
    assert line.endswith("At 08:00 on Monday, Asia/Kolkata")

    ran = document(cli("schedules", "run", "weekly", "--json"))
    assert (ran["schedule"], ran["queue"], ran["payload"]) == ("weekly", "reports", {"name": "Ada"})
    assert "1 succeeded" in cli("tick").stdout
    assert "\nschedule      weekly\n" in cli("show", ran["id"]).stdout


def test_off_on_and_away(cli: Cli, place: Place) -> None:
    cli("schedules", "add", "sync", "every 2h", "greet", '{"name": "Ada"}')
    off = cli("schedules", "disable", "sync")
    assert off.stdout == "Schedule sync is off: Every 2 hours (next: off).\n"
    assert "  off  " in cli("schedules").stdout
    assert document(cli("schedules", "enable", "sync", "--json"))["enabled"] is True
    assert cli("schedules", "remove", "sync").stdout == "Removed sync.\n"
    for command in ("disable", "enable", "remove", "run", "preview"):
        missing = cli("schedules", command, "sync")
        assert missing.exit_code == 1
        assert missing.stderr == (
            "tickwork: no schedule 'sync' here; `tickwork schedules` lists those there are\n"
        )


def test_tenants(cli: Cli, place: Place) -> None:
    for tenant in ("acme", "globex"):
        cli("schedules", "add", "sync", "@daily", "greet", '{"name": "A"}', "--tenant", tenant)
    assert cli("schedules", "disable", "sync").exit_code == 1
    assert cli("schedules", "disable", "sync", "--tenant", "acme").exit_code == 0
    states = {
        row["tenant"]: row["enabled"]
        for row in document(cli("schedules", "list", "--json"))["schedules"]
    }
    assert states == {"acme": False, "globex": True}
    (row,) = document(cli("schedules", "--tenant", "acme", "--json"))["schedules"]
    assert row["tenant"] == "acme"
    assert cli("schedules").stdout.splitlines()[0].split()[:2] == ["NAME", "TENANT"]


def test_once(cli: Cli, place: Place) -> None:
    made = document(cli("schedules", "add", "go", "at 2130-01-31T08:00:00+01:00", "x", "--json"))
    assert (made["rule"], made["next_at"]) == ("at 2130-01-31T07:00:00Z", "2130-01-31T07:00:00Z")
    past = cli("schedules", "add", "late", "at 2020-01-31T08:00:00Z", "x")
    assert past.exit_code == 2
    assert "would never run" in past.stderr


def test_a_rule_is_tried_out_without_a_database(cli: Cli, bare: pytest.MonkeyPatch) -> None:
    said = document(
        cli("schedules", "preview", "0 8 * * 1", "--timezone", "Europe/Berlin", "-n", "3", "--json")
    )
    assert said["words"] == "At 08:00 on Monday, Europe/Berlin"
    slots = [datetime.fromisoformat(slot) for slot in said["slots"]]
    assert len(slots) == 3
    assert {(slot.weekday(), slot.hour) for slot in slots} == {(0, 8)}
    lines = cli("schedules", "preview", "@hourly").stdout.splitlines()
    assert lines[0] == "At the start of every hour, UTC"
    assert len(lines) == 6
    assert lines[1].endswith(":00:00 +0000")
    assert cli("schedules", "preview", "at 2020-01-01T00:00:00Z").stdout.splitlines() == [
        "Once, at 2020-01-01 00:00:00, UTC",
        "No slot is to come.",
    ]


def test_a_preview_of_a_schedule(cli: Cli, place: Place) -> None:
    cli("schedules", "add", "sync", "30 2 * * *", "x", "--timezone", "Europe/Berlin")
    said = document(cli("schedules", "preview", "sync", "-n", "2", "--json"))
    assert said["words"] == "At 02:30 every day, Europe/Berlin"
    assert len(said["slots"]) == 2
    refused = cli("schedules", "preview", "sync", "--timezone", "UTC")
    assert refused.exit_code == 2
    assert "a schedule has its own" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["add", "a", "0 25 * * *", "x"], "'25' is no hour; it is 0-23"),
        (["add", "a", "every", "x"], "is not a duration"),
        (["add", "a", "every soon", "x"], "'soon' is not a duration"),
        (["add", "a", "at noon", "x"], "'noon' is not a time"),
        (["add", "a", "@daily", "x", "{"], "not JSON"),
        (["add", "a", "@daily", "x", "--timezone", "Mars"], "timezone 'Mars' is not known"),
        (["add", "a", "@daily", "x", "--missed", "some"], "missed is 'latest'"),
        (["preview", "0 8 * * MOO"], "'MOO' is no day of week"),
        (["preview", "@daily", "--timezone", "Mars"], "timezone 'Mars' is not known"),
        (["explode"], "No such command 'explode'"),
        (["--explode"], "No such option"),
    ],
)
def test_asked_wrongly(cli: Cli, place: Place, arguments: list[str], reason: str) -> None:
    refused = cli("schedules", *arguments)
    assert refused.exit_code == 2, refused.output
    assert reason in refused.stderr
    assert "Traceback" not in refused.output


def test_help_names_the_commands(cli: Cli) -> None:
    said = cli("schedules", "--help").stdout
    for command in ("list", "add", "enable", "disable", "run", "remove", "preview"):
        assert f"\n  {command} " in said
    assert "cron expression" in said
