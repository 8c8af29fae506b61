"""`tickwork limits`: what it shows, and closing a breaker."""

from __future__ import annotations

import sys

import pytest
from click.testing import Result

from tests.cli.conftest import Cli, Place, document


@pytest.fixture
def limited(place: Place, bare: pytest.MonkeyPatch, cli: Cli) -> Cli:
    bare.setenv("JOBS_HANDLERS", "tests.cli.limited_tasks")

    def run(*arguments: str) -> Result:
        # Its queue is declared when it is imported, on the system of that command.
        sys.modules.pop("tests.cli.limited_tasks", None)
        return cli(*arguments)

    return run


def test_limits_are_shown_with_what_runs(limited: Cli, place: Place) -> None:
    for _ in range(3):
        place.tickwork.enqueue("sync")
    place.tickwork.enqueue("keyed", tenant="org1", concurrency_key="shop-7")
    assert limited("tick").exit_code == 0

    lines = {line.split()[0]: line for line in limited("limits").stdout.splitlines()}
    assert lines["NAME"].split() == ["NAME", "OF", "RUNNING", "STARTED", "BREAKER", "FAILED"]
    assert "0 of 2" in lines["kind/sync"]
    assert "2 of 100/h" in lines["kind/sync"]
    assert "open for " in lines["kind/sync"]
    assert "2 of 2" in lines["kind/sync"]
    assert "0 of 5" in lines["queue/exports"]
    (key,) = [line for name, line in lines.items() if name.startswith("key/keyed/")]
    assert "tenant org1, key shop-7" in key


def test_limits_are_one_document_with_json(limited: Cli, place: Place) -> None:
    found = document(limited("limits", "--json"))["limits"]
    assert [each["name"] for each in found] == ["kind/sync", "queue/exports"]
    assert found[0]["breaker"] == "closed"
    assert found[0]["max_concurrency"] == 2


def test_a_breaker_is_closed_by_name(limited: Cli, place: Place) -> None:
    for _ in range(2):
        place.tickwork.enqueue("sync")
    limited("tick")
    assert document(limited("limits", "--json"))["limits"][0]["breaker"] == "open"
    assert limited("limits", "reset", "kind/sync").exit_code == 0
    assert document(limited("limits", "--json"))["limits"][0]["breaker"] == "closed"

    wrong = limited("limits", "reset", "kind/sink")
    assert wrong.exit_code == 1
    assert "kind/sync" in wrong.stderr
    assert len(wrong.stderr.splitlines()) == 1


def test_without_limits_it_says_so(cli: Cli, place: Place) -> None:
    assert "No limits" in cli("limits").stdout
