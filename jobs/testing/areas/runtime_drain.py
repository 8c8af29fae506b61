"""Draining: ticks that overlap in their writing and never in their handlers."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from jobs.core.clock import ManualClock
from jobs.core.errors import Retry, Snooze
from jobs.core.job import State
from jobs.core.store import Capability, Store, Verdict
from jobs.system import Tickwork
from jobs.testing.areas.base import Conformance, MakeTickwork, fetch, requires


class Slow:
    """A store whose settles wait to be let through; everything else passes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.claims = 0
        self.settling = threading.Event()
        self.second_claim = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def claim(self, *arguments: Any, **options: Any) -> Any:
        claimed = self._store.claim(*arguments, **options)
        self.claims += 1
        if self.claims == 2:
            assert self.settling.wait(30)
            self.second_claim.set()
        return claimed

    def settle(self, verdicts: list[Verdict], **options: Any) -> frozenset[str]:
        self.settling.set()
        # Held until the next batch is claimed: only ticks that overlap get through.
        assert self.second_claim.wait(30)
        return self._store.settle(verdicts, **options)


class DrainConformance(Conformance):
    """``Tickwork.drain``."""

    def test_all_that_is_due_runs_once(self, tickwork: Tickwork) -> None:
        ran: list[int] = []
        tickwork.register_handler("alpha", lambda payload: ran.append(payload["n"]))
        tickwork.enqueue_many([("alpha", {"n": number}) for number in range(95)])
        tickwork.enqueue("alpha", {"n": -1}, delay=3600)
        results = tickwork.drain(limit=10)
        assert sorted(ran) == list(range(95))
        assert sum(result.succeeded for result in results) == 95
        assert results[-1].remaining == 0
        assert len(tickwork.list(state=State.COMPLETED, limit=200)) == 95

    def test_concurrency_holds_over_ticks(self, tickwork: Tickwork) -> None:
        lock, running, most = threading.Lock(), 0, 0
        both = threading.Event()

        def handler(payload: dict[str, Any]) -> None:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
                if running == 2:
                    both.set()
            # The first two wait for each other, so that two at once are really seen.
            assert both.wait(30)
            with lock:
                running -= 1

        tickwork.register_handler("alpha", handler)
        tickwork.enqueue_many([("alpha", {})] * 40)
        results = tickwork.drain(limit=4, concurrency=2)
        assert sum(result.succeeded for result in results) == 40
        assert most == 2

    @requires(Capability.CONCURRENT_WRITERS)
    def test_the_next_tick_begins_while_results_are_written(
        self, store: Store, make_tickwork: MakeTickwork
    ) -> None:
        slow: Any = Slow(store)
        tickwork = make_tickwork(store=slow)
        tickwork.register_handler("alpha", lambda payload: None)
        tickwork.enqueue_many([("alpha", {})] * 4)
        results = tickwork.drain(limit=2)
        assert sum(result.succeeded for result in results) == 4

    @pytest.mark.parametrize("error", [Snooze(0), Retry(after=0)])
    def test_it_ends_when_jobs_only_put_themselves_off(
        self, tickwork: Tickwork, manual_clock: ManualClock, error: Exception
    ) -> None:
        def handler(payload: dict[str, Any]) -> None:
            raise error

        tickwork.register_handler("alpha", handler, max_attempts=5)
        job = tickwork.enqueue("alpha", {})
        results = tickwork.drain(limit=1)
        found = fetch(tickwork, job.id)
        if isinstance(error, Snooze):
            assert (found.state, found.attempts) == (State.PENDING, 0)
            assert results[-1].remaining == 1
        else:  # each retry used an attempt, which is getting somewhere
            assert (found.state, found.attempts) == (State.FAILED, 5)

    def test_what_a_tick_raises_is_raised(self, store: Store, make_tickwork: MakeTickwork) -> None:
        class Broken(Slow):
            def claim(self, *_: Any, **__: Any) -> Any:
                raise RuntimeError("no claim today")

        broken: Any = Broken(store)
        tickwork = make_tickwork(store=broken)
        tickwork.register_handler("alpha", lambda payload: None)
        tickwork.enqueue("alpha", {})
        with pytest.raises(RuntimeError, match="no claim today"):
            tickwork.drain()
