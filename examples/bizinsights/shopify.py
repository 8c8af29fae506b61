"""Shopify's webhooks: `/webhooks/shopify` checks, enqueues and answers; here is what follows.

The signature covers the body alone, so the body says whose an order is: its status page's host.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa

from jobs import Discard, JobContext
from jobs.handlers.incoming import on_webhook
from jobs.handlers.sync import data_sync

from .platforms import shopify_order
from .records import save_records
from .tables import integrations

_ENDING = ".myshopify.com"


def webhook_owner(platform: str, payload: Any) -> dict[str, str]:
    """The organisation and integration of an event; none where the shop is nobody's."""
    if platform != "shopify" or not isinstance(payload, dict):
        return {}
    host = urlsplit(str(payload.get("order_status_url", ""))).hostname or ""
    if not host.endswith(_ENDING):
        return {}
    own = sa.select(integrations).where(
        integrations.c.platform == platform,
        integrations.c.account == host.removesuffix(_ENDING),
    )
    with data_sync.system.engine.connect() as connection:
        found = connection.execute(own).first()
    if found is None:
        return {}
    return {"organizationId": found.organization_id, "integrationId": found.id}


@on_webhook("shopify", queue="webhooks", transactional=True)
def shopify_event(event: dict[str, Any], ctx: JobContext) -> str:
    """An order that was made or changed becomes its row, as a sync would have it."""
    if event["eventType"].partition("/")[0] != "orders":
        return f"{event['eventType']} is of no use here"
    if "integrationId" not in event:
        raise Discard("no organisation here has this shop")
    save_records(
        ctx.session.connection(),
        event["organizationId"],
        event["integrationId"],
        [shopify_order(event["payload"])],
    )
    return f"order {event['payload']['id']}"
