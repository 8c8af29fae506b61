"""What `pip install tickwork` brings: the package, its data files, the command, no more."""

from __future__ import annotations

import tomllib
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

import jobs

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    folder = tmp_path_factory.mktemp("wheel")
    (built,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    with zipfile.ZipFile(built) as opened:
        yield opened


def test_the_wheel_holds_the_package_whole_and_alone(wheel: zipfile.ZipFile) -> None:
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    files = (path for path in (ROOT / "jobs").rglob("*") if path.is_file())
    present = {path.relative_to(ROOT).as_posix() for path in files if path.suffix != ".pyc"}

    assert "jobs/py.typed" in packed
    assert packed == present


def test_the_wheel_has_the_licence_and_the_command(wheel: zipfile.ZipFile) -> None:
    info = f"tickwork-{jobs.__version__}.dist-info"

    assert "The Tickwork authors" in wheel.read(f"{info}/licenses/LICENSE").decode()
    assert "tickwork = jobs.cli:main" in wheel.read(f"{info}/entry_points.txt").decode()


def test_a_server_gets_what_it_needs_without_extras(wheel: zipfile.ZipFile) -> None:
    metadata = wheel.read(f"tickwork-{jobs.__version__}.dist-info/METADATA").decode()
    required = Parser().parsestr(metadata).get_all("Requires-Dist", [])
    plain = " ".join(line.lower() for line in required if "extra ==" not in line)

    assert all(name in plain for name in ("flask", "psycopg[binary]", "sqlalchemy"))
    # As a plain dependency it would change how Vercel builds.
    assert "apscheduler" not in plain


def test_both_places_say_the_same_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert jobs.__version__ == project["version"]
