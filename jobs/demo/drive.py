"""The demo's cron: calls `GET /cron/process-jobs` with the secret until nothing is left."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import urllib3

JOBS_PER_TICK: Final = 25
IDLE_SECONDS: Final = 0.2
"""A real cron comes once a minute; this one is in a hurry while jobs wait for their time."""


@dataclass
class Drive:
    """What the ticks answered: `ticks` holds their documents, in order."""

    base_url: str
    secret: str
    ticks: list[dict[str, Any]] = field(default_factory=list)
    _http: urllib3.PoolManager = field(
        default_factory=lambda: urllib3.PoolManager(retries=False, timeout=70), repr=False
    )

    def call(self, secret: str) -> tuple[int, str]:
        """Call the tick once; return the status and the body."""
        answer = self._http.request(
            "GET",
            f"{self.base_url}/cron/process-jobs?limit={JOBS_PER_TICK}",
            headers={"Authorization": f"Bearer {secret}"},
        )
        return answer.status, answer.data.decode()

    def tick(self) -> dict[str, Any]:
        """Call the tick with the secret; return its document.

        Raises RuntimeError when it answers anything but 200.
        """
        status, body = self.call(self.secret)
        if status != 200:
            raise RuntimeError(f"GET /cron/process-jobs answered {status}: {body[:500]}")
        document: dict[str, Any] = json.loads(body)
        self.ticks.append(document)
        return document

    def until(
        self,
        finished: Callable[[], bool],
        seen: Callable[[dict[str, Any]], object],
        *,
        give_up_seconds: float,
    ) -> bool:
        """Tick until `finished`, telling `seen` of each answer; False if that took too long."""
        deadline = time.monotonic() + give_up_seconds
        while time.monotonic() < deadline:
            answer = self.tick()
            seen(answer)
            if finished():
                return True
            if not answer["remaining"]:
                time.sleep(IDLE_SECONDS)
        return False

    @property
    def busy_seconds(self) -> float:
        """How long the ticks that ran something took, all together."""
        return sum(float(tick["duration_ms"]) for tick in self.ticks if tick["processed"]) / 1000

    @property
    def processed(self) -> int:
        """How many attempts the ticks reported."""
        return sum(tick["processed"] for tick in self.ticks)
