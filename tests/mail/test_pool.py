"""Connections that several mails go over: counted at a real server, and aged by hand."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobs import Tickwork
from jobs.handlers.mail import pool as pooling
from jobs.handlers.mail import smtp
from jobs.handlers.mail.message import Mail
from jobs.handlers.mail.pool import Pool
from jobs.handlers.mail.send import send_mail
from tests.handlers.shop import Settings
from tests.mail.conftest import Open
from tests.support.postman import Postman

MAIL = Mail("ann@example.com", "x", text="1")


def settings(port: int, more: str = "") -> Settings:
    return Settings(smtp_url=f"smtp://127.0.0.1:{port}{more}", email_from="shop@example.com")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The two clocks of a fresh pool, moved by hand."""
    times = [1000.0, 1000.0]
    fresh: Pool[smtp.SmtpConnection] = Pool(idle_seconds=5, clocks=lambda: tuple(times))
    monkeypatch.setattr(smtp, "_pool", fresh)
    yield times
    fresh.close_all()


def test_several_mails_go_over_one_connection(postman: Postman, plain_port: int) -> None:
    for _ in range(4):
        send_mail(MAIL, settings(plain_port))

    assert (len(postman.letters), postman.connections, postman.goodbyes) == (4, 1, 0)
    smtp._pool.close_all()
    assert postman.goodbyes == 1


def test_the_mails_of_one_tick_share_as_many_connections_as_run_at_once(
    postman: Postman, plain_port: int
) -> None:
    tickwork = Tickwork(
        handlers=["jobs.handlers.email"],
        smtp_url=f"smtp://127.0.0.1:{plain_port}",
        email_from="shop@example.com",
        concurrency=2,
    )
    for number in range(10):
        tickwork.enqueue("email", {"to": "a@example.com", "subject": str(number), "text": "1"})
    assert tickwork.tick(limit=10).succeeded == 10
    tickwork.close()

    assert len(postman.letters) == 10
    assert postman.connections <= 2


def test_threads_never_share_a_connection_at_the_same_time(
    postman: Postman, plain_port: int
) -> None:
    together = threading.Barrier(4)

    def send(number: int) -> None:
        together.wait(10)
        for _ in range(5):
            send_mail(Mail("a@example.com", f"m{number}", text="1" * 5000), settings(plain_port))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(send, range(4)))

    assert len(postman.letters) == 20
    assert postman.connections <= 4
    assert sorted(str(each["Subject"]) for each in postman.messages()) == sorted(
        f"m{number}" for number in range(4) for _ in range(5)
    )


def test_a_refused_mail_leaves_the_connection_in_use(postman: Postman, plain_port: int) -> None:
    send_mail(MAIL, settings(plain_port))
    postman.to_recipient["ann@example.com"] = "550 no such user"
    with pytest.raises(Exception, match="550"):
        send_mail(MAIL, settings(plain_port))
    postman.to_recipient.clear()
    postman.to_data = "451 later"
    with pytest.raises(Exception, match="451"):
        send_mail(MAIL, settings(plain_port))
    postman.to_data = "250 OK"
    send_mail(MAIL, settings(plain_port))

    assert (len(postman.letters), postman.connections) == (2, 1)


def test_a_connection_that_died_meanwhile_is_renewed(postman: Postman, plain_port: int) -> None:
    postman.hangs_up_after = 1
    with pytest.raises(Exception, match="closed"):  # with the answer, so nobody knows
        send_mail(MAIL, settings(plain_port))
    send_mail(MAIL, settings(plain_port))
    postman.hang_up()
    send_mail(MAIL, settings(plain_port))

    assert (len(postman.letters), postman.connections) == (3, 3)


@pytest.mark.parametrize("which", [0, 1], ids=["monotonic", "wall"])
def test_one_that_lay_too_long_is_not_even_asked(
    postman: Postman, plain_port: int, clock: list[float], which: int
) -> None:
    send_mail(MAIL, settings(plain_port))
    clock[which] += 4.9
    send_mail(MAIL, settings(plain_port))
    assert postman.connections == 1

    # A frozen function wakes up with a clock that stood still, and another that did not.
    clock[which] += 5.1
    send_mail(MAIL, settings(plain_port))
    assert (postman.connections, postman.goodbyes) == (2, 1)


def test_what_lies_idle_is_closed_by_itself(
    postman: Postman, open_port: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp, "_pool", Pool(idle_seconds=0.02))
    with open_port() as port:
        send_mail(MAIL, settings(port))
        assert postman.said_goodbye.wait(10)


def test_only_what_is_old_is_closed(postman: Postman, plain_port: int, clock: list[float]) -> None:
    send_mail(MAIL, settings(plain_port, "?timeout=9"))
    clock[0] += 3
    send_mail(MAIL, settings(plain_port))
    clock[0] += 3
    smtp._pool.close_idle()

    assert postman.goodbyes == 1
    send_mail(MAIL, settings(plain_port))
    assert postman.connections == 2


def test_two_places_do_not_mix(postman: Postman, plain_port: int) -> None:
    send_mail(MAIL, settings(plain_port))
    send_mail(MAIL, settings(plain_port, "?timeout=9"))

    assert postman.connections == 2


def test_a_connection_carries_so_many_mails_and_no_more(
    postman: Postman, plain_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooling, "MAILS_PER_CONNECTION", 3)
    for _ in range(7):
        send_mail(MAIL, settings(plain_port))

    assert (postman.connections, postman.goodbyes) == (3, 2)


def test_a_child_process_inherits_none(postman: Postman, plain_port: int) -> None:
    send_mail(MAIL, settings(plain_port))
    kept = smtp._pool._idle
    smtp._pool._forget()  # what runs in a forked child
    assert smtp._pool._idle == []
    smtp._pool._idle = kept
    send_mail(MAIL, settings(plain_port))
    assert postman.connections == 1
