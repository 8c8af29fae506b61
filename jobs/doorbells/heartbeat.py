"""The heartbeat: after a tick, one call to a watchdog outside, which notices when none comes.

As healthchecks.io and its like have it: the URL itself says that all is well, ``/fail`` behind it
that the tick failed.
"""

from __future__ import annotations

import logging
import threading
from typing import Any
from urllib.parse import urlsplit

log = logging.getLogger("tickwork.heartbeat")
# What a tick waits for at most: connecting, and the answer.
ANSWER_SECONDS = 2.0


class Heartbeat:
    """Calls one URL; never raises, and never says more in a log than its host."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._silent = False
        self._pool: Any = None

    def __call__(self, well: bool) -> None:
        """Tell of a tick that ended well, or failed."""
        url = self._url if well else failing(self._url)
        # In a thread: finding a host's address knows no timeout, nor does an answer in drops.
        thread = threading.Thread(target=self._try, args=(url,), daemon=True)
        try:
            thread.start()
        except RuntimeError:  # a process that is ending may start none
            return
        thread.join(ANSWER_SECONDS)
        if thread.is_alive():
            self._trouble(f"no answer within {ANSWER_SECONDS:g} s")

    def _try(self, url: str) -> None:
        try:
            self._call(url)
        except Exception as error:  # noqa: BLE001 - a watchdog's trouble is not the tick's
            self._trouble(type(error).__name__)

    def _call(self, url: str) -> None:
        if self._pool is None:
            import urllib3  # late: only those with a watchdog

            self._pool = urllib3.PoolManager(maxsize=2)
        answer = self._pool.request(
            "GET",
            url,
            headers={"User-Agent": "tickwork-heartbeat"},
            timeout=ANSWER_SECONDS,
            retries=False,
            redirect=False,
            preload_content=False,
        )
        status = answer.status
        answer.release_conn()
        if status >= 400:
            self._trouble(f"it answered {status}")
        elif self._silent:
            self._silent = False
            log.info("the watchdog can be reached again")

    def _trouble(self, what: str) -> None:
        if not self._silent:
            self._silent = True
            # The path is a secret of its own: whoever knows it can say that all is well.
            host = urlsplit(self._url).hostname
            log.warning("JOBS_HEARTBEAT_URL (at %s) could not be called: %s", host, what)


def failing(url: str) -> str:
    """The URL that says "failed": ``/fail`` behind its path."""
    parts = urlsplit(url)
    return parts._replace(path=parts.path.rstrip("/") + "/fail").geturl()
