"""Forerunners' routes, in forerunners' words (A64, A70 to A85), and ours beside them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobs.core.alerts import Alert, Evaluation
from jobs.core.look import Level
from jobs.core.redact import HIDDEN
from tests.manage.conftest import Office

SIX = ("waiting", "active", "completed", "failed", "delayed", "paused")


def busy(office: Office) -> None:
    """One job in each of Bull's states, in the queue of notes."""
    tickwork = office.tickwork
    tickwork.enqueue("note", {"n": "done"})
    tickwork.tick()
    tickwork.enqueue("note", {"n": "later"}, delay=60)
    tickwork.enqueue("note", {"n": "now"})
    office.failed(n="failed")  # runs what is due as well
    tickwork.enqueue("note", {"n": "waiting"})


class TestOverviews:
    def test_stats_by_queue(self, sql_office: Office) -> None:
        busy(sql_office)
        stats = sql_office.admin.get("/api/jobs/stats")
        assert stats["notes"] == {
            "waiting": 1,
            "active": 0,
            "completed": 2,
            "failed": 0,
            "delayed": 1,
            "paused": 0,
            "total": 4,
        }
        assert stats["bad"]["failed"] == 1
        assert stats["default"] == {**dict.fromkeys(SIX, 0), "total": 0}

    def test_paused_jobs_are_counted_as_paused(self, office: Office) -> None:
        busy(office)
        office.tickwork.pause("notes")
        stats = office.admin.get("/api/jobs/stats")["notes"]
        assert (stats["waiting"], stats["paused"]) == (0, 1)

    def test_what_is_beyond_the_cap_is_told_as_more(
        self, sql_office: Office, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("jobs.http.manage.words.COUNT_CAP", 3)
        for n in range(3):
            sql_office.tickwork.enqueue("note", {"n": n})
        sql_office.tickwork.tick(limit=10)
        exact = sql_office.admin.get("/api/jobs/stats")["notes"]
        assert exact == {**dict.fromkeys(SIX, 0), "completed": 3, "total": 3}
        for n in range(2):
            sql_office.tickwork.enqueue("note", {"n": n})
        sql_office.tickwork.tick(limit=10)
        capped = sql_office.admin.get("/api/jobs/stats")
        assert capped["notes"] == {**exact, "more": True}
        assert "more" not in capped["bad"]
        assert sql_office.admin.get("/api/jobs/monitoring")["data"]["totals"]["more"] is True
        assert sql_office.admin.get("/api/jobs/notes")["data"]["stats"]["completed"] == 3

    def test_counts_of_nobodys_jobs_are_theirs_alone(self, sql_office: Office) -> None:
        """The tenant without a name is no wildcard, on any store."""
        sql_office.failed("b")
        sql_office.failed("")
        nobody = sql_office.caller("viewer", "")
        assert nobody.get("/api/jobs/stats")["bad"]["failed"] == 1

    def test_monitoring(self, office: Office) -> None:
        busy(office)
        told = office.admin.get("/api/jobs/monitoring")
        assert told["success"] is True
        assert told["data"]["queues"]["notes"]["completed"] == 2
        assert tuple(told["data"]["queues"]["notes"]) == SIX
        assert told["data"]["totals"] == {
            "waiting": 1,
            "active": 0,
            "completed": 2,
            "failed": 1,
            "delayed": 1,
            "paused": 0,
        }

    def test_a_queue(self, office: Office) -> None:
        job = office.failed(order=7, token="hunter2")
        told = office.admin.get("/api/jobs/bad")
        assert told["success"] is True
        assert told["data"]["queueName"] == "bad"
        assert told["data"]["stats"]["failed"] == 1
        assert told["data"]["failedJobs"] == [
            {
                "id": job.id,
                "data": {"order": 7, "token": HIDDEN},
                "failedReason": f"ValueError: no luck with password={HIDDEN}",
                "attemptsMade": 1,
            }
        ]
        assert office.admin.get("/api/jobs/never-used")["data"]["failedJobs"] == []

    def test_kinds_tell_their_schema(self, office: Office) -> None:
        kinds = {each["kind"]: each for each in office.admin.get("/api/admin/kinds")["kinds"]}
        assert kinds["card"]["payload_schema"]["properties"]["number"]["type"] == "string"
        assert (kinds["note"]["payload_schema"], kinds["inside"]["api"]) == (None, False)

    def test_who_i_am(self, office: Office) -> None:
        told = office.caller("operator", "org1", "ci").get("/api/admin/me")
        assert told == {"name": "token:ci", "role": "operator", "tenant": "org1"}


class TestLists:
    @pytest.mark.parametrize("status", [*SIX, "cancelled"])
    def test_by_status(self, sql_office: Office, status: str) -> None:
        busy(sql_office)
        tickwork = sql_office.tickwork
        tickwork.cancel(tickwork.enqueue("note", {}).id)
        (claimed,) = tickwork.store.claim(1, kinds=["note"], lease_seconds=60)
        tickwork.enqueue("note", {})
        if status == "paused":
            tickwork.pause("notes")
        told = sql_office.admin.get(f"/api/jobs/all/jobs?status={status}&limit=50")
        assert {job["status"] for job in told["jobs"]} == {status}
        assert len(told["jobs"]) == (2 if status == "completed" else 1)
        if status == "active":
            assert told["jobs"][0]["id"] == claimed.id

    @pytest.mark.parametrize("status", ["waiting", "delayed", None])
    def test_pages_continue(self, sql_office: Office, status: str | None) -> None:
        delay = 60 if status == "delayed" else 0
        ids = [sql_office.tickwork.enqueue("note", {}, delay=delay).id for _ in range(7)]
        sql_office.tickwork.enqueue("inside", {}, delay=delay)
        found: list[str] = []
        cursor: dict[str, Any] = {} if status is None else {"status": status}
        for size in (3, 3, 1):
            told = sql_office.admin.get("/api/jobs/notes/jobs", query_string={**cursor, "limit": 3})
            assert len(told["jobs"]) == size
            found += [job["id"] for job in told["jobs"]]
            cursor["cursor"] = told["next_cursor"]
        assert found == ids[::-1]
        assert told["next_cursor"] is None

    def test_by_kind_error_and_queue(self, office: Office) -> None:
        busy(office)
        admin = office.admin
        assert len(admin.get("/api/jobs/all/jobs?kind=bad")["jobs"]) == 1
        assert len(admin.get("/api/jobs/all/jobs?error=no%20luck")["jobs"]) == 1
        assert admin.get("/api/jobs/all/jobs?error=%25")["jobs"] == []
        assert admin.get("/api/jobs/bad/jobs?kind=note")["jobs"] == []

    def test_nothing_changed_is_told_shortly(self, office: Office) -> None:
        office.tickwork.enqueue("note", {})
        first = office.admin("GET", "/api/jobs/all/jobs")
        again = office.admin(
            "GET", "/api/jobs/all/jobs", headers={"If-None-Match": first.headers["ETag"]}
        )
        assert (again.status_code, again.data) == (304, b"")
        assert first.headers["Cache-Control"] == "no-store"
        office.tickwork.enqueue("note", {})
        changed = office.admin(
            "GET", "/api/jobs/all/jobs", headers={"If-None-Match": first.headers["ETag"]}
        )
        assert changed.status_code == 200


class TestOneJob:
    def test_it_is_shown(self, office: Office) -> None:
        job = office.tickwork.enqueue("note", {"n": 1, "api_key": "hunter2"}, job_id="mine")
        office.tickwork.tick()
        for queue in ("notes", "all"):
            for name in (job.id, "mine"):
                told = office.admin.get(f"/api/jobs/{queue}/jobs/{name}")
                assert (told["id"], told["state"], told["status"]) == (
                    *(job.id, "completed", "completed"),
                )
                assert told["payload"] == {"n": 1, "api_key": HIDDEN}
                assert told["result"] == {"token": HIDDEN, "n": 1}
        assert office.admin("GET", f"/api/jobs/bad/jobs/{job.id}").status_code == 404

    def test_marked_fields_are_hidden_and_handlers_see_them(self, office: Office) -> None:
        made = office.admin.post(
            "/api/jobs", {"kind": "card", "payload": {"number": "4242", "note": "x"}}, 201
        )
        assert made["payload"] == {"number": HIDDEN, "note": "x"}
        office.tickwork.tick()
        assert office.seen[0].number == "4242"

    def test_why(self, office: Office) -> None:
        job = office.tickwork.enqueue("note", {}, delay=60)
        told = office.admin.get(f"/api/jobs/notes/jobs/{job.id}/why")
        assert told["reason"] == "delayed"
        assert told["claimable"] is False

    def test_retry(self, office: Office) -> None:
        job = office.failed()
        told = office.admin.post(f"/api/jobs/bad/jobs/{job.id}/retry")
        assert (told["status"], told["attempts"]) == ("waiting", 0)
        done = office.tickwork.enqueue("note", {})
        office.tickwork.tick()
        refused = office.admin("POST", f"/api/jobs/notes/jobs/{done.id}/retry")
        assert (refused.status_code, refused.json["state"]) == (409, "completed")
        forced = office.admin.post(f"/api/jobs/notes/jobs/{done.id}/retry", {"force": True})
        assert forced["status"] == "waiting"

    def test_cancel_and_delete(self, office: Office) -> None:
        job = office.tickwork.enqueue("note", {})
        told = office.admin.post(f"/api/jobs/notes/jobs/{job.id}/cancel", {"reason": "a slip"})
        assert told["status"] == "cancelled"
        again = office.admin("POST", f"/api/jobs/notes/jobs/{job.id}/cancel")
        assert again.status_code == 409
        assert office.admin("DELETE", f"/api/jobs/notes/jobs/{job.id}").status_code == 200
        assert office.admin("DELETE", f"/api/jobs/notes/jobs/{job.id}").status_code == 404
        assert office.tickwork.get(job.id) is None
        assert [(each.action, each.reason) for each in office.log()] == [
            ("job.delete", None),
            ("job.cancel", "a slip"),
        ]

    def test_what_runs_is_not_deleted(self, office: Office) -> None:
        job = office.tickwork.enqueue("note", {})
        office.tickwork.store.claim(1, kinds=["note"], lease_seconds=60)
        answer = office.admin("DELETE", f"/api/jobs/notes/jobs/{job.id}")
        assert answer.status_code == 409
        assert office.tickwork.get(job.id) is not None


class TestProducing:
    def test_a_job_is_made(self, office: Office) -> None:
        answer = office.admin(
            "POST",
            "/api/jobs",
            json={"type": "note", "data": {"n": 1}, "delay": 60, "priority": 2, "max_attempts": 7},
        )
        assert answer.status_code == 201
        made = answer.json
        assert answer.headers["Location"] == f"/api/jobs/notes/jobs/{made['id']}"
        assert (made["status"], made["priority"], made["max_attempts"]) == ("delayed", 2, 7)
        job = office.tickwork.get(made["id"])
        assert job is not None
        assert job.payload == {"n": 1}

    def test_a_duplicate_is_told(self, office: Office) -> None:
        body = {"kind": "note", "dedupe_key": "k"}
        made = office.admin.post("/api/jobs", body, 201)
        again = office.admin.post("/api/jobs", body, 200)
        assert (again["id"], made["existing"], again["existing"]) == (made["id"], False, True)
        assert [each.action for each in office.log()] == ["job.enqueue"]

    @pytest.mark.parametrize("kind", ["inside", "os.system", "no-such-kind"])
    def test_other_kinds_are_not_made(self, office: Office, kind: str) -> None:
        answer = office.admin("POST", "/api/jobs", json={"kind": kind})
        assert answer.status_code == 403
        assert office.tickwork.list() == []

    def test_an_idempotency_key_makes_one_job(self, sql_office: Office) -> None:
        key = {"Idempotency-Key": "order-7"}
        body = {"kind": "note", "payload": {"n": 1, "at": "2026-01-01"}}
        made = sql_office.admin.post("/api/jobs", body, 201, headers=key)
        sql_office.tickwork.tick()
        again = sql_office.admin.post("/api/jobs", body, 200, headers=key)
        assert again["id"] == made["id"]
        other = sql_office.admin(
            "POST", "/api/jobs", json={"kind": "note", "payload": {"n": 2}}, headers=key
        )
        assert other.status_code == 422
        # The same key of somebody else is another key.
        sql_office.caller("operator", "org1").post("/api/jobs", body, 201, headers=key)
        for wrong in ("", "a" * 201, "a\tb"):
            answer = sql_office.admin(
                "POST", "/api/jobs", json=body, headers={"Idempotency-Key": wrong}
            )
            assert answer.status_code == 400

    def test_a_kind_brings_a_path_of_its_own(self, office: Office) -> None:
        class Module:
            producers = {  # noqa: RUF012
                "email": lambda body: ("note", {"to": body["to"]}, {"priority": 1}),
                "notes": "note",
            }

        office.tickwork.modules.append(Module)  # type: ignore[arg-type]
        made = office.admin.post("/api/jobs/email", {"to": "a@b"}, 201)
        assert (made["kind"], made["payload"], made["priority"]) == ("note", {"to": "a@b"}, 1)
        assert office.admin.post("/api/jobs/notes", {"n": 1}, 201)["payload"] == {"n": 1}
        assert office.admin.post("/api/jobs/email?action=pause")["paused"] is True
        assert office.admin("POST", "/api/jobs/reports", json={}).status_code == 400

    @pytest.mark.parametrize(
        ("body", "place"),
        [
            ({}, "kind"),
            ({"kind": "note", "payload": []}, "payload"),
            ({"kind": "note", "colour": 1}, "colour"),
            ({"kind": "note", "type": "note"}, "$"),
            ({"kind": "'; drop table--"}, "kind"),
            ({"kind": "note", "delay": -1}, "delay"),
            ({"kind": "note", "delay": 1e300}, "delay"),
            ({"kind": "note", "run_at": "2030-01-01T00:00:00"}, "run_at"),
            ({"kind": "note", "priority": 9}, "priority"),
            ({"kind": "note", "max_attempts": 0}, "max_attempts"),
            ({"kind": "note", "queue": "a b"}, "queue"),
            ({"kind": "card", "payload": {"number": 1}}, "payload.number"),
            ([], "$"),
            ("note", "$"),
        ],
        ids=str,
    )
    def test_what_does_not_fit_is_told_with_its_place(
        self, office: Office, body: Any, place: str
    ) -> None:
        answer = office.admin("POST", "/api/jobs", json=body)
        assert answer.status_code == 422
        assert answer.content_type == "application/problem+json"
        assert [each["path"] for each in answer.json["errors"]] == [place]
        assert office.tickwork.list() == []

    @pytest.mark.parametrize(
        "body",
        [
            {"kind": "note", "queue": "all"},
            {"kind": "note", "delay": 1, "run_at": "2030-01-01T00:00:00Z"},
            {"kind": "note", "dedupe_key": "a\nb"},
        ],
        ids=str,
    )
    def test_what_makes_no_sense_is_refused(self, office: Office, body: Any) -> None:
        assert office.admin("POST", "/api/jobs", json=body).status_code == 422

    @pytest.mark.parametrize("value", ['"a\\u0000b"', '"\\ud800"', "NaN", "-Infinity", "1e999"])
    def test_what_cannot_be_stored_is_refused_by_its_path(self, office: Office, value: str) -> None:
        body = f'{{"kind": "note", "payload": {{"a": [1, {{"b": {value}}}]}}}}'
        answer = office.admin("POST", "/api/jobs", data=body, content_type="application/json")
        assert answer.status_code == 422
        assert "a[1].b" in answer.text
        assert office.tickwork.list() == []

    def test_bodies_are_bounded_and_json(self, office: Office) -> None:
        def send(data: bytes, kind: str = "application/json") -> int:
            return office.admin("POST", "/api/jobs", data=data, content_type=kind).status_code

        assert send(b"") == 400
        assert send(b"{") == 400
        assert send(b"\xff\xfe") == 400
        assert send(b"[" * 100_000) == 400
        assert send(b'{"kind": "note"}', "text/plain") == 415
        assert send(b"kind=note", "application/x-www-form-urlencoded") == 415
        assert send(json.dumps({"kind": "note", "payload": {"a": "x" * 5_000_000}}).encode()) == 413
        nested = b'{"kind": "note", "payload": {"a": ' + b"[" * 900 + b"]" * 900 + b"}}"
        assert send(nested) in (201, 400, 422)
        assert send(json.dumps({"kind": "note", "payload": {"a": "x" * 800_000}}).encode()) == 413


class TestQueues:
    def test_pause_and_resume(self, office: Office) -> None:
        told = office.admin.post("/api/jobs/notes?action=pause", {"reason": "the relay is down"})
        assert told == {"success": True, "queueName": "notes", "paused": True}
        office.tickwork.enqueue("note", {})
        assert office.tickwork.tick().processed == 0
        (queue,) = (
            each
            for each in office.admin.get("/api/admin/queues")["queues"]
            if each["queue"] == "notes"
        )
        assert (queue["paused"], queue["paused_because"]) == (True, "the relay is down")
        assert office.admin.post("/api/jobs/notes?action=resume")["wasPaused"] is True
        assert office.admin.post("/api/jobs/notes?action=resume")["wasPaused"] is False
        assert office.tickwork.tick().processed == 1
        assert [(each.action, each.subject, each.reason) for each in office.log()] == [
            ("queue.resume", "queue/notes", None),
            ("queue.pause", "queue/notes", "the relay is down"),
        ]

    def test_empty_and_clean(self, office: Office) -> None:
        busy(office)
        assert office.admin.post("/api/jobs/notes?action=empty")["removed"] == 2
        assert office.admin.post("/api/jobs/notes?action=clean")["removed"] == 0
        office.clock.advance(86_401)
        assert office.admin.post("/api/jobs/notes?action=clean")["removed"] == 2
        assert office.admin.post("/api/jobs/bad/clean", {"status": "failed"})["removed"] == 0
        told = office.admin.post(
            "/api/jobs/bad/clean", {"grace": 3_600_000, "status": "failed", "reason": "old"}
        )
        assert told["removed"] == 1
        assert office.tickwork.list() == []
        assert (office.log()[0].concerned, office.log()[0].reason) == (1, "old")

    @pytest.mark.parametrize(("status", "queue"), [("failed", "bad"), ("completed", "notes")])
    def test_grace_keeps_the_last_hour(self, office: Office, status: str, queue: str) -> None:
        busy(office)
        office.clock.advance(3599)
        body = {"grace": 3_600_000, "status": status}
        path = f"/api/jobs/{queue}/clean"
        there = len(office.tickwork.list(state=status))
        assert there > 0
        assert office.admin.post(path, body)["removed"] == 0
        office.clock.advance(1)
        assert office.admin.post(path, body)["removed"] == there
        assert office.tickwork.list(state=status) == []

    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/api/jobs/notes", 400),
            ("/api/jobs/notes?action=explode", 400),
            ("/api/jobs/notes?action=pause&action=resume", 400),
            ("/api/jobs/stats?action=pause", 405),
            ("/api/jobs/a%20b?action=pause", 404),
            ("/api/jobs/..?action=pause", 404),
        ],
    )
    def test_other_actions_are_refused(self, office: Office, path: str, status: int) -> None:
        assert office.admin("POST", path).status_code == status
        assert office.tickwork.controls() == []

    def test_failed_jobs_of_a_queue_are_retried(self, office: Office) -> None:
        jobs = [office.failed() for _ in range(3)]
        body = {"queueName": "bad", "jobId": jobs[0].id}
        assert office.admin.post("/api/jobs/monitoring/retry", body)["retried"] == 1
        told = office.admin.post("/api/jobs/monitoring/retry", {"queueName": "bad"})
        assert told["retried"] == 2
        wrong = {"queueName": "notes", "jobId": jobs[0].id}
        assert office.admin("POST", "/api/jobs/monitoring/retry", json=wrong).status_code == 404

    def test_settings_at_run_time(self, office: Office) -> None:
        answer = office.admin(
            "PATCH", "/api/admin/queues/notes", json={"max_concurrency": 2, "timeout": 30}
        )
        assert answer.status_code == 200
        assert answer.json["settings"]["max_concurrency"] == {"value": 2, "from": "run time"}
        back = office.admin("PATCH", "/api/admin/queues/notes", json={"max_concurrency": None})
        assert back.json["settings"]["max_concurrency"]["from"] != "run time"
        assert back.json["settings"]["timeout"]["value"] == 30
        for wrong in ({}, {"colour": 1}, {"rate_limit": "often"}, {"priority": 0}):
            answer = office.admin("PATCH", "/api/admin/queues/notes", json=wrong)
            assert answer.status_code == 422
        assert (
            office.caller("operator")(
                "PATCH", "/api/admin/queues/notes", json={"timeout": 1}
            ).status_code
            == 403
        )

    def test_limits_and_breakers(self, office: Office) -> None:
        office.tickwork.queue("notes", max_concurrency=2)
        (limit,) = office.admin.get("/api/admin/limits")["limits"]
        assert (limit["name"], limit["max_concurrency"]) == ("queue/notes", 2)
        wrong = office.admin("POST", "/api/admin/breakers/reset", json={"name": "kind/x"})
        assert wrong.status_code == 404


