"""Metrics for Prometheus, read from the store at every scrape: no process has to stay alive.

Counters come from the records of ticks and survive whatever is folded or forgotten. No label names
a tenant. What is read is bounded: counts stop at a cap, and records of ticks are kept by number.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry

from jobs.core.measure import TICKS_QUEUE, Histogram, Key, Measure, add_up
from jobs.core.store import Store
from jobs.runtime.pulse import read_pulse

DEPTH_CAP, FAILED_CAP = 10_000, 10_000
# The quantiles are those of the last hour.
QUANTILE_SECONDS = 3600.0
_ENDS = {
    "completed": "Jobs that completed.",
    "failed": "Jobs that failed for good.",
    "retried": "Attempts that failed and are tried again.",
    "released": "Jobs handed back before they started.",
    "snoozed": "Jobs put off by their handlers.",
    "cancelled": "Jobs cancelled by the time a tick had them.",
    "lost": "Attempts whose runner died.",
}
_LABELS = ("queue", "kind")


def exposition(
    store: Store, kinds: Collection[str], every_seconds: float | None, accept: str
) -> tuple[bytes, str]:
    """The metrics in the format that ``accept`` asks for, and its content type.

    ``kinds`` are those whose dead letters are counted, ``every_seconds`` how often ticks are to
    come, if somebody said.
    """
    registry = CollectorRegistry()
    registry.register(StoreCollector(store, kinds, every_seconds))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class StoreCollector(Collector):
    """Reads the store when it is collected, and never before."""

    def __init__(
        self, store: Store, kinds: Collection[str], every_seconds: float | None = None
    ) -> None:
        self._store = store
        self._kinds = kinds
        self._every_seconds = every_seconds

    def describe(self) -> list[Metric]:
        """Nothing: a registry would read the store to find out."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every metric, as of now."""
        yield from self._depths()
        totals = self._store.totals()
        yield from self._ends(
            {key: each for key, each in totals.items() if key.queue != TICKS_QUEUE}
        )
        yield self._quantiles()
        yield from self._ticks(
            {key.kind: each for key, each in totals.items() if key.queue == TICKS_QUEUE}
        )
        yield from self._pulse()

    def _depths(self) -> Iterator[Metric]:
        jobs = GaugeMetricFamily(
            "tickwork_jobs",
            f"Unfinished jobs by state, counted up to {DEPTH_CAP:,} of each priority.",
            labels=(*_LABELS, "state"),
        )
        oldest = GaugeMetricFamily(
            "tickwork_oldest_due_seconds",
            "For how long the first due job has been waiting.",
            labels=_LABELS,
        )
        for depth in self._store.depths(DEPTH_CAP):
            jobs.add_metric((depth.queue, depth.kind, depth.state), depth.jobs)
            if depth.state == "pending":
                oldest.add_metric((depth.queue, depth.kind), depth.oldest_seconds)
        yield jobs
        yield oldest
        dead = GaugeMetricFamily(
            "tickwork_dead_letters",
            f"Jobs that failed for good and are kept, counted up to {FAILED_CAP:,}.",
            labels=("kind",),
        )
        counts = self._store.failed_counts(self._kinds, FAILED_CAP)
        for kind in sorted(self._kinds):
            dead.add_metric((kind,), counts.get(kind, 0))
        yield dead

    def _ends(self, totals: dict[Key, Measure]) -> Iterator[Metric]:
        for name, text in _ENDS.items():
            counter = CounterMetricFamily(f"tickwork_jobs_{name}", text, labels=_LABELS)
            for key, measure in totals.items():
                counter.add_metric((key.queue, key.kind), getattr(measure, name))
            yield counter
        ran = HistogramMetricFamily(
            "tickwork_job_duration_seconds", "How long handlers ran.", labels=_LABELS
        )
        waited = HistogramMetricFamily(
            "tickwork_job_wait_seconds", "From due to the handler's start.", labels=_LABELS
        )
        for key, measure in totals.items():
            _add_histogram(ran, (key.queue, key.kind), measure.ran)
            _add_histogram(waited, (key.queue, key.kind), measure.waited)
        yield ran
        yield waited

    def _quantiles(self) -> Metric:
        family = GaugeMetricFamily(
            "tickwork_job_duration_quantile_seconds",
            "How long half and 95 % of the last hour's handlers ran at most.",
            labels=(*_LABELS, "quantile"),
        )
        recent = add_up(
            (Key("", bucket.queue, bucket.kind), bucket.measure)
            for bucket in self._store.measures(QUANTILE_SECONDS, QUANTILE_SECONDS)
        )
        for key, measure in sorted(recent.items()):
            for part in (0.5, 0.95):
                value = measure.ran.quantile_ms(part)
                if value is not None:
                    family.add_metric((key.queue, key.kind, str(part)), value / 1000)
        return family

    def _ticks(self, totals: dict[str, Measure]) -> Iterator[Metric]:
        ticks = CounterMetricFamily("tickwork_ticks", "Ticks, by trigger.", labels=("trigger",))
        failed = CounterMetricFamily(
            "tickwork_ticks_failed", "Ticks that raised.", labels=("trigger",)
        )
        took = HistogramMetricFamily(
            "tickwork_tick_duration_seconds", "How long ticks took.", labels=("trigger",)
        )
        for trigger, measure in totals.items():
            ticks.add_metric((trigger,), measure.completed + measure.failed)
            failed.add_metric((trigger,), measure.failed)
            _add_histogram(took, (trigger,), measure.ran)
        yield ticks
        yield failed
        yield took

    def _pulse(self) -> Iterator[Metric]:
        pulse = read_pulse(self._store, self._every_seconds)
        for name, text, value in (
            ("age", "Since the last tick.", pulse.age_seconds),
            ("late", "For how long a tick has been due.", pulse.late_seconds),
            ("cadence", "How often ticks are to come.", pulse.cadence_seconds),
        ):
            gauge = GaugeMetricFamily(f"tickwork_tick_{name}_seconds", text)
            if value is not None:
                gauge.add_metric((), value)
            yield gauge


def _add_histogram(
    family: HistogramMetricFamily, labels: tuple[str, ...], histogram: Histogram
) -> None:
    buckets = [
        ("+Inf" if bound is None else repr(bound / 1000), count)
        for bound, count in histogram.cumulative()
    ]
    family.add_metric(labels, buckets, histogram.sum_ms / 1000)
