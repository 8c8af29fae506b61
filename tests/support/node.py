"""Programs from npm: the tools that deploy, at the version that the tests were written against."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.requirements import missing

ROOT = Path(__file__).parents[2]
# Kept between runs: together they are half a gigabyte and take half a minute.
FOLDER = ROOT / "build" / "tools"
INSTALL_SECONDS = 300.0


@dataclass(frozen=True)
class Tool:
    """A package of npm, and the program in it."""

    package: str
    version: str
    program: str
    overrides: Mapping[str, str] = field(default_factory=dict)


TOOLS = {
    "osls": Tool("osls", "4.3.1", "osls"),
    "serverless": Tool("serverless", "3.40.0", "serverless"),
    # It pins a version of `sandbox`, of use to its subcommand of that name only, that npm lost.
    "vercel": Tool("vercel", "64.0.2", "vercel", {"sandbox": "4.5.0"}),
}


def tool(name: str) -> Path:
    """The program's path, installed if need be; ends the asking test where it cannot be."""
    wanted = TOOLS[name]
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        missing("node", f"{name} needs node and npm (Debian: apt install nodejs npm)")
    place = FOLDER / f"{wanted.package}-{wanted.version}"
    if not place.is_dir():
        _install(npm, wanted, place)
    return place / "node_modules" / ".bin" / wanted.program


def _install(npm: str, wanted: Tool, place: Path) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{wanted.package}-", dir=FOLDER))
    manifest = {
        "private": True,
        "dependencies": {wanted.package: wanted.version},
        "overrides": dict(wanted.overrides),
    }
    (unfinished / "package.json").write_text(json.dumps(manifest))
    command = [npm, "install", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(
        command, cwd=unfinished, capture_output=True, text=True, timeout=INSTALL_SECONDS
    )
    if done.returncode != 0:
        shutil.rmtree(unfinished)
        missing("node", f"npm could not install {wanted.package}: {done.stderr.strip()[-500:]}")
    if place.exists():  # another run was faster
        shutil.rmtree(unfinished)
    else:
        unfinished.rename(place)


def run(
    name: str,
    *arguments: str,
    folder: Path,
    home: Path,
    path: str = "",
    environ: Mapping[str, str] | None = None,
) -> str:
    """Run a tool in ``folder`` with nothing of this machine's settings; returns what it printed.

    Args:
        home: an empty folder, for what the tool keeps of its own.
        path: folders to find further programs in, before those of the machine.
        environ: further variables.
    """
    program = tool(name)
    whole = {
        # Certificates and proxies are the machine's; credentials and names are not.
        **{key: value for key, value in os.environ.items() if key in PASSED},
        "PATH": os.pathsep.join(filter(None, [path, os.environ["PATH"]])),
        "HOME": str(home),
        "CI": "1",
        "SLS_TELEMETRY_DISABLED": "1",
        "SLS_NOTIFICATIONS_MODE": "off",
        "VERCEL_TELEMETRY_DISABLED": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        **(environ or {}),
    }
    done = subprocess.run(
        [program, *arguments],
        cwd=folder,
        env=whole,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=INSTALL_SECONDS,
    )
    assert done.returncode == 0, f"{name} {' '.join(arguments)}:\n{done.stdout[-5000:]}"
    return done.stdout


PASSED = frozenset(
    {
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
        *("NODE_EXTRA_CA_CERTS", "SSL_CERT_DIR", "SSL_CERT_FILE", "LANG"),
        *("UV_CACHE_DIR", "UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL"),
    }
)
