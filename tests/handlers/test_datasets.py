# ruff: noqa: DTZ001 - many databases hold datetimes without an offset, so these tests do as well

from __future__ import annotations

import datetime as dt
import enum
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from jobs.handlers.datasets import (
    Catalogue,
    Dataset,
    Filter,
    find_dataset,
    load_datasets,
    register_dataset,
)
from jobs.handlers.errors import DatasetError, PermanentError
from tests.handlers.shop import customers, orders

GOOD = r"""
[datasets.orders]
description = "Orders by country"
query = '''
  SELECT * FROM "Orders"
  WHERE (:country IS NULL OR "ShipCountry" = :country)
    AND "OrderDate" >= :since AND note <> '10\:30' AND id::text LIKE '%x'
  ORDER BY 1;'''
[datasets.orders.filters]
country = "string"
since = { type = "date", required = true, description = "first day" }

[datasets."web-shop.v2"]
query = "SELECT :state AS state, :top AS top"
count = false
[datasets."web-shop.v2".filters.state]
type = "string"
default = "open"
choices = ["open", "paid"]
[datasets."web-shop.v2".filters.top]
type = "datetime"
default = 2024-01-01T00:00:00Z

[datasets.plain]
query = "SELECT 1 AS one -- the end"
"""


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    path = tmp_path / "datasets.toml"
    path.write_text(GOOD, "utf-8")
    return path


def text_and_values(statement: sa.Executable) -> tuple[str, dict[str, Any]]:
    assert isinstance(statement, sa.ClauseElement)
    compiled = statement.compile()
    return str(compiled), dict(compiled.params)


# --- TOML


def test_a_file_is_read(toml: Path) -> None:
    found = load_datasets(toml)

    assert list(found) == ["orders", "web-shop.v2", "plain"]
    assert found["orders"].filters == {
        "country": Filter("string"),
        "since": Filter("date", required=True, description="first day"),
    }
    assert found["orders"].description == "Orders by country"
    assert found["orders"].count
    assert not found["web-shop.v2"].count


def test_values_are_bound_and_never_part_of_the_text(toml: Path) -> None:
    evil = "x' OR '1'='1'; DROP TABLE Orders --"
    text, values = text_and_values(
        load_datasets(toml)["orders"].statement({"country": evil, "since": "2024-05-31"})
    )

    assert values == {"country": evil, "since": dt.date(2024, 5, 31)}
    assert "DROP" not in text
    assert "'10:30'" in text
    assert "id::text LIKE '%x'" in text
    assert not text.rstrip().endswith(";")


def test_what_is_not_given_is_its_default_or_null(toml: Path) -> None:
    found = load_datasets(toml)
    _, orders_values = text_and_values(found["orders"].statement({"since": "2024-05-31"}))
    _, null_values = text_and_values(
        found["orders"].statement({"since": "2024-05-31", "country": None})
    )
    _, web_values = text_and_values(found["web-shop.v2"].statement({}))

    assert orders_values == null_values == {"country": None, "since": dt.date(2024, 5, 31)}
    assert web_values == {"state": "open", "top": dt.datetime(2024, 1, 1, tzinfo=dt.UTC)}


@pytest.mark.parametrize(
    ("name", "filters", "message"),
    [
        (
            "orders",
            {"since": "2024-05-31", "city": "Ulm"},
            "no filter 'city'; its filters: country",
        ),
        ("orders", {"since": "2024-05-31", "1=1; --": 1}, "no filter '1=1; --'; its filters:"),
        ("orders", {}, r"dataset 'orders' needs the filter 'since' \(date\)"),
        ("orders", {"since": None}, r"needs the filter 'since' \(date\)"),
        ("orders", {"since": "31.5.2024"}, "'since' of dataset 'orders' expects a date such as"),
        ("plain", {"x": 1}, "its filters: none"),
        ("web-shop.v2", {"state": "lost"}, "must be one of open, paid, not 'lost'"),
    ],
)
def test_a_wrong_filter_says_what_is_right(
    toml: Path, name: str, filters: dict[str, Any], message: str
) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        load_datasets(toml)[name].statement(filters)
    assert isinstance(caught.value, PermanentError)


