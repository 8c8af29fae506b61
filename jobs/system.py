"""Tickwork: builds a running system from settings. The only file that knows everyone."""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Unpack, cast

from msgspec.structs import replace

from jobs.alarms import Alarms, Unreachable
from jobs.core.backoff import BackoffCallable, BackoffLike
from jobs.core.chain import Link
from jobs.core.clock import Clock, SystemClock
from jobs.core.deadline import Budget
from jobs.core.doorbell import Doorbell, SilentDoorbell
from jobs.core.errors import CapabilityError, ConfigurationError
from jobs.core.events import EventName, Events, Listener
from jobs.core.ids import new_ids
from jobs.core.job import DEFAULT_QUEUE, Job, NewJob
from jobs.core.limits import Breaker, RateLike
from jobs.core.loglines import LogContext
from jobs.core.registry import ConcurrencyKey, Handler, Registry, RetentionLike, Upgrade
from jobs.core.registry import handler as declare_handler
from jobs.core.settings import Settings, read_settings
from jobs.core.store import Capability, Store
from jobs.measuring import Measuring
from jobs.ops import logs, sentry
from jobs.ops.joblines import log_jobs
from jobs.runtime import steer
from jobs.runtime.base import Runtime
from jobs.runtime.chain import can_chain, chain_on
from jobs.runtime.chains import JobLike, as_parts, build_chain
from jobs.runtime.drain import drain
from jobs.runtime.enqueue import Draft, Enqueued, EnqueueOptions, build_job, draft, is_heard
from jobs.runtime.groups import GroupBuilder
from jobs.runtime.tick import TickResult, run_tick
from jobs.runtime.tracing import enqueueing
from jobs.runtime.upkeep import reclaim
from jobs.scheduling import Scheduling
from jobs.steering import Steering

if TYPE_CHECKING:
    from types import ModuleType

    from jobs.core.delivery import Fate
    from jobs.runtime.deliver import Delivery
    from jobs.runtime.local import LocalRunner
    from jobs.runtime.worker import Worker

log = logging.getLogger("tickwork")
LEAST_ANSWER_SECONDS = 4.0
ANSWER_MARGIN_SECONDS = 10.0


