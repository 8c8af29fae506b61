"""Handlers by kind: what a kind is, how it is declared, and where it is looked up."""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jobs.core.backoff import Backoff, BackoffCallable, BackoffLike, as_backoff
from jobs.core.context import JobContext
from jobs.core.errors import LONGEST_DELAY_SECONDS, ConfigurationError, UnknownKind
from jobs.core.job import DEFAULT_QUEUE, HIGHEST_PRIORITY, LOWEST_PRIORITY, Job
from jobs.core.limits import Breaker, Limit, RateLike, as_rate, check_at_once
from jobs.core.loglines import LogContext, check_log_context, plain_fields
from jobs.core.names import check_kind, check_queue
from jobs.core.payload import load, payload_type

if TYPE_CHECKING:
    from jobs.core.enqueuer import Enqueuer

DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Retention:
    """How long finished jobs of a kind stay: seconds since their finish, and how many at most.

    ``None`` means without that limit.
    """

    age_seconds: float | None = None
    count: int | None = None

    def __post_init__(self) -> None:
        age, count = self.age_seconds, self.count
        for name, number in (("age", age), ("count", count)):
            is_number = isinstance(number, int | float) and not isinstance(number, bool)
            if number is not None and not (is_number and 0 <= number < math.inf):
                raise ConfigurationError(f"retention {name} is a number of 0 or more: {number!r}")
        if count is not None and count != int(count):
            raise ConfigurationError(f"retention count is a whole number: {count!r}")


# The payload of an older version, and which: to the payload of today.
Upgrade = Callable[[dict[str, Any], int], dict[str, Any]]
RetentionLike = bool | Mapping[str, float] | Retention
# From a job's payload, as the handler gets it, to its concurrency key (or to none).
ConcurrencyKey = Callable[[Any], str | None]


def as_retention(value: RetentionLike | None, default: Retention) -> Retention:
    """Bull's forms: ``True`` removes at once, ``False`` keeps, ``{"age": seconds, "count": n}``."""
    if value is None:
        return default
    if isinstance(value, Retention):
        return value
    if isinstance(value, bool):
        return Retention(age_seconds=0.0) if value else Retention()
    given: Any = value
    if not isinstance(given, Mapping) or set(given) - {"age", "count"}:
        raise ConfigurationError(
            f"retention is True, False, or age (seconds) and count, not {given!r}"
        )
    return Retention(given.get("age"), given.get("count"))


