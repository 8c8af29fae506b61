"""Settings of queues: what may be said, how it travels, and the presets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobs import ConfigurationError, exponential, fixed, steps
from jobs.core.presets import PRESETS, preset
from jobs.core.queues import NAMES, QueueSettings, queue_settings, read_said
from jobs.core.registry import Retention

EVERYTHING: dict[str, Any] = {
    "max_attempts": 5,
    "timeout": 30.0,
    "backoff": exponential(5, factor=5),
    "priority": 1,
    "remove_on_complete": Retention(60.0, 10),
    "remove_on_fail": Retention(),
    "max_concurrency": 5,
    "rate_limit": "100/s",
    "concurrency_in_process": 2,
}


def test_every_setting_travels_as_json() -> None:
    assert set(EVERYTHING) == set(NAMES)
    said = queue_settings(EVERYTHING)
    assert read_said("queue/x", json.dumps(said.as_dict())) == said
    assert QueueSettings().as_dict() == {}


@pytest.mark.parametrize(
    ("name", "given", "taken"),
    [
        ("backoff", 5, fixed(5)),
        ("backoff", [5, 25, 125], steps([5, 25, 125])),
        ("backoff", {"type": "exponential", "delay": 2000}, exponential(2, jitter=0)),
        ("remove_on_complete", True, Retention(0.0)),
        ("remove_on_complete", False, Retention()),
        ("remove_on_complete", {"age": 86_400, "count": 1000}, Retention(86_400, 1000)),
        ("remove_on_fail", 3600, Retention(3600.0)),
        ("rate_limit", "3/10s", "3/10s"),
    ],
)
def test_values_as_people_write_them(name: str, given: object, taken: object) -> None:
    assert getattr(queue_settings({name: given}), name) == taken


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("max_attempts", 0),
        ("max_attempts", "5"),
        ("timeout", 0),
        ("priority", 6),
        ("backoff", "soon"),
        ("backoff", {"base": 1, "colour": "red"}),
        ("remove_on_complete", "never"),
        ("remove_on_fail", {"age": -1}),
        ("max_concurrency", 0),
        ("max_concurrency", True),
        ("concurrency_in_process", 1.5),
        ("rate_limit", "100"),
        ("rate_limit", "0/s"),
        ("colour", "red"),
    ],
)
def test_what_makes_no_sense_is_refused(name: str, given: object) -> None:
    with pytest.raises(ConfigurationError):
        queue_settings({name: given})


def test_an_unknown_setting_is_answered_with_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match="colour: there are max_attempts, timeout"):
        queue_settings({"colour": "red"})


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '"x"', '{"timeout": {}}'])
def test_what_cannot_be_read_says_nothing(text: str, caplog: pytest.LogCaptureFixture) -> None:
    assert read_said("queue/x", text) == QueueSettings()
    assert "queue/x" in caplog.text


def test_one_over_another() -> None:
    over = QueueSettings(timeout=5).over(QueueSettings(timeout=9, priority=2))
    assert over == QueueSettings(timeout=5, priority=2)


# As the descriptions have them: concurrency, attempts, delays before each further attempt, timeout.
TABLE = [
    ("ecommerce", "email", 5, 3, [2, 4], None),
    ("ecommerce", "order", 10, 2, None, None),
    ("ecommerce", "payment-webhook", 20, 5, [1, 2, 4, 8], None),
    ("ecommerce", "payment-retry", 3, 3, [3600, 3600], None),
    ("ecommerce", "inventory-release", 8, 3, None, None),
    ("ecommerce", "manual-review", 1, None, None, None),
    ("ecommerce", "reports", 2, None, None, None),
    ("exports", "exports", 5, None, None, None),
    ("hse", "email", None, 5, [5, 25, 125, 625], 30),
    ("hse", "reports", None, 3, [5, 25], 300),
    ("hse", "data-exports", None, 2, [5], 600),
    ("hse", "webhooks", None, 5, [10, 50, 250, 1250], 30),
    ("hse", "tenant-onboarding", None, 3, [5, 25], None),
    ("hse", "cleanup", None, None, None, None),
    ("insights", "data-sync", 2, 3, [2, 4], 300),
    ("insights", "insights", 2, 3, [2, 4], 180),
    ("insights", "webhooks", 10, 3, [2, 4], 30),
    ("insights", "reports", 2, 3, [2, 4], None),
    ("insights", "email", 10, 3, [2, 4], 10),
    ("insights", "alerts", 10, 3, [2, 4], None),
    *[
        ("escrow", name, None, 3, [2, 4], None)
        for name in ("email", "payments", "webhooks", "notifications", "audit")
    ],
]


@pytest.mark.parametrize(
    ("name", "queue", "concurrency", "attempts", "delays", "timeout"),
    TABLE,
    ids=str,
)
def test_presets(
    name: str,
    queue: str,
    concurrency: int | None,
    attempts: int | None,
    delays: list[float] | None,
    timeout: float | None,
) -> None:
    said: Any = preset(name)[queue]
    assert (said.max_concurrency, said.max_attempts) == (concurrency, attempts)
    assert said.timeout == timeout
    if delays is None:
        assert said.backoff is None
    else:
        assert [said.backoff.delay(made) for made in range(1, attempts or 0)] == delays


def test_the_table_has_every_preset() -> None:
    listed = {(name, queue) for name, queues in PRESETS.items() for queue in queues}
    assert listed == {(row[0], row[1]) for row in TABLE}
    assert preset("hse")["email"].priority == 1
    with pytest.raises(ConfigurationError, match="ecommerce, exports, hse, insights, escrow"):
        preset("bakery")
