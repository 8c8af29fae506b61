"""Writes a file as a whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import IO, Final

_COPY_BYTES: Final = 256 * 1024
_LEFTOVER_SECONDS: Final = 24 * 3600


def replace_file(target: Path, content: IO[bytes], *, incoming: Path) -> None:
    """Copy `content`, from where it stands, into `target`, atomically.

    Under the final name stands either what was there before or the whole new file, also when the
    process is killed or the power goes: the copy is made in `incoming`, flushed to the disk, and
    renamed. What a killed process left in `incoming` is removed by a later call, after a day.

    target: the final name; missing directories are made
    content: open for reading bytes
    incoming: a directory on the same file system as the target
    """
    incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
    _sweep(incoming)
    # mkstemp gives mode 0600: an export is nobody else's business.
    descriptor, name = tempfile.mkstemp(dir=incoming)
    try:
        with os.fdopen(descriptor, "wb") as copy:
            shutil.copyfileobj(content, copy, _COPY_BYTES)
            copy.flush()
            os.fsync(copy.fileno())
        target.parent.mkdir(parents=True, exist_ok=True)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _flush_directory(target.parent)


def _sweep(incoming: Path) -> None:
    oldest = time.time() - _LEFTOVER_SECONDS
    for leftover in incoming.iterdir():
        try:
            if leftover.stat().st_mtime < oldest:
                leftover.unlink()
        except FileNotFoundError:
            # Another process renamed or swept it between the listing and here.
            continue


def _flush_directory(directory: Path) -> None:
    """Make a rename survive a power cut, where a directory can be opened (not on Windows)."""
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
