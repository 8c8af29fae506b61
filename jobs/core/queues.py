"""What holds for the jobs of a queue: settings said in code, and those said over them at run time.

A field that is ``None`` says nothing. What is said is data, so that it can lie in the database as
JSON and be changed while everything runs.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from msgspec import Struct
from msgspec.structs import fields, force_setattr, replace

from jobs.core.backoff import Backoff, BackoffLike, as_backoff
from jobs.core.errors import ConfigurationError
from jobs.core.limits import Limit, as_rate, check_at_once
from jobs.core.registry import (
    Retention,
    RetentionLike,
    as_retention,
    check_max_attempts,
    check_priority,
    check_timeout,
)

log = logging.getLogger("tickwork.queues")


class QueueSettings(Struct, frozen=True):
    """What a queue says of its jobs; ``None`` is not said. A kind's own options go before these.

    ``timeout`` in seconds; ``max_attempts`` counts the first execution; ``backoff``,
    ``remove_on_complete`` and ``remove_on_fail`` as at a handler; ``max_concurrency`` over all
    processes, ``concurrency_in_process`` in each; ``rate_limit`` as ``"100/s"``.

    Raises :class:`~jobs.core.errors.ConfigurationError` for a value that makes no sense.
    """

    max_attempts: int | None = None
    timeout: float | None = None
    backoff: BackoffLike | None = None
    priority: int | None = None
    remove_on_complete: RetentionLike | None = None
    remove_on_fail: RetentionLike | None = None
    max_concurrency: int | None = None
    rate_limit: str | None = None
    concurrency_in_process: int | None = None

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            value = getattr(self, name)
            if value is not None:
                force_setattr(self, name, check(value))

    @property
    def limit(self) -> Limit:
        """What holds over all processes."""
        return Limit(self.max_concurrency, as_rate("rate_limit", self.rate_limit))

    def over(self, other: QueueSettings) -> QueueSettings:
        """These settings, and ``other``'s where these say nothing."""
        return replace(other, **self.said())

    def said(self) -> dict[str, Any]:
        """The fields that say something."""
        return {name: value for name in NAMES if (value := getattr(self, name)) is not None}

    def as_dict(self) -> dict[str, Any]:
        """What is said as plain JSON values; :func:`queue_settings` reads it back."""
        return {
            name: asdict(value) if isinstance(value, Backoff | Retention) else value
            for name, value in self.said().items()
        }


def queue_settings(values: Mapping[str, Any]) -> QueueSettings:
    """Settings from plain values by name.

    Raises :class:`~jobs.core.errors.ConfigurationError` that lists what there is for a name that
    is none.
    """
    unknown = sorted(map(str, values.keys() - set(NAMES)))
    if unknown:
        raise ConfigurationError(
            f"no setting of a queue is called {', '.join(unknown)}: there are {', '.join(NAMES)}"
        )
    return QueueSettings(**values)


def read_said(subject: str, text: str) -> QueueSettings:
    """Settings as they lie in the database.

    Another version may have written them, or a hand: what cannot be read is warned of and left
    out, so that nothing in that row can keep a tick from running.
    """
    try:
        values = json.loads(text)
        items = values.items()
    except (ValueError, AttributeError):
        log.warning("the settings of %s are no JSON object; they are not used", subject)
        return QueueSettings()
    said = QueueSettings()
    for name, value in items:
        try:
            said = queue_settings({name: value}).over(said)
        except (ConfigurationError, TypeError) as error:
            log.warning("a setting of %s is not used: %s", subject, error)
    return said


def _backoff(value: Any) -> Backoff:
    if isinstance(value, Mapping) and "base" in value:  # a policy's own fields, as `as_dict` wrote
        try:
            return Backoff(**{**value, "delays": tuple(value.get("delays", ()))})
        except TypeError as error:
            raise ConfigurationError(f"{dict(value)!r} is not a backoff: {error}") from None
    return as_backoff(value)


def _retention(value: Any) -> Retention:
    if isinstance(value, Mapping) and value.keys() == {"age_seconds", "count"}:
        return Retention(**value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Retention(age_seconds=float(value))
    return as_retention(value, Retention())


def _at_once(name: str) -> Callable[[Any], int | None]:
    return lambda value: check_at_once(name, value)


def _rate(value: Any) -> str:
    return str(as_rate("rate_limit", value))


_CHECKS = {
    "max_attempts": check_max_attempts,
    "timeout": check_timeout,
    "backoff": _backoff,
    "priority": check_priority,
    "remove_on_complete": _retention,
    "remove_on_fail": _retention,
    "max_concurrency": _at_once("max_concurrency"),
    "rate_limit": _rate,
    "concurrency_in_process": _at_once("concurrency_in_process"),
}
NAMES = tuple(field.name for field in fields(QueueSettings))
