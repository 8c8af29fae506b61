"""Each provider's signature, by its documentation's vectors or by those that openssl made."""

from __future__ import annotations

import pytest

from jobs.handlers.errors import SignatureRefused
from jobs.handlers.providers import PROVIDERS, TOLERANCE_SECONDS, Arrived, key_of_event
from tests.incoming.vectors import AT, VECTORS, Vector

each_vector = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.provider)


def arrived(
    vector: Vector, *, at: float = AT, body: bytes | None = None, **headers: str
) -> Arrived:
    given = {**vector.headers, **{name.replace("_", "-"): text for name, text in headers.items()}}
    return Arrived(given, vector.body if body is None else body, at)


def verify(vector: Vector, came: Arrived, *secrets: str) -> str:
    return PROVIDERS[vector.provider].verify(came, secrets or (vector.secret,))


def test_there_is_a_vector_for_every_provider() -> None:
    assert [vector.provider for vector in VECTORS] == list(PROVIDERS)


@each_vector
def test_the_vector_is_accepted_and_read(vector: Vector) -> None:
    assert verify(vector, arrived(vector)) == vector.headers[vector.signature_header]


@each_vector
def test_two_secrets_while_one_replaces_the_other(vector: Vector) -> None:
    assert verify(vector, arrived(vector), "another-secret-entirely", vector.secret)
    with pytest.raises(SignatureRefused):
        verify(vector, arrived(vector), "another-secret-entirely")


@each_vector
@pytest.mark.parametrize("change", ["body", "empty", "case", "missing", "blank", "cut", "bytes"])
def test_what_is_changed_is_refused(vector: Vector, change: str) -> None:
    signature, header = vector.headers[vector.signature_header], vector.signature_header
    name = header.replace("-", "_")
    came = {
        "body": lambda: arrived(vector, body=vector.body + b" "),
        "empty": lambda: arrived(vector, body=b""),
        "case": lambda: arrived(vector, **{name: signature.swapcase()}),
        "missing": lambda: Arrived(
            {key: text for key, text in vector.headers.items() if key != header}, vector.body, AT
        ),
        "blank": lambda: arrived(vector, **{name: "  "}),
        "cut": lambda: arrived(vector, **{name: signature[:-1]}),
        "bytes": lambda: arrived(vector, **{name: signature[:-1] + "\xe4\udcff"}),
    }[change]()
    with pytest.raises(SignatureRefused):
        verify(vector, came)


stamped = pytest.mark.parametrize(
    "vector",
    [vector for vector in VECTORS if vector.provider in ("stripe", "standard")],
    ids=lambda vector: vector.provider,
)


@stamped
@pytest.mark.parametrize("off", [-TOLERANCE_SECONDS, TOLERANCE_SECONDS])
def test_within_five_minutes(vector: Vector, off: int) -> None:
    assert verify(vector, arrived(vector, at=AT + off))


@stamped
@pytest.mark.parametrize("off", [-TOLERANCE_SECONDS - 1, TOLERANCE_SECONDS + 1, 86_400])
def test_a_replay_is_refused(vector: Vector, off: int) -> None:
    with pytest.raises(SignatureRefused, match="replayed"):
        verify(vector, arrived(vector, at=AT + off))


@pytest.mark.parametrize(
    "header",
    [
        *("", "t=,v1=", "v1=6208", "t=abc,v1=00", "t=1614265330", "t=1614265330,v0={v1}", ",,,"),
        *("t=1614265331,v1={v1}", "t=-1,v1={v1}", "t=1614265330 ,v1=", "t=" + "9" * 400 + ",v1=0"),
        "t=1614265330," + "v1=00," * 5000 + "v1={v1}",
    ],
    ids=lambda header: header[:24],
)
def test_a_stripe_header_that_proves_nothing(header: str) -> None:
    vector = VECTORS[0]
    digest = vector.headers["stripe-signature"].rpartition("=")[2]
    with pytest.raises(SignatureRefused):
        verify(vector, arrived(vector, stripe_signature=header.format(v1=digest)))


def test_one_of_several_signatures_is_enough() -> None:
    stripe, _, _, _, standard = VECTORS
    signature = stripe.headers["stripe-signature"].replace(",v1=", ",v1=00,v1=")
    assert verify(stripe, arrived(stripe, stripe_signature=signature)) == signature
    both = "v1a,x v1,AAAA " + standard.headers["webhook-signature"]
    assert verify(standard, arrived(standard, webhook_signature=both)) == both


@pytest.mark.parametrize(
    ("found", "key"),
    [
        ("evt_1", "evt_1"),
        ("x" * 150, "x" * 150),
        ("x" * 151, "sha256:"),
        ("a\nb", "sha256:"),
        ("", "sha256:"),
    ],
)
def test_what_is_the_same_of_two_deliveries(found: str, key: str) -> None:
    github = PROVIDERS["github"]
    one = key_of_event(github, Arrived({"x-github-delivery": found}, b"{}", AT), {})
    other = key_of_event(github, Arrived({"x-github-delivery": found}, b"[]", AT), [])

    assert one.startswith(key)
    assert len(one) <= 150
    assert (one == other) is bool(found)