class TestDiscard:
    def test_a_job_is_given_up(self, sql_office: Office) -> None:
        job = sql_office.tickwork.enqueue("note", {}, delay=60)
        path = f"/api/jobs/notes/jobs/{job.id}/discard"
        told = sql_office.admin.post(path, {"reason": "no such address"})
        assert (told["state"], told["status"]) == ("failed", "failed")
        assert told["error"] == "Discarded: given up by admin: no such address"
        again = sql_office.admin("POST", path)
        assert (again.status_code, again.json["state"]) == (409, "failed")
        (entry,) = sql_office.log()
        assert (entry.action, entry.subject) == ("job.discard", job.id)
        assert entry.reason == "no such address"


class TestAlerts:
    def test_an_open_alert_is_acknowledged(self, sql_office: Office) -> None:
        store = sql_office.tickwork.store
        opened = [
            Alert("depth", name, Level.ALERT, store.now(), detail="101 wait", version=1)
            for name in ("bad", "notes")
        ]
        over = Alert("p95", "", Level.OK, store.now(), version=1)
        assert store.save_alerts(Evaluation(written=[(None, each) for each in (*opened, over)]), [])
        told = sql_office.admin.get("/api/admin/alerts")["alerts"]
        assert [(each["name"], each["subject"]) for each in told] == [
            ("depth", "bad"),
            ("depth", "notes"),
        ]
        assert len(sql_office.admin.get("/api/admin/alerts?all=true")["alerts"]) == 3
        path = "/api/admin/alerts/depth/acknowledge"
        done = sql_office.admin.post(path, {"subject": "notes", "reason": "looking"})
        assert done == {"success": True, "name": "depth", "acknowledged": 1}
        told = sql_office.admin.get("/api/admin/alerts")["alerts"]
        assert [each["acknowledged_by"] for each in told] == [None, "admin"]
        assert sql_office.admin.post(path)["acknowledged"] == 2
        log = sql_office.log()
        assert [(each.action, each.subject, each.concerned) for each in log] == [
            ("alert.acknowledge", "depth", 2),
            ("alert.acknowledge", "depth/notes", 1),
        ]
        for unknown in ("p95", "x"):
            answer = sql_office.admin("POST", f"/api/admin/alerts/{unknown}/acknowledge")
            assert answer.status_code == 404
        assert len(sql_office.log()) == 2


