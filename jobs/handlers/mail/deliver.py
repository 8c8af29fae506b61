"""Sends mail from a job: tells errors apart, and remembers whom a mail has reached.

A server may take a mail for one recipient, refuse another for good, and put off a third. Whoever
has the mail gets no second one: the job's state holds the addresses that are done, and another
attempt asks for the others only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from jobs.core.context import JobContext
from jobs.core.errors import Discard, Retry, Snooze
from jobs.handlers.errors import MailThrottled, PermanentError
from jobs.handlers.mail.message import Mail, recipients_of
from jobs.handlers.mail.send import as_result, choose_transport, send_by
from jobs.handlers.mail.transport import Sent


@dataclass
class _Progress:
    """Whom earlier attempts have reached, and who refuses."""

    message_id: str | None = None
    reached: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, state: Any) -> _Progress:
        said = state.get("mail") if isinstance(state, Mapping) else None
        if not isinstance(said, Mapping):
            return cls()
        return cls(said["message_id"], set(said["reached"]), dict(said["refused"]))

    def as_state(self) -> dict[str, Any]:
        return {
            "mail": {
                "message_id": self.message_id,
                "reached": sorted(self.reached),
                "refused": self.refused,
            }
        }


def deliver_mail(mail: Mail, ctx: JobContext) -> dict[str, Any]:
    """Send a mail from a handler, with the job's idempotency key.

    mail: the mail; its own idempotency key is replaced
    ctx: the job; its state is where it is remembered whom the mail has reached
    Returns as `send_mail` does.
    Raises Discard when a retry cannot help, Snooze when the other side is to be asked again later
    without an attempt being used, Retry when it was not accepted for some, MailDelayed for none.
    """
    try:
        return _deliver(replace(mail, idempotency_key=ctx.idempotency_key), ctx)
    except PermanentError as error:
        raise Discard(str(error)) from error
    except MailThrottled as error:
        ctx.log(str(error), level="warning")
        raise Snooze(error.after_seconds) from error


def _deliver(mail: Mail, ctx: JobContext) -> dict[str, Any]:
    transport = choose_transport(ctx.settings)
    done = _Progress.of(ctx.state)
    left = [each for each in recipients_of(mail) if each not in done.reached | done.refused.keys()]
    try:
        sent = send_by(transport, mail, ctx.settings.email_from, only=left)
    except PermanentError as error:
        if not done.reached:
            raise
        # Some have it: what is left of the others is a refusal like any other.
        sent = Sent(done.message_id or "", refused=dict.fromkeys(left, str(error)))
    done.message_id = sent.message_id
    done.refused |= sent.refused
    done.reached |= set(left) - sent.refused.keys() - sent.delayed.keys()
    if sent.delayed:
        ctx.checkpoint(state=done.as_state())
        waits = "; ".join(f"{address}: {said}" for address, said in sent.delayed.items())
        raise Retry(f"the mail was not accepted now for {waits}")
    return as_result(transport, replace(sent, refused=done.refused))
