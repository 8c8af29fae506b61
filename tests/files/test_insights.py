"""The kind `insights`, by the real loop: computed once a day, kept, made anew when asked."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from jobs import PayloadError, State, Tickwork
from jobs.handlers import delivering
from jobs.handlers.insights import Daily, definition, queue_insights, register_insights
from tests.files.conftest import Open, run
from tests.files.sales import FIRST_DAY, sales
from tests.handlers.shop import files_in
from tests.support.databases import Database


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked on day 116 of the sales, so that 30 days and more before them are there."""
    monkeypatch.setattr(definition, "_registered", {})
    register_insights(Daily("sales", dataset="by-day", values=["amount", "sales"]))
    asked_at = delivering.dt.datetime(2024, 4, 26, 12, tzinfo=delivering.dt.UTC)
    monkeypatch.setattr(delivering, "made_at", lambda job_id: asked_at)


def insights_of(tickwork: Tickwork, **said: Any) -> Any:
    said = {"organization_id": "org-1", **said}
    job = run(tickwork, queue_insights(tickwork=tickwork, **said))
    assert job.state == State.COMPLETED, job.error
    return job.result["metrics"]["sales"]


def expected_total(org: str, first: int, after: int) -> float:
    """What sales.py makes of the days, by their numbers."""
    which = (0, 2) if org == "org-1" else (1, 3)
    return sum(10.5 + day % 7 + each for day in range(first, after) for each in which)


def test_on_each_database(database: Database, open_system: Open) -> None:
    tickwork = open_system(database)
    for org in ("org-1", "org-2"):
        found = insights_of(tickwork, organization_id=org, period="30d")
        amount, count = found["values"]["amount"], found["values"]["sales"]

        assert (found["start"], found["end"], found["days"]) == ("2024-03-27", "2024-04-26", 30)
        assert math.isclose(amount["total"], expected_total(org, 86, 116))
        assert math.isclose(amount["total_before"], expected_total(org, 56, 86))
        assert math.isclose(amount["change"], amount["total"] - amount["total_before"])
        assert (count["total"], count["mean"], count["change_percent"]) == (60, 2, 0)
        assert amount["trend"]["direction"] == count["trend"]["direction"] == "flat"
        # Each weekday sells more than the one before: none of it is odd.
        assert amount["anomalies"] == []
        assert found["reused"] is False


def sell(tickwork: Tickwork, day: int, amount: int) -> None:
    engine = sa.create_engine(str(tickwork.settings.database_url))
    row = {
        "id": 10_000 + day,
        "org": "org-1",
        "day": FIRST_DAY + delivering.dt.timedelta(days=day),
        "customer": "x",
        "amount": amount,
    }
    with engine.begin() as connection:
        connection.execute(sa.insert(sales).values(row))
    engine.dispose()


def test_an_odd_day_is_told(tickwork: Tickwork) -> None:
    sell(tickwork, 110, 5000)
    (odd,) = insights_of(tickwork, period="7d")["values"]["amount"]["anomalies"]

    assert odd["day"] == "2024-04-20"
    assert math.isclose(odd["value"], 5000 + expected_total("org-1", 110, 111))
    assert math.isclose(odd["expected"], expected_total("org-1", 110, 111))
    assert odd["score"] > 3.5


def test_it_is_kept_and_reused_until_asked_anew(tickwork: Tickwork, tmp_path: Path) -> None:
    first = insights_of(tickwork)
    kept = files_in(tmp_path / "blobs")
    sell(tickwork, 110, 5000)

    assert insights_of(tickwork) == {**first, "reused": True}
    assert files_in(tmp_path / "blobs") == kept
    assert "org-1" not in "".join(kept)

    anew = insights_of(tickwork, force_regenerate=True)
    assert anew["reused"] is False
    assert anew["values"]["amount"]["total"] == first["values"]["amount"]["total"] + 5000
    assert insights_of(tickwork) == {**anew, "reused": True}
    assert files_in(tmp_path / "blobs") == kept


def test_what_is_kept_is_one_tenants_and_one_periods(tickwork: Tickwork) -> None:
    insights_of(tickwork)
    assert insights_of(tickwork, organization_id="org-2")["reused"] is False
    assert insights_of(tickwork, period="90d")["reused"] is False


def test_what_is_kept_half_is_made_anew(tickwork: Tickwork, tmp_path: Path) -> None:
    first = insights_of(tickwork)
    (kept,) = (tmp_path / "blobs").rglob("*.json")
    kept.write_bytes(kept.read_bytes()[:100])
    assert insights_of(tickwork) == first


@pytest.mark.parametrize(
    ("said", "options", "reason"),
    [
        ({"metrics": ["profit"]}, {"tenant": "org-1"}, "there are no insights 'profit'"),
        ({}, {}, "is kept by tenant, and this job has none"),
        ({"organizationId": "org-2"}, {"tenant": "org-1"}, "the job's tenant is 'org-1'"),
    ],
)
def test_a_mistake_is_a_dead_letter_at_once(
    tickwork: Tickwork, said: dict[str, Any], options: dict[str, Any], reason: str
) -> None:
    job = run(tickwork, tickwork.enqueue("insights", said, **options))
    assert (job.state, job.attempts) == (State.FAILED, 1)
    assert reason in str(job.error)


def test_no_other_period(tickwork: Tickwork) -> None:
    with pytest.raises(PayloadError):
        tickwork.enqueue("insights", {"period": "8d"})
