"""``tickwork demo``: a running system to look at."""

from __future__ import annotations

import click

from jobs.cli.base import Command


@click.command(cls=Command)
@click.option("--json", "as_json", is_flag=True, help="One JSON document; then leave.")
@click.pass_context
def demo(ctx: click.Context, as_json: bool) -> None:
    """Make a shop, run its jobs, show what happened.

    With a terminal it then serves on; with ONCE=1 it leaves.
    """
    from jobs.demo.run import run_demo  # late: it brings a web server and a database

    ctx.exit(run_demo(as_json=as_json))
