"""`tickwork alerts`: what is open, and who knows of it."""

from __future__ import annotations

from dataclasses import replace

from jobs.core.alerts import Alert, Evaluation
from jobs.core.look import Level
from tests.cli.conftest import Cli, Place, document


def put(place: Place, *alerts: Alert) -> None:
    written = [(None, replace(alert, version=1)) for alert in alerts]
    assert place.tickwork.store.save_alerts(Evaluation(written=written), [])


def test_listed_the_worst_first(cli: Cli, place: Place) -> None:
    assert cli("alerts").stdout == "No open alerts.\n"
    now = place.tickwork.store.now()
    put(
        place,
        Alert("depth", "email", Level.WARNING, now, value=60.0, detail="60 jobs \x1b[2J wait"),
        Alert("stalled", "", Level.ALERT, now, value=42.0, detail="1 job lost its runner"),
        Alert("p95", "", Level.OK, now, detail="of 30 runs"),
    )
    heading, first, second = cli("alerts").stdout.splitlines()

    assert heading.split() == ["LEVEL", "ALERT", "OF", "SINCE", "KNOWN", "TO", "DETAIL"]
    assert first.startswith("alert    stalled")
    assert second.startswith("warning  depth    email  ")
    assert second.endswith(r"60 jobs \x1b[2J wait")
    assert [alert["name"] for alert in document(cli("alerts", "--json"))["alerts"]] == [
        "stalled",
        "depth",
    ]
    every = document(cli("alerts", "--all", "--json"))["alerts"]
    assert [alert["level"] for alert in every] == ["alert", "warning", "ok"]
    assert every[0] | {"since": None} == {
        "name": "stalled",
        "subject": None,
        "level": "alert",
        "since": None,
        "value": 42.0,
        "detail": "1 job lost its runner",
        "acknowledged_by": None,
        "acknowledged_at": None,
        "changes": 0,
    }


def test_acknowledged(cli: Cli, place: Place) -> None:
    now = place.tickwork.store.now()
    put(
        place,
        Alert("depth", "email", Level.ALERT, now),
        Alert("depth", "sms", Level.ALERT, now),
    )

    assert cli("alerts", "ack", "depth", "--subject", "sms", "--by", "ada").stdout == (
        "1 of depth: known to ada.\n"
    )
    found = document(cli("alerts", "--json"))["alerts"]
    assert [alert["acknowledged_by"] for alert in found] == [None, "ada"]
    assert document(cli("alerts", "ack", "depth", "--json")) == {
        "acknowledged": 2,
        "name": "depth",
        "by": "command line",
    }
    log = document(cli("audit", "--json"))["changes"]
    assert [(each["action"], each["subject"], each["count"]) for each in log] == [
        ("alert.acknowledge", "depth", 2),
        ("alert.acknowledge", "depth/sms", 1),
    ]
    assert log[1]["by"] == "cli:ada"
    missing = cli("alerts", "ack", "stalled")
    assert missing.exit_code == 1
    assert "no open alert 'stalled'; open are depth" in missing.stderr
