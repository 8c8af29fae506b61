"""Where lines go: only from the logger `tickwork`, and only if the host has not seen to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
    from jobs import Tickwork
    tickwork = Tickwork.from_env()
    tickwork.create_schema()
    tickwork.handler("greet")(lambda: None)
    tickwork.handler("boom", max_attempts=1)(lambda: 1 / 0)
    tickwork.enqueue("greet"), tickwork.enqueue("boom")
    tickwork.tick()
"""
LAMBDA_ROOT = """
    import logging, sys, types
    # What Lambda's runtime does before it imports anything: a handler on the root.
    module = types.ModuleType("awslambdaric.bootstrap")
    Logger = type("LambdaLoggerHandler", (logging.Handler,), {
        "__module__": "awslambdaric.bootstrap",
        "emit": lambda self, record: print("platform:", record.getMessage()),
    })
    logging.getLogger().addHandler(Logger())
"""
PLATFORM = {"AWS_LAMBDA_FUNCTION_NAME": "jobs"}


def run(
    tmp_path: Path, environ: dict[str, str], before: str = "", after: str = ""
) -> tuple[list[str], list[str]]:
    """Standard output and error, in lines."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("JOBS_")}
    done = subprocess.run(
        [sys.executable, "-c", dedent(before) + dedent(PROGRAM) + dedent(after)],
        env={**clean, "DATABASE_URL": f"sqlite:///{tmp_path}/jobs.db", **environ},
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), done.stderr.splitlines()


def test_json_on_a_platform_in_production(tmp_path: Path) -> None:
    out, err = run(tmp_path, PLATFORM)
    informed, alarmed = map(json.loads, out), map(json.loads, err)

    # What is written to stderr is an error to platforms.
    assert [line.get("status") for line in informed if line["logger"] == "tickwork.jobs"] == [
        *(None, None),
        *sorted(["processing", "processing"]),
        "completed",
    ]
    assert [(line["status"], line["error"]) for line in alarmed] == [
        ("failed", "ZeroDivisionError: division by zero")
    ]


def test_the_platforms_own_handler_does_not_tell_it_twice(tmp_path: Path) -> None:
    out, _ = run(tmp_path, PLATFORM, LAMBDA_ROOT)

    assert len([line for line in out if '"status": "completed"' in line]) == 1
    assert not [line for line in out if line.startswith("platform:")]


@pytest.mark.parametrize(
    "before",
    [
        "import logging; logging.basicConfig(format='host: %(message)s', level='INFO')",
        "import logging; log = logging.getLogger('tickwork')\n"
        "log.addHandler(logging.StreamHandler()); log.setLevel('INFO')\n"
        "log.handlers[0].setFormatter(logging.Formatter('host: %(message)s'))",
    ],
    ids=["root", "tickwork"],
)
def test_a_host_that_configured_logging_is_left_in_peace(before: str, tmp_path: Path) -> None:
    out, err = run(tmp_path, PLATFORM, before)

    assert out == []
    assert err
    assert all(line.startswith("host: ") for line in err)


def test_a_host_that_configures_logging_later_gets_the_lines_once(tmp_path: Path) -> None:
    later = """
        import logging
        logging.basicConfig(format='host: %(message)s', level='INFO')
        tickwork.enqueue("greet")
    """
    out, err = run(tmp_path, PLATFORM, after=later)
    added = [line for line in (*out, *err) if "added to default" in line]

    assert len(added) == 3
    assert [line.startswith("host: ") for line in added] == [False, False, True]


def test_a_format_that_was_asked_for_wins(tmp_path: Path) -> None:
    host = "import logging; logging.basicConfig(format='host: %(message)s', level='INFO')"
    out, err = run(tmp_path, {"JOBS_LOG_FORMAT": "json", "JOBS_LOG_LEVEL": "error"}, host)

    assert out == []
    (line,) = err
    assert json.loads(line)["status"] == "failed"

    out, err = run(tmp_path, {"JOBS_LOG_FORMAT": "text"})
    assert out == []
    assert [line.split()[1:3] for line in err if "completed in" in line] == [
        ["INFO", "tickwork.jobs:"]
    ]


@pytest.mark.parametrize(
    "environ", [{}, {"JOBS_ENV": "development"}, {**PLATFORM, "JOBS_LOG_FORMAT": "off"}]
)
def test_elsewhere_nothing_is_installed(environ: dict[str, str], tmp_path: Path) -> None:
    """Only what Python shows by itself of a logger that nobody configured: from a warning up."""
    out, err = run(tmp_path, environ)

    assert out == []
    assert len(err) == 1
    assert "failed: ZeroDivisionError" in err[0]


def test_no_secret_of_the_settings_is_ever_in_a_line(tmp_path: Path) -> None:
    secret = "a-secret-that-nobody-may-see"
    told = f"""
        import logging
        logging.getLogger("tickwork.http").warning("got {secret}")
        try:
            raise ValueError("{secret}")
        except ValueError:
            logging.getLogger("tickwork.http").exception("oh")
    """
    out, err = run(tmp_path, {**PLATFORM, "CRON_SECRET": secret}, after=told)

    assert "got ***" in "".join(err)
    assert secret not in "".join((*out, *err))
