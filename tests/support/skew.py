"""Hosts whose clocks are wrong: an environment in which a process believes in another time.

The library of Debian's `faketime` answers for the C library. Only the wall clock is skewed: a
monotonic clock measures durations rightly on any host, however wrong its date is.
"""

from __future__ import annotations

from pathlib import Path

_PLACES = (
    "/usr/lib/*/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
    "/usr/local/lib/faketime/libfaketimeMT.so.1",
)


class FaketimeMissingError(Exception):
    """No libfaketime on this machine."""


def skewed(seconds: float) -> dict[str, str]:
    """Variables for a process whose clock is ahead by ``seconds`` (behind, if negative).

    Raises:
        FaketimeMissingError: the library is not installed.
    """
    found = [path for place in _PLACES for path in Path("/").glob(place[1:])]
    if not found:
        raise FaketimeMissingError("found no libfaketime; install faketime to skew hosts' clocks")
    return {
        "LD_PRELOAD": str(found[0]),
        "FAKETIME": f"{seconds:+g}s",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
