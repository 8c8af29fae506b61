"""Encryption at rest: a store whose rows hold no payload, result or cursor in clear text.

It is a layer over any store of the house: what goes in is sealed, what comes out is opened, and
nobody above or below knows. Kinds, queues, keys and error texts stay as they are; a search in
payloads finds nothing. The first key seals, every key opens, so that a new one is put in front and
the old one stays until its rows are gone. What no key opens comes out sealed.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from functools import lru_cache
from typing import Any, cast

from msgspec.structs import replace

from jobs.core.alerts import Evaluation
from jobs.core.errors import ConfigurationError, PayloadError
from jobs.core.group import NewGroup
from jobs.core.job import Claimed, Job, NewJob
from jobs.core.schedule import Schedule
from jobs.core.sealed import SEALED, is_sealed
from jobs.core.store import CancelReport, JobFilter, Settled, StoreTransaction, Touch, Verdict


class KeyRing:
    """Seals with the first key, opens with any."""

    def __init__(self, keys: Sequence[str]) -> None:
        try:
            from cryptography.fernet import Fernet, InvalidToken, MultiFernet
        except ModuleNotFoundError:
            raise ConfigurationError(
                "JOBS_ENCRYPTION_KEYS needs cryptography: pip install 'tickwork[crypto]'"
            ) from None
        try:
            self._fernet = MultiFernet([Fernet(key) for key in keys])
        except ValueError:
            raise ConfigurationError(
                "JOBS_ENCRYPTION_KEYS: a key is 32 random bytes in URL-safe base64, as "
                "`python -c 'from cryptography.fernet import Fernet; "
                "print(Fernet.generate_key().decode())'` makes them"
            ) from None
        self._wrong = InvalidToken

    def seal(self, value: Any) -> dict[str, Any]:
        """An object that holds the value encrypted; what is sealed already stays."""
        if is_sealed(value):
            if is_sealed(self.open(value)):
                raise PayloadError(f"$.{SEALED}", "this name is taken, for what is encrypted")
            return cast(dict[str, Any], value)
        return {SEALED: self._encrypted(_dumps(value))}

    def _encrypted(self, text: str) -> str:
        return self._fernet.encrypt(text.encode("utf-8", "surrogatepass")).decode()

    def _decrypted(self, token: str) -> str | None:
        try:
            return self._fernet.decrypt(token.encode()).decode("utf-8", "surrogatepass")
        except (self._wrong, UnicodeEncodeError):
            return None

    def open(self, value: Any) -> Any:
        """The value that was sealed, with what was put beside it since; else as it is."""
        if not is_sealed(value):
            return value
        text = self._decrypted(value[SEALED])
        if text is None:
            return value
        opened = json.loads(text)
        beside = {name: inner for name, inner in value.items() if name != SEALED}
        return {**beside, **opened} if beside else opened

    # -- as text -------------------------------------------------------------------------------

    def seal_text(self, text: str | None) -> str | None:
        """JSON text, as a row holds it."""
        if text is None or SEALED in text:
            return None if text is None else _dumps(self.seal(json.loads(text)))
        return f'{{"{SEALED}":"{self._encrypted(text)}"}}'

    def open_text(self, text: str | None) -> str | None:
        """The same, back."""
        if text is None or SEALED not in text:
            return text
        value = json.loads(text)
        if is_sealed(value) and len(value) == 1:
            opened = self._decrypted(value[SEALED])  # letter by letter as it was
            return text if opened is None else opened
        return _dumps(self.open(value))

    def step(self, step: dict[str, Any], turn: Callable[[Any], Any]) -> dict[str, Any]:
        """A job as a step of a chain or a callback: its payload alone."""
        return {**step, "payload": turn(step["payload"])}

    def seal_step(self, text: str | None) -> str | None:
        """A callback's JSON."""
        return None if text is None else _dumps(self.step(json.loads(text), self.seal))

    def chain(self, text: str | None, turn: Callable[[Any], Any]) -> str | None:
        """The steps of a chain as JSON, each payload turned."""
        if text is None:
            return None
        return _dumps([self.step(step, turn) for step in json.loads(text)])

    # -- what stores are given and give ----------------------------------------------------------

    def seal_job(self, job: NewJob) -> NewJob:
        payload = cast(str, self.seal_text(job.payload))
        return job._replace(payload=payload, chain=self.chain(job.chain, self.seal))

    def seal_verdict(self, verdict: Verdict) -> Verdict:
        return verdict._replace(
            result=self.seal_text(verdict.result),
            cursor=self.seal_text(verdict.cursor),
            follow=tuple(map(self.seal_job, verdict.follow)),
        )

    def open_claimed(self, claimed: Claimed) -> Claimed:
        return claimed._replace(
            payload=cast(str, self.open_text(claimed.payload)),
            chain=self.chain(claimed.chain, self.open),
            cursor=self.open_text(claimed.cursor),
        )

    def open_new(self, job: NewJob) -> NewJob:
        payload = cast(str, self.open_text(job.payload))
        return job._replace(payload=payload, chain=self.chain(job.chain, self.open))

    def open_job(self, job: Job) -> Job:
        return replace(
            job,
            payload=self.open(job.payload),
            result=self.open(job.result),
            cursor=self.open(job.cursor),
            chain=[self.step(step, self.open) for step in job.chain],
        )

    def seal_schedule(self, schedule: Schedule) -> Schedule:
        return replace(schedule, payload=self.seal(schedule.payload))

    def open_schedule(self, schedule: Schedule) -> Schedule:
        return replace(schedule, payload=self.open(schedule.payload))


