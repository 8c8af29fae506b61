"""``tickwork demo``: a running system to look at."""

from __future__ import annotations

from importlib import import_module

import click

from jobs.cli.base import Command


@click.command(cls=Command)
def demo() -> None:
    """Make a shop, run its jobs and show what happens."""
    import_module("jobs.demo").run()  # late: it brings a web server and a database
