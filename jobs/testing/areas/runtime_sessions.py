"""Enqueue in the caller's transaction: the job commits with it, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from jobs.core.clock import ManualClock
from jobs.core.errors import CapabilityError, PayloadError
from jobs.core.job import State
from jobs.core.store import Capability
from jobs.system import Tickwork
from jobs.testing.areas.base import Conformance, fetch

OpenSession = Callable[[], AbstractContextManager[Any]]


class SessionConformance(Conformance):
    """A Session, a scoped_session and a Connection of the store's own engine."""

    @pytest.fixture(params=["Session", "scoped_session", "Connection"])
    def open_session(self, request: pytest.FixtureRequest, tickwork: Tickwork) -> OpenSession:
        """Opens what a caller has at hand; it knows ``commit`` and ``rollback``."""
        if Capability.SESSIONS not in tickwork.store.capabilities:
            pytest.skip(f"the store declares no {Capability.SESSIONS}")
        return {
            "Session": _session,
            "scoped_session": _scoped_session,
            "Connection": _connection,
        }[request.param](tickwork.engine)

    def test_committed_together(
        self, tickwork: Tickwork, open_session: OpenSession, manual_clock: ManualClock
    ) -> None:
        tickwork.register_handler("alpha", lambda payload: payload["n"])
        with open_session() as session:
            job = tickwork.enqueue("alpha", {"n": 1}, session=session, delay=5)
            many = tickwork.enqueue_many([("alpha", {"n": n}) for n in (2, 3)], session=session)
            session.commit()
        found = fetch(tickwork, job.id)
        assert (found.id, found.payload, found.state) == (job.id, {"n": 1}, State.PENDING)
        assert found.run_at == job.run_at
        manual_clock.advance(5)
        assert set(tickwork.tick().jobs) == {job.id, *many}

    def test_nothing_is_seen_before_the_commit_nor_after_a_rollback(
        self, tickwork: Tickwork, open_session: OpenSession
    ) -> None:
        tickwork.register_handler("alpha", lambda payload: None)
        with open_session() as session:
            job = tickwork.enqueue("alpha", session=session)
            (many,) = tickwork.enqueue_many([("alpha", {})], session=session)
            assert len(job.id) == 36
            assert tickwork.get(job.id) is None
            session.rollback()
        assert tickwork.get(job.id) is None
        assert tickwork.get(many) is None
        assert tickwork.tick().processed == 0

    def test_who_listens_is_told_after_the_commit_alone(
        self, tickwork: Tickwork, open_session: OpenSession
    ) -> None:
        told: list[str] = []
        tickwork.on("enqueued", lambda event: told.append(event.job_id))
        with open_session() as session:
            tickwork.enqueue("alpha", session=session)
            session.rollback()
            job = tickwork.enqueue("alpha", session=session)
            many = tickwork.enqueue_many([("alpha", {})] * 2, session=session)
            assert told == []
            session.commit()
            assert told == [job.id, *many]

    def test_a_refused_payload_leaves_the_transaction_usable(
        self, tickwork: Tickwork, open_session: OpenSession
    ) -> None:
        with open_session() as session:
            before = tickwork.enqueue("alpha", session=session)
            with pytest.raises(PayloadError):
                tickwork.enqueue("alpha", {"a": {1}}, session=session)
            assert tickwork.try_enqueue("alpha", {"a": {1}}, session=session) is None
            kept = tickwork.try_enqueue("alpha", session=session)
            after = tickwork.enqueue("alpha", session=session)
            session.commit()
        assert kept is not None
        assert {job.id for job in tickwork.list()} == {before.id, kept.id, after.id}

    def test_a_refused_insert_leaves_the_transaction_usable(
        self, tickwork: Tickwork, open_session: OpenSession, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The database itself says no: the id is taken."""
        with open_session() as session:
            first = tickwork.enqueue("alpha", session=session)
            with monkeypatch.context() as patch:
                patch.setattr("jobs.runtime.enqueue.new_id", lambda: first.id)
                assert tickwork.try_enqueue("alpha", session=session) is None
            last = tickwork.enqueue("alpha", session=session)
            session.commit()
        assert {job.id for job in tickwork.list()} == {first.id, last.id}

    def test_a_generator_that_breaks_off_leaves_nothing_of_its_own(
        self, tickwork: Tickwork, open_session: OpenSession
    ) -> None:
        def half() -> Iterator[tuple[str, dict[str, Any]]]:
            yield from [("alpha", {"n": n}) for n in range(20)]
            raise LookupError("the source broke off")

        with open_session() as session:
            with pytest.raises(LookupError):
                tickwork.enqueue_many(half(), session=session)
            session.rollback()
        assert tickwork.list() == []


class NoSessionConformance(Conformance):
    """What is no session is refused in words."""

    def test_what_is_no_session_is_refused(self, tickwork: Tickwork) -> None:
        for odd in (object(), "session", 7):
            with pytest.raises(CapabilityError):
                tickwork.enqueue("alpha", session=odd)
            with pytest.raises(CapabilityError):
                tickwork.enqueue_many([("alpha", {})], session=odd)
            assert tickwork.try_enqueue("alpha", session=odd) is None
        assert tickwork.list() == []

    def test_many_enqueued_are_all_or_nothing(self, tickwork: Tickwork) -> None:
        def half() -> Iterator[tuple[str, dict[str, Any]]]:
            yield from [("alpha", {"n": n}) for n in range(20)]
            raise LookupError("the source broke off")

        with pytest.raises(LookupError):
            tickwork.enqueue_many(half())
        with pytest.raises(PayloadError):
            tickwork.enqueue_many([("alpha", {}), ("alpha", {"a": {1}})])
        assert tickwork.list() == []
        ids = tickwork.enqueue_many({"kind": "alpha", "payload": {"n": n}} for n in range(20))
        assert [job.id for job in tickwork.list()] == ids[::-1]


def _session(engine: Any) -> OpenSession:
    from sqlalchemy.orm import Session

    return lambda: Session(engine)


def _scoped_session(engine: Any) -> OpenSession:
    from sqlalchemy.orm import scoped_session, sessionmaker

    @contextmanager
    def opened() -> Iterator[Any]:
        session = scoped_session(sessionmaker(engine))
        try:
            yield session
        finally:
            session.remove()

    return opened


def _connection(engine: Any) -> OpenSession:
    connect: OpenSession = engine.connect
    return connect
