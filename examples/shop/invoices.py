"""A paid order's invoice: a PDF in the blob store, and a mail that brings it."""

from __future__ import annotations

import sqlalchemy as sa

from jobs import JobContext, handler
from jobs.handlers.email import queue_email
from jobs.handlers.report import ReportJob, report

from .orders import MAIL, OrderRef
from .tables import customers, orders


@handler("generate-invoice", queue="order", timeout=60, log_context=["orderId"])
def generate_invoice(payload: OrderRef, ctx: JobContext) -> dict[str, str]:
    """Write the PDF; note where it is and enqueue its mail in one transaction.

    A second attempt writes the same file again, and its mail is the first one's.
    """
    order_id = payload["orderId"]
    tickwork = generate_invoice.system
    # The battery's handler: the file lies under this job's id.
    made = report(ReportJob(type="invoice", format="pdf", filters={"orderId": order_id}), ctx)
    with tickwork.engine.begin() as connection:
        order = connection.execute(
            sa.select(orders.c.number, customers.c.name, customers.c.email)
            .join(customers, customers.c.id == orders.c.customer_id)
            .where(orders.c.id == order_id)
        ).one()
        connection.execute(
            sa.update(orders).where(orders.c.id == order_id).values(invoice_url=made["file_url"])
        )
        queue_email(
            to=order.email,
            subject=f"Your invoice for order {order.number}",
            text=f"Hello {order.name},\n\nthe invoice for your order is attached.\n",
            attachments=[{"file_url": made["file_url"], "name": f"invoice-{order.number}.pdf"}],
            dedupe_key=f"invoice-{order_id}",
            session=connection,
            tickwork=tickwork,
            **MAIL,
        )
    return {"file_url": made["file_url"]}
