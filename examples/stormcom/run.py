"""Asks a shop for an export, lets the cron call, and shows what there is then.

    python -m stormcom.run          # in the folder `examples`

The shop is that of the demo, made anew in `.tickwork/stormcom`; `tickwork serve` finds it there.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from jobs import Tickwork
from jobs.demo.shop import BRANCHES, create_shop
from jobs.http import create_app

FOLDER: Final = Path(".tickwork/stormcom")
# For this run alone: a deployment has secrets of its own in its environment.
CRON: Final = {"Authorization": "Bearer the-cron-of-this-run"}
SHOPKEEPER: Final = {"Authorization": "Bearer the-shopkeeper-of-this-run"}


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    with closing(open_shop(FOLDER)) as tickwork:
        client = create_app(tickwork).test_client()

        def ask(method: str, path: str, headers: Mapping[str, str], body: Any = None) -> Any:
            answer = client.open(path, method=method, headers=headers, json=body)
            print(f"{method} {path}\n    {answer.status_code} {answer.text.strip()}")
            return answer.json

        branch = BRANCHES[0]
        made = ask(
            "POST",
            "/api/orders/export",
            SHOPKEEPER,
            {"storeId": branch.store_id, "userId": branch.user_id, "filters": {"status": "paid"}},
        )
        record_path = f"/api/orders/export/{made['jobId']}"
        ask("GET", record_path, SHOPKEEPER)
        ask("GET", "/api/cron/process-export-jobs", CRON)
        record = ask("GET", record_path, SHOPKEEPER)
    file = Path(unquote(urlsplit(record["fileUrl"]).path))
    lines = file.read_text("utf-8").splitlines()
    (mail,) = (FOLDER / "outbox").glob("*.eml")
    print(f"\n{file}\n    {lines[0]}\n    {lines[1]}\n    ...\n{mail}")


def open_shop(folder: Path, orders: int = 2_000) -> Tickwork:
    """The system of a shop in that folder, with its tables filled."""
    tickwork = Tickwork(
        f"sqlite:///{folder}/shop.db",
        handlers=["jobs.demo.orders"],
        cron_secret=CRON["Authorization"].removeprefix("Bearer "),
        admin_token=SHOPKEEPER["Authorization"].removeprefix("Bearer "),
        blob_url=str(folder / "files"),
        smtp_url=str(folder / "outbox"),
        email_from="StormCom <shop@stormcom.example>",
        tick_limit=700.0,  # no platform ends this process; the kind's timeout is 600 s
    )
    tickwork.create_schema()
    with tickwork.engine.begin() as connection:
        create_shop(connection, orders=orders)
    return tickwork


if __name__ == "__main__":
    main()
