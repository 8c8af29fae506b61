"""Other interpreters of this machine, for what is built for another Python than the tests' own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support.requirements import missing

ASK = "import sys; print('%d.%d' % sys.version_info[:2])"


def newer_than_311() -> tuple[str, Path]:
    """A Python 3.12 or newer, and its version; ends the asking test where there is none."""
    found = next(_found(), None)
    if found is None:
        missing("python312", "Vercel's build needs a Python 3.12 or newer beside this one")
    return found


def _found() -> Iterator[tuple[str, Path]]:
    for candidate in _candidates():
        # Run and not only looked up: a version manager's shim may have nothing behind it.
        asked = subprocess.run([candidate, "-I", "-c", ASK], capture_output=True, text=True)
        version = asked.stdout.strip()
        if version in VERSIONS:
            yield version, candidate


VERSIONS = ("3.12", "3.13", "3.14")


def _candidates() -> Iterator[Path]:
    yield Path(sys.executable)
    for version in VERSIONS:
        for folder in os.get_exec_path():
            if (program := Path(folder, f"python{version}")).is_file():
                yield program
        pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
        yield from pyenv.glob(f"versions/{version}.*/bin/python{version}")
