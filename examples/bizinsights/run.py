"""Plays a morning of two organisations by HTTP: connects them, syncs, and looks at what it says.

    python -m bizinsights.run       # in the folder `examples`

Everything lies in a new folder: the database, the report and the mails. The platforms are the
server of `fake_platforms.py`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from cryptography.fernet import Fernet

from jobs import Tickwork
from jobs.handlers.sync import create_sync_tables

from .app import create
from .fake_platforms import Fact, FakePlatforms
from .platforms import INSTEAD
from .tables import metadata

HANDLERS: Final = (
    __package__ or "bizinsights",
    "jobs.handlers.sync",
    "jobs.handlers.insights",
    "jobs.handlers.report",
    "jobs.handlers.alert",
    "jobs.handlers.email",
)
# For this run alone: a deployment has secrets of its own in its environment.
CRON: Final = {"Authorization": "Bearer the-cron-of-this-run"}
OURS: Final = {"Authorization": "Bearer our-own-people-of-this-run"}


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="bizinsights-"))
    with FakePlatforms() as fake, closing(open_system(folder)) as tickwork:
        os.environ[INSTEAD] = fake.url
        open_accounts(fake)
        client = create(tickwork).test_client()

        def ask(method: str, path: str, headers: Mapping[str, str], body: Any = None) -> Any:
            answer = client.open(path, method=method, headers=dict(headers), json=body)
            shown = "(a token)" if path.endswith("/tokens") else answer.text.strip()[:600]
            print(f"{method} {path}\n    {answer.status_code} {shown}")
            return answer.json

        def run_jobs() -> None:
            while ask("POST", "/cron/process-jobs?limit=50", CRON)["processed"]:
                pass

        people = {}
        for name in ("acme", "bolt"):
            customer = {"name": name.title(), "adminEmail": f"admin@{name}.example"}
            made = ask("POST", "/api/organizations", OURS, {**customer, "tier": "professional"})
            wanted = {"role": "operator", "tenant": made["id"], "name": name}
            token = ask("POST", "/api/admin/tokens", OURS, wanted)["token"]
            people[name] = {"Authorization": f"Bearer {token}"}
        for name, platform in (("acme", "shopify"), ("acme", "stripe"), ("bolt", "shopify")):
            account = {"platform": platform, "account": name, "credentials": f"secret-of-{name}"}
            ask("POST", "/api/integrations", people[name], account)
        run_jobs()
        ask("POST", "/api/jobs/insights", people["acme"], {"period": "30d"})
        weekly = {"type": "weekly", "format": "pdf", "notifyEmail": "team@acme.example"}
        ask("POST", "/api/jobs/reports", people["acme"], weekly)
        run_jobs()
        tickwork.schedule_now("watch")  # as the full hour would
        run_jobs()  # what it finds becomes alerts, and these become mails
        print("\nEach sees its own:")
        for name in ("acme", "bolt"):
            ask("GET", "/api/integrations", people[name])
            ask("GET", "/api/alerts", people[name])
        ask("GET", "/api/jobs/monitoring", OURS)
    mails = sorted(each.name for each in (folder / "outbox").glob("*.eml"))
    print(f"\n{folder}", *mails, sep="\n    ")


def open_system(folder: Path) -> Tickwork:
    """The system in that folder, with its tables."""
    tickwork = Tickwork(
        f"sqlite:///{folder}/bizinsights.db",
        handlers=HANDLERS,
        cron_secret=CRON["Authorization"].removeprefix("Bearer "),
        admin_token=OURS["Authorization"].removeprefix("Bearer "),
        encryption_keys=(Fernet.generate_key().decode(),),
        blob_url=str(folder / "files"),
        smtp_url=str(folder / "outbox"),
        email_from="BizInsights <noreply@bizinsights.example>",
        tick_limit=400.0,  # no platform ends this process; a report may take 300 s
    )
    tickwork.create_schema()
    create_sync_tables(tickwork.engine)
    with tickwork.engine.begin() as connection:
        metadata.create_all(connection)
    return tickwork


def open_accounts(fake: FakePlatforms) -> None:
    """Sixty days of sales each; Acme's of yesterday are far below."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for platform, name in (("shopify", "acme"), ("stripe", "acme"), ("shopify", "bolt")):
        account = fake.open(platform, name, f"secret-of-{name}")
        for back in range(60, 0, -1):
            usual = Decimal(400 + 7 * (back % 7))
            amount = Decimal(40) if (back, name) == (1, "acme") else usual
            account.facts.append(Fact(1000 - back, today - timedelta(days=back), amount))


if __name__ == "__main__":
    main()
