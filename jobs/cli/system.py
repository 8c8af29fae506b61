"""The system that a command works on, from the environment."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from jobs import Tickwork
from jobs.cli.text import first_line, say
from jobs.core.errors import ConfigurationError
from jobs.core.settings import Settings, read_settings
from jobs.runtime.local import is_local

if TYPE_CHECKING:
    from jobs.stores.sql.store import SqlStore


@contextlib.contextmanager
def opened(*, handlers: bool = False, prepared: bool = True) -> Iterator[Tickwork]:
    """The environment's system, closed at the end.

    With ``handlers`` their modules are imported; who only looks must not depend on whether they
    can be. ``prepared`` makes the tables of a local file in development, as everywhere else.

    Raises :class:`~jobs.core.errors.ConfigurationError`, also for the in-memory stub: its jobs
    would be gone with this process.
    """
    import_from_here()
    settings = read_settings()
    if settings.backend == "memory":
        raise ConfigurationError(_why_not_in_memory(settings))
    if handlers:
        tickwork = Tickwork.from_env()
    else:
        tickwork = Tickwork(settings=replace(settings, handlers=()))
    with contextlib.closing(tickwork):
        if prepared and settings.is_development and is_local(settings):
            tickwork.create_schema()
        yield tickwork


@contextlib.contextmanager
def opened_with_code() -> Iterator[Tickwork]:
    """As ``opened(handlers=True)``, but modules that cannot be imported are only told of.

    For what is better with the code's own settings, and must work when the code is what is broken.
    """
    with contextlib.ExitStack() as stack:
        try:
            tickwork = stack.enter_context(opened(handlers=True))
        except Exception as error:  # noqa: BLE001 - whatever somebody's module raises
            tickwork = stack.enter_context(opened())
            problem = first_line(str(error)) or type(error).__name__
            say(f"Without what JOBS_HANDLERS says: {problem}", err=True)
        yield tickwork


def sql_store(tickwork: Tickwork) -> SqlStore:
    """The store of a system that :func:`opened` gave."""
    from jobs.stores.sql.store import SqlStore  # late: `tickwork --help` loads no SQLAlchemy

    store = tickwork.store
    assert isinstance(store, SqlStore)
    return store


def import_from_here() -> None:
    """Let JOBS_HANDLERS name modules of the current directory, as Flask and pytest do."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


def _why_not_in_memory(settings: Settings) -> str:
    gone = "jobs would live in the memory of this command and be gone when it ends"
    if settings.database_url:
        return f"JOBS_BACKEND=memory: {gone}; unset it to use DATABASE_URL"
    return (
        f"DATABASE_URL is not set: {gone}. Set it (sqlite:///jobs.db will do); "
        "`tickwork serve --dev` runs without"
    )
