"""A module with handlers may bring routes of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from jobs import Tickwork
from jobs.http import create_app
from tests.http.conftest import SECRET

MODULE = """
from flask import Blueprint, current_app
from jobs import handler

blueprint = Blueprint("orders", __name__)

@handler("ship")
def ship(payload):
    return payload["id"]

@blueprint.post("/orders/<order_id>")
def order(order_id):
    return {"job": ship.enqueue({"id": order_id}).id}, 202

@blueprint.get("/cached")
def cached():
    return "x", 200, {"Cache-Control": "public, max-age=60"}
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = "orders_with_routes"
    (tmp_path / f"{name}.py").write_text(MODULE)
    # Names the blueprint and the handler again: each is to be there once.
    (tmp_path / "more_orders.py").write_text(f"from {name} import blueprint, ship\n")
    (tmp_path / "not_routes.py").write_text("blueprint = 'of a house'\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    for each in (name, "more_orders", "not_routes"):
        sys.modules.pop(each, None)


def test_the_routes_of_a_handler_module_are_mounted(module: str) -> None:
    tickwork = Tickwork(
        backend="memory",
        env="production",
        cron_secret=SECRET,
        handlers=[module, "more_orders", "not_routes"],
    )
    client = create_app(tickwork).test_client()

    answer = client.post("/orders/7")

    assert answer.status_code == 202
    assert tickwork.tick().jobs == (answer.get_json()["job"],)
    assert client.get("/cached").headers["Cache-Control"] == "public, max-age=60"


def test_the_system_can_be_found_from_a_view() -> None:
    tickwork = Tickwork(auto_start=False)

    assert create_app(tickwork).extensions["tickwork"] is tickwork
