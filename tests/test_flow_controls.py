"""The Python of `docs/flow/controls.md` runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from jobs import Tickwork
from jobs.core.job import State

PAGE = Path(__file__).parent.parent / "docs" / "flow" / "controls.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


def test_the_page(sqlite_url: str, capsys: Any) -> None:
    tickwork = Tickwork(sqlite_url)
    tickwork.create_schema()

    def export(payload: dict[str, Any]) -> None:
        raise OSError("no space on disk")

    tickwork.register_handler("export", export, queue="exports", max_attempts=1)
    ids = tickwork.enqueue_many([("export", {})] * 3)
    tickwork.tick()
    names = {"tickwork": tickwork}
    pausing, retrying, removing, code, run_time = BLOCKS

    exec(pausing, names)  # noqa: S102 - it is our own page
    assert tickwork.store.paused() == {"kind/send-email", "queue/all"}
    exec(retrying, names)  # noqa: S102 - it is our own page
    assert capsys.readouterr().out.count("no space on disk") >= 3
    assert {job.state for job in map(tickwork.get, ids) if job} == {State.PENDING}
    exec(removing, names)  # noqa: S102 - it is our own page
    assert tickwork.list(state=State.PENDING) == []
    exec(code, names)  # noqa: S102 - it is our own page
    assert tickwork.queues()["mail"].max_attempts == 5
    assert tickwork.queues()["payment-retry"].max_concurrency == 3
    exec(run_time, names)  # noqa: S102 - it is our own page
    assert tickwork.controls()[-1].changed_by is None
    tickwork.close()
