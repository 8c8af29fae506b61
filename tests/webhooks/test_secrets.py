"""Secrets are encrypted or named: in no row, message or list in the clear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from cryptography.fernet import Fernet

from jobs import PayloadError, Tickwork
from jobs.handlers.errors import SecretError
from jobs.handlers.webhook import queue_webhook
from jobs.handlers.webhook_secrets import kept, secrets_of
from tests.support.receiver import Receiver
from tests.webhooks.conftest import PLAIN, SECRET, System

URL = "https://api.example.com/hooks"
FIRST, SECOND = Fernet.generate_key().decode(), Fernet.generate_key().decode()


@dataclass
class Keys:
    encryption_keys: tuple[str, ...] = ()
    secret_key: str | None = None


def test_what_is_sealed_comes_back_for_its_url_alone() -> None:
    keys = Keys((FIRST,))
    sealed = kept([SECRET, PLAIN], URL, keys)

    assert PLAIN not in str(sealed)
    assert secrets_of(sealed, URL, keys) == [SECRET, PLAIN]
    with pytest.raises(SecretError, match="another URL"):
        secrets_of(sealed, "https://evil.example/", keys)


def test_keys_rotate_and_the_key_of_the_application_opens_what_it_sealed() -> None:
    by_application = kept(PLAIN, URL, Keys(secret_key="the application's"))
    by_first = kept(PLAIN, URL, Keys((FIRST,)))
    later = Keys((SECOND, FIRST), "the application's")

    assert secrets_of(by_application, URL, later) == [PLAIN]
    assert secrets_of(by_first, URL, later) == [PLAIN]
    for stranger in (Keys((SECOND,)), Keys(secret_key="another"), Keys()):
        with pytest.raises(SecretError, match="no key here opens"):
            secrets_of(by_first, URL, stranger)


def test_without_a_key_a_secret_is_refused_and_the_mend_named() -> None:
    with pytest.raises(SecretError) as refused:
        kept(PLAIN, URL, Keys())
    for named in ("JOBS_ENCRYPTION_KEYS", "SECRET_KEY", "env:WEBHOOK_SECRET_"):
        assert named in str(refused.value)
    assert kept("env:WEBHOOK_SECRET_A", URL, Keys()) == "env:WEBHOOK_SECRET_A"


@pytest.mark.parametrize(
    "secret",
    [
        *("", "short", "undefined", "x" * 501, "line\nbreak-secret", "whsec_not/base64!", 7, None),
        *([], ["good-secret"] * 4, ["good-secret", ""], {"a": 1}, [["good-secret"]]),
        *("env:DATABASE_URL", "env:PATH", "env:", "env:WEBHOOK_SECRET A"),
    ],
    ids=repr,
)
def test_what_is_no_secret(secret: Any) -> None:
    with pytest.raises(SecretError) as refused:
        kept(secret, URL, Keys((FIRST,)))
    assert "not/base64" not in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"secret": "in-the-clear"}, "a secret stands in no payload: queue_webhook"),
        ({"secret": None}, "a secret stands in no payload"),
        ({"secret": "env:DATABASE_URL"}, "named as env:WEBHOOK_SECRET"),
        ({"url": "ftp://example.com"}, "https://host/path"),
        ({"url": "https://u:p@example.com/"}, "credentials"),
        ({"eventType": "two words"}, "eventType is visible ASCII"),
        ({"eventType": "a\r\nX-Evil: b"}, "eventType is visible ASCII"),
    ],
    ids=str,
)
def test_a_payload_made_by_hand_is_checked_too(
    tickwork: Tickwork, changes: dict[str, Any], path: str
) -> None:
    payload = {"url": URL, "payload": {}, "secret": "env:WEBHOOK_SECRET_A", **changes}
    with pytest.raises(PayloadError) as refused:
        tickwork.enqueue("webhook", payload)
    assert path in str(refused.value)
    assert "in-the-clear" not in str(refused.value)
    assert tickwork.list() == []


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"url": "http://example.com/"}, "$.url: a webhook goes by https"),
        ({"url": "https://10.0.0.1/"}, "$.url: 10.0.0.1 leads to an address that is not public"),
        ({"url": "https://db/"}, "$.url: db is a name of a private network"),
        ({"secret": ""}, "$.secret: the secret is not printable text"),
        ({"payload": {"at": 1j}}, "$: Encoding objects of type complex is unsupported"),
    ],
    ids=str,
)
def test_the_helper_names_what_does_not_fit(
    system: System, changes: dict[str, Any], path: str
) -> None:
    tickwork = system(webhook_allow=())
    given: dict[str, Any] = {"url": URL, "payload": {}, "secret": PLAIN, **changes}
    with pytest.raises(PayloadError) as refused:
        queue_webhook(tickwork=tickwork, **given)
    assert path in str(refused.value)
    assert tickwork.list() == []


def test_what_was_queued_for_inside_is_refused_when_it_is_sent(
    system: System, place: Receiver
) -> None:
    """The list may have changed since, or the row have been written by hand."""
    tickwork = system(webhook_allow=())
    payload = {"url": f"{place.url}/", "payload": {}, "secret": "env:WEBHOOK_SECRET_A"}
    job = tickwork.enqueue("webhook", payload)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEBHOOK_SECRET_A", SECRET)
        tickwork.tick()
    dead = tickwork.get(job.id)

    assert dead is not None
    assert (dead.state, dead.attempts) == ("failed", 1)
    assert "not public; if that is meant, list it in JOBS_WEBHOOK_ALLOW" in (dead.error or "")
    assert place.requests == []
