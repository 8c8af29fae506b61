"""Who may manage jobs: by token, by session, by the host's own say, and nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask, Request, jsonify
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from jobs import Tickwork
from jobs.core.access import ChangeFilter, NewToken, Role, digest_of, new_secret
from jobs.core.clock import ManualClock
from jobs.core.ids import new_id
from jobs.http import Identity, create_app
from jobs.http.access import REQUESTS_PER_MINUTE, csrf_token, current
from jobs.http.login import FAILURES_PER_ADDRESS, LOGIN_PATH, LOGOUT_PATH
from jobs.http.sessions import COOKIE, SESSION_SECONDS

ADMIN = "an-admin-token-of-some-length"
HOME = "/api/jobs/dashboard"


@dataclass
class Desk:
    """An application with a guarded view for each role."""

    tickwork: Tickwork
    clock: ManualClock
    app: Flask
    client: FlaskClient

    def token(self, role: Role = Role.VIEWER, **fields: Any) -> str:
        secret = new_secret()
        values = {"name": "ci", "tenant": None, **fields}
        self.tickwork.store.add_token(
            NewToken(new_id(), role=role, digest=digest_of(secret), **values)
        )
        return secret

    def ask(self, role: str = "viewer", *, bearer: str | None = None, **more: Any) -> TestResponse:
        headers = dict(more.pop("headers", {}))
        if bearer is not None:
            headers["Authorization"] = f"Bearer {bearer}"
        return self.client.open(f"/test/{role}", headers=headers, **more)

    def sign_in(self, secret: str = ADMIN) -> str:
        """Signed in; returns the session's token for forms."""
        answer = self.client.post(LOGIN_PATH, json={"token": secret})
        assert answer.status_code == 200, answer.data
        return str(self.ask().json["csrf"])


def open_desk(*, identify: Any = None, **settings: Any) -> Desk:
    clock = ManualClock()
    settings = {"env": "production", "backend": "memory", "admin_token": ADMIN, **settings}
    tickwork = Tickwork(clock=clock, **settings)
    app = create_app(tickwork, identify=identify)
    access = app.extensions["tickwork.access"]

    def view() -> Any:
        who = current()
        return jsonify(name=who.name, role=who.role, tenant=who.tenant, csrf=csrf_token())

    for role in Role:
        app.add_url_rule(
            f"/test/{role}", f"test.{role}", access.guards(role, view), methods=["GET", "POST"]
        )
    app.add_url_rule("/test/page", "test.page", access.guards(Role.VIEWER, view, page=True))
    return Desk(tickwork, clock, app, app.test_client())


@pytest.fixture
def desk() -> Iterator[Desk]:
    opened = open_desk()
    yield opened
    opened.tickwork.close()


def test_roles_are_ordered() -> None:
    assert Role.VIEWER < Role.OPERATOR < Role.ADMIN
    assert sorted([Role.ADMIN, Role.VIEWER, Role.OPERATOR]) == list(Role)
    assert Role.ADMIN >= Role.ADMIN
    assert not Role.VIEWER > Role.VIEWER


def test_the_admin_token_may_everything(desk: Desk) -> None:
    for role in Role:
        answer = desk.ask(role, bearer=ADMIN)
        assert answer.status_code == 200
        assert answer.json == {"name": "admin", "role": "admin", "tenant": None, "csrf": ""}


@pytest.mark.parametrize(
    "header",
    [
        *("", "Bearer", "Bearer ", "Bearer None", "Bearer null", "Bearer undefined"),
        *(f"Bearer {ADMIN}x", f"Bearer {ADMIN[:-1]}", f"Basic {ADMIN}", ADMIN),
        *("Bearer tw_", "Bearer tw_None", f"Bearer {ADMIN}\xe9", "Bearer tw_\xe9\xff"),
        *("Bearer tw_%", "Bearer tw_' OR 1=1--", "Bearer tw_" + "a" * 30_000),
    ],
)
def test_strangers_are_refused(desk: Desk, header: str) -> None:
    desk.token()
    for role in Role:
        answer = desk.ask(role, headers={"Authorization": header})
        assert answer.status_code == 401
        assert answer.content_type == "application/problem+json"
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert answer.headers["Cache-Control"] == "no-store"
        assert ADMIN not in answer.text


