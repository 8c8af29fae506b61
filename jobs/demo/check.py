"""Looks at everything that the demo left behind, and compares it with the plan."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import sqlalchemy as sa

from jobs.core.job import Job, State
from jobs.demo.datasets import statement_of
from jobs.demo.drive import Drive
from jobs.demo.place import Place
from jobs.demo.plan import MAILS, PICTURES, Asked, Plan
from jobs.demo.tables import export_jobs, notifications
from jobs.stores.sql.engine import READ_ONLY
from jobs.system import Tickwork

_LINE_CHARACTERS: Final = 400


@dataclass(frozen=True)
class File:
    """A finished file: `lines` are its first two."""

    asked: Asked
    path: Path
    rows: int
    lines: Sequence[str]


@dataclass
class Outcome:
    """What came of the demo. `problems` is empty when all is as it should be."""

    jobs: Sequence[Job]
    files: Sequence[File] = ()
    checks: int = 0
    problems: list[str] = field(default_factory=list)
    stock_before: int = 0
    stock_after: int = 0
    wrong_secret: tuple[int, str] = (0, "")
    seconds: float = 0.0

    def expect(self, what: str, found: Any, expected: Any) -> None:
        """Note a problem unless what was found is what was expected."""
        self.checks += 1
        if found != expected:
            self.problems.append(f"{what}: {found!r}, but it should be {expected!r}")

    @property
    def dead_letters(self) -> list[Job]:
        return [job for job in self.jobs if job.state == State.FAILED]

    def by_kind(self) -> Iterator[tuple[str, str, Counter[str], int]]:
        """Kind, queue, jobs by state, and attempts of all together; kinds in order."""
        for kind in sorted({job.kind for job in self.jobs}):
            jobs = [job for job in self.jobs if job.kind == kind]
            states = Counter(str(job.state) for job in jobs)
            yield kind, jobs[0].queue, states, sum(job.attempts for job in jobs)


def look(
    plan: Plan,
    place: Place,
    tickwork: Tickwork,
    drive: Drive,
    *,
    rolled_back_id: str,
    wrong_secret: tuple[int, str],
    stock: tuple[int, int],
) -> Outcome:
    """Compare jobs, files, records, mails, pictures and stock with the plan.

    stock: pieces of product 1 before and after
    """
    outcome = Outcome(tickwork.list(limit=10_000), wrong_secret=wrong_secret)
    outcome.stock_before, outcome.stock_after = stock
    expect = outcome.expect

    expect("status of a tick with a wrong secret", wrong_secret[0], 401)
    expect("its body", json.loads(wrong_secret[1]), {"error": "Unauthorized"})
    for kind, _, states, attempts in outcome.by_kind():
        expect(f"{kind} completed", states["completed"], plan.completed[kind])
        expect(f"{kind} failed", states["failed"], plan.failed[kind])
        expect(f"attempts of {kind}", attempts, plan.attempts[kind])
    expect("jobs in all", len(outcome.jobs), plan.total)
    expect("attempts reported by the ticks", drive.processed, plan.attempts.total())
    expect("the job of a transaction rolled back", tickwork.get(rolled_back_id), None)
    expect("stock of product 1", outcome.stock_after, outcome.stock_before + plan.pieces)
    _look_at_the_delayed(outcome, tickwork.get(plan.delayed_id))

    ours = [asked for asked in plan.exports if asked.export_id]
    expect("mails", len(list(place.outbox.glob("*.eml"))), MAILS + len(ours))
    pictures = list((place.blobs / "thumbnails").glob("*.png"))
    expect("pictures", len(pictures), PICTURES)
    with tickwork.engine.connect().execution_options(**READ_ONLY) as connection:
        count = connection.scalar(sa.select(sa.func.count()).select_from(notifications))
        expect("notifications", count, len(ours))
        outcome.files = [
            file for asked in plan.exports if (file := _look_at_file(outcome, connection, asked))
        ]
    return outcome


def _look_at_the_delayed(outcome: Outcome, job: Job | None) -> None:
    outcome.checks += 1
    if job is None or job.started_at is None or job.started_at < job.run_at:
        outcome.problems.append("the delayed job did not wait for its time")


def _look_at_file(outcome: Outcome, connection: sa.Connection, asked: Asked) -> File | None:
    """Compare an export's file with the rows of the database, and its record with the file."""
    job = next((job for job in outcome.jobs if job.id == asked.job_id), None)
    if job is None or job.result is None:
        outcome.problems.append(f"{asked.title}: no file")
        return None
    path = Path(unquote(urlsplit(job.result.get("fileUrl") or job.result["file_url"]).path))
    with path.open(encoding="utf-8", newline="") as content:
        lines = [content.readline().rstrip("\r\n")[:_LINE_CHARACTERS] for _ in range(2)]
        content.seek(0)
        if path.suffix == ".csv":
            rows = sum(1 for _ in csv.reader(content, strict=True)) - 1
        else:
            rows = sum(1 for line in content if json.loads(line))
    statement = statement_of(asked.export_type, asked.store_id, asked.filters)
    expected = len(connection.execute(statement).all())
    outcome.expect(f"rows of {asked.title}", rows, expected)
    if asked.export_id:
        record = connection.execute(
            sa.select(export_jobs.c.status, export_jobs.c.total_rows).where(
                export_jobs.c.id == asked.export_id
            )
        ).one()
        outcome.expect(f"record of {asked.title}", tuple(record), ("completed", expected))
    return File(asked, path, rows, lines)