class Sealing:
    """What a sealed store does before and after the store below it; mixed in in front of one."""

    ring: KeyRing

    def insert(self, jobs: Sequence[NewJob], session: Any = None) -> list[Job]:
        made = super().insert([self.ring.seal_job(job) for job in jobs], session)  # type: ignore[misc]
        return [self.ring.open_job(job) for job in made]

    def insert_many(
        self,
        jobs: Iterable[NewJob],
        session: Any = None,
        *,
        existing: dict[str, str] | None = None,
    ) -> int:
        sealed = map(self.ring.seal_job, jobs)
        return super().insert_many(sealed, session, existing=existing)  # type: ignore[misc,no-any-return]

    async def ainsert(self, jobs: Sequence[NewJob], session: Any) -> list[Job]:
        sealed = [self.ring.seal_job(job) for job in jobs]
        made = await super().ainsert(sealed, session)  # type: ignore[misc]
        return [self.ring.open_job(job) for job in made]

    def claim(self, limit: int, **options: Any) -> list[Claimed]:
        return [self.ring.open_claimed(each) for each in super().claim(limit, **options)]  # type: ignore[misc]

    def settle(self, verdicts: Sequence[Verdict], *, stalled_only: bool = False) -> frozenset[str]:
        sealed = [self.ring.seal_verdict(verdict) for verdict in verdicts]
        return super().settle(sealed, stalled_only=stalled_only)  # type: ignore[misc,no-any-return]

    def settle_more(self, verdicts: Sequence[Verdict], *, stalled_only: bool = False) -> Settled:
        sealed = [self.ring.seal_verdict(verdict) for verdict in verdicts]
        settled: Settled = super().settle_more(sealed, stalled_only=stalled_only)  # type: ignore[misc]
        return settled._replace(inserted=tuple(map(self.ring.open_new, settled.inserted)))

    def touch(self, touches: Sequence[Touch], *, lease_seconds: float | None = None) -> Any:
        sealed = [each._replace(cursor=self.ring.seal_text(each.cursor)) for each in touches]
        return super().touch(sealed, lease_seconds=lease_seconds)  # type: ignore[misc]

    def transaction(self) -> AbstractContextManager[StoreTransaction]:
        return self._sealing_transaction()

    @contextlib.contextmanager
    def _sealing_transaction(self) -> Iterator[StoreTransaction]:
        with super().transaction() as inner:  # type: ignore[misc]
            yield _SealingTransaction(inner, self.ring)

    def stalled(self, limit: int, ids: Collection[str] | None = None) -> list[Claimed]:
        return [self.ring.open_claimed(each) for each in super().stalled(limit, ids)]  # type: ignore[misc]

    def stuck(self, running_for_seconds: float, limit: int) -> list[Claimed]:
        found = super().stuck(running_for_seconds, limit)  # type: ignore[misc]
        return [self.ring.open_claimed(each) for each in found]

    def insert_group(
        self, group: NewGroup, jobs: Sequence[NewJob], session: Any = None
    ) -> list[NewJob]:
        group = group._replace(
            on_success=self.ring.seal_step(group.on_success),
            on_failure=self.ring.seal_step(group.on_failure),
            on_done=self.ring.seal_step(group.on_done),
        )
        sealed = [self.ring.seal_job(job) for job in jobs]
        ended = super().insert_group(group, sealed, session)  # type: ignore[misc]
        return [self.ring.open_new(job) for job in ended]

    def schedules(
        self, tenant: str | None = None, *, source: str | None = None, limit: int = 10_000
    ) -> list[Schedule]:
        found = super().schedules(tenant, source=source, limit=limit)  # type: ignore[misc]
        return [self.ring.open_schedule(each) for each in found]

    def get_schedule(self, name: str, tenant: str = "") -> Schedule | None:
        found = super().get_schedule(name, tenant)  # type: ignore[misc]
        return None if found is None else self.ring.open_schedule(found)

    def add_schedule(self, schedule: Schedule) -> bool:
        return super().add_schedule(self.ring.seal_schedule(schedule))  # type: ignore[misc,no-any-return]

    def replace_schedule(self, before: Schedule, after: Schedule) -> bool:
        return super().replace_schedule(before, self.ring.seal_schedule(after))  # type: ignore[misc,no-any-return]

    def due_schedules(self, kinds: Collection[str], limit: int) -> tuple[datetime, list[Schedule]]:
        now, found = super().due_schedules(kinds, limit)  # type: ignore[misc]
        return now, [self.ring.open_schedule(each) for each in found]

    def fire_schedule(
        self, before: Schedule, after: Schedule, jobs: Sequence[NewJob]
    ) -> list[NewJob]:
        sealed = [self.ring.seal_job(job) for job in jobs]
        made = super().fire_schedule(before, self.ring.seal_schedule(after), sealed)  # type: ignore[misc]
        return [self.ring.open_new(job) for job in made]

    def save_alerts(self, evaluation: Evaluation, jobs: Sequence[NewJob]) -> bool:
        sealed = [self.ring.seal_job(job) for job in jobs]
        return super().save_alerts(evaluation, sealed)  # type: ignore[misc,no-any-return]

    def get(self, job_id: str) -> Job | None:
        found = super().get(job_id)  # type: ignore[misc]
        return None if found is None else self.ring.open_job(found)

    def list(self, where: JobFilter, limit: int) -> Any:
        return [self.ring.open_job(job) for job in super().list(where, limit)]  # type: ignore[misc]

    def cancel(self, job_id: str) -> CancelReport | None:
        report = super().cancel(job_id)  # type: ignore[misc]
        return None if report is None else report._replace(job=self.ring.open_job(report.job))


class _SealingTransaction:
    def __init__(self, inner: StoreTransaction, ring: KeyRing) -> None:
        self._inner = inner
        self._ring = ring

    @property
    def session(self) -> Any:
        return self._inner.session

    def settle(self, verdict: Verdict) -> bool:
        return self._inner.settle(self._ring.seal_verdict(verdict))

    @property
    def inserted(self) -> Sequence[NewJob]:
        return tuple(map(self._ring.open_new, self._inner.inserted))

    def abort(self) -> None:
        self._inner.abort()


@lru_cache(maxsize=8)
def _sealed_class(store: type) -> type:
    return type(f"Sealed{store.__name__}", (Sealing, store), {})


def sealed(store: type, keys: Sequence[str]) -> Any:
    """The class of stores like ``store`` whose rows are encrypted with these keys.

    Raises :class:`~jobs.core.errors.ConfigurationError` for what makes no key, and without the
    extra ``crypto``.
    """
    return type(_sealed_class(store).__name__, (_sealed_class(store),), {"ring": KeyRing(keys)})


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
