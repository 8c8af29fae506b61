"""A drain's results: the last one says what remains, whichever tick ended last."""

from __future__ import annotations

from jobs.runtime.drain import in_order
from jobs.runtime.tick import TickResult

WROTE = TickResult(processed=1, snoozed=1, remaining=1)
FOUND_NOTHING = TickResult()


def test_a_tick_that_found_nothing_does_not_have_the_last_word() -> None:
    before = TickResult(processed=4, succeeded=4, remaining=1)
    assert in_order([before, WROTE, FOUND_NOTHING], 2) == [before, FOUND_NOTHING, WROTE]
    assert in_order([before, FOUND_NOTHING, WROTE], 2) == [before, FOUND_NOTHING, WROTE]


def test_ticks_that_did_something_stay_as_they_ended() -> None:
    first, second = TickResult(processed=2, remaining=1), TickResult(processed=1)
    assert in_order([first, second], 2) == [first, second]
    assert in_order([first, FOUND_NOTHING], 1) == [first, FOUND_NOTHING]
    assert in_order([], 2) == []
