"""Handlers that the command-line tests name in JOBS_HANDLERS."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from jobs import JobContext, Snooze, handler


@dataclass
class Greeting:
    name: str


@handler("greet", queue="polite", priority=2)
def greet(payload: Greeting) -> str:
    return f"hello {payload.name}"


@handler("boom", max_attempts=2, backoff=600)
def boom(payload: dict[str, Any]) -> None:
    raise ValueError(payload.get("message", "boom"))


@handler("hopeless", max_attempts=1)
def hopeless(payload: dict[str, Any]) -> None:
    raise ValueError("first line\nsecond line")


@handler("put-off")
def put_off(payload: dict[str, Any]) -> None:
    raise Snooze(0)


@handler("chatty")
def chatty(payload: dict[str, Any]) -> None:
    """Prints in all the ways there are."""
    print("printed")  # noqa: T201
    os.write(1, b"written\n")
    subprocess.run([sys.executable, "-c", "print('by a child')"], check=True)


@handler("time-left")
def time_left(payload: dict[str, Any], ctx: JobContext) -> float:
    return ctx.time_left()
