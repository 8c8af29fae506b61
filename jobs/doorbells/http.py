"""The kick: after the commit, one call to the application's own tick.

A thread of its own sends the request and reads the answer; whoever enqueued waits only until the
request is written, and for no longer than ``SEND_SECONDS``.
"""

from __future__ import annotations

import heapq
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any
from urllib.parse import SplitResult, urlsplit

from jobs.core.chain import KICK_AGENT
from jobs.core.doorbell import Ring
from jobs.doorbells.lasting import stay_awake

log = logging.getLogger("tickwork.kick")
TICK_PATH = "/cron/process-jobs"
BYPASS_HEADER = "x-vercel-protection-bypass"
# Jobs due later than this are found by the cron, or by a tick that somebody else was kicked for.
SOON_SECONDS = 5.0
# Of connecting, TLS and writing together: what an enqueue waits for at most.
SEND_SECONDS = 1.0
# After a kick that failed: so long nobody waits for another one.
REST_SECONDS = 5.0
# Ticks that this process has asked for and that have not answered yet.
MOST_UNANSWERED = 8
ANSWER_BYTES = 65_536
_BUSY = 503


class KickDoorbell:
    """Kicks the tick of one base URL. Safe in many threads, and after a fork.

    However many jobs are committed, this process kicks at once and then at most once every
    ``debounce_seconds``, the last one after the last commit. Redirects are not followed, and TLS is
    verified. A kick that fails is told once, until one succeeds, and is nobody's error.
    """

    def __init__(
        self,
        base_url: str,
        secret: str,
        *,
        debounce_seconds: float = 0.2,
        answer_seconds: float = 70.0,
        bypass_secret: str | None = None,
    ) -> None:
        """``answer_seconds`` is how long a tick may take to answer, after which its connection is
        given up (and the tick is not)."""
        self.url = base_url.rstrip("/") + TICK_PATH
        self._parts = urlsplit(self.url)
        self._headers = {
            "Authorization": f"Bearer {secret}".encode("utf-8", "surrogateescape"),
            "Content-Length": "0",
            "User-Agent": KICK_AGENT,
        }
        if bypass_secret:
            self._headers[BYPASS_HEADER] = bypass_secret
        self._debounce_seconds = debounce_seconds
        self._answer_seconds = answer_seconds
        self._tls: Any = None
        self._state = _State()

    def ring(self, rings: Sequence[Ring]) -> None:
        """Kick for those that are due within ``SOON_SECONDS``, at once or when they are due."""
        delays = [ring.delay_seconds for ring in rings if ring.delay_seconds <= SOON_SECONDS]
        if not delays:
            return
        now = monotonic()
        with self._mine().lock as state:
            at_once = min(delays) <= 0 and state.may_send(now, self._debounce_seconds)
            if at_once:
                state.note_sent(now)
            for delay in delays:
                if delay > 0 or not at_once:
                    earliest = max(now + delay, state.sent_at + self._debounce_seconds)
                    state.plan(earliest, self._debounce_seconds)
            put_off = bool(state.planned)
            paces = put_off and not state.is_paced
            state.is_paced = state.is_paced or paces
        if paces:
            self._in_thread(self._pace)
        if put_off:
            stay_awake(self._until_sent)
        if at_once:
            self._send_from_here({})

    def kick(self, headers: Mapping[str, str]) -> bool:
        """Kick now, whatever was sent before; whether the request was written.

        For a tick that starts the next one. Waits no longer than :data:`SEND_SECONDS`.
        """
        now = monotonic()
        with self._mine().lock as state:
            if now < state.resting_until:
                return False
            state.note_sent(now)
        return self._send_from_here(headers)

    def close(self) -> None:
        """Give back the connections; nothing that is planned is sent any more."""
        self._mine().close()

    # -- who sends when ------------------------------------------------------------------------

    def _mine(self) -> _State:
        if self._state.pid != os.getpid():
            self._state = _State()  # a process that was forked has none of its parent's threads
        return self._state

    def _in_thread(self, target: Any, *arguments: Any) -> bool:
        thread = threading.Thread(target=target, args=arguments, name="tickwork-kick", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads here, or the interpreter ends
            log.debug("no thread for a kick; the cron finds the jobs", exc_info=True)
            return False
        return True

    def _pace(self) -> None:
        """Send what is planned, each at its time; ends when nothing is."""
        state = self._mine()
        while True:
            with state.lock:
                now = monotonic()
                if now < state.resting_until:
                    state.planned.clear()
                if not state.planned:
                    state.is_paced = False
                    state.changed.notify_all()
                    return
                wait = max(state.planned[0], state.sent_at + self._debounce_seconds) - now
                if wait <= 0 and state.unanswered < MOST_UNANSWERED:
                    heapq.heappop(state.planned)
                    state.note_sent(now)
                else:
                    state.changed.wait(max(wait, 0.01) if wait > 0 else None)
                    continue
            self._send_from_here({})

    def _until_sent(self) -> None:
        """Wait until nothing is planned and what was is written, no longer than it may take."""
        state = self._mine()
        with state.lock:
            state.changed.wait_for(
                lambda: state.is_closed or not state.is_paced, SOON_SECONDS + SEND_SECONDS
            )

    def _send_from_here(self, headers: Mapping[str, str]) -> bool:
        written = _Written()
        if not self._in_thread(self._send, headers, written):
            self._mine().answered()
            return False
        return written.event.wait(SEND_SECONDS) and written.well

    # -- one kick ------------------------------------------------------------------------------

    def _send(self, headers: Mapping[str, str], written: _Written) -> None:
        state = self._mine()
        line = None
        try:
            line = state.take_line() or self._new_line()
            line.timeout = SEND_SECONDS
            if line.sock is not None:
                line.sock.settimeout(SEND_SECONDS)
            named = {**self._headers, **headers}
            line.request("POST", self._parts.path, headers=named, preload_content=False)
            written.tell(well=True)
            line.timeout = self._answer_seconds
            answer = line.getresponse()
            is_whole = len(answer.read(ANSWER_BYTES)) < ANSWER_BYTES
            self._judge(answer.status, answer.headers.get("Location"))
            if answer.status < 400 and is_whole:
                state.keep_line(line)
                line = None
        except Exception as error:  # noqa: BLE001 - whatever it was, the row is the truth
            if written.well and isinstance(error, TimeoutError):
                log.debug("a kicked tick has not answered within %g s", self._answer_seconds)
            else:
                self._fail(f"{type(error).__name__}: {_first_line(error)}")
        finally:
            written.tell(well=False)
            if line is not None:
                line.close()
            state.answered()

    def _new_line(self) -> Any:
        return connection_to(self._parts, self._context)

    def _context(self) -> Any:
        if self._tls is None:
            import ssl  # late, as all of it: most processes never kick

            self._tls = ssl.create_default_context()
        return self._tls

    def _judge(self, status: int, location: str | None) -> None:
        if status < 300:
            with self._mine().lock as state:
                recovered, state.is_out = state.is_out, False
            if recovered:
                log.info("kicks arrive again")
        elif status == _BUSY:
            log.debug("a kick was answered with 503: enough ticks run there, or none can")
        else:
            self._fail(f"it answered {status}; {mend_of(status, location)}")

    def _fail(self, reason: str) -> None:
        with self._mine().lock as state:
            told, state.is_out = state.is_out, True
            state.resting_until = monotonic() + REST_SECONDS
        if not told:
            log.warning(
                "a kick of %s failed (%s); until one succeeds, jobs wait for the cron",
                self.url,
                reason,
            )


class _Written:
    """Whether a request's bytes are on their way; the first word counts."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.well = False

    def tell(self, *, well: bool) -> None:
        if not self.event.is_set():
            self.well = well
            self.event.set()


class _State:
    """What the threads of one process share, under its lock."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.changed = threading.Condition(threading.Lock())
        self.lock = _Locked(self)
        self.sent_at = -1e9
        self.resting_until = 0.0
        self.is_out = False
        self.is_paced = False
        self.is_closed = False
        self.unanswered = 0
        self.planned: list[float] = []
        self._lines: list[Any] = []

    def may_send(self, now: float, debounce_seconds: float) -> bool:
        return (
            now >= self.resting_until
            and now - self.sent_at >= debounce_seconds
            and self.unanswered < MOST_UNANSWERED
        )

    def note_sent(self, now: float) -> None:
        self.sent_at = now
        self.unanswered += 1

    def answered(self) -> None:
        with self.lock:
            self.unanswered -= 1
            self.changed.notify_all()

    def plan(self, at: float, debounce_seconds: float) -> None:
        """Have a kick sent at ``at``, or with one that is planned for shortly after it."""
        if not any(at <= planned <= at + debounce_seconds for planned in self.planned):
            heapq.heappush(self.planned, at)
            self.changed.notify_all()

    def take_line(self) -> Any:
        """A connection that still stands, the warmest first."""
        with self.lock:
            while self._lines:
                line = self._lines.pop()
                if line.is_connected:
                    return line
                line.close()
        return None

    def keep_line(self, line: Any) -> None:
        if line.sock is not None:
            with self.lock:
                if not self.is_closed:
                    self._lines.append(line)
                    return
            line.close()

    def close(self) -> None:
        with self.lock:
            self.is_closed = True
            self.planned.clear()
            lines, self._lines = self._lines, []
            self.changed.notify_all()
        for line in lines:
            line.close()


class _Locked:
    """``with state.lock as state``."""

    def __init__(self, state: _State) -> None:
        self._state = state

    def __enter__(self) -> _State:
        self._state.changed.acquire()
        return self._state

    def __exit__(self, *_: object) -> None:
        self._state.changed.release()


def connection_to(parts: SplitResult, make_context: Any) -> Any:
    """A connection to a URL's host, not opened yet; through no proxy."""
    from urllib3.connection import HTTPConnection, HTTPSConnection  # late: most never kick

    host = parts.hostname or ""
    if parts.scheme == "https":
        return HTTPSConnection(
            host, parts.port, timeout=SEND_SECONDS, ssl_context=make_context(), cert_reqs="REQUIRED"
        )
    return HTTPConnection(host, parts.port, timeout=SEND_SECONDS)


def mend_of(status: int, location: str | None) -> str:
    """What to look at when a kick is refused."""
    if status in (301, 302, 303, 307, 308):
        place = (location or "").partition("?")[0][:200]
        return f"redirects are not followed: set JOBS_KICK_URL to where {place!r} leads, or off"
    match status:
        case 401:
            return (
                "do both ends have the same CRON_SECRET? (Behind Deployment Protection set "
                "VERCEL_AUTOMATION_BYPASS_SECRET as well)"
            )
        case 403:
            return "something before the application refuses it: a firewall, or a protection"
        case 404 | 405:
            return "is JOBS_KICK_URL the address of an application that serves /cron/process-jobs?"
    return "see that application's log"


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]
