"""Payloads: stored as they were sent, or refused with the path of the value."""

from __future__ import annotations

import datetime
import decimal
import json
import uuid
from typing import Any

import pytest

from jobs.core.errors import PayloadError, PayloadTooLarge
from jobs.system import Tickwork
from jobs.testing.areas.base import Conformance, MakeTickwork, fetch
from jobs.testing.areas.store_rows import ODD_TEXT

NAN, INFINITY = float("nan"), float("inf")


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"in": value}
    return value


ENDLESS: dict[str, Any] = {}
ENDLESS["again"] = ENDLESS

REFUSED: list[tuple[Any, str]] = [
    ({"a": NAN}, "$.a"),
    ({"a": [1, INFINITY]}, "$.a[1]"),
    ({"a": {"b": -INFINITY}}, "$.a.b"),
    ({"a b": [{"c": NAN}]}, "$['a b'][0].c"),
    ({"text": "nul \x00 inside"}, "$.text"),
    ({"text": ["fine", "\ud800"]}, "$.text[1]"),
    ({"text": "\udc00\ud800"}, "$.text"),
    ({"nul\x00": 1}, "$"),
    ({"a": {"\ud800": 1}}, "$.a"),
    ({1: 2}, "$"),
    ({"a": {None: 1}}, "$.a"),
    ({"a": {(1, 2): 1}}, "$.a"),
    ({"a": b"bytes"}, "$.a"),
    ({"a": bytearray(b"bytes")}, "$.a"),
    ({"a": {1, 2}}, "$.a"),
    ({"a": frozenset()}, "$.a"),
    ({"a": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)}, "$.a"),
    ({"a": datetime.date(2026, 1, 1)}, "$.a"),
    ({"a": decimal.Decimal("1.1")}, "$.a"),
    ({"a": uuid.UUID(int=1)}, "$.a"),
    ({"a": 1j}, "$.a"),
    ({"a": object()}, "$.a"),
    ({"a": (n for n in [1])}, "$.a"),
    ({"a": 10**5000}, "$.a"),
    (nested(65), "$" + ".in" * 64),
    (ENDLESS, "$" + ".again" * 64),
    (["not", "an object"], "$"),
    ("text", "$"),
    (7, "$"),
]

KEPT: list[dict[str, Any]] = [
    {},
    {"text": ODD_TEXT},
    {"emoji": "😀 👩‍👩‍👧 🇩🇪", "combining": "é", "rtl": "שלום"},
    {"numbers": [0, -1, 2**53 + 1, 2**63, -(2**70), 0.1, -0.0, 1e308, 5e-324]},
    {"words": [True, False, None, "null", "true", "NULL", ""]},
    {"odd keys": {"": 1, "a.b": 2, "$": 3, "'\"\\": 4, "😀": 5, "%(x)s :y ? {z}": 6}},
    {"control": "".join(map(chr, range(1, 32)))},
    nested(64),
    {"last": "￿\U0010ffff"},
]


class PayloadConformance(Conformance):
    """The same answer on every store."""

    def test_unfit_values_are_refused_by_their_path(self, tickwork: Tickwork) -> None:
        tickwork.register_handler("alpha", lambda payload: None)
        for payload, path in REFUSED:
            with pytest.raises(PayloadError) as refusal:
                tickwork.enqueue("alpha", payload)
            assert refusal.value.path == path
            assert path in str(refusal.value)
            with pytest.raises(PayloadError):
                tickwork.enqueue_many([("alpha", {}), ("alpha", payload)])
            assert tickwork.try_enqueue("alpha", payload) is None
        assert tickwork.list() == []

    def test_fit_values_come_back_as_they_were(self, tickwork: Tickwork) -> None:
        handed: dict[str, Any] = {}
        tickwork.register_handler(
            "alpha", lambda payload, ctx: handed.setdefault(ctx.job_id, payload)
        )
        for payload in KEPT:
            job = tickwork.enqueue("alpha", payload)
            (many,) = tickwork.enqueue_many([("alpha", payload)])
            tickwork.tick()
            for job_id in (job.id, many):
                assert json.dumps(handed[job_id]) == json.dumps(payload)
                found = fetch(tickwork, job_id)
                assert json.dumps(found.payload) == json.dumps(payload)
                assert json.dumps(found.result) == json.dumps(payload)

    def test_a_tuple_is_an_array(self, tickwork: Tickwork) -> None:
        job = tickwork.enqueue("alpha", {"pair": (1, (2, 3))})
        assert fetch(tickwork, job.id).payload == {"pair": [1, [2, 3]]}

    @pytest.mark.parametrize("character", ["x", "é", "😀"])
    def test_the_limit_is_in_bytes_and_exact(
        self, make_tickwork: MakeTickwork, character: str
    ) -> None:
        limit = 100_000
        tickwork = make_tickwork(payload_max_bytes=limit)
        frame, width = len('{"t":""}'), len(character.encode())

        def payload(size: int) -> dict[str, str]:
            whole, rest = divmod(size - frame, width)
            return {"t": character * whole + "x" * rest}

        for size in (limit - 1, limit):
            job = tickwork.enqueue("alpha", payload(size))
            assert fetch(tickwork, job.id).payload == payload(size)
        for size in (limit + 1, 50_000_000):
            with pytest.raises(PayloadTooLarge) as refusal:
                tickwork.enqueue("alpha", payload(size))
            assert refusal.value.path == "$"
            with pytest.raises(PayloadTooLarge):
                tickwork.enqueue_many([("alpha", payload(size))])
        assert len(tickwork.list()) == 2

    def test_what_is_held_over_and_over_is_refused_at_once(self, tickwork: Tickwork) -> None:
        """Written out it would be a terabyte; a result like that leaves its job completed."""
        shared: Any = ["x\x00"]
        for _ in range(40):
            shared = [shared, shared]
        fine: Any = [1]
        for _ in range(40):
            fine = {"a": fine, "b": fine}
        with pytest.raises(PayloadTooLarge):
            tickwork.enqueue("alpha", fine)
        with pytest.raises(PayloadTooLarge):
            tickwork.enqueue_many([("alpha", fine)])
        assert not tickwork.list()
        for kind, result in (("fine", fine), ("unfit", shared)):
            tickwork.register_handler(kind, lambda payload, result=result: result)
            job = tickwork.enqueue(kind)
            assert tickwork.tick().succeeded == 1
            done = fetch(tickwork, job.id)
            assert (done.state, done.result) == ("completed", None)
            assert "result unavailable" in str(done.error)
            assert "over the limit" in str(done.error)

    def test_large_payloads_are_claimed_together(self, tickwork: Tickwork) -> None:
        sizes: list[int] = []
        tickwork.register_handler("alpha", lambda payload: sizes.append(len(payload["t"])))
        tickwork.enqueue_many([("alpha", {"t": "é" * 49_000})] * 100)
        assert tickwork.tick(limit=100).succeeded == 100
        assert sizes == [49_000] * 100
