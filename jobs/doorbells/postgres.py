"""PostgreSQL's NOTIFY: rung after the commit, heard by workers that LISTEN.

The enqueuing transaction itself does not notify: PostgreSQL lets one notifying transaction commit
at a time, in a whole server. A short one of its own follows the commit, for many jobs at once.
"""

from __future__ import annotations

import hashlib
import logging
import os
import random
import threading
import uuid
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from jobs.core.doorbell import Doorbell, Ring

log = logging.getLogger("tickwork.notify")
# In so long a process notifies once: at the first commit, and after the last.
DEBOUNCE_SECONDS = 0.02
# After a notification that failed nobody waits for another one for so long.
REST_SECONDS = 5.0
FIRST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 30.0
# How long a notification may take from one connection to another, to count as heard.
SELF_TEST_SECONDS = 3.0
# A line on which nothing comes is asked whether it still stands.
PROBE_SECONDS = 60.0
# How often a listener looks whether it is to end.
TURN_SECONDS = 1.0


def channel_of(prefix: str, namespace: str, schema: str | None) -> str:
    """The channel of one deployment's jobs: a name, short enough for PostgreSQL.

    >>> channel_of("tickwork_", "", None)
    'tickwork_jobs'
    """
    if not namespace and not schema:
        return f"{prefix}jobs"
    of_them = hashlib.sha256(f"{schema or ''}/{namespace}".encode()).hexdigest()[:16]
    return f"{prefix}jobs_{of_them}"


class NotifyDoorbell:
    """Notifies a channel. Safe in many threads, and after a fork; never raises."""

    def __init__(
        self, engine: Any, channel: str, *, debounce_seconds: float = DEBOUNCE_SECONDS
    ) -> None:
        """``engine`` is a SQLAlchemy engine on PostgreSQL; its pool lends the connection."""
        self.channel = channel
        self._engine = engine
        self._debounce_seconds = debounce_seconds
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._sent_at = -1e9
        self._resting_until = 0.0
        self._is_planned = False
        self._is_out = False

    def ring(self, rings: Sequence[Ring]) -> None:
        """Notify, if any is due by now: workers know by themselves when a delayed one is."""
        if not any(ring.delay_seconds <= 0 for ring in rings):
            return
        if self._pid != os.getpid():
            self._reset()  # a process that was forked has none of its parent's threads
        now = monotonic()
        with self._lock:
            if self._is_planned or now < self._resting_until:
                return
            wait = self._sent_at + self._debounce_seconds - now
            if wait <= 0:
                self._sent_at = now
            else:
                self._is_planned = True
        if wait <= 0:
            self._send()
        else:
            timer = threading.Timer(wait, self._send_planned)
            timer.daemon = True
            timer.start()

    def close(self) -> None:
        """Send what is planned now."""
        if self._is_planned:
            self._send_planned()

    def _send_planned(self) -> None:
        with self._lock:
            if not self._is_planned:
                return
            self._is_planned = False
            self._sent_at = monotonic()
        self._send()

    def _send(self) -> None:
        try:
            notify(self._engine, self.channel)
        except Exception as error:  # noqa: BLE001 - a lost ring is never a lost job
            self._resting_until = monotonic() + REST_SECONDS
            if not self._is_out:
                self._is_out = True
                log.warning("workers were not notified, their polls find the jobs: %s", _say(error))
            return
        if self._is_out:
            self._is_out = False
            log.warning("workers are notified again")


class Doorbells:
    """Two doorbells as one: the second is PostgreSQL's, the first whatever else there is."""

    def __init__(self, first: Doorbell, second: Doorbell) -> None:
        self._both = (first, second)
        # What the first one can do is still asked of the pair.
        for name in ("rules", "kick"):
            if hasattr(first, name):
                setattr(self, name, getattr(first, name))

    def ring(self, rings: Sequence[Ring]) -> Any:
        """Ring both; what could not be rung for is what the first one says."""
        first, second = self._both
        second.ring(rings)
        return first.ring(rings)

    def close(self) -> None:
        """Close both."""
        for bell in self._both:
            if callable(close := getattr(bell, "close", None)):
                close()


