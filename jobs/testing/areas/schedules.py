"""Schedules: rows that only one may change at once, and slots that make one job each."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from jobs.core.clock import Clock, ManualClock
from jobs.core.errors import ConfigurationError, ScheduleNotFound
from jobs.core.job import Job, NewJob
from jobs.core.schedule import Schedule, slot_text
from jobs.core.store import SLOT_HELD_SECONDS, Capability, Store
from jobs.system import Tickwork
from jobs.testing.areas.base import (
    KINDS,
    Conformance,
    MakeStore,
    MakeTickwork,
    fetch,
    in_threads,
    new_job,
    requires,
)

HOUR = timedelta(hours=1)


def a_schedule(store: Store, name: str = "hourly", **fields: Any) -> Schedule:
    """A schedule on the full hours, as it would be written now."""
    now = store.now().replace(microsecond=0)
    times = {"created_at": now, "changed_at": now, "next_at": now + HOUR}
    made: dict[str, Any] = {"tenant": "", "kind": "alpha", "rule": "0 * * * *", **times, **fields}
    return Schedule(name=name, **made)


def put_schedule(store: Store, name: str = "hourly", **fields: Any) -> Schedule:
    schedule = a_schedule(store, name, **fields)
    assert store.add_schedule(schedule)
    return schedule


def slot_job(schedule: Schedule, slot: datetime) -> NewJob:
    job = new_job(schedule.kind, tenant=schedule.tenant, run_at=slot)
    return job._replace(schedule=schedule.name, slot=slot_text(slot))


def jobs_of(tickwork: Tickwork, name: str) -> list[Job]:
    """The jobs of a schedule, oldest slot first."""
    found = [job for job in tickwork.list(limit=1000) if job.schedule == name]
    return sorted(found, key=lambda job: job.slot or job.run_at)


def slots_of(tickwork: Tickwork, name: str) -> list[datetime | None]:
    return [job.slot for job in jobs_of(tickwork, name)]


class ScheduleStoreConformance(Conformance):
    """What a store does with schedules."""

    def test_a_schedule_is_read_back_as_written(self, store: Store) -> None:
        now = store.now().replace(microsecond=0)
        full = a_schedule(
            store,
            "weekly",
            tenant="Ärger & Söhne",
            kind="beta",
            rule="every 7200 from 2026-01-01T00:00:00Z",
            payload={"organization": "org 1", "empfänger": ["a@example.org"], "n": 1.5},
            options={"queue": "reports", "priority": 2},
            timezone="Asia/Kolkata",
            jitter_seconds=2.5,
            missed="all:3",
            source="code",
            last_at=now - HOUR,
            last_job_id="some-id",
            changed_by="Zoë",
        )
        assert store.add_schedule(full)
        assert store.get_schedule("weekly", "Ärger & Söhne") == full
        plain = put_schedule(store, next_at=None, enabled=False)
        assert store.get_schedule("hourly") == plain
        assert store.schedules() == [plain, full]
        assert store.schedules("") == [plain]
        assert store.schedules("Ärger & Söhne") == [full]
        assert store.schedules(source="code") == [full]
        assert store.schedules(limit=1) == [plain]
        assert store.schedules("nobody") == store.schedules("nul\0") == []

    def test_a_name_is_taken_once_in_its_tenant(self, store: Store) -> None:
        first = put_schedule(store)
        assert not store.add_schedule(replace(first, kind="beta"))
        assert store.get_schedule("hourly") == first
        put_schedule(store, tenant="acme")
        put_schedule(store, "Hourly")
        assert len(store.schedules()) == 3

    def test_what_is_not_there(self, store: Store) -> None:
        put_schedule(store, tenant="acme")
        for name, tenant in (("hourly", ""), ("no name", ""), ("hourly", "nul\0"), ("", "")):
            assert store.get_schedule(name, tenant) is None
            assert not store.remove_schedule(name, tenant)
        assert store.remove_schedule("hourly", "acme")
        assert store.schedules() == []

    def test_a_change_is_refused_when_somebody_was_first(self, store: Store) -> None:
        before = put_schedule(store)
        after = replace(before, rule="@daily", next_at=None, enabled=False, changed_by="me")
        assert store.replace_schedule(before, after)
        assert store.get_schedule("hourly") == after
        assert not store.replace_schedule(before, replace(before, kind="beta"))
        assert store.get_schedule("hourly") == after
        assert store.replace_schedule(after, before)
        assert not store.replace_schedule(replace(before, name="another"), before)

    def test_name_source_and_beginning_stay(self, store: Store) -> None:
        before = put_schedule(store)
        other = replace(before, source="code", created_at=before.created_at - HOUR, kind="beta")
        assert store.replace_schedule(before, other)
        assert store.get_schedule("hourly") == replace(before, kind="beta")

    def test_a_slot_comes(self, store: Store, manual_clock: ManualClock) -> None:
        assert store.next_schedule_at() is None
        later = put_schedule(store, "later", next_at=store.now() + 2 * HOUR)
        sooner = put_schedule(store, "sooner")
        put_schedule(store, "never", next_at=None)
        assert store.next_schedule_at() == sooner.next_at
        manual_clock.advance(3599)
        assert not store.probe().scheduled
        assert store.due_schedules(KINDS, 10) == (store.now(), [])
        manual_clock.advance(1)
        assert store.probe().scheduled
        assert store.due_schedules(KINDS, 10) == (store.now(), [sooner])
        manual_clock.advance(3600)
        assert store.due_schedules(KINDS, 10) == (store.now(), [sooner, later])
        assert store.due_schedules(KINDS, 1) == (store.now(), [sooner])
        assert store.due_schedules({"beta"}, 10) == (store.now(), [])

    def test_a_slot_makes_its_job(self, store: Store) -> None:
        row = put_schedule(store, tenant="acme")
        slot = row.next_at
        assert slot is not None
        job = slot_job(row, slot)
        after = replace(row, next_at=slot + HOUR, last_at=slot)
        assert store.fire_schedule(row, after, [job]) == [job]
        made = fetch(store, job.id)
        assert (made.schedule, made.slot, made.run_at) == ("hourly", slot, slot)
        assert store.get_schedule("hourly", "acme") == replace(after, last_job_id=job.id)

    def test_a_changed_row_makes_none(self, store: Store) -> None:
        row = put_schedule(store)
        assert row.next_at is not None
        job = slot_job(row, row.next_at)
        off = replace(row, enabled=False, next_at=None)
        assert store.replace_schedule(row, off)
        assert store.fire_schedule(row, replace(row, last_at=row.next_at), [job]) == []
        assert store.get(job.id) is None
        assert store.get_schedule("hourly") == off

    def test_a_slot_may_make_no_job_at_all(self, store: Store) -> None:
        row = put_schedule(store)
        assert row.next_at is not None
        after = replace(row, next_at=row.next_at + HOUR)
        assert store.fire_schedule(row, after, []) == []
        assert store.get_schedule("hourly") == after

    def test_a_slot_makes_one_job_even_if_its_row_is_made_anew(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        row = put_schedule(store)
        slot = row.next_at
        assert slot is not None
        after = replace(row, next_at=slot + HOUR, last_at=slot)
        assert len(store.fire_schedule(row, after, [slot_job(row, slot)])) == 1
        store.remove_schedule("hourly")
        again = put_schedule(store, next_at=slot)
        both = [slot_job(row, slot), slot_job(row, slot + HOUR)]
        assert store.fire_schedule(again, after, both) == both[1:]
        assert store.get(both[0].id) is None
        # Another tenant's slot is another slot.
        theirs = put_schedule(store, tenant="acme", next_at=slot)
        assert len(store.fire_schedule(theirs, theirs, [slot_job(theirs, slot)])) == 1
        manual_clock.advance(SLOT_HELD_SECONDS - 1)
        store.purge_keys(100)
        store.remove_schedule("hourly")
        late = put_schedule(store, next_at=slot)
        assert store.fire_schedule(late, late, [slot_job(late, slot)]) == []

    def test_of_many_at_once_one_makes_the_job(self, store: Store) -> None:
        row = put_schedule(store)
        slot = row.next_at
        assert slot is not None
        after = replace(row, next_at=slot + HOUR, last_at=slot)
        made = in_threads(8, lambda _: store.fire_schedule(row, after, [slot_job(row, slot)]))
        assert sorted(map(len, made)) == [0] * 7 + [1]

    def test_of_many_at_once_one_makes_the_schedule(self, store: Store) -> None:
        added = in_threads(8, lambda _: store.add_schedule(a_schedule(store)))
        assert sorted(added) == [False] * 7 + [True]

    @requires(Capability.SHARED)
    def test_another_namespace_sees_none(
        self, make_store: MakeStore, store: Store, manual_clock: ManualClock
    ) -> None:
        row = put_schedule(store)
        assert row.next_at is not None
        other = make_store(manual_clock, "other")
        manual_clock.advance(3600)
        assert other.schedules() == []
        assert other.get_schedule("hourly") is None
        assert other.next_schedule_at() is None
        assert not other.probe().scheduled
        assert other.due_schedules(KINDS, 10)[1] == []
        assert not other.remove_schedule("hourly")
        assert not other.replace_schedule(row, row)
        theirs = put_schedule(other, next_at=row.next_at)
        for store_, its in ((store, row), (other, theirs)):
            assert len(store_.fire_schedule(its, its, [slot_job(its, row.next_at)])) == 1
        other.close()


class ScheduleConformance(Conformance):
    """Schedules in a running system."""

    @pytest.fixture
    def ran(self, tickwork: Tickwork) -> list[str]:
        """What has run; the kind ``alpha`` notes its payload's ``n``."""
        return note_alpha(tickwork)

    def test_a_declaration_is_written_by_the_first_tick(
        self, tickwork: Tickwork, ran: list[str], manual_clock: ManualClock
    ) -> None:
        tickwork.schedule(
            "weekly", "0 8 * * 1", "alpha", {"n": "report"}, timezone="Asia/Kolkata", priority=1
        )
        assert tickwork.schedules.list() == []
        assert tickwork.tick().scheduled == 0
        (row,) = tickwork.schedules.list()
        # Monday 5 January 2026, 08:00 at +05:30.
        slot = datetime(2026, 1, 5, 2, 30, tzinfo=UTC)
        assert (row.source, row.next_at, row.options) == ("code", slot, {"priority": 1})
        advance_to(manual_clock, slot - timedelta(seconds=1))
        assert tickwork.tick().processed == 0
        advance_to(manual_clock, slot + timedelta(seconds=20))
        result = tickwork.tick()
        assert (result.scheduled, result.succeeded) == (1, 1)
        assert ran == ["report"]
        (job,) = jobs_of(tickwork, "weekly")
        assert (job.slot, job.run_at, job.priority) == (slot, slot, 1)
        row = schedule_of(tickwork, "weekly")
        assert (row.last_at, row.last_job_id) == (slot, job.id)
        assert row.next_at == slot + timedelta(days=7)
        assert tickwork.schedules.next_at() == row.next_at

    def test_the_same_slot_never_twice(
        self, tickwork: Tickwork, ran: list[str], manual_clock: ManualClock
    ) -> None:
        tickwork.schedule("minutely", "* * * * *", "alpha")
        tickwork.tick()
        for _ in range(10):
            manual_clock.advance(20)
            tickwork.tick()
            tickwork.tick()
        slots = slots_of(tickwork, "minutely")
        assert len(slots) == len(set(slots)) == 3

    def test_a_clock_that_goes_backwards_doubles_nothing(
        self, tickwork: Tickwork, ran: list[str], manual_clock: ManualClock
    ) -> None:
        tickwork.schedule("hourly", "0 * * * *", "alpha")
        tickwork.tick()
        for _ in range(3):
            manual_clock.advance(3600)
            tickwork.tick()
        manual_clock.advance(-7500)
        # A change of the rule counts its slots anew, from the present that went back.
        row = schedule_of(tickwork, "hourly")
        tickwork.schedules.disable("hourly")
        tickwork.schedules.enable("hourly")
        assert schedule_of(tickwork, "hourly").next_at == row.next_at
        for _ in range(5):
            manual_clock.advance(1800)
            tickwork.tick()
        slots = slots_of(tickwork, "hourly")
        assert len(slots) == len(set(slots)) == 3

    @pytest.mark.parametrize(
        ("missed", "expected"),
        [("latest", [10]), ("all:4", [7, 8, 9, 10]), ("all:100", list(range(1, 11))), ("none", [])],
    )
    def test_ten_slots_missed(
        self,
        tickwork: Tickwork,
        ran: list[str],
        manual_clock: ManualClock,
        missed: str,
        expected: list[int],
    ) -> None:
        begun = manual_clock.now()
        tickwork.schedule("hourly", "0 * * * *", "alpha", missed=missed)
        tickwork.tick()
        manual_clock.advance(10 * 3600 + 1800)
        assert tickwork.tick().scheduled == len(expected)
        assert slots_of(tickwork, "hourly") == [begun + hours * HOUR for hours in expected]
        row = schedule_of(tickwork, "hourly")
        assert row.next_at == begun + 11 * HOUR
        # A tick that is only a little late has missed nothing.
        manual_clock.advance(1800 + 299)
        assert tickwork.tick().scheduled == 1

    def test_an_interval_is_aligned_to_its_start(
        self, tickwork: Tickwork, ran: list[str], manual_clock: ManualClock
    ) -> None:
        manual_clock.advance(100)
        begun = manual_clock.now()
        tickwork.schedule("sync", kind="alpha", every=7200)
        start = begun + timedelta(days=1)
        tickwork.schedule("from", kind="alpha", every=timedelta(hours=3), start=start)
        tickwork.tick()
        manual_clock.advance(3 * 7200 + 900)
        tickwork.tick()
        assert slots_of(tickwork, "sync") == [begun + 6 * HOUR]
        assert schedule_of(tickwork, "sync").next_at == begun + 8 * HOUR
        assert slots_of(tickwork, "from") == []
        assert tickwork.schedules.preview("from", 2) == [start, start + 3 * HOUR]

    def test_once(self, tickwork: Tickwork, ran: list[str], manual_clock: ManualClock) -> None:
        at = manual_clock.now() + HOUR
        tickwork.schedule("launch", kind="alpha", at=at)
        tickwork.tick()
        manual_clock.advance(4000)
        assert tickwork.tick().scheduled == 1
        manual_clock.advance(4000)
        assert tickwork.tick().scheduled == 0
        row = schedule_of(tickwork, "launch")
        assert (row.next_at, row.last_at, row.enabled) == (None, at, True)
        assert tickwork.schedules.preview("launch") == []
        with pytest.raises(ConfigurationError, match="would never run"):
            tickwork.schedules.add("late", kind="alpha", at=at)

    def test_jitter_is_by_chance_and_agreed_upon(
        self, tickwork: Tickwork, ran: list[str], manual_clock: ManualClock
    ) -> None:
        tickwork.schedule("spread", "* * * * *", "alpha", jitter=30, missed="all:50")
        tickwork.tick()
        manual_clock.advance(50 * 60)
        tickwork.tick()
        late = [job.run_at - job.slot for job in jobs_of(tickwork, "spread") if job.slot]
        assert len(late) == 50
        assert all(timedelta(0) <= each < timedelta(seconds=30) for each in late)
        assert len(set(late)) > 40
        assert max(late) - min(late) > timedelta(seconds=15)

    def test_a_job_knows_its_slot_at_every_attempt(
        self, tickwork: Tickwork, manual_clock: ManualClock
    ) -> None:
        seen: list[datetime | None] = []

        def fail_once(payload: dict[str, Any], ctx: Any) -> None:
            seen.append(ctx.slot)
            if len(seen) == 1:
                raise ValueError("not yet")

        tickwork.register_handler("alpha", fail_once, backoff=60)
        tickwork.schedule("hourly", "0 * * * *", "alpha")
        tickwork.tick()
        slot = manual_clock.now() + HOUR
        manual_clock.advance(3600)
        tickwork.tick()
        manual_clock.advance(100)
        tickwork.tick()
        assert seen == [slot, slot]
        job = tickwork.schedules.run("hourly")
        assert (job.schedule, job.slot) == ("hourly", None)
        tickwork.tick()
        assert seen[2] is None

    def test_run_now_leaves_the_slots_alone(self, tickwork: Tickwork, ran: list[str]) -> None:
        tickwork.schedule("daily", "@daily", "alpha", {"n": "now"}, queue="reports", tenant="acme")
        early = tickwork.schedule_now("daily", "acme")
        assert (early.kind, early.queue, early.tenant) == ("alpha", "reports", "acme")
        tickwork.tick()
        row = schedule_of(tickwork, "daily", "acme")
        tickwork.schedules.disable("daily", "acme")
        tickwork.schedule_now("daily", "acme")
        tickwork.tick()
        assert ran == ["now", "now"]
        assert schedule_of(tickwork, "daily", "acme").last_at is row.last_at is None
        with pytest.raises(ScheduleNotFound, match="tickwork schedules"):
            tickwork.schedule_now("daily")

    def test_disabled_and_enabled(
        self, tickwork: Tickwork, ran: list[str], manual_clock: ManualClock
    ) -> None:
        tickwork.schedules.add("hourly", "0 * * * *", "alpha")
        off = tickwork.schedules.disable("hourly", by="zoe")
        assert (off.enabled, off.next_at, off.changed_by) == (False, None, "zoe")
        manual_clock.advance(5 * 3600 + 10)
        assert tickwork.tick().scheduled == 0
        on = tickwork.schedules.enable("hourly")
        assert on.next_at == manual_clock.now() - timedelta(seconds=10) + HOUR
        assert tickwork.tick().scheduled == 0
        manual_clock.advance(3600)
        assert tickwork.tick().scheduled == 1
        tickwork.schedules.remove("hourly")
        for act in (tickwork.schedules.enable, tickwork.schedules.disable):
            with pytest.raises(ScheduleNotFound):
                act("hourly")
        with pytest.raises(ScheduleNotFound):
            tickwork.schedules.remove("hourly")

    def test_made_again_at_run_time(
        self, tickwork: Tickwork, ran: list[str], manual_clock: ManualClock
    ) -> None:
        first = tickwork.schedules.add("sync", "0 * * * *", "alpha", {"n": "1"}, by="zoe")
        manual_clock.advance(60)
        assert tickwork.schedules.add("sync", "0 * * * *", "alpha", {"n": "1"}) == first
        other = tickwork.schedules.add("sync", "30 * * * *", "alpha", {"n": "2"}, by="max")
        assert (other.payload, other.changed_by) == ({"n": "2"}, "max")
        assert other.next_at == first.created_at + HOUR / 2
        assert other.created_at == first.created_at
        assert tickwork.schedules.list() == [other]
        tickwork.schedules.add("sync", "@daily", "alpha", tenant="acme")
        assert [row.tenant for row in tickwork.schedules.list()] == ["", "acme"]
        assert [row.tenant for row in tickwork.schedules.list("acme")] == ["acme"]

    def test_a_kind_without_a_handler_waits_for_one(
        self, make_tickwork: MakeTickwork, manual_clock: ManualClock
    ) -> None:
        without, with_one = make_tickwork(), make_tickwork()
        without.register_handler("beta", print)
        note_alpha(with_one)
        without.schedules.add("hourly", "0 * * * *", "alpha")
        manual_clock.advance(3600)
        assert without.tick().scheduled == 0
        assert with_one.tick().scheduled == 1

    def test_a_changed_declaration_changes_the_row(
        self, make_tickwork: MakeTickwork, manual_clock: ManualClock
    ) -> None:
        first, second = make_tickwork(), make_tickwork()
        note_alpha(first)
        note_alpha(second)
        first.schedule("report", "0 * * * *", "alpha", {"n": "1"})
        second.schedule("report", "30 * * * *", "alpha", {"n": "2"}, timezone="Europe/Berlin")
        begun = manual_clock.now()
        first.tick()
        manual_clock.advance(60)
        second.tick()
        row = schedule_of(first, "report")
        assert (row.rule, row.payload, row.timezone) == ("30 * * * *", {"n": "2"}, "Europe/Berlin")
        assert row.next_at == begun + HOUR / 2
        # The first does not change it back at its next tick.
        first.tick()
        assert schedule_of(first, "report") == row

    def test_a_declaration_that_is_gone_is_switched_off_and_on_when_it_is_back(
        self, make_tickwork: MakeTickwork, manual_clock: ManualClock
    ) -> None:
        systems = [make_tickwork() for _ in range(3)]
        for system, names in zip(systems, (["a", "b"], ["a"], ["a", "b"]), strict=True):
            note_alpha(system)
            for name in names:
                system.schedule(name, "0 * * * *", "alpha")
            system.tick()
            assert [row.name for row in system.schedules.list() if row.enabled] == names
        manual_clock.advance(3600)
        assert systems[-1].tick().scheduled == 2

    def test_what_a_person_switched_off_stays_off(self, make_tickwork: MakeTickwork) -> None:
        for minute in ("0", "0", "30"):
            tickwork = make_tickwork()
            note_alpha(tickwork)
            tickwork.schedule("report", f"{minute} * * * *", "alpha")
            tickwork.tick()
            row = tickwork.schedules.disable("report", by="zoe")
            assert (row.enabled, row.changed_by) == (False, "zoe")
        again = make_tickwork()
        note_alpha(again)
        again.schedule("report", "30 * * * *", "alpha")
        again.tick()
        row = schedule_of(again, "report")
        assert (row.enabled, row.next_at, row.rule) == (False, None, "30 * * * *")

    def test_deployments_with_other_code_do_not_fight(
        self, make_tickwork: MakeTickwork, manual_clock: ManualClock
    ) -> None:
        """One declares nothing, one handles other kinds, one declares: the last one fires."""
        bare, other, declaring = make_tickwork(), make_tickwork(), make_tickwork()
        note_alpha(bare)
        other.register_handler("beta", print)
        other.schedule("theirs", "0 * * * *", "beta")
        note_alpha(declaring)
        declaring.schedule("ours", "0 * * * *", "alpha")
        for _ in range(2):
            for system in (declaring, other, bare):
                system.tick()
        assert all(row.enabled for row in bare.schedules.list())
        manual_clock.advance(3600)
        assert [system.tick().scheduled for system in (bare, other, declaring)] == [0, 1, 1]

    def test_what_no_deployment_declares_any_more_lapses(
        self, make_tickwork: MakeTickwork, manual_clock: ManualClock
    ) -> None:
        old, bare = make_tickwork(), make_tickwork()
        note_alpha(old)
        note_alpha(bare)
        old.schedule("gone", "0 * * * *", "alpha")
        old.tick()
        manual_clock.advance(3600 + 86_400)
        assert bare.tick().scheduled == 0
        assert schedule_of(bare, "gone").enabled
        manual_clock.advance(1)
        assert bare.tick().scheduled == 0
        assert not schedule_of(bare, "gone").enabled
        bare.schedules.remove("gone")

    def test_code_and_run_time_keep_apart(
        self, make_tickwork: MakeTickwork, caplog: pytest.LogCaptureFixture
    ) -> None:
        first, second = make_tickwork(), make_tickwork()
        note_alpha(first)
        mine = first.schedules.add("mine", "@daily", "alpha")
        first.schedule("mine", "@hourly", "alpha")
        first.schedule("code", "@hourly", "alpha")
        with caplog.at_level(logging.WARNING, "tickwork"):
            first.tick()
        assert schedule_of(first, "mine") == mine
        assert "tickwork schedules remove mine" in caplog.text
        for system in (first, second):
            with pytest.raises(ConfigurationError, match="declared in code"):
                system.schedules.add("code", "@daily", "alpha")
            with pytest.raises(ConfigurationError, match="would come back"):
                system.schedules.remove("code")
        second.schedules.disable("code")
        second.schedules.remove("code")

    def test_one_that_cannot_be_fired_does_not_stop_the_others(
        self,
        tickwork: Tickwork,
        ran: list[str],
        manual_clock: ManualClock,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        good = tickwork.schedules.add("good", "0 * * * *", "alpha")
        broken = replace(good, name="broken", rule="61 * * * *")
        assert tickwork.store.add_schedule(broken)
        manual_clock.advance(3600)
        with caplog.at_level(logging.ERROR, "tickwork"):
            assert tickwork.tick().scheduled == 1
        assert "'broken' makes no job until this is mended" in caplog.text
        assert "'61' is no minute" in caplog.text

    def test_eight_ticks_at_the_minute_make_one_job(
        self, make_tickwork: MakeTickwork, manual_clock: ManualClock
    ) -> None:
        systems = [make_tickwork() for _ in range(8)]
        for system in systems:
            note_alpha(system)
            system.schedule("minutely", "* * * * *", "alpha")
        results = in_threads(8, lambda number: systems[number].tick())
        assert len(systems[0].schedules.list()) == 1
        manual_clock.advance(60)
        results = in_threads(8, lambda number: systems[number].tick())
        assert sum(result.scheduled for result in results) == 1
        assert sum(result.succeeded for result in results) == 1
        assert len(jobs_of(systems[0], "minutely")) == 1

    def test_two_systems_synchronise_at_once(
        self, make_tickwork: MakeTickwork, clock: Clock
    ) -> None:
        systems = [make_tickwork() for _ in range(4)]
        for number, system in enumerate(systems):
            note_alpha(system)
            for name in range(5):
                system.schedule(f"s{name}", f"{number % 2} * * * *", "alpha")
        in_threads(4, lambda number: systems[number].tick())
        rows = systems[0].schedules.list()
        assert [row.name for row in rows] == [f"s{name}" for name in range(5)]
        assert {row.rule for row in rows} <= {"0 * * * *", "1 * * * *"}
        assert all(row.enabled and row.next_at is not None for row in rows)


def note_alpha(tickwork: Tickwork) -> list[str]:
    """Register ``alpha``; returns what it will have run."""
    ran: list[str] = []
    tickwork.register_handler("alpha", lambda payload: ran.append(payload.get("n", "")))
    return ran


def schedule_of(tickwork: Tickwork, name: str, tenant: str = "") -> Schedule:
    """The schedule, which must be there."""
    row = tickwork.schedules.get(name, tenant)
    assert row is not None
    return row


def advance_to(clock: ManualClock, at: datetime) -> None:
    clock.advance((at - clock.now()).total_seconds())