MALFORMED = {
    "not toml": ("[datasets.a\nquery = 1", "is not valid TOML: .*line 1"),
    "not utf-8": (b"# \xff", "is not valid TOML"),
    "a key outside": (
        "[dataset.a]\nquery='SELECT 1'",
        "the file has the unknown key 'dataset'; kno",
    ),
    "datasets no table": ("datasets = 1", "datasets must be a table, not 1"),
    "dataset no table": ("[datasets]\na = 'SELECT 1'", "datasets.a must be a table"),
    "no query": ("[datasets.a]\ncount=true", r"\[datasets.a\] has no query; write query ="),
    "empty query": ("[datasets.a]\nquery=' '", r"\[datasets.a\] has no query"),
    "a key misspelt": (
        "[datasets.a]\nquery='SELECT 1'\nfilter=1",
        "unknown key 'filter'; known: q",
    ),
    "a wrong count": ("[datasets.a]\nquery='SELECT 1'\ncount='no'", "count must be a bool"),
    "a bad name": ("[datasets.'../a']\nquery='SELECT 1'", r"'../a' cannot name a dataset"),
    "undeclared": ("[datasets.a]\nquery='SELECT :x'", ":x, which is no filter: add x to .*filters"),
    "unused": (
        "[datasets.a]\nquery='SELECT 1'\nfilters={x='string'}",
        "declares the filter 'x'; its query has no :x",
    ),
    "no type": (
        "[datasets.a]\nquery='SELECT :x'\nfilters={x={}}",
        r"filters.x\] has no type; write",
    ),
    "unknown type": (
        "[datasets.a]\nquery='SELECT :x'\nfilters={x='int'}",
        "filter 'x' of dataset 'a' has the type 'int'; choose one of string, integer, number",
    ),
    "filter no table": (
        "[datasets.a]\nquery='SELECT :x'\nfilters={x=1}",
        "filters.x must be a table",
    ),
    "filter key": (
        "[datasets.a]\nquery='SELECT :x'\nfilters={x={type='string', require=true}}",
        "unknown key 'require'; known: type, required",
    ),
    "default": (
        "[datasets.a]\nquery='SELECT :x'\nfilters={x={type='integer', default='1'}}",
        "filter 'x' of dataset 'a', default or choices: expects a whole number such as 42, not '1'",
    ),
    "default no choice": (
        "[datasets.a]\nquery='SELECT :x'\nfilters={x={type='integer', default=1, choices=[2]}}",
        "must be one of 2, not 1",
    ),
}


