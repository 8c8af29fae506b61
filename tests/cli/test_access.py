"""`tickwork tokens`, `audit` and `watch`; what the command line changes is written down."""

from __future__ import annotations

import pytest

from jobs.core.access import ChangeFilter, digest_of
from jobs.core.redact import HIDDEN
from tests.cli.conftest import Cli, Place, document


def test_a_token_from_making_to_its_end(cli: Cli, place: Place) -> None:
    assert "No tokens" in cli("tokens").stdout
    made = cli(
        *("tokens", "create", "--role", "operator", "--tenant", "org1"),
        *("--name", "ci", "--expires", "90d"),
    )
    assert made.exit_code == 0, made.output
    secret = made.stdout.strip()
    assert secret.startswith("tw_")
    token = place.tickwork.store.find_token(digest=digest_of(secret))
    assert token is not None
    assert (token.name, token.role, token.tenant) == ("ci", "operator", "org1")
    assert token.expires_at is not None
    assert round((token.expires_at - token.created_at).total_seconds()) == 90 * 86_400

    heading, line = cli("tokens", "list").stdout.splitlines()
    assert heading.split()[:4] == ["ID", "NAME", "ROLE", "TENANT"]
    assert "live" in line
    assert secret not in cli("tokens", "--json").output
    assert cli("tokens", "revoke", token.id).stdout == "Revoked ci.\n"
    assert document(cli("tokens", "--json"))["tokens"][0]["state"] == "revoked"
    assert place.tickwork.store.find_token(digest=digest_of(secret)) is None
    again = cli("tokens", "revoke", "nobody")
    assert (again.exit_code, "no token 'nobody'" in again.stderr) == (1, True)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--role", "king", "--all-tenants"),
        ("--role", "viewer"),
        ("--role", "viewer", "--tenant", "a", "--all-tenants"),
        ("--role", "viewer", "--all-tenants", "--expires", "soon"),
    ],
)
def test_a_token_that_is_asked_for_wrongly(
    cli: Cli, place: Place, arguments: tuple[str, ...]
) -> None:
    assert cli("tokens", "create", *arguments).exit_code == 2
    assert place.tickwork.store.tokens() == []


def test_every_tenant_and_none_are_told_apart(cli: Cli, place: Place) -> None:
    every = document(cli("tokens", "create", "--role", "viewer", "--all-tenants", "--json"))
    none = document(cli("tokens", "create", "--role", "viewer", "--tenant", "", "--json"))
    assert (every["tenant"], none["tenant"]) == (None, "")
    assert every["token"] != none["token"]
    text = cli("tokens").stdout
    assert "every tenant" in text
    assert "no tenant" in text


def test_what_the_command_line_changes_is_written_down(
    cli: Cli, place: Place, bare: pytest.MonkeyPatch
) -> None:
    bare.setenv("USER", "ada")
    job = place.tickwork.enqueue("greet", {"name": "Ada"}, tenant="org1")
    for arguments in (
        ("enqueue", "greet", '{"name": "Bob"}'),
        ("cancel", job.id, "--tenant", "org1"),
        ("retry", job.id, "--tenant", "org1", "--by", "bob"),
        ("cancel", "--pending", "--yes"),
        ("retry", "--cancelled", "--yes"),
        ("clean", "--empty", "all", "--yes"),
        ("clean", "--state", "failed", "--yes"),
        ("pause", "mail", "--because", "the relay is down"),
        ("resume", "mail"),
        ("queues", "set", "mail", "timeout=5"),
        ("queues", "unset", "mail"),
        ("schedules", "add", "nightly", "0 8 * * *", "greet", '{"name": "Ada"}'),
        ("schedules", "disable", "nightly"),
        ("schedules", "enable", "nightly"),
        ("schedules", "run", "nightly"),
        ("schedules", "remove", "nightly"),
        ("tokens", "create", "--role", "viewer", "--all-tenants"),
        ("reclaim",),
    ):
        before = len(place.tickwork.store.changes(ChangeFilter(), 100))
        ran = cli(*arguments)
        assert ran.exit_code == 0, ran.output
        after = place.tickwork.store.changes(ChangeFilter(), 100)
        assert len(after) == before + 1, arguments
        assert after[0].by == ("cli:bob" if "bob" in arguments else "cli:ada")
    told = document(cli("audit", "--json", "--action", "queue.pause"))
    assert told["more"] is False
    (entry,) = told["changes"]
    assert (entry["subject"], entry["reason"]) == ("queue/mail", "the relay is down")
    (of_tenant,) = document(cli("audit", "--tenant", "org1", "--limit", "1", "--json"))["changes"]
    assert (of_tenant["action"], of_tenant["subject"]) == ("job.retry", job.id)
    lines = cli("audit", "--limit", "2").stdout.splitlines()
    assert len(lines) == 3
    assert "jobs.reclaim" in lines[1]


def test_a_look_changes_nothing_in_the_log(cli: Cli, place: Place) -> None:
    assert cli("audit").stdout == "No changes.\n"
    for arguments in (
        ("list",),
        ("stats",),
        ("queues",),
        ("schedules",),
        ("watch", "--looks", "1"),
    ):
        assert cli(*arguments).exit_code == 0
    assert cli("audit").stdout == "No changes.\n"


def test_watch_shows_queues_and_the_last_failures(cli: Cli, place: Place) -> None:
    tickwork = place.tickwork

    @tickwork.handler("steadily-bad", max_attempts=1)
    def steadily_bad(payload: object) -> None:
        raise ValueError("password=hunter2 did not do")

    assert "Nothing waits" in cli("watch", "--looks", "1").stdout
    for _ in range(12):
        tickwork.enqueue("steadily-bad", {})
    tickwork.tick(limit=20)
    tickwork.enqueue("steadily-bad", {}, queue="mail")
    shown = cli("watch", "--looks", "2", "--interval", "0.2").stdout
    assert shown.count("OLDEST") == 2
    assert "hunter2" not in shown
    told = document(cli("watch", "--json"))
    assert len(told["last_failures"]) == 10
    first = told["last_failures"][0]
    assert (first["error"], first["attempts"]) == (f"ValueError: password={HIDDEN} did not do", 1)
    assert first["created_at"].endswith("Z")
    assert {each["queue"]: each["jobs"] for each in told["queues"]} == {"default": 12, "mail": 1}


def test_what_is_listed_and_shown_keeps_secrets(
    cli: Cli, place: Place, bare: pytest.MonkeyPatch
) -> None:
    bare.setenv("JOBS_REDACT", "iban")
    job = place.tickwork.enqueue("greet", {"name": "Ada", "api_key": "hunter2", "iban": "DE00"})
    for arguments in (("list", "--json"), ("show", job.id), ("show", job.id, "--json")):
        output = cli(*arguments).output
        assert "hunter2" not in output
        assert "DE00" not in output
        assert "Ada" in output
    revealed = cli("show", job.id, "--reveal").stdout
    assert "hunter2" in revealed
    assert "DE00" in revealed
