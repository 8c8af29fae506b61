"""What `import jobs` gives, and what it costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jobs

ROOT = Path(__file__).parents[2]

EXPORTED = """
Breaker CapabilityError ConfigurationError Continue Discard Group GroupNotFound Handler Job
JobCancelled JobContext JobEvent JobNotFound JobStateConflict LeaseLost PayloadError
PayloadTooLarge Retention Retry Schedule ScheduleNotFound SchemaError Settings Snooze State
StoreUnavailable Tickwork TickworkError UnknownKind exponential fixed handler linear steps
"""

# Optional, or large: a cold start on a serverless platform pays for each of them.
LATE = """
alembic apscheduler asyncpg boto3 botocore click cronsim flask httpx jinja2 psycopg pydantic
pymysql requests rich sqlalchemy urllib3 werkzeug
"""


def test_the_public_names() -> None:
    assert jobs.__all__ == EXPORTED.split()
    assert jobs.__all__ == sorted(jobs.__all__)


def test_every_public_name_is_there_and_says_what_it_is() -> None:
    for name in jobs.__all__:
        assert (getattr(jobs, name).__doc__ or "").strip(), name


def test_errors_are_one_tree() -> None:
    errors = [
        value
        for name in jobs.__all__
        if isinstance(value := getattr(jobs, name), type) and issubclass(value, Exception)
    ]
    steering = {jobs.Continue, jobs.Retry, jobs.Snooze, jobs.Discard}
    steering |= {jobs.JobCancelled, jobs.LeaseLost}

    assert steering < set(errors)
    assert all(issubclass(error, jobs.TickworkError) for error in set(errors) - steering)
    assert not any(issubclass(error, jobs.TickworkError) for error in steering)


def test_import_jobs_loads_nothing_optional() -> None:
    program = "import jobs, sys; print(*{name.split('.')[0] for name in sys.modules})"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    loaded = set(run.stdout.split())

    assert "jobs" in loaded, run.stderr
    assert sorted(loaded.intersection(LATE.split())) == []


def test_the_stub_needs_no_optional_package() -> None:
    """Enqueue and run in memory: no database, no web framework, no scheduler."""
    program = f"""
import sys
late = set({LATE.split()!r})
class Closed:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in late:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Closed())
from jobs import JobContext, Tickwork
tickwork = Tickwork()
@tickwork.handler("greet")
def greet(payload: dict, ctx: JobContext) -> str:
    return f"hello {{payload['name']}}"
job = greet.enqueue({{"name": "Ada"}})
assert tickwork.tick().succeeded == 1
print(tickwork.get(job.id).result)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)

    assert run.stdout.strip() == "hello Ada", run.stderr
