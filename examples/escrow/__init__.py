"""An escrow: money is held until both sides agree, and everything that can wait is a job.

    JOBS_HANDLERS=escrow

This module names the kinds and brings the routes along.
"""

from .emails import (
    notify_dispute_resolved,
    send_dispute_email,
    send_payment_confirmed_email,
    send_refund_email,
    send_release_email,
)
from .partners import audit_log_created, webhook_escrow_status_changed
from .payments import payment_authorised, stripe_capture_payment, stripe_refund_payment
from .routes import blueprint

__all__ = [
    "audit_log_created",
    "blueprint",
    "notify_dispute_resolved",
    "payment_authorised",
    "send_dispute_email",
    "send_payment_confirmed_email",
    "send_refund_email",
    "send_release_email",
    "stripe_capture_payment",
    "stripe_refund_payment",
    "webhook_escrow_status_changed",
]
