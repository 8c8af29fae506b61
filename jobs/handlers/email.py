"""The job kind `email`: one mail, with a body or by a template.

    queue_email(to="ann@example.com", subject="Welcome!", html="<h1>Welcome</h1>", text="Welcome")
    queue_email(to="ann@example.com", template="welcome", data={"name": "Ann"})

The result is `{"sent": True, "message_id", "transport"}`, with `refused` (addresses) when a server
took the mail for some only. `POST /api/jobs/email` makes such a job as well, once this module is
named in JOBS_HANDLERS. The work is in `mail/`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Unpack

import msgspec

from jobs.core.backoff import exponential
from jobs.core.context import JobContext
from jobs.core.errors import ConfigurationError, Discard, PayloadError
from jobs.core.job import Job
from jobs.core.registry import check_priority, handler
from jobs.handlers.blob import open_blob_store
from jobs.handlers.errors import MailRefused, PermanentError
from jobs.handlers.mail.attach import MOST_FILES, AttachmentRef, fetch
from jobs.handlers.mail.deliver import deliver_mail
from jobs.handlers.mail.message import Mail, brand_of, check_address, one_line
from jobs.handlers.queueing import split
from jobs.runtime.enqueue import EnqueueOptions

__all__ = ["AttachmentRef", "EmailJob", "aqueue_email", "email", "producers", "queue_email"]

MOST_RECIPIENTS: Final = 50
"""Of one mail, hidden ones included: Amazon SES and Resend take no more."""
HIDDEN: Final = ("html", "text", "resetUrl", "inviteUrl")
"""What nobody is shown of a payload: bodies and links that let somebody in."""


class EmailJob(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """The payload of the kind `email`: a body (`html`, `text`), or a `template` with its `data`.

    to, cc, bcc: one address or several
    subject: one line; may be left to a template that has one
    from: instead of EMAIL_FROM (in Python `from_`)
    reply_to: where an answer goes
    attachments: files of the blob store
    organizationId, priority: accepted as forerunners write them; what holds for the job is what it
        was enqueued with, and `queue_email` sees to that
    """

    to: str | list[str]
    subject: str | None = None
    html: str | None = None
    text: str | None = None
    from_: str | None = msgspec.field(name="from", default=None)
    template: str | None = None
    data: dict[str, Any] = {}
    cc: str | list[str] = []
    bcc: str | list[str] = []
    reply_to: str | None = None
    attachments: list[AttachmentRef] = []
    organizationId: str | None = None  # noqa: N815 - forerunners' name
    priority: int | None = None

    def __post_init__(self) -> None:
        groups = {"to": self.to, "cc": self.cc, "bcc": self.bcc}
        count = sum(_check_addresses(name, given) for name, given in groups.items())
        if not self.to:
            raise PayloadError("$.to", "a mail needs a recipient")
        if count > MOST_RECIPIENTS:
            raise PayloadError(
                "$.to",
                f"{count} recipients, over the limit of {MOST_RECIPIENTS}: send several mails",
            )
        for name, text in (("from", self.from_), ("reply_to", self.reply_to)):
            if text is not None:
                _check_address(f"$.{name}", text)
        self._check_content()
        if len(self.attachments) > MOST_FILES:
            raise PayloadError("$.attachments", f"over the limit of {MOST_FILES} files")
        if self.priority is not None:
            try:
                check_priority(self.priority)
            except ConfigurationError as error:
                raise PayloadError("$.priority", str(error)) from None

    def _check_content(self) -> None:
        has_body = self.html is not None or self.text is not None
        if self.template is None:
            if not has_body:
                raise PayloadError("$", "a mail needs a body: html, text or both, or a template")
            if self.data:
                raise PayloadError("$.data", "data are for a template: name one")
            if self.subject is None:
                raise PayloadError("$.subject", "a mail needs a subject")
        elif has_body:
            raise PayloadError("$.template", "either a template or a body (html, text), not both")
        if self.subject is not None:
            try:
                one_line(self.subject, "subject")
            except MailRefused as error:
                raise PayloadError("$.subject", str(error)) from None

    def mail(self, ctx: JobContext) -> Mail:
        """Return the mail: its template filled in, its attachments read.

        Raises MailRefused and BlobError for what cannot be sent as it is.
        """
        settings = ctx.settings
        subject, text, html = self.subject, self.text, self.html
        if self.template is not None:
            from jobs.handlers.mail.render import render  # late: Jinja2, only for templates

            filled = render(
                self.template,
                self.data,
                directory=settings.email_templates,
                brand=brand_of(self.from_ or settings.email_from),
            )
            subject, text, html = subject or filled.subject, filled.text, filled.html
        if subject is None:
            raise MailRefused(
                f"the mail has no subject: say one, or give {self.template}.subject a text"
            )
        attachments = self.attachments
        return Mail(
            to=self.to,
            subject=subject,
            text=text,
            html=html,
            sender=self.from_,
            cc=self.cc,
            bcc=self.bcc,
            reply_to=self.reply_to,
            attachments=fetch(attachments, open_blob_store(settings.blob_url))
            if attachments
            else (),
        )


def _check_addresses(name: str, given: str | Sequence[str]) -> int:
    if isinstance(given, str):
        _check_address(f"$.{name}", given)
        return 1
    for index, text in enumerate(given):
        _check_address(f"$.{name}[{index}]", text)
    return len(given)


def _check_address(path: str, text: str) -> None:
    try:
        check_address(text)
    except MailRefused as error:
        raise PayloadError(path, str(error)) from None


def _logged(payload: EmailJob) -> dict[str, str]:
    return {"to": payload.to if isinstance(payload.to, str) else ", ".join(payload.to)}


def _send(payload: EmailJob, ctx: JobContext) -> dict[str, Any]:
    try:
        mail = payload.mail(ctx)
    except PermanentError as error:
        raise Discard(str(error)) from error
    return deliver_mail(mail, ctx)


_declared: Any = {
    "queue": "email",
    "max_attempts": 5,
    "backoff": exponential(5, factor=5),
    "timeout": 30,
    "log_context": _logged,
    "redact": HIDDEN,
}


@handler("email", **_declared)
def email(payload: EmailJob, ctx: JobContext) -> dict[str, Any]:
    """Send a mail; a mistake in it gives the job up at once."""
    return _send(payload, ctx)


@handler("send-order-confirmation", **_declared)
def send_order_confirmation(payload: EmailJob, ctx: JobContext) -> dict[str, Any]:
    """The same under forerunners' name."""
    return _send(payload, ctx)


