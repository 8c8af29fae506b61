"""`tickwork group`, and what `tickwork show` says of jobs that belong together."""

from __future__ import annotations

from tests.cli.conftest import Cli, Place, document


def test_a_group_is_shown(cli: Cli, place: Place) -> None:
    with place.tickwork.group(name="nightly", tenant="org1") as group:
        ids = group.enqueue_many([("greet", {"name": "Ada"})] * 2)
    place.tickwork.cancel(ids[0])

    said = document(cli("group", group.id, "--json"))
    assert (said["state"], said["counts"]) == ("open", {"cancelled": 1, "pending": 1})
    lines = {line.split()[0]: line for line in cli("group", group.id).stdout.splitlines()}
    assert "nightly" in lines["name"]
    assert "org1" in lines["tenant"]
    assert "1 of 2 jobs not ended" in lines["state"]
    assert lines["pending"].endswith(" 1")
    assert group.id in cli("show", ids[0]).stdout


def test_one_that_is_not_there(cli: Cli, place: Place) -> None:
    result = cli("group", "nope")
    assert result.exit_code == 1
    assert "no group 'nope'" in result.output


def test_a_chain_shows_what_is_to_follow(cli: Cli, place: Place) -> None:
    job = place.tickwork.chain(["boom", "greet", "steady"])
    assert "greet, steady" in cli("show", job.id).stdout
