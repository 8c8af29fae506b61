"""``/metrics``: closed to strangers, right for those who may, and monotonic."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families

from jobs import Tickwork
from jobs.http import create_app
from tests.http.conftest import BEARER, SECRET
from tests.support.databases import Database

ROOT = Path(__file__).parents[2]
READER = "reader-of-the-metrics-only"
ADMIN = "admin-of-this-very-shop"


@pytest.fixture
def tickwork(database: Database) -> Iterator[Tickwork]:
    with closing(Tickwork(database.url, env="production", cron_secret=SECRET)) as made:
        made.create_schema()

        def work(payload: dict[str, Any]) -> None:
            if payload.get("bad"):
                raise ValueError("no")

        made.register_handler("work", work, max_attempts=1)
        yield made


@pytest.fixture
def client(tickwork: Tickwork) -> FlaskClient:
    return create_app(tickwork).test_client()


def scrape(client: FlaskClient) -> dict[str, float]:
    """The samples, by name and labels as Prometheus writes them."""
    answer = client.get("/metrics", headers=BEARER)
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain")
    found = {}
    for family in text_string_to_metric_families(answer.get_data(as_text=True)):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def test_what_ticks_did_is_told(tickwork: Tickwork, client: FlaskClient) -> None:
    tickwork.enqueue_many([("work", {})] * 3, tenant="acme")
    tickwork.enqueue("work", {"bad": True})
    assert client.get("/cron/process-jobs", headers=BEARER).status_code == 200
    tickwork.enqueue("work", delay=60)
    tickwork.enqueue_many([("work", {})] * 2)

    found = scrape(client)

    of_work = "kind=work,queue=default"
    assert found[f"tickwork_jobs_completed_total{{{of_work}}}"] == 3
    assert found[f"tickwork_jobs_failed_total{{{of_work}}}"] == 1
    assert found[f"tickwork_jobs_retried_total{{{of_work}}}"] == 0
    assert found[f"tickwork_jobs{{{of_work},state=pending}}"] == 2
    assert found[f"tickwork_jobs{{{of_work},state=delayed}}"] == 1
    assert 0 <= found[f"tickwork_oldest_due_seconds{{{of_work}}}"] < 60
    assert found["tickwork_dead_letters{kind=work}"] == 1
    assert found[f"tickwork_job_duration_seconds_count{{{of_work}}}"] == 4
    assert found[f"tickwork_job_wait_seconds_count{{{of_work}}}"] == 4
    assert (
        found[f"tickwork_job_duration_seconds_bucket{{{of_work.replace(',', ',le=+Inf,')}}}"] == 4
    )
    assert (
        0
        < found["tickwork_job_duration_quantile_seconds{kind=work,quantile=0.95,queue=default}"]
        < 30
    )
    assert found["tickwork_ticks_total{trigger=cron}"] == 1
    assert found["tickwork_ticks_failed_total{trigger=cron}"] == 0
    assert found["tickwork_tick_duration_seconds_count{trigger=cron}"] == 1
    assert 0 <= found["tickwork_tick_age_seconds{}"] < 60
    assert found["tickwork_tick_late_seconds{}"] == 0
    assert not any("acme" in name for name in found), "no tenant is named"


def test_counters_never_go_down_whatever_is_folded(tickwork: Tickwork, client: FlaskClient) -> None:
    for _ in range(5):
        tickwork.enqueue("work")
        tickwork.tick(trigger="kick")
    before = scrape(client)
    assert tickwork.store.fold_ticks(3, keep=1) == 3
    assert tickwork.store.fold_ticks(3, keep=1) == 1
    after = scrape(client)
    counters = [name for name in before if "_total" in name or "_count" in name]
    assert len(counters) > 8
    assert {name: after[name] for name in counters} == {name: before[name] for name in counters}
    assert after["tickwork_jobs_completed_total{kind=work,queue=default}"] == 5


def test_an_empty_system_can_be_scraped(client: FlaskClient) -> None:
    found = scrape(client)
    assert found["tickwork_dead_letters{kind=work}"] == 0
    assert "tickwork_tick_age_seconds{}" not in found


def test_openmetrics_is_spoken_as_well(tickwork: Tickwork, client: FlaskClient) -> None:
    tickwork.enqueue("work")
    tickwork.tick()
    answer = client.get(
        "/metrics", headers={**BEARER, "Accept": "application/openmetrics-text; version=1.0.0"}
    )
    assert answer.content_type.startswith("application/openmetrics-text")
    names = {each.name for each in parse_openmetrics(answer.get_data(as_text=True))}
    assert "tickwork_jobs_completed" in names


# -- who may read ----------------------------------------------------------------------------------


def opened(**settings: Any) -> FlaskClient:
    return create_app(
        Tickwork(**{"backend": "memory", "env": "production", **settings})
    ).test_client()


def status(client: FlaskClient, secret: str | None, **options: Any) -> int:
    headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
    return client.get("/metrics", headers=headers, **options).status_code


def test_each_of_the_secrets_opens_it_and_no_other() -> None:
    client = opened(cron_secret=SECRET, metrics_token=READER, admin_token=ADMIN)
    for secret in (SECRET, READER, ADMIN):
        assert status(client, secret) == 200
    for secret in (None, "", "wrong", READER[:-1], f"{READER}x", READER.upper()):
        assert status(client, secret) == 401


def test_a_reader_may_run_no_tick() -> None:
    client = opened(cron_secret=SECRET, metrics_token=READER)
    answer = client.get("/cron/process-jobs", headers={"Authorization": f"Bearer {READER}"})
    assert answer.status_code == 401


def test_with_a_readers_secret_alone_nobody_else_reads() -> None:
    client = opened(metrics_token=READER)
    assert status(client, READER) == 200
    assert status(client, None) == 401
    assert client.get("/cron/process-jobs").status_code == 503


def test_without_any_secret_production_is_closed() -> None:
    client = opened()
    assert status(client, None) == 503
    assert status(client, "undefined") == 503


def test_on_a_laptop_the_machine_itself_may_and_nobody_else() -> None:
    client = opened(env="development", auto_start=False)
    assert status(client, None, environ_base={"REMOTE_ADDR": "127.0.0.1"}) == 200
    assert status(client, None, environ_base={"REMOTE_ADDR": "10.0.0.7"}) == 503
    guarded = opened(env="development", auto_start=False, metrics_token=READER)
    assert status(guarded, None, environ_base={"REMOTE_ADDR": "127.0.0.1"}) == 401


def test_no_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        client = opened(cron_secret=SECRET, metrics_token="short")
        status(client, "guessed-by-somebody")
    assert "METRICS_TOKEN has 5 characters" in caplog.text
    assert not re.search(r"\bshort\b|guessed-by-somebody", caplog.text)


# -- what it costs others --------------------------------------------------------------------------


def test_it_is_loaded_by_nobody_else() -> None:
    program = (
        "import sys; from jobs import Tickwork; from jobs.http import create_app;"
        "app = create_app(Tickwork(backend='memory', env='production', cron_secret='s' * 20));"
        "client = app.test_client(); bearer = {'Authorization': 'Bearer ' + 's' * 20};"
        "assert client.get('/cron/process-jobs', headers=bearer).status_code == 200;"
        "assert client.get('/metrics').status_code == 401;"
        "assert 'prometheus_client' not in sys.modules;"
        "assert client.get('/metrics', headers=bearer).status_code == 200;"
        "assert 'prometheus_client' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_without_the_package_the_mend_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [
        name for name in sys.modules if name.startswith(("prometheus_client", "jobs.ops.metrics"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.setitem(sys.modules, "prometheus_client.core", None)
    answer = opened(cron_secret=SECRET).get("/metrics", headers=BEARER)
    assert answer.status_code == 501
    assert "pip install 'tickwork[metrics]'" in answer.get_json(force=True)["detail"]


# -- Grafana ---------------------------------------------------------------------------------------


def test_every_metric_that_the_dashboard_asks_for_exists(
    tickwork: Tickwork, client: FlaskClient
) -> None:
    tickwork.enqueue("work")
    tickwork.tick(trigger="cron")
    tickwork.enqueue("work")
    exported = {name.partition("{")[0] for name in scrape(client)}
    dashboard = json.loads((ROOT / "docs" / "grafana.json").read_text(encoding="utf-8"))
    queries = [
        target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())
    ]
    queries += [each["query"] for each in dashboard["templating"]["list"] if "query" in each]
    asked = {name for query in queries for name in re.findall(r"tickwork_[a-z0-9_]+", str(query))}
    assert len(asked) >= 10
    assert asked <= exported