@dataclass
class Handler:
    """A function that runs jobs of one kind. Callable as the function itself was.

    Left at ``None``, ``priority``, ``max_attempts``, ``backoff``, ``timeout`` (seconds) and how
    long finished jobs stay come from its queue, or from the settings of the system that the handler
    is registered with. ``dedupe_key`` makes a job's key of its payload (as the handler gets it;
    ``None`` for no key), held for ``dedupe_window`` seconds. ``log_context`` says what logs may
    show of the payload, ``metrics`` under which name its ends are counted in them.
    """

    kind: str
    function: Callable[..., Any]
    queue: str = DEFAULT_QUEUE
    priority: int | None = None
    max_attempts: int | None = None
    backoff: Backoff | BackoffCallable | None = None
    timeout: float | None = None
    transactional: bool = False
    api: bool = False
    remove_on_complete: RetentionLike | None = None
    remove_on_fail: RetentionLike | None = None
    version: int = 1
    upgrade: Upgrade | None = None
    max_continues: int | None = None
    max_age: float | None = None
    dedupe_key: Callable[[Any], str | None] | None = None
    dedupe_window: float | None = None
    max_concurrency: int | None = None
    rate_limit: RateLike | None = None
    concurrency_key: ConcurrencyKey | None = None
    max_concurrency_per_key: int | None = None
    rate_limit_per_key: RateLike | None = None
    concurrency_in_process: int | None = None
    breaker: Breaker | None = None
    log_context: LogContext | None = None
    metrics: str | None = None
    redact: Collection[str] = ()
    system: Any = field(default=None, repr=False)
    payload_type: type | None = field(init=False, default=None)
    takes_payload: bool = field(init=False, default=True)
    takes_context: bool = field(init=False, default=False)
    is_async: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        check_kind(self.kind)
        check_queue(self.queue)
        if self.priority is not None:
            check_priority(self.priority)
        if self.max_attempts is not None:
            check_max_attempts(self.max_attempts)
        if self.timeout is not None:
            check_timeout(self.timeout)
        if self.dedupe_key is not None and not callable(self.dedupe_key):
            raise ConfigurationError(
                f"kind {self.kind!r}: dedupe_key is a function of the payload, as in "
                "lambda payload: payload['id']"
            )
        if self.dedupe_window is not None:
            self.dedupe_window = check_window(self.dedupe_window)
        for retention in (self.remove_on_complete, self.remove_on_fail):
            as_retention(retention, Retention())
        self._check_versions()
        if self.max_continues is not None:
            check_max_continues(self.max_continues)
        if self.max_age is not None:
            check_max_age(self.max_age)
        self._check_limits()
        self.log_context = check_log_context(self.log_context)
        if self.metrics is not None:
            check_kind(self.metrics)
        if isinstance(self.redact, str) or not all(isinstance(name, str) for name in self.redact):
            raise ConfigurationError(
                f"kind {self.kind!r}: redact is names of fields, not {self.redact!r}"
            )
        self._check_callable()
        self.is_async = _is_coroutine_function(self.function)
        if self.transactional and self.is_async:
            raise ConfigurationError(
                f"kind {self.kind!r}: a transactional handler is a plain function; "
                "its session belongs to one thread"
            )
        self._read_signature()

    def _check_versions(self) -> None:
        version = check_version(self.version)
        if self.upgrade is not None and not callable(self.upgrade):
            raise ConfigurationError(
                f"kind {self.kind!r}: upgrade is a function of (payload, from_version), not "
                f"{self.upgrade!r}"
            )
        if version > 1 and self.upgrade is None:
            raise ConfigurationError(
                f"kind {self.kind!r}: version {version} needs upgrade=, a function of (payload, "
                "from_version): jobs of older versions may still wait"
            )

    def _check_limits(self) -> None:
        try:
            for name in ("max_concurrency", "max_concurrency_per_key", "concurrency_in_process"):
                check_at_once(name, getattr(self, name))
            for name in ("rate_limit", "rate_limit_per_key"):
                as_rate(name, getattr(self, name))
        except ConfigurationError as error:
            raise ConfigurationError(f"kind {self.kind!r}: {error}") from None
        if self.concurrency_key is not None and not callable(self.concurrency_key):
            raise ConfigurationError(
                f"kind {self.kind!r}: concurrency_key is a function from the payload to the key, "
                f"not {self.concurrency_key!r}; a fixed key is given to enqueue"
            )
        if self.breaker is not None and not isinstance(self.breaker, Breaker):
            raise ConfigurationError(
                f"kind {self.kind!r}: breaker is a Breaker(...), not {self.breaker!r}"
            )

    @property
    def limit(self) -> Limit:
        """What holds for all jobs of the kind together, over all processes."""
        breaker = self.breaker if self.breaker is not None and not self.breaker.per_key else None
        return Limit(self.max_concurrency, as_rate("rate_limit", self.rate_limit), breaker)

    @property
    def limit_per_key(self) -> Limit:
        """What holds for the jobs of each concurrency key of the kind."""
        breaker = self.breaker if self.breaker is not None and self.breaker.per_key else None
        rate = as_rate("rate_limit_per_key", self.rate_limit_per_key)
        return Limit(self.max_concurrency_per_key, rate, breaker)

    def _check_callable(self) -> None:
        if not callable(self.function):
            raise ConfigurationError(
                f"kind {self.kind!r}: a handler is a function, not {self.function!r}"
            )
        body = inspect.unwrap(self.function)
        if inspect.isgeneratorfunction(body) or inspect.isasyncgenfunction(body):
            raise ConfigurationError(
                f"kind {self.kind!r}: a handler returns its result and does not yield: calling "
                f"{self.function!r} would only make a generator and run nothing"
            )

    def _read_signature(self) -> None:
        try:
            parameters = list(inspect.signature(self.function).parameters.values())
        except (TypeError, ValueError):  # a builtin: give it the payload alone
            return
        hints = _hints(self.function)
        positional = [
            p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        required = [p for p in positional if p.default is p.empty]
        variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        keyword_only = [
            p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty
        ]
        if len(required) > 2 or keyword_only:
            raise ConfigurationError(
                f"kind {self.kind!r}: a handler takes (payload), (payload, ctx) or nothing; "
                f"{self.function!r} wants more"
            )
        first = positional[0] if positional else None
        first_is_context = first is not None and _is_context(first, hints.get(first.name))
        if first_is_context and len(positional) > 1:
            raise ConfigurationError(
                f"kind {self.kind!r}: a handler takes the payload first, then the context: "
                f"{self.function!r} has them the other way round"
            )
        only_context = first_is_context
        self.takes_payload = bool(positional or variadic) and not only_context
        self.takes_context = only_context or (
            len(positional) > 1
            and (len(required) > 1 or _is_context(positional[1], hints.get(positional[1].name)))
        )
        if self.takes_payload and first is not None:
            self.payload_type = payload_type(hints.get(first.name))

    def logged(self, payload: dict[str, Any]) -> dict[str, Any] | None:
        """What logs may show of a payload, by ``log_context``; never raises."""
        said = self.log_context
        if said is None:
            return None
        try:
            if callable(said):
                return plain_fields(said(load(payload, self.payload_type)))
            return plain_fields({key: payload[key] for key in said if key in payload})
        except Exception as error:  # noqa: BLE001 - a function of somebody else's
            return {"logContextError": type(error).__name__}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def enqueue(self, payload: object = None, **options: Any) -> Job:
        """Enqueue a job of this kind; the options are those of ``Tickwork.enqueue``."""
        return self._bound().enqueue(self.kind, payload, **options)

    async def aenqueue(self, payload: object = None, **options: Any) -> Job:
        """Enqueue from async code; the options are those of ``Tickwork.aenqueue``."""
        return await self._bound().aenqueue(self.kind, payload, **options)

    def enqueue_many(self, payloads: list[Any], **options: Any) -> list[str]:
        """Enqueue a job per payload, all with the same options; returns the ids in order."""
        return self._bound().enqueue_many([(self.kind, p) for p in payloads], **options)

    def _bound(self) -> Enqueuer:
        system: Enqueuer | None = self.system
        if system is None:
            raise ConfigurationError(
                f"handler {self.kind!r} belongs to no Tickwork yet: name its module in "
                "JOBS_HANDLERS (or handlers=[...]) or declare it with @tickwork.handler"
            )
        return system


def _is_context(parameter: inspect.Parameter, annotation: object) -> bool:
    if annotation is None or annotation is inspect.Parameter.empty:
        return parameter.name in {"ctx", "context"}
    if isinstance(annotation, str):
        return annotation.removesuffix(" | None").endswith("JobContext")
    return annotation is JobContext or JobContext in typing.get_args(annotation)


def _is_coroutine_function(function: Callable[..., Any]) -> bool:
    # The second half is for objects whose `__call__` is async.
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        type(function).__call__
    )


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations by parameter; one that cannot be resolved stays text, as it was written."""
    inner: Any = inspect.unwrap(function)
    while isinstance(inner, functools.partial):
        inner = inner.func
    if not inspect.isroutine(inner) and not isinstance(inner, type):
        inner = type(inner).__call__
    try:
        return typing.get_type_hints(inner)
    except Exception:  # noqa: BLE001 - a name that only a type checker can see
        written = dict(getattr(inner, "__annotations__", {}))
    # One by one: an import behind TYPE_CHECKING for the context must not cost the payload its type.
    names = getattr(inspect.unwrap(inner), "__globals__", {})
    for name, annotation in written.items():
        holder = type(name, (), {"__annotations__": {name: annotation}})
        with contextlib.suppress(Exception):
            written.update(typing.get_type_hints(holder, globalns=names))
    return written


def handler(
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
    """Declare a handler that belongs to no system yet.

    It is bound when its module is named in ``JOBS_HANDLERS`` (or ``handlers=[...]``), which is how
    a library ships kinds. ``timeout`` is in seconds; ``max_attempts`` counts the first execution.
    ``version`` is that of its payloads, older ones go through ``upgrade(payload, from_version)``.
    ``max_continues`` is how often a job may be put off (Snooze and Continue), ``max_age`` (seconds
    since it was enqueued) how old it may be then.
    The limits are those of ``Tickwork.handler``. ``redact`` names fields of payload and result that
    nobody is shown, beside those that are hidden anyway (``password``, ``token``, ...).

    >>> @handler("resize", timeout=20)
    ... def resize(payload: dict) -> None: ...
    """
    policy = backoff if backoff is None or callable(backoff) else as_backoff(backoff)

    def declare(function: Callable[..., Any]) -> Handler:
        declared = Handler(
            kind,
            function,
            queue=queue,
            priority=priority,
            max_attempts=max_attempts,
            backoff=policy,
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
        functools.update_wrapper(declared, function, updated=())
        return declared

    return declare


class Registry:
    """The kinds this deployment handles."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}
        self.version = 0  # one more with every kind

    def add(self, declared: Handler) -> Handler:
        """Register; a second function under a kind that is taken is a ConfigurationError."""
        present = self._handlers.get(declared.kind)
        if present is not None and present is not declared and not _same(present, declared):
            raise ConfigurationError(
                f"kind {declared.kind!r} has two handlers: {_place(present)} and "
                f"{_place(declared)}; rename one"
            )
        self._handlers[declared.kind] = declared
        self.version += 1
        return declared

    def get(self, kind: str) -> Handler:
        """The handler, or :class:`UnknownKind` that lists what is registered."""
        try:
            return self._handlers[kind]
        except KeyError:
            raise UnknownKind(kind, list(self._handlers)) from None

    def find(self, kind: str) -> Handler | None:
        """The handler, or ``None``."""
        return self._handlers.get(kind)

    @property
    def kinds(self) -> frozenset[str]:
        """Every registered kind."""
        return frozenset(self._handlers)

    def __iter__(self) -> Iterator[Handler]:
        return iter(list(self._handlers.values()))

    def __len__(self) -> int:
        return len(self._handlers)