class TestBulk:
    def test_a_number_is_confirmed_first(self, sql_office: Office) -> None:
        for n in range(3):
            sql_office.tickwork.enqueue("bad", {"n": n})
        sql_office.tickwork.tick(limit=10)
        asked: dict[str, Any] = {
            "action": "retry",
            "filter": {"state": "failed", "kind": "bad", "error": "no luck"},
        }
        path = "/api/jobs/all/jobs/bulk"
        counted = sql_office.admin.post(path, asked)
        assert (counted["count"], counted["done"]) == (3, False)
        assert sql_office.tickwork.count("failed") == 3
        assert sql_office.log() == []

        sql_office.failed()  # one more meanwhile
        confirmed = {**asked, "confirm": counted["confirm"], "reason": "relay is back"}
        changed = sql_office.admin("POST", path, json=confirmed)
        assert (changed.status_code, changed.json["count"]) == (409, 4)
        assert sql_office.tickwork.count("failed") == 4

        confirmed["confirm"] = changed.json["confirm"]
        done = sql_office.admin.post(path, confirmed)
        assert (done["count"], done["done"]) == (4, True)
        assert sql_office.tickwork.count("failed") == 0
        (entry,) = sql_office.log()
        assert (entry.action, entry.concerned, entry.reason) == ("jobs.retry", 4, "relay is back")
        assert entry.subject == "state=failed, queue=all, kind=bad, error=no luck"

    @pytest.mark.parametrize("change", [{"kind": "note"}, {"error": "x"}, {"state": "cancelled"}])
    def test_another_filter_is_not_confirmed(self, office: Office, change: Any) -> None:
        office.failed()
        given = {"state": "failed", "kind": "bad"}
        path = "/api/jobs/all/jobs/bulk"
        counted = office.admin.post(path, {"action": "retry", "filter": given})
        body = {"action": "retry", "filter": {**given, **change}, "confirm": counted["confirm"]}
        assert office.admin("POST", path, json=body).status_code == 409
        deletes = {"action": "delete", "filter": given, "confirm": counted["confirm"]}
        assert office.admin("POST", path, json=deletes).status_code == 409
        elsewhere = {"action": "retry", "filter": given, "confirm": counted["confirm"]}
        assert office.admin("POST", "/api/jobs/bad/jobs/bulk", json=elsewhere).status_code == 409
        assert office.tickwork.count("failed") == 1

    @pytest.mark.parametrize(
        ("action", "state", "left"),
        [
            ("cancel", "pending", {"cancelled": 2, "failed": 1}),
            ("delete", "pending", {"failed": 1}),
            ("delete", "failed", {"pending": 2}),
        ],
    )
    def test_cancel_and_delete(
        self, sql_office: Office, action: str, state: str, left: dict[str, int]
    ) -> None:
        sql_office.failed()
        for _ in range(2):
            sql_office.tickwork.enqueue("bad", {}, delay=5)
        path, body = "/api/jobs/bad/jobs/bulk", {"action": action, "filter": {"state": state}}
        body["confirm"] = sql_office.admin.post(path, body)["confirm"]
        sql_office.admin.post(path, body)
        states = ("pending", "failed", "cancelled", "completed")
        counts = {each: sql_office.tickwork.count(each) for each in states}
        assert {name: count for name, count in counts.items() if count} == left

    def test_what_waits_is_deleted_by_the_whole_filter(self, office: Office) -> None:
        """Not the queue emptied: a filter by age or error takes no more than it counted."""
        office.tickwork.enqueue("note", {})
        office.clock.advance(100)
        young = office.tickwork.enqueue("note", {})
        body: dict[str, Any] = {
            "action": "delete",
            "filter": {"state": "pending", "older_than": 50},
        }
        path = "/api/jobs/notes/jobs/bulk"
        counted = office.admin.post(path, body)
        assert counted["count"] == 1
        office.admin.post(path, {**body, "confirm": counted["confirm"]})
        assert [job.id for job in office.tickwork.list()] == [young.id]

    @pytest.mark.parametrize("action", ["retry", "delete"])
    def test_as_many_others_are_not_confirmed(self, sql_office: Office, action: str) -> None:
        """The number is the same, the jobs are not."""
        first = sql_office.failed(n=1)
        kept = sql_office.failed(n=2)
        path, body = "/api/jobs/bad/jobs/bulk", {"action": action, "filter": {"state": "failed"}}
        counted = sql_office.admin.post(path, body)
        sql_office.tickwork.remove(first.id)
        other = sql_office.failed(n=3)
        answer = sql_office.admin("POST", path, json={**body, "confirm": counted["confirm"]})
        assert (answer.status_code, answer.json["count"]) == (409, counted["count"])
        assert sql_office.tickwork.count("failed") == 2
        sql_office.admin.post(path, {**body, "confirm": answer.json["confirm"]})
        for job in (kept, other):
            found = sql_office.tickwork.get(job.id)
            assert (found is None) == (action == "delete")

    @pytest.mark.parametrize(
        ("action", "state"), [("cancel", "pending"), ("delete", "pending"), ("retry", "cancelled")]
    )
    def test_just_what_was_confirmed_and_a_bounded_part_at_once(
        self, office: Office, monkeypatch: pytest.MonkeyPatch, action: str, state: str
    ) -> None:
        """While it is done, jobs that the filter would find as well come and go."""
        tickwork, store = office.tickwork, office.tickwork.store
        tickwork.enqueue_many([("note", {"n": n}, {"delay": 99}) for n in range(2500)])
        if state == "cancelled":
            tickwork.cancel_many("pending")
        path, body = "/api/jobs/notes/jobs/bulk", {"action": action, "filter": {"state": state}}
        counted = office.admin.post(path, body)
        assert counted["count"] == 2500
        late: list[str] = []
        sizes: list[int] = []
        real = {name: getattr(store, name) for name in ("cancel_many", "remove", "revive")}

        def meanwhile(name: str) -> Any:
            def act(some: Any, *rest: Any, **more: Any) -> int:
                sizes.append(len(some))
                job = tickwork.enqueue("note", {"late": True}, delay=99)
                if state == "cancelled":
                    real["cancel_many"]([job.id])
                late.append(job.id)
                done: int = real[name](some, *rest, **more)
                return done

            return act

        for name in real:
            monkeypatch.setattr(store, name, meanwhile(name))
        done = office.admin.post(path, {**body, "confirm": counted["confirm"]})
        assert done["count"] == 2500
        assert len(sizes) >= 3
        assert max(sizes) <= 1000
        untouched = [job for job_id in late if (job := tickwork.get(job_id)) is not None]
        assert [job.state for job in untouched] == [state] * len(late)

    def test_retries_of_a_bulk_are_spread(self, office: Office) -> None:
        for n in range(4):
            office.failed(n=n)
        path, body = "/api/jobs/bad/jobs/bulk", {"action": "retry", "filter": {"state": "failed"}}
        confirm = office.admin.post(path, body)["confirm"]
        office.admin.post(path, {**body, "confirm": confirm, "per_second": 0.5, "attempts": 7})
        jobs = office.tickwork.list(state="pending")[::-1]
        now = office.clock.now()
        assert [(job.run_at - now).total_seconds() for job in jobs] == [0.0, 2.0, 4.0, 6.0]
        assert {job.max_attempts for job in jobs} == {7}

    def test_what_no_action_is_for_is_refused(self, office: Office) -> None:
        for action, state in (("retry", "pending"), ("cancel", "failed"), ("delete", "processing")):
            body = {"action": action, "filter": {"state": state}}
            answer = office.admin("POST", "/api/jobs/all/jobs/bulk", json=body)
            assert answer.status_code == 422


