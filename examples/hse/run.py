"""Plays a week of two organisations by HTTP, and shows who hears of what.

    python -m hse.run               # in the folder `examples`

Everything lies in a new folder: the database, the reports and the mails.
"""

from __future__ import annotations

import tempfile
from base64 import b64encode
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from jobs import Tickwork

from .app import create
from .tables import metadata, organizations, webhooks

HANDLERS: Final = (
    __package__ or "hse",
    "jobs.handlers.email",
    "jobs.handlers.webhook",
    "jobs.handlers.report",
    "jobs.handlers.data_export",
    "jobs.handlers.onboarding",
)
# For this run alone: a deployment has secrets of its own in its environment.
CRON: Final = {"Authorization": "Bearer the-cron-of-this-run"}
SALES: Final = {"Authorization": "Bearer the-sales-people-of-this-run"}
PASSWORD: Final = "correct horse"  # noqa: S105 - of people made up


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="hse-"))
    with closing(open_system(folder)) as tickwork:
        client = create(tickwork).test_client()

        def ask(method: str, path: str, headers: Mapping[str, str], body: Any = None) -> Any:
            answer = client.open(path, method=method, headers=dict(headers), json=body)
            print(f"{method} {path}\n    {answer.status_code} {answer.text.strip()[:400]}")
            return answer.json

        for name in ("ann", "bob"):
            person = {"name": name.title(), "email": f"{name}@example.com", "password": PASSWORD}
            company = {"organizationName": f"{name.title()}'s mine"}
            ask("POST", "/api/auth/signup", {}, {**person, **company})
        subscribe(tickwork, "Ann's mine")
        customer = {"organizationName": "Acme Corp", "adminName": "John Doe"}
        customer |= {"adminEmail": "admin@acme.example", "tier": "professional"}
        ask("POST", "/api/jobs/tenant-onboarding", SALES, customer)
        incident = {"title": "A ladder slipped", "severity": "High"}
        ask("POST", "/api/incidents", login("ann"), incident)
        everything = {"entities": ["incidents", "users"], "notifyEmail": "bob@example.com"}
        ask("POST", "/api/jobs/data-exports", login("bob"), everything)
        tickwork.schedule_now("weekly-compliance")  # as Sunday's midnight would
        for _ in range(3):  # the mails of the welcome and the reports come with the next call
            ask("POST", "/cron/process-jobs?limit=50", CRON)
        print("\nAnn and Bob see their own:")
        for name in ("ann", "bob"):
            ask("GET", "/api/jobs/stats", login(name))
    mails = sorted(each.name for each in (folder / "outbox").glob("*.eml"))
    print(f"\n{folder}", *mails, sep="\n    ")


def open_system(folder: Path) -> Tickwork:
    """The system in that folder, with its tables."""
    tickwork = Tickwork(
        f"sqlite:///{folder}/hse.db",
        handlers=HANDLERS,
        cron_secret=CRON["Authorization"].removeprefix("Bearer "),
        admin_token=SALES["Authorization"].removeprefix("Bearer "),
        secret_key="the key of this run alone",  # noqa: S106
        blob_url=str(folder / "files"),
        smtp_url=str(folder / "outbox"),
        email_from="HSE Digital <noreply@hse.example>",
        tick_limit=700.0,  # no platform ends this process; an export may take 600 s
    )
    tickwork.create_schema()
    with tickwork.engine.begin() as connection:
        metadata.create_all(connection)
    return tickwork


def subscribe(tickwork: Tickwork, organization: str) -> None:
    """A webhook for incidents. Nobody answers there, so its job will be tried again."""
    with tickwork.engine.begin() as connection:
        own = sa.select(organizations.c.id).where(organizations.c.name == organization)
        connection.execute(
            sa.insert(webhooks).values(
                organization_id=connection.scalar(own),
                url="https://hooks.invalid/incidents",
                secret="a-secret-of-both-sides",  # noqa: S106
                events=["incident.created"],
            )
        )


def login(name: str) -> dict[str, str]:
    credentials = b64encode(f"{name}@example.com:{PASSWORD}".encode()).decode()
    return {"Authorization": f"Basic {credentials}"}


if __name__ == "__main__":
    main()
