"""Tests that have the machine to themselves while several processes share the suite.

Each test holds a lock while it runs: most share it, one marked ``alone`` has it for itself. A
second lock is the door: who waits to be alone keeps it shut, so that nobody overtakes for ever.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path


@contextmanager
def turn(folder: Path, *, alone: bool) -> Iterator[None]:
    """Wait for this test's turn among the processes of a run, and hold it for the block.

    Args:
        folder: holds the locks; all processes of the run name the same.
        alone: whether nobody else may run a test meanwhile.
    """
    with ExitStack() as held:
        with _locked(folder / "door", fcntl.LOCK_EX):
            held.enter_context(_locked(folder / "room", fcntl.LOCK_EX if alone else fcntl.LOCK_SH))
        yield


@contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    # An open file of its own each time: the lock belongs to it and not to the process.
    with path.open("a") as file:
        fcntl.flock(file, kind)
        yield
