"""A real SMTP server that keeps what arrives and answers as a test asks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as modern
from typing import Any, cast

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.support.servers import free_port

PASSWORD = b"p@ss/word"


class Postman:
    """Keeps what arrives; answers as a test asks.

    `letters` were accepted, on `connections` conversations that were begun, of which `goodbyes`
    ended in order. `to_recipient` and `to_data` are its answers; with `hangs_up_after` it cuts the
    line after so many letters, with `hangs_up_at` when it hears that word.
    """

    def __init__(self) -> None:
        self.letters: list[Envelope] = []
        self.logins: list[tuple[bytes, bytes]] = []
        self.connections = 0
        self.goodbyes = 0
        self.said_goodbye = threading.Event()
        self.to_recipient: dict[str, str] = {}
        self.to_data = "250 OK"
        self.hangs_up_at = ""
        self.hangs_up_after = 0
        self._server: SMTP | None = None

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _: list[str]
    ) -> str:
        answer = self.to_recipient.get(address, "250 OK")
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(  # noqa: N802
        self, server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        self._server = server
        if self.to_data.startswith("250"):
            self.letters.append(envelope)
        if self.hangs_up_at == "DATA" or 0 < self.hangs_up_after == len(self.letters):
            _hang_up(server)
        return self.to_data

    async def handle_QUIT(  # noqa: N802
        self, server: SMTP, _session: Session, _envelope: Envelope
    ) -> str:
        self.goodbyes += 1
        self.said_goodbye.set()
        if self.hangs_up_at == "QUIT":
            _hang_up(server)
        return "221 Bye"

    def check_login(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _kind: str, data: Any
    ) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.logins.append((data.login, data.password))
        return AuthResult(success=data.password == PASSWORD, handled=False)

    def hang_up(self) -> None:
        """Cut the line that the last letter came by, as a server does that has waited enough."""
        assert self._server is not None
        self._server.loop.call_soon_threadsafe(_hang_up, self._server)

    def messages(self) -> list[EmailMessage]:
        """What arrived, read the way a mail program would."""
        return [parse(each.content) for each in self.letters]


def _hang_up(server: SMTP) -> None:
    assert isinstance(server.transport, asyncio.WriteTransport)
    server.transport.abort()


def parse(raw: bytes | str | None) -> EmailMessage:
    """A message from its bytes."""
    assert isinstance(raw, bytes)
    message = message_from_bytes(raw, policy=modern)
    assert isinstance(message, EmailMessage)
    return message


def body(message: EmailMessage, kind: str) -> str:
    """The text of its `plain` or `html` part."""
    part = message.get_body((kind,))
    assert part is not None
    text: str = part.get_content()
    return text


class _Counting(Controller):
    def factory(self) -> SMTP:
        self.handler.connections += 1
        return cast(SMTP, super().factory())  # type: ignore[no-untyped-call]


@contextmanager
def serving(postman: Postman, **options: Any) -> Iterator[int]:
    """A server on a port of this machine, for the length of the block; yields the port."""
    port = free_port()
    controller = _Counting(
        postman,
        hostname="127.0.0.1",
        port=port,
        authenticator=postman.check_login,
        **{"auth_require_tls": False, "auth_exclude_mechanism": ["CRAM-MD5"], **options},
    )
    controller.start()
    postman.connections = 0  # starting it has called upon it once
    try:
        yield port
    finally:
        controller.stop()
