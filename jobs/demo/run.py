"""`tickwork demo`: a shop, a server, jobs, a cron; then what came of it.

It runs the real application in production's clothes and touches it as the outside world does: over
HTTP, with the secret. Everything lies in `.tickwork/demo` of the working directory.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import IO, Any

import sqlalchemy as sa

from jobs.core.job import TERMINAL
from jobs.demo import plan as plans
from jobs.demo.check import Outcome, look
from jobs.demo.drive import Drive
from jobs.demo.place import FOLDER, HANDLERS, DemoError, Place, fresh_place, serving
from jobs.demo.shop import CUSTOMERS, ORDERS, PRODUCTS, create_shop
from jobs.demo.show import Screen, show_outcome, show_ways_on
from jobs.demo.tables import products
from jobs.system import Tickwork

GIVE_UP_SECONDS = 90.0


def run_demo(
    *,
    as_json: bool = False,
    once: bool | None = None,
    out: IO[str] | None = None,
    folder: Path = FOLDER,
) -> int:
    """Run the demo; return the exit code, 1 if anything is not as it should be.

    as_json: print one JSON document and nothing else, and leave at the end
    once: leave at the end in place of serving on; by default if `ONCE` is set, or nobody watches
    out: where to print; the standard output by default
    folder: where the demo lives; what a demo before it left there is removed
    """
    out = out or sys.stdout
    if hasattr(out, "reconfigure"):
        out.reconfigure(errors="replace")  # names in many scripts, on a terminal that has one
    with Path(os.devnull).open("w") as nowhere:
        screen = Screen(nowhere if as_json else out)
        if once is None:
            once = as_json or _said(os.environ.get("ONCE")) or not screen.is_terminal
        try:
            with fresh_place(folder) as place:
                return _run(screen, place, out if as_json else None, once=once)
        except DemoError as error:
            screen.line(f"tickwork demo: {error}")
            if as_json:
                out.write(json.dumps({"ok": False, "problems": [str(error)]}) + "\n")
            return 1
        except KeyboardInterrupt:
            screen.console.print()
            screen.line("  Ended.")
            return 130


def _said(value: str | None) -> bool:
    return (value or "").strip().lower() not in ("", "0", "no", "false", "off")


def _run(screen: Screen, place: Place, json_out: IO[str] | None, *, once: bool) -> int:
    began = time.monotonic()
    screen.title("Tickwork demo: the background jobs of a shop, with no process to keep alive")
    with closing(Tickwork(place.database_url, handlers=HANDLERS)) as tickwork:
        _make_shop(screen, place, tickwork)
        with serving(place) as base_url:
            screen.step("Server", f"the real application at {base_url}, JOBS_ENV=production")
            drive = Drive(base_url, place.cron_secret)
            outcome = _drive_jobs(screen, place, tickwork, drive)
            outcome.seconds = time.monotonic() - began
            show_outcome(screen, outcome, drive, place)
            if json_out is not None:
                json.dump(summary(outcome, drive, place), json_out, indent=2)
                json_out.write("\n")
            if not once:
                show_ways_on(screen, place, base_url)
                with suppress(KeyboardInterrupt):
                    threading.Event().wait()
                screen.console.print()
                screen.line("  Ended.")
    return 1 if outcome.problems else 0


def _make_shop(screen: Screen, place: Place, tickwork: Tickwork) -> None:
    tickwork.create_schema()
    with tickwork.engine.begin() as connection:
        create_shop(connection)
    screen.step(
        "Shop",
        f"{ORDERS:,} orders, {CUSTOMERS:,} customers, {PRODUCTS:,} products, "
        f"and the jobs beside them, in {place.database}",
    )


def _drive_jobs(screen: Screen, place: Place, tickwork: Tickwork, drive: Drive) -> Outcome:
    plan = plans.Plan()
    stock_before = _stock(tickwork)
    plans.ask_for_exports(plan, drive.base_url, place.admin_token)
    asked = plan.total
    plans.enqueue_the_rest(plan, tickwork)
    rolled_back_id = plans.enqueue_and_roll_back(tickwork)
    screen.step(
        "Jobs",
        f"{asked} order exports asked for over HTTP, and {plan.total - asked} other jobs enqueued;",
    )
    screen.step("", "one more in a transaction that was rolled back, so it must not exist")
    wrong_secret = drive.call("not-the-secret")
    screen.step(
        "Cron", f"GET /cron/process-jobs with a wrong secret: {wrong_secret[0]} {wrong_secret[1]}"
    )
    screen.step("", "GET /cron/process-jobs with the secret, until nothing is left ...")
    done = 0

    def progress(answer: dict[str, Any]) -> None:
        nonlocal done
        done = _ended(tickwork)
        meter(answer, done, plan.total - done - answer["remaining"])

    with screen.meter(plan.total) as meter:
        ended = drive.until(lambda: done >= plan.total, progress, give_up_seconds=GIVE_UP_SECONDS)
    outcome = look(
        plan,
        place,
        tickwork,
        drive,
        rolled_back_id=rolled_back_id,
        wrong_secret=wrong_secret,
        stock=(stock_before, _stock(tickwork)),
    )
    if not ended:
        outcome.problems.insert(0, f"not finished within {GIVE_UP_SECONDS:g} s")
    return outcome


def _ended(tickwork: Tickwork) -> int:
    counts = tickwork.counts().items()
    return sum(count for (_, _, state), count in counts if state in TERMINAL)


def _stock(tickwork: Tickwork) -> int:
    with tickwork.engine.connect() as connection:
        return int(connection.scalar(sa.select(products.c.stock).where(products.c.id == 1)) or 0)


def summary(outcome: Outcome, drive: Drive, place: Place) -> dict[str, Any]:
    """Return the outcome as one JSON document; paths are absolute."""
    attempts = sum(job.attempts for job in outcome.jobs)
    return {
        "ok": not outcome.problems,
        "problems": outcome.problems,
        "checks": outcome.checks,
        "seconds": round(outcome.seconds, 2),
        "jobs": {
            "total": len(outcome.jobs),
            "by_state": _sum_states(outcome),
            "by_kind": {
                kind: {"queue": queue, "attempts": count, **states}
                for kind, queue, states, count in outcome.by_kind()
            },
            "attempts": attempts,
        },
        "ticks": {
            "count": len(drive.ticks),
            "busy_seconds": round(drive.busy_seconds, 3),
            "attempts_per_second": round(attempts / max(drive.busy_seconds, 0.001), 1),
            "wrong_secret_status": outcome.wrong_secret[0],
        },
        "dead_letters": [
            {"id": job.id, "kind": job.kind, "attempts": job.attempts, "error": job.error}
            for job in outcome.dead_letters
        ],
        "files": [
            {
                "title": file.asked.title,
                "path": str(file.path.absolute()),
                "rows": file.rows,
                "first_lines": list(file.lines),
            }
            for file in outcome.files
        ],
        "stock": {"before": outcome.stock_before, "after": outcome.stock_after},
        "folder": str(place.folder.absolute()),
    }


def _sum_states(outcome: Outcome) -> dict[str, int]:
    states: Sequence[str] = [str(job.state) for job in outcome.jobs]
    return {state: states.count(state) for state in sorted(set(states))}
