"""Packages and data that this deployment needs and may lack."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from collections.abc import Iterator
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from jobs.ops.doctor.base import Family, Finding, Surroundings, error, warning

DISTRIBUTION = "tickwork"
# One east, one west, one that changes its clock.
_ZONES = ("Asia/Kolkata", "America/New_York", "Europe/Berlin")
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*>=\s*([0-9.]+)")


def extras(around: Surroundings) -> Iterator[Finding]:
    """What the chosen backend needs beyond the plain installation."""
    settings = around.settings
    if settings is None:
        return
    wanted = []
    if settings.backend == "sqs":
        wanted.append(("boto3", "aws", "JOBS_BACKEND=sqs"))
    if (settings.smtp_url or "").startswith("ses://"):
        wanted.append(("boto3", "aws", "SMTP_URL=ses://..."))
    if re.match(r"(mysql|mariadb)(\+pymysql)?://", settings.database_url or ""):
        wanted.append(("pymysql", "mysql", "a MySQL database"))
    if settings.encryption_keys:
        wanted.append(("cryptography", "crypto", "JOBS_ENCRYPTION_KEYS"))
    if settings.auto_start or (settings.is_development and settings.backend == "memory"):
        wanted.append(("apscheduler", "local", "the runner that starts by itself"))
    for module, extra, needed_for in wanted:
        if importlib.util.find_spec(module) is None:
            yield error(
                "extra-missing",
                f"{needed_for} needs {module}, which is not installed",
                f"pip install 'tickwork[{extra}]'",
            )


def old_packages(_: Surroundings) -> Iterator[Finding]:
    """Installed packages older than what ``pyproject.toml`` asks for."""
    for line in importlib.metadata.requires(DISTRIBUTION) or ():
        found = _REQUIREMENT.match(line)
        if found is None or 'extra == "dev"' in line:
            continue
        name, least = found.groups()
        try:
            there = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # an extra that nobody asked for; what is needed is asked for above
        if _numbers(there) < _numbers(least):
            yield error(
                "package-old",
                f"{name} {there} is installed; {least} or newer is needed",
                f"pip install --upgrade '{name}>={least}'",
            )


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: enough to compare with a plain lower bound.

    >>> _numbers("2.1.0b1") < _numbers("2.1.1")
    True
    """
    release = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, release[0].split("."))) if release else ()


def time_zones(_: Surroundings) -> Iterator[Finding]:
    """The data of time zones, which slim images leave out."""
    missing = []
    for name in _ZONES:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, OSError, ValueError):
            missing.append(name)
    if missing:
        yield warning(
            "time-zones",
            f"there is no data of time zones here ({', '.join(missing)}): schedules with a zone "
            "cannot be read",
            "pip install tzdata",
        )


FAMILY = Family("packages", (extras, old_packages, time_zones))
