"""Handlers with limits, for the command-line tests."""

from __future__ import annotations

from typing import Any

from jobs import Breaker, Tickwork, handler

Tickwork.from_env().queue("exports", max_concurrency=5)


@handler("sync", max_concurrency=2, rate_limit="100/h", breaker=Breaker(minimum=2, pause=600))
def sync(payload: dict[str, Any]) -> None:
    raise ConnectionError("no route")


@handler("keyed", max_concurrency_per_key=1)
def keyed(payload: dict[str, Any]) -> None: ...
