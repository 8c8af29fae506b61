"""The kind `report`, by the real loop: both payloads, periods, formats, mails."""

from __future__ import annotations

import io
import json
import zipfile
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as modern
from html import escape
from pathlib import Path
from typing import Any

import pypdf
import pytest

from jobs import PayloadError, State, Tickwork
from jobs.handlers.errors import ReportError
from jobs.handlers.report import queue_report
from jobs.handlers.reports import Chart, Section, definition, register_report
from tests.files.conftest import SECRET, Open, run
from tests.handlers.shop import content, files_in, read_csv
from tests.support.databases import Database

BY_DAY = Section(
    "Sales by day",
    "by-day",
    columns={"day": "Day", "amount": "Amount"},
    chart=Chart("line", x="day", y="amount"),
    totals=["amount"],
)
LIST = Section("All sales", "sales", filters={"customer": "राम स्टोर्स"}, rows=3)


@pytest.fixture(autouse=True)
def reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definition, "_reports", {})
    register_report("weekly", title="The week", sections=[BY_DAY, LIST], period="last-week")
    register_report("plain", title="Days", sections=[BY_DAY])


def letters(tmp_path: Path) -> list[EmailMessage]:
    return [
        message_from_bytes(path.read_bytes(), policy=modern)
        for path in sorted((tmp_path / "outbox").glob("*.eml"))
    ]


def part(letter: EmailMessage, name: str) -> str:
    """The body as `plain` or `html`."""
    body = letter.get_body((name,))
    assert body is not None
    return str(body.get_content())


def report_of(tickwork: Tickwork, **said: Any) -> Any:
    job = run(tickwork, queue_report(tickwork=tickwork, organization_id="org-1", **said))
    assert job.state == State.COMPLETED, job.error
    return job.result


def test_json_on_each_database(database: Database, open_system: Open) -> None:
    result = report_of(open_system(database), type="weekly", period="2024-W02")
    document = json.loads(content(result["file_url"]))

    assert document["title"] == "The week"
    assert document["period"] == {
        "label": "week 2 of 2024",
        "start": "2024-01-08",
        "end": "2024-01-15",
        "timezone": "UTC",
    }
    days, sales = document["sections"]
    assert days["title"] == "Sales by day"
    assert [str(row["Day"])[:10] for row in days["rows"]] == [
        f"2024-01-{number:02}" for number in range(8, 15)
    ]
    # Two sales of each day, 10.50 and 12.50 and what the weekday adds.
    assert [float(row["Amount"]) for row in days["rows"]] == [23.0 + 2 * n for n in range(7)]
    assert all(row["org"] == "org-1" for row in sales["rows"])
    assert result["sections"] == {"Sales-by-day": 7, "All-sales": 0}
    assert result["period"] == document["period"]


def test_several_sections_are_csv_files_in_a_zip(tickwork: Tickwork, tmp_path: Path) -> None:
    result = report_of(tickwork, type="weekly", format="csv", period="2024-01")
    with zipfile.ZipFile(io.BytesIO(content(result["file_url"]))) as archive:
        assert archive.namelist() == ["Sales-by-day.csv", "All-sales.csv"]
        rows = read_csv(archive.read("Sales-by-day.csv"))
    assert rows[0] == ["Day", "Amount"]
    assert len(rows) == 32
    assert files_in(tmp_path / "blobs")[0].endswith("/weekly-January-2024.zip")


def test_one_section_is_one_csv(tickwork: Tickwork) -> None:
    result = report_of(tickwork, type="plain", format="csv", period="2024-01-03")
    head, (day, amount) = read_csv(content(result["file_url"]))
    assert (head, day, float(amount)) == (["Day", "Amount"], "2024-01-03", 27.0)


def test_a_dataset_is_a_report_of_its_own(tickwork: Tickwork) -> None:
    """A97: type, filters, format."""
    result = report_of(
        tickwork, type="sales", filters={"customer": "Łódź & Söhne"}, period="2024-01"
    )
    document = json.loads(content(result["file_url"]))
    (section,) = document["sections"]
    assert {row["customer"] for row in section["rows"]} == {"Łódź & Söhne"}
    assert result["total_rows"] == 31


def test_the_payload_of_a_recurring_report(tickwork: Tickwork, tmp_path: Path) -> None:
    """A104: by reportType, mailed to several; the PDF is attached, as no link can be signed."""
    payload = {
        "reportId": "recurring",
        "organizationId": "org-1",
        "reportType": "weekly",
        "period": "2024-W02",
        "recipientEmails": ["ann@example.com", "bob@example.com"],
    }
    job = run(tickwork, tickwork.enqueue("report", payload, tenant="org-1"))
    assert job.state == State.COMPLETED, job.error
    (letter,) = letters(tmp_path)

    assert job.result["email"] == "sent"
    assert letter["To"] == "ann@example.com, bob@example.com"
    assert letter["Subject"] == "The week, week 2 of 2024"
    text, html = (part(letter, name) for name in ("plain", "html"))
    for said in ("Your report for", "week 2 of 2024", "It is attached to this mail."):
        assert said in text
        assert said in html
    for fact in ("Rows", "7", job.result["sha256"]):
        assert fact in text
        assert fact in html
    (attached,) = letter.iter_attachments()
    assert attached.get_filename() == "weekly-week-2-of-2024.pdf"
    assert attached.get_content_type() == "application/pdf"
    pdf = attached.get_content()
    assert pdf == content(job.result["file_url"])
    assert "week 2 of 2024" in pypdf.PdfReader(io.BytesIO(pdf)).pages[0].extract_text().lower()


