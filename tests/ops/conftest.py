"""A healthy deployment, which each test breaks in one place."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.core.registry import Registry, handler
from jobs.core.settings import read_settings
from jobs.ops.doctor import Finding, Surroundings, diagnose

ROOT = Path(__file__).parents[2]
SECRET = "k3Jw9qZt7Rb2LxNv5Hc8"

Diagnose = Callable[..., dict[str, Finding]]


def healthy_environment(**more: str) -> dict[str, str]:
    """What a production deployment sets."""
    return {
        "DATABASE_URL": "postgresql://app:Tr1ckyPassw0rd@db.example/app",
        "CRON_SECRET": SECRET,
        "JOBS_HANDLERS": "shop.tasks",
        **more,
    }


def healthy_registry(**options: Any) -> Registry:
    """One kind, ``greet``."""
    registry = Registry()
    registry.add(handler("greet", **options)(lambda payload: None))
    return registry


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project's folder with this repository's own vercel.json and serverless.yml."""
    for name in ("vercel.json", "serverless.yml", ".vercelignore"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "public").mkdir()
    return tmp_path


@pytest.fixture
def static(folder: Path) -> Diagnose:
    """The static checks of a deployment, with changes to its environment; findings by code."""

    def run(
        environ: dict[str, str] | None = None,
        *,
        plan: str | None = "hobby",
        registry: Registry | None = None,
        **more: Any,
    ) -> dict[str, Finding]:
        environ = {**healthy_environment(JOBS_KICK_URL="https://shop.example"), **(environ or {})}
        environ = {name: value for name, value in environ.items() if value}
        around = Surroundings(
            environ=environ,
            folder=folder,
            settings=read_settings(environ),
            registry=registry or healthy_registry(),
            plan=plan,
            **more,
        )
        return {finding.code: finding for finding in diagnose(around)}

    return run
