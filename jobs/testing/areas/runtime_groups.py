"""Chains and groups, from their producer to their end."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.core.clock import ManualClock
from jobs.core.context import JobContext
from jobs.core.errors import ConfigurationError, Continue, Discard, GroupNotFound
from jobs.core.group import GROUP_CHECK_SECONDS
from jobs.core.job import State
from jobs.core.store import Capability, Store
from jobs.runtime import steer
from jobs.system import Tickwork
from jobs.testing.areas.base import Conformance, MakeTickwork, fetch, requires


def tick_often(tickwork: Tickwork) -> None:
    """Tick until nothing is due."""
    for _ in range(20):
        if not tickwork.tick().processed:
            return
    raise AssertionError("there is no end to it")


class ChainConformance(Conformance):
    """``Tickwork.chain``."""

    def test_each_step_is_handed_the_result_before(self, tickwork: Tickwork) -> None:
        seen: list[Any] = []

        def step(payload: dict[str, Any]) -> Any:
            seen.append(payload)
            return payload.get("returns")

        for kind in ("alpha", "beta", "gamma"):
            tickwork.register_handler(kind, step)
        first = tickwork.chain(
            [
                ("alpha", {"returns": {"a": 1, "x": 2}}),
                ("beta", {"x": 0, "y": 0, "returns": [3]}),
                {"kind": "gamma", "payload": {"z": 0}, "priority": 1},
                "alpha",
            ],
            tenant="org1",
        )
        assert [step["kind"] for step in first.chain] == ["beta", "gamma", "alpha"]
        tick_often(tickwork)
        assert seen == [
            {"returns": {"a": 1, "x": 2}},
            {"a": 1, "x": 2, "y": 0, "returns": [3]},
            {"z": 0, "previous": [3]},
            {},
        ]
        jobs = sorted(tickwork.list(), key=lambda job: job.id)
        assert [job.kind for job in jobs] == ["alpha", "beta", "gamma", "alpha"]
        assert {job.tenant for job in jobs} == {"org1"}
        assert [job.priority for job in jobs] == [3, 3, 1, 3]
        assert [job.parent_id for job in jobs] == [None, *(job.id for job in jobs[:-1])]

    def test_a_chain_is_drained_in_one_go(self, tickwork: Tickwork) -> None:
        """What follows counts as remaining, though the tick's probe did not see its lane."""
        for kind in ("alpha", "beta", "gamma"):
            tickwork.register_handler(kind, lambda payload: None)
        tickwork.chain(["alpha", "beta"])
        assert tickwork.tick().remaining == 1
        tickwork.group([("alpha", {})], on_done="gamma")
        tickwork.chain(["alpha", "beta", "gamma"] * 3)
        tickwork.drain()
        assert {job.state for job in tickwork.list()} == {State.COMPLETED}
        assert len(tickwork.list()) == 13

    def test_a_failed_step_stops_it_and_nothing_follows(self, tickwork: Tickwork) -> None:
        def fail(payload: dict[str, Any]) -> None:
            raise Discard("no")

        tickwork.register_handler("alpha", fail)
        tickwork.register_handler("beta", lambda payload: None)
        first = tickwork.chain(["alpha", "beta"])
        tick_often(tickwork)
        found = fetch(tickwork, first.id)
        assert found.state is State.FAILED
        assert [step["kind"] for step in found.chain] == ["beta"]
        assert tickwork.list(kind="beta") == []

    def test_a_result_too_large_to_hand_on(self, make_tickwork: MakeTickwork) -> None:
        tickwork = make_tickwork(payload_max_bytes=2_000)
        for kind, result in (("alpha", {"x": "x" * 1_900}), ("beta", {"y": {1}})):
            tickwork.register_handler(kind, lambda payload, result=result: result, max_attempts=1)
        failed: list[str] = []
        tickwork.on("failed", lambda event: failed.append(event.kind))
        first = tickwork.chain(["alpha", ("gamma", {"z": "z" * 500})])
        second = tickwork.chain(["beta", "gamma"])
        tick_often(tickwork)
        for job in (first, second):
            found = fetch(tickwork, job.id)
            assert found.state is State.FAILED
            assert "the next step of the chain (gamma) cannot be made" in str(found.error)
        assert sorted(failed) == ["alpha", "beta"]
        assert tickwork.list(kind="gamma") == []

    def test_the_others_hear_of_the_next_step(self, tickwork: Tickwork) -> None:
        heard: list[str] = []
        tickwork.on("enqueued", lambda event: heard.append(event.kind))
        tickwork.register_handler("alpha", lambda payload: None)
        tickwork.chain(["alpha", "beta"])
        tick_often(tickwork)
        assert heard == ["alpha", "beta"]

    @pytest.mark.parametrize("steps", [[], "alpha", [("alpha",)], [3], ["alpha", ""]])
    def test_what_is_no_chain(self, tickwork: Tickwork, steps: Any) -> None:
        with pytest.raises(ConfigurationError):
            tickwork.chain(steps)
        assert tickwork.list() == []

    def test_options_of_steps(self, tickwork: Tickwork, manual_clock: ManualClock) -> None:
        with pytest.raises(ConfigurationError, match="use delay"):
            tickwork.chain(["alpha", ("beta", {}, {"run_at": manual_clock.now()})])
        tickwork.register_handler("alpha", lambda payload: None)
        tickwork.chain(["alpha", ("alpha", {}, {"delay": 60}), "alpha"], delay=10, max_attempts=7)
        assert tickwork.tick().processed == 0
        manual_clock.advance(10)
        assert tickwork.tick().processed == 1
        assert tickwork.tick().processed == 0
        manual_clock.advance(60)
        assert tickwork.tick().processed == 1
        assert tickwork.tick().processed == 1
        assert {job.max_attempts for job in tickwork.list()} == {7}

    @requires(Capability.TRANSACTIONS)
    def test_of_transactional_steps(self, tickwork: Tickwork) -> None:
        heard: list[str] = []
        tickwork.on("enqueued", lambda event: heard.append(event.kind))
        results: list[Any] = [{"n": {1}}, {"n": 1}]

        def work(payload: dict[str, Any], ctx: JobContext) -> Any:
            tickwork.enqueue("gamma", session=ctx.session)
            return results.pop(0)

        tickwork.register_handler("alpha", work, transactional=True)
        bad = tickwork.chain(["alpha", "beta"])
        tick_often(tickwork)
        found = fetch(tickwork, bad.id)
        assert found.state is State.FAILED
        assert "the next step of the chain (beta)" in str(found.error)
        assert tickwork.list(kind="gamma") == tickwork.list(kind="beta") == []
        tickwork.chain(["alpha", "beta"])
        tick_often(tickwork)
        (following,) = tickwork.list(kind="beta")
        assert following.payload == {"n": 1}
        assert sorted(heard) == ["alpha", "alpha", "beta", "gamma"]