def test_a_link_is_mailed_where_one_can_be_signed(
    sqlite_database: Database, open_system: Open, tmp_path: Path
) -> None:
    tickwork = open_system(sqlite_database, secret_key=SECRET, kick_url="https://shop.example.com")
    result = report_of(
        tickwork, type="plain", period="2024-01", format="csv", notify_email="ann@example.com"
    )
    (letter,) = letters(tmp_path)
    assert list(letter.iter_attachments()) == []
    assert f"Open the report: {result['download_url']}" in part(letter, "plain").splitlines()
    assert f'href="{escape(result["download_url"])}"' in part(letter, "html")
    for name in ("plain", "html"):
        assert "The link works until " in part(letter, name)


def test_a_file_that_no_browser_opens_is_named(tickwork: Tickwork, tmp_path: Path) -> None:
    result = report_of(
        tickwork,
        type="plain",
        period="2024-01",
        format="csv",
        delivery="link",
        notify_email="ann@example.com",
    )
    (letter,) = letters(tmp_path)
    assert list(letter.iter_attachments()) == []
    assert f"The file is at {result['file_url']}" in part(letter, "plain")
    assert "href" not in part(letter, "html")


def test_the_mail_is_made_by_a_template_of_ones_own(
    sqlite_database: Database, open_system: Open, tmp_path: Path
) -> None:
    """A105: `report-delivery`, which the application may write anew."""
    own = tmp_path / "templates"
    own.mkdir()
    (own / "report-delivery.txt").write_text("{{ brand }}: {{ title }}, {{ summary[0].value }}")
    (own / "report-delivery.html").write_text("<p>{{ title }}</p>")
    tickwork = open_system(sqlite_database, email_templates=str(own))
    report_of(tickwork, type="plain", period="2024-01", notify_email="ann@example.com")

    (letter,) = letters(tmp_path)
    assert part(letter, "plain").strip() == "Shop: Days, 31"
    assert part(letter, "html").strip() == "<p>Days</p>"
    assert letter["Subject"] == "Days, January 2024"  # a file that is not there is the shipped one


def test_a_template_that_goes_wrong_fails_the_mail_alone(
    sqlite_database: Database, open_system: Open, tmp_path: Path
) -> None:
    own = tmp_path / "templates"
    own.mkdir()
    (own / "report-delivery.txt").write_text("{{ nothing }}")
    tickwork = open_system(sqlite_database, email_templates=str(own))
    result = report_of(tickwork, type="plain", period="2024-01", notify_email="ann@example.com")

    assert result["email"].startswith("failed: template 'report-delivery': 'nothing'")
    assert content(result["file_url"])
    assert letters(tmp_path) == []


def test_a_weekly_report_is_about_the_week_before_its_slot(tickwork: Tickwork) -> None:
    """Without a period in the payload; however late it runs, the job says when it was made."""
    result = report_of(tickwork, type="weekly")
    assert result["period"]["label"].startswith("week ")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"type": "nothing"}, "there is no report 'nothing'; the reports: plain, weekly"),
        ({"type": "weekly", "period": "soon"}, "'soon' is no period; write 30d"),
        ({"type": "countries", "period": "7d"}, "has no period"),
        ({"type": "weekly", "filters": {"colour": "red"}}, "has no filter 'colour'"),
        ({"type": "weekly", "filters": {"org": "org-2"}}, "is the job's tenant: leave it out"),
        ({"type": "everything"}, "does not say whose its rows are"),
        ({"type": "weekly", "notify_email": "x"}, "is not one mail address"),
    ],
)
def test_a_mistake_is_a_dead_letter_at_once(
    tickwork: Tickwork, tmp_path: Path, said: dict[str, Any], reason: str
) -> None:
    job = run(tickwork, queue_report(tickwork=tickwork, organization_id="org-1", **said))
    assert (job.state, job.attempts) == (State.FAILED, 1)
    assert reason in str(job.error)
    assert not (tmp_path / "blobs").exists()


@pytest.mark.parametrize(
    "payload", [{}, {"type": 1}, {"type": "weekly", "format": "docx"}, {"type": ""}]
)
def test_a_payload_of_the_wrong_shape_is_refused(
    tickwork: Tickwork, payload: dict[str, Any]
) -> None:
    with pytest.raises(PayloadError):
        tickwork.enqueue("report", payload)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sections": []}, "1 to 20 sections"),
        ({"sections": [BY_DAY, BY_DAY]}, "have one title"),
        ({"timezone": "Mars/Olympus"}, "no time zone"),
        ({"sections": [Section("x", "y", chart=Chart("bar", "a", []))]}, "1 to 4 series"),
        ({"sections": [Section("x", "y", rows=-1)]}, "0 or more"),
    ],
)
def test_what_cannot_work_is_refused_when_registered(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ReportError, match=reason):
        register_report("r", **{"title": "R", "sections": [BY_DAY], **change})