def _same(one: Handler, other: Handler) -> bool:
    # A module imported twice (a reloader, `python -m`) declares the same function again.
    return _place(one) == _place(other)


def _place(declared: Handler) -> str:
    function = declared.function
    module = getattr(function, "__module__", "?")
    return f"{module}.{getattr(function, '__qualname__', repr(function))}"


def check_priority(priority: object) -> int:
    """The priority, or a ConfigurationError: a whole number of 1 (first) to 5 (last)."""
    if (
        isinstance(priority, bool)
        or not isinstance(priority, int)
        or not HIGHEST_PRIORITY <= priority <= LOWEST_PRIORITY
    ):
        raise ConfigurationError(
            f"priority is a whole number from {HIGHEST_PRIORITY} (first) to {LOWEST_PRIORITY} "
            f"(last), not {priority!r}"
        )
    return priority


def check_max_attempts(attempts: object) -> int:
    """The number of executions in all, first one included: a whole number of 1 to 100,000."""
    if isinstance(attempts, bool) or not isinstance(attempts, int) or not 1 <= attempts <= 100_000:
        raise ConfigurationError(
            f"max_attempts counts all executions: a whole number of 1 or more, not {attempts!r}"
        )
    return attempts


def check_version(version: object) -> int:
    """The version of a kind's payloads: a whole number from 1 on."""
    if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version < 2**31:
        raise ConfigurationError(f"version is a whole number from 1 on, not {version!r}")
    return version


