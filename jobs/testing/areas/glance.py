"""What the first page reads at once is what each of its parts would tell."""

from __future__ import annotations

from jobs.core.clock import ManualClock
from jobs.core.ids import new_id
from jobs.core.look import Level
from jobs.core.measure import Key, Measure, TickRecord
from jobs.core.store import Store
from jobs.testing.areas.alerts import alert_at, save
from jobs.testing.areas.base import Conformance

ALPHA = Key("", "default", "alpha")


class GlanceConformance(Conformance):
    """``glance`` beside ``ticks``, ``measures`` and ``alerts``."""

    def test_a_glance_tells_what_each_would_tell(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        """Ticks, measures and alerts at once; old ticks are shown, and not counted as recent."""
        assert store.glance(5, 3600.0, 60.0) == ([], [], [])
        for place in range(9):
            counted = Measure(completed=place + 1)
            counted.ran.note(10.0, 1)
            measures = {Key("t", "mail", "alpha"): counted}
            store.record_tick(TickRecord(new_id(), "cron", "test", measures=measures))
            manual_clock.advance(900)
        save(store, None, alert_at(store, value=101.5, detail="größer \u2603", version=1))
        save(store, None, alert_at(store, "p95", subject="", level=Level.OK, version=1))
        store.claim_alerts(0.0)
        for folded in (0, 6):
            if folded:
                assert store.fold_ticks(folded, keep=0) == 0  # all are regular, and stay
            for most in (2, 7, 50):
                found = store.glance(most, 3600.0, 60.0)
                assert found.ticks == store.ticks(most)
                assert found.buckets == store.measures(3600.0, 60.0)
                assert found.alerts == store.alerts()
        for place in range(4):
            measures = {ALPHA: Measure(failed=place + 1)}
            store.record_tick(TickRecord(new_id(), "kick", "test", measures=measures))
        assert store.fold_ticks(100, keep=0) == 4
        found = store.glance(3, 3600.0, 60.0)
        assert found.buckets == store.measures(3600.0, 60.0)
        assert sum(each.measure.failed for each in found.buckets) == 10
        assert found.ticks == store.ticks(3)
