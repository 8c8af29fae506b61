"""How mail leaves this deployment, where it sends any."""

from __future__ import annotations

from collections.abc import Iterator

from jobs.core.mailing import DEFAULT_OUTBOX, transport_name
from jobs.ops.doctor.base import Family, Finding, Surroundings, note, warning

MAIL_KINDS = frozenset({"email", "send-order-confirmation", "export"})


def no_way_out(around: Surroundings) -> Iterator[Finding]:
    """Mail that stays on the machine, or that nobody would take."""
    settings = around.settings
    if settings is None or not (settings.alert_email or MAIL_KINDS & around.kinds):
        return
    way = transport_name(settings)
    if way == "outbox" and not settings.smtp_url:
        yield warning(
            "mail-stays-here",
            f"neither SMTP_URL nor RESEND_API_KEY is set: mail is written into {DEFAULT_OUTBOX} "
            "and reaches nobody",
            "set SMTP_URL (smtp://..., ses://region) or RESEND_API_KEY, and EMAIL_FROM",
        )
    if way in ("smtp", "ses", "resend") and not settings.email_from:
        yield warning(
            "mail-without-sender",
            f"mail leaves by {way}, but EMAIL_FROM is not set: a mail that names no sender fails",
            'set EMAIL_FROM, as in EMAIL_FROM="Shop <shop@example.org>"',
        )


def two_ways_out(around: Surroundings) -> Iterator[Finding]:
    """Two ways set, of which one is taken."""
    settings = around.settings
    if settings is not None and settings.smtp_url and settings.resend_api_key:
        yield note(
            "mail-two-ways",
            f"SMTP_URL and RESEND_API_KEY are both set: mail leaves by {transport_name(settings)}, "
            "as SMTP_URL says",
            "unset the one that is not meant",
        )


FAMILY = Family("mail", (no_way_out, two_ways_out))
