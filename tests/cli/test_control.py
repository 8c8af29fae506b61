"""`tickwork pause`, `resume` and `queues`."""

from __future__ import annotations

import sys

import pytest

from jobs.core.job import State
from tests.cli.conftest import Cli, Place, document


def test_a_queue_is_paused_and_resumed(cli: Cli, place: Place) -> None:
    place.tickwork.enqueue("greet", {"name": "Ada"}, queue="polite")
    said = cli("pause", "polite", "--because", "the relay is down", "--by", "ada")
    assert (said.exit_code, said.stdout) == (
        0,
        "Paused queue polite. Take it back with: tickwork resume polite\n",
    )
    assert document(cli("tick", "--json"))["processed"] == 0
    assert document(cli("list", "--state", "paused", "--json"))["jobs"][0]["queue"] == "polite"
    assert document(cli("stats", "--json"))["total"]["paused"] == 1
    assert ", by ada: the relay is down" in cli("queues").stdout
    assert cli("resume", "polite").stdout == "Resumed queue polite.\n"
    assert cli("resume", "polite").stdout == "Nothing had paused queue polite.\n"
    assert document(cli("tick", "--json"))["succeeded"] == 1


def test_everything_and_kinds(cli: Cli, place: Place) -> None:
    assert document(cli("pause", "all", "--json"))["subject"] == "queue/all"
    paused = cli("pause", "--kind", "greet", "--because", "bug")
    assert paused.stdout.endswith("with: tickwork resume --kind greet\n")
    shown = cli("queues").stdout
    assert "Paused: every queue since " in shown
    assert "Paused: kind greet since " in shown
    assert document(cli("queues", "--json"))["all_paused"]["subject"] == "queue/all"
    resumed = cli("resume", "all")
    assert resumed.stdout == "Resumed every queue.\n"
    assert "Still paused: kind greet" in resumed.stderr
    said = document(cli("resume", "--kind", "greet", "--json"))
    assert said == {"subject": "kind/greet", "was_paused": True, "still_paused": []}


@pytest.mark.parametrize(
    "arguments", [["pause"], ["pause", "a", "--kind", "b"], ["pause", "stats"], ["resume", "a b"]]
)
def test_one_queue_or_kind_is_named(cli: Cli, place: Place, arguments: list[str]) -> None:
    assert cli(*arguments).exit_code == 2
    assert place.tickwork.controls() == []


def test_settings_are_set_shown_and_taken_back(cli: Cli, place: Place) -> None:
    pairs = ["timeout=5m", "backoff=5s,25", "max_attempts=9", "remove_on_complete=1d"]
    said = cli("queues", "set", "polite", *pairs, "rate_limit=100/s", "--by", "ada")
    assert said.exit_code == 0, said.output
    assert "timeout=300, backoff=steps: 5 s, 25 s, 25 s, ..." in said.stdout

    shown = document(cli("queues", "--json"))["queues"]["polite"]["settings"]
    assert shown["timeout"] == {"value": 300.0, "from": "run time"}
    assert shown["rate_limit"] == {"value": "100/s", "from": "run time"}
    assert shown["priority"] == {"value": 3, "from": "default"}
    assert place.tickwork.controls()[0].changed_by == "ada"
    enqueued = document(cli("enqueue", "greet", '{"name": "Ada"}', "--json"))
    assert enqueued["max_attempts"] == 9

    assert "timeout" not in cli("queues", "unset", "polite", "timeout").stdout
    assert document(cli("queues", "unset", "polite", "--json")) == {
        "queue": "polite",
        "settings": {},
    }
    assert cli("queues", "unset", "polite").stdout == (
        "Nothing is set at run time of queue polite.\n"
    )


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ("colour=red", "KEY of max_attempts, timeout"),
        ("timeout", "is not KEY=VALUE"),
        ("timeout=never", "is not a duration"),
        ("priority=9", "priority is a whole number from 1"),
        ("max_attempts=many", "max_attempts counts all executions"),
        ("rate_limit=fast", "rate_limit is a number per time such as '100/s'"),
    ],
)
def test_a_wrong_setting_names_the_mend(cli: Cli, place: Place, pair: str, said: str) -> None:
    result = cli("queues", "set", "polite", pair)
    assert result.exit_code == 2
    assert said in result.stderr
    assert place.tickwork.controls() == []


def test_what_the_code_says_is_shown_with_its_queue(
    cli: Cli, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place.folder / "shop_queues.py").write_text(
        "from jobs import Tickwork\n"
        "tickwork = Tickwork.from_env()\n"
        "tickwork.queues('hse')\n"
        "tickwork.queue('email', timeout=7)\n"
    )
    monkeypatch.setenv("JOBS_HANDLERS", "shop_queues")
    shown = document(cli("queues", "--json"))["queues"]
    assert {"email", "reports", "data-exports", "webhooks", "cleanup"} <= shown.keys()
    assert shown["email"]["settings"]["timeout"] == {"value": 7.0, "from": "code"}
    assert shown["email"]["settings"]["max_attempts"] == {"value": 5, "from": "code"}
    sys.modules.pop("shop_queues")  # as another process would begin
    assert "backoff=exponential: 10 s, 50 s, 4 min, ... (code)" in cli("queues").stdout


def test_queues_are_listed_where_the_handlers_are_broken(
    cli: Cli, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.tickwork.enqueue("x", queue="mail")
    monkeypatch.setenv("JOBS_HANDLERS", "nowhere.tasks")
    listed = cli("queues")
    assert listed.exit_code == 0
    assert listed.stdout.splitlines()[1].startswith("mail ")
    assert "Without what JOBS_HANDLERS says" in listed.stderr


def test_an_empty_database(cli: Cli, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOBS_HANDLERS")
    assert cli("queues").stdout == "No queues.\n"
    assert place.tickwork.list(state=State.PENDING) == []