@pytest.mark.parametrize("name", ["token", "access_token", "admin_token", "authorization"])
def test_a_token_in_the_query_counts_for_nothing(desk: Desk, name: str) -> None:
    assert desk.ask(query_string={name: ADMIN}).status_code == 401


@pytest.mark.parametrize("own", list(Role))
def test_a_token_may_what_its_role_may(desk: Desk, own: Role) -> None:
    secret = desk.token(own, name="ci", tenant="org1")

    for role in Role:
        answer = desk.ask(role, bearer=secret)
        assert answer.status_code == (200 if own >= role else 403)
        if own >= role:
            assert answer.json["name"] == "token:ci"
            assert answer.json["tenant"] == "org1"


def test_the_empty_tenant_is_no_wildcard(desk: Desk) -> None:
    assert desk.ask(bearer=desk.token(tenant="")).json["tenant"] == ""


def test_a_token_that_is_over_counts_for_nothing(desk: Desk) -> None:
    short, lasting = desk.token(expires_in_seconds=60.0), desk.token()
    assert desk.ask(bearer=short).status_code == 200
    desk.clock.advance(60)
    assert desk.ask(bearer=short).status_code == 401
    assert desk.ask(bearer=lasting).status_code == 200
    desk.tickwork.store.revoke_token(desk.tickwork.store.tokens()[0].id, by="ada")
    assert desk.ask(bearer=lasting).status_code == 401


@pytest.mark.parametrize("token", [None, "", "  ", "None", "null", "undefined", "short"])
def test_without_a_credential_production_is_off(token: str | None) -> None:
    desk = open_desk(admin_token=token)
    for header in ({}, {"Authorization": f"Bearer {token}"}, {"Authorization": "Bearer None"}):
        for role in Role:
            answer = desk.ask(role, headers=header)
            assert answer.status_code == 503
            assert "ADMIN_TOKEN" in answer.json["detail"]
    # One token is enough to open it, for its owner.
    secret = desk.token()
    assert desk.ask(bearer=secret).status_code == 200
    assert desk.ask().status_code == 401
    assert desk.client.post(LOGIN_PATH, json={"token": secret}).status_code == 503


def test_in_development_this_machine_may_everything() -> None:
    desk = open_desk(env="development", admin_token=None)

    assert desk.ask("admin").json["name"] == "this machine"
    assert desk.ask("admin", method="POST").status_code == 200
    for headers in (
        {"X-Forwarded-For": "203.0.113.9"},
        {"Host": "evil.example"},
        {"Host": "localhost.evil.example"},
    ):
        assert desk.ask(headers=headers).status_code == 503
    away = {"REMOTE_ADDR": "203.0.113.9"}
    assert desk.ask(environ_base=away).status_code == 503
    foreign = {"Origin": "https://evil.example"}
    assert desk.ask("admin", method="POST", headers=foreign).status_code == 403
    desk.token()  # from now on everybody brings one
    assert desk.ask().status_code == 401


def test_the_host_says_who_asks() -> None:
    def identify(asking: Request) -> Identity | None:
        user = asking.cookies.get("user")
        return None if user is None else Identity(f"user:{user}", Role.OPERATOR, "org1")

    desk = open_desk(identify=identify, admin_token=None)
    assert desk.ask().status_code == 401
    desk.client.set_cookie("user", "ada")
    assert desk.ask("operator").json["name"] == "user:ada"
    assert desk.ask("admin").status_code == 403
    assert desk.ask("operator", method="POST").status_code == 200
    # The host's cookie travels with a foreign page's request as well.
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert desk.ask("operator", method="POST", headers=headers).status_code == 403
    # A bearer of ours that is not known is nobody, whoever the host thinks it is.
    assert desk.ask(bearer="tw_unknown").status_code == 401


