"""A shop: orders, payments, stock and reviews whose slow and failing parts are jobs.

    JOBS_HANDLERS=shop,jobs.handlers.email,jobs.handlers.report,jobs.handlers.sync,...

This module names the kinds and brings the routes along; the README has all of it.
"""

from . import reporting, syncs
from .accounts import send_password_reset
from .erp import sync_with_erp
from .invoices import generate_invoice
from .money import retry_payment_capture, retry_refund
from .orders import auto_cancel
from .reviews import high_value_order, return_request, suspicious_payment
from .routes import blueprint
from .shipping import update_order_status
from .stock import release_inventory
from .syncs import payment_reconciliation
from .webhooks import (
    razorpay_authorized,
    razorpay_captured,
    razorpay_failed,
    stripe_authorised,
    stripe_captured,
    stripe_failed,
)

__all__ = [
    "auto_cancel",
    "blueprint",
    "generate_invoice",
    "high_value_order",
    "payment_reconciliation",
    "razorpay_authorized",
    "razorpay_captured",
    "razorpay_failed",
    "release_inventory",
    "reporting",
    "retry_payment_capture",
    "retry_refund",
    "return_request",
    "send_password_reset",
    "stripe_authorised",
    "stripe_captured",
    "stripe_failed",
    "suspicious_payment",
    "sync_with_erp",
    "syncs",
    "update_order_status",
]
