"""The doctor without a database: each finding is provoked, and a healthy set-up has none."""

from __future__ import annotations

import base64
import json
import sys
import zoneinfo
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from jobs.ops.doctor import Finding, Level, Surroundings, diagnose
from jobs.ops.doctor.base import Family, examine
from jobs.ops.doctor.vercel import cron_mistake, least_gap_seconds
from tests.ops.conftest import ROOT, SECRET, Diagnose, healthy_environment, healthy_registry

FERNET_KEY = base64.urlsafe_b64encode(b"k" * 32).decode()


def test_a_healthy_deployment_has_no_findings(static: Diagnose) -> None:
    assert static() == {}


def test_this_repository_ships_a_healthy_deployment() -> None:
    around = Surroundings(environ=healthy_environment(), folder=ROOT, registry=healthy_registry())

    assert {each.code for each in diagnose(around)} <= {"cron-daily"}


BY_ENVIRONMENT: dict[str, tuple[dict[str, str], Level]] = {
    "secret-missing": ({"CRON_SECRET": ""}, Level.ERROR),
    "secret-placeholder": ({"CRON_SECRET": "undefined"}, Level.ERROR),
    "secret-sample": ({"CRON_SECRET": "your_cron_secret"}, Level.ERROR),
    "secret-weak": ({"CRON_SECRET": "fj3k9x"}, Level.WARNING),
    "secret-white-space": ({"CRON_SECRET": f"{SECRET}\n"}, Level.WARNING),
    "secret-unsendable": ({"CRON_SECRET": "k3Jw9qZt7 Rb2LxNv5Hc8"}, Level.ERROR),
    "secret-previous": ({"CRON_SECRET_PREVIOUS": f"{SECRET}old"}, Level.NOTE),
    "secret-shared": ({"ADMIN_TOKEN": SECRET}, Level.WARNING),
    "admin-token-placeholder": ({"ADMIN_TOKEN": "undefined"}, Level.ERROR),
    "admin-token-sample": ({"ADMIN_TOKEN": "your_super_secret_token"}, Level.ERROR),
    "admin-token-ignored": ({"ADMIN_TOKEN": "fj3k9x"}, Level.ERROR),
    "admin-token-weak": ({"ADMIN_TOKEN": "abababababababababab"}, Level.WARNING),
    "secret-key-weak": ({"SECRET_KEY": "changeme"}, Level.ERROR),
    "secret-key-missing": ({"ADMIN_TOKEN": "another-long-token-1234567"}, Level.NOTE),
    "encryption-key-malformed": (
        {"JOBS_ENCRYPTION_KEYS": f"{FERNET_KEY},bm90IGEga2V5"},
        Level.ERROR,
    ),
    "variable-unknown": ({"JOBS_HANDLER": "shop.tasks"}, Level.WARNING),
    "mail-stays-here": ({"JOBS_ALERT_EMAIL": "ops@example.com"}, Level.WARNING),
    "mail-without-sender": (
        {"JOBS_ALERT_EMAIL": "ops@example.com", "RESEND_API_KEY": "re_12345678"},
        Level.WARNING,
    ),
    "mail-two-ways": (
        {"SMTP_URL": "smtp://u:hunter2@host", "RESEND_API_KEY": "re_12345678"},
        Level.NOTE,
    ),
    "preview-namespace": ({"VERCEL": "1", "VERCEL_ENV": "preview"}, Level.ERROR),
    "sqlite-on-platform": (
        {"DATABASE_URL": "sqlite:////var/task/jobs.db", "VERCEL_REGION": "fra1"},
        Level.ERROR,
    ),
    "sqlite-temporary": ({"DATABASE_URL": "sqlite:////scratch/jobs.db"}, Level.WARNING),
    "in-memory": ({"JOBS_BACKEND": "memory"}, Level.ERROR),
    "lease-long": ({"JOBS_TICK_LIMIT": "7200"}, Level.WARNING),
    "limit-over-duration": ({"JOBS_TICK_LIMIT": "90"}, Level.ERROR),
}


@pytest.mark.parametrize("code", BY_ENVIRONMENT)
def test_an_environment_that_is_wrong_is_told(code: str, static: Diagnose) -> None:
    environ, level = BY_ENVIRONMENT[code]

    found = static(environ, temporary=(Path("/scratch"),))[code]

    assert found.level is level
    assert found.sentence
    assert found.mend
    assert SECRET not in found.sentence + found.mend


