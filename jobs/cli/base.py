"""What all commands have in common: ``--verbose``, ``--json``, and how they end."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import click

from jobs.cli.problems import explain
from jobs.cli.text import log_to_stderr


class Command(click.Command):
    """A command with ``--verbose``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(_verbose())

    def invoke(self, ctx: click.Context) -> Any:
        """Run it, with logs on stderr."""
        ctx.with_resource(log_to_stderr(verbose=bool(ctx.find_object(_Verbose))))
        return super().invoke(ctx)


class JsonCommand(Command):
    """A command whose callback gets ``as_json`` and, if that is set, returns the document."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        flag = click.Option(["--json", "as_json"], is_flag=True, help="One JSON document.")
        self.params.append(flag)

    def invoke(self, ctx: click.Context) -> Any:
        """Run it; with ``--json``, print what it returns."""
        if not ctx.params["as_json"]:
            return super().invoke(ctx)
        with _stdout_to_stderr():
            document = super().invoke(ctx)
        # ASCII: fit for any terminal's encoding, and no control character gets through.
        click.echo(json.dumps(document, indent=2, ensure_ascii=True))
        return None


class CarefulGroup(click.Group):
    """A group whose commands end with an explanation in place of a traceback."""

    command_class = Command

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(_verbose())

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what it raises is told by :func:`jobs.cli.problems.explain`."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:  # noqa: BLE001 - the last one to tell of it
            lines, exit_code = explain(error)
            for line in lines:
                click.echo(line, err=True)
            ctx.exit(exit_code)


class _Verbose:
    """On the context when ``--verbose`` was given, before or after the command's name."""


def _verbose() -> click.Option:
    def note(ctx: click.Context, _: click.Parameter, given: bool) -> None:
        if given:
            ctx.obj = _Verbose()

    return click.Option(
        ["-v", "--verbose"], is_flag=True, expose_value=False, callback=note, help="Show logs."
    )


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Handlers and their modules may print, and so may programs they start: not into the JSON."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        if sys.__stdout__ is not None and sys.stdout is not sys.__stdout__:
            with contextlib.suppress(OSError, ValueError):  # closed, or no file at all
                stack.enter_context(_descriptor_to_stderr(sys.__stdout__.fileno()))
        yield


@contextlib.contextmanager
def _descriptor_to_stderr(number: int) -> Iterator[None]:
    kept = os.dup(number)
    try:
        os.dup2(2, number)
        yield
    finally:
        os.dup2(kept, number)
        os.close(kept)
