"""Writes a file as a whole or not at all, and lists folders part by part."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
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


def files_below(
    root: Path, folder: tuple[str, ...], after: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], float]]:
    """Files as the parts of their keys, in the order of those, and when they were written.

    folder: where below `root` to look, as parts; after: the file to go on behind
    Names that begin with a dot are left out, being no keys; links are not followed. Only one
    folder's names are held at a time, and folders that lie before `after` are not read.
    """
    try:
        entries = sorted(os.scandir(root.joinpath(*folder)), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        parts = (*folder, entry.name)
        if entry.name.startswith(".") or parts < after[: len(parts)]:
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from files_below(root, parts, after)
        elif parts > after and entry.is_file(follow_symlinks=False):
            try:
                yield parts, entry.stat(follow_symlinks=False).st_mtime
            except FileNotFoundError:  # deleted since it was listed
                continue
