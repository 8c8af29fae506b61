"""Alerts as rows, and ticks that look at them: once a minute, whoever ticks."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from jobs.core.alerts import Alert, Evaluation
from jobs.core.clock import ManualClock
from jobs.core.ids import new_id
from jobs.core.job import NewJob
from jobs.core.look import EVERY_SECONDS, IDLE_SECONDS, WAITING_SECONDS, Level, Look
from jobs.core.measure import TickRecord
from jobs.core.store import Capability, JobFilter, Store
from jobs.runtime.watch import look_at_alerts
from jobs.system import Tickwork
from jobs.testing.areas.base import Conformance, MakeStore, MakeTickwork, in_threads, requires


def alert_at(store: Store, name: str = "depth", **fields: Any) -> Alert:
    facts: dict[str, Any] = {"subject": "email", "level": Level.ALERT, "since": store.now()}
    return Alert(name, **{**facts, **fields})


def save(store: Store, before: Alert | None, after: Alert, *jobs: NewJob, busy: bool = True) -> Any:
    return store.save_alerts(Evaluation(written=[(before, after)], is_busy=busy), jobs)


def note_tick(store: Store) -> None:
    store.record_tick(TickRecord(new_id(), "cron", "test"))


class AlertRowsConformance(Conformance):
    """The store's part: who looks, and what is written."""

    def test_one_is_let_in_a_minute(self, store: Store, manual_clock: ManualClock) -> None:
        assert store.claim_alerts(EVERY_SECONDS)
        assert not store.claim_alerts(EVERY_SECONDS)
        manual_clock.advance(EVERY_SECONDS - 1)
        assert not store.claim_alerts(EVERY_SECONDS)
        manual_clock.advance(1)
        assert store.claim_alerts(EVERY_SECONDS)

    @pytest.mark.parametrize("known", [False, True], ids=["the first ever", "a later one"])
    def test_of_many_at_once_one_is_let_in(
        self, store: Store, manual_clock: ManualClock, known: bool
    ) -> None:
        if known:
            store.claim_alerts(EVERY_SECONDS)
            manual_clock.advance(EVERY_SECONDS)

        assert sorted(in_threads(8, lambda _: store.claim_alerts(EVERY_SECONDS))) == [
            *[False] * 7,
            True,
        ]

    def test_the_probe_tells_when_to_look(self, store: Store, manual_clock: ManualClock) -> None:
        def looked() -> None:
            assert store.claim_alerts(EVERY_SECONDS)
            assert store.probe().alerts is Look.NOBODY

        assert store.probe().alerts is Look.NOBODY  # there is nothing to look at
        note_tick(store)
        assert store.probe().alerts is Look.NOBODY
        manual_clock.advance(EVERY_SECONDS)
        assert store.probe().alerts is Look.BUSY
        looked()
        manual_clock.advance(EVERY_SECONDS)
        assert store.probe().alerts is Look.BUSY
        manual_clock.advance(WAITING_SECONDS - EVERY_SECONDS)
        assert store.probe().alerts is Look.WAITING
        manual_clock.advance(IDLE_SECONDS - WAITING_SECONDS)
        assert store.probe().alerts is Look.ANY
        looked()
        save(store, None, alert_at(store))
        assert store.probe().alerts is Look.NOBODY
        manual_clock.advance(EVERY_SECONDS)
        assert store.probe().alerts is Look.ANY  # one is open: whoever comes sees it over
        looked()
        store.save_alerts(Evaluation(), [])
        manual_clock.advance(EVERY_SECONDS)
        assert store.probe().alerts is Look.BUSY

    def test_what_is_written_is_read(self, store: Store, manual_clock: ManualClock) -> None:
        first = alert_at(
            store,
            value=101.5,
            detail="größer \u2603",
            heading=Level.OK,
            streak=1,
            changes=3,
            version=1,
        )
        other = alert_at(store, "p95", subject="", level=Level.WARNING, version=1)

        assert store.alerts() == []
        assert save(store, None, first)
        assert save(store, None, other)
        assert store.alerts() == [first, other]
        manual_clock.advance(5)
        over = replace(first, level=Level.OK, since=store.now(), value=None, version=2)
        assert save(store, first, over)
        assert store.alerts() == [over, other]
        assert store.save_alerts(Evaluation(gone=[over]), [])
        assert store.alerts() == [other]

    def test_what_somebody_wrote_meanwhile_stands(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        first = alert_at(store, version=1)
        save(store, None, first)
        later = replace(first, value=5.0, version=2)
        job = NewJob(new_id(), "alpha", "{}", ring_after_seconds=0.0)

        assert save(store, first, later)
        assert not save(store, first, replace(first, value=6.0, version=2), job)
        assert not save(store, None, replace(first, value=7.0), job)
        assert store.alerts() == [later]
        assert store.get(job.id) is None  # neither is what was to be delivered

    def test_what_is_to_be_delivered_is_written_with_it(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        jobs = [NewJob(new_id(), "alpha", "{}", ring_after_seconds=0.0) for _ in range(8)]

        assert save(store, None, alert_at(store), *jobs)
        assert all(store.get(job.id) is not None for job in jobs)

    def test_of_many_that_write_at_once_one_does(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        first = alert_at(store, version=1)
        save(store, None, first)

        def write(n: int) -> Any:
            job = NewJob(new_id(), "beta", "{}", ring_after_seconds=0.0)
            return save(store, first, replace(first, value=float(n), version=2), job)

        assert sorted(in_threads(6, write)) == [*[False] * 5, True]
        assert len(store.alerts()) == 1
        assert len(store.list(JobFilter(kind="beta"), 100)) == 1

    def test_acknowledged_while_it_is_open(self, store: Store, manual_clock: ManualClock) -> None:
        email, sms = alert_at(store, version=1), alert_at(store, subject="sms", version=1)
        for alert in (email, sms):
            save(store, None, alert)
        save(store, None, alert_at(store, "p95", subject="", level=Level.OK, version=1))

        assert store.acknowledge_alert("depth", "email", "Ada Łovelace") == 1
        assert store.acknowledge_alert("depth", "none", "ada") == 0
        assert store.acknowledge_alert("p95", None, "ada") == 0
        assert store.acknowledge_alert("'; drop table", None, "ada") == 0
        by = {alert.subject: alert.acknowledged_by for alert in store.alerts()}
        assert by["email"] == "Ada Łovelace"
        assert by["sms"] is None
        assert not save(store, email, replace(email, value=1.0, version=2))  # it was written since
        assert store.acknowledge_alert("depth", None, "bob") == 2

    @requires(Capability.SHARED)
    def test_alerts_of_namespaces_are_apart(
        self, make_store: MakeStore, manual_clock: ManualClock
    ) -> None:
        here, there = make_store(manual_clock), make_store(manual_clock, "other")
        save(here, None, alert_at(here))

        assert there.alerts() == []
        assert there.acknowledge_alert("depth", None, "eve") == 0
        assert here.claim_alerts(EVERY_SECONDS)
        assert there.claim_alerts(EVERY_SECONDS)


class AlertsConformance(Conformance):
    """Ticks that look: what is measured becomes an alert, and is over again."""

    @pytest.fixture
    def eager(self, make_tickwork: MakeTickwork) -> Tickwork:
        """One that retries at once."""
        return make_tickwork(retry_delay=0.0)

    def test_from_failing_jobs_to_an_alert_and_back(
        self, eager: Tickwork, manual_clock: ManualClock
    ) -> None:
        fails = [True]

        @eager.handler("alpha", max_attempts=1)
        def alpha() -> None:
            if fails[0]:
                raise ValueError("no")

        def minute() -> dict[str, Level]:
            eager.enqueue_many([("alpha", {})] * 8)
            manual_clock.advance(EVERY_SECONDS)
            eager.tick(limit=8)
            return {alert.name: alert.level for alert in eager.alerts()}

        assert minute() == {}
        after = minute()
        assert after["kind_stuck"] is Level.ALERT
        assert minute()["dead_letters"] is Level.ALERT
        assert {alert.subject for alert in eager.alerts() if alert.name == "kind_stuck"} == {
            "alpha"
        }
        fails[0] = False
        for _ in range(4):
            after = minute()
        assert "kind_stuck" not in after
        assert after["dead_letters"] is Level.ALERT
        assert after["failure_rate"] is Level.ALERT

    @pytest.mark.parametrize(
        ("waits", "most"), [(False, 3), (True, 13)], ids=["nothing waits", "a job waits"]
    )
    def test_a_tick_with_nothing_to_do_looks_now_and_then(
        self,
        eager: Tickwork,
        manual_clock: ManualClock,
        monkeypatch: pytest.MonkeyPatch,
        waits: bool,
        most: int,
    ) -> None:
        looks: list[float] = []
        claim = eager.store.claim_alerts

        def noted(every_seconds: float) -> bool:
            looks.append(every_seconds)
            return claim(every_seconds)

        monkeypatch.setattr(eager.store, "claim_alerts", noted)
        eager.register_handler("alpha", lambda: None)
        eager.enqueue("alpha")
        eager.tick()
        manual_clock.advance(EVERY_SECONDS)
        eager.enqueue("alpha")
        if waits:
            eager.enqueue("alpha", delay=86_400)
        for _ in range(120):
            eager.tick()
            manual_clock.advance(EVERY_SECONDS)

        assert most - 1 <= len(looks) <= most

    def test_a_look_that_fails_fails_no_tick(
        self,
        eager: Tickwork,
        manual_clock: ManualClock,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        eager.register_handler("alpha", lambda: None)
        eager.enqueue("alpha")
        note_tick(eager.store)
        manual_clock.advance(EVERY_SECONDS)

        def broken(*_: object) -> None:
            raise RuntimeError("no")

        monkeypatch.setattr(eager.store, "depths", broken)

        with caplog.at_level(logging.WARNING, "tickwork"):
            assert eager.tick().succeeded == 1
        assert "the alerts could not be looked at" in caplog.text

    def test_switched_off_nobody_looks(
        self, make_tickwork: MakeTickwork, manual_clock: ManualClock
    ) -> None:
        eager = make_tickwork(alerts=False)
        note_tick(eager.store)
        manual_clock.advance(2 * IDLE_SECONDS)
        eager.tick()

        assert eager.store.claim_alerts(EVERY_SECONDS)

    def test_rules_of_the_system_hold(self, eager: Tickwork, manual_clock: ManualClock) -> None:
        eager.alert("depth", warning=None, alert=2)
        eager.alert("ticks_overdue", enabled=False)
        eager.alert("old-work", signal="waiting_seconds", queue="email", alert=30)
        for queue in ("email", "email", "email", "sms"):
            eager.enqueue("beta", {}, queue=queue)
        manual_clock.advance(60)
        look_at_alerts(eager._runtime)
        found = {(alert.name, alert.subject): alert for alert in eager.alerts()}

        assert set(found) == {("depth", "email"), ("old-work", "email")}
        assert found["depth", "email"].detail == "3 jobs wait in queue email"
        assert found["old-work", "email"].value == pytest.approx(60, abs=1)
        assert found["depth", "email"].since == eager.store.now()

    def test_acknowledged_by_a_person(self, eager: Tickwork, manual_clock: ManualClock) -> None:
        eager.alert("depth", warning=None, alert=0)
        eager.enqueue("beta")
        look_at_alerts(eager._runtime)

        assert eager.acknowledge_alert("depth", by="ada") == 1
        (alert,) = eager.alerts()
        assert (alert.acknowledged_by, alert.acknowledged_at) == ("ada", eager.store.now())
        assert alert.as_dict()["acknowledged_by"] == "ada"
        manual_clock.advance(EVERY_SECONDS)
        look_at_alerts(eager._runtime)
        assert eager.alerts()[0].acknowledged_by == "ada"

    def test_a_cron_that_has_died_is_seen_by_the_ticks_of_kicks(
        self, eager: Tickwork, manual_clock: ManualClock
    ) -> None:
        eager.register_handler("alpha", lambda: None)
        for _ in range(5):
            eager.tick(trigger="cron")
            manual_clock.advance(120)
        manual_clock.advance(timedelta(minutes=20).total_seconds())
        eager.enqueue("alpha")
        eager.tick(trigger="kick")
        (alert,) = eager.alerts()

        assert (alert.name, alert.level) == ("ticks_overdue", Level.ALERT)
        assert "one is due every 120 s" in alert.detail
        eager.tick(trigger="cron")
        manual_clock.advance(EVERY_SECONDS)
        eager.tick(trigger="kick")
        assert eager.alerts() == []
