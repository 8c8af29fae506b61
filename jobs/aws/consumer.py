"""The consumer: an SQS event in, the partial batch response out.

The message only names a job; the row decides what is done. Whatever is to come back is reported,
and where it is known when there is something to do, the queue is told to hide it until then.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jobs.aws import emf
from jobs.aws.event import Record, answer, read_records, region_of
from jobs.aws.queue import brief, name_of_arn, name_of_url, open_client, set_visibility, url_of_arn
from jobs.core.deadline import Budget, invocation_budget
from jobs.core.delivery import (
    LONGEST_VISIBILITY_SECONDS,
    MALFORMED_AGAIN_SECONDS,
    Fate,
    Reach,
    ack,
)
from jobs.core.settings import Settings
from jobs.ops import sentry
from jobs.runtime.deliver import Delivery
from jobs.system import Tickwork

log = logging.getLogger("tickwork.aws")
# A message received before may have waited for its batch to fill.
LONGEST_BATCH_WINDOW_SECONDS = 300
# What a request to the queue may take at the end of an invocation: it is not begun any later.
LAST_CALL_SECONDS = 0.3
_LEVELS = {
    "completed": logging.DEBUG,
    "failed": logging.DEBUG,  # told by listeners and rows, like every end
    "malformed": logging.ERROR,
    "unsettled": logging.ERROR,
    "unknown": logging.WARNING,
    "foreign": logging.WARNING,
}


class Consumer:
    """``records`` around one system.

    ``counts`` says how many messages had which fate since it was made. ``open_client`` makes the
    SQS client of a region when one is first needed.
    """

    def __init__(
        self, tickwork: Tickwork, open_client: Callable[[str | None], Any] | None = None
    ) -> None:
        self.tickwork = tickwork
        self.counts: Counter[str] = Counter()
        self._open_client = open_client or _open_hasty_client
        self._clients: dict[str, Any] = {}
        self._urls: dict[str, str] = {}
        self._lock = threading.Lock()

    def handle(self, event: object, context: Any = None) -> dict[str, Any]:
        """Run what an event's messages name; returns which of them come back.

        ``context`` is Lambda's; without one the invocation may take ``JOBS_TICK_LIMIT`` seconds.
        Never raises for what a message says. Where nothing can be known, because the database
        cannot be reached, every message comes back.
        """
        budget = budget_of(self.tickwork, context)
        records, problems = read_records(event)
        for problem in problems:
            log.error("sqs: %s", problem)
        self.counts["without a name"] += len(problems)
        deliveries = [self._delivery(key, each, budget) for key, each in enumerate(records)]
        try:
            fates = self.tickwork.deliver(deliveries, budget)
        except Exception:
            log.exception("sqs: a batch could not be run, or its ends not be written")
            fates = {each.key: each.fate or Fate(True, "unsettled") for each in deliveries}
        self._tell(records, fates)
        self._measure(fates, budget)
        kept = [(record, fates[key]) for key, record in enumerate(records) if fates[key].keep]
        self._hide(kept, budget)
        sentry.flush()
        return answer([record.message_id for record, _ in kept])

    def _delivery(self, key: int, record: Record, budget: Budget) -> Delivery:
        message = record.message
        if message is None:
            # It will never name a job: reported, it ends where a person can see it.
            fate = Fate(True, "malformed", MALFORMED_AGAIN_SECONDS)
            return Delivery(key, group=record.group, fate=fate)
        if message.namespace not in (None, self.tickwork.settings.namespace):
            return Delivery(key, group=record.group, fate=ack("foreign"))
        reach = Reach(self._reach_seconds(record, budget), record.is_ordered)
        return Delivery(key, message.job_id, reach, record.group, message.hops)

    def _reach_seconds(self, record: Record, budget: Budget) -> int:
        """For how long the message can be hidden when the batch is done.

        The queue counts from when it handed the message out this time, which the event does not
        say: the first time is only that of a message that came once.
        """
        passed = float(LONGEST_BATCH_WINDOW_SECONDS)
        if record.receive_count == 1 and record.first_received_at is not None:
            now = self.tickwork.clock.now().timestamp()
            passed = max(0.0, now - record.first_received_at)
        return max(0, int(LONGEST_VISIBILITY_SECONDS - passed - budget.lease_seconds))

    def _tell(self, records: Sequence[Record], fates: Mapping[int, Fate]) -> None:
        reasons = Counter(fate.reason for fate in fates.values())
        self.counts.update(reasons)
        for key, record in enumerate(records):
            fate = fates[key]
            level = _LEVELS.get(fate.reason, logging.INFO)
            if log.isEnabledFor(level):
                log.log(level, "sqs: message %r %s", record.message_id, _told(record, fate))
        if records:
            ends = ", ".join(f"{count} {word}" for word, count in reasons.most_common())
            log.info("sqs: %d messages: %s", len(records), ends)

    def _measure(self, fates: Mapping[int, Fate], budget: Budget) -> None:
        clock = self.tickwork.clock
        took_ms = (clock.monotonic() - budget.begun) * 1000
        reasons = Counter(fate.reason for fate in fates.values())
        values = emf.of_batch(reasons, took_ms)
        emf.write(values, self.tickwork.settings, at_seconds=clock.now().timestamp())

    def _hide(self, kept: Sequence[tuple[Record, Fate]], budget: Budget) -> None:
        by_queue: dict[str, dict[str, int]] = defaultdict(dict)
        for record, fate in kept:
            if fate.visible_in_seconds is not None and record.receipt_handle:
                by_queue[record.queue_arn][record.receipt_handle] = fate.visible_in_seconds
        # A function that is killed here has answered nothing, and its whole batch comes back.
        over_at = budget.begun + budget.lease_seconds - budget.lease_margin_seconds
        last_call_at = over_at - LAST_CALL_SECONDS
        for arn, seconds_by_receipt in by_queue.items():
            try:
                client = self._client(region_of(arn))
                url = self._url(client, arn)
            except Exception as error:  # noqa: BLE001 - they come back as the queue has it
                count = len(seconds_by_receipt)
                log.warning("sqs: %d messages come back early: %s", count, brief(error))
                continue
            set_visibility(
                client,
                url,
                seconds_by_receipt,
                in_time=lambda: self.tickwork.clock.monotonic() < last_call_at,
            )

    def _client(self, region: str) -> Any:
        with self._lock:
            if region not in self._clients:
                self._clients[region] = self._open_client(region or None)
            return self._clients[region]

    def _url(self, client: Any, arn: str) -> str:
        own = self.tickwork.settings.sqs_queue_url
        if own and name_of_url(own) == name_of_arn(arn):
            return own
        if arn not in self._urls:
            self._urls[arn] = url_of_arn(client, arn)
        return self._urls[arn]


def _open_hasty_client(region: str | None) -> Any:
    return open_client(region, patient=False)


def _told(record: Record, fate: Fate) -> str:
    job = f" (job {record.message.job_id})" if record.message is not None else ""
    if record.problem:
        return f"is malformed: {record.problem}; reported, so that it ends in the dead-letter queue"
    if not fate.keep:
        return f"is done{job}: {fate.reason}"
    if fate.visible_in_seconds is None:
        return f"comes back{job}: {fate.reason}"
    return f"comes back in {fate.visible_in_seconds} s{job}: {fate.reason}"


def seconds_left(settings: Settings, context: Any) -> float:
    """What is left of this invocation, by Lambda's context; ``JOBS_TICK_LIMIT`` without one."""
    ask = getattr(context, "get_remaining_time_in_millis", None)
    if ask is None:
        return settings.tick_limit
    return max(0.0, float(ask()) / 1000)


def room_seconds(settings: Settings) -> float:
    """What jobs started last have to end in: as much as in a tick."""
    return settings.tick_limit - settings.time_budget


def budget_of(tickwork: Tickwork, context: Any) -> Budget:
    """The time of an invocation that runs messages."""
    settings = tickwork.settings
    now = tickwork.clock.monotonic()
    return invocation_budget(now, seconds_left(settings, context), room_seconds(settings))
