"""The pages on webhooks: their code runs, what they say of headers and variables holds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.core.settings import known_variables
from jobs.handlers.incoming import kind_of
from jobs.handlers.providers import PROVIDERS
from jobs.handlers.webhook import Webhook, signed_headers
from tests.support.web import ROOT
from tests.webhooks.conftest import SECRET

PAGES = {
    name: (ROOT / "docs" / "batteries" / f"{name}.md").read_text("utf-8")
    for name in ("webhooks", "incoming")
}


def code_of(name: str) -> str:
    return "\n".join(re.findall(r"```python\n(.*?)```", PAGES[name], re.DOTALL))


def run(code: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "JOBS_ENV": "development", **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_code_on_outgoing_ones_runs(tmp_path: Path) -> None:
    shown = "print(len(tickwork.list()), {each.subject for each in tickwork.controls()})"
    done = run(
        f"{code_of('webhooks')}\n{shown}",
        tmp_path,
        JOBS_HANDLERS="jobs.handlers.webhook",
        SECRET_KEY="a-key-of-the-application",
        JOBS_AUTO_START="0",
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 ")


def test_the_code_on_incoming_ones_declares_what_the_page_says(tmp_path: Path) -> None:
    done = run(f"{code_of('incoming')}\nprint(paid.kind, from_the_shop.kind)", tmp_path)

    assert done.returncode == 0, done.stderr
    first, second = kind_of("stripe", "payment_intent.succeeded"), kind_of("shopify")
    assert done.stdout.split() == [first, second]
    assert f"`{first}`" in PAGES["incoming"]


def test_the_table_of_headers_is_what_is_sent() -> None:
    request = Webhook("https://x.example/", {}, "env:WEBHOOK_SECRET_A", "a.b")
    sent = {name for name in signed_headers(request, b"{}", [SECRET], "1", 2) if "webhook" in name}
    named = set(re.findall(r"^\| `((?:x-)?webhook-[a-z]+)`", PAGES["webhooks"], re.MULTILINE))

    assert named == sent


def test_the_table_of_providers_is_whole() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `([A-Z_]+)` \|", PAGES["incoming"], re.MULTILINE)

    assert dict(rows) == {each.name: each.variable for each in PROVIDERS.values()}


@pytest.mark.parametrize("name", PAGES)
def test_the_variables_of_the_pages_are_read(name: str) -> None:
    named = set(re.findall(r"\b((?:JOBS|[A-Z]+_WEBHOOK)_[A-Z_]+)\b", PAGES[name]))
    named = {each for each in named if not each.startswith("WEBHOOK_SECRET")}

    assert named
    assert named <= known_variables()