@pytest.mark.parametrize(("text", "message"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_file_names_place_and_mend(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())

    with pytest.raises(DatasetError, match=message) as caught:
        load_datasets(path)
    assert str(caught.value).startswith(f"EXPORT_DATASETS: {str(path)!r}")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"cannot read '.*none.toml': No such file"):
        load_datasets(tmp_path / "none.toml")


# --- the types of filters

NOT = object()
SHELF = uuid.UUID("0190a5c4-7d5e-7000-8000-000000000000")
VALUES: Mapping[str, list[tuple[Any, Any]]] = {
    "string": [
        ("", ""),
        ("x' OR 1=1", "x' OR 1=1"),
        ("東京", "東京"),
        ("a\0b", NOT),
        (1, NOT),
        (["a"], NOT),
        ({"$gt": ""}, NOT),
    ],
    "integer": [
        (0, 0),
        (-(2**63), -(2**63)),
        (2**63, NOT),
        (True, NOT),
        (1.0, NOT),
        ("1", NOT),
        ("1 OR 1=1", NOT),
    ],
    "number": [
        (1, 1),
        (1.5, 1.5),
        (float("nan"), NOT),
        (float("inf"), NOT),
        (2**63, NOT),
        (True, NOT),
        ("1.5", NOT),
    ],
    "boolean": [(True, True), (False, False), (0, NOT), ("true", NOT)],
    "date": [
        ("2024-02-29", dt.date(2024, 2, 29)),
        (dt.date(2024, 2, 29), dt.date(2024, 2, 29)),
        ("2023-02-29", NOT),
        ("20240229", NOT),
        ("2024-02-29T00:00:00", NOT),
        ("2024-02-29 OR 1=1", NOT),
        (dt.datetime(2024, 2, 29), NOT),
        (20240229, NOT),
    ],
    "datetime": [
        ("2024-02-29T08:00:00", dt.datetime(2024, 2, 29, 8)),
        ("2024-02-29 08:00", dt.datetime(2024, 2, 29, 8)),
        ("2024-02-29T08:00:00Z", dt.datetime(2024, 2, 29, 8, tzinfo=dt.UTC)),
        ("2024-02-29T08:00:00.5+02:00", dt.datetime(2024, 2, 29, 6, 0, 0, 500_000, dt.UTC)),
        ("0001-01-01T00:00:00+02:00", NOT),
        ("2024-02-29", NOT),
        ("2024-02-29T25:00:00", NOT),
        ("2024-02-29T08:00:00'; --", NOT),
        (1709193600, NOT),
    ],
    "uuid": [(str(SHELF), SHELF), (SHELF, SHELF), ("0190", NOT), (1, NOT)],
}


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [(kind, given, expected) for kind, pairs in VALUES.items() for given, expected in pairs],
)
def test_a_value_has_the_declared_type_or_is_refused(kind: str, given: Any, expected: Any) -> None:
    if expected is NOT:
        with pytest.raises(DatasetError, match=r"^expects "):
            Filter(kind).check(given)
    else:
        checked = Filter(kind).check(given)
        assert repr(checked) == repr(expected)


def test_a_long_value_is_not_repeated_whole() -> None:
    with pytest.raises(DatasetError) as caught:
        Filter("integer").check("x" * 1_000_000)
    assert len(str(caught.value)) < 200


# --- Python


class Stage(enum.Enum):
    OPEN = "o"
    DONE = "d"


shelves = sa.Table(
    "shelves",
    sa.MetaData(),
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("label", sa.Uuid(as_uuid=False)),
    sa.Column("stage", sa.Enum(Stage)),
    sa.Column("price", sa.Numeric(10, 2)),
    sa.Column("local", sa.DateTime),
    sa.Column("moment", sa.DateTime(timezone=True)),
    sa.Column("day", sa.Date),
    sa.Column("full", sa.Boolean),
    sa.Column("parts", sa.JSON),
)
NOON = "2024-05-31T12:00:00+02:00"


@pytest.mark.parametrize(
    ("column", "kind", "given", "bound"),
    [
        ("id", "uuid", str(SHELF), SHELF),
        ("label", "uuid", str(SHELF), str(SHELF)),
        ("stage", "string", "OPEN", "OPEN"),
        ("price", "number", 12.5, 12.5),
        ("local", "datetime", NOON, dt.datetime(2024, 5, 31, 10)),
        ("moment", "datetime", NOON, dt.datetime(2024, 5, 31, 10, tzinfo=dt.UTC)),
        ("day", "date", "2024-05-31", dt.date(2024, 5, 31)),
        ("full", "boolean", False, False),
    ],
)
def test_a_column_gives_its_filter_a_type(column: str, kind: str, given: Any, bound: Any) -> None:
    dataset = Catalogue().register("x", sa.select(shelves), filters={"f": shelves.c[column]})
    text, values = text_and_values(dataset.statement({"f": given}))

    assert dataset.filters["f"].type == kind
    if column == "full":
        assert text.endswith('WHERE shelves."full" = false')
    else:
        assert f"WHERE shelves.{column} = :{column}_1" in text
        assert repr(list(values.values())) == repr([bound])


def test_an_enum_column_lists_its_choices() -> None:
    dataset = Catalogue().register("x", sa.select(shelves), filters={"stage": shelves.c.stage})

    with pytest.raises(DatasetError, match="must be one of OPEN, DONE, not 'GONE'"):
        dataset.statement({"stage": "GONE"})


