"""The other jobs of the shop: mails, pictures, stock, prices; some fail and heal, one never does.

Their waits are short, so that the demo is over in seconds. Yours should not be: see `backoff=`.
"""

from __future__ import annotations

import asyncio
import colorsys
import io
import struct
import time
import zlib
from typing import Any, Final, TypedDict

import sqlalchemy as sa

from jobs.core.backoff import fixed
from jobs.core.context import JobContext
from jobs.core.registry import handler
from jobs.demo.tables import customers, products
from jobs.handlers.blob import open_blob_store
from jobs.handlers.mail.message import Mail
from jobs.handlers.mail.send import send_mail

THUMBNAIL_PIXELS: Final = 48
_SOON: Final = fixed(0.4)


class Customer(TypedDict):
    """A customer, by the id in the shop's table."""

    customerId: int


class Product(TypedDict):
    """A product, by the id in the shop's table."""

    productId: int


class Delivery(TypedDict):
    """Pieces of a product that came in."""

    productId: int
    pieces: int


@handler("welcome-mail", queue="mails", max_attempts=5, backoff=_SOON)
def welcome_mail(payload: Customer, ctx: JobContext) -> dict[str, Any]:
    """Greet a customer; a repeat carries the same Message-ID, so most mailboxes show one."""
    engine = welcome_mail.system.engine
    with engine.connect().execution_options(tickwork_read_only=True) as connection:
        row = connection.execute(
            sa.select(customers.c.name, customers.c.email).where(
                customers.c.id == payload["customerId"]
            )
        ).one()
    # The connection is given back before anybody waits for a mail server.
    mail = Mail(
        to=row.email,
        subject=f"Welcome, {row.name}!",
        text=f"Hello {row.name},\n\nyour account at StormCom is ready.\n",
        idempotency_key=ctx.idempotency_key,
    )
    return {"messageId": send_mail(mail, ctx.settings)["message_id"]}


@handler("thumbnail", queue="pictures", timeout=20)
def thumbnail(payload: Product, ctx: JobContext) -> dict[str, Any]:
    """Draw a small picture of a product and keep it in the blob store."""
    picture = io.BytesIO(_draw(payload["productId"], THUMBNAIL_PIXELS))
    key = f"thumbnails/{payload['productId']}.png"
    url = open_blob_store(ctx.settings.blob_url).put(key, picture, "image/png")
    return {"url": url}


@handler("sync-supplier", max_attempts=5, backoff=_SOON)
def sync_supplier(payload: dict[str, Any], ctx: JobContext) -> dict[str, Any]:
    """Ask a supplier for prices; this one is down at the first two attempts."""
    if ctx.attempt <= 2:
        raise ConnectionError(f"{payload['supplier']}: 503 Service Unavailable, try again later")
    return {"supplier": payload["supplier"], "prices": 40}


@handler("charge-card", max_attempts=3, backoff=_SOON)
def charge_card(payload: dict[str, Any]) -> None:
    """Charge a card that will never be accepted: after three attempts it is a dead letter."""
    raise ValueError(f"the bank refuses the card of order {payload['order']}: card expired")


@handler("exchange-rates")
async def exchange_rates(payload: dict[str, Any]) -> dict[str, float]:
    """Ask several banks at once, and wait for all of them without holding a thread."""
    answers = await asyncio.gather(*(_ask_bank(code) for code in payload["currencies"]))
    return dict(answers)


async def _ask_bank(code: str) -> tuple[str, float]:
    await asyncio.sleep(0.1)  # stands for the network
    return code, sum(map(ord, code)) / 200


@handler("restock", transactional=True, max_attempts=4, backoff=_SOON)
def restock(payload: Delivery, ctx: JobContext) -> None:
    """Add what came in to the stock: the change and the job's completion commit together.

    The first attempt of some breaks after its update. That update is rolled back with it, so in
    the end every piece is counted exactly once.
    """
    ctx.session.execute(
        sa.update(products)
        .where(products.c.id == payload["productId"])
        .values(stock=products.c.stock + payload["pieces"])
    )
    if payload["pieces"] == 1 and ctx.attempt == 1:
        raise RuntimeError("the scanner lost its connection after the update")


@handler("remind-cart")
def remind_cart(payload: Customer, ctx: JobContext) -> dict[str, float]:
    """A reminder that was enqueued with a delay; it notes when it ran (seconds since 1970)."""
    ctx.progress(100, "reminded")
    return {"ranAt": time.time()}


def _draw(number: int, size: int) -> bytes:
    """Return a square PNG: a disc on a ground, in colours that follow from the number."""
    ground = _colour(number * 0.618, 0.25)
    disc = _colour(number * 0.618 + 0.5, 0.8)
    radius, middle = (size * 0.4) ** 2, (size - 1) / 2
    rows = bytearray()
    for y in range(size):
        rows.append(0)  # no filter
        for x in range(size):
            rows += disc if (x - middle) ** 2 + (y - middle) ** 2 < radius else ground
    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(rows))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, *zip(*parts, strict=True)))


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _colour(hue: float, saturation: float) -> bytes:
    return bytes(int(255 * part) for part in colorsys.hsv_to_rgb(hue % 1, saturation, 0.9))