class NotifyListener:
    """LISTENs on a connection of its own, and comes back after the database went away.

    Behind a pooler that lends connections by the transaction nothing is ever heard. So it notifies
    itself once from another connection, and if that does not arrive it says so and gives up.
    """

    def __init__(self, engine: Any, channel: str) -> None:
        self.channel = channel
        self._engine = engine
        self._wake: Callable[[], None] = lambda: None
        self._closed = threading.Event()
        self._state = "connecting"
        self._connection: Any = None
        self._told_lost = False

    def start(self, wake: Callable[[], None]) -> None:
        """Begin, in a thread of its own; ``wake`` is called there."""
        self._wake = wake
        threading.Thread(target=self._run, name="tickwork-listen", daemon=True).start()

    def describe(self) -> str:
        """``LISTEN``, or why not."""
        return "LISTEN" if self._state == "listening" else f"polling (LISTEN: {self._state})"

    def close(self) -> None:
        """Hear no more."""
        self._closed.set()

    def _run(self) -> None:
        backoff = FIRST_BACKOFF_SECONDS
        while not self._closed.is_set():
            begun = monotonic()
            try:
                if not self._listen():
                    return
            except Exception as error:  # noqa: BLE001 - it comes back, whatever it was
                self._state = "connection lost"
                if not self._told_lost:
                    self._told_lost = True
                    log.warning("the line to LISTEN on is lost; polling meanwhile: %s", _say(error))
            finally:
                self._drop()
            if monotonic() - begun > LONGEST_BACKOFF_SECONDS:
                backoff = FIRST_BACKOFF_SECONDS
            # Spread: a restarted database would else have all its workers back in one instant.
            self._closed.wait(backoff * random.uniform(0.5, 1.0))
            backoff = min(2 * backoff, LONGEST_BACKOFF_SECONDS)

    def _listen(self) -> bool:
        """Hear until the line breaks (raises) or this is closed; ``False``: do not try again."""
        self._connection = connection = _own_connection(self._engine)
        connection.autocommit = True
        connection.execute(f'LISTEN "{self.channel}"'.encode())
        if not self._hears_itself(connection):
            if self._closed.is_set():
                return False
            self._state = "not through this pooler"
            log.warning(
                "LISTEN is not heard through this DATABASE_URL (a pooler in transaction mode?): "
                "polling. Give the worker the direct address of the database"
            )
            return False
        if self._told_lost:
            self._told_lost = False
            log.warning("LISTEN is heard again")
        self._state = "listening"
        self._wake()  # what was rung meanwhile was not heard
        quiet_since = monotonic()
        while not self._closed.is_set():
            heard = False
            for _ in connection.notifies(timeout=TURN_SECONDS, stop_after=1):
                heard = True
                self._wake()
            if heard:
                quiet_since = monotonic()
            elif monotonic() - quiet_since > PROBE_SECONDS:
                connection.execute(b"SELECT 1")
                quiet_since = monotonic()
        return False

    def _hears_itself(self, connection: Any) -> bool:
        """Whether what another connection notifies arrives while this one is idle."""
        word = uuid.uuid4().hex
        notify(self._engine, self.channel, word)
        until = monotonic() + SELF_TEST_SECONDS
        while monotonic() < until and not self._closed.is_set():
            for heard in connection.notifies(timeout=0.5, stop_after=1):
                if heard.payload == word:
                    return True
        return False

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def notify(engine: Any, channel: str, word: str = "") -> None:
    """Notify a channel, in a transaction of its own."""
    from sqlalchemy import text  # late: most deployments notify nobody

    with engine.connect() as connection:
        own = connection.execution_options(isolation_level="AUTOCOMMIT")
        own.execute(text("SELECT pg_notify(:channel, :word)"), {"channel": channel, "word": word})


def _own_connection(engine: Any) -> Any:
    """A psycopg connection as the pool makes them, and no longer the pool's."""
    pooled = engine.raw_connection()
    connection = pooled.driver_connection
    pooled.detach()
    return connection


def _say(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:300]}"
