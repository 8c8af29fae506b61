"""Which way mail leaves, and what the settings take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs import ConfigurationError
from jobs.core.mailing import transport_name
from jobs.core.settings import Settings, read_settings
from jobs.handlers.mail.send import choose_transport

CHOICES: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "outbox"),
    "nothing, in development": ({"env": "development"}, "console"),
    "a key": ({"resend_api_key": "re_1"}, "resend"),
    "a key, in development": ({"resend_api_key": "re_1", "env": "development"}, "resend"),
    "smtp": ({"smtp_url": "smtp://host"}, "smtp"),
    "smtps": ({"smtp_url": "smtps://u:p@host"}, "smtp"),
    "ses": ({"smtp_url": "ses://eu-central-1"}, "ses"),
    "a folder": ({"smtp_url": "mails", "env": "development"}, "outbox"),
    "a file URL": ({"smtp_url": "file:///var/mails"}, "outbox"),
    "the console": ({"smtp_url": "console://"}, "console"),
    "a URL before a key": ({"smtp_url": "smtp://host", "resend_api_key": "re_1"}, "smtp"),
    "a folder before a key": ({"smtp_url": "mails", "resend_api_key": "re_1"}, "outbox"),
}


@pytest.mark.parametrize("what", CHOICES)
def test_the_first_that_is_set_is_taken(what: str) -> None:
    given, name = CHOICES[what]
    settings = Settings(**given)

    assert transport_name(settings) == name
    assert choose_transport(settings).name == name


def test_the_variables_are_read(tmp_path: Path) -> None:
    environ = {
        "DATABASE_URL": "sqlite://",
        "RESEND_API_KEY": "re_1",
        "RESEND_API_URL": "http://127.0.0.1:1/",
        "EMAIL_TEMPLATES": str(tmp_path),
        "SMTP_URL": "console://",
    }
    settings = read_settings(environ)

    assert settings.resend_api_url == "http://127.0.0.1:1"
    assert settings.email_templates == str(tmp_path)
    assert settings.smtp_url == "console://"
    assert "re_1" not in repr(settings)


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("SMTP_URL", "ses://", "ses://region"),
        ("SMTP_URL", "console://here", "console://"),
        ("RESEND_API_URL", "api.resend.com", "http"),
        ("EMAIL_TEMPLATES", "nowhere", "no such directory"),
    ],
)
def test_a_mistake_is_told_at_start(variable: str, value: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{variable}: .*{words}"):
        read_settings({"DATABASE_URL": "sqlite://", variable: value})