class Tickwork(Scheduling, Steering, Measuring, Alarms):
    """Background jobs in the user's own SQL database, or in memory.

    >>> tickwork = Tickwork("sqlite:///jobs.db")      # or Tickwork.from_env()
    >>> @tickwork.handler("greet")
    ... def greet(payload: dict) -> str:
    ...     return f"hello {payload['name']}"
    >>> job = greet.enqueue({"name": "Ada"})
    >>> tickwork.tick().succeeded
    1
    """

    _from_env: Tickwork | None = None
    _from_env_lock = threading.RLock()

    def __init__(
        self,
        database: Any = None,
        *,
        settings: Settings | None = None,
        handlers: Iterable[str] = (),
        store: Store | None = None,
        clock: Clock | None = None,
        doorbell: Doorbell | None = None,
        **overrides: Any,
    ) -> None:
        """``database`` is a URL or an SQLAlchemy Engine; without one the settings decide.

        ``handlers`` are modules to import for their kinds; ``overrides`` are settings by field
        name. Raises :class:`~jobs.core.errors.ConfigurationError` listing every mistake.
        """
        if settings is None:
            environ: dict[str, str] = {}
            if isinstance(database, str):
                overrides["database_url"] = database
            elif database is not None:
                overrides["backend"] = "memory"  # the engine stands for itself, below
            elif store is not None or not overrides.get("database_url"):
                overrides.setdefault("backend", "memory")
                overrides.setdefault("env", "development")
            settings = read_settings(environ, **overrides)
        self.settings = settings
        clock = clock or SystemClock()
        if store is None:
            store = _open_store(settings, database, clock)
        bell = doorbell or _make_doorbell(settings, store)
        self._runtime = Runtime(
            store=store,
            registry=Registry(),
            settings=settings,
            events=Events(),
            clock=clock,
            doorbell=bell,
            rules=getattr(bell, "rules", None),
            heartbeat=_make_heartbeat(settings),
        )
        # Before the lines: Sentry is to leave those alone.
        sentry.report_failures(self._runtime.events)
        log_jobs(self._runtime.events, self._runtime.registry)
        self._unreachable = Unreachable(settings, clock)
        if settings.alerts and settings.alert_channels:
            from jobs.handlers.alerting import alert_handler  # late: where something is delivered

            self.register(alert_handler())
        self._consuming: Runtime | None = None
        self._local: LocalRunner | None = None
        self.modules: list[ModuleType] = []  # of handlers; an application mounts their routes
        for module in (*settings.handlers, *handlers):
            self.load_handlers(module)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Tickwork:
        """The system that the environment describes.

        Without arguments it is one per process, so that every module that asks for it declares its
        handlers on the same one, and its log lines go where ``JOBS_LOG_FORMAT`` says. With
        ``environ`` or overrides it is a new one.
        """
        if environ is not None or overrides:
            return cls(settings=read_settings(environ, **overrides), handlers=())
        with cls._from_env_lock:
            if cls._from_env is None:
                settings = read_settings()
                logs.install(settings)
                bare = cls(settings=replace(settings, handlers=()))
                bare.settings = bare._runtime.settings = settings
                # Known before the modules are imported: they ask for it themselves.
                cls._from_env = bare
                try:
                    for module in settings.handlers:
                        bare.load_handlers(module)
                except BaseException:
                    cls._from_env = None
                    raise
            return cls._from_env

    # -- handlers ------------------------------------------------------------------------------

    def handler(
        self,
        kind: str,
        *,
        queue: str = DEFAULT_QUEUE,
        priority: int | None = None,
        max_attempts: int | None = None,
        backoff: BackoffLike | BackoffCallable | None = None,
        timeout: float | None = None,
        transactional: bool = False,
        api: bool = False,
        remove_on_complete: RetentionLike | None = None,
        remove_on_fail: RetentionLike | None = None,
        version: int = 1,
        upgrade: Upgrade | None = None,
        max_continues: int | None = None,
        max_age: float | None = None,
        dedupe_key: Callable[[Any], str | None] | None = None,
        dedupe_window: float | None = None,
        max_concurrency: int | None = None,
        rate_limit: RateLike | None = None,
        concurrency_key: ConcurrencyKey | None = None,
        max_concurrency_per_key: int | None = None,
        rate_limit_per_key: RateLike | None = None,
        concurrency_in_process: int | None = None,
        breaker: Breaker | None = None,
        log_context: LogContext | None = None,
        metrics: str | None = None,
        redact: Collection[str] = (),
    ) -> Callable[[Callable[..., Any]], Handler]:
        """Declare a function as the handler of a kind.

        ``timeout`` in seconds; ``max_attempts`` counts the first execution; ``transactional`` gives
        it ``ctx.session``, whose writes commit together with the job's completion; ``api`` lets the
        kind be enqueued over HTTP. Left out, the settings' defaults hold. ``dedupe_key`` makes the
        key that a job is unique by from its payload, held for ``dedupe_window`` seconds.

        ``max_concurrency`` is how many of its jobs run at once over all processes, ``rate_limit``
        how many start in a while (``"100/s"``, ``"10/m"``, ``"3/10s"``); with ``_per_key`` the same
        for each concurrency key, which ``concurrency_key`` makes from the payload where ``enqueue``
        is given none. ``concurrency_in_process`` is how many run at once in one process;
        ``breaker`` is a :class:`~jobs.core.limits.Breaker`.

        ``redact`` names fields of payload and result that nobody is shown, beside those that are
        hidden anyway (``password``, ``token``, ...; see :mod:`jobs.core.redact`).

        ``version`` is that of the kind's payloads: rows of an older one go through
        ``upgrade(payload, from_version)`` before they run. A job may be put off (Snooze, Continue)
        ``max_continues`` times, 1,000 by default, until it is ``max_age`` seconds old, by default
        seven days.

        Logs show nothing of a payload but what ``log_context`` says: a list of its keys, or a
        function of the payload that returns a dict. With ``metrics="export"`` the ends of its jobs
        are logged as counters, ``export.success`` and ``export.error``, and a time,
        ``export.duration``.
        """
        declare = declare_handler(
            kind,
            queue=queue,
            priority=priority,
            max_attempts=max_attempts,
            backoff=backoff,
            timeout=timeout,
            transactional=transactional,
            api=api,
            remove_on_complete=remove_on_complete,
            remove_on_fail=remove_on_fail,
            version=version,
            upgrade=upgrade,
            max_continues=max_continues,
            max_age=max_age,
            dedupe_key=dedupe_key,
            dedupe_window=dedupe_window,
            max_concurrency=max_concurrency,
            rate_limit=rate_limit,
            concurrency_key=concurrency_key,
            max_concurrency_per_key=max_concurrency_per_key,
            rate_limit_per_key=rate_limit_per_key,
            concurrency_in_process=concurrency_in_process,
            breaker=breaker,
            log_context=log_context,
            metrics=metrics,
            redact=redact,
        )
        return lambda function: self.register(declare(function))

    def register(self, declared: Handler) -> Handler:
        """Bind a handler to this system."""
        if declared.transactional and Capability.TRANSACTIONS not in self.store.capabilities:
            raise CapabilityError(
                f"kind {declared.kind!r} is transactional, which the in-memory stub cannot be: "
                "set DATABASE_URL (sqlite:///dev.db will do)"
            )
        declared.system = self
        return self.registry.add(declared)

    def register_handler(self, kind: str, function: Callable[..., Any], **options: Any) -> Handler:
        """Forerunners' ``registerHandler``: a plain call in place of the decorator."""
        return self.handler(kind, **options)(function)

    def load_handlers(self, module_name: str) -> list[Handler]:
        """Import a module and bind the handlers it declares; returns those bound."""
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
                raise ConfigurationError(
                    f"JOBS_HANDLERS: there is no module {module_name!r} on the import path"
                ) from error
            raise
        if module not in self.modules:
            self.modules.append(module)
        found = [value for value in vars(module).values() if isinstance(value, Handler)]
        for declared in found:
            if declared.system is not self:
                self.register(declared)
        return found

    # -- enqueue -------------------------------------------------------------------------------

    def enqueue(
        self,
        kind: str,
        payload: object = None,
        *,
        session: Any = None,
        **options: Unpack[EnqueueOptions],
    ) -> Job:
        """Enqueue one job; when this returns, the job is durable (with a session: in its hands).

        Options: ``queue``, ``priority`` (1 first to 5 last), ``delay`` (seconds) or ``run_at`` (an
        aware datetime), ``max_attempts``, ``timeout`` (seconds), ``backoff``, ``expires_in``
        (seconds; not started by then, it is cancelled), ``tenant``, ``concurrency_key`` (jobs of
        one share the kind's limits per key), ``group=None`` (keeps it out of the group of the job
        whose handler enqueues it), ``version`` of the payload (by default that of the kind's
        handler here). ``session`` takes a SQLAlchemy
        Session, scoped_session or Connection: the job commits with it or not at all; the id is
        known at once, the doorbell is rung and the listeners are told once it has committed. For
        what must not break a request, see :meth:`try_enqueue`.

        While another job of the tenant and kind holds ``dedupe_key``, or one of the tenant has the
        ``job_id`` (a name of the caller's own), nothing is enqueued and that job is returned, with
        ``existing`` true. The key is held while its job lives, and for ``dedupe_window`` seconds
        (an hour by default) unless it failed or was cancelled. ``replace`` gives that job, if it
        still waits, the new payload, run_at and priority, or those that it lists; ``debounce``
        (seconds) puts it off and gives it the payload, at most until ``debounce_max`` seconds after
        it was first enqueued.

        Raises :class:`~jobs.core.errors.PayloadError` for a payload that cannot be stored,
        :class:`~jobs.core.errors.ConfigurationError` for options that make no sense.
        """
        with enqueueing() as span:
            new = build_job(self._runtime, kind, payload, options)
            job = self.store.insert([new], session)[0]
            span.tell(job)
        if not job.existing:
            self._announce([new], session)
        return job

    def try_enqueue(
        self,
        kind: str,
        payload: object = None,
        *,
        session: Any = None,
        **options: Unpack[EnqueueOptions],
    ) -> Job | None:
        """As :meth:`enqueue`, but a failure is logged and ``None`` returned.

        For side effects that must not break a request; a job that matters is enqueued with
        :meth:`enqueue`. With a session, a refused insert leaves the caller's transaction usable.
        """
        # In a savepoint: a refused insert would otherwise spoil the whole transaction.
        try:
            with session.begin_nested() if session is not None else nullcontext():
                return self.enqueue(kind, payload, session=session, **options)
        except Exception:
            log.exception("a job of kind %r was not enqueued", kind)
            return None

    async def aenqueue(
        self,
        kind: str,
        payload: object = None,
        *,
        session: Any = None,
        **options: Unpack[EnqueueOptions],
    ) -> Job:
        """As :meth:`enqueue`, from async code, in an AsyncSession's or AsyncConnection's hands."""
        import asyncio  # late: producers without async code never load it

        if session is None:
            return await asyncio.to_thread(lambda: self.enqueue(kind, payload, **options))
        if not hasattr(session, "run_sync"):
            raise CapabilityError(
                "aenqueue's session is an AsyncSession or AsyncConnection; "
                "use enqueue() with a plain one"
            )
        with enqueueing() as span:
            new = build_job(self._runtime, kind, payload, options)
            job = (await self.store.ainsert([new], session))[0]
            span.tell(job)
        if not job.existing:
            self._announce([new], session)
        return job

    def enqueue_many(
        self,
        jobs: Iterable[JobLike],
        *,
        session: Any = None,
        **options: Unpack[EnqueueOptions],
    ) -> list[str]:
        """Enqueue many jobs, all or none, by the fastest way the database has; returns their ids.

        Each is ``(kind, payload)``, ``(kind, payload, options)`` or a dict with ``kind``,
        ``payload`` and options; ``options`` given here hold for all. The input may be a generator.
        A job that there is already (see :meth:`enqueue`) stands there with the id of that one.
        """
        ids: list[str] = []
        existing: dict[str, str] = {}
        told: list[Enqueued] = []
        heard = is_heard(self._runtime)

        def built() -> Iterator[NewJob]:
            fresh = _endless_ids()
            drafts: dict[str, Draft] = {}  # of those that have no options of their own
            for kind, payload, own in map(as_parts, jobs):
                if own:
                    merged: Any = {**options, **own}
                    made = draft(self._runtime, kind, merged)
                else:
                    known = drafts.get(kind)
                    made = known or drafts.setdefault(kind, draft(self._runtime, kind, options))
                new = made.job(next(fresh), payload)
                ids.append(new.id)
                if heard:
                    told.append(Enqueued.of(self._runtime, new))
                yield new

        with enqueueing() as span:
            self.store.insert_many(built(), session, existing=existing)
            span.tell(count=len(ids) - len(existing))
        if existing:
            told = [each for each in told if each.id not in existing]
            ids = [existing.get(job_id, job_id) for job_id in ids]
        if told:
            self._tell_when_committed(told, session)
        return ids

    def chain(
        self,
        steps: Sequence[JobLike | str],
        *,
        session: Any = None,
        **options: Unpack[EnqueueOptions],
    ) -> Job:
        """Enqueue jobs that run one after the other; returns the first.

        Each step is a kind, ``(kind, payload)`` or ``(kind, payload, options)``; ``options`` given
        here hold for all, but for ``delay`` and ``run_at``, which are the first one's. A step is
        enqueued in the transaction that completes the one before. A result that is an object
        updates its payload; any other, but none, is its ``previous``. A step that fails for good
        stops the chain, and retried it goes on.

        Raises as :meth:`enqueue`; typed payloads of later steps are checked when they run.
        """
        with enqueueing() as span:
            new = build_chain(self._runtime, steps, options)
            job = self.store.insert([new], session)[0]
            span.tell(job)
        if not job.existing:
            self._announce([new], session)
        return job

    def group(
        self,
        jobs: Iterable[JobLike] | None = None,
        *,
        on_success: JobLike | str | None = None,
        on_failure: JobLike | str | None = None,
        on_done: JobLike | str | None = None,
        name: str | None = None,
        session: Any = None,
        **options: Unpack[EnqueueOptions],
    ) -> GroupBuilder:
        """Jobs that end together, and what to enqueue when the last of them has ended.

        >>> with tickwork.group(on_done="report") as group:
        ...     group.enqueue("resize", {"n": 1})

        All is written when the block ends, or at once if ``jobs`` are given. Jobs that the group's
        own jobs enqueue join it (``group=None`` keeps one out). ``on_success`` is enqueued if all
        completed, else ``on_failure``, and ``on_done`` in either case: once, whatever becomes of
        the jobs later. Each is a kind or ``(kind, payload[, options])``, and finds in its payload,
        as ``group``, which one ended and how.
        """
        builder = GroupBuilder(
            self._runtime,
            on_success=on_success,
            on_failure=on_failure,
            on_done=on_done,
            name=name,
            session=session,
            options=options,
        )
        if jobs is not None:
            builder.enqueue_many(jobs)
            builder.write()
        return builder

    def on(self, name: EventName, listener: Listener) -> Listener:
        """Call ``listener(event)`` at every completed, failed, retried, progress, ... of a job."""
        return self._runtime.events.on(name, listener)

    # -- run -----------------------------------------------------------------------------------

    def tick(
        self,
        limit: int | None = None,
        time_budget: float | None = None,
        tick_limit: float | None = None,
        concurrency: int | None = None,
        begun: float | None = None,
        look_ahead: bool = False,
        trigger: str = "call",
    ) -> TickResult:
        """One run of the loop: claim up to ``limit`` due jobs, run them, write down what happened.

        ``time_budget`` (seconds) is when it stops starting jobs, ``tick_limit`` when the platform
        would kill it, both counted from ``begun``: when the invocation began, in monotonic seconds
        (now by default). With ``look_ahead`` the result's ``next_due_at`` says when there will be
        something to do, for a statement more. The tick is recorded with its ``trigger``, one of
        :data:`jobs.core.measure.TRIGGERS`. Safe to call from several processes at once.
        """
        _check_limit(limit)
        with self._unreachable.watched(self.clock.monotonic()):
            return run_tick(
                self._runtime,
                limit=limit,
                time_budget=time_budget,
                tick_limit=tick_limit,
                slots=concurrency,
                begun=begun,
                counts_left=can_chain(self._runtime),
                looks_ahead=look_ahead,
                trigger=trigger,
            )

    def go_on(self, result: TickResult, chain: str | None = None) -> bool:
        """Start the next tick if this one left work: what a server does before it answers.

        ``chain`` is what the request's header ``Tickwork-Chain`` says. Needs ``JOBS_KICK_URL``, and
        does nothing without it. Returns whether a tick was started.
        """
        return chain_on(self._runtime, result, Link.parse(chain)) is not None

    def deliver(self, deliveries: Sequence[Delivery], budget: Budget) -> dict[int, Fate]:
        """Run the jobs that messages name, inside ``budget``; returns each message's fate by key.

        For consumers of a queue: the row decides what runs, and the fate says whether the message
        has more to say. See :func:`jobs.runtime.deliver.run_deliveries`.
        """
        if self._consuming is None:
            # Its messages stay on the queue, so nobody rings for jobs that go back to waiting.
            self._consuming = replace(self._runtime, rings_settled=False)
        from jobs.runtime.deliver import run_deliveries  # late: for consumers of messages alone

        return run_deliveries(self._consuming, deliveries, budget)

    def drain(
        self,
        limit: int | None = None,
        time_budget: float | None = None,
        tick_limit: float | None = None,
        concurrency: int | None = None,
        trigger: str = "call",
    ) -> list[TickResult]:
        """Tick after tick, up to ``limit`` jobs each, until nothing is due; the ticks' results.

        The next tick begins while the last one writes its results down, but handlers of two ticks
        never run side by side. Stops when a tick only put off what is due: the last result then
        says what remains. ``time_budget`` and ``tick_limit`` (seconds) are those of each tick.
        """
        _check_limit(limit)
        with self._unreachable.watched(self.clock.monotonic()):
            return drain(
                self._runtime,
                limit=limit,
                time_budget=time_budget,
                tick_limit=tick_limit,
                slots=concurrency,
                trigger=trigger,
            )

    def process_next_job(self, kind: str | None = None) -> Job | None:
        """Forerunners' ``processNextJob``: run the next due job (of ``kind``), if any."""
        kinds = None if kind is None else frozenset({kind})
        result = run_tick(self._runtime, limit=1, kinds=kinds, overdue_seconds=0.0)
        return self.get(result.jobs[0]) if result.jobs else None

    def process_batch(self, kinds: Sequence[str] | None = None, limit: int = 10) -> list[Job]:
        """Forerunners' ``processBatch``: run up to ``limit`` due jobs; returns them."""
        result = run_tick(
            self._runtime,
            limit=limit,
            kinds=None if kinds is None else frozenset(kinds),
            overdue_seconds=0.0,
        )
        found = (self.get(job_id) for job_id in result.jobs)
        return [job for job in found if job is not None]

    def reclaim(self, older_than: float | timedelta | None = None) -> int:
        """Put back jobs whose lease ran out; every tick does this by itself. Returns how many.

        With ``older_than`` (seconds or a timedelta) also those that have been running for so long
        though their lease still holds: for a runner known to be dead. If it is not, the job may run
        twice at once; the first one's result is refused.
        """
        reclaimed = reclaim(self._runtime)
        if older_than is not None:
            reclaimed += steer.reset_stuck(self._runtime, older_than)
        return reclaimed

    def start(self) -> None:
        """Start the local runner: ticks every ``JOBS_POLL_INTERVAL`` seconds in this process."""
        if self._local is None:
            from jobs.runtime.local import LocalRunner  # late: it needs the extra `local`

            self._local = LocalRunner(self._runtime)
        self._local.start()

    def stop(self, timeout_seconds: float | None = None) -> bool:
        """Stop the local runner; jobs that run end first, within ``timeout_seconds`` if given.

        Returns whether they have ended; one that has not runs on, as long as the process does.
        """
        return self._local is None or self._local.stop(timeout_seconds)

    def worker(
        self,
        *,
        concurrency: int | None = None,
        kinds: Iterable[str] | None = None,
        queues: Iterable[str] | None = None,
        when_ended: Callable[[], None] | None = None,
    ) -> Worker:
        """The worker of this process, not started yet: what ``tickwork worker`` runs.

        ``concurrency`` is how many jobs run at once (``JOBS_CONCURRENCY`` by default); ``kinds``
        and ``queues`` are those it takes jobs of, all by default. With ``JOBS_NOTIFY`` it is woken
        by PostgreSQL. Stopped, it starts no more, nor does anything else in this process.
        """
        from jobs.runtime.worker import Worker  # late: most processes run none

        return Worker(
            self._runtime,
            slots=concurrency,
            kinds=None if kinds is None else frozenset(kinds),
            queues=None if queues is None else frozenset(queues),
            listener=self._make_listener(),
            when_ended=when_ended,
        )

    def _make_listener(self) -> Any:
        if not self.settings.notify or _notify_engine(self.store) is None:
            return None
        from jobs.doorbells.postgres import NotifyListener  # late: only workers with JOBS_NOTIFY

        return NotifyListener(_notify_engine(self.store), _channel(self.settings))

    def stop_starting(self, give_up_seconds: float | None = None) -> None:
        """Start no more jobs in this process, for good: what a server calls before it ends.

        Ticks that run hand back what they have not begun, attempt included, and end with the jobs
        that run; later ones claim nothing. With ``give_up_seconds``, what still runs by then is
        given up on and retried as after a timeout, which costs the attempt: for a process that is
        killed soon, whose jobs would else wait for their leases.
        """
        if give_up_seconds is not None:
            give_up_at = self.clock.monotonic() + give_up_seconds
            for runtime in filter(None, (self._runtime, self._consuming)):
                runtime.give_up_at = min(runtime.give_up_at, give_up_at)
        self._runtime.stopping.set()

    @property
    def is_running(self) -> bool:
        """Whether the local runner runs."""
        return self._local is not None and self._local.is_running

    # -- parts ---------------------------------------------------------------------------------

    def create_schema(self) -> None:
        """Make the missing tables: for development and tests (`tickwork db upgrade` elsewhere)."""
        self.store.create_schema()

    def close(self) -> None:
        """Stop the local runner and give back connections."""
        self.stop()
        self._runtime.loop.close()
        if callable(close_doorbell := getattr(self._runtime.doorbell, "close", None)):
            close_doorbell()
        self.store.close()


