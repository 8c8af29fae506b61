"""What pages show of a store: lists by any filter, counts, boards and failures, all bounded."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from jobs.core.clock import ManualClock
from jobs.core.job import SHOWN_STATES, State
from jobs.core.store import JobFilter, Store
from jobs.testing.areas.base import Conformance, claim_one, completed, failed, pending, put_one

WINDOW = 1000
FAR_SECONDS = 3600.0


def in_every_state(store: Store, clock: ManualClock, queue: str = "mail") -> dict[str, str]:
    """A job in each shown state, by that state; one queue is paused for it."""
    ids = {}
    ids["stalled"] = put_one(store, queue=queue)
    claim_one(store, lease_seconds=1.0, mark=1)
    clock.advance(2)
    for state, verdict in (("completed", completed), ("failed", failed)):
        ids[state] = put_one(store, queue=queue)
        text = {"error": "ValueError: 'no\nmore"} if state == "failed" else {}
        store.settle([verdict(claim_one(store), keep_seconds=FAR_SECONDS, **text)])
    ids["retrying"] = put_one(store, queue=queue)
    store.settle([pending(claim_one(store), delay_seconds=FAR_SECONDS)])
    ids["processing"] = put_one(store, queue=queue)
    claim_one(store, mark=1)
    ids["cancelled"] = put_one(store, queue=queue)
    store.cancel(ids["cancelled"])
    ids["delayed"] = put_one(store, queue=queue, delay_seconds=FAR_SECONDS)
    ids["pending"] = put_one(store, queue=queue)
    ids["paused"] = put_one(store, queue="held")
    store.pause("queue/held", by="ada", because="")
    return ids


class BrowseConformance(Conformance):
    """``list`` and ``find`` with the filters of a page, ``survey``, ``board``, ``failures``."""

    @pytest.mark.parametrize("window", [None, WINDOW])
    def test_a_filter_by_each_shown_state(
        self, store: Store, manual_clock: ManualClock, window: int | None
    ) -> None:
        ids = in_every_state(store, manual_clock)
        assert set(ids) == set(SHOWN_STATES)
        for shown in SHOWN_STATES:
            where = JobFilter(shown=shown, window=window)
            assert store.find(where, 10) == [ids[shown]], shown
            assert [job.id for job in store.list(where, 10)] == [ids[shown]]
            assert store.survey(where, 10) == (1, False, None)
        assert store.survey(JobFilter(), 100).found == len(ids)

    @pytest.mark.parametrize("window", [None, WINDOW])
    def test_shown_and_stored_states_hold_together(
        self, store: Store, manual_clock: ManualClock, window: int | None
    ) -> None:
        ids = in_every_state(store, manual_clock)
        pending = JobFilter(state=State.PENDING, window=window)
        assert sorted(store.find(pending, 10)) == sorted(
            ids[name] for name in ("pending", "paused", "delayed", "retrying")
        )
        assert store.find(pending._replace(shown="delayed"), 10) == [ids["delayed"]]
        assert store.find(pending._replace(shown="failed"), 10) == []
        assert store.survey(pending._replace(shown="failed"), 10).found == 0

    @pytest.mark.parametrize("window", [None, WINDOW])
    def test_the_children_of_a_job(self, store: Store, window: int | None) -> None:
        parent = put_one(store)
        children = [put_one(store, "beta", parent_id=parent) for _ in range(3)]
        put_one(store, "beta", parent_id=children[0])
        where = JobFilter(parent_id=parent, after_id=parent, window=window)
        assert store.find(where, 10) == sorted(children)
        assert store.find(where._replace(kind="beta"), 2) == sorted(children)[:2]
        assert store.find(where._replace(kind="alpha"), 10) == []
        assert store.find(where._replace(parent_id="no name at all"), 10) == []
        assert store.survey(where._replace(after_id=None), 10).found == 3

    @pytest.mark.parametrize("window", [None, WINDOW])
    def test_text_is_looked_for_where_people_would(self, store: Store, window: int | None) -> None:
        by_payload = put_one(store, payload='{"note":"straße 100% _"}')
        by_key = put_one(store, dedupe_key="order-<17>")
        by_alias = put_one(store, alias="Invoice 4711")
        by_error = put_one(store, queue="x")
        store.settle([failed(claim_one(store, ids=[by_error]), error="KeyError: 'iban'")])

        def found(text: str) -> list[str]:
            return store.find(JobFilter(text=text, window=window), 10)

        assert found("straße 100%") == [by_payload]
        assert found("order-<17>") == [by_key]
        assert found("Invoice 4711") == [by_alias]
        assert found("'iban'") == [by_error]
        assert found(by_alias[-12:]) == [by_alias]
        for odd in ("STRASSE", "10_%", "'; DROP TABLE x", "nul\x00", "\ud800", "😀"):
            assert found(odd) == []

    @pytest.mark.parametrize("window", [None, WINDOW])
    def test_by_when_it_was_enqueued(
        self, store: Store, manual_clock: ManualClock, window: int | None
    ) -> None:
        ids, times = [], []
        for _ in range(3):
            ids.append(put_one(store))
            times.append(manual_clock.now())
            manual_clock.advance(3600)
        where = JobFilter(since=times[1], until=times[2], window=window)
        assert store.find(where, 10) == [ids[1]]
        assert store.find(where._replace(until=None), 10) == [ids[2], ids[1]]
        assert store.survey(where._replace(since=None), 10).found == 2

    def test_by_when_it_was_enqueued_on_the_stores_own_time(self, store: Store) -> None:
        job_id, now = put_one(store), store.now()
        minute = timedelta(minutes=1)
        where = JobFilter(since=now - minute, until=now + minute, window=WINDOW)
        if now.year < 2024:
            pytest.skip("a clock that stands still far from the ids' own time")
        assert store.find(where, 10) == [job_id]
        assert store.find(where._replace(since=now + minute), 10) == []
        assert store.find(where._replace(until=now - minute, since=None), 10) == []

    def test_only_these_ids(self, store: Store) -> None:
        ids = [put_one(store) for _ in range(4)]
        where = JobFilter(ids=(ids[0], ids[2], "none such"))
        assert store.find(where, 10) == [ids[2], ids[0]]
        assert store.find(where._replace(kind="beta"), 10) == []
        assert store.find(JobFilter(ids=()), 10) == []

    @pytest.mark.parametrize("lead", ["tenant", "kind", "queue", None])
    def test_pages_both_ways(self, store: Store, lead: str | None) -> None:
        fields: dict[str, Any] = {} if lead is None else {lead: "beta"}
        ids = [put_one(store, **{"kind": "alpha", **fields}) for _ in range(7)]
        if lead is not None:
            put_one(store, kind="gamma")
        where = JobFilter(window=WINDOW)._replace(**fields)
        first = store.find(where, 3)
        assert first == ids[:3:-1]
        second = store.find(where._replace(before_id=first[-1]), 3)
        assert second == ids[3:0:-1]
        assert store.find(where._replace(after_id=second[0]), 3) == ids[4:7]
        assert store.find(where._replace(after_id=""), 2) == ids[:2]
        assert store.survey(where, 5) == (5, True, None)
        assert store.survey(where, 7) == (7, False, None)

    def test_all_conditions_hold_together(self, store: Store) -> None:
        wanted = put_one(store, kind="beta", queue="mail", tenant="Ä", payload='{"n":1}')
        others: tuple[dict[str, Any], ...] = (
            {"kind": "alpha"},
            {"queue": "other"},
            {"tenant": "ä"},
            {"tenant": ""},
            {"payload": '{"n":2}'},
        )
        for other in others:
            put_one(store, **{"kind": "beta", "queue": "mail", "tenant": "Ä", **other})
        where = JobFilter(
            shown="pending", kind="beta", queue="mail", tenant="Ä", text='"n":1', window=WINDOW
        )
        assert store.find(where, 10) == [wanted]
        assert store.survey(where, 10).found == 1
        assert store.survey(JobFilter(tenant="", window=WINDOW), 10).found == 1

    def test_a_window_bounds_what_is_looked_at(self, store: Store) -> None:
        ids = [put_one(store, payload=f'{{"n":{number}}}') for number in range(10)]
        for job_id in (*ids, put_one(store, kind="beta")):
            store.cancel(job_id)
        where = JobFilter(kind="alpha", text='"n":2', window=5)
        assert store.find(where, 10) == []
        assert store.survey(where, 10) == (0, False, ids[5])
        further = where._replace(before_id=ids[5])
        assert store.find(further, 10) == [ids[2]]
        assert store.survey(further, 10) == (1, False, ids[0])
        assert store.survey(further._replace(before_id=ids[4]), 10) == (1, False, None)
        assert store.find(where._replace(after_id=""), 10) == [ids[2]]
        # The indexes need no window: they know the kinds of what has ended.
        cancelled = JobFilter(state=State.CANCELLED, kind="alpha", window=5)
        assert len(store.find(cancelled, 100)) == 10

    def test_a_window_bounds_what_waits_of_a_kind(self, store: Store) -> None:
        """An index by kind of what waits would be paid for at every enqueue."""
        ids = [put_one(store, tenant="Ä") for _ in range(10)]
        put_one(store, kind="beta", queue="other")
        for where in (
            JobFilter(kind="alpha", window=5),
            JobFilter(queue="default", state=State.PENDING, window=5),
        ):
            assert store.find(where, 100) == ids[:5:-1]
            assert store.survey(where, 100) == (4, False, ids[6])
            assert store.find(where._replace(before_id=ids[6]), 100) == ids[5:0:-1]
        assert store.survey(JobFilter(tenant="Ä", window=5), 100) == (10, False, None)
        assert store.survey(JobFilter(state=State.PENDING, window=5), 100) == (11, False, None)

    def test_what_cannot_be_asked_finds_nothing(self, store: Store) -> None:
        put_one(store)
        for odd in ("", " ", "nul\x00inside", "ümlaut", "\ud800", "'; DROP TABLE x"):
            for where in (JobFilter(kind=odd, window=WINDOW), JobFilter(queue=odd, window=WINDOW)):
                assert store.find(where, 10) == []
                assert store.survey(where, 10).found == 0
        assert store.survey(JobFilter(tenant="nul\x00", window=WINDOW), 10).found == 0
        assert store.failures(10, "nul\x00") == []
        assert store.board(10, "nul\x00").counts == ()

    # -- boards --------------------------------------------------------------------------------

    def test_a_board_counts_every_queue(self, store: Store, manual_clock: ManualClock) -> None:
        in_every_state(store, manual_clock)
        oldest = manual_clock.now()
        manual_clock.advance(5)
        put_one(store, queue="mail")
        board = store.board(100)
        assert board.now == manual_clock.now()
        assert board.paused == {"queue/held"}
        counts = {(each.queue, each.shown): each.jobs for each in board.counts}
        ones = ("delayed", "retrying", "processing", "stalled", "failed", "cancelled")
        assert counts == {
            **{("mail", shown): 1 for shown in ones},
            ("mail", "pending"): 2,
            ("held", "paused"): 1,
        }
        waits = {each.queue: each.oldest_at for each in board.counts if each.shown == "pending"}
        assert waits == {"mail": oldest}
        assert not any(each.capped for each in board.counts)

    def test_a_board_counts_up_to_its_cap(self, store: Store) -> None:
        for _ in range(4):
            put_one(store, queue="mail")
            store.settle([failed(claim_one(store), error="x")])
        for number in range(4):
            put_one(store, queue="mail", tenant="A")
            put_one(store, queue="mail", delay_seconds=FAR_SECONDS + number, tenant="A")
        for tenant, shown in ((None, {"pending", "delayed", "failed"}), ("A", {"pending"})):
            board = store.board(3, tenant)
            assert all(each.jobs <= 3 and each.capped for each in board.counts)
            assert {each.shown for each in board.counts} >= shown
        exact = {each.shown: (each.jobs, each.capped) for each in store.board(8, "A").counts}
        assert exact == {"pending": (4, False), "delayed": (4, False)}

    def test_a_tenants_board_is_its_own(self, store: Store, manual_clock: ManualClock) -> None:
        in_every_state(store, manual_clock)
        put_one(store, queue="mail", tenant="A")
        put_one(store, queue="held", tenant="A")
        put_one(store, queue="secret", tenant="B")
        board = store.board(100, "A")
        counts = {(each.queue, each.shown): each.jobs for each in board.counts}
        assert counts == {("mail", "pending"): 1, ("held", "paused"): 1}
        assert all(each.oldest_at == manual_clock.now() for each in board.counts)

    def test_the_board_of_no_tenant_is_no_wildcard(self, store: Store) -> None:
        for tenant in ("", "A", "B"):
            put_one(store, queue="mail", tenant=tenant)
            done = put_one(store, queue=f"of-{tenant}", tenant=tenant)
            store.settle([failed(claim_one(store, ids=[done]), error="x")])
        board = store.board(100, "")
        counts = {(each.queue, each.shown): each.jobs for each in board.counts}
        assert counts == {("mail", "pending"): 1, ("of-", "failed"): 1}

    @pytest.mark.parametrize("tenant", [None, "A", ""])
    def test_what_is_completed_is_counted_if_asked_for(
        self, store: Store, tenant: str | None
    ) -> None:
        for _ in range(3):
            job_id = put_one(store, queue="mail", tenant=tenant or "")
            store.settle([completed(claim_one(store, ids=[job_id]), keep_seconds=FAR_SECONDS)])
        assert store.board(100, tenant).counts == ()
        (count,) = store.board(100, tenant, completed=True).counts
        assert count[:4] == ("mail", "completed", 3, False)
        (count,) = store.board(2, tenant, completed=True).counts
        assert count.capped

    def test_failures_in_short(self, store: Store) -> None:
        ids = []
        for tenant in ("", "A", "B"):
            ids.append(put_one(store, kind="beta", queue="mail", tenant=tenant))
            store.settle([failed(claim_one(store), error=f"boom of {tenant} {'x' * 2000}")])
        put_one(store)
        newest, *_ = found = store.failures(10)
        assert [each.id for each in found] == ids[::-1]
        assert (newest.kind, newest.queue, newest.tenant) == ("beta", "mail", "B")
        assert newest.attempts == 1
        assert newest.finished_at is not None
        assert newest.error.startswith("boom of B xxx")
        assert len(newest.error) <= 500
        assert [each.id for each in store.failures(2)] == ids[:0:-1]
        assert [each.id for each in store.failures(10, "A")] == [ids[1]]
        assert [each.id for each in store.failures(10, "")] == [ids[0]]
