"""Tokens by their digests, and the log of what people changed."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.core import access
from jobs.core.access import ChangeFilter, NewChange, NewToken, Token, digest_of, new_secret
from jobs.core.clock import Clock, ManualClock
from jobs.core.ids import new_id
from jobs.core.store import Capability, Store
from jobs.testing.areas.base import Conformance, MakeStore, in_threads, requires

HOUR, DAY = 3600.0, 86_400.0


def new_token(secret: str = "", **fields: Any) -> NewToken:
    values: dict[str, Any] = {
        "name": "ci",
        "role": "viewer",
        "tenant": None,
        "digest": digest_of(secret or new_secret()),
        **fields,
    }
    return NewToken(new_id(), **values)


def new_change(action: str = "job.retry", **fields: Any) -> NewChange:
    values: dict[str, Any] = {"by": "ada", "subject": "j1", **fields}
    return NewChange(new_id(), action=action, **values)


class TokenConformance(Conformance):
    """Tokens: found by digest while they live."""

    def test_a_token_is_found_by_its_digest_alone(self, store: Store) -> None:
        secret = new_secret()
        made = store.add_token(new_token(secret, name="ci", role="operator", tenant="org1"))

        assert (made.name, made.role, made.tenant) == ("ci", "operator", "org1")
        found = store.find_token(digest=digest_of(secret))
        assert found is not None
        assert found.id == made.id
        assert store.find_token(token_id=made.id) is not None
        for wrong in (secret, digest_of(secret + "x"), "", "\x00", "é", digest_of("")):
            assert store.find_token(digest=wrong) is None
        assert store.find_token() is None

    def test_every_tenant_and_no_tenant_are_two_things(self, store: Store) -> None:
        every = store.add_token(new_token(tenant=None))
        none = store.add_token(new_token(tenant=""))

        assert (every.tenant, none.tenant) == (None, "")
        assert [token.id for token in store.tokens("")] == [none.id]
        assert [token.id for token in store.tokens()] == [none.id, every.id]

    def test_tokens_are_listed_by_tenant_newest_first(self, store: Store) -> None:
        ids = [store.add_token(new_token(tenant=each)).id for each in ("a", "b", "a", "A")]

        assert [token.id for token in store.tokens("a")] == [ids[2], ids[0]]
        assert [token.id for token in store.tokens(limit=2)] == [ids[3], ids[2]]
        assert store.tokens("nobody\x00") == []

    def test_an_expired_token_is_not_found(self, store: Store, manual_clock: ManualClock) -> None:
        made = store.add_token(new_token(expires_in_seconds=HOUR))
        assert made.expires_at is not None
        manual_clock.advance(HOUR - 1)
        assert store.find_token(token_id=made.id) is not None
        manual_clock.advance(1)

        assert store.find_token(token_id=made.id) is None
        (shown,) = store.tokens()
        assert shown.state(store.now()) == "expired"

    def test_a_revoked_token_is_not_found(self, store: Store) -> None:
        made = store.add_token(new_token())
        revoked = store.revoke_token(made.id, by="ada")
        again = store.revoke_token(made.id, by="bob")

        assert revoked is not None
        assert again is not None
        assert (revoked.revoked_by, again.revoked_by) == ("ada", "ada")
        assert revoked.revoked_at == again.revoked_at
        assert revoked.state(store.now()) == "revoked"
        assert store.find_token(token_id=made.id) is None

    def test_a_tenant_revokes_its_own_alone(self, store: Store) -> None:
        made = store.add_token(new_token(tenant="org1"))

        assert store.revoke_token(made.id, by="eve", tenant="org2") is None
        assert store.revoke_token(made.id, by="eve", tenant="") is None
        assert store.revoke_token("no-such-token", by="eve") is None
        assert store.revoke_token("\x00", by="eve") is None
        assert store.find_token(token_id=made.id) is not None

    def test_its_last_use_is_known_coarsely(self, store: Store, manual_clock: ManualClock) -> None:
        made = store.add_token(new_token())
        assert made.last_used_at is None

        def used() -> Token:
            assert store.find_token(token_id=made.id) is not None
            return store.tokens()[0]

        first = used().last_used_at
        assert first == manual_clock.now()
        manual_clock.advance(access.LAST_USED_SECONDS - 1)
        assert used().last_used_at == first
        manual_clock.advance(2)
        assert used().last_used_at == manual_clock.now()

    @requires(Capability.SHARED)
    def test_namespaces_have_their_own(
        self, store: Store, make_store: MakeStore, clock: Clock
    ) -> None:
        other = make_store(clock, "other")
        made = store.add_token(new_token())
        store.note_changes([new_change()])

        assert other.tokens() == []
        assert other.find_token(token_id=made.id) is None
        assert other.revoke_token(made.id, by="eve") is None
        assert other.changes(ChangeFilter(), 10) == []
        other.close()

    def test_clearing_jobs_leaves_access_alone(self, store: Store) -> None:
        made = store.add_token(new_token())
        store.note_changes([new_change()])
        store.clear()

        assert store.find_token(token_id=made.id) is not None
        assert len(store.changes(ChangeFilter(), 10)) == 1


class AuditConformance(Conformance):
    """The log of changes: added to, never changed."""

    def test_an_entry_says_who_what_and_when(self, store: Store) -> None:
        before = store.now()
        store.note_changes(
            [
                new_change(
                    by="token:ci", subject="queue/mail", tenant="org1", concerned=312, reason="é"
                )
            ]
        )

        (entry,) = store.changes(ChangeFilter(), 10)
        assert before <= entry.at <= store.now()
        assert entry[2:] == ("token:ci", "job.retry", "queue/mail", "org1", 312, "é")
        assert entry.as_dict()["at"].endswith("Z")

    def test_entries_are_listed_newest_first_and_continue(self, store: Store) -> None:
        made = [new_change(subject=str(n)) for n in range(5)]
        store.note_changes(made)
        store.note_changes([])

        page = store.changes(ChangeFilter(), 2)
        assert [entry.subject for entry in page] == ["4", "3"]
        rest = store.changes(ChangeFilter(before_id=page[-1].id), 10)
        assert [entry.subject for entry in rest] == ["2", "1", "0"]

    @pytest.mark.parametrize(
        "where",
        [
            ChangeFilter(tenant="org1"),
            ChangeFilter(by="bob"),
            ChangeFilter(action="queue.pause"),
            ChangeFilter(subject="queue/mail"),
        ],
        ids=["tenant", "by", "action", "subject"],
    )
    def test_entries_are_found_by_what_they_say(self, store: Store, where: ChangeFilter) -> None:
        wanted = {name: value for name, value in where._asdict().items() if value is not None}
        store.note_changes([new_change(), new_change(tenant="ORG1"), new_change(**wanted)])

        (entry,) = store.changes(where, 10)
        assert wanted.items() <= entry._asdict().items()

    def test_text_that_no_entry_can_hold_finds_none(self, store: Store) -> None:
        store.note_changes([new_change()])

        for text in ("\x00", "\ud800", "'; drop table--", "%"):
            assert store.changes(ChangeFilter(by=text), 10) == []
            assert store.changes(ChangeFilter(tenant=text), 10) == []

    def test_entries_past_their_keeping_go(self, store: Store, manual_clock: ManualClock) -> None:
        store.note_changes([new_change(subject=str(n)) for n in range(3)])
        manual_clock.advance(access.AUDIT_KEEP_SECONDS - DAY)
        store.note_changes([new_change(subject="young")])
        assert len(store.changes(ChangeFilter(), 10)) == 4
        manual_clock.advance(2 * DAY)
        store.note_changes([new_change(subject="new")])

        assert [entry.subject for entry in store.changes(ChangeFilter(), 10)] == ["new", "young"]

    def test_entries_at_once_are_all_written(self, store: Store) -> None:
        in_threads(4, lambda n: store.note_changes([new_change(subject=str(n))]))

        assert len(store.changes(ChangeFilter(), 10)) == 4
