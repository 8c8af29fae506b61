"""What the environment says, and where this deployment believes to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path

from jobs.core.settings import known_variables, on_platform
from jobs.ops.doctor.base import Family, Finding, Surroundings, error, note, warning

_OURS = ("JOBS_",)


def unknown_variables(around: Surroundings) -> Iterator[Finding]:
    """Misspelt names."""
    known = known_variables()
    for name in sorted(around.environ):
        if name.startswith(_OURS) and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            yield warning(
                "variable-unknown",
                f"{name} is set, but no setting is called so",
                f"did you mean {near[0]}?" if near else "unset it",
            )


def preview_namespace(around: Surroundings) -> Iterator[Finding]:
    """A preview deployment that works on the jobs of production."""
    preview = around.environ.get("VERCEL_ENV") == "preview"
    settings = around.settings
    if preview and settings is not None and settings.backend != "memory" and not settings.namespace:
        yield error(
            "preview-namespace",
            "this is a preview deployment, but JOBS_NAMESPACE is empty: it works on the same jobs "
            "as production",
            "set JOBS_NAMESPACE for previews (preview, say), or give them a database of their own",
        )


def sqlite_place(around: Surroundings) -> Iterator[Finding]:
    """SQLite where files do not last."""
    settings = around.settings
    if settings is None or not (settings.database_url or "").startswith("sqlite"):
        return
    elsewhere = "use PostgreSQL or MySQL there: DATABASE_URL=postgresql://..."
    if on_platform(around.environ):
        yield error(
            "sqlite-on-platform",
            "DATABASE_URL is a SQLite file on a serverless platform: its disk is read-only, or "
            "belongs to one instance and is lost at will",
            elsewhere,
        )
        return
    path = sqlite_path(settings.database_url or "")
    if settings.is_development or path is None:
        return
    if any(path.is_relative_to(folder) for folder in around.temporary):
        yield warning(
            "sqlite-temporary",
            f"the database {path} lies in a temporary folder: its jobs are lost at will",
            "name a file that lasts in DATABASE_URL",
        )


def sqlite_path(url: str) -> Path | None:
    """The file of a SQLite URL, made absolute; ``None`` if it names none."""
    rest = url.partition(":///")[2].removeprefix("file:").partition("?")[0]
    return Path(rest).absolute() if rest and rest != ":memory:" else None


def in_memory(around: Surroundings) -> Iterator[Finding]:
    """Jobs that end with the process."""
    settings = around.settings
    # An engine of the caller's own stands for itself, whatever the settings say.
    if settings is not None and settings.backend == "memory" and around.sql is None:
        where = error if on_platform(around.environ) or not settings.is_development else note
        yield where(
            "in-memory",
            "jobs live in the memory of a process and are gone when it ends",
            "set DATABASE_URL (sqlite:///jobs.db will do on a laptop)",
        )


FAMILY = Family("environment", (unknown_variables, preview_namespace, sqlite_place, in_memory))
