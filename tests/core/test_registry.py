"""Handlers: what may be one, what it is given, and where it is looked up."""

from __future__ import annotations

import asyncio
import functools
import math
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import pytest

from jobs.core.backoff import Backoff, exponential, fixed, steps
from jobs.core.context import JobContext
from jobs.core.errors import ConfigurationError, UnknownKind
from jobs.core.job import Job
from jobs.core.registry import (
    Handler,
    Registry,
    Retention,
    as_retention,
    check_max_attempts,
    check_priority,
    check_timeout,
    handler,
)

if TYPE_CHECKING:
    from somewhere import OnlyForTypes  # type: ignore[import-not-found]

ROOT = Path(__file__).parents[2]


@dataclass
class Order:
    id: str


class Visit(TypedDict):
    page: str


# -- signatures --------------------------------------------------------------------------------


def nothing() -> None: ...
def payload_only(payload: dict[str, Any]) -> None: ...
def bare(payload): ...  # type: ignore[no-untyped-def]
def both(payload: dict[str, Any], ctx: JobContext) -> None: ...
def bare_both(data, anything): ...  # type: ignore[no-untyped-def]
def context_only(ctx: JobContext) -> None: ...
def context_by_name(ctx): ...  # type: ignore[no-untyped-def]
def context_spelt_out(context): ...  # type: ignore[no-untyped-def]
def named_like_a_context(context: dict[str, Any]) -> None: ...
def annotated_context(whatever: JobContext) -> None: ...
def optional_context(payload: dict[str, Any], ctx: JobContext | None = None) -> None: ...
def context_with_default(payload, ctx=None): ...  # type: ignore[no-untyped-def]
def other_default(payload: dict[str, Any], dry_run: bool = False) -> None: ...
def optional_payload(payload: dict[str, Any] | None = None) -> None: ...
def payload_and_more(payload: dict[str, Any], *more: Any, **rest: Any) -> None: ...
def variadic(*anything: Any) -> None: ...
def keywords_with_defaults(payload: dict[str, Any], *, dry_run: bool = False) -> None: ...
def positional_only(payload: dict[str, Any], ctx: JobContext, /) -> None: ...
def typed(order: Order) -> None: ...
def typed_dict(visit: Visit, ctx: JobContext) -> None: ...
def unresolvable(order: Order, ctx: OnlyForTypes) -> None: ...
def unresolvable_context(ctx: somewhere.JobContext) -> None: ...  # type: ignore[name-defined]  # noqa: F821
async def async_both(payload: Order, ctx: JobContext) -> None: ...


class Stateful:
    def __call__(self, order: Order, ctx: JobContext) -> None: ...

    def method(self, order: Order, ctx: JobContext) -> None: ...

    @staticmethod
    def static(order: Order) -> None: ...

    @classmethod
    def of_class(cls, order: Order) -> None: ...


class AsyncStateful:
    async def __call__(self, order: Order) -> None: ...


@functools.wraps(async_both)
def wrapped(*args: Any, **kwargs: Any) -> Any:
    return async_both(*args, **kwargs)


# The function; does it take the payload, and the context; the payload's type; is it async.
SIGNATURES: list[tuple[Any, bool, bool, Any, bool]] = [
    (nothing, False, False, None, False),
    (payload_only, True, False, None, False),
    (bare, True, False, None, False),
    (both, True, True, None, False),
    (bare_both, True, True, None, False),
    (context_only, False, True, None, False),
    (context_by_name, False, True, None, False),
    (context_spelt_out, False, True, None, False),
    (named_like_a_context, True, False, None, False),
    (annotated_context, False, True, None, False),
    (optional_context, True, True, None, False),
    (context_with_default, True, True, None, False),
    (other_default, True, False, None, False),
    (optional_payload, True, False, None, False),
    (payload_and_more, True, False, None, False),
    (variadic, True, False, None, False),
    (keywords_with_defaults, True, False, None, False),
    (positional_only, True, True, None, False),
    (typed, True, False, Order, False),
    (typed_dict, True, True, Visit, False),
    (unresolvable, True, True, Order, False),
    (unresolvable_context, False, True, None, False),
    (async_both, True, True, Order, True),
    (lambda payload: payload, True, False, None, False),
    (lambda: None, False, False, None, False),
    (Stateful(), True, True, Order, False),
    (Stateful().method, True, True, Order, False),
    (Stateful.static, True, False, Order, False),
    (Stateful.of_class, True, False, Order, False),
    (AsyncStateful(), True, False, Order, True),
    (functools.partial(typed), True, False, Order, False),
    (functools.partial(both, ctx=None), True, False, None, False),
    (functools.partial(async_both), True, True, Order, True),
    (wrapped, True, True, Order, False),
    (print, True, False, None, False),
    (max, True, False, None, False),
    (dict.fromkeys, True, False, None, False),
]


