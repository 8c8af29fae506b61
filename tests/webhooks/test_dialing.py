"""The address that was checked is the one dialled, and everything ends in time."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.handlers import dialing
from jobs.handlers.errors import DeliveryFailed, TargetRefused
from jobs.handlers.targets import Address, Allowed, read_target
from tests.support.certificates import self_signed, serving_tls
from tests.support.receiver import OK, Receiver, receiver
from tests.webhooks.conftest import answering

LOOPBACK = Allowed.of(["127.0.0.1"])


class Resolver:
    """In place of the system's: each question is answered with the next list of addresses."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = itertools.chain(answers, itertools.repeat(answers[-1]))
        self.asked: list[str] = []

    def __call__(self, host: str, port: int, **_: Any) -> list[Any]:
        self.asked.append(host)
        return [(2, 1, 6, "", (address, port)) for address in next(self.answers)]


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> Resolver:
    resolver = Resolver(*answers)
    monkeypatch.setattr("jobs.handlers.dialing.socket.getaddrinfo", resolver)
    return resolver


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where connections were made to; none to the outside really is."""
    made: list[str] = []
    dial = dialing._dialled

    def note(address: Address, port: int, seconds: float) -> socket.socket:
        made.append(str(address))
        if not address.is_loopback:
            raise ConnectionRefusedError
        return dial(address, port, seconds)

    monkeypatch.setattr(dialing, "_dialled", note)
    return made


def post(url: str, allowed: Allowed = LOOPBACK, seconds: float = 5.0) -> dialing.Answer:
    return dialing.post(read_target(url), b"{}", {}, allowed=allowed, seconds=seconds)


def test_a_name_that_turns_private_after_it_was_checked(
    monkeypatch: pytest.MonkeyPatch, dialled: list[str]
) -> None:
    resolver = resolving(monkeypatch, ["8.8.8.8"], ["127.0.0.1"])
    with pytest.raises(DeliveryFailed, match="cannot be reached"):
        post("https://rebinding.example.com/", Allowed())

    assert resolver.asked == ["rebinding.example.com"]  # once
    assert dialled == ["8.8.8.8"]


@pytest.mark.parametrize(
    "addresses",
    [
        *(["127.0.0.1"], ["10.0.0.7"], ["169.254.169.254"], ["::1"], ["fe80::1%eth0"]),
        *(["::ffff:10.0.0.7"], ["8.8.8.8", "10.0.0.7"], ["64:ff9b::a00:7"]),
    ],
    ids=str,
)
def test_a_name_that_leads_inside_is_not_dialled(
    monkeypatch: pytest.MonkeyPatch, dialled: list[str], addresses: list[str]
) -> None:
    resolving(monkeypatch, addresses)
    with pytest.raises(TargetRefused) as refused:
        post("https://hooks.example.com/", Allowed())

    assert dialled == []
    assert "10.0.0.7" not in str(refused.value)  # what a name means inside is nobody's business


def test_the_next_address_is_tried(
    monkeypatch: pytest.MonkeyPatch, dialled: list[str], place: Receiver
) -> None:
    resolving(monkeypatch, ["8.8.8.8", "127.0.0.1"])
    allowed = Allowed.of(["hooks.example.com"])

    assert post(f"http://hooks.example.com:{place.port}/in", allowed).status == 200
    assert dialled == ["8.8.8.8", "127.0.0.1"]
    assert place.requests[0].headers["host"] == f"hooks.example.com:{place.port}"


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    certificate = self_signed(tmp_path, "hooks.example.com")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    dialing._tls.cache_clear()
    yield certificate
    dialing._tls.cache_clear()


def test_tls_is_for_the_name_and_the_line_goes_to_the_address(
    monkeypatch: pytest.MonkeyPatch, trusted: Path
) -> None:
    resolving(monkeypatch, ["127.0.0.1"])
    context = serving_tls(trusted)
    named: list[str | None] = []
    context.sni_callback = lambda _, name, __: named.append(name)
    with receiver(context) as place:
        answer = post(f"https://hooks.example.com:{place.port}/in")
        assert answer.status == 200
        with pytest.raises(
            DeliveryFailed, match=r"other\.example\.com has no certificate that holds"
        ):
            post(f"https://other.example.com:{place.port}/in")

    assert named == ["hooks.example.com", "other.example.com"]
    assert len(place.requests) == 1


def test_a_certificate_that_nobody_vouches_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    resolving(monkeypatch, ["127.0.0.1"])
    with (
        receiver(serving_tls(self_signed(tmp_path, "hooks.example.com"))) as place,
        pytest.raises(DeliveryFailed, match="no certificate that holds"),
    ):
        post(f"https://hooks.example.com:{place.port}/")
    assert place.requests == []


def test_through_no_proxy(place: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    assert post(place.url).status == 200


def test_a_redirect_is_told_and_not_followed(place: Receiver) -> None:
    place.answer = lambda _: answering(307, f"Location: {place.url}/elsewhere")

    assert post(place.url).status == 307
    assert len(place.requests) == 1


# -- time and size -----------------------------------------------------------------------------


def drip(head: bytes, piece: bytes, apart: float) -> Iterator[bytes]:
    yield head
    while True:
        time.sleep(apart)
        yield piece


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"


def test_an_endless_body_is_read_no_further_than_is_shown(place: Receiver) -> None:
    place.answer = lambda _: drip(HEAD, b"x" * 65_536, 0)
    answer = post(place.url)

    assert (answer.status, answer.excerpt) == (200, "x" * dialing.EXCERPT_BYTES)


@pytest.mark.parametrize("head", [HEAD, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1"])
def test_a_slow_body_costs_no_delivery(
    place: Receiver, monkeypatch: pytest.MonkeyPatch, head: bytes
) -> None:
    monkeypatch.setattr(dialing, "BODY_SECONDS", 0.2)
    place.answer = lambda _: drip(head, b"0", 0.03)
    began = time.monotonic()
    answer = post(place.url)

    assert answer.status == 200
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    "head", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 100 Continue\r\n"]
)
def test_a_head_that_drips_is_cut_off(place: Receiver, head: bytes) -> None:
    """Byte by byte: a socket's own timeout would begin anew with every one of them."""
    piece = b"HTTP/1.1 100 Continue\r\n\r\n" if b"100" in head else b"a"
    place.answer = lambda _: drip(head, piece, 0.03)
    began = time.monotonic()
    with pytest.raises(DeliveryFailed, match="did not answer in time"):
        post(place.url, seconds=0.3)

    assert time.monotonic() - began < 2


