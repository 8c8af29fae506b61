"""The security checklist, as far as it is the management's: injection, limits, errors, logs."""

from __future__ import annotations

import gzip
import http.client
import json
import logging
import os
import re
import socket
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from werkzeug.serving import make_server

from jobs.core.errors import StoreUnavailable
from jobs.core.ids import new_id
from jobs.core.job import NewJob
from jobs.core.names import NAME
from jobs.core.redact import HIDDEN
from jobs.http.access import REQUESTS_PER_MINUTE
from tests.manage.conftest import ADMIN, Office, open_office

ROOT = Path(__file__).parents[2]
NASTY = [
    *("'; drop table tickwork_jobs--", "%", "_", "../", "$where", "\x00", "a\nb", "\ud800"),
    *("<img src=x onerror=alert(1)>", "{{7*7}}", "a" * 5000, "\u202e", "é"),
]


@pytest.mark.parametrize("nasty", NASTY, ids=ascii)
def test_nothing_is_injected(sql_office: Office, nasty: str) -> None:
    """In a path, a query and a body alike: an answer that is told of, and no 500."""
    job = sql_office.failed(n=1)
    admin = sql_office.admin
    quoted = "".join(f"%{byte:02x}" for byte in nasty.encode("utf-8", "surrogatepass"))
    for path in (
        f"/api/jobs/{quoted}",
        f"/api/jobs/{quoted}/jobs",
        f"/api/jobs/all/jobs/{quoted}",
        f"/api/jobs/all/jobs/{quoted}/why",
        f"/api/admin/schedules/{quoted}",
        f"/api/admin/schedules/{quoted}/next",
        *(f"/api/jobs/all/jobs?{name}={quoted}" for name in ("kind", "error", "tenant", "cursor")),
        *(f"/api/admin/audit?{name}={quoted}" for name in ("by", "subject", "tenant", "cursor")),
        f"/api/jobs/stats?tenant={quoted}",
        f"/api/jobs/all/jobs?status={quoted}&limit={quoted}&sort={quoted}",
    ):
        status = admin("GET", path).status_code
        assert status in (200, 303, 308, 400, 404, 422), (path, status)
    for path, body in (
        ("/api/jobs", {"kind": nasty}),
        ("/api/jobs", {"kind": "note", "tenant": nasty, "payload": {nasty: nasty}}),
        ("/api/jobs", {"kind": "note", "dedupe_key": nasty}),
        ("/api/jobs", {"kind": "note", "job_id": nasty, "concurrency_key": nasty}),
        ("/api/jobs/all/jobs/bulk", {"action": "delete", "filter": {"state": nasty}}),
        (
            "/api/jobs/all/jobs/bulk",
            {"action": "delete", "filter": {"state": "pending", "error": nasty, "tenant": nasty}},
        ),
        (f"/api/jobs/all/jobs/{job.id}/retry", {"reason": nasty}),
        ("/api/admin/schedules", {"name": nasty, "kind": "note", "every": 60}),
        ("/api/admin/schedules", {"name": "x", "kind": "note", "cron": nasty}),
        ("/api/admin/schedules", {"name": "x", "kind": "note", "every": 60, "tenant": nasty}),
        ("/api/admin/tokens", {"role": "viewer", "tenant": nasty, "name": nasty}),
        ("/api/admin/breakers/reset", {"name": nasty}),
        ("/api/jobs/monitoring/retry", {"queueName": nasty, "jobId": nasty}),
    ):
        answer = admin("POST", path, data=json.dumps(body), content_type="application/json")
        assert answer.status_code in (200, 201, 400, 403, 404, 413, 422), (path, body)
    assert sql_office.tickwork.get(job.id) is not None