class TestSessions:
    def test_a_token_begins_a_session(self, desk: Desk) -> None:
        secret = desk.token(Role.OPERATOR, tenant="org1")
        answer = desk.client.post(LOGIN_PATH, json={"token": f" {secret}\n"})

        assert answer.json == {"name": "token:ci", "role": "operator", "tenant": "org1"}
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
        assert "Secure" not in cookie
        assert secret not in cookie
        assert desk.ask("operator").json["tenant"] == "org1"
        (entry,) = desk.tickwork.store.changes(ChangeFilter(), 10)
        assert (entry.by, entry.action) == ("token:ci", "session.begin")

    def test_on_https_the_cookie_is_the_hosts_alone(self, desk: Desk) -> None:
        answer = desk.client.post(
            LOGIN_PATH, json={"token": ADMIN}, base_url="https://jobs.example"
        )
        cookie = answer.headers["Set-Cookie"]
        assert cookie.startswith("__Host-tickwork_session=")
        assert "Secure" in cookie
        assert "Path=/" in cookie
        assert desk.ask(base_url="https://jobs.example").status_code == 200

    def test_a_form_is_led_on(self, desk: Desk) -> None:
        for given, led in (
            (f"{HOME}/failed?kind=a", f"{HOME}/failed?kind=a"),
            ("", HOME),
            ("//evil.example/", HOME),
            ("https://evil.example/api/jobs/dashboard", HOME),
            ("/\\evil.example", HOME),
            ("/api/jobs/dashboards", HOME),
            (f"{HOME}/\r\nSet-Cookie: a=b", HOME),
        ):
            answer = desk.client.post(LOGIN_PATH, data={"token": ADMIN, "next": given})
            assert (answer.status_code, answer.headers["Location"]) == (303, led)
        wrong = desk.client.post(LOGIN_PATH, data={"token": "x", "next": f"{HOME}/failed"})
        assert wrong.status_code == 303
        assert wrong.headers["Location"].startswith(f"{LOGIN_PATH}?error=unknown&next=")
        assert "Set-Cookie" not in wrong.headers

    def test_what_is_no_token_begins_none(self, desk: Desk) -> None:
        for body in (
            [],
            1,
            "x",
            {},
            {"token": None},
            {"token": 1},
            {"token": ["a"]},
            {"token": ""},
            {"token": "\ud800"},
            {"token": "tw_" + "x" * 5000},
        ):
            desk.clock.advance(3600)
            answer = desk.client.post(LOGIN_PATH, json=body)
            assert answer.status_code == 401
            assert "Set-Cookie" not in answer.headers
        answer = desk.client.post(LOGIN_PATH, data=b"{", content_type="application/json")
        assert answer.status_code == 401

    def test_a_session_ends_after_twelve_hours(self, desk: Desk) -> None:
        desk.sign_in()
        desk.clock.advance(SESSION_SECONDS - 1)
        assert desk.ask().status_code == 200
        desk.clock.advance(1)
        assert desk.ask().status_code == 401

    def test_a_session_ends_with_its_token(self, desk: Desk) -> None:
        desk.sign_in(desk.token())
        assert desk.ask().status_code == 200
        desk.tickwork.store.revoke_token(desk.tickwork.store.tokens()[0].id, by="ada")
        assert desk.ask().status_code == 401

    def test_a_session_ends_with_the_admin_token_it_was_begun_with(self, desk: Desk) -> None:
        desk.sign_in()
        cookie = desk.client.get_cookie(COOKIE)
        assert cookie is not None
        for settings in ({"admin_token": "another-token-of-some-length"}, {"admin_token": None}):
            other = open_desk(secret_key="k" * 32, **settings)
            other.client.set_cookie(COOKIE, cookie.value)
            assert other.ask().status_code in (401, 503)

    def test_a_forged_cookie_counts_for_nothing(self, desk: Desk) -> None:
        desk.sign_in()
        cookie = desk.client.get_cookie(COOKIE)
        assert cookie is not None
        body, _, signature = cookie.value.rpartition(".")
        for forged in (
            "",
            "x",
            cookie.value[:-1],
            f"{body}x.{signature}",
            f"{body}.",
            "\xe9",
            body,
        ):
            desk.client.set_cookie(COOKIE, forged)
            assert desk.ask().status_code == 401

    def test_signing_out_takes_it_back(self, desk: Desk) -> None:
        csrf = desk.sign_in()
        assert desk.client.post(LOGOUT_PATH, json={}).status_code == 403
        answer = desk.client.post(LOGOUT_PATH, data={"csrf_token": csrf})
        assert (answer.status_code, answer.headers["Location"]) == (303, LOGIN_PATH)
        assert desk.ask().status_code == 401

    def test_a_stranger_is_sent_to_sign_in_by_a_page(self, desk: Desk) -> None:
        answer = desk.client.get("/test/page?a=1&b=%2F")
        assert answer.status_code == 303
        assert answer.headers["Location"] == f"{LOGIN_PATH}?next=/test/page%3Fa%3D1%26b%3D%252F"