def test_filters_narrow_a_select() -> None:
    dataset = Catalogue().register(
        "orders",
        sa.select(orders.c.OrderID).where(orders.c.Paid),
        filters={
            "customer": orders.c.CustomerID,
            "since": Filter("datetime", where=lambda moment: orders.c.OrderDate >= moment),
        },
    )
    text, values = text_and_values(
        dataset.statement({"customer": "' OR 1=1 --", "since": "2024-05-31T00:00:00"})
    )
    bare, nothing = text_and_values(dataset.statement({"customer": None}))

    assert '"CustomerID" = :CustomerID_1 AND "Orders"."OrderDate" >= :OrderDate_1' in text
    assert list(values.values()) == ["' OR 1=1 --", dt.datetime(2024, 5, 31)]
    assert "CustomerID" not in bare.partition("WHERE")[2]
    assert nothing == {}


def test_a_function_gets_the_given_filters() -> None:
    asked: list[Mapping[str, Any]] = []

    def build(filters: Mapping[str, Any]) -> sa.SelectBase:
        asked.append(filters)
        return sa.union_all(sa.select(customers.c.CustomerID), sa.select(orders.c.CustomerID))

    dataset = Catalogue().register(
        "people", build, filters={"day": "date", "top": Filter("integer", default=3), "x": "string"}
    )
    dataset.statement({"day": "2024-05-31"})

    assert asked == [{"day": dt.date(2024, 5, 31), "top": 3}]


def test_a_function_must_return_a_select() -> None:
    dataset = Catalogue().register("x", lambda filters: "SELECT 1")  # type: ignore[arg-type,return-value]

    with pytest.raises(DatasetError, match="function of dataset 'x' must return a select, not str"):
        dataset.statement()


@pytest.mark.parametrize(
    ("name", "query", "filters", "message"),
    [
        ("a/b", sa.select(orders), {}, "'a/b' cannot name a dataset: use up to 64 letters"),
        (".hidden", sa.select(orders), {}, "cannot name a dataset"),
        (
            "x",
            sa.select(orders),
            {"a b": orders.c.Paid},
            "filter 'a b' of dataset 'x': use letters",
        ),
        ("x", sa.select(orders), {"a": "string"}, "'a' of dataset 'x' does not say what it does"),
        (
            "x",
            sa.select(orders),
            {"a": Filter("text")},
            "has the type 'text'; choose one of string",
        ),
        (
            "x",
            sa.select(shelves),
            {"a": shelves.c.parts},
            r"'a' of dataset 'x': a filter cannot be",
        ),
        ("x", sa.union(sa.select(orders)), {"a": orders.c.Paid}, "only a plain select can be filt"),
    ],
)
def test_what_could_not_work_is_refused_when_registered(
    name: str, query: sa.SelectBase, filters: dict[str, Any], message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        Catalogue().register(name, query, filters=filters)


# --- finding


def test_an_unknown_dataset_names_the_known_ones(toml: Path) -> None:
    catalogue = Catalogue()
    with pytest.raises(DatasetError, match="no dataset 'x'; there are none: call register_dataset"):
        catalogue.find("x")

    catalogue.register("customers", sa.select(customers))
    with pytest.raises(
        DatasetError, match=r"no dataset 'x'; the datasets: customers, orders, plain, web-shop\.v2"
    ):
        catalogue.find("x", toml)


def test_both_kinds_are_found_by_name(toml: Path) -> None:
    catalogue = Catalogue()
    registered = catalogue.register("customers", sa.select(customers))

    assert catalogue.find("customers", toml) is registered
    assert catalogue.find("plain", toml).name == "plain"


def test_one_name_for_two_datasets_is_refused(toml: Path) -> None:
    catalogue = Catalogue()
    catalogue.register("orders", sa.select(orders))

    with pytest.raises(
        DatasetError, match=r"'orders' is registered in Python and in '.*rename one"
    ):
        catalogue.find("plain", toml)


def test_the_module_has_a_catalogue_of_its_own() -> None:
    registered = register_dataset("datasets-test", sa.select(orders))

    assert isinstance(registered, Dataset)
    assert find_dataset("datasets-test") is registered
