"""The escrow: its critical path, its nine kinds, and what becomes of it when things break."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from email.message import EmailMessage

import pytest
import sqlalchemy as sa
from werkzeug.test import TestResponse

from examples.escrow import effects, stripe
from examples.escrow.fake_stripe import FakeStripe
from examples.escrow.run import add_escrow, add_user
from examples.escrow.tables import audit_log, escrows, metadata
from jobs import State
from tests.examples.conftest import ADMIN, CRON, Example, Open, played
from tests.support.receiver import OK, Receiver, Request
from tests.webhooks.conftest import answering

NINE = {
    "send_release_email",
    "send_refund_email",
    "send_dispute_email",
    "send_payment_confirmed_email",
    "stripe_capture_payment",
    "stripe_refund_payment",
    "webhook_escrow_status_changed",
    "notify_dispute_resolved",
    "audit_log_created",
}
WHSEC = "whsec_of-the-test"
PARTNER = "partners-shared-secret"


@dataclass
class Escrow:
    """One escrow of EUR 100, paid for; `place` is the partner."""

    example: Example
    stripe: FakeStripe
    place: Receiver
    mails_seen: list[EmailMessage] = field(default_factory=list)

    def act(self, action: str, who: str = "buyer", transaction_id: str = "esc-1") -> TestResponse:
        return self.example.ask(
            "POST",
            f"/api/escrow/{action}",
            f"token-of-{who}",
            json={"transactionId": transaction_id},
        )

    @property
    def status(self) -> str:
        (row,) = self.example.rows(sa.select(escrows.c.status))
        return str(row.status)

    def told(self) -> list[tuple[str, str]]:
        """Who has got which mail."""
        return sorted((mail["To"], mail["Subject"]) for mail in self.example.mails())

    def statuses_told(self) -> list[str]:
        """What the partner has heard, the signature checked."""
        return [json.loads(checked(each))["data"]["status"] for each in self.place.requests]


def checked(request: Request) -> bytes:
    signed = request.headers["x-webhook-timestamp"].encode() + b"." + request.body
    expected = hmac.new(PARTNER.encode(), signed, hashlib.sha256).hexdigest()
    assert request.headers["x-webhook-signature"] == expected
    return request.body


@pytest.fixture
def escrow(
    open_example: Open, place: Receiver, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Escrow]:
    with FakeStripe() as stripe:
        monkeypatch.setenv("STRIPE_API_URL", stripe.url)
        monkeypatch.setenv("STRIPE_SECRET_KEY", "sk_test")
        monkeypatch.setenv("PARTNER_WEBHOOK_URL", f"{place.url}/hooks")
        monkeypatch.setenv("WEBHOOK_SECRET_PARTNER", PARTNER)
        example = open_example("examples.escrow", stripe_webhook_secrets=(WHSEC,))
        with example.tickwork.engine.begin() as connection:
            metadata.create_all(connection)
            for name in ("buyer", "seller", "arbiter", "stranger"):
                add_user(connection, name, f"token-of-{name}")
            add_escrow(connection, "esc-1", "pi_1", "funded")
        stripe.hold("pi_1")
        yield Escrow(example, stripe, place)


def test_nine_kinds_with_three_attempts_each(escrow: Escrow) -> None:
    registry = escrow.example.tickwork.registry

    assert set(registry.kinds) >= NINE
    assert {registry.find(kind).max_attempts for kind in NINE} == {3}


def test_a_release_answers_before_anybody_is_told(escrow: Escrow) -> None:
    answer = escrow.act("release")

    assert answer.status_code == 200
    assert answer.json == {"success": True, "transactionId": "esc-1", "status": "released"}
    assert escrow.stripe.moved == [("capture", "pi_1")]
    assert (escrow.told(), escrow.statuses_told()) == ([], [])
    mail = escrow.example.job("send_release_email")
    assert mail.payload.items() >= {
        ("transactionId", "esc-1"),
        ("recipientEmail", "seller@example.com"),
        ("amount", 10_000),
    }

    escrow.example.cron()

    assert escrow.told() == [("seller@example.com", "Payment released (esc-1)")]
    assert escrow.statuses_told() == ["released"]
    assert escrow.example.rows(sa.select(audit_log.c.action, audit_log.c.actor)) == [
        ("escrow.released", "buyer@example.com")
    ]


def test_a_refund(escrow: Escrow) -> None:
    assert escrow.act("refund", "seller").json["status"] == "refunded"
    escrow.example.cron()

    assert escrow.stripe.moved == [("cancel", "pi_1")]
    assert escrow.told() == [("buyer@example.com", "Payment refunded (esc-1)")]
    assert escrow.statuses_told() == ["refunded"]


def test_a_dispute_and_its_end(escrow: Escrow) -> None:
    assert escrow.act("dispute").json["status"] == "disputed"
    assert escrow.act("release").status_code == 409
    assert escrow.act("release", "arbiter").json["status"] == "released"
    escrow.example.cron()

    assert escrow.told() == [
        ("buyer@example.com", "Dispute opened (esc-1)"),
        ("buyer@example.com", "Dispute resolved (esc-1)"),
        ("seller@example.com", "Dispute opened (esc-1)"),
        ("seller@example.com", "Dispute resolved (esc-1)"),
        ("seller@example.com", "Payment released (esc-1)"),
    ]
    assert sorted(escrow.statuses_told()) == ["disputed", "released"]


@pytest.mark.parametrize(
    ("who", "action", "escrow_id", "status"),
    [
        ("nobody", "release", "esc-1", 401),
        ("stranger", "release", "esc-1", 404),
        ("buyer", "release", "esc-2", 404),
        ("seller", "release", "esc-1", 409),
        ("buyer", "refund", "esc-1", 409),
        ("arbiter", "release", "esc-1", 409),
    ],
)
def test_who_may_not_changes_nothing(
    escrow: Escrow, who: str, action: str, escrow_id: str, status: int
) -> None:
    assert escrow.act(action, who, escrow_id).status_code == status
    assert (escrow.status, escrow.stripe.moved) == ("funded", [])
    assert not list(escrow.example.tickwork.list())


def test_a_body_without_an_id_is_refused(escrow: Escrow) -> None:
    answer = escrow.example.ask("POST", "/api/escrow/release", "token-of-buyer", data=b"[]")

    assert answer.status_code == 400


def test_the_second_of_two_releases_tells_nobody(escrow: Escrow) -> None:
    escrow.act("release")
    assert escrow.act("release").status_code == 409
    escrow.example.cron()

    assert len(escrow.told()) == 1


def test_four_releases_at_once_are_one(escrow: Escrow) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: escrow.act("release").status_code, range(4)))
    escrow.example.cron()

    # Who came while it was under way hears that it is done; who came later, that it was.
    assert set(answers) <= {200, 409}
    assert 200 in answers
    assert escrow.stripe.moved == [("capture", "pi_1")]
    assert len(escrow.told()) == len(escrow.statuses_told()) == 1


def test_the_job_takes_over_while_the_request_still_waits(
    escrow: Escrow, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = stripe.move_money

    def slowly(*asked: str) -> None:
        monkeypatch.setattr(stripe, "move_money", at_once)
        at_once(*asked)
        escrow.example.later(60)

    monkeypatch.setattr(stripe, "move_money", slowly)
    assert escrow.act("release").status_code == 200  # it comes second, and says what is so
    escrow.example.cron()

    assert escrow.example.job("stripe_capture_payment").result == "release finished"
    assert escrow.stripe.moved == [("capture", "pi_1")]
    assert len(escrow.example.rows(sa.select(audit_log))) == len(escrow.told()) == 1


def test_a_declined_release_can_be_tried_again(escrow: Escrow) -> None:
    escrow.stripe.trouble = ["decline"]
    refused = escrow.act("release")
    state_then = escrow.status
    escrow.example.later(60)  # the job that would have taken over has nothing to do

    assert (refused.status_code, state_then) == (402, "funded")
    assert "declined" in refused.json["error"]
    assert (escrow.stripe.moved, escrow.told(), escrow.statuses_told()) == ([], [], [])
    assert escrow.example.job("stripe_capture_payment").result == "nothing was left to do"

    assert escrow.act("release").status_code == 200  # with a key of its own: no replayed refusal
    assert escrow.stripe.moved == [("capture", "pi_1")]


def test_an_answer_that_never_came_is_asked_for_by_the_job(escrow: Escrow) -> None:
    escrow.stripe.trouble = ["hang up"]
    answer = escrow.act("release")
    escrow.example.cron()

    assert (answer.status_code, answer.json["status"]) == (202, "releasing")
    assert escrow.stripe.moved == [("capture", "pi_1")]
    assert escrow.act("refund", "seller").status_code == 409  # nobody asks for the opposite
    assert escrow.told() == []

    escrow.example.later(60)
    escrow.example.cron()

    assert escrow.status == "released"
    assert escrow.stripe.moved == [("capture", "pi_1")]
    assert len(escrow.told()) == 1
    assert escrow.statuses_told() == ["released"]


def test_dying_between_the_capture_and_the_row(
    escrow: Escrow, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(effects, "tell", lambda *_: 1 / 0)  # in the transaction that says "released"
        assert escrow.act("release").status_code == 500

    assert (escrow.status, escrow.stripe.moved) == ("releasing", [("capture", "pi_1")])

    escrow.example.later(60)
    escrow.example.cron()

    assert (escrow.status, escrow.stripe.moved) == ("released", [("capture", "pi_1")])
    assert len(escrow.told()) == 1


def test_a_payment_that_never_answers_is_a_dead_letter(escrow: Escrow) -> None:
    escrow.stripe.trouble = ["500"] * 4
    assert escrow.act("release").status_code == 202
    for _ in range(3):
        escrow.example.later(120)

    dead = escrow.example.job("stripe_capture_payment")
    assert (dead.state, dead.attempts) == (State.FAILED, 3)
    assert "Stripe answered 500" in (dead.error or "")
    assert (escrow.status, escrow.stripe.moved) == ("releasing", [])

    escrow.example.ask("POST", f"/api/jobs/payments/jobs/{dead.id}/retry", headers=ADMIN)
    escrow.example.cron()

    assert (escrow.status, escrow.stripe.moved) == ("released", [("capture", "pi_1")])


def test_a_partner_who_is_down_hears_of_it_later(escrow: Escrow) -> None:
    answers = iter([answering(500), answering(503), OK])
    escrow.place.answer = lambda _: next(answers)
    escrow.act("release")
    for _ in range(3):
        escrow.example.later(30)

    assert escrow.statuses_told() == ["released"] * 3
    assert len({each.headers["webhook-id"] for each in escrow.place.requests}) == 1
    assert escrow.example.job("webhook_escrow_status_changed").state is State.COMPLETED


def test_the_dead_letter_shows_at_the_process_endpoint(escrow: Escrow) -> None:
    escrow.place.answer = lambda _: answering(500)
    escrow.act("release")
    for _ in range(3):
        escrow.example.clock.advance(30)
        batch = escrow.example.ask(
            "POST",
            "/api/jobs/process",
            headers=CRON,
            data='{ "action": "process-batch", "limit": 10 }',
        )
        assert batch.status_code == 200
    shown = escrow.example.ask("GET", "/api/jobs/process", headers=CRON).json

    assert shown["stats"].keys() >= NINE
    assert shown["stats"]["dead_letter"] == shown["deadLetterCount"] == 1
    (sample,) = shown["deadLetterSample"]
    assert (sample["type"], sample["attemptCount"]) == ("webhook_escrow_status_changed", 3)
    assert "answered 500" in sample["lastError"]

    escrow.place.answer = lambda _: OK
    escrow.example.ask("POST", f"/api/jobs/partners/jobs/{sample['id']}/retry", headers=ADMIN)
    escrow.example.cron()

    after = escrow.example.ask("GET", "/api/jobs/process", headers=CRON).json
    assert after["deadLetterCount"] == 0


def test_stripe_says_that_the_money_is_held(escrow: Escrow) -> None:
    with escrow.example.tickwork.engine.begin() as connection:
        connection.execute(sa.update(escrows).values(status="created"))
    event = {
        "id": "evt_1",
        "type": "payment_intent.amount_capturable_updated",
        "data": {"object": {"id": "pi_1"}},
    }
    forged = stripe_says(escrow, event, "whsec_another")
    answers = [stripe_says(escrow, {**event, "id": name}) for name in ("evt_1", "evt_1", "evt_2")]
    escrow.example.cron()
    escrow.example.cron()

    assert forged.status_code == 401
    assert {answer.text.strip() for answer in answers} == {'{"received":true}'}
    assert escrow.status == "funded"
    assert escrow.told() == [("buyer@example.com", "Payment received (esc-1)")]
    assert escrow.statuses_told() == ["funded"]


def stripe_says(escrow: Escrow, event: dict[str, object], secret: str = WHSEC) -> TestResponse:
    body = json.dumps(event).encode()
    at = str(int(escrow.example.clock.now().timestamp()))
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    signed = {"Stripe-Signature": f"t={at},v1={digest}"}
    return escrow.example.ask("POST", "/webhooks/stripe", headers=signed, data=body)


def test_no_job_and_no_table_holds_a_secret(escrow: Escrow) -> None:
    escrow.act("release")
    everything = [job.payload for job in escrow.example.tickwork.list()]
    everything += escrow.example.rows(sa.select(escrows))

    for secret in (PARTNER, "sk_test", "token-of-buyer"):
        assert secret not in repr(everything)


@pytest.mark.slow
def test_the_story_of_the_readme_runs() -> None:
    printed = played("escrow")

    assert "Money moved: [('capture', 'pi_1'), ('cancel', 'pi_2')]" in printed
    assert printed.count("the partner hears") == 3
