"""Messages: what is sent is read back; what names no job is refused in words, whatever it is."""

from __future__ import annotations

import contextvars
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.core.errors import MalformedMessage
from jobs.core.ring import Message, current_hops, next_hops

SENT = Message("0190-a", "export-orders", "preview", 3, 2)


def test_the_body_is_the_agreed_one() -> None:
    assert json.loads(SENT.to_body()) == {
        "jobId": "0190-a",
        "kind": "export-orders",
        "namespace": "preview",
        "send": 3,
        "hops": 2,
    }


@pytest.mark.parametrize("message", [SENT, Message("a", "k", ""), Message("a"), Message("a", "é")])
def test_what_is_sent_is_read_back(message: Message) -> None:
    assert Message.parse(message.to_body()) == message


def test_a_foreign_producer_need_only_name_the_job() -> None:
    assert Message.parse('{"jobId": "a-1"}') == Message("a-1", "", None, 1, 0)


def test_keys_of_later_versions_are_left_alone() -> None:
    assert Message.parse('{"jobId": "a-1", "colour": [1]}').job_id == "a-1"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (None, "not text"),
        (b'{"jobId": "a"}', "not text"),
        ("", "not JSON"),
        ("hello", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"jobId": ' + "9" * 5_000 + "}", "not JSON"),
        ("[]", "a list"),
        ("null", "nothing"),
        ('"a"', "text"),
        ("{}", "jobId"),
        ('{"jobId": ""}', "jobId"),
        ('{"jobId": 7}', "jobId"),
        ('{"jobId": null}', "jobId"),
        ('{"jobId": "a\\u0000b"}', "jobId"),
        ('{"jobId": "' + "a" * 101 + '"}', "jobId"),
        ('{"jobId": "a", "kind": 1}', "kind"),
        ('{"jobId": "a", "namespace": []}', "namespace"),
        ('{"jobId": "a", "send": 0}', "send"),
        ('{"jobId": "a", "send": true}', "send"),
        ('{"jobId": "a", "hops": -1}', "hops"),
        ('{"jobId": "a", "hops": "3"}', "hops"),
        ('{"jobId": "a", "hops": 1e400}', "hops"),
    ],
)
def test_what_names_no_job_is_refused_in_words(body: object, says: str) -> None:
    with pytest.raises(MalformedMessage, match=says):
        Message.parse(body)


def test_the_refusal_does_not_repeat_the_body() -> None:
    with pytest.raises(MalformedMessage) as refused:
        Message.parse('{"password": "s3cret", "jobId": ["s3cret"]}')

    assert "s3cret" not in str(refused.value)


@given(st.one_of(st.text(), st.binary(), st.none(), st.recursive(st.integers(), st.lists)))
def test_no_body_raises_anything_else(body: object) -> None:
    texts = body if isinstance(body, str | bytes | None) else json.dumps({"jobId": body})
    with pytest.raises(MalformedMessage):
        Message.parse(texts)


def test_rings_of_a_consumer_are_one_hop_further() -> None:
    assert next_hops() == 0

    def consume() -> int:
        current_hops.set(11)
        return next_hops()

    assert contextvars.copy_context().run(consume) == 12
    assert next_hops() == 0