def check_max_continues(count: object) -> int:
    """How often a job may be put off: a whole number of 0 to a million."""
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= 1_000_000:
        raise ConfigurationError(
            "max_continues is how often a job may be put off: a whole number of 0 to 1,000,000, "
            f"not {count!r}"
        )
    return count


def check_max_age(seconds: object) -> float:
    """How old a job may be when it is put off, in seconds: above 0, at most 10 years."""
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not 0 < seconds <= LONGEST_DELAY_SECONDS:  # type: ignore[operator]
        raise ConfigurationError(
            f"max_age is a number of seconds, above 0 and at most 10 years, not {seconds!r}"
        )
    return float(seconds)  # type: ignore[arg-type]


def check_timeout(seconds: object) -> float:
    """A timeout in seconds: above 0, at most 7 days."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise ConfigurationError(f"timeout is a number of seconds, not {seconds!r}")
    if not 0 < seconds <= 7 * DAY_SECONDS:
        raise ConfigurationError(f"timeout is above 0 and at most 7 days, not {seconds!r} seconds")
    return float(seconds)


def check_window(seconds: object) -> float:
    """How long a dedupe key is held at least, in seconds: 0 (while its job lives) to 10 years."""
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not 0 <= seconds <= LONGEST_DELAY_SECONDS:  # type: ignore[operator]
        raise ConfigurationError(
            f"dedupe_window is a number of seconds from 0 to 10 years, not {seconds!r}"
        )
    return float(seconds)  # type: ignore[arg-type]
