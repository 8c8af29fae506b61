"""The shop by HTTP: what customers ask, and what its own people decide."""

from __future__ import annotations

from collections import Counter
from typing import Any

import sqlalchemy as sa
from flask import Blueprint, abort, request
from flask.typing import ResponseReturnValue

from jobs import PayloadError

from . import accounts, orders, reviews, steps, stock
from .auth import admin, customer, system
from .tables import orders as order_table
from .tables import reviews as review_table

blueprint = Blueprint("shop", __name__, url_prefix="/api")


@blueprint.post("/customers")
def sign_up() -> ResponseReturnValue:
    """`{name, email, password}`."""
    body = _texts("name", "email", "password")
    _check_password(body["password"])
    try:
        made = accounts.sign_up(system(), body["name"], body["email"], body["password"])
    except accounts.TakenError:
        abort(409, "There is a customer of that e-mail address.")
    except PayloadError as error:
        abort(400, f"{error}.")
    return {"customerId": made}, 201


@blueprint.post("/password-resets")
def forget_password() -> ResponseReturnValue:
    """`{email}`. The answer is the same whether there is such a customer or not."""
    accounts.send_password_reset.enqueue({"email": _texts("email")["email"].lower()})
    return {"accepted": True}, 202


@blueprint.post("/password")
def set_password() -> ResponseReturnValue:
    """`{token, password}`, once and within an hour."""
    body = _texts("token", "password")
    _check_password(body["password"])
    if not accounts.set_password(system(), body["token"], body["password"]):
        abort(400, "This link was used before, or is too old.")
    return {"success": True}


@blueprint.post("/orders")
def place_order() -> ResponseReturnValue:
    """`{items: [{sku, quantity}]}`: the order, its goods and its jobs, in one transaction."""
    who = customer()
    try:
        return orders.place(system(), who, _wanted()), 201
    except stock.OutOfStockError as error:
        abort(409, f"{error}.")


@blueprint.post("/orders/<order_id>/cancel")
def cancel_order(order_id: str) -> ResponseReturnValue:
    """For as long as no money has been asked for."""
    tickwork = system()
    _own_order(order_id)
    with tickwork.engine.begin() as connection:
        start = ("pending", "review")
        if not steps.cancel(tickwork, connection, order_id, "by the customer", start=start):
            abort(409, "It is too late to cancel this order.")
    orders.keep(tickwork, order_id)
    return {"orderId": order_id, "status": "cancelled"}


@blueprint.post("/orders/<order_id>/return")
def return_order(order_id: str) -> ResponseReturnValue:
    """`{reason}`: somebody will look at it."""
    tickwork = system()
    order = _own_order(order_id)
    reason = _texts("reason")["reason"]
    if order.status not in ("shipped", "delivered"):
        abort(409, f"An order that is {order.status} cannot be sent back.")
    try:
        with tickwork.engine.begin() as connection:
            because = f"{order.number} is to be sent back: {reason}"
            made = reviews.ask(tickwork, connection, "return-request", order_id, because)
    except sa.exc.IntegrityError:
        abort(409, "This was asked before.")
    return {"reviewId": made}, 202


@blueprint.post("/admin/orders/<order_id>/status")
def update_status(order_id: str) -> ResponseReturnValue:
    """`{status: shipped | delivered, carrier?, trackingNumber?}`, for the shop's people."""
    admin()
    body: Any = request.get_json(silent=True)
    if not isinstance(body, dict):
        abort(400, "The body is a JSON object.")
    try:
        job = system().enqueue("update-order-status", {**body, "orderId": order_id})
    except PayloadError as error:
        abort(400, f"{error}.")
    return {"jobId": job.id}, 202


@blueprint.get("/admin/reviews")
def list_reviews() -> ResponseReturnValue:
    """What waits for a decision."""
    admin()
    open_ones = sa.select(review_table).where(review_table.c.decision.is_(None))
    with system().engine.connect() as connection:
        found = connection.execute(open_ones.order_by(review_table.c.id)).all()
    return {
        "reviews": [
            {"id": each.id, "kind": each.kind, "orderId": each.order_id, "because": each.because}
            for each in found
        ]
    }


@blueprint.post("/admin/reviews/<review_id>")
def decide(review_id: str) -> ResponseReturnValue:
    """`{decision: approve | refuse}`."""
    by = admin()
    decision = _texts("decision")["decision"]
    if decision not in ("approve", "refuse"):
        abort(400, "decision: approve or refuse.")
    try:
        reviews.decide(system(), review_id, decision, by)
    except reviews.NotDecidedError as error:
        abort(409, f"{error}.")
    return {"reviewId": review_id, "decision": decision}


def _own_order(order_id: str) -> sa.Row[Any]:
    own = sa.select(order_table).where(
        order_table.c.id == order_id, order_table.c.customer_id == customer().id
    )
    with system().engine.connect() as connection:
        found = connection.execute(own).first()
    if found is None:
        abort(404, "You have no such order.")
    return found


def _wanted() -> dict[str, int]:
    body: Any = request.get_json(silent=True)
    items = body.get("items") if isinstance(body, dict) else None
    wanted: Counter[str] = Counter()
    for item in items if isinstance(items, list) else ():
        sku, quantity = (
            (item.get("sku"), item.get("quantity")) if isinstance(item, dict) else (None, None)
        )
        if not isinstance(sku, str) or type(quantity) is not int or not 1 <= quantity <= 100:
            abort(400, "items: each has a sku and a quantity of 1 to 100.")
        wanted[sku] += quantity
    if not 1 <= len(wanted) <= 50:
        abort(400, "items: 1 to 50 products.")
    return dict(wanted)


def _texts(*names: str) -> dict[str, str]:
    body: Any = request.get_json(silent=True)
    for name in names:
        text = body.get(name) if isinstance(body, dict) else None
        if not isinstance(text, str) or not 0 < len(text.strip()) <= 200:
            abort(400, f"{name}: a text of 1 to 200 characters is needed.")
    return {name: body[name].strip() for name in names}


def _check_password(password: str) -> None:
    if len(password) < 10:
        abort(400, "password: ten characters or more.")