class GroupLifeConformance(Conformance):
    """``Tickwork.group`` and ``Tickwork.groups``."""

    def test_a_group_and_its_callback(self, tickwork: Tickwork) -> None:
        told: list[Any] = []
        tickwork.register_handler("alpha", lambda payload: None)
        tickwork.register_handler("beta", told.append)
        heard: list[str] = []
        tickwork.on("enqueued", lambda event: heard.append(event.kind))
        with tickwork.group(on_success=("beta", {"to": "x"}), name="n") as group:
            ids = [group.enqueue("alpha"), *group.enqueue_many([("alpha", {})] * 9)]
            assert tickwork.list() == []
        found = tickwork.groups.get(group.id)
        assert (found.state, found.total, found.counts) == ("open", 10, {"pending": 10})
        tick_often(tickwork)
        counts = {"completed": 10, "failed": 0, "cancelled": 0}
        told_of = {"id": group.id, "name": "n", "state": "completed", **counts}
        assert told == [{"to": "x", "group": told_of}]
        found = tickwork.groups.get(group.id)
        assert (found.state, found.as_dict()["counts"]) == ("completed", {"completed": 10})
        assert all(fetch(tickwork, job_id).group_id == group.id for job_id in ids)
        assert heard == ["alpha"] * 10 + ["beta"]

    def test_jobs_given_at_once(self, tickwork: Tickwork) -> None:
        tickwork.register_handler("alpha", lambda payload: None)
        tickwork.group([("alpha", {}), ("alpha", {}, {"priority": 1})], on_done="beta")
        empty = tickwork.group([], on_done="gamma")
        assert tickwork.groups.get(empty.id).state == "completed"
        assert len(tickwork.list(kind="gamma")) == 1
        assert tickwork.list(kind="beta") == []
        tick_often(tickwork)
        assert len(tickwork.list(kind="beta")) == 1

    def test_every_way_to_end(self, tickwork: Tickwork, manual_clock: ManualClock) -> None:
        def fail(payload: dict[str, Any]) -> None:
            raise Discard("no")

        tickwork.register_handler("alpha", lambda payload: None)
        tickwork.register_handler("beta", fail)
        with tickwork.group(on_success="gamma", on_failure="failed", on_done="done") as group:
            group.enqueue("alpha")
            group.enqueue("beta")
            group.enqueue("alpha", expires_in=1)
            waiting = group.enqueue("alpha", delay=500)
        manual_clock.advance(5)
        tick_often(tickwork)
        assert tickwork.groups.get(group.id).unfinished == 1
        tickwork.cancel(waiting)
        found = tickwork.groups.get(group.id)
        assert (found.state, found.counts) == (
            "failed",
            {"completed": 1, "failed": 1, "cancelled": 2},
        )
        kinds = sorted(job.kind for job in tickwork.list() if job.group_id is None)
        assert kinds == ["done", "failed"]

    def test_a_runner_that_is_lost(self, tickwork: Tickwork, manual_clock: ManualClock) -> None:
        tickwork.register_handler("alpha", lambda payload: None)
        tickwork.group([("alpha", {}, {"max_attempts": 1})], on_done="beta")
        tickwork.store.claim(1, kinds={"alpha"}, lease_seconds=5, mark=1)
        manual_clock.advance(6)
        tickwork.tick()
        assert len(tickwork.list(kind="beta")) == 1

    @pytest.mark.parametrize("act", ["cancel_many", "empty", "remove"])
    def test_an_end_by_hand_is_found_at_once(self, tickwork: Tickwork, act: str) -> None:
        heard: list[str] = []
        tickwork.register_handler("beta", lambda payload: None, queue="after")
        ids, groups = [], []
        for _ in range(3):
            with tickwork.group(on_done="beta") as group:
                ids += [group.enqueue("alpha"), group.enqueue("alpha")]
            groups.append(group.id)
        ids.append(tickwork.enqueue("alpha").id)
        with tickwork.group(on_done="beta", queue="elsewhere") as other:
            other.enqueue("gamma")
        tickwork.on("enqueued", lambda event: heard.append(event.kind))
        match act:
            case "cancel_many":
                assert tickwork.cancel_many(kind="alpha") == 7
            case "empty":
                assert tickwork.empty("default") == 7
            case "remove":
                tickwork.remove(ids[0])
                assert heard == []
                for job_id in ids[1:]:
                    tickwork.remove(job_id)
        assert heard == ["beta"] * 3
        assert len(tickwork.list(kind="beta")) == 3
        assert all(tickwork.groups.get(each).finished_at is not None for each in groups)
        assert tickwork.groups.get(other.id).finished_at is None

    def test_ends_by_hand_beyond_a_bound_are_the_sweeps(
        self, tickwork: Tickwork, manual_clock: ManualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(steer, "GROUPS_AT_ONCE", 2)
        for _ in range(3):
            tickwork.group([("alpha", {})], on_done="beta")
        assert tickwork.cancel_many(kind="alpha") == 3
        assert len(tickwork.list(kind="beta")) == 2
        manual_clock.advance(GROUP_CHECK_SECONDS)
        tickwork.tick()
        assert len(tickwork.list(kind="beta")) == 3

    def test_the_sweep_finds_an_end_nobody_told(
        self, store: Store, tickwork: Tickwork, manual_clock: ManualClock
    ) -> None:
        heard: list[str] = []
        with tickwork.group(on_done="beta") as group:
            job_id = group.enqueue("alpha")
        tickwork.on("enqueued", lambda event: heard.append(event.kind))
        store.cancel(job_id)
        tickwork.tick()
        assert tickwork.list(kind="beta") == []
        manual_clock.advance(GROUP_CHECK_SECONDS)
        tickwork.tick()
        assert heard == ["beta"]

    @pytest.mark.parametrize("is_async", [False, True])
    def test_what_its_jobs_enqueue_joins_it(self, tickwork: Tickwork, is_async: bool) -> None:
        def parent(payload: dict[str, Any], ctx: JobContext) -> None:
            tickwork.enqueue("beta", {"in": True})
            tickwork.enqueue("beta", {"in": False}, group=None)
            tickwork.enqueue_many([("beta", {"in": True})])

        async def aparent(payload: dict[str, Any], ctx: JobContext) -> None:
            await tickwork.aenqueue("beta", {"in": True})
            await tickwork.aenqueue("beta", {"in": False}, group=None)
            tickwork.enqueue_many([("beta", {"in": True})])

        tickwork.register_handler("alpha", aparent if is_async else parent)
        tickwork.register_handler("beta", lambda payload: None)
        with tickwork.group(on_success="gamma") as group:
            parent_id = group.enqueue("alpha")
        tickwork.tick()
        assert tickwork.list(kind="gamma") == []
        for job in tickwork.list(kind="beta"):
            wanted = (group.id, parent_id) if job.payload["in"] else (None, None)
            assert (job.group_id, job.parent_id) == wanted
        tick_often(tickwork)
        assert len(tickwork.list(kind="gamma")) == 1
        assert tickwork.groups.get(group.id).counts == {"completed": 3}
        plain = tickwork.enqueue("alpha")
        tick_often(tickwork)
        assert all(
            (job.group_id, job.parent_id) == (None, None)
            for job in tickwork.list(kind="beta")
            if job.id > plain.id
        )

    def test_chains_and_long_work_in_it(self, tickwork: Tickwork) -> None:
        def long(payload: dict[str, Any], ctx: JobContext) -> None:
            if ctx.state is None:
                assert ctx.group_id is not None
                raise Continue(1)

        tickwork.register_handler("alpha", long)
        with tickwork.group(on_success="gamma") as group:
            group.chain(["alpha", "alpha"])
        for _ in range(4):
            assert tickwork.list(kind="gamma") == []
            tickwork.tick()
        assert len(tickwork.list(kind="gamma")) == 1
        assert tickwork.groups.get(group.id).counts == {"completed": 2}

    def test_an_error_inside_writes_nothing(self, tickwork: Tickwork) -> None:
        def undone() -> None:
            with tickwork.group(on_done="beta") as group:
                group.enqueue("alpha")
                raise RuntimeError

        with pytest.raises(RuntimeError):
            undone()
        assert tickwork.list() == []

    def test_what_is_asked_wrongly(self, tickwork: Tickwork) -> None:
        with pytest.raises(GroupNotFound, match="no group 'nope'"):
            tickwork.groups.get("nope")
        assert tickwork.groups.find("nope") is None
        with pytest.raises(ConfigurationError, match="group=None"):
            tickwork.enqueue("alpha", group="some")  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="name"):
            tickwork.group(name="x" * 201)
        done = tickwork.group([])
        with pytest.raises(ConfigurationError, match="is written"):
            done.enqueue("alpha")

    @requires(Capability.TRANSACTIONS)
    def test_of_transactional_jobs(self, tickwork: Tickwork) -> None:
        heard: list[str] = []
        tickwork.on("enqueued", lambda event: heard.append(event.kind))

        def work(payload: dict[str, Any], ctx: JobContext) -> None:
            if payload.get("child"):
                tickwork.enqueue("alpha", {}, session=ctx.session)

        tickwork.register_handler("alpha", work, transactional=True)
        tickwork.group([("alpha", {"child": 1}), ("alpha", {})], on_success="beta")
        tickwork.tick()
        assert tickwork.list(kind="beta") == []
        tickwork.tick()
        assert len(tickwork.list(kind="beta")) == 1
        assert heard == ["alpha", "alpha", "alpha", "beta"]

    @requires(Capability.SESSIONS)
    def test_a_group_in_a_callers_transaction(self, tickwork: Tickwork) -> None:
        heard: list[str] = []
        tickwork.on("enqueued", lambda event: heard.append(event.kind))
        with tickwork.engine.connect() as connection, connection.begin() as transaction:
            tickwork.group([("alpha", {})], on_done="beta", session=connection)
            tickwork.chain(["alpha", "beta"], session=connection)
            transaction.rollback()
        assert (tickwork.list(), heard) == ([], [])
        with tickwork.engine.begin() as connection:
            with tickwork.group(on_done="beta", session=connection) as group:
                group.enqueue("alpha")
            tickwork.group([], on_done="gamma", session=connection)
            assert heard == []
        assert sorted(heard) == ["alpha", "gamma"]
        assert tickwork.groups.get(group.id).total == 1

    def test_unique_keys_are_for_jobs_that_stand_alone(self, tickwork: Tickwork) -> None:
        key = {"dedupe_key": "k"}
        for asked in (
            lambda: tickwork.chain(["alpha", ("beta", {}, key)]),
            lambda: tickwork.group([("alpha", {}, key)]),
            lambda: tickwork.group(on_done=("alpha", {}, {"job_id": "x"})),
        ):
            with pytest.raises(ConfigurationError, match="stand alone"):
                asked()
        assert tickwork.list() == []
        tickwork.register_handler("alpha", lambda _: None, dedupe_key=lambda _: "same")
        tickwork.group([("alpha", {})] * 2, on_done="alpha")
        tick_often(tickwork)
        assert len(tickwork.list()) == 3
        first = tickwork.chain(["alpha", "alpha", "alpha"], dedupe_key="chain")
        assert tickwork.chain(["alpha", "beta"], dedupe_key="chain").id == first.id
        tick_often(tickwork)
        assert len(tickwork.list()) == 6

    def test_cleaning_and_retrying_in_it(
        self, tickwork: Tickwork, manual_clock: ManualClock
    ) -> None:
        fails = [True]

        def work(payload: dict[str, Any]) -> None:
            if fails.pop():
                raise Discard("no")

        tickwork.register_handler("alpha", work)
        with tickwork.group(on_failure="gamma", on_success="beta") as group:
            job_id = group.enqueue("alpha")
            group.enqueue("alpha", delay=100)
        tick_often(tickwork)
        manual_clock.advance(50)
        assert tickwork.clean(0, state="failed") == 0  # the group counts on it
        fails[:] = [False, False]
        tickwork.retry(job_id)
        tick_often(tickwork)
        assert tickwork.groups.get(group.id).state == "open"
        manual_clock.advance(50)
        tick_often(tickwork)
        assert len(tickwork.list(kind="beta")) == 1
        assert tickwork.list(kind="gamma") == []
        tickwork.retry(job_id, force=True)
        fails[:] = [False]
        tick_often(tickwork)
        assert len(tickwork.list(kind="beta")) == 1
        manual_clock.advance(50)
        assert tickwork.clean(0, state="completed") == 2
