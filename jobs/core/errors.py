"""Every error Tickwork raises, as one tree, and the three exceptions a handler raises to steer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class TickworkError(Exception):
    """Base of every error that Tickwork raises on purpose."""


class ConfigurationError(TickworkError):
    """The environment or the arguments cannot make a running system.

    ``problems`` holds one sentence per mistake, each naming its variable; all are found in one go.
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class PayloadError(TickworkError, ValueError):
    """A value cannot be stored as JSON, or does not fit its declared type.

    ``path`` names the value, as in ``$.items[3].price``.
    """

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}")


class PayloadTooLarge(PayloadError):
    """The encoded payload is over the limit; store the data elsewhere and pass a reference."""


class UnknownKind(TickworkError, LookupError):
    """No handler of that kind is registered here. ``known`` lists those that are."""

    def __init__(self, kind: str, known: Sequence[str]) -> None:
        self.kind = kind
        self.known = tuple(sorted(known))
        listed = ", ".join(self.known) or "none"
        super().__init__(
            f"no handler is registered for kind {kind!r} (registered: {listed}); "
            "name its module in JOBS_HANDLERS or import it before enqueueing"
        )


class MalformedMessage(TickworkError, ValueError):
    """A queue message names no job: its sender is not ours, or something came between.

    The text never repeats the body, which may hold anything.
    """


class JobNotFound(TickworkError, LookupError):
    """No job with that id in this namespace."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(f"no job {job_id!r} in this namespace")


class GroupNotFound(TickworkError, LookupError):
    """No group with that id in this namespace."""

    def __init__(self, group_id: str) -> None:
        self.group_id = group_id
        super().__init__(f"no group {group_id!r} in this namespace")


class NoSuchAlert(TickworkError, LookupError):
    """No alert of that name is open."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"no alert called {name!r} is open")


class NoSuchLimit(TickworkError, LookupError):
    """No limit of that name is known. ``known`` lists those that are."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        self.name = name
        self.known = tuple(known)
        listed = ", ".join(self.known) or "none"
        super().__init__(f"no circuit breaker is called {name!r} (there are: {listed})")


class ScheduleNotFound(TickworkError, LookupError):
    """No schedule of that name (and tenant) in this namespace."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"no schedule {name!r} here; `tickwork schedules` lists those there are")


class TokenNotFound(TickworkError, LookupError):
    """No token with that id, or it is another tenant's."""

    def __init__(self, token_id: str) -> None:
        self.token_id = token_id
        super().__init__(f"no token {token_id!r} here; `tickwork tokens` lists those there are")


class NotAllowed(TickworkError):
    """Whoever asks may not do that, or not like that."""


class OtherTenant(NotAllowed):
    """What was asked for is another tenant's: to whoever asks, it is not there."""


class JobStateConflict(TickworkError):
    """The job's state does not allow what was asked, such as cancelling a completed job.

    ``because`` says what stands in the way where the state alone does not, ``mend`` what to do.
    """

    def __init__(
        self, job_id: str, state: str, action: str, mend: str = "", *, because: str = ""
    ) -> None:
        self.job_id = job_id
        self.state = state
        self.action = action
        self.because = because
        more = (f", for {because}" if because else "") + (f"; {mend}" if mend else "")
        super().__init__(f"job {job_id} is {state}: it cannot be {action}{more}")


class SchemaError(TickworkError):
    """The tables are missing, or older or newer than this code."""


class StoreUnavailable(TickworkError):
    """The database could not be reached, or kept refusing, within the bounded retries."""


class CapabilityError(TickworkError):
    """The store cannot do what was asked; said early instead of failing later."""


LONGEST_DELAY_SECONDS = 10 * 365 * 86_400.0


def _ahead(name: str, seconds: object) -> float:
    # Checked while the handler still runs: an instant that no database can hold would otherwise
    # come up when the outcome is written, where the job could only be lost.
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not 0 <= seconds <= LONGEST_DELAY_SECONDS:  # type: ignore[operator]
        raise ValueError(f"{name} wants seconds from 0 to 10 years, not {seconds!r}")
    return float(seconds)  # type: ignore[arg-type]


class Steering(Exception):
    """Raised by a handler to say what should become of its job; not a failure of the code."""


class Retry(Steering):
    """This attempt failed; try again after ``after`` seconds instead of the kind's backoff."""

    def __init__(self, reason: str = "retry requested", *, after: float | None = None) -> None:
        self.after = None if after is None else _ahead("Retry", after)
        self.reason = reason
        super().__init__(reason)


class Snooze(Steering):
    """Not now: run again in ``seconds`` and give this attempt back."""

    def __init__(self, seconds: float) -> None:
        self.seconds = _ahead("Snooze", seconds)
        super().__init__(f"snoozed for {seconds:g} s")


UNCHANGED: Any = type("Unchanged", (), {"__repr__": lambda _: "UNCHANGED"})()


class Continue(Steering):
    """More is to be done: go on in ``after`` seconds, with ``state`` as ``ctx.state``.

    ``state`` is any JSON value of up to 100,000 bytes; left out, what was saved last stays. The
    attempt is given back, its failures so far are not.
    """

    def __init__(self, state: Any = UNCHANGED, *, after: float = 0.0) -> None:
        self.state = state
        self.after = _ahead("Continue", after)
        super().__init__(f"to be continued in {after:g} s")


class NewerPayload(Snooze):
    """The job's payload is of a version that this code does not know: newer code is to take it."""

    def __init__(self, version: int, known: int, seconds: float) -> None:
        super().__init__(seconds)
        self.reason = (
            f"waits for newer code: its payload is version {version}, this deployment knows "
            f"up to {known}"
        )


class LockedPayload(Snooze):
    """The job's payload is encrypted with a key that is not here: whoever has it is to take it."""

    reason = "waits for a deployment with the key of its payload (JOBS_ENCRYPTION_KEYS)"


class Discard(Steering):
    """Give up at once: the job becomes a dead letter with this reason, whatever is left to try."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class NeverEnds(Discard):
    """The job was put off too often, or for too long."""


class JobCancelled(Steering):
    """Raised by ``ctx.checkpoint()`` when somebody asked to cancel this running job."""


class LeaseLost(Steering):
    """Raised by ``ctx.checkpoint()`` when the job was taken over: stop, nothing can be written."""
