"""A job as a person is told of it: its state and times as of now."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from jobs.cli.text import mask, span
from jobs.core.controls import state_now
from jobs.core.job import SHOWN_STATES as SHOWN_STATES
from jobs.core.job import Job
from jobs.core.redact import Redactor


@dataclass
class Shown:
    """A job, the instant it is looked at, and what was paused then."""

    job: Job
    now: datetime
    paused: Collection[str] = ()
    redactor: Redactor | None = None

    @cached_property
    def state(self) -> str:
        """The stored state, refined: ``paused``, ``delayed``, ``retrying``, ``stalled``."""
        job = self.job
        return state_now(job, self.now, self.paused)

    @property
    def age(self) -> str:
        """How long ago it was enqueued."""
        return self.since(self.job.created_at)

    @property
    def attempts(self) -> str:
        """Attempts used, of how many."""
        return f"{self.job.attempts}/{self.job.max_attempts}"

    @property
    def when(self) -> str:
        """The time that matters in its state."""
        job = self.job
        match self.state:
            case "pending" | "paused":
                waited = self.seconds_since(job.run_at)
                return "due now" if waited < 1 else f"due for {span(waited)}"
            case "delayed" | "retrying":
                return f"in {span(-self.seconds_since(job.run_at))}"
            case "processing":
                return f"runs for {self.since(job.started_at)}" if job.started_at else "claimed"
            case "stalled":
                return f"lease ended {self.since(job.lease_until)} ago"
        return f"{self.since(job.finished_at)} ago" if job.finished_at else ""

    def since(self, at: datetime | None) -> str:
        """How long ago, in words; empty for never."""
        return "" if at is None else span(self.seconds_since(at))

    def seconds_since(self, at: datetime) -> float:
        """How long ago; below zero for what is ahead."""
        return (self.now - at).total_seconds()

    def as_dict(self) -> dict[str, Any]:
        """The job for ``--json``, with ``shown_state`` beside the stored one."""
        document = self.job.as_dict()
        document["shown_state"] = self.state
        if self.redactor is not None:
            document = self.redactor.job(document)
        # A driver's message may hold a password.
        document["error"] = None if document["error"] is None else mask(document["error"])
        document["errors"] = [
            {name: mask(text) if isinstance(text, str) else text for name, text in entry.items()}
            for entry in document["errors"]
        ]
        return document