@pytest.mark.parametrize(
    "fine",
    [
        {"VERCEL": "1", "VERCEL_ENV": "preview", "JOBS_NAMESPACE": "preview"},
        {"VERCEL": "1", "VERCEL_ENV": "production"},
        {"DATABASE_URL": "sqlite:////srv/jobs.db"},
        {"DATABASE_URL": "sqlite:////scratch/jobs.db", "JOBS_ENV": "development"},
        {
            "JOBS_ALERT_EMAIL": "ops@example.com",
            "SMTP_URL": "ses://eu-central-1",
            "EMAIL_FROM": "a@b.example",
        },
        {"ADMIN_TOKEN": "another-long-token-1234567", "SECRET_KEY": "k9" * 20 + "hGfDsA"},
        {"JOBS_ENCRYPTION_KEYS": FERNET_KEY},
    ],
    ids=str,
)
def test_what_is_right_is_left_in_peace(fine: dict[str, str], static: Diagnose) -> None:
    found = static(fine, temporary=(Path("/scratch"),))

    assert found == {}


def test_a_misspelt_variable_is_told_by_the_one_meant(static: Diagnose) -> None:
    assert "JOBS_HANDLERS" in static({"JOBS_HANDLER": "x"})["variable-unknown"].mend


def test_a_kind_that_fits_no_tick_is_told(static: Diagnose) -> None:
    long = static(registry=healthy_registry(timeout=600))
    short = static(registry=healthy_registry(timeout=50))

    assert "'greet' may take 600 s" in long["kind-fits-no-tick"].sentence
    assert "kind-fits-no-tick" not in short


def test_no_handlers_are_told(folder: Path) -> None:
    from jobs.core.registry import Registry
    from jobs.core.settings import read_settings

    def codes(**environ: str) -> set[str]:
        environ = {**healthy_environment(), **environ}
        named = {name: value for name, value in environ.items() if value}
        around = Surroundings(
            environ=named, folder=folder, settings=read_settings(named), registry=Registry()
        )
        return {each.code for each in diagnose(around)}

    assert "handlers-missing" in codes(JOBS_HANDLERS="")
    assert "handlers-empty" in codes()


# -- vercel.json -----------------------------------------------------------------------------------


def change_vercel(folder: Path, **changes: Any) -> None:
    document = json.loads((folder / "vercel.json").read_text()) | changes
    kept = {name: value for name, value in document.items() if value != "gone"}
    (folder / "vercel.json").write_text(json.dumps(kept))


def cron(schedule: str, path: str = "/cron/process-jobs") -> list[dict[str, str]]:
    return [{"path": path, "schedule": schedule}]


VERCEL: dict[str, tuple[dict[str, Any], str | None, Level]] = {
    "cron-missing": ({"crons": cron("0 5 * * *", "/cron/other")}, "hobby", Level.WARNING),
    "cron-expression": ({"crons": cron("0 8 * * MON")}, "pro", Level.ERROR),
    "cron-over-plan": ({"crons": cron("*/5 * * * *")}, "hobby", Level.ERROR),
    "cron-needs-plan": ({"crons": cron("0 */6 * * *")}, None, Level.NOTE),
    "duration-over-plan": (
        {"functions": {"api/index.py": {"maxDuration": 800}}},
        "hobby",
        Level.ERROR,
    ),
    "limit-over-duration": (
        {"functions": {"api/index.py": {"maxDuration": 30}}},
        "hobby",
        Level.ERROR,
    ),
    "vercel-framework": ({"framework": "gone"}, "hobby", Level.WARNING),
}


@pytest.mark.parametrize("code", VERCEL)
def test_a_wrong_vercel_json_is_told(code: str, static: Diagnose, folder: Path) -> None:
    changes, plan, level = VERCEL[code]
    change_vercel(folder, **changes)

    assert static(plan=plan)[code].level is level


def test_a_frequent_cron_is_right_on_a_paid_plan(static: Diagnose, folder: Path) -> None:
    change_vercel(folder, crons=cron("* * * * *"))

    assert static(plan="pro") == {}


def test_a_daily_cron_alone_is_noted(static: Diagnose) -> None:
    assert static({"JOBS_KICK_URL": ""})["cron-daily"].level is Level.NOTE


def test_a_vercel_json_that_is_no_json_is_told(static: Diagnose, folder: Path) -> None:
    (folder / "vercel.json").write_text("{nothing")

    assert static()["vercel-unreadable"].level is Level.ERROR