class TestSchedules:
    def test_its_whole_life(self, sql_office: Office) -> None:
        admin, path = sql_office.admin, "/api/admin/schedules"
        body = {
            "name": "weekly",
            "kind": "note",
            "cron": "0 8 * * 1",
            "timezone": "Asia/Kolkata",
            "payload": {"n": 1, "password": "hunter2"},
            "priority": 2,
        }
        made = admin.post(path, body, 201)
        assert (made["rule"], made["enabled"], made["changed_by"]) == ("0 8 * * 1", True, "admin")
        assert "08:00" in made["words"]
        assert made["payload"] == {"n": 1, "password": HIDDEN}
        assert admin.post(path, body, 200)["created_at"] == made["created_at"]
        assert [each["name"] for each in admin.get(path)["schedules"]] == ["weekly"]

        slots = admin.get(f"{path}/weekly/next?count=3")["slots"]
        assert len(slots) == 3
        assert slots[0].endswith("08:00:00+05:30")

        changed = admin("PATCH", f"{path}/weekly", json={"cron": "0 9 * * 1"}).json
        assert (changed["rule"], changed["timezone"]) == ("0 9 * * 1", "Asia/Kolkata")
        assert changed["options"]["priority"] == 2
        stays = admin("PATCH", f"{path}/weekly", json={"payload": {"n": 2}}).json
        assert (stays["rule"], stays["payload"]) == ("0 9 * * 1", {"n": 2})

        assert admin.post(f"{path}/weekly/disable")["enabled"] is False
        assert admin.post(f"{path}/weekly/enable")["enabled"] is True
        job = admin.post(f"{path}/weekly/run", status=201)
        assert (job["kind"], job["schedule"], job["payload"]) == ("note", "weekly", {"n": 2})
        assert admin("DELETE", f"{path}/weekly").json == {"removed": "weekly"}
        assert admin("GET", f"{path}/weekly").status_code == 404
        assert {each.action for each in sql_office.log()} == {
            *("schedule.set", "schedule.enable", "schedule.disable"),
            *("schedule.run", "schedule.delete"),
        }

    def test_a_kind_that_is_closed_is_not_opened_by_a_schedule(self, office: Office) -> None:
        admin, path = office.admin, "/api/admin/schedules"
        body = {"name": "nightly", "kind": "closed", "cron": "0 3 * * *", "payload": {"n": 1}}
        refused = admin("POST", path, json=body)
        assert refused.status_code == 403
        assert "api=True" in refused.text
        office.tickwork.schedules.add("nightly", "0 3 * * *", "closed", {"n": 1})
        later = admin("PATCH", f"{path}/nightly", json={"cron": "0 4 * * *"})
        assert later.json["rule"] == "0 4 * * *"
        for change in ({"payload": {"n": 2}}, {"kind": "note"}):
            answer = admin("PATCH", f"{path}/nightly", json=change)
            assert answer.status_code == (403 if "payload" in change else 200)

    @pytest.mark.parametrize(
        "change", [{"every": 300}, {"every": 60, "start": "2026-01-01T00:00:30Z"}]
    )
    def test_an_interval_stays_one(self, office: Office, change: Any) -> None:
        path = "/api/admin/schedules"
        made = office.admin.post(path, {"name": "often", "kind": "note", **change}, 201)
        stays = office.admin("PATCH", f"{path}/often", json={"priority": 1}).json
        assert stays["rule"] == made["rule"]

    @pytest.mark.parametrize(
        "body",
        [
            {"name": "x", "kind": "note"},
            {"name": "x", "kind": "note", "cron": "61 * * * *"},
            {"name": "x", "kind": "note", "cron": "* * * * *", "every": 5},
            {"name": "x", "kind": "note", "cron": "* * * * *", "timezone": "Mars/Base"},
            {"name": "x", "kind": "note", "at": "2001-01-01T00:00:00Z"},
            {"name": "x y", "kind": "note", "every": 5},
            {"name": "x", "kind": "note", "every": 5, "dedupe_key": "k"},
        ],
        ids=str,
    )
    def test_what_makes_no_sense_is_refused(self, office: Office, body: Any) -> None:
        answer = office.admin("POST", "/api/admin/schedules", json=body)
        assert answer.status_code == 422
        assert office.tickwork.schedules.list() == []


