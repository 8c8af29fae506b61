"""The generated shop: always the same, and with what makes exports go wrong."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
import sqlalchemy as sa

from jobs.demo import tables
from jobs.demo.shop import create_shop

SCRIPTS = ("LATIN", "GREEK", "CYRILLIC", "ARABIC", "HEBREW", "DEVANAGARI", "CJK")
MORE_SCRIPTS = ("HIRAGANA", "HANGUL")


def content(seed: int = 7) -> dict[str, list[Any]]:
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        create_shop(connection, orders=500, customers=300, products=12, seed=seed)
        found = {
            table.name: list(connection.execute(sa.select(table)).all())
            for table in tables.metadata.sorted_tables
        }
    engine.dispose()
    return found


@pytest.fixture(scope="module")
def shop() -> dict[str, list[Any]]:
    return content()


def test_it_is_always_the_same(shop: dict[str, list[Any]]) -> None:
    assert content() == shop
    assert content(seed=8) != shop


def test_names_come_in_many_scripts(shop: dict[str, list[Any]]) -> None:
    names = "".join(customer.name for customer in shop["customers"])
    known = " ".join(unicodedata.name(letter) for letter in set(names))

    assert [script for script in SCRIPTS + MORE_SCRIPTS if script not in known] == []
    assert "É" in names
    assert '"' in names
    assert "," in names
    assert "🌵" in names


def test_notes_hold_what_makes_exports_go_wrong(shop: dict[str, list[Any]]) -> None:
    notes = {order.note for order in shop["orders"]}

    assert {None, "", "NULL"} <= notes
    texts = "".join(note for note in notes if note)
    assert all(text in texts for text in ('"', ",", "\n", "\r\n", "\t", "\\", "🎁"))
    assert {note[0] for note in notes if note} >= set("=+-@")


def test_totals_and_stores_agree_with_the_items(shop: dict[str, list[Any]]) -> None:
    store_of = {product.id: product.storeId for product in shop["products"]}
    customer_store = {customer.id: customer.storeId for customer in shop["customers"]}
    for order in shop["orders"]:
        items = [item for item in shop["order_items"] if item.orderId == order.id]
        assert order.total == sum(item.quantity * item.price for item in items) > 0
        assert {store_of[item.productId] for item in items} == {order.storeId}
        assert customer_store.get(order.customerId, order.storeId) == order.storeId
