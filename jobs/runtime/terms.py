"""Terms: what holds for jobs of a kind in a queue, and who said so.

What was set at run time goes before what the kind's handler says, that before what the code says of
the queue, and that before the settings' defaults. What a job's own enqueue said goes before all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from jobs.core.backoff import fixed
from jobs.core.job import DEFAULT_PRIORITY
from jobs.core.limits import Limits
from jobs.core.outcome import MAX_AGE_SECONDS, MAX_CONTINUES, Policy
from jobs.core.queues import NAMES, QueueSettings, read_said
from jobs.core.registry import Handler, Registry, Retention, as_retention
from jobs.core.settings import Settings

NOT_SAID = QueueSettings()
LEARN_AGAIN_SECONDS = 30.0


class Terms(NamedTuple):
    """What holds for jobs of one kind in one queue. ``timeout`` is ``None`` if nobody said one."""

    policy: Policy
    timeout: float | None
    max_attempts: int
    priority: int
    completed: Retention
    failed: Retention


class TermsBook:
    """The queues of one system: what code and what people say of them, and the terms from both.

    A tick that finds other settings in the database lets :meth:`learn` know. A consumer of messages
    never ticks: it asks when it :meth:`is_stale`. A process that only enqueues goes by its code.
    """

    def __init__(self) -> None:
        self.declared: dict[str, QueueSettings] = {}
        self._raw: Mapping[str, str] = {}
        self._said: dict[str, QueueSettings] = {}
        self._learnt_at = -math.inf
        self._terms: dict[tuple[str, str], tuple[Handler | None, Terms]] = {}
        self._limits: tuple[int, Limits, bool] | None = None

    def declare(self, queue: str, settings: QueueSettings) -> QueueSettings:
        """Say in code what holds in a queue; a second word adds to the first. Returns it all."""
        declared = self.declared[queue] = settings.over(self.declared.get(queue, NOT_SAID))
        self._terms, self._limits = {}, None
        return declared

    def is_stale(self, at: float) -> bool:
        """Whether nothing was learnt for :data:`LEARN_AGAIN_SECONDS`; ``at`` is monotonic."""
        return at - self._learnt_at >= LEARN_AGAIN_SECONDS

    def learn(self, raw: Mapping[str, str], at: float) -> None:
        """Take what was set at run time: JSON texts by subject, as the database had them ``at``."""
        self._learnt_at = at
        if raw == self._raw:
            return
        self._said = {
            subject.removeprefix("queue/"): read_said(subject, text)
            for subject, text in raw.items()
            if subject.startswith("queue/")
        }
        self._raw, self._terms, self._limits = dict(raw), {}, None

    def said(self, queue: str) -> QueueSettings:
        """What was set at run time of a queue, as far as this process has learnt."""
        return self._said.get(queue, NOT_SAID)

    def of_queue(self, queue: str) -> QueueSettings:
        """What holds in a queue for kinds that say nothing themselves."""
        return self.said(queue).over(self.declared.get(queue, NOT_SAID))

    def names(self) -> set[str]:
        """The queues that somebody has said something of."""
        return {*self.declared, *self._said}

    def limits(self, registry: Registry) -> Limits:
        """What kinds and queues say of their limits over all processes."""
        return self._worked_out(registry)[1]

    def limits_in_process(self, registry: Registry) -> bool:
        """Whether a kind or a queue says how many of its jobs run at once in a process."""
        return self._worked_out(registry)[2]

    def _worked_out(self, registry: Registry) -> tuple[int, Limits, bool]:
        """Both, once until a kind is registered or somebody says something else of a queue."""
        known = self._limits
        if known is None or known[0] != registry.version:
            version, handlers = registry.version, list(registry)
            queues = {name: self.of_queue(name) for name in self.names()}
            limits = Limits(
                queues={name: each.limit for name, each in queues.items() if each.limit},
                kinds={each.kind: each.limit for each in handlers if each.limit},
                keys={each.kind: each.limit_per_key for each in handlers if each.limit_per_key},
            )
            said = [each.concurrency_in_process for each in queues.values()]
            said += [each.concurrency_in_process for each in handlers]
            in_process = any(said)
            known = self._limits = (version, limits, in_process)
        return known

    def terms(self, kind: str, queue: str, handler: Handler | None, settings: Settings) -> Terms:
        """The terms of a kind in a queue; worked out once, until somebody says something else."""
        known = self._terms.get((kind, queue))
        if known is None or known[0] is not handler:
            declared = self.declared.get(queue, NOT_SAID)
            found = terms_of(self.said(queue), handler, declared, settings)
            known = self._terms[kind, queue] = (handler, found)
        return known[1]


def terms_of(
    said: QueueSettings, handler: Handler | None, declared: QueueSettings, settings: Settings
) -> Terms:
    """The terms from all who may say something, the first who does."""

    def first(name: str, default: Any) -> Any:
        for voice in (said, handler, declared):
            value = getattr(voice, name, None)
            if value is not None:
                return value
        return default

    completed = as_retention(first("remove_on_complete", None), Retention(settings.keep_completed))
    failed = as_retention(first("remove_on_fail", None), Retention(settings.keep_failed))
    backoff = first("backoff", None)
    return Terms(
        Policy(
            backoff=backoff if backoff is not None else fixed(settings.retry_delay),
            keep_completed_seconds=completed.age_seconds,
            keep_failed_seconds=failed.age_seconds,
            result_max_bytes=settings.payload_max_bytes,
            max_continues=first("max_continues", MAX_CONTINUES),
            max_age_seconds=first("max_age", MAX_AGE_SECONDS),
        ),
        timeout=first("timeout", None),
        max_attempts=first("max_attempts", settings.max_attempts),
        priority=first("priority", DEFAULT_PRIORITY),
        completed=completed,
        failed=failed,
    )


def sources(book: TermsBook, queue: str, settings: Settings) -> dict[str, tuple[Any, str]]:
    """Every setting of a queue: its value, and whence: ``run time``, ``code``, ``default``.

    A kind's own options may still go before what code and defaults say here.
    """
    defaults = {
        "max_attempts": settings.max_attempts,
        "timeout": settings.timeout,
        "backoff": fixed(settings.retry_delay),
        "priority": DEFAULT_PRIORITY,
        "remove_on_complete": Retention(settings.keep_completed),
        "remove_on_fail": Retention(settings.keep_failed),
    }
    said, declared = book.said(queue), book.declared.get(queue, NOT_SAID)
    found: dict[str, tuple[Any, str]] = {}
    for name in NAMES:
        for voice, whence in ((said, "run time"), (declared, "code")):
            if getattr(voice, name) is not None:
                found[name] = (getattr(voice, name), whence)
                break
        else:
            found[name] = (defaults.get(name), "default")
    return found
