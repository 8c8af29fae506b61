"""Text for people: safe for a terminal, without passwords, with times in words."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Literal
from urllib.parse import unquote, urlsplit

import click

from jobs.core.loglines import LOGGER
from jobs.core.masking import visible

_URL_PASSWORD = re.compile(r"(://[^\s/@:]*):[^\s/]*@")
_WITH_PASSWORDS = ("DATABASE_URL", "EXPORT_SOURCE_URL", "SMTP_URL")
_SHORTEST_PASSWORD = 4
_NARROWEST_LAST_COLUMN = 24
_UNITS = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"))


def say(text: str = "", *, err: bool = False) -> None:
    """Print text that may hold anything."""
    click.echo(safe(text), err=err)


def safe(text: str) -> str:
    """``text`` with passwords masked and control characters written out.

    What comes from the database could otherwise move the cursor, hide a line or retitle a window.

    >>> safe("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    return visible(mask(text).replace("\t", "    "))


def mask(text: str) -> str:
    """``text`` without the passwords of URLs, and without those of this environment."""
    text = _URL_PASSWORD.sub(r"\1:***@", text)
    for password in _passwords():
        text = re.sub(rf"(?<!\w){re.escape(password)}(?!\w)", "***", text)
    return text


def _passwords() -> set[str]:
    found: set[str] = set()
    for name in _WITH_PASSWORDS:
        try:
            url = urlsplit(os.environ.get(name, "").strip())
            raw, known = url.password, {url.username, url.hostname, url.path.strip("/")}
        except ValueError:
            continue
        # One that is also the user's or the database's name is no secret to keep by hiding a word.
        if raw and raw not in known:
            found |= {raw, unquote(raw)}
    return {password for password in found if len(password) >= _SHORTEST_PASSWORD}


def first_line(text: str | None) -> str:
    """The first line that says something."""
    lines = (line.strip() for line in (text or "").splitlines())
    return next(filter(None, lines), "")


def stopped(text: str) -> str:
    """``text`` with a full stop, unless it ends a sentence already.

    >>> stopped("wait"), stopped("did you mean it?")
    ('wait.', 'did you mean it?')
    """
    return text if text.endswith((".", "?", "!")) else f"{text}."


def span(seconds: float) -> str:
    """A duration in words, to a precision worth reading.

    >>> span(0.025), span(4.25), span(42), span(180), span(7200), span(864000)
    ('25 ms', '4.2 s', '42 s', '3 min', '2 h', '10 d')
    """
    seconds = max(0.0, seconds)
    for size, unit in _UNITS:
        if seconds >= 2 * size:
            return f"{round(seconds / size)} {unit}"
    if seconds < 1:
        return f"{round(seconds * 1000)} ms"
    return f"{seconds:.2g} s" if seconds < 10 else f"{round(seconds)} s"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: int = 0) -> None:
    """Print rows in columns; the last ``numbers`` columns to the right.

    On a terminal a last column of text is cut to fit; a file or a pipe gets every character.
    """
    clean = [[safe(cell).replace("\n", " ") for cell in row] for row in rows]
    if sys.stdout.isatty():
        _draw(headings, clean, numbers)
        return
    widths = [max(map(len, column)) for column in zip(headings, *clean, strict=True)]
    first_number = len(headings) - numbers
    for row in (headings, *clean):
        cells = (
            cell.rjust(width) if place >= first_number else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        click.echo("  ".join(cells).rstrip())


def _draw(headings: Sequence[str], rows: Sequence[Sequence[str]], numbers: int) -> None:
    from rich.cells import cell_len  # late: only a person's terminal needs it
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    widths = [max(map(cell_len, column)) for column in zip(headings, *rows, strict=True)]
    gaps = 2 * (len(widths) - 1)
    if not numbers:
        # Only the last column is cut: half an id is no use. A narrower terminal wraps the lines.
        left = Console().width - sum(widths[:-1]) - gaps
        widths[-1] = min(widths[-1], max(left, _NARROWEST_LAST_COLUMN))
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    first_number = len(headings) - numbers
    for place, (heading, width) in enumerate(zip(headings, widths, strict=True)):
        side: Literal["left", "right"] = "right" if place >= first_number else "left"
        drawn.add_column(heading, justify=side, no_wrap=True, min_width=width)
    for row in rows:
        cells = [Text(cell) for cell in row]
        cells[-1].truncate(widths[-1], overflow="ellipsis")
        drawn.add_row(*cells)
    Console(highlight=False, width=sum(widths) + gaps).print(drawn)


@contextlib.contextmanager
def log_to_stderr(*, verbose: bool) -> Iterator[None]:
    """Show warnings on stderr, and with ``verbose`` what happens."""
    root, handler = logging.getLogger(), _Handler()
    level = root.level
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    if not verbose:
        handler.addFilter(_is_no_job_line)
    root.addHandler(handler)
    root.setLevel(logging.INFO if verbose else logging.WARNING)
    # At INFO they would log every statement with its values, and every look of the local runner.
    for name in ("sqlalchemy", "apscheduler"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def _is_no_job_line(record: logging.LogRecord) -> bool:
    """A command tells of jobs itself; a server, which shows what it does, has the lines of it."""
    return record.name != LOGGER or logging.getLogger().level <= logging.INFO


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record), err=True)
