"""What every transport can do, and what it says when it has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from jobs.core.mailing import TransportName
from jobs.handlers.mail.message import Letter


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of a letter that was taken for one recipient at least.

    message_id: what the other side knows it by
    refused: addresses that the other side will never take, and what it said
    delayed: addresses that it did not take now, and what it said
    more: what else the transport has to tell
    """

    message_id: str
    refused: dict[str, str] = field(default_factory=dict)
    delayed: dict[str, str] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)


class Transport(Protocol):
    """A way for mail to leave.

    `default_sender` is whom a mail is from where nobody says; None where that must be said.
    """

    name: TransportName
    default_sender: str | None

    def send(self, letter: Letter) -> Sent:
        """Send one letter to its `recipients`.

        Raises MailRefused when a retry cannot help, MailDelayed when it can. Nobody has got the
        mail then, as far as the other side has said.
        """
        ...