class TestTokens:
    def test_its_whole_life(self, sql_office: Office) -> None:
        admin, path = sql_office.admin, "/api/admin/tokens"
        body = {"role": "operator", "tenant": "org1", "name": "ci", "expires_in": 3600}
        made = admin.post(path, body, 201)
        assert made["token"].startswith("tw_")
        assert (made["role"], made["tenant"], made["state"]) == ("operator", "org1", "live")
        own = {"Authorization": f"Bearer {made['token']}"}
        client = sql_office.app.test_client()
        assert client.get("/api/admin/me", headers=own).json["tenant"] == "org1"

        (listed,) = admin.get(path)["tokens"]
        assert made["token"] not in str(listed)
        assert listed["last_used_at"] is not None
        ended = admin("DELETE", f"{path}/{made['id']}").json
        assert (ended["state"], ended["revoked_by"]) == ("revoked", "admin")
        assert client.get("/api/admin/me", headers=own).status_code == 401
        assert admin("DELETE", f"{path}/nobody").status_code == 404
        assert [each.action for each in sql_office.log()] == ["token.revoke", "token.create"]
        assert made["token"] not in str(sql_office.log())

    def test_whose_it_is_must_be_said(self, office: Office) -> None:
        for body in ({}, {"tenant": "a", "all_tenants": True}):
            answer = office.admin("POST", "/api/admin/tokens", json={"role": "viewer", **body})
            assert answer.status_code == 422
        made = office.admin.post("/api/admin/tokens", {"role": "viewer", "all_tenants": True}, 201)
        assert made["tenant"] is None

    def test_a_tenants_admin_makes_its_own_alone(self, office: Office) -> None:
        own = office.caller("admin", "org1")
        assert own.post("/api/admin/tokens", {"role": "admin"}, 201)["tenant"] == "org1"
        wide = own.post("/api/admin/tokens", {"role": "admin", "all_tenants": True}, 201)
        assert wide["tenant"] == "org1"
        other = own("POST", "/api/admin/tokens", json={"role": "viewer", "tenant": "org2"})
        assert other.status_code == 404
        for role in ("viewer", "operator"):
            refused = office.caller(role)("POST", "/api/admin/tokens", json={"role": "viewer"})
            assert refused.status_code == 403


