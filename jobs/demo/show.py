"""What the demo prints: a bar while it runs where there is a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from jobs.demo.check import Outcome
from jobs.demo.drive import Drive
from jobs.demo.place import Place
from jobs.demo.shop import BRANCHES

_PLAIN_COLUMNS: Final = 110
_LABEL: Final = 9
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


class Meter(Protocol):
    """Told of each tick; shows how far the jobs are."""

    def __call__(self, answer: dict[str, Any], done: int, waiting: int) -> None: ...


class Screen:
    """Where it is printed. `is_terminal` says whether somebody is watching."""

    def __init__(self, file: IO[str]) -> None:
        self.console = Console(file=file, highlight=False, soft_wrap=False)
        self.is_terminal = self.console.is_terminal
        if not self.is_terminal:
            self.console = Console(file=file, highlight=False, width=_PLAIN_COLUMNS)

    def title(self, text: str) -> None:
        """Print the first line."""
        self.console.print()
        self.line(Text(text, "bold"))
        self.console.print()

    def line(self, *parts: str | Text) -> None:
        """Print one line, however long; nothing in it is taken for markup."""
        self.console.print(Text("").join([_text(part) for part in parts]), soft_wrap=True)

    def step(self, name: str, *parts: str | Text) -> None:
        """Print one step of the story: its name, and what was done."""
        self.line("  ", Text(f"{name:<{_LABEL}}", "bold cyan"), *parts)

    def cut_line(self, text: Text) -> None:
        """Print one line, cut where the screen ends."""
        self.console.print(text, no_wrap=True, overflow="ellipsis", crop=True)

    @contextmanager
    def meter(self, total: int) -> Iterator[Meter]:
        """Give a meter for `total` jobs; it is taken away at the end."""
        if not self.is_terminal:
            yield self._plain_meter(total)
            return
        with Progress(
            TextColumn(" " * (_LABEL + 1)),
            SpinnerColumn(),
            BarColumn(bar_width=32),
            TextColumn("[bold]{task.completed}[/] of {task.total} jobs"),
            TextColumn("[dim]{task.fields[ticks]} ticks, {task.fields[waiting]} retrying or later"),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
        ) as progress:
            bar = progress.add_task("", total=total, ticks=0, waiting=0)
            ticks = 0

            def seen(answer: dict[str, Any], done: int, waiting: int) -> None:
                nonlocal ticks
                ticks += 1
                progress.update(bar, completed=done, ticks=ticks, waiting=waiting)

            yield seen

    def _plain_meter(self, total: int) -> Meter:
        ticks = 0

        def seen(answer: dict[str, Any], done: int, waiting: int) -> None:
            nonlocal ticks
            ticks += 1
            if answer["processed"]:
                self.line(
                    f"  {'':<{_LABEL}}tick {ticks:>2}: {answer['succeeded']:>2} succeeded, "
                    f"{answer['retried']} to be tried again, {answer['failed']} failed; "
                    f"{done} of {total} done"
                )

        return seen


def show_outcome(screen: Screen, outcome: Outcome, drive: Drive, place: Place) -> None:
    """Print the summary: jobs by kind and state, the dead letter, the files, the verdict."""
    screen.console.print()
    screen.console.print(_jobs_table(outcome))
    attempts = sum(job.attempts for job in outcome.jobs)
    busy = drive.busy_seconds
    screen.line(
        f"  {attempts} attempts in {len(drive.ticks)} ticks; {attempts / max(busy, 0.001):,.0f} a "
        f"second while ticks were at work ({busy:.1f} s of {outcome.seconds:.1f} s)"
    )
    screen.console.print()
    for job in outcome.dead_letters:
        screen.line(Text("  Dead letter  ", "bold red"), f"{job.kind} {job.id}")
        screen.line(f"{'':15}after {job.attempts} attempts: ", Text(job.error or "", "red"))
        screen.console.print()

    screen.line(Text("  Files", "bold"))
    for file in outcome.files:
        screen.line(
            "  ", Text(f"{file.rows:>6,} rows", "green"), f"  {file.asked.title}", Text(":", "dim")
        )
        screen.line(f"{'':14}{_near(file.path)}")
        for line in file.lines:
            screen.cut_line(Text(f"{'':14}{_visible(line)}", "dim"))
    screen.console.print()
    screen.line(
        "  Stock of product 1: ",
        f"{outcome.stock_before} before, {outcome.stock_after} after; every piece counted once, "
        "though some deliveries broke after their update.",
    )
    screen.line(f"  Mails in {_near(place.outbox)}, pictures in {_near(place.blobs)}/thumbnails.")
    screen.console.print()
    if outcome.problems:
        screen.line(
            Text(f"  {len(outcome.problems)} things are not as they should be:", "bold red")
        )
        for problem in outcome.problems:
            screen.line("    ", problem)
    else:
        screen.line(Text("  All as it should be", "bold green"), f" ({outcome.checks} checks).")
    screen.console.print()


def show_ways_on(screen: Screen, place: Place, base_url: str) -> None:
    """Print what can be done with the server that still serves."""
    secret, token = _near(place.folder / "cron-secret"), _near(place.folder / "admin-token")
    body = f'{{"storeId": "{BRANCHES[0].store_id}", "userId": "{BRANCHES[0].user_id}"}}'
    screen.line(Text("  Still serving ", "bold"), f"{base_url}", Text("  (Ctrl-C ends it)", "dim"))
    screen.line(Text(f"  Secrets in {secret} and {token}; the log in {_near(place.log)}.", "dim"))
    screen.line(
        Text(
            "  Nothing runs by itself: ask for an export, then call the tick as a cron would.",
            "dim",
        )
    )
    screen.console.print()
    for command in (
        f"{_curl(token)} -d '{body}' {base_url}/api/orders/export",
        f"{_curl(secret)} {base_url}/cron/process-jobs",
        f"DATABASE_URL={place.database_url} {_tickwork()} stats",
        f"DATABASE_URL={place.database_url} {_tickwork()} list --state failed",
    ):
        screen.line(f"  {command}")
    screen.console.print()


def _curl(secret: str) -> str:
    return f'curl -sH "Authorization: Bearer $(cat {secret})"'


def _tickwork() -> str:
    beside = Path(sys.executable).with_name("tickwork")
    return _near(beside) if beside.exists() else f"{_near(Path(sys.executable))} -m jobs"


def _jobs_table(outcome: Outcome) -> Table:
    table = Table(box=None, padding=(0, 2), show_footer=True)
    kinds = list(outcome.by_kind())
    completed = sum(states["completed"] for _, _, states, _ in kinds)
    failed = sum(states["failed"] for _, _, states, _ in kinds)
    attempts = sum(count for *_, count in kinds)
    table.add_column("Kind", str(len(outcome.jobs)) + " jobs")
    table.add_column("Queue")
    table.add_column("Completed", str(completed), justify="right", style="green")
    table.add_column("Failed", str(failed), justify="right")
    table.add_column("Attempts", str(attempts), justify="right")
    others = {state for _, _, states, _ in kinds for state in states} - {"completed", "failed"}
    for state in sorted(others):
        total = sum(states[state] for _, _, states, _ in kinds)
        table.add_column(state.capitalize(), str(total), justify="right", style="yellow")
    for kind, queue, states, count in kinds:
        lost = Text(str(states["failed"]), "bold red" if states["failed"] else "dim")
        rest = [str(states[state]) for state in sorted(others)]
        more = Text(str(count), "yellow" if count > states.total() else "")
        table.add_row(kind, Text(queue, "dim"), str(states["completed"]), lost, more, *rest)
    return table


def _near(path: Path) -> str:
    """The path as somebody in the working directory would write it."""
    absolute = path.absolute()
    here = Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)


def _text(part: str | Text) -> Text:
    return Text(_visible(part)) if isinstance(part, str) else part


def _visible(text: str) -> str:
    """Write out what would move the cursor or turn the line round."""
    return "".join(
        letter.encode("unicode_escape", "surrogatepass").decode("ascii")
        if unicodedata.category(letter) in _INVISIBLE and letter != "\u200d"
        else letter
        for letter in text
    )