class TestLimits:
    def test_a_million_keys_and_a_deep_nest_are_refused(self, office: Office) -> None:
        keys = json.dumps({"kind": "note", "payload": {str(n): n for n in range(1_000_000)}})
        deep = '{"kind":"note","payload":' + '{"a":' * 100_000 + "1" + "}" * 100_000 + "}"
        for body in (keys, deep):
            answer = office.admin("POST", "/api/jobs", data=body, content_type="application/json")
            assert answer.status_code in (400, 413, 422)
        assert office.tickwork.list() == []

    def test_what_is_compressed_is_not_blown_up(self, office: Office) -> None:
        bomb = gzip.compress(b"0" * 50_000_000)
        answer = office.admin(
            "POST",
            "/api/jobs",
            data=bomb,
            content_type="application/json",
            headers={"Content-Encoding": "gzip"},
        )
        assert answer.status_code == 400

    def test_fifty_megabytes_are_refused_by_their_length(self, office: Office) -> None:
        answer = office.admin(
            "POST", "/api/jobs", data=b"0" * 50_000_000, content_type="application/json"
        )
        assert answer.status_code == 413

    def test_a_body_that_comes_slowly_holds_up_nobody(self, office: Office) -> None:
        """One request stalls in the middle of its body; others are answered meanwhile."""
        server = make_server("127.0.0.1", 0, office.app, threaded=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        head = (
            f"POST /api/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {ADMIN}\r\n"
            "Content-Type: application/json\r\nContent-Length: 40\r\n\r\n"
        )
        try:
            with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as slow:
                slow.sendall(head.encode() + b'{"kind": "note"')
                for path in ("/healthz", "/api/jobs/stats"):
                    with closing(
                        http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
                    ) as line:
                        line.request("GET", path, headers={"Authorization": f"Bearer {ADMIN}"})
                        assert line.getresponse().status == 200
        finally:
            server.shutdown()
            server.server_close()
        assert office.tickwork.list() == []


class TestErrors:
    def test_a_mistake_of_ours_tells_nothing(
        self, office: Office, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: Any, **__: Any) -> None:
            raise RuntimeError("postgresql://u:hunter2@h/db SELECT secret")

        monkeypatch.setattr(office.tickwork.store, "list", broken)
        answer = office.admin("GET", "/api/jobs/all/jobs")
        assert answer.status_code == 500
        for word in ("hunter2", "SELECT", "Traceback", "RuntimeError"):
            assert word not in answer.text

    def test_a_database_that_is_gone_is_told_as_that(
        self, office: Office, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def gone(*_: Any, **__: Any) -> None:
            raise StoreUnavailable("postgresql://u:hunter2@h/db is gone")

        monkeypatch.setattr(office.tickwork.store, "list", gone)
        answer = office.admin("GET", "/api/jobs/all/jobs")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "30")
        assert "hunter2" not in answer.text

    def test_what_cannot_be_logged_does_not_undo_what_was_done(
        self, office: Office, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def full(*_: Any) -> None:
            raise StoreUnavailable("the disk is full")

        job = office.failed()
        monkeypatch.setattr(office.tickwork.store, "note_changes", full)
        office.admin.post(f"/api/jobs/bad/jobs/{job.id}/retry")
        found = office.tickwork.get(job.id)
        assert found is not None
        assert found.state == "pending"
        assert "not in the audit log: admin did job.retry" in caplog.text


class TestLogs:
    def test_no_payload_and_no_token_reaches_a_log(
        self, office: Office, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        body = {"kind": "note", "payload": {"password": "hunter2", "plain": "a-plain-value"}}
        made = office.admin.post("/api/jobs", body, 201)
        assert made["payload"] == {"password": HIDDEN, "plain": "a-plain-value"}
        office.tickwork.tick()
        office.admin("POST", "/api/jobs", json={**body, "colour": "hunter2"})
        office.admin(
            "POST", "/api/jobs", data=b'{"kind": "hunter2', content_type="application/json"
        )
        office.admin("GET", "/api/jobs/all/jobs", headers={"Authorization": "Bearer tw_hunter2"})
        for secret in ("hunter2", "a-plain-value", ADMIN):
            assert secret not in caplog.text

    def test_a_refusal_does_not_repeat_what_was_sent(self, office: Office) -> None:
        for body in (
            {"kind": "note", "priority": "hunter2"},
            {"kind": "note", "run_at": "hunter2"},
            {"kind": "card", "payload": {"number": ["hunter2"]}},
        ):
            answer = office.admin("POST", "/api/jobs", json=body)
            assert answer.status_code == 422
            assert "hunter2" not in answer.text

    def test_an_entry_of_the_audit_log_is_one_line(self, office: Office) -> None:
        office.admin.post("/api/jobs/notes?action=pause", {"reason": "a\n2026-01-01 fake entry"})
        assert office.log()[0].reason == "a\n2026-01-01 fake entry"  # kept; shown as JSON
        raw = office.admin("GET", "/api/admin/audit").text
        assert raw.count("\n") == 1


def test_secrets_are_compared_in_constant_time() -> None:
    """No plain comparison of what may be a secret, wherever there may be one."""
    suspicious = re.compile(
        r"(secret|token|digest|presented|csrf|signature)\w*\s*[!=]=|[!=]=\s*\w*(secret|csrf)"
    )
    # Of what a page was told itself, of a page of data, of the operator's own environment.
    public = {"http/dashboard/bulk.py", "handlers/sync/running.py", "ops/doctor/secrets.py"}
    found = [
        f"{name}: {line.strip()}"
        for path in sorted((ROOT / "jobs").rglob("*.py"))
        if (name := path.relative_to(ROOT / "jobs").as_posix()) not in public
        for line in path.read_text("utf-8").splitlines()
        if suspicious.search(line)
    ]
    assert found == []


def test_every_answer_carries_the_headers(office: Office) -> None:
    for path in ("/api/jobs/stats", "/openapi.json", "/api/explorer", "/api/jobs/all/jobs/none"):
        answer = office.admin("GET", path)
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


class TestDeserialisation:
    """Data is data: nothing that is sent names code, and nothing is read by what could run it."""

    NAMES = ("os.system", "jobs.system:Tickwork", "builtins.eval", "subprocess.Popen")

    @pytest.mark.parametrize("kind", NAMES)
    def test_a_kind_is_no_name_of_a_function(self, office: Office, kind: str) -> None:
        answer = office.admin("POST", "/api/jobs", json={"kind": kind, "payload": {"args": ["id"]}})
        assert answer.status_code in (403, 422)
        # Nor where somebody with the database itself wrote such a row: it waits for a handler.
        if NAME.fullmatch(kind):
            job = office.tickwork.enqueue("note", {})
            row = NewJob(new_id(), kind, '{"args": ["touch /tmp/x"]}')
            office.tickwork.store.insert([row])
            office.tickwork.tick(limit=10)
            left, done = office.tickwork.get(row.id), office.tickwork.get(job.id)
            assert left is not None
            assert done is not None
            assert (left.state, left.attempts, done.state) == ("pending", 0, "completed")

    def test_a_payload_that_would_be_an_object_stays_text(self, office: Office) -> None:
        payload = {
            "__reduce__": ["os.system", ["id"]],
            "__class__": "subprocess.Popen",
            "yaml": "!!python/object/apply:os.system ['id']",
            "pickle": "gASVFAAAAAAAAACMCGJ1aWx0aW5zlIwFcHJpbnSUk5Qu",
            "py/object": "os.system",
        }
        job = office.admin.post("/api/jobs", {"kind": "note", "payload": payload}, 201)
        office.tickwork.tick()
        assert office.seen == [payload]
        told = office.admin.get(f"/api/jobs/all/jobs/{job['id']}")
        assert (told["state"], told["payload"]) == ("completed", payload)

    def test_nothing_here_reads_what_could_run(self) -> None:
        loaders = re.compile(
            r"^\s*(?:import|from)\s+(pickle|marshal|shelve|dill|cloudpickle|jsonpickle)\b"
            r"|yaml\.(?:unsafe_load|full_load|Loader|UnsafeLoader)\b|\beval\(|\bexec\(",
            re.MULTILINE,
        )
        found = {
            str(path): match[0]
            for path in (ROOT / "jobs").rglob("*.py")
            if (match := loaders.search(path.read_text(encoding="utf-8"))) is not None
        }
        assert found == {}


def test_the_database_file_is_its_owners_alone(tmp_path: Path) -> None:
    """It holds payloads: whoever shares the machine has no business there."""
    before = os.umask(0o022)
    try:
        office = open_office(database_url=f"sqlite:///{tmp_path / 'jobs.db'}")
        office.failed(n=1)
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.glob("jobs.db*")}
        office.tickwork.close()
    finally:
        os.umask(before)
    assert modes
    assert set(modes.values()) == {0o600}, modes


def test_what_is_queued_without_end_is_slowed_down(office: Office) -> None:
    """Of one token, in one process; see docs/manage/api.md."""
    caller = office.caller("operator")
    statuses = [
        caller("POST", "/api/jobs", json={"kind": "note"}).status_code
        for _ in range(REQUESTS_PER_MINUTE + 5)
    ]
    assert statuses.count(201) == REQUESTS_PER_MINUTE
    assert set(statuses[REQUESTS_PER_MINUTE:]) == {429}
    assert office.caller("operator", name="another")("GET", "/api/admin/me").status_code == 200