class TestAudit:
    def test_it_is_read_in_pages(self, office: Office) -> None:
        for n in range(5):
            office.admin.post(f"/api/jobs/q{n}?action=pause")
        page = office.admin.get("/api/admin/audit?limit=3")
        assert [each["subject"] for each in page["changes"]] == ["queue/q4", "queue/q3", "queue/q2"]
        rest = office.admin.get(f"/api/admin/audit?cursor={page['next_cursor']}")
        assert [each["subject"] for each in rest["changes"]] == ["queue/q1", "queue/q0"]
        assert rest["next_cursor"] is None
        only = office.admin.get("/api/admin/audit?subject=queue/q1&by=admin&action=queue.pause")
        assert len(only["changes"]) == 1
        assert office.admin.get("/api/admin/audit?by=bob")["changes"] == []


def test_the_batch_endpoint_of_the_seeds_is_still_the_ticks(office: Office) -> None:
    """`/api/jobs/process` has its own bearer; an admin's token is none for it."""
    assert office.admin("GET", "/api/jobs/process").status_code == 503


def test_an_unknown_parameter_is_refused(office: Office) -> None:
    for path in ("/api/jobs/stats?colour=red", "/api/admin/me?x=1", "/api/jobs/all/jobs?sort=id"):
        answer = office.admin("GET", path)
        assert answer.status_code == 400
        assert answer.json["errors"][0]["path"] in ("colour", "x", "sort")
