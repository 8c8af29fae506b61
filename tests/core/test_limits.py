"""Limits as pure rules: rates as they are written, who may be claimed, a breaker's life."""

from __future__ import annotations

import math
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import Breaker, ConfigurationError, Tickwork
from jobs.core.flow import FLOW_CHARS, TENANT_CHARS, flow_of
from jobs.core.limits import BreakerState, Head, Limit, Limits, Rate, Use, allocate, as_rate

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "rate"),
    [
        ("100/s", (100, 1)),
        ("10/m", (10, 60)),
        ("1000/h", (1000, 3600)),
        ("5/d", (5, 86400)),
        ("3/10s", (3, 10)),
        (" 7 / 2 h ", (7, 7200)),
    ],
)
def test_rates_as_they_are_written(written: str, rate: tuple[int, float]) -> None:
    assert as_rate("rate_limit", written) == rate
    assert as_rate("rate_limit", str(Rate(*rate))) == rate


@pytest.mark.parametrize("written", ["", "100", "0/s", "-1/s", "1/0s", "1/w", "1.5/s", 100, b"1/s"])
def test_other_rates_are_refused_by_name(written: Any) -> None:
    with pytest.raises(ConfigurationError, match="rate_limit"):
        as_rate("rate_limit", written)


@pytest.mark.parametrize(
    "options",
    [
        {"max_concurrency": 0},
        {"max_concurrency": True},
        {"max_concurrency_per_key": -1},
        {"concurrency_in_process": 1.5},
        {"rate_limit": "often"},
        {"rate_limit_per_key": "1/x"},
        {"concurrency_key": "shop-7"},
        {"breaker": 0.5},
    ],
)
def test_a_kind_that_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ConfigurationError, match=f"'greet': {name}"):
        Tickwork().register_handler("greet", lambda payload: None, **options)


@pytest.mark.parametrize(
    "options",
    [{"failure_ratio": 0}, {"failure_ratio": 1.1}, {"minimum": 0}, {"window": 0}, {"pause": -1}],
)
def test_a_breaker_that_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Breaker(**options)


def test_a_second_word_on_a_queue_goes_over_the_first() -> None:
    tickwork = Tickwork()
    tickwork.queue("exports", max_concurrency=5, rate_limit="10/s")
    declared = tickwork.queue("exports", max_concurrency=6)
    assert (declared.max_concurrency, declared.rate_limit) == (6, "10/s")
    assert tickwork._runtime.limits.queues["exports"] == Limit(6, Rate(10, 1.0))
    with pytest.raises(ConfigurationError, match="reserved"):
        tickwork.queue("all", max_concurrency=1)


def test_flows_of_a_tenant_are_neighbours() -> None:
    one, other = flow_of("org1", "a"), flow_of("org1", "b")
    assert one != other
    assert one[:TENANT_CHARS] == other[:TENANT_CHARS] != flow_of("org2", "a")[:TENANT_CHARS]
    assert len(one) == FLOW_CHARS
    assert flow_of("", None) == ""
    assert flow_of("org2", "a")[TENANT_CHARS:] != one[TENANT_CHARS:]


def heads(*lanes: str) -> list[Head]:
    """One job on each of these lanes, in this order of time."""
    return [Head(number, f"id{number:04}", lane) for number, lane in enumerate(lanes)]


def lane(tenant: str, key: str | None = None, priority: int = 3, kind: str = "k") -> str:
    return f"{priority}/q/{kind}/{flow_of(tenant, key)}"


def test_rounds_over_tenants_within_a_priority() -> None:
    waiting = heads(*[lane("big")] * 6, lane("small"), lane("late"), lane("last", priority=5))
    chosen = allocate(waiting, 5, names={}, free={})
    assert Counter(head.lane for head in chosen) == {
        lane("big"): 3,
        lane("small"): 1,
        lane("late"): 1,
    }


def test_what_is_held_back_holds_up_nothing() -> None:
    waiting = heads(*[lane("t", "full")] * 50, lane("t", "free"))
    names = {lane("t", "full"): ("full",), lane("t", "free"): ("free",)}
    chosen = allocate(waiting, 5, names=names, free={"full": 1, "free": 1})
    assert [head.lane for head in chosen] == [lane("t", "full"), lane("t", "free")]


def test_a_crowd_of_tenants_gets_every_other_place_by_lot() -> None:
    waiting = heads(*[lane(f"t{number}") for number in range(10)])
    chosen = allocate(waiting, 4, names={}, free={}, lot=lambda: 0.999)
    assert [head.run_at for head in chosen] == [0, 9, 1, 8]


def test_names_with_a_rate_have_the_first_places_only() -> None:
    waiting = heads(lane("", "a", kind="plain"), *[lane("", "a", kind="rated")] * 5)
    names = {lane("", "a", kind="rated"): ("kind/rated",)}
    free, rated = {"kind/rated": math.inf}, {"kind/rated": 3}
    chosen = allocate(waiting, 10, names=names, free=free, rated=rated)
    assert len(chosen) == 3


@given(
    jobs=st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(1, 5)), max_size=60
    ),
    frees=st.dictionaries(st.sampled_from("xyz"), st.integers(0, 5)),
    limit=st.integers(0, 40),
)
def test_no_name_gets_more_than_is_free_and_nothing_is_left_out(
    jobs: list[tuple[str, str, int]], frees: dict[str, int], limit: int
) -> None:
    waiting = heads(*[lane(tenant, key, priority) for tenant, key, priority in jobs])
    names = {
        lane(tenant, key, priority): (key,) if key in frees else ()
        for tenant, key, priority in jobs
    }
    free = {key: float(count) for key, count in frees.items()}
    chosen = allocate(waiting, limit, names=names, free=free)
    used = Counter(name for head in chosen for name in names[head.lane])
    assert all(count <= frees[name] for name, count in used.items())
    assert len(set(chosen)) == len(chosen) <= limit
    if len(chosen) < limit:
        left = set(waiting) - set(chosen)
        assert all(used[name] == frees[name] for head in left for name in names[head.lane])
        assert all(names[head.lane] for head in left)
    for one in {head.lane for head in chosen}:
        taken = [head for head in waiting if head.lane == one][: len(chosen)]
        mine = [head for head in chosen if head.lane == one]
        assert mine == taken[: len(mine)]  # of one lane the oldest first


def test_the_narrowest_limit_is_what_is_free() -> None:
    use = Use(running=3, taken=8)
    assert use.free(Limit(at_once=5), NOW) == 2
    assert use.free(Limit(at_once=5, rate=Rate(9, 1)), NOW) == 1
    assert use.free(Limit(at_once=2), NOW) == 0
    opened = BreakerState(opened_at=NOW, open_until=NOW + timedelta(seconds=9))
    assert use._replace(state=opened).free(Limit(breaker=Breaker()), NOW) == 0


def test_a_breaker_needs_its_minimum_and_its_ratio() -> None:
    breaker = Breaker(failure_ratio=0.5, minimum=10)
    state = BreakerState().after(breaker, 0, 9, NOW)
    assert state.word(NOW) == "closed"
    assert state.after(breaker, 10, 0, NOW).word(NOW) == "closed"
    assert state.after(breaker, 9, 0, NOW).word(NOW) == "open"


def test_limits_are_found_by_name() -> None:
    limits = Limits(kinds={"k": Limit(at_once=1)}, keys={"k": Limit(at_once=2)})
    assert limits.of_name("kind/k") == Limit(at_once=1)
    assert limits.of_name(f"key/k/{flow_of('', 'x')}") == Limit(at_once=2)
    assert not limits.of_name("queue/k")
    assert not limits.of_name("nonsense")
