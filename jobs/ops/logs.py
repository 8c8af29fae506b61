"""Where log lines go when nobody else has said so: one line per event, as JSON or as text.

Only the logger ``tickwork`` is touched, and only if the host application has not configured it.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from jobs.core.events import current_tick
from jobs.core.loglines import RECORD_FIELDS
from jobs.core.masking import mask, on_one_line
from jobs.core.settings import SECRET_FIELDS, Settings, on_platform, passwords_of

ROOT = "tickwork"
MESSAGE_MAX_CHARS = 8_000
TRACE_MAX_CHARS = 16_000
LINE_MAX_CHARS = 60_000
# Handlers that a platform puts on the root logger before any code of ours or the host's runs.
_PLATFORM_MODULES = ("awslambdaric", "bootstrap")


class _Formatter(logging.Formatter):
    """What both formats hide; ``secrets`` are texts that never appear."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        # Longest first: one may be a part of another.
        self._secrets = sorted(set(secrets), key=len, reverse=True)

    def said(self, record: logging.LogRecord) -> str:
        return self.masked(record.getMessage(), MESSAGE_MAX_CHARS)

    def masked(self, text: str, most: int) -> str:
        if len(text) > most:
            text = f"{text[: most // 2]} ... {text[-most // 2 :]}"
        return mask(text, self._secrets)

    def trace(self, record: logging.LogRecord) -> str:
        # As it is told to other handlers, an earlier one's text is kept on the record: not ours.
        text = self.formatException(record.exc_info) if record.exc_info else record.exc_text or ""
        if record.stack_info:
            text = f"{text}\n{record.stack_info}".strip("\n")
        return self.masked(text, TRACE_MAX_CHARS)

    def extras(self, record: logging.LogRecord) -> dict[str, Any]:
        fields = {name: value for name, value in vars(record).items() if name not in RECORD_FIELDS}
        if "tick" not in fields and (tick := current_tick.get()):
            fields["tick"] = tick
        return fields

    def plain(self, value: object) -> Any:
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, Mapping):
            return {self.masked(str(key), 100): self.plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.plain(item) for item in value]
        return self.masked(str(value), MESSAGE_MAX_CHARS)


class JsonFormatter(_Formatter):
    """One JSON object a line, in ASCII: time, level, logger, message, then the line's fields."""

    def format(self, record: logging.LogRecord) -> str:
        document: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self.said(record),
        }
        for name, value in self.extras(record).items():
            document.setdefault(name, self.plain(value))
        if record.exc_info or record.exc_text or record.stack_info:
            document["exception"] = self.trace(record)
        line = json.dumps(document, default=str)
        if len(line) <= LINE_MAX_CHARS:
            return line
        kept = {name: document[name] for name in ("time", "level", "logger", "message")}
        return json.dumps({**kept, "cut": True})


class TextFormatter(_Formatter):
    """A line for people; those of a traceback are set off, so that none passes for an event."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_time(record)} {record.levelname} {record.name}: {on_one_line(self.said(record))}"
        if record.exc_info or record.exc_text or record.stack_info:
            trace = self.trace(record).splitlines()
            line += "".join(f"\n    | {on_one_line(each)}" for each in trace)
        return line


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class LineHandler(logging.Handler):
    """Writes each record to stderr, or on a platform to stdout what is no warning.

    Platforms take what a program writes to stderr for an error. The streams are looked up at every
    line: tests and servers replace them. With ``yields`` it is silent once the host application has
    given the root logger a handler, which then gets the same records.
    """

    def __init__(self, formatter: _Formatter, *, by_level: bool, yields: bool) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._by_level = by_level
        self._yields = yields

    def emit(self, record: logging.LogRecord) -> None:
        if self._yields and _host_configured_root():
            return
        try:
            stream: TextIO | None = sys.stderr
            if self._by_level and record.levelno < logging.WARNING:
                stream = sys.stdout
            if stream is not None:
                stream.write(self.format(record) + "\n")
                stream.flush()
        except Exception:  # noqa: BLE001 - logging never breaks what it tells of
            self.handleError(record)


def install(settings: Settings, environ: Mapping[str, str] | None = None) -> LineHandler | None:
    """Send the lines of ``tickwork`` somewhere, unless the host application has seen to it.

    With ``JOBS_LOG_FORMAT`` as it says. Without it: as JSON on a platform in production, as text on
    a terminal in development, and elsewhere not at all. Returns the handler it made, if any.
    """
    environ = os.environ if environ is None else environ
    logger = logging.getLogger(ROOT)
    if logger.handlers or logger.level != logging.NOTSET or not logger.propagate:
        return None
    chosen = settings.log_format
    if chosen == "off":
        return None
    hosted = on_platform(environ)
    said = chosen is not None
    if chosen is None:
        if _host_configured_root():
            return None
        chosen = _usual_format(settings, hosted)
    if chosen is None:
        return None
    secrets = _secrets_of(settings)
    formatter = JsonFormatter(secrets) if chosen == "json" else TextFormatter(secrets)
    handler = LineHandler(formatter, by_level=hosted, yields=not said)
    logger.addHandler(handler)
    logger.setLevel(settings.log_level.upper())
    # The root's handlers would tell the same again: the platform's own, or, where the format was
    # asked for, the host's.
    logger.propagate = not said and not logging.getLogger().handlers
    return handler


def uninstall(handler: LineHandler) -> None:
    """Take back what :func:`install` did."""
    logger = logging.getLogger(ROOT)
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


def _usual_format(settings: Settings, hosted: bool) -> str | None:
    if hosted and not settings.is_development:
        return "json"
    if settings.is_development and sys.stderr is not None and sys.stderr.isatty():
        return "text"
    return None


def _host_configured_root() -> bool:
    return any(
        not type(handler).__module__.startswith(_PLATFORM_MODULES)
        for handler in logging.getLogger().handlers
    )


def _secrets_of(settings: Settings) -> set[str]:
    found = {getattr(settings, name) for name in SECRET_FIELDS} | passwords_of(settings)
    return {secret for secret in found if secret}