def test_a_server_that_says_nothing_is_cut_off(place: Receiver) -> None:
    place.answer = lambda _: drip(b"", b"", 0.03)
    with pytest.raises(DeliveryFailed, match="did not answer in time"):
        post(place.url, seconds=0.3)


def test_a_tls_handshake_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, ["127.0.0.1"])
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(DeliveryFailed, match="did not answer in time"):
            post(f"https://hooks.example.com:{silent.getsockname()[1]}/", seconds=0.3)
    assert time.monotonic() - began < 2


def test_a_resolver_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "jobs.handlers.dialing.socket.getaddrinfo", lambda *_, **__: time.sleep(1) or []
    )
    with pytest.raises(DeliveryFailed, match="was not resolved in time"):
        post("https://hooks.example.com/", seconds=0.1)


def test_a_head_of_megabytes_is_refused(place: Receiver) -> None:
    place.answer = lambda _: b"HTTP/1.1 200 OK\r\nX: " + b"a" * 2_000_000 + b"\r\n\r\n"
    with pytest.raises(DeliveryFailed, match="did not answer"):
        post(place.url)


def test_lines_are_closed(place: Receiver) -> None:
    for answer in (OK, b"", answering(500, body=b"x" * 5000)):
        place.answer = lambda _, answer=answer: answer
        for _ in range(3):
            if answer:
                post(place.url)
            else:
                with pytest.raises(DeliveryFailed):
                    post(place.url)
    assert place.connections == 9
