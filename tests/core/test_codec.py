"""What goes in comes out, and what cannot is refused by the path of the value."""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import time
import uuid
from collections import OrderedDict, defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.core.codec import (
    MAX_DEPTH,
    _weigh,
    clean_result,
    clean_text,
    cut,
    decode,
    encode,
    encode_payload,
)
from jobs.core.errors import PayloadError, PayloadTooLarge

REPLACED = "\N{REPLACEMENT CHARACTER}"

texts = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=30
)
# What Python can hold and JSON cannot; mixed into the rest it must be refused, never bent.
unfit = (
    st.just(float("nan"))
    | st.just(float("-inf"))
    | st.binary()
    | st.sets(st.integers())
    | st.datetimes()
    | st.decimals()
    | st.characters(categories=["Cs"])
    | st.just("\x00")
)
anything = st.recursive(
    scalars | unfit,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(texts | st.integers() | st.none(), inner)
    ),
    max_leaves=15,
)


def exactly(value: object) -> object:
    """The value with its types spelt out: 1, 1.0 and True are equal to Python but not alike."""
    if isinstance(value, dict):
        return {key: exactly(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [exactly(item) for item in value]
    return type(value).__name__, value


# -- accepted ----------------------------------------------------------------------------------


@given(st.dictionaries(texts, values))
@settings(max_examples=50)
def test_a_payload_comes_back_as_it_went(payload: dict[str, Any]) -> None:
    text = encode_payload(payload)

    assert exactly(decode(text)) == exactly(payload)
    assert list(decode(text)) == list(payload), "the order of keys is kept"


@given(anything)
@settings(max_examples=200)
def test_a_value_comes_back_or_is_refused(value: Any) -> None:
    try:
        text = encode(value)
    except PayloadError:
        return

    assert exactly(decode(text)) == exactly(value)
    assert "\x00" not in text
    text.encode()  # no lone surrogate


@pytest.mark.parametrize(
    "value",
    [
        2**53 + 1,
        -(2**64),
        10**4299,
        5e-324,
        1.7976931348623157e308,
        -0.0,
        0.1 + 0.2,
        "",
        'مرحبا 你好 🚀 \u2028\u2029 \x01\x1f\x7f \\ " /',
        "</script>",
        [],
        {},
        {"": {"": []}},
        {"a b": 1, "ключ": 2, "$ref": 3},
    ],
    ids=lambda value: repr(value)[:30],
)
def test_values_others_bend_are_kept(value: Any) -> None:
    assert exactly(decode(encode(value))) == exactly(value)


def test_tuples_are_arrays() -> None:
    assert decode(encode({"pair": (1, (2,))})) == {"pair": [1, [2]]}


def test_the_text_is_compact_and_readable() -> None:
    assert encode({"a": [1, 2], "é": "日本"}) == '{"a":[1,2],"é":"日本"}'


# -- refused -----------------------------------------------------------------------------------


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 1


REFUSED: dict[str, tuple[object, str, str]] = {
    "nan": ({"a": float("nan")}, "$.a", "nan is not JSON"),
    "infinity": ({"a": [1, float("inf")]}, "$.a[1]", "inf is not JSON"),
    "minus infinity": ({"a": {"b": float("-inf")}}, "$.a.b", "-inf is not JSON"),
    "nul": ({"a": ["ok", {"b": "x\x00y"}]}, "$.a[1].b", "NUL"),
    "lone surrogate": ({"a": "\ud800"}, "$.a", "surrogate"),
    "low surrogate": ({"a": "x\udfffy"}, "$.a", "surrogate"),
    "surrogates as a pair": ({"a": "\ud83d\ude00"}, "$.a", "surrogate"),
    "bytes": ({"a": b"x"}, "$.a", "base64"),
    "bytearray": ({"a": bytearray(b"x")}, "$.a", "base64"),
    "memoryview": ({"a": memoryview(b"x")}, "$.a", "base64"),
    "set": ({"a": {1}}, "$.a", "sorted list"),
    "frozenset": ({"a": frozenset({1})}, "$.a", "sorted list"),
    "datetime": ({"at": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)}, "$.at", "isoformat"),
    "date": ({"on": datetime.date(2026, 1, 1)}, "$.on", "isoformat"),
    "timedelta": ({"a": datetime.timedelta(1)}, "$.a", "timedelta is not JSON"),
    "decimal": ({"price": decimal.Decimal("1.10")}, "$.price", "Decimal is not JSON"),
    "uuid": ({"id": uuid.UUID(int=1)}, "$.id", "UUID is not JSON"),
    "complex": ({"a": 1j}, "$.a", "complex is not JSON"),
    "object": ({"a": object()}, "$.a", "object is not JSON"),
    "a class": ({"a": dict}, "$.a", "type is not JSON"),
    "generator": ({"a": (n for n in [1])}, "$.a", "generator is not JSON"),
    "range": ({"a": range(3)}, "$.a", "range is not JSON"),
    "text enum": ({"a": Colour.RED}, "$.a", "Colour is not JSON"),
    "number enum": ({"a": Level.HIGH}, "$.a", "Level is not JSON"),
    "defaultdict": ({"a": defaultdict(int)}, "$.a", "defaultdict is not JSON"),
    "number key": ({"a": {1: "x"}}, "$.a", "key 1 is int"),
    "null key": ({"a": [{None: "x"}]}, "$.a[0]", "key None is NoneType"),
    "bool key": ({True: "x"}, "$", "key True is bool"),
    "tuple key": ({"a": {(1, 2): "x"}}, "$.a", "key (1, 2) is tuple"),
    "bytes key": ({"a": {b"k": "x"}}, "$.a", "key b'k' is bytes"),
    "enum key": ({"a": {Colour.RED: "x"}}, "$.a", "is Colour"),
    "nul in a key": ({"a": {"k\x00": 1}}, "$.a", "NUL"),
    "surrogate in a key": ({"a": {"\udc00": 1}}, "$.a", "surrogate"),
    "key with a space": ({"the list": [b""]}, "$['the list'][0]", "bytes"),
    "key with a quote": ({'it"s': {"x-y": b""}}, "$['it\"s']['x-y']", "bytes"),
    "empty key": ({"": b""}, "$['']", "bytes"),
    "in a tuple": ({"a": (1, (2, b""))}, "$.a[1][1]", "bytes"),
    "first of several": ({"good": 1, "bad": {1}, "worse": b""}, "$.bad", "set"),
    "digits": ({"a": {"n": 10**5000}}, "$.a.n", "digits"),
    "negative digits": ({"a": [-(10**4300)]}, "$.a[0]", "digits"),
}


@pytest.mark.parametrize(("value", "path", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_names_the_path(value: object, path: str, reason: str) -> None:
    with pytest.raises(PayloadError) as caught:
        encode_payload(value)

    assert caught.value.path == path
    assert reason in caught.value.reason
    assert str(caught.value) == f"{path}: {caught.value.reason}"


@pytest.mark.parametrize("value", [None, [], "text", 1, ("a", 1), {1}, b"{}"], ids=repr)
def test_a_payload_is_an_object(value: object) -> None:
    with pytest.raises(PayloadError, match=r"^\$: a payload is a JSON object"):
        encode_payload(value)


def nested(levels: int, kind: type, core: object) -> Any:
    value = core
    for _ in range(levels):
        value = {"a": value} if kind is dict else kind([value])
    return value


@pytest.mark.parametrize("kind", [list, dict, tuple])
@pytest.mark.parametrize("core", [1, "text", None])
def test_64_levels_are_kept_and_65_refused(kind: type, core: object) -> None:
    step = ".a" if kind is dict else "[0]"
    deep = nested(MAX_DEPTH, kind, core)

    assert MAX_DEPTH == 64
    assert exactly(decode(encode(deep))) == exactly(deep)
    with pytest.raises(PayloadError, match="nested deeper than 64 levels") as caught:
        encode(nested(MAX_DEPTH + 1, kind, core))
    assert caught.value.path == "$" + step * MAX_DEPTH


@pytest.mark.parametrize("empty", [[], {}, ()], ids=repr)
def test_an_empty_65th_level_is_a_level(empty: object) -> None:
    assert encode(nested(MAX_DEPTH - 1, list, empty))
    with pytest.raises(PayloadError, match="nested deeper"):
        encode(nested(MAX_DEPTH, list, empty))


def test_a_hundred_thousand_levels_do_not_exhaust_the_stack() -> None:
    with pytest.raises(PayloadError, match="nested deeper"):
        encode(nested(100_000, list, 1))


@pytest.mark.parametrize("around", ["list", "dict", "both"])
def test_a_cycle_is_refused(around: str) -> None:
    loop: list[Any] = []
    ring: dict[str, Any] = {"ring": loop}
    loop.append({"list": loop, "dict": ring, "both": [ring, loop]}[around])

    with pytest.raises(PayloadError, match="nested deeper"):
        encode(loop)


# -- size --------------------------------------------------------------------------------------


@pytest.mark.parametrize("letter", ["a", "é", "€", "🚀"], ids=["1", "2", "3", "4"])
def test_the_limit_counts_bytes_of_utf8(letter: str) -> None:
    around = len('{"a":""}')
    width = len(letter.encode())
    limit = around + 300 * width

    def encoded(count: int) -> str:
        return encode({"a": letter * count}, limit)

    assert len(encoded(299).encode()) == limit - width
    assert len(encoded(300).encode()) == limit
    with pytest.raises(PayloadTooLarge) as caught:
        encoded(301)
    assert caught.value.path == "$"
    assert f"{limit + width:,} bytes" in caught.value.reason
    assert f"limit of {limit:,}" in caught.value.reason


def test_the_limit_is_100_kb_unless_told() -> None:
    fill = "x" * (100_000 - len('{"a":""}'))

    assert len(encode_payload({"a": fill})) == 100_000
    with pytest.raises(PayloadTooLarge):
        encode_payload({"a": fill + "x"})


def test_too_large_is_a_payload_error_that_does_not_repeat_the_payload() -> None:
    with pytest.raises(PayloadError) as caught:
        encode_payload({"secret": "hunter2" * 8_000_000})

    assert "hunter2" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_wide_payload_is_encoded_in_no_time() -> None:
    wide = {f"key-{n}": n for n in range(100_000)}
    before = time.perf_counter()
    text = encode(wide, 10_000_000)
    encoding = time.perf_counter() - before
    # The plain encoder is the measure: a slow machine is slow for both.
    before = time.perf_counter()
    json.dumps(wide)
    plain = time.perf_counter() - before

    assert json.loads(text) == wide
    assert encoding < 15 * plain + 0.05


def shared(levels: int, core: Any) -> Any:
    """Two references a level: as text, the core 2 to the power of ``levels`` times."""
    for level in range(levels):
        core = {"a": core, "b": core} if level % 2 else [core, core]
    return core


@pytest.mark.parametrize("core", [[], {}, (), 1, 1.5, None, True, "", "x" * 50], ids=repr)
def test_what_is_held_over_and_over_is_refused_at_once(core: Any) -> None:
    """A terabyte of text and more; were it walked to its end, this test would not end either."""
    with pytest.raises(PayloadTooLarge) as caught:
        encode_payload({"all": shared(40, core)})

    assert caught.value.path == "$"
    assert "over the limit of 100,000" in caught.value.reason
    assert "pass a reference" in caught.value.reason


@pytest.mark.parametrize(
    "piece",
    [
        "x" * 90_000,
        {"x" * 90_000: 1},
        10**4299,
        [1] * 30_000,
        dict.fromkeys(map(str, range(9_000))),
    ],
    ids=["text", "key", "digits", "list", "dict"],
)
def test_a_long_piece_held_often_is_never_written_out(piece: Any) -> None:
    """Nine gigabytes, were they written."""
    with pytest.raises(PayloadTooLarge):
        encode([piece] * 100_000)


def test_what_is_shared_and_fits_is_kept() -> None:
    value = shared(10, ["x"])

    assert exactly(decode(encode(value))) == exactly(value)


def test_the_first_problem_on_the_way_is_told() -> None:
    with pytest.raises(PayloadError, match="bytes is not JSON") as caught:
        encode([b"", shared(40, 1)])
    assert caught.value.path == "$[0]"
    with pytest.raises(PayloadTooLarge):
        encode([shared(40, 1), b""])


@given(values)
@settings(max_examples=200)
def test_a_value_weighs_no_more_than_its_text(value: Any) -> None:
    size = len(encode(value).encode())

    assert _weigh(value, MAX_DEPTH, size) <= size
    assert encode(value, size)


# -- texts made storable -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("", ""),
        ("plain", "plain"),
        ("日本 🚀", "日本 🚀"),
        ("a\x00b\x00", f"a{REPLACED}b{REPLACED}"),
        ("a\ud800b", f"a{REPLACED}b"),
        ("\udfff", REPLACED),
        ("x\ud83d", f"x{REPLACED}"),
        ("\ude00\ud83d", REPLACED * 2),
        ("\ud83d\ude00", "😀"),
        ("é\x00\ud800🚀", f"é{REPLACED * 2}🚀"),
    ],
    ids=ascii,
)
def test_clean_text(text: str, clean: str) -> None:
    assert clean_text(text) == clean


@given(st.text(alphabet=st.characters()))
def test_clean_text_is_storable_and_stays_as_it_is(text: str) -> None:
    clean = clean_text(text)

    assert "\x00" not in clean
    assert clean.encode().decode() == clean
    assert clean_text(clean) == clean
    assert encode(clean)


def test_clean_result_mends_texts_alone() -> None:
    result = {
        "ok": 1,
        "bad\x00": ["x\ud800", ("y\x00", {"z\udc00": None})],
        2: b"raw",
    }

    assert clean_result(result) == {
        "ok": 1,
        f"bad{REPLACED}": [f"x{REPLACED}", [f"y{REPLACED}", {f"z{REPLACED}": None}]],
        2: b"raw",
    }
    assert clean_result(OrderedDict(a=1)) == {"a": 1}


def test_clean_result_cleans_what_is_shared_once() -> None:
    clean: Any = clean_result(shared(40, ["x\x00"]))

    assert clean["a"] is clean["b"]
    for _ in range(20):
        clean = clean["a"][0]
    assert clean == [f"x{REPLACED}"]


def test_clean_result_leaves_the_depths_to_be_refused() -> None:
    loop: list[Any] = ["x\x00"]
    loop.append(loop)

    for endless in (loop, nested(100_000, list, "x\x00")):
        with pytest.raises(PayloadError, match="nested deeper"):
            encode(clean_result(endless))


# -- cut ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdefg", 6, "abc…"),
        ("ab🚀", 6, "ab🚀"),  # exactly the limit
        ("ab🚀x", 6, "ab…"),  # the emoji lies over the cut: it goes whole
        ("abc🚀x", 7, "abc…"),
        ("🚀🚀", 7, "🚀…"),
        ("🚀🚀", 8, "🚀🚀"),
        ("🚀", 3, "…"),
        ("ééé", 5, "é…"),
        ("", 10, ""),
        ("a\x00b", 5, f"a{REPLACED}b"),
        ("a\x00bc", 5, "a…"),  # the replacement is three bytes long
    ],
    ids=ascii,
)
def test_cut(text: str, limit: int, expected: str) -> None:
    assert cut(text, limit) == expected


@given(st.text(alphabet=st.characters(), max_size=200), st.integers(0, 250))
def test_cut_keeps_within_its_bytes(text: str, limit: int) -> None:
    short = cut(text, limit)

    assert len(short.encode()) <= limit
    if short != clean_text(text):
        assert len(clean_text(text).encode()) > limit
        assert limit < 3 or short.endswith("…")


def test_cut_of_five_megabytes() -> None:
    assert cut("🚀" * 1_300_000, 2_000) == "🚀" * 499 + "…"
