"""What a handler is given beside its payload."""

from __future__ import annotations

import logging
import math
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

from jobs.core.codec import clean_text, decode, encode
from jobs.core.errors import UNCHANGED, ConfigurationError
from jobs.core.job import Claimed
from jobs.core.loglines import LOGGER, error_text, job_fields, plain_fields

if TYPE_CHECKING:
    from jobs.core.settings import Settings

NOTE_MAX_CHARS = 500
CURSOR_MAX_BYTES = 100_000
LogLevel = Literal["debug", "info", "warning", "error"]
_lines = logging.getLogger(LOGGER)


class RunPort(Protocol):
    """What a context asks of the runner that executes its job."""

    def report_progress(self, percent: float, note: str | None) -> None: ...

    def checkpoint(self, cursor: str | None = None) -> None: ...

    def time_left(self) -> float: ...

    @property
    def is_stopping(self) -> bool: ...

    @property
    def session(self) -> Any: ...

    @property
    def slot(self) -> datetime | None: ...

    @property
    def settings(self) -> Settings: ...

    @property
    def tick(self) -> str: ...


class JobContext:
    """A running job, seen from inside its handler.

    >>> def export(payload: dict, ctx: JobContext) -> dict:
    ...     ctx.progress(50, "half")
    ...     ctx.checkpoint()
    ...     return {"seconds_left": ctx.time_left()}
    """

    __slots__ = ("_claimed", "_cursor", "_port")

    def __init__(self, claimed: Claimed, port: RunPort) -> None:
        self._claimed = claimed
        self._port = port
        self._cursor = claimed.cursor

    @property
    def job_id(self) -> str:
        """The job's id, the same over all its attempts."""
        return self._claimed.id

    @property
    def idempotency_key(self) -> str:
        """The key to hand to the outside world, so that a repeated call is recognised there."""
        return self._claimed.id

    @property
    def kind(self) -> str:
        return self._claimed.kind

    @property
    def queue(self) -> str:
        return self._claimed.queue

    @property
    def tenant(self) -> str:
        return self._claimed.tenant

    @property
    def attempt(self) -> int:
        """Which execution this is, from 1."""
        return self._claimed.attempt

    @property
    def max_attempts(self) -> int:
        return self._claimed.max_attempts

    @property
    def fence(self) -> int:
        """A number that rises with every claim, for stores outside that compare tokens."""
        return self._claimed.fence

    @property
    def slot(self) -> datetime | None:
        """The slot that a schedule made this job for, in UTC: the same at every attempt, however
        late it runs. ``None`` for a job that no slot made. Read from the store at each call.
        """
        return self._port.slot

    @property
    def settings(self) -> Settings:
        """The system's settings, for handlers that send mail or store files."""
        return self._port.settings

    @property
    def session(self) -> Any:
        """The SQLAlchemy session of a transactional handler's own settling transaction.

        Writes made and jobs enqueued through it (``session=ctx.session``) commit together with the
        job's completion, or not at all. Do not commit it yourself.

        Raises :class:`ConfigurationError` in a handler not declared ``transactional=True``.
        """
        session = self._port.session
        if session is None:
            raise ConfigurationError(
                f"kind {self.kind!r} has no session: declare it with transactional=True"
            )
        return session

    def log(self, message: str, *, level: LogLevel = "info", **fields: Any) -> None:
        """Log a line that bears the job's ids, and ``fields`` beside them; nothing is stored.

        The line goes to the logger ``tickwork.jobs``. A message or a field that is long is cut, and
        credentials in it are masked.
        """
        number = logging.getLevelNamesMapping()[level.upper()]
        if not _lines.isEnabledFor(number):
            return
        job = self._claimed
        said = plain_fields(fields)
        ids = job_fields(job.id, job.queue, job.kind, tenant=job.tenant, tick=self._port.tick)
        ids.update(attempt=job.attempt, maxAttempts=job.max_attempts)
        _lines.log(number, "%s", error_text(str(message)), extra={**said, **ids})

    def progress(self, percent: float, note: str | None = None) -> None:
        """Say how far the work is, 0 to 100; written at the runner's next flush."""
        percent = float(percent)
        # A share of nothing (0/0) is no reason to fail a job.
        percent = 0.0 if math.isnan(percent) else min(max(percent, 0.0), 100.0)
        if note is not None:
            note = clean_text(str(note)[:NOTE_MAX_CHARS])
        self._port.report_progress(percent, note)

    @property
    def group_id(self) -> str | None:
        """The group that this job belongs to, if any."""
        return self._claimed.group_id

    @property
    def state(self) -> Any:
        """What was saved last by ``checkpoint(state=...)`` or ``Continue(state)``; at first None.

        A fresh copy each time, over all attempts: what a crashed attempt saved is there as well.
        """
        return None if self._cursor is None else decode(self._cursor)

    def checkpoint(self, state: Any = UNCHANGED) -> None:
        """A safe place to stop: renews the lease where that helps, and stores progress.

        ``state`` is any JSON value of up to 100,000 bytes: where the work goes on from, should it
        end here. In a transactional handler it is saved when that commits: with ``Continue``.

        Raises :class:`~jobs.core.errors.PayloadError` for a state that cannot be stored.
        Raises :class:`~jobs.core.errors.JobCancelled` if somebody asked to cancel this job, and
        :class:`~jobs.core.errors.LeaseLost` if another runner has taken it over; let both pass.
        """
        cursor = None if state is UNCHANGED else encode(state, CURSOR_MAX_BYTES)
        self._port.checkpoint(cursor)
        if cursor is not None:
            self._cursor = cursor

    def should_stop(self, margin: float = 5.0) -> bool:
        """Whether it is time to ``raise Continue(...)``: ``margin`` seconds before the attempt is
        given up on, or once this process is told to end."""
        return self._port.is_stopping or self._port.time_left() <= margin

    def time_left(self) -> float:
        """Seconds until this attempt is given up on (its timeout, or the platform's limit)."""
        return self._port.time_left()
