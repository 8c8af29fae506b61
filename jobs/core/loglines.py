"""What a log line says of a job: its fields, bounded, on one line, without credentials. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jobs.core.errors import ConfigurationError
from jobs.core.masking import mask, on_one_line

ERROR_MAX_CHARS = 1_000
VALUE_MAX_CHARS = 200
MOST_CONTEXT_FIELDS = 20
LOGGER = "tickwork.jobs"
# Jobs enqueued together have a line each up to so many, and else one for each kind and queue.
MOST_LINES = 100

# Which values of a payload logs may show: top-level keys, or a function of the payload.
LogContext = Sequence[str] | Callable[[Any], Mapping[str, Any]]

# What a LogRecord has of its own: ``logging`` refuses extra fields of these names.
RECORD_FIELDS = frozenset(
    (
        *("name", "msg", "args", "levelname", "levelno", "pathname", "filename", "module"),
        *("exc_info", "exc_text", "stack_info", "lineno", "funcName", "created", "msecs"),
        *("relativeCreated", "thread", "threadName", "process", "processName", "taskName"),
        *("message", "asctime"),
    )
)


def check_log_context(value: LogContext | None) -> LogContext | None:
    """``value`` if a handler may declare it; raises ConfigurationError otherwise."""
    if value is None or callable(value):
        return value
    given: Any = value
    is_list = isinstance(given, Sequence) and not isinstance(given, str)
    if not is_list or not all(isinstance(key, str) and key for key in given):
        raise ConfigurationError(
            "log_context is a list of the payload's keys, as in ['order_id'], or a function of "
            f"the payload that returns a dict: not {value!r}"
        )
    return tuple(given)


def job_fields(
    job_id: str, queue: str, kind: str, *, tenant: str = "", tick: str = ""
) -> dict[str, Any]:
    """The fields that every line of a job bears; a tenant and a tick where there is one."""
    fields = {"jobId": job_id, "queue": queue, "kind": kind}
    if tenant:
        fields["tenant"] = tenant
    if tick:
        fields["tick"] = tick
    return fields


def error_text(text: str | None) -> str:
    """An error as a line shows it."""
    return bounded(mask(text or ""), ERROR_MAX_CHARS)


def bounded(text: str, most: int = VALUE_MAX_CHARS) -> str:
    """``text`` on one line, its middle cut out if it is long."""
    if len(text) > most:
        half = most // 2
        text = f"{text[:half]} ... {text[-half:]}"
    return on_one_line(text)


def plain_fields(values: Mapping[Any, Any]) -> dict[str, Any]:
    """``values`` fit for a line: names that logging takes, and short plain values."""
    fields: dict[str, Any] = {}
    for name, value in list(values.items())[:MOST_CONTEXT_FIELDS]:
        shown = bounded(str(name), 60)
        if shown in RECORD_FIELDS:
            shown += "_"
        if value is None or isinstance(value, bool | int | float):
            fields[shown] = value
        else:
            fields[shown] = bounded(mask(_text(value)))
    return fields


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception as problem:  # noqa: BLE001 - a value of somebody else's
        return f"({type(problem).__name__})"