@pytest.mark.parametrize(
    ("function", "takes_payload", "takes_context", "payload_type", "is_async"),
    SIGNATURES,
    ids=[getattr(case[0], "__name__", type(case[0]).__name__) for case in SIGNATURES],
)
def test_signature(
    function: Any, takes_payload: bool, takes_context: bool, payload_type: Any, is_async: bool
) -> None:
    declared = Handler("k", function)

    assert declared.takes_payload == takes_payload
    assert declared.takes_context == takes_context
    assert declared.payload_type is payload_type
    assert declared.is_async == is_async


def three(payload: object, ctx: object, more: object) -> None: ...
def keyword_only(payload: object, *, session: object) -> None: ...
def other_way_round(ctx: JobContext, payload: dict[str, Any]) -> None: ...


def generator(payload: object) -> Iterator[int]:
    yield 1


async def async_generator(payload: object) -> AsyncIterator[int]:
    yield 1


@functools.wraps(generator)
def wrapped_generator(payload: object) -> Iterator[int]:
    return generator(payload)


@pytest.mark.parametrize(
    "function",
    [
        *(three, keyword_only, other_way_round),
        *(generator, async_generator, wrapped_generator),
        *(None, "shop.tasks.export", 5, {"a": 1}, asyncio),
    ],
    ids=lambda function: getattr(function, "__name__", str(function)),
)
def test_what_cannot_be_a_handler_is_refused(function: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^kind 'mail': a handler "):
        Handler("mail", function)


@pytest.mark.parametrize("function", [async_both, AsyncStateful(), functools.partial(async_both)])
def test_a_transactional_handler_is_not_async(function: Any) -> None:
    with pytest.raises(ConfigurationError, match="transactional handler is a plain function"):
        Handler("k", function, transactional=True)


# -- declaring ---------------------------------------------------------------------------------


def test_a_declared_function_can_still_be_called() -> None:
    @handler("double", timeout=5)
    def double(payload: int, ctx: JobContext | None = None) -> int:
        """Twice as much."""
        return payload * 2

    assert double(4) == 8
    assert double(payload=5, ctx=None) == 10
    assert double.__name__ == "double"
    assert double.__doc__ == "Twice as much."
    assert double.__wrapped__(6) == 12  # type: ignore[attr-defined]


def test_an_async_function_can_still_be_awaited() -> None:
    @handler("double")
    async def double(payload: int) -> int:
        return payload * 2

    assert asyncio.run(double(4)) == 8


def test_one_function_may_serve_two_kinds() -> None:
    declared = handler("a")(handler("b")(typed))

    assert (declared.kind, declared.payload_type) == ("a", Order)
    assert declared.takes_payload


def test_what_is_left_out_stays_open() -> None:
    declared = handler("k")(nothing)

    assert (declared.queue, declared.priority) == ("default", None)
    assert (declared.max_attempts, declared.backoff, declared.timeout) == (None, None, None)
    assert not declared.transactional
    assert not declared.api


@pytest.mark.parametrize(
    ("written", "policy"),
    [
        (5, fixed(5.0)),
        ([1, 2], steps([1, 2])),
        (exponential(3), exponential(3)),
        ({"type": "exponential", "delay": 2000}, exponential(2.0, jitter=0)),
    ],
    ids=str,
)
def test_backoff_in_every_form(written: Any, policy: Backoff) -> None:
    assert handler("k", backoff=written)(nothing).backoff == policy


def test_a_callable_backoff_stays_itself() -> None:
    def policy(job: Any) -> float:
        return 60.0

    assert handler("k", backoff=policy)(nothing).backoff is policy


@pytest.mark.parametrize(
    "options",
    [
        {"queue": "all"},
        {"queue": "a b"},
        {"queue": ""},
        {"priority": 0},
        {"priority": 6},
        {"priority": 2.5},
        {"priority": "1"},
        {"priority": True},
        {"max_attempts": 0},
        {"max_attempts": -1},
        {"max_attempts": 100_001},
        {"max_attempts": True},
        {"max_attempts": 3.0},
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": math.nan},
        {"timeout": math.inf},
        {"timeout": 7 * 86_400 + 1},
        {"timeout": 10**400},
        {"timeout": "60"},
        {"timeout": True},
        {"backoff": -1},
        {"backoff": "fast"},
        {"backoff": []},
        {"remove_on_complete": {"days": 1}},
        {"remove_on_fail": {"age": -1}},
    ],
    ids=str,
)
def test_wrong_options_are_refused(options: Any) -> None:
    with pytest.raises(ConfigurationError):
        handler("k", **options)(nothing)


@pytest.mark.parametrize("kind", ["", "a b", "a/b", None, 5])
def test_a_wrong_kind_is_refused(kind: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^kind "):
        handler(kind)(nothing)


def test_the_bounds_themselves_are_good() -> None:
    assert [check_priority(n) for n in (1, 5)] == [1, 5]
    assert [check_max_attempts(n) for n in (1, 100_000)] == [1, 100_000]
    assert [check_timeout(n) for n in (0.001, 7 * 86_400)] == [0.001, 7 * 86_400.0]


def test_a_handler_without_a_system_says_how_to_bind_it() -> None:
    declared = handler("k")(nothing)

    with pytest.raises(ConfigurationError, match="JOBS_HANDLERS"):
        declared.enqueue({})
    with pytest.raises(ConfigurationError, match="JOBS_HANDLERS"):
        declared.enqueue_many([{}])
    with pytest.raises(ConfigurationError, match="JOBS_HANDLERS"):
        asyncio.run(declared.aenqueue({}))


class Producer:
    """What a handler asks of the system it is bound to."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def enqueue(self, kind: str, payload: object = None, **options: Any) -> Job:
        self.asked.append((kind, payload, options))
        return "job"  # type: ignore[return-value]

    async def aenqueue(self, kind: str, payload: object = None, **options: Any) -> Job:
        return self.enqueue(kind, payload, **options)

    def enqueue_many(self, jobs: Any, **options: Any) -> list[str]:
        self.asked.append((list(jobs), options))
        return ["id"]


def test_a_bound_handler_enqueues_its_kind() -> None:
    declared = handler("k")(nothing)
    producer = declared.system = Producer()

    assert declared.enqueue({"a": 1}, delay=5) == "job"
    assert asyncio.run(declared.aenqueue()) == "job"
    assert declared.enqueue_many([{"a": 1}, {"a": 2}], priority=1) == ["id"]
    assert producer.asked == [
        ("k", {"a": 1}, {"delay": 5}),
        ("k", None, {}),
        ([("k", {"a": 1}), ("k", {"a": 2})], {"priority": 1}),
    ]


# -- retention ---------------------------------------------------------------------------------

DEFAULT = Retention(86_400.0)


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        (None, DEFAULT),
        (True, Retention(age_seconds=0.0)),
        (False, Retention()),
        ({"age": 3600}, Retention(3600.0)),
        ({"count": 1000}, Retention(None, 1000)),
        ({"age": 3600, "count": 1000}, Retention(3600.0, 1000)),
        ({}, Retention()),
        ({"age": 0, "count": 0}, Retention(0.0, 0)),
        (Retention(5.0), Retention(5.0)),
    ],
    ids=str,
)
def test_retention(written: Any, kept: Retention) -> None:
    assert as_retention(written, DEFAULT) == kept


@pytest.mark.parametrize(
    "written",
    [
        {"days": 1},
        {"age": -1},
        {"age": "1d"},
        {"age": math.nan},
        {"age": math.inf},
        {"age": True},
        {"count": -1},
        {"count": 2.5},
        {"count": "many"},
        5,
        "1d",
        ["age"],
    ],
    ids=str,
)
def test_wrong_retention_is_refused(written: Any) -> None:
    with pytest.raises(ConfigurationError, match="retention"):
        as_retention(written, DEFAULT)


# -- the registry ------------------------------------------------------------------------------


def test_look_up() -> None:
    registry = Registry()
    mail, export = handler("mail")(nothing), handler("export")(payload_only)
    registry.add(mail)
    registry.add(export)

    assert registry.get("mail") is mail
    assert registry.find("export") is export
    assert registry.find("nope") is None
    assert registry.kinds == {"mail", "export"}
    assert list(registry) == [mail, export]
    assert len(registry) == 2


def test_an_unknown_kind_lists_the_known_ones() -> None:
    registry = Registry()
    with pytest.raises(UnknownKind, match="registered: none"):
        registry.get("mail")
    registry.add(handler("b")(nothing))
    registry.add(handler("a")(nothing))

    with pytest.raises(UnknownKind, match=r"registered: a, b\)") as caught:
        registry.get("mail")
    assert (caught.value.kind, caught.value.known) == ("mail", ("a", "b"))
    assert isinstance(caught.value, LookupError)


def test_a_kind_has_one_handler() -> None:
    registry = Registry()
    first = registry.add(handler("mail")(nothing))

    with pytest.raises(ConfigurationError, match="two handlers") as caught:
        registry.add(handler("mail")(payload_only))
    assert "test_registry.nothing" in str(caught.value)
    assert "test_registry.payload_only" in str(caught.value)
    assert registry.get("mail") is first


def test_the_same_function_again_takes_its_place() -> None:
    """A reloader imports a module twice."""
    registry = Registry()
    registry.add(handler("mail")(nothing))
    again = registry.add(handler("mail", priority=1)(nothing))

    assert registry.add(again) is again
    assert registry.get("mail") is again
    assert len(registry) == 1


def test_a_name_only_a_type_checker_sees_costs_nothing_on_any_python() -> None:
    """With annotations that Python evaluates late (3.14) or keeps as text."""
    program = """
from __future__ import annotations
from dataclasses import dataclass
from jobs.core.registry import Handler
@dataclass
class Order:
    id: str
def run(order: Order, ctx: Missing) -> AlsoMissing: ...
declared = Handler("k", run)
print(declared.payload_type is Order, declared.takes_context)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)

    assert run.stdout.split() == ["True", "True"], run.stderr