def test_a_published_source_is_told(static: Diagnose, folder: Path) -> None:
    (folder / "public").rmdir()

    assert static()["vercel-publishes-source"].level is Level.ERROR


@pytest.mark.parametrize("name", [".env", ".env.production", "jobs.db", "server.key"])
def test_a_published_secret_is_told(name: str, static: Diagnose, folder: Path) -> None:
    (folder / "public" / "index.html").touch()
    assert "secret-published" not in static()

    (folder / "public" / name).touch()
    assert name in static()["secret-published"].sentence


def test_an_env_file_that_travels_along_is_told(static: Diagnose, folder: Path) -> None:
    (folder / ".env").write_text("CRON_SECRET=x")
    assert "env-bundled" not in static()

    change_vercel(folder, functions={"api/index.py": {"maxDuration": 60}})
    (folder / ".vercelignore").write_text("tests\n")
    assert static()["env-bundled"].level is Level.WARNING


@pytest.mark.parametrize(
    ("expression", "seconds"),
    [
        ("* * * * *", 60),
        ("*/5 * * * *", 300),
        ("0 */6 * * *", 6 * 3600),
        ("0 5 * * *", 86_400),
        ("0 5,6 * * *", 3600),
        ("0 5 * * 1", 7 * 86_400),
        ("0 0 29 2 *", 1461 * 86_400),
    ],
)
def test_the_shortest_gap_between_runs(expression: str, seconds: float) -> None:
    assert cron_mistake(expression) == ""
    assert least_gap_seconds(expression) == seconds


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "* * * *",
        "0 0 * * * *",
        "@daily",
        "0 8 * * MON",
        "0 0 1 * 1",
        "61 * * * *",
        "0 0 31 2 *",
    ],
)
def test_what_vercel_does_not_take_as_a_cron(expression: str) -> None:
    assert cron_mistake(expression)


# -- serverless.yml --------------------------------------------------------------------------------

SQS_EVENT = """\
          functionResponseType: ReportBatchItemFailures
"""
SERVERLESS: dict[str, tuple[str, str, Level]] = {
    # The text in the shipped serverless.yml, and what stands there instead.
    "partial-batch-off": (SQS_EVENT, "", Level.ERROR),
    "visibility-below-timeout": (
        "VisibilityTimeout: 540",
        "VisibilityTimeout: 60",
        Level.ERROR,
    ),
    "visibility-short": ("VisibilityTimeout: 540", "VisibilityTimeout: 120", Level.WARNING),
    "receive-count-low": ("maxReceiveCount: 1000", "maxReceiveCount: 3", Level.ERROR),
    "dead-letter-retention": (
        "MessageRetentionPeriod: 1209600",
        "MessageRetentionPeriod: 345600",
        Level.WARNING,
    ),
    "dead-letter-type": (
        "QueueName: ${self:service}-${sls:stage}-jobs-dead\n",
        "FifoQueue: true\n",
        Level.ERROR,
    ),
    "limit-over-timeout": ("JOBS_TICK_LIMIT: '29'", "JOBS_TICK_LIMIT: '60'", Level.ERROR),
    "limit-over-timeout by default": ("      JOBS_TICK_LIMIT: '29'\n", "", Level.ERROR),
    "limit-over-timeout where Lambda says": (
        "JOBS_TICK_LIMIT: '90'",
        "JOBS_TICK_LIMIT: '120'",
        Level.NOTE,
    ),
    "budget-over-limit": ("JOBS_TICK_LIMIT: '29'", "JOBS_TICK_LIMIT: '19'", Level.ERROR),
    "reserved-concurrency": ("role: RecordsRole", "reservedConcurrency: 5", Level.WARNING),
    "tick-retried": ("maximumRetryAttempts: 0", "maximumRetryAttempts: 2", Level.NOTE),
    "secret-in-template": (
        "DATABASE_URL: ssm:",
        "DATABASE_URL: ${ssm:}",
        Level.WARNING,
    ),
}


@pytest.mark.parametrize("code", SERVERLESS)
def test_a_wrong_serverless_yml_is_told(code: str, static: Diagnose, folder: Path) -> None:
    before, after, level = SERVERLESS[code]
    code = code.partition(" ")[0]
    path = folder / "serverless.yml"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))

    assert static()[code].level is level


