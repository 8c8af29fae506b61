"""What the batteries raise, drawn first.

    HandlerError            something a battery could not do
      PermanentError        a retry cannot help: the input or the configuration must change
        DatasetError        datasets.py: dataset unknown or malformed, or a filter is wrong
        ReportError         reports/, insights/: report or period unknown, or it cannot be drawn
        SourceError         source.py: the source's URL or file cannot be used
        FormatError         writers.py: no such file format
        BlobError           blob: the store's URL or a key cannot be used
        MailRefused         mail/: a wrong address or template, or a "no" for good (5xx)
        DeliveryRefused     the receiver of a webhook or an alert said no for good (4xx)
        TargetRefused       targets.py: a webhook may not be sent there
        SecretError         webhook_secrets.py: a webhook's secret is missing or cannot be kept
        SignatureRefused    providers.py: a webhook that came is not the provider's
        AuthRefused         sync/: a platform does not take an integration's credentials
        PlatformRefused     sync/: a platform said no for good, or is set up wrongly
      PlatformDown          sync/: a platform was away, too slow, or sent what cannot be read
      RateLimited           sync/: a platform said "later", and when
      StepFailed            onboarding.py: a step failed; the next attempt begins with it
      AlertNotDelivered     alert.py: some channels do not have the alert yet
      MailDelayed           mail/: the server was away or said "later" (4xx)
        MailThrottled       mail/: too many mails; when to come back is known
      DeliveryFailed        the receiver of a webhook or an alert was away or said "later"

Errors of a database driver, of S3 or of the disk are passed on as they are: those are worth a
retry.
"""

from __future__ import annotations

from jobs.core.errors import TickworkError


class HandlerError(TickworkError):
    """Something a battery could not do. The message says what to change."""


class PermanentError(HandlerError):
    """A retry cannot help. A handler answers it by giving the job up at once (`Discard`)."""


class DatasetError(PermanentError):
    """A dataset is unknown or malformed, or a filter is undeclared, missing or mistyped."""


class ReportError(PermanentError):
    """A report, its period or what it is made of is unknown, malformed or cannot be drawn."""


class SourceError(PermanentError):
    """The URL or the file of the source database cannot be used."""


class FormatError(PermanentError):
    """The asked file format does not exist."""


class BlobError(PermanentError):
    """The URL of the blob store or the key of a file cannot be used."""


class MailRefused(PermanentError):
    """The mail can never be sent as it is: a wrong address, or a permanent answer (5xx)."""


class MailDelayed(HandlerError):
    """The mail was not accepted now: no connection, or a temporary answer (4xx). Worth a retry."""


class MailThrottled(MailDelayed):
    """The other side takes no more mails for now.

    after_seconds: when it may be asked again
    """

    def __init__(self, message: str, after_seconds: float) -> None:
        super().__init__(message)
        self.after_seconds = after_seconds


class DeliveryRefused(PermanentError):
    """The receiver said no for good (4xx), or what is needed to send is not set any more."""


class DeliveryFailed(HandlerError):
    """The receiver was away or said "later". Worth a retry."""


class TargetRefused(PermanentError):
    """A webhook may not be sent there. The message names the host and no address behind it."""


class SecretError(PermanentError):
    """A webhook's secret is missing, malformed, or cannot be kept here."""


class SignatureRefused(PermanentError):
    """A webhook that came is unsigned, signed by somebody else, or too old."""
