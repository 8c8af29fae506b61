"""`POST /api/jobs/data-exports`, `reports` and `insights`: by a token, within its tenant."""

from __future__ import annotations

from typing import Any

import pytest

from jobs import Tickwork
from jobs.core.access import NewToken, Role, digest_of, new_secret
from jobs.core.ids import new_id
from jobs.http import create_app
from tests.handlers.shop import content

PATHS = {
    "data-exports": {"entities": ["sales"], "format": "json"},
    "reports": {"type": "sales", "filters": {}, "format": "csv"},
    "insights": {"period": "7d"},
}
KINDS = {"data-exports": "data-export", "reports": "report", "insights": "insights"}


def post(tickwork: Tickwork, path: str, body: Any, *, tenant: str | None = "org-1") -> Any:
    secret = new_secret()
    tickwork.store.add_token(NewToken(new_id(), new_id(), Role.OPERATOR, tenant, digest_of(secret)))
    headers = {"Authorization": f"Bearer {secret}"}
    return create_app(tickwork).test_client().post(f"/api/jobs/{path}", json=body, headers=headers)


@pytest.mark.parametrize("path", PATHS)
def test_a_job_of_the_tokens_tenant(tickwork: Tickwork, path: str) -> None:
    answer = post(tickwork, path, PATHS[path])
    assert answer.status_code == 201, answer.text

    (job,) = tickwork.list()
    assert (job.kind, job.tenant) == (KINDS[path], "org-1")
    assert job.payload == PATHS[path]


def test_what_comes_out_is_the_tenants(tickwork: Tickwork) -> None:
    post(tickwork, "data-exports", {"entities": ["sales"], "format": "csv"})
    tickwork.tick()
    (job,) = tickwork.list()
    raw = content(job.result["file_url"]).decode()
    assert "org-1" in raw
    assert "org-2" not in raw


@pytest.mark.parametrize("path", PATHS)
def test_nobody_makes_one(tickwork: Tickwork, path: str) -> None:
    client = create_app(tickwork).test_client()
    assert client.post(f"/api/jobs/{path}", json=PATHS[path]).status_code == 401
    assert tickwork.list() == []


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("extra", ["organizationId", "tenant", "userId", "nothing"])
def test_other_fields_are_refused(tickwork: Tickwork, path: str, extra: str) -> None:
    answer = post(tickwork, path, {**PATHS[path], extra: "org-2"})
    assert answer.status_code == 422, answer.text
    assert extra in answer.text
    assert tickwork.list() == []


@pytest.mark.parametrize(
    ("path", "body", "place"),
    [
        ("data-exports", {"entities": []}, "entities"),
        ("data-exports", {"entities": "sales"}, "entities"),
        ("data-exports", {"entities": ["sales"], "format": "xlsx"}, "format"),
        ("reports", {"format": "pdf"}, "report"),
        ("insights", {"period": "8d"}, "period"),
    ],
)
def test_a_mistake_is_named(
    tickwork: Tickwork, path: str, body: dict[str, Any], place: str
) -> None:
    answer = post(tickwork, path, body)
    assert answer.status_code == 422, answer.text
    assert place in answer.text
