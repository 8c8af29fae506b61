"""Data for every shipped template, as an application would give it."""

from __future__ import annotations

from typing import Any

SAMPLES: dict[str, dict[str, Any]] = {
    "order-confirmation": {
        "name": "Ada",
        "orderNumber": "2026-10427",
        "items": [
            {"name": "Café à la crème, 1 kg, whole beans", "quantity": 2, "price": 38.0},
            {"name": "Filter papers", "quantity": 1, "price": 4.5},
            "A sticker",
        ],
        "total": 1042.5,
        "currency": "EUR",
        "shippingAddress": "Ada Lovelace\n12 St James's Square\nLondon",
        "orderUrl": "https://shop.example/orders/2026-10427",
    },
    "shipping-notification": {
        "name": "Ada",
        "orderNumber": "2026-10427",
        "carrier": "DHL",
        "trackingNumber": "00340434161094021501",
        "estimatedDelivery": "Friday, 27 November",
        "items": [{"name": "Café à la crème, 1 kg", "quantity": 2}],
        "trackingUrl": "https://track.example/00340434161094021501?lang=en&ref=mail",
    },
    "password-reset": {
        "name": "Ada",
        "resetUrl": "https://shop.example/reset/4f1c0b7e9a2d4c5e8b6f7a1d2c3e4f5a6b7c8d9e0f1a2b3c",
        "expiresIn": "one hour",
    },
    "welcome": {
        "name": "Ada",
        "message": "Your trial runs for 14 days.\nWe are glad to have you.",
        "actionUrl": "https://shop.example/start",
    },
    "report-delivery": {
        "name": "Ada",
        "title": "Weekly report",
        "period": "16 to 22 November",
        "summary": [
            {"label": "Orders", "value": "1,204"},
            {"label": "Revenue", "value": "EUR 48,210.00"},
            {"label": "Returns", "value": "31"},
        ],
        "reportUrl": "https://files.example/reports/weekly/0190.csv",
        "note": "The link works for 7 days.",
    },
    "team-invitation": {
        "inviterName": "Grace Hopper",
        "teamName": "Compilers",
        "role": "editor",
        "inviteUrl": "https://shop.example/join/9b2f",
        "expiresIn": "7 days",
    },
    "alert-notification": {
        "severity": "CRITICAL",
        "alertType": "DATA_ANOMALY",
        "message": "Revenue dropped 50% from yesterday",
        "metadata": {"metric": "revenue", "change": -50},
        "alertUrl": "https://shop.example/alerts/17",
    },
}
"""By the name of the template: every variable that it knows."""

LEAST: dict[str, dict[str, Any]] = {
    "order-confirmation": {"orderNumber": "1", "items": [], "total": "Rs 1,499"},
    "shipping-notification": {"orderNumber": "1"},
    "password-reset": {"resetUrl": "https://shop.example/r"},
    "welcome": {"name": "Ada"},
    "report-delivery": {"title": "Weekly report"},
    "team-invitation": {
        "inviterName": "Grace",
        "teamName": "Compilers",
        "inviteUrl": "https://shop.example/j",
    },
    "alert-notification": {"severity": "LOW", "message": "Stock is low"},
}
"""By the name of the template: what it cannot do without."""
