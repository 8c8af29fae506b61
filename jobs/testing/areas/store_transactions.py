"""The settling transaction of a transactional handler."""

from __future__ import annotations

import pytest

from jobs.core.clock import ManualClock
from jobs.core.job import State
from jobs.core.store import Capability, Store
from jobs.testing.areas.base import (
    LEASE_SECONDS,
    Conformance,
    claim,
    claim_one,
    completed,
    fetch,
    new_job,
    pending,
    put_one,
    requires,
)

EITHER = (Capability.TRANSACTIONS, Capability.SESSIONS)


class TransactionConformance(Conformance):
    """Completion, and all that the session wrote, commit together or not at all."""

    @requires(*EITHER)
    def test_both_or(self, store: Store) -> None:
        put_one(store)
        taken, child = claim_one(store), new_job("beta")
        with store.transaction() as transaction:
            store.insert([child], transaction.session)
            assert transaction.settle(completed(taken, result='"done"'))
        assert fetch(store, taken.id).result == "done"
        assert fetch(store, child.id).state is State.PENDING

    @requires(*EITHER)
    def test_neither_when_it_raises(self, store: Store) -> None:
        put_one(store)
        taken, child = claim_one(store), new_job("beta")

        def work() -> None:
            with store.transaction() as transaction:
                store.insert([child], transaction.session)
                transaction.settle(completed(taken))
                raise LookupError

        with pytest.raises(LookupError):
            work()
        assert fetch(store, taken.id).state is State.PROCESSING
        assert store.get(child.id) is None

    @requires(*EITHER)
    def test_neither_when_the_row_is_no_longer_held(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        put_one(store)
        zombie, child = claim_one(store), new_job("beta")
        manual_clock.advance(LEASE_SECONDS + 1)
        store.settle([pending(zombie)], stalled_only=True)
        holder = claim_one(store)

        def work() -> None:
            with store.transaction() as transaction:
                store.insert([child], transaction.session)
                assert not transaction.settle(completed(zombie))
                raise LookupError

        with pytest.raises(LookupError):
            work()
        assert store.get(child.id) is None
        assert store.settle([completed(holder)]) == frozenset()

    @requires(*EITHER)
    def test_neither_when_it_is_cut_off(self, store: Store) -> None:
        put_one(store)
        taken, child = claim_one(store), new_job("beta")
        after = new_job("gamma")

        def work() -> None:
            with store.transaction() as transaction:
                store.insert([child], transaction.session)
                transaction.abort()
                store.insert([after], transaction.session)
                transaction.settle(completed(taken))

        # Whatever comes after the cut fails, at the latest the commit.
        with pytest.raises(Exception, match=r"."):
            work()
        assert store.get(child.id) is None
        assert store.get(after.id) is None
        assert claim(store) == []
        assert store.settle([completed(taken)]) == frozenset()