# --- producers


class EmailOptions(EnqueueOptions, total=False):
    """What `queue_email` takes: the fields of EmailJob, and the options of `enqueue`."""

    to: str | Sequence[str]
    subject: str
    html: str
    text: str
    from_: str
    template: str
    data: Mapping[str, Any]
    cc: str | Sequence[str]
    bcc: str | Sequence[str]
    reply_to: str
    attachments: Sequence[AttachmentRef | Mapping[str, str]]
    organization_id: str


def queue_email(*, session: Any = None, tickwork: Any = None, **said: Unpack[EmailOptions]) -> Job:
    """Enqueue a mail and return its job.

    session: the caller's SQLAlchemy session or connection; the job commits with it or not at all
    tickwork: the system; the one that this module is registered with if not given
    said: the fields of EmailJob, `from_` among them, and the options of `Tickwork.enqueue`
        (`delay` in seconds, `priority` 1 to 5, `job_id`, ...). `organization_id` is the tenant.
    Raises PayloadError for a mistake in the mail, ConfigurationError for one in the options.
    """
    payload, options = _split(said)
    if tickwork is None:
        return email.enqueue(payload, session=session, **options)
    job: Job = tickwork.enqueue(email.kind, payload, session=session, **options)
    return job


async def aqueue_email(
    *, session: Any = None, tickwork: Any = None, **said: Unpack[EmailOptions]
) -> Job:
    """`queue_email` from async code; the session is an AsyncSession then."""
    payload, options = _split(said)
    if tickwork is None:
        return await email.aenqueue(payload, session=session, **options)
    job: Job = await tickwork.aenqueue(email.kind, payload, session=session, **options)
    return job


_SEEDS_NAMES: Final = {"from_": "from", "organization_id": "organizationId"}


def _split(said: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    payload, options = split(said, lambda name: _SEEDS_NAMES.get(name, name))
    payload.pop("organizationId", None)  # the job's tenant says it
    return payload, options


_FROM_OUTSIDE: Final = frozenset(
    {"to", "subject", "html", "text", "from", "template", "data", "cc", "bcc", "reply_to"}
)


def _from_outside(body: dict[str, Any]) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """`POST /api/jobs/email`: what a caller with a token may say of a mail.

    No attachments: a file of the blob store may be another tenant's.
    """
    payload = dict(body)
    priority = payload.pop("priority", None)
    for name in payload.keys() - _FROM_OUTSIDE:
        raise PayloadError(f"$.{name}", "there is no such field here")
    return email.kind, payload, {} if priority is None else {"priority": priority}


producers = {"email": _from_outside}
