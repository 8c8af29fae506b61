"""Typed payloads: checked where they are sent, made again where they are run."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import types
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, NotRequired, TypedDict

import msgspec
import pydantic
import pytest

from jobs.core.codec import decode, encode_payload
from jobs.core.errors import PayloadError, PayloadTooLarge
from jobs.core.payload import dump, load, payload_type

NOON = datetime.datetime(2026, 1, 2, 12, tzinfo=datetime.UTC)


class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"


@dataclass
class Item:
    sku: str
    price: decimal.Decimal
    count: int = 1


@dataclass(frozen=True)
class Order:
    id: str
    items: list[Item] = field(default_factory=list)
    at: datetime.datetime | None = None
    size: Size = Size.SMALL
    tags: set[str] = field(default_factory=set)
    raw: bytes = b""
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass
class Validated:
    percent: int

    def __post_init__(self) -> None:
        if not 0 <= self.percent <= 100:
            raise ValueError("percent is from 0 to 100")


class Visit(TypedDict):
    page: str
    at: datetime.datetime
    referrer: NotRequired[str]


class Line(pydantic.BaseModel):
    sku: str
    price: decimal.Decimal = pydantic.Field(gt=0)


class Basket(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    basket_id: uuid.UUID = pydantic.Field(alias="basketId")
    lines: list[Line] = []
    at: datetime.datetime | None = None

    @pydantic.computed_field
    def size(self) -> int:
        return len(self.lines)


BASKET_ID = uuid.UUID("01890000-0000-7000-8000-000000000001")
ORDER = Order("o1", [Item("a", decimal.Decimal("1.10"), 2)], NOON, Size.LARGE, {"x"}, b"\x00\xff")
BASKET = Basket(basketId=BASKET_ID, lines=[Line(sku="a", price=decimal.Decimal("1.10"))], at=NOON)


def over_the_wire(value: Any, declared: Any) -> Any:
    """As a job goes: checked, made text, stored, read and made again."""
    return load(decode(encode_payload(dump(value, declared))), declared)


# -- what is a type worth checking -------------------------------------------------------------


@pytest.mark.parametrize("annotation", [Order, Validated, Visit, Basket])
def test_declared(annotation: Any) -> None:
    assert payload_type(annotation) is annotation


@pytest.mark.parametrize(
    "annotation", [None, dict, dict[str, Any], Any, object, "Order", ORDER, int, list], ids=str
)
def test_not_declared(annotation: Any) -> None:
    assert payload_type(annotation) is None


# -- both sides --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "declared", "received"),
    [
        (ORDER, Order, ORDER),
        (Order("o2"), Order, Order("o2")),
        ({"id": "o2"}, Order, Order("o2")),
        ({"id": "o2", "at": NOON, "size": "l"}, Order, Order("o2", at=NOON, size=Size.LARGE)),
        ({"id": "o2", "at": "2026-01-02T12:00:00Z"}, Order, Order("o2", at=NOON)),
        ({"id": "o2", "at": None}, Order, Order("o2")),
        (
            {"id": "o2", "items": [{"sku": "a", "price": "1.10"}]},
            Order,
            Order("o2", [Item("a", decimal.Decimal("1.10"))]),
        ),
        ({"id": "o2", "items": [ORDER.items[0]]}, Order, Order("o2", ORDER.items)),
        (types.MappingProxyType({"id": "o2"}), Order, Order("o2")),
        ({"page": "/", "at": NOON}, Visit, {"page": "/", "at": NOON}),
        (
            {"page": "/", "at": NOON, "referrer": "x"},
            Visit,
            {"page": "/", "at": NOON, "referrer": "x"},
        ),
        (BASKET, Basket, BASKET),
        ({"basketId": str(BASKET_ID)}, Basket, Basket(basketId=BASKET_ID)),
        ({"basketId": BASKET_ID, "at": NOON}, Basket, Basket(basketId=BASKET_ID, at=NOON)),
        ({"a": [1, None]}, None, {"a": [1, None]}),
        (None, None, {}),
        (OrderedDict(a=1), None, {"a": 1}),
        (types.MappingProxyType({"a": 1}), None, {"a": 1}),
    ],
    ids=lambda value: str(value)[:30],
)
def test_over_the_wire(value: Any, declared: Any, received: Any) -> None:
    got = over_the_wire(value, declared)

    assert got == received
    assert type(got) is type(received)


def test_without_a_declared_type_an_object_becomes_its_fields() -> None:
    """A kind whose handler lives in another deployment."""
    assert over_the_wire(ORDER, None) == {
        "id": "o1",
        "items": [{"sku": "a", "price": "1.10", "count": 2}],
        "at": "2026-01-02T12:00:00Z",
        "size": "l",
        "tags": ["x"],
        "raw": "AP8=",
        "extra": {},
    }
    assert over_the_wire(BASKET, None)["lines"] == [{"sku": "a", "price": "1.10"}]


def test_one_type_may_stand_in_for_another_with_its_fields() -> None:
    @dataclass
    class Wider:
        id: str
        note: str

    assert over_the_wire(Wider("o9", "unused"), Order) == Order("o9")
    assert over_the_wire(Basket(basketId=BASKET_ID), None)["lines"] == []


def test_the_callers_dict_is_left_alone() -> None:
    given = {"id": "o1", "at": NOON, "items": [{"sku": "a", "price": decimal.Decimal(1)}]}
    before = {**given, "items": [dict(item) for item in given["items"]]}  # type: ignore[union-attr]
    dump(given, Order)

    assert given == before


# -- refused by path, on both sides ------------------------------------------------------------

MISFITS: list[tuple[Any, Any, str, str]] = [
    ({}, Order, "$", "id"),
    ({"id": 5}, Order, "$.id", "str"),
    ({"id": None}, Order, "$.id", "str"),
    ({"id": "o", "items": [{"sku": "a"}]}, Order, "$.items[0]", "price"),
    ({"id": "o", "items": [{"sku": "a", "price": "x"}]}, Order, "$.items[0].price", "ecimal"),
    (
        {"id": "o", "items": [{"sku": "a", "price": "1", "count": "2"}]},
        Order,
        "$.items[0].count",
        "int",
    ),
    ({"id": "o", "at": "yesterday"}, Order, "$.at", "RFC3339"),
    ({"id": "o", "size": "huge"}, Order, "$.size", "huge"),
    ({"percent": 101}, Validated, "$", "percent is from 0 to 100"),
    ({"page": "/"}, Visit, "$", "at"),
    ({"page": 5, "at": "2026-01-02T12:00:00Z"}, Visit, "$.page", "str"),
    ({}, Basket, "$.basketId", "required"),
    ({"basketId": "x"}, Basket, "$.basketId", "UUID"),
    (
        {"basketId": str(BASKET_ID), "lines": [{"sku": "a", "price": "0"}]},
        Basket,
        "$.lines[0].price",
        "greater than 0",
    ),
    ({"basketId": str(BASKET_ID), "other": 1}, Basket, "$.other", "not permitted"),
]


@pytest.mark.parametrize(("plain", "declared", "path", "reason"), MISFITS, ids=str)
def test_a_misfit_is_refused_when_sent_and_when_run(
    plain: Any, declared: Any, path: str, reason: str
) -> None:
    for side in (lambda: dump(plain, declared), lambda: load(plain, declared)):
        with pytest.raises(PayloadError) as caught:
            side()
        assert caught.value.path == path
        assert reason in caught.value.reason


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (dataclasses.replace(ORDER, id=b"raw"), "$.id"),  # type: ignore[arg-type]
        (dataclasses.replace(ORDER, id=decimal.Decimal(1)), "$.id"),  # type: ignore[arg-type]
        (dataclasses.replace(ORDER, items=[Item("a", "x")]), "$.items[0].price"),  # type: ignore[arg-type]
        ({"id": NOON}, "$.id"),
        ({"id": uuid.UUID(int=0)}, "$.id"),
        ({"id": "o", "at": datetime.date(2026, 1, 1)}, "$.at"),
    ],
    ids=str,
)
def test_a_value_of_another_type_is_not_quietly_made_text(value: Any, path: str) -> None:
    with pytest.raises(PayloadError) as caught:
        dump(value, Order)

    assert caught.value.path == path


@pytest.mark.parametrize(
    ("value", "declared"),
    [
        ([1], None),
        ("text", None),
        (5, None),
        (Order, None),
        ([("id", "o")], Order),
        ("o", Order),
        (Order, Order),
    ],
    ids=str,
)
def test_a_payload_is_an_object(value: Any, declared: Any) -> None:
    with pytest.raises(PayloadError, match="a payload is an object") as caught:
        dump(value, declared)

    assert caught.value.path == "$"


@pytest.mark.parametrize("value", [5, "x", [1]], ids=str)
def test_pydantic_refuses_what_is_no_object(value: Any) -> None:
    with pytest.raises(PayloadError):
        dump(value, Basket)


def test_what_a_dataclass_cannot_carry_is_refused() -> None:
    loop: dict[str, Any] = {}
    loop["loop"] = loop
    for extra in ({"socket": object()}, loop):
        with pytest.raises(PayloadError):
            dump(Order("o", extra=extra), Order)


@pytest.mark.parametrize(
    ("extra", "path"),
    [({"n": float("nan")}, "$.extra.n"), ({"t": "a\x00"}, "$.extra.t"), ({1: 2}, "$")],
    ids=str,
)
def test_a_fitting_type_does_not_excuse_an_unfit_value(extra: Any, path: str) -> None:
    with pytest.raises(PayloadError) as caught:
        encode_payload(dump(Order("o", extra=extra), Order))

    assert caught.value.path == path


@pytest.mark.parametrize("core", [[], {"a": 1}, b"raw", (1,), {1}], ids=repr)
def test_what_is_held_over_and_over_is_refused_at_once(core: Any) -> None:
    """Making it plain would write it out; were it walked to its end, this would not end."""
    for _ in range(40):
        core = [core, core]

    for value, declared in (
        (Order("1", extra={"all": core}), Order),
        ({"id": "1", "extra": {"all": core}}, Order),
        (Order("1", extra={"all": core}), None),
        ({"page": core, "at": NOON}, Visit),
    ):
        with pytest.raises(PayloadTooLarge, match="over the limit of 100,000"):
            dump(value, declared)


def test_bytes_held_often_are_never_written_out() -> None:
    with pytest.raises(PayloadTooLarge):
        dump(Order("1", extra={"all": [b"x" * 90_000] * 90_000}), Order)


def test_a_payload_that_is_as_broad_as_can_be_is_not_refused() -> None:
    plain = dump({"page": "/", "at": NOON, "referrer": ""}, Visit)
    broad = {"id": "1", "extra": {"all": [1] * 49_900}}

    assert dump(plain, Visit) == plain
    assert len(encode_payload(dump(broad, Order))) > 99_000


# --- msgspec Structs, and types that check themselves


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    size: int

    def __post_init__(self) -> None:
        if self.size < 0:
            raise PayloadError("$.size", "less than nothing")


class Parcel(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    from_: str = msgspec.field(name="from")
    parts: list[Part] = msgspec.field(default_factory=list)
    day: datetime.date | None = None


def test_a_struct_goes_over_the_wire_by_its_own_names() -> None:
    sent = Parcel(from_="a", parts=[Part(1)], day=datetime.date(2026, 1, 2))
    plain = dump(sent, Parcel)

    assert payload_type(Parcel) is Parcel
    assert plain == {"from": "a", "parts": [{"size": 1}], "day": "2026-01-02"}
    assert dump({"from": "a"}, Parcel) == {"from": "a"}
    assert load(plain, Parcel) == sent


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        ({}, "$", "missing required field `from`"),
        ({"from": "a", "to": "b"}, "$", "unknown field `to`"),
        ({"from": "a", "parts": [{"size": 1}, {"size": "x"}]}, "$.parts[1].size", "Expected `int`"),
        ({"from": "a", "parts": [{"size": 1}, {"size": -1}]}, "$.parts[1].size", "less than"),
    ],
    ids=["missing", "unknown", "type", "its own check"],
)
def test_a_struct_names_the_place_of_a_misfit(value: Any, path: str, reason: str) -> None:
    with pytest.raises(PayloadError, match=reason) as caught:
        dump(value, Parcel)

    assert caught.value.path == path


def test_a_struct_that_is_broad_is_refused_at_once() -> None:
    many = [Part(1)] * 1000
    with pytest.raises(PayloadTooLarge):
        dump(Parcel(from_="a", parts=many * 1000), Parcel, 100_000)
