"""The ERP hears of every paid order, once.

ERP_URL, ERP_TOKEN     its API; `fake_erp.py` is one for a laptop
"""

from __future__ import annotations

import json
import os
from typing import Any

import sqlalchemy as sa
import urllib3

from jobs import Discard, JobContext, Snooze, handler
from jobs.handlers.answers import Meaning, meaning_of, retry_after

from .orders import OrderRef
from .tables import customers, order_lines, orders

TIMEOUT_SECONDS = 10.0
_LATER_SECONDS = 60.0


class ErpDownError(Exception):
    """It did not answer, or not as it should. It may have the order all the same."""


@handler("sync-with-erp", queue="order", timeout=30, log_context=["orderId"])
def sync_with_erp(payload: OrderRef, ctx: JobContext) -> dict[str, str]:
    """Send an order. Every attempt bears the same key, by which the ERP knows it again."""
    engine = sync_with_erp.system.engine
    with engine.connect() as connection:
        document = _document(connection, payload["orderId"])
    erp_id = _post(document, ctx)
    with engine.begin() as connection:
        _remember(connection, payload["orderId"], erp_id)
    return {"erpId": erp_id}


def _document(connection: sa.Connection, order_id: str) -> dict[str, Any]:
    order = connection.execute(
        sa.select(orders.c.number, orders.c.total, customers.c.email)
        .join(customers, customers.c.id == orders.c.customer_id)
        .where(orders.c.id == order_id)
    ).one()
    lines = sa.select(order_lines.c.sku, order_lines.c.quantity, order_lines.c.price)
    found = connection.execute(lines.where(order_lines.c.order_id == order_id))
    return {**order._asdict(), "lines": [line._asdict() for line in found]}


def _post(document: dict[str, Any], ctx: JobContext) -> str:
    headers = {
        "Authorization": f"Bearer {os.environ.get('ERP_TOKEN', '')}",
        "Idempotency-Key": ctx.idempotency_key,
    }
    try:
        with urllib3.PoolManager(timeout=TIMEOUT_SECONDS) as pool:
            url = f"{os.environ['ERP_URL']}/orders"
            answer = pool.request("POST", url, headers=headers, json=document, retries=False)
    except urllib3.exceptions.HTTPError as error:
        raise ErpDownError(f"the ERP did not answer: {type(error).__name__}") from error
    said = f"the ERP answered {answer.status}"
    if answer.status == 429:  # it has done nothing, so this was no attempt
        wait = retry_after(answer.headers.get("Retry-After"), sync_with_erp.system.clock.now())
        raise Snooze(_LATER_SECONDS if wait is None else wait)
    match meaning_of(answer.status):
        case Meaning.DELIVERED:
            return str(json.loads(answer.data)["id"])
        case Meaning.LATER:
            raise ErpDownError(said)
        case _:
            raise Discard(said)


def _remember(connection: sa.Connection, order_id: str, erp_id: str) -> None:
    connection.execute(sa.update(orders).where(orders.c.id == order_id).values(erp_id=erp_id))