def _open_store(settings: Settings, database: Any, clock: Clock) -> Store:
    if database is None or isinstance(database, str):
        if settings.backend == "memory":
            from jobs.stores.memory import MemoryStore

            stub = _sealed(MemoryStore, settings)
            return stub(namespace=settings.namespace, clock=clock)
        database = settings.database_url
    from jobs.stores.sql import ANSWER_SECONDS, SqlStore  # late: the stub needs no SQLAlchemy

    return _sealed(SqlStore, settings)(
        database,
        namespace=settings.namespace,
        prefix=settings.table_prefix,
        schema=settings.schema,
        clock=clock,
        # A few silences and what they cost fit into a tick.
        answer_seconds=min(ANSWER_SECONDS, max(settings.tick_limit / 4, LEAST_ANSWER_SECONDS)),
    )


def _sealed(store: Callable[..., Store], settings: Settings) -> Callable[..., Store]:
    """The store as it is, or with encrypted rows if there are keys."""
    if not settings.encryption_keys:
        return store
    from jobs.stores.sealing import sealed  # late: most deployments encrypt nothing

    encrypted: Callable[..., Store] = sealed(cast(type, store), settings.encryption_keys)
    return encrypted


def _make_doorbell(settings: Settings, store: Store) -> Doorbell:
    first = _make_first_doorbell(settings)
    engine = _notify_engine(store) if settings.notify else None
    if engine is None:
        return first
    from jobs.doorbells.postgres import Doorbells, NotifyDoorbell  # late: only with JOBS_NOTIFY

    second = NotifyDoorbell(engine, _channel(settings))
    return second if isinstance(first, SilentDoorbell) else Doorbells(first, second)