class TestForgery:
    def test_a_session_changes_things_with_its_forms_token_alone(self, desk: Desk) -> None:
        csrf = desk.sign_in()
        for wrong in ("", "x", csrf[:-1], csrf.upper() + "x", "\xe9"):
            answer = desk.ask("admin", method="POST", headers={"X-CSRF-Token": wrong})
            assert answer.status_code == 403
        assert desk.ask("admin", method="POST").status_code == 403
        good = {"X-CSRF-Token": csrf}
        assert desk.ask("admin", method="POST", headers=good).status_code == 200
        assert desk.ask("admin", method="POST", data={"csrf_token": csrf}).status_code == 200

    def test_the_token_of_another_session_is_refused(self, desk: Desk) -> None:
        first = desk.sign_in()
        second = desk.sign_in()
        assert first != second
        answer = desk.ask("admin", method="POST", headers={"X-CSRF-Token": first})
        assert answer.status_code == 403

    @pytest.mark.parametrize(
        "headers",
        [
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://localhost.evil.example"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
        ],
        ids=str,
    )
    def test_a_foreign_page_changes_nothing(self, desk: Desk, headers: dict[str, str]) -> None:
        csrf = desk.sign_in()
        given = {**headers, "X-CSRF-Token": csrf}
        assert desk.ask("admin", method="POST", headers=given).status_code == 403
        assert (
            desk.client.post(LOGIN_PATH, json={"token": ADMIN}, headers=headers).status_code == 403
        )
        # A bearer is never sent unasked.
        assert desk.ask("admin", method="POST", bearer=ADMIN, headers=headers).status_code == 200

    def test_our_own_page_may(self, desk: Desk) -> None:
        given = {
            "X-CSRF-Token": desk.sign_in(),
            "Origin": "http://localhost",
            "Sec-Fetch-Site": "same-origin",
        }
        assert desk.ask("admin", method="POST", headers=given).status_code == 200


class TestLimits:
    def test_failed_sign_ins_are_slowed_down(self, desk: Desk) -> None:
        for _ in range(FAILURES_PER_ADDRESS):
            assert desk.client.post(LOGIN_PATH, json={"token": "x"}).status_code == 401
        answer = desk.client.post(LOGIN_PATH, json={"token": ADMIN})
        assert answer.status_code == 429
        assert int(answer.headers["Retry-After"]) > 0
        form = desk.client.post(LOGIN_PATH, data={"token": ADMIN})
        assert form.headers["Location"] == f"{LOGIN_PATH}?error=throttled"
        # Somebody elsewhere is not held up, and waiting helps.
        elsewhere = {"REMOTE_ADDR": "203.0.113.9"}
        answer = desk.client.post(LOGIN_PATH, json={"token": ADMIN}, environ_base=elsewhere)
        assert answer.status_code == 200
        desk.clock.advance(float(form.headers.get("Retry-After", 60)))
        assert desk.client.post(LOGIN_PATH, json={"token": ADMIN}).status_code == 200

    def test_one_eager_caller_is_slowed_down(self, desk: Desk) -> None:
        secret = desk.token()
        for _ in range(REQUESTS_PER_MINUTE):
            assert desk.ask(bearer=secret).status_code == 200
        answer = desk.ask(bearer=secret)
        assert answer.status_code == 429
        assert desk.ask(bearer=ADMIN).status_code == 200
        desk.clock.advance(float(answer.headers["Retry-After"]))
        assert desk.ask(bearer=secret).status_code == 200


def test_a_session_is_asked_for_by_the_clock(desk: Desk) -> None:
    """The cookie's own end counts, not what the browser remembers."""
    desk.sign_in()
    cookie = desk.client.get_cookie(COOKIE)
    assert cookie is not None
    assert cookie.max_age == SESSION_SECONDS
    desk.clock.advance(timedelta(days=1).total_seconds())
    desk.client.set_cookie(COOKIE, cookie.value)
    assert desk.ask().status_code == 401
