"""``vercel.json``: the cron against the plan, the function's time against the tick's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice, pairwise
from typing import Any

from cronsim import CronSim, CronSimError

from jobs.core.settings import on_platform
from jobs.ops.doctor.base import Family, Finding, Surroundings, error, note, warning
from jobs.ops.words import age

# The paths that serve a tick: ours, and those of forerunners.
TICK_PATHS = ("/cron/process-jobs", "/api/cron/process-export-jobs", "/api/jobs/process")
DAY_SECONDS = 86_400.0
DEFAULT_DURATION_SECONDS = 300.0
_LONGEST_SECONDS = {"hobby": 300.0, "pro": 800.0, "enterprise": 800.0}
_SECRET_FILE = re.compile(r"\.env.*|.*\.(db|sqlite3?|pem|key)(-wal|-shm)?", re.IGNORECASE)
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def read(around: Surroundings) -> dict[str, Any] | None:
    """The document, or ``None`` without one. Raises ``ValueError`` for one that cannot be read."""
    path = around.folder / "vercel.json"
    if not path.is_file():
        return None
    document = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    return document


def readable(around: Surroundings) -> Iterator[Finding]:
    """A file that Vercel could not read either."""
    try:
        read(around)
    except ValueError as failure:
        yield error("vercel-unreadable", f"vercel.json cannot be read: {failure}", "mend the JSON")


def crons(around: Surroundings) -> Iterator[Finding]:
    """Whether anybody calls the tick, with an expression that Vercel takes, within the plan."""
    document = _document(around)
    if document is None:
        return
    entries = [*_objects(document.get("crons")), *_objects(document.get("schedules"))]
    ticking = [entry for entry in entries if _serves_ticks(entry.get("path"))]
    if not ticking:
        yield warning(
            "cron-missing",
            "vercel.json has no cron that calls a tick: unless something else does, no job runs",
            'add {"path": "/cron/process-jobs", "schedule": "0 5 * * *"} to "crons"',
        )
    gaps = []
    for entry in ticking:
        expression = str(entry.get("schedule", ""))
        wrong = cron_mistake(expression)
        if wrong:
            yield error(
                "cron-expression",
                f"vercel.json: Vercel does not take the cron {expression!r}: {wrong}",
                "use five fields of numbers, with * for the day of the month or of the week",
            )
        else:
            gaps.append(least_gap_seconds(expression))
    yield from _cadence(around, gaps)


def _cadence(around: Surroundings, gaps: list[float]) -> Iterator[Finding]:
    if not gaps:
        return
    shortest = min(gaps)
    if shortest < DAY_SECONDS and around.plan == "hobby":
        yield error(
            "cron-over-plan",
            f"the cron in vercel.json runs every {age(shortest)}; the Hobby plan takes one run a "
            "day and fails the deployment of any other",
            "make it daily and call the tick from elsewhere (docs/deploy), or take a paid plan",
        )
    elif shortest < DAY_SECONDS and around.plan is None:
        yield note(
            "cron-needs-plan",
            f"the cron in vercel.json runs every {age(shortest)}, which the Hobby plan refuses "
            "(it takes one run a day)",
            "nothing on a paid plan: say so with --plan pro; else make it daily",
        )
    elif shortest >= DAY_SECONDS and not _is_rung(around):
        yield note(
            "cron-daily",
            "the cron in vercel.json is the only thing that calls the tick, once a day: jobs may "
            "wait until then",
            "set JOBS_KICK_URL, call the tick from another scheduler, or let the cron run more "
            "often on a paid plan",
        )


def _is_rung(around: Surroundings) -> bool:
    settings = around.settings
    return settings is not None and bool(settings.kick_url or settings.backend == "sqs")


def cron_mistake(expression: str) -> str:
    """Why Vercel does not take an expression; empty if it does."""
    fields = expression.split()
    if len(fields) != 5:
        return f"it has {len(fields)} fields and not 5"
    if re.search(r"[A-Za-z@#]", expression):
        return "it takes numbers only, no names"
    if fields[2] != "*" and fields[4] != "*":
        return "the day of the month and the day of the week are both set"
    try:
        if next(CronSim(expression, _EPOCH), None) is None:
            return "there is no such day"
    except (CronSimError, ValueError, AssertionError) as failure:
        return str(failure)
    return ""


def least_gap_seconds(expression: str) -> float:
    """The shortest time between two runs.

    >>> least_gap_seconds("*/5 * * * *"), least_gap_seconds("0 5 * * *")
    (300.0, 86400.0)
    """
    runs = islice(CronSim(expression, _EPOCH), 1500)  # a day of minutes, and some
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(runs)]
    return min(gaps, default=DAY_SECONDS)


def durations(around: Surroundings) -> Iterator[Finding]:
    """Whether the platform lets the function run for as long as a tick believes it may."""
    document, settings = _document(around), around.settings
    if document is None:
        return
    functions = document.get("functions")
    given = [
        duration
        for options in (functions.values() if isinstance(functions, Mapping) else ())
        if isinstance(options, Mapping)
        and isinstance(duration := options.get("maxDuration"), int | float)
    ]
    longest = _LONGEST_SECONDS.get(around.plan or "")
    if longest is not None and given and max(given) > longest:
        yield error(
            "duration-over-plan",
            f"maxDuration is {max(given):g} s in vercel.json; the plan {around.plan} ends at "
            f"{longest:g} s",
            f"set it to {longest:g} or less",
        )
    allowed = min(given, default=DEFAULT_DURATION_SECONDS)
    if settings is not None and settings.tick_limit > allowed:
        yield error(
            "limit-over-duration",
            f"JOBS_TICK_LIMIT is {settings.tick_limit:g} s, but Vercel kills the function after "
            f"{allowed:g} s (maxDuration): jobs are started that it kills, and wait for their "
            "leases",
            f"set JOBS_TICK_LIMIT to {allowed:g}, or raise maxDuration",
        )


def published(around: Surroundings) -> Iterator[Finding]:
    """What Vercel publishes, bundles or routes wrongly."""
    document = _document(around)
    if document is None:
        return
    if document.get("rewrites") and document.get("framework", "?") is not None:
        yield warning(
            "vercel-framework",
            'vercel.json has rewrites, but does not pin "framework": null: under the Flask preset '
            "every request would reach the application as the rewritten path",
            'set "framework": null in vercel.json',
        )
    elif document.get("framework", "?") is None and not (around.folder / "public").is_dir():
        yield error(
            "vercel-publishes-source",
            'with "framework": null and no folder public/, Vercel publishes the whole repository '
            "as static files, source included",
            "make a folder public/ with one file in it",
        )
    public = around.folder / "public"
    secret = [path.name for path in sorted(public.rglob("*")) if _SECRET_FILE.fullmatch(path.name)]
    if secret:
        yield error(
            "secret-published",
            f"public/ holds {', '.join(secret)}: everybody may read it",
            "take it out, deploy, and change every secret that was in it",
        )
    if (around.folder / ".env").exists() and ".env" not in _left_out(around, document):
        yield warning(
            "env-bundled",
            "there is a .env here, and neither excludeFiles nor .vercelignore keeps it out of the "
            "deployment: its secrets travel with the code",
            'add .env* to "excludeFiles" in vercel.json, and to .vercelignore',
        )


def _left_out(around: Surroundings, document: Mapping[str, Any]) -> str:
    functions = document.get("functions")
    options = functions.values() if isinstance(functions, Mapping) else ()
    globs = [str(each.get("excludeFiles", "")) for each in options if isinstance(each, Mapping)]
    ignored = around.folder / ".vercelignore"
    if ignored.is_file():
        globs.append(ignored.read_text(encoding="utf-8", errors="replace"))
    return "\n".join(globs)


def platform_without_file(around: Surroundings) -> Iterator[Finding]:
    """On the platform itself the file is not deployed; the plan's limits still hold."""
    settings = around.settings
    if settings is None or _document(around) is not None or not on_platform(around.environ):
        return
    longest = _LONGEST_SECONDS.get(around.plan or "")
    if "VERCEL" in around.environ and longest is not None and settings.tick_limit > longest:
        yield error(
            "limit-over-duration",
            f"JOBS_TICK_LIMIT is {settings.tick_limit:g} s; the plan {around.plan} kills functions "
            f"after {longest:g} s",
            f"set it to the function's maxDuration, {longest:g} at most",
        )


def _document(around: Surroundings) -> dict[str, Any] | None:
    try:
        return read(around)
    except ValueError:  # said by `readable`
        return None


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def _serves_ticks(path: object) -> bool:
    return isinstance(path, str) and path.partition("?")[0].rstrip("/").endswith(TICK_PATHS)


FAMILY = Family("vercel", (readable, crons, durations, published, platform_without_file))
