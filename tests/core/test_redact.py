"""What nobody is shown, by names and in running text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, TypedDict

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.core.redact import HIDDEN, Redactor, Secret, marked

SECRETS = [
    *("password", "PASSWORD", "user_password", "passwordHash", "secret", "client-secret"),
    *("token", "accessToken", "authorization", "Authorization", "api_key", "X-Api-Key", "apiKey"),
    *("private_key", "Cookie", "pwd", "pin", "credentials", "aws_secret_access_key"),
]
PLAIN = [
    "id",
    "note",
    "keyboard",
    "spinning",
    "passenger",
    "idempotency_key",
    "dedupe_key",
    "author",
]


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_name_hides_its_value(name: str) -> None:
    shown = Redactor().value({"a": [{name: "hunter2"}], name: {"deep": "hunter2"}})
    assert shown == {"a": [{name: HIDDEN}], name: HIDDEN}


@pytest.mark.parametrize("name", PLAIN)
def test_another_name_hides_nothing(name: str) -> None:
    assert Redactor().value({name: "x"}) == {name: "x"}


def test_more_names_are_given_whole() -> None:
    redactor = Redactor(["iban", "Card-Number"])
    assert redactor.value({"IBAN": 1, "card_number": 2, "ibans": 3}) == {
        "IBAN": HIDDEN,
        "card_number": HIDDEN,
        "ibans": 3,
    }
    assert redactor.text("card-number=42 iban: DE00") == f"card-number={HIDDEN} iban: {HIDDEN}"


@pytest.mark.parametrize(
    "text",
    [
        "password=hunter2",
        "{'password': 'hunter2'}",
        '{"user": {"api_key": "hunter2"}}',
        "Authorization: Bearer hunter2hunter2",
        "sent Bearer hunter2hunter2 along",
        "postgresql://user:hunter2@host/db is gone",
        "https://host/?token=hunter2&a=1",
        "SMTP_PASSWORD: hunter2, host: x",
    ],
)
def test_running_text_loses_its_secrets(text: str) -> None:
    hidden = Redactor().text(text)
    assert hidden is not None
    assert "hunter2" not in hidden
    assert HIDDEN in hidden


@pytest.mark.parametrize(
    "text", ["", "no such order 42", "ValueError: bad note", "at 10:30: it failed", "a=1"]
)
def test_other_text_stays(text: str) -> None:
    assert Redactor().text(text) == text


def test_nothing_hides_what_is_not_there() -> None:
    assert Redactor().value({"password": None}) == {"password": None}
    assert Redactor().text(None) is None


def test_what_is_nested_too_deep_is_hidden_and_not_followed() -> None:
    deep: object = "hunter2"
    for _ in range(2000):
        deep = [deep]
    assert "hunter2" not in str(json.dumps(Redactor().value(deep)))


def test_a_whole_job_is_hidden() -> None:
    shown = Redactor().job(
        {
            "payload": {"to": "a@b", "token": "hunter2", "card": "4242"},
            "result": {"secret": "hunter2"},
            "error": "password=hunter2",
            "errors": [{"attempt": 1, "message": "token: hunter2", "traceback": "pwd=hunter2"}],
            "progress_note": None,
        },
        also={"card"},
    )
    assert "hunter2" not in str(shown)
    assert shown["payload"] == {"to": "a@b", "token": HIDDEN, "card": HIDDEN}
    assert shown["errors"][0]["attempt"] == 1


@dataclass
class Card:
    number: Annotated[str, Secret]
    owner: str


class Order(TypedDict):
    id: str
    cards: list[Card]
    code: Annotated[str, Secret()]


class Model(pydantic.BaseModel):
    name: str
    key: pydantic.SecretStr | None
    card: Card


def test_marks_of_a_type_are_found() -> None:
    assert marked(Card) == {"number"}
    assert marked(Order) == {"number", "code"}
    assert marked(Model) == {"key", "number"}
    assert marked(None) == marked(int) == frozenset()


@given(
    st.recursive(
        st.none() | st.text() | st.integers(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*SECRETS, *PLAIN]), inner),
    )
)
def test_the_shape_stays(value: object) -> None:
    shown = Redactor().value(value)
    if isinstance(value, dict):
        assert shown.keys() == value.keys()
    assert Redactor().value(shown) == shown


@given(st.text())
def test_any_text_is_gone_through(text: str) -> None:
    assert isinstance(Redactor().text(text), str)
