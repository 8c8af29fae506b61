"""``tickwork doctor``: what is wrong with this deployment."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import click
from msgspec.structs import replace

from jobs import Tickwork
from jobs.cli.base import JsonCommand
from jobs.cli.problems import FAILED
from jobs.cli.system import import_from_here
from jobs.cli.text import say, stopped
from jobs.core.errors import ConfigurationError
from jobs.core.settings import Settings, read_settings
from jobs.ops.doctor import Finding, Level, Surroundings, diagnose
from jobs.ops.doctor.base import error, first_line
from jobs.ops.doctor.environment import sqlite_path
from jobs.ops.words import many


class DoctorCommand(JsonCommand):
    """A command that ends with 1 once its document is out, if that is not ``ok``."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run it, and end with 1 if something was found."""
        super().invoke(ctx)
        ctx.exit(FAILED if ctx.meta.get(_BAD) else 0)


_BAD = "tickwork.doctor.bad"


@click.command(cls=DoctorCommand)
@click.option(
    "--plan",
    type=click.Choice(["hobby", "pro", "enterprise"]),
    help="Vercel's plan, which decides how often a cron may run and a function how long.",
)
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    help="Where vercel.json and serverless.yml lie; the current directory by default.",
)
@click.pass_context
def doctor(
    ctx: click.Context, plan: str | None, folder: Path, as_json: bool
) -> dict[str, Any] | None:
    """Tell what is wrong with this deployment, and what mends it.

    Looks at the environment, vercel.json and serverless.yml here, the handlers, and the database,
    and changes nothing. Exit code 0 if there is nothing but notes, 1 if there is.
    """
    with contextlib.ExitStack() as stack:
        around, known = _gather(stack, plan, folder)
        findings = diagnose(around, known)
    bad = [each for each in findings if each.level is not Level.NOTE]
    ctx.meta[_BAD] = bool(bad)
    if as_json:
        return {"ok": not bad, "findings": [each.as_dict() for each in findings]}
    for each in findings:
        say(f"{each.level:<8} {each.code}")
        say(f"         {stopped(each.sentence)}")
        say(f"         Mend: {stopped(each.mend)}")
    say(_summary(findings))
    return None


def _summary(findings: list[Finding]) -> str:
    if not findings:
        return "Nothing is wrong."
    counted = [
        many(count, level)
        for level in Level
        if (count := sum(each.level is level for each in findings))
    ]
    return f"{', '.join(counted)}."


def _gather(
    stack: contextlib.ExitStack, plan: str | None, folder: Path
) -> tuple[Surroundings, list[Finding]]:
    """What the checks look at, as far as it can be had, and what kept the rest from being had."""
    import_from_here()
    around = Surroundings(environ=os.environ, folder=folder.absolute(), plan=plan)
    known: list[Finding] = []
    try:
        settings = read_settings()
    except ConfigurationError as failure:
        mend = "set the variable as it says; the others were looked at by themselves"
        return around, [error("setting", problem, mend) for problem in failure.problems]
    around.settings = settings
    known += _missing_file(settings)
    if known:
        return around, known
    try:
        bare = Tickwork(settings=replace(settings, handlers=()))
    except ConfigurationError as failure:
        mend = "set DATABASE_URL as it says"
        # What keys are none is told by a check of its own.
        problems = [each for each in failure.problems if "JOBS_ENCRYPTION_KEYS" not in each]
        return around, [error("database-setting", problem, mend) for problem in problems]
    stack.callback(bare.close)
    around.store = bare.store
    try:
        whole = Tickwork.from_env()
    except (Exception, SystemExit) as failure:  # noqa: BLE001 - somebody's modules
        known.append(_not_imported(settings, failure))
    else:
        stack.callback(whole.close)
        around.registry, around.store = whole.registry, whole.store
    return around, known


def _missing_file(settings: Settings) -> list[Finding]:
    """A SQLite file that is not there: opening it would make it."""
    path = sqlite_path(settings.database_url or "")
    if not (settings.database_url or "").startswith("sqlite") or path is None or path.exists():
        return []
    sentence = f"DATABASE_URL names the SQLite file {path}, which is not there yet"
    mend = "`tickwork db upgrade` makes it, with its tables"
    level = Level.NOTE if settings.is_development else Level.ERROR
    return [Finding("sqlite-missing", level, sentence, mend)]


def _not_imported(settings: Settings, failure: BaseException) -> Finding:
    """Of the modules in JOBS_HANDLERS, the first that is not there is the one that failed."""
    module = next((name for name in settings.handlers if name not in sys.modules), None)
    which = f"module {module!r} of JOBS_HANDLERS" if module else "a module of JOBS_HANDLERS"
    return error(
        "handlers-broken",
        f"{which} cannot be imported, so this deployment runs nothing: {first_line(failure)}",
        "mend the module or the name, and see that what it imports is deployed, too",
    )