def changed_document(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = {
        "service": "shop",
        "functions": {
            "records": {
                "handler": "x.y",
                "events": [{"sqs": {"arn": {"Fn::GetAtt": ["Jobs", "Arn"]}}}],
            }
        },
        "resources": {"Resources": {"Jobs": {"Type": "AWS::SQS::Queue"}}},
    }
    (folder / "serverless.yml").write_text(yaml.safe_dump(document))
    return document


def test_what_a_bare_serverless_yml_lacks(static: Diagnose, folder: Path) -> None:
    """Without properties the defaults hold: 6 s of timeout, 30 s of visibility, no redrive."""
    changed_document(folder)

    assert {"redrive-missing", "cron-missing", "partial-batch-off", "visibility-short"} <= set(
        static()
    )


def test_a_serverless_yml_that_is_no_yaml_is_told_without_its_text(
    static: Diagnose, folder: Path
) -> None:
    (folder / "serverless.yml").write_text("password: [hunter2\n  x: }")

    found = static()["serverless-unreadable"]
    assert found.level is Level.ERROR
    assert "hunter2" not in found.sentence


def test_without_pyyaml_that_is_said(
    static: Diagnose, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)

    assert static()["serverless-unread"].level is Level.NOTE
    (folder / "serverless.yml").unlink()
    assert "serverless-unread" not in static()


# -- packages --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "environ"),
    [
        ("boto3", {"SQS_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/1/jobs"}),
        ("pymysql", {"DATABASE_URL": "mysql://app@db.example/app"}),
        ("apscheduler", {"JOBS_AUTO_START": "1"}),
    ],
)
def test_a_missing_extra_is_told(
    module: str, environ: dict[str, str], static: Diagnose, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "extra-missing" not in static(environ)

    monkeypatch.setitem(sys.modules, module, None)
    assert module in static(environ)["extra-missing"].sentence


def test_a_package_that_is_too_old_is_told(
    static: Diagnose, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By the metadata of an older one, found first on the path."""
    metadata = tmp_path / "site" / "cronsim-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: cronsim\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path / "site")

    assert "cronsim 1.0 is installed" in static()["package-old"].sentence


@pytest.fixture
def no_time_zones(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without the data of time zones."""
    kept = zoneinfo.TZPATH
    # Also the packages of it that another test may have loaded.
    for name in ("tzdata", *(name for name in sys.modules if name.startswith("tzdata."))):
        monkeypatch.setitem(sys.modules, name, None)
    zoneinfo.reset_tzpath([])
    zoneinfo.ZoneInfo.clear_cache()
    yield
    zoneinfo.reset_tzpath(kept)
    zoneinfo.ZoneInfo.clear_cache()


@pytest.mark.usefixtures("no_time_zones")
def test_missing_time_zones_are_told(static: Diagnose) -> None:
    assert "tzdata" in static()["time-zones"].mend


# -- the doctor itself -----------------------------------------------------------------------------


def test_a_check_that_fails_is_a_finding_and_stops_no_other(tmp_path: Path) -> None:
    def broken(_: Surroundings) -> Iterator[Finding]:
        raise RuntimeError("postgresql://app:hunter22@db.example is away")

    def sound(_: Surroundings) -> Iterator[Finding]:
        yield Finding("sound", Level.NOTE, "it works", "nothing")

    found = examine(Surroundings(environ={}, folder=tmp_path), [Family("test", (broken, sound))])

    assert [each.code for each in found] == ["check-failed", "sound"]
    assert "RuntimeError" in found[0].sentence
    assert "hunter22" not in found[0].sentence


def test_secrets_are_hidden_whatever_says_them(tmp_path: Path) -> None:
    environ = healthy_environment(SMTP_URL="smtp://u:p%40ss-word@mail.example")
    said = f"{SECRET} and Tr1ckyPassw0rd and p@ss-word and {environ['DATABASE_URL']}"

    def telltale(_: Surroundings) -> Iterator[Finding]:
        yield Finding("telltale", Level.NOTE, said, said)

    found = examine(Surroundings(environ=environ, folder=tmp_path), [Family("test", (telltale,))])

    for secret in (SECRET, "Tr1ckyPassw0rd", "p@ss-word"):
        assert secret not in str(found[0].as_dict())


def test_the_worst_comes_first(static: Diagnose) -> None:
    found = static({"CRON_SECRET_PREVIOUS": "x", "CRON_SECRET": "weak1", "JOBS_TICK_LIMIT": "90"})

    levels = [each.level for each in found.values()]
    assert levels == sorted(levels, key=list(Level).index)
    assert len(set(levels)) == 3
