"""The local runner: the tick of a laptop, started by itself in development.

APScheduler looks for due jobs every ``poll_interval`` seconds, and a doorbell in the same process
says when a job was enqueued, so that the stub is instant. Each of its few slots runs one job at a
time: a job that takes an hour, or hangs, keeps one slot busy and no other job waiting.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from jobs.core.deadline import unlimited_budget
from jobs.core.doorbell import Doorbell, Ring
from jobs.core.errors import ConfigurationError
from jobs.core.settings import Settings, on_platform
from jobs.runtime.base import Runtime
from jobs.runtime.tick import TickResult, run_tick
from jobs.runtime.trouble import Trouble

log = logging.getLogger("tickwork.local")


class LocalRunner:
    """Ticks in this process for as long as it lives.

    ``start`` needs the extra ``local``. The threads are daemons: a process that ends does not wait
    for them, and what they were doing is reclaimed when its lease runs out.
    """

    def __init__(self, runtime: Runtime, *, slots: int | None = None) -> None:
        """``slots`` is how many jobs run at once; the settings' ``stub_concurrency`` by default."""
        self.slots = slots or runtime.settings.stub_concurrency
        self._runtime = runtime
        self._scheduler: Any = None
        self._outer_doorbell: Doorbell | None = None
        self._starting = threading.Lock()
        self._state = threading.Condition()
        self._busy = 0
        self._looks = 0  # how often somebody said "look now"
        self._open = False
        self._trouble = Trouble(log, "a tick failed; the next one comes in any case")

    @property
    def is_running(self) -> bool:
        """Whether due jobs are being looked for."""
        return self._open

    def start(self) -> None:
        """Begin to look for due jobs, at once and then again and again; harmless if running.

        Raises :class:`~jobs.core.errors.ConfigurationError` if APScheduler is not installed.
        """
        with self._starting:
            if self._open:
                return
            scheduler = _make_scheduler()
            scheduler.add_job(
                self.look,
                "interval",
                seconds=self._runtime.settings.poll_interval,
                max_instances=1,
                coalesce=True,
                misfire_grace_time=None,  # a laptop that slept looks when it wakes
            )
            scheduler.start()
            self._scheduler = scheduler
            self._outer_doorbell = self._runtime.doorbell
            self._runtime.doorbell = LocalDoorbell(self, self._outer_doorbell)
            self._open = True
            self.look()

    def stop(self, timeout_seconds: float | None = None) -> bool:
        """Start no more jobs, and return when those that run have ended; harmless if stopped.

        Returns whether they have: after ``timeout_seconds`` (``None``: never) it waits no longer.
        """
        with self._starting:
            if not self._open:
                return True
            self._open = False
            if self._outer_doorbell is not None:
                self._runtime.doorbell = self._outer_doorbell
            self._scheduler.shutdown(wait=False)
            with self._state:
                ended = self._state.wait_for(lambda: self._busy == 0, timeout_seconds)
            self._runtime.recorder.flush(self._runtime.store)
            return ended

    def look(self, at_most: int | None = None) -> None:
        """Have idle slots look for due jobs, ``at_most`` so many; those that run look when done."""
        with self._state:
            if not self._open:
                return
            self._looks += 1
            idle = self.slots - self._busy
            waking = idle if at_most is None else min(idle, at_most)
            self._busy += waking
        for _ in range(waking):
            threading.Thread(target=self._work, name="tickwork-local", daemon=True).start()

    def _work(self) -> None:
        """Run due jobs, one after the other, until there are none."""
        while True:
            seen = self._looks
            found = self._tick_once()
            with self._state:
                # Under the lock, so that a look that comes now either is seen here or finds this
                # slot idle: none is lost between the two. After trouble the next poll will do.
                again = found is not None and (found or self._looks != seen)
                if not (again and self._open):
                    self._busy -= 1
                    self._state.notify_all()
                    return

    def _tick_once(self) -> bool | None:
        """Run at most one job; says whether there was one, ``None`` if the tick failed."""
        runtime = self._runtime
        try:
            # One job, so that none is claimed by a slot that cannot run it yet.
            result = run_tick(
                runtime,
                limit=1,
                slots=1,
                budget=unlimited_budget(runtime.clock.monotonic()),
                trigger="local",
            )
        except Exception as error:  # noqa: BLE001 - whatever it was, the next look must come
            self._trouble.meet(error)
            return None
        if self._trouble.end():
            log.info("ticks succeed again")
        return _ran(result)


def _ran(result: TickResult) -> bool:
    # A snoozed job may be due again at once; with nothing else to do that would be a spin.
    return result.processed > result.snoozed or bool(result.cancelled or result.late)


def _make_scheduler() -> Any:
    try:
        from apscheduler.schedulers.background import BackgroundScheduler
    except ModuleNotFoundError:
        raise ConfigurationError(
            "the local runner needs APScheduler: pip install 'tickwork[local]'"
        ) from None
    # UTC: the interval needs no zone, and finding the machine's own one may fail.
    return BackgroundScheduler(daemon=True, timezone="UTC")


class LocalDoorbell:
    """Wakes the runner of this process, then rings the doorbell that was there before."""

    def __init__(self, runner: LocalRunner, outer: Doorbell) -> None:
        self._runner = runner
        self._outer = outer

    def ring(self, rings: Sequence[Ring]) -> Collection[str] | None:
        """Wake as many slots as there are due jobs; delayed ones are found by the poll."""
        due = sum(1 for ring in rings if ring.delay_seconds <= 0)
        if due:
            self._runner.look(at_most=due)
        return self._outer.ring(rings)


def should_auto_start(
    settings: Settings, environ: Mapping[str, str], *, reloading: bool | None = None
) -> bool:
    """Whether this process is the one on a laptop that should run jobs by itself.

    In development only; on the in-memory stub and on local SQLite files, on other databases only
    with ``JOBS_AUTO_START=1``. Never on a platform, under gunicorn or uWSGI (each of several
    workers would start one), nor in the parent of a reloading development server, which serves
    nothing. ``reloading`` says whether the server reloads; left out, ``environ`` does.
    """
    if not settings.is_development or settings.auto_start is False:
        return False
    if on_platform(environ) or _has_workers(environ):
        return False
    if reloading is None:
        reloading = _is_on(environ.get("FLASK_DEBUG"))
    if reloading and environ.get("WERKZEUG_RUN_MAIN") != "true":
        return False
    return settings.auto_start is True or is_local(settings)


def is_local(settings: Settings) -> bool:
    """Whether the jobs live in this process or in an SQLite file of this machine."""
    if settings.backend == "memory":
        return True
    scheme = (settings.database_url or "").partition(":")[0]
    return settings.backend == "sql" and scheme in ("sqlite", "sqlite+pysqlite")


def _has_workers(environ: Mapping[str, str]) -> bool:
    server = environ.get("SERVER_SOFTWARE", "").lower()
    return server.startswith(("gunicorn", "uwsgi")) or "UWSGI_ORIGINAL_PROC_NAME" in environ


def _is_on(value: str | None) -> bool:
    return value is not None and value.strip().lower() not in {"", "0", "false", "no", "off"}
