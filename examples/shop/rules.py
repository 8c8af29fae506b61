"""Which payments somebody has to look at. Pure: facts in, reasons out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

HIGH_VALUE_PAISE: Final = 50_000 * 100
"""An order of more than this is looked at."""
MOST_FAILURES_A_DAY: Final = 2
MOST_ORDERS_AN_HOUR: Final = 4


@dataclass(frozen=True)
class Facts:
    """What is known when a payment comes in; amounts in paise.

    failures_of_day: payments of this customer that failed in the 24 hours before
    orders_of_hour: orders of this customer in the hour before, this one included
    """

    total: int
    paid: int
    failures_of_day: int
    orders_of_hour: int


def is_high_value(total: int) -> bool:
    """Whether an order is above Rs 50,000.

    >>> is_high_value(50_000 * 100), is_high_value(50_000 * 100 + 1)
    (False, True)
    """
    return total > HIGH_VALUE_PAISE


def suspicions(facts: Facts) -> list[str]:
    """Why a payment is suspicious; empty if it is not.

    >>> suspicions(Facts(total=100, paid=100, failures_of_day=2, orders_of_hour=4))
    []
    >>> suspicions(Facts(total=100, paid=1, failures_of_day=3, orders_of_hour=1))
    ['1 paid of 100', '3 failed payments within a day']
    """
    found = []
    if facts.paid != facts.total:
        found.append(f"{facts.paid} paid of {facts.total}")
    if facts.failures_of_day > MOST_FAILURES_A_DAY:
        found.append(f"{facts.failures_of_day} failed payments within a day")
    if facts.orders_of_hour > MOST_ORDERS_AN_HOUR:
        found.append(f"{facts.orders_of_hour} orders within an hour")
    return found
