"""The doctor: what is wrong with a deployment, and what mends it.

Each file holds the checks of one thing, each check yields :class:`~jobs.ops.doctor.base.Finding`,
and none can break the others. A healthy set-up has no findings.
"""

from __future__ import annotations

from collections.abc import Sequence

from jobs.ops.doctor import (
    access,
    environment,
    kinds,
    mail,
    packages,
    secrets,
    serverless,
    vercel,
)
from jobs.ops.doctor.base import Family, Finding, Level, Surroundings, examine

__all__ = ["Finding", "Level", "Surroundings", "diagnose"]


def diagnose(around: Surroundings, known: Sequence[Finding] = ()) -> list[Finding]:
    """All findings, the worst first; ``known`` are those that gathering ``around`` has brought.

    Secrets are hidden in every sentence.
    """
    # What is known goes through the same sieve as the rest: it may speak of secrets, too.
    gathered = Family("gathered", (lambda _: known,))
    return examine(around, [gathered, *_families(around)])


def _families(around: Surroundings) -> list[Family]:
    modules = (environment, secrets, kinds, mail, vercel, serverless, packages)
    static = [each.FAMILY for each in modules]
    static.insert(2, access.STATIC)
    if around.sql is None:
        return static
    from jobs.ops.doctor import database, rows, schedules, schema  # late: the stub needs no SQL

    live = [database.ANSWER, database.SETUP, schema.TABLES, schema.INDEXES, rows.FAMILY]
    live += [schedules.FAMILY, access.LIVE]
    return [*static, *live]
