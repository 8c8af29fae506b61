"""The system page: what runs here, its settings without their secrets, what the doctor finds."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from flask import Response
from msgspec.structs import fields

from jobs.core.settings import SECRET_FIELDS, mask_url
from jobs.http.dashboard.desk import Desk
from jobs.http.dashboard.words import NOTHING

PLATFORMS = ("VERCEL_REGION", "AWS_REGION", "VERCEL_GIT_COMMIT_SHA", "AWS_LAMBDA_FUNCTION_NAME")


def show(desk: Desk) -> Response:
    """``GET /system``."""
    desk.need_control()
    system = desk.tickwork
    facts = [
        ("Tickwork", _version("tickwork")),
        ("Python", platform.python_version()),
        ("Store", type(system.store).__name__),
        ("Can do", ", ".join(sorted(system.store.capabilities))),
        ("Namespace", system.settings.namespace or "(none)"),
        ("Kinds here", str(len(system.registry))),
        *((name, os.environ[name]) for name in PLATFORMS if os.environ.get(name)),
    ]
    return desk.page(
        "system.html",
        facts=facts,
        nothing=NOTHING,
        settings=settings_of(system.settings),
        findings=system.doctor(),
    )


def settings_of(settings: Any) -> list[tuple[str, str, bool]]:
    """Each setting: its field, its value as it may be seen, and whether it was hidden."""
    rows = []
    for each in fields(settings):
        value = getattr(settings, each.name)
        if value is None or value == ():
            rows.append((each.name, NOTHING, False))
        elif each.name in SECRET_FIELDS:
            rows.append((each.name, "set, not shown", True))
        elif isinstance(value, str) and (each.name.endswith("_url") or "://" in value):
            rows.append((each.name, mask_url(value), mask_url(value) != value))
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
            rows.append((each.name, shown, False))
    return rows


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "?"
