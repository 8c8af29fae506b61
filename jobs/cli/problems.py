"""What a person is told when a command ends badly, and with which exit code."""

from __future__ import annotations

import os
import sys
import traceback

from jobs.cli.text import mask, safe
from jobs.core.errors import (
    CapabilityError,
    ConfigurationError,
    PayloadError,
    StoreUnavailable,
    TickworkError,
    UnknownKind,
)
from jobs.core.settings import mask_url

FAILED, ASKED_WRONGLY = 1, 2


def explain(error: Exception) -> tuple[list[str], int]:
    """The lines for stderr and the exit code of an error."""
    match error:
        case ConfigurationError():
            return [_line(problem) for problem in error.problems], ASKED_WRONGLY
        case PayloadError():
            return [_line(f"the payload cannot be taken: {error}")], ASKED_WRONGLY
        case CapabilityError() | UnknownKind():
            return [_line(str(error))], ASKED_WRONGLY
        case StoreUnavailable():
            return [_line(f"{error}; {_whereabouts()}")], FAILED
        case TickworkError():
            return [_line(str(error))], FAILED
    said = _of_the_database(error) or _of_aws(error)
    if said is not None:
        return [_line(said)], FAILED
    # Not ours: somebody's handler module, or a mistake of this program. Either needs the trace.
    trace = "".join(traceback.format_exception(error))
    return [safe(line) for line in trace.rstrip().split("\n")], FAILED


def _line(text: str) -> str:
    return "tickwork: " + " ".join(safe(text).split())


def _of_the_database(error: Exception) -> str | None:
    """Class and driver message: SQLAlchemy's own text adds the statement and its values."""
    exc = sys.modules.get("sqlalchemy.exc")
    if exc is None or not isinstance(error, exc.SQLAlchemyError):
        return None
    original = getattr(error, "orig", None)
    if original is None:
        return f"the database layer failed: {type(error).__name__}: {_whereabouts()}"
    said = f"{type(original).__name__}: {' '.join(str(original).split())}"
    if error.statement is None:
        return f"the database cannot be reached: {said}; {_whereabouts()}"
    return f"the database refused: {said}"


def _of_aws(error: Exception) -> str | None:
    exceptions = sys.modules.get("botocore.exceptions")
    if exceptions is None:
        return None
    if isinstance(error, exceptions.ClientError):
        return f"AWS refused: {error}"
    if isinstance(error, exceptions.BotoCoreError):
        return f"AWS cannot be asked: {error}"
    return None


def _whereabouts() -> str:
    url = os.environ.get("DATABASE_URL", "").strip()
    if not url:
        return "is DATABASE_URL right?"
    return f"is DATABASE_URL right ({mask(mask_url(url))}), and is that server up?"
