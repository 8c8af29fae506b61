"""`tickwork ticks`."""

from __future__ import annotations

from tests.cli.conftest import Cli, Place, document


def test_before_the_first_tick(cli: Cli, place: Place) -> None:
    assert cli("ticks").stdout == "No tick was recorded yet.\n"
    said = document(cli("ticks", "--json"))
    assert (said["ticks"], said["age_seconds"], said["beating"]) == ([], None, False)


def test_the_last_ticks_are_listed_with_what_they_did(cli: Cli, place: Place) -> None:
    place.tickwork.enqueue("greet", {"name": "Ada"}, tenant="acme")
    place.tickwork.enqueue("hopeless", max_attempts=1)
    assert cli("tick").exit_code == 0
    place.tickwork.tick(trigger="cron")

    heading, cron, by_hand, verdict = cli("ticks").stdout.splitlines()

    assert heading.split()[:4] == ["AGO", "TRIGGER", "TICKS", "CLAIMED"]
    assert cron.split()[-8:-1] == ["cron", "1", "0", "0", "0", "0", "0"] or " cron " in cron
    assert " cli " in by_hand
    assert verdict.startswith("Ticks come: the last ")


def test_one_document_with_json(cli: Cli, place: Place) -> None:
    place.tickwork.enqueue("greet", {"name": "Ada"}, tenant="acme")
    cli("tick")
    place.tickwork.tick(trigger="cron")

    said = document(cli("ticks", "--json", "--trigger", "cli"))

    (only,) = said["ticks"]
    assert (only["trigger"], only["claimed"], only["succeeded"]) == ("cli", 1, 1)
    (measure,) = only["measures"]
    assert (measure["tenant"], measure["kind"], measure["completed"]) == ("acme", "greet", 1)
    assert measure["ran"]["p95_ms"] >= 0
    assert said["beating"] is True


def test_a_trigger_there_is_not_is_asked_wrongly(cli: Cli, place: Place) -> None:
    assert cli("ticks", "--trigger", "magic").exit_code == 2
