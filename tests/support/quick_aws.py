"""Spares the suite what boto3 and moto do over and over: much of its time, and nobody's subject."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

from botocore.loaders import JSONFileLoader


def read_endpoints_once() -> None:
    """Have boto3 read the endpoints of all of AWS once in a process.

    Each session reads them anew, a megabyte of JSON, which none changes, as it does the models of
    services.
    """
    read = JSONFileLoader.load_file
    read_once = cache(lambda path: read(JSONFileLoader(), path))

    def load_file(self: JSONFileLoader, path: str) -> Any:
        return read_once(path) if path.endswith("endpoints") else read(self, path)

    setattr(JSONFileLoader, "load_file", load_file)  # noqa: B010


def look_at_the_clock_quickly(models: Any) -> None:
    """Have moto's `moto.sqs.models` ask for the time as others do.

    It counts all messages at each call, and makes three datetimes for each to know what it is.
    """
    models.unix_time_millis = now_ms


def now_ms() -> float:
    """Milliseconds since 1970, as moto has them."""
    return time.time() * 1000.0