def _notify_engine(store: Store) -> Any:
    """The store's engine, if it is one that can LISTEN and NOTIFY."""
    engine = getattr(store, "engine", None)
    is_psycopg = engine is not None and engine.name == "postgresql" and engine.driver == "psycopg"
    return engine if is_psycopg else None


def _channel(settings: Settings) -> str:
    from jobs.doorbells.postgres import channel_of  # late, as above

    return channel_of(settings.table_prefix, settings.namespace, settings.schema)


def _make_first_doorbell(settings: Settings) -> Doorbell:
    if settings.backend == "sql" and settings.kick_url is not None:
        return _make_kick(settings)
    if settings.backend != "sqs" or settings.sqs_queue_url is None:
        return SilentDoorbell()
    from jobs.doorbells.sqs import SqsDoorbell  # late: most deployments have no queue

    return SqsDoorbell(settings.sqs_queue_url, namespace=settings.namespace)


def _make_heartbeat(settings: Settings) -> Callable[[bool], None] | None:
    if settings.heartbeat_url is None:
        return None
    from jobs.doorbells.heartbeat import Heartbeat  # late: only those with a watchdog

    return Heartbeat(settings.heartbeat_url)


def _make_kick(settings: Settings) -> Doorbell:
    secret = settings.cron_secret
    assert settings.kick_url is not None
    if not secret:
        log.warning("nothing is kicked: JOBS_KICK_URL needs CRON_SECRET, which the tick asks for")
        return SilentDoorbell()
    if not secret.isprintable():
        log.warning("nothing is kicked: CRON_SECRET holds a character that no header may have")
        return SilentDoorbell()
    from jobs.doorbells.http import KickDoorbell  # late: only those with a URL of their own

    return KickDoorbell(
        settings.kick_url,
        secret,
        debounce_seconds=settings.kick_debounce,
        answer_seconds=settings.tick_limit + ANSWER_MARGIN_SECONDS,
        bypass_secret=settings.bypass_secret,
    )


def _endless_ids() -> Iterator[str]:
    while True:
        yield from new_ids(256)


def _check_limit(limit: int | None) -> None:
    if limit is not None and limit < 1:
        raise ConfigurationError(f"limit is 1 or more, not {limit!r}")
