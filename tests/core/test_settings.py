"""The environment's table, row by row: what is meant, what is refused, and that nothing leaks."""

from __future__ import annotations

import copy
import logging
import traceback
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobs.core.errors import ConfigurationError
from jobs.core.settings import Settings, mask_url, on_platform, read_settings
from jobs.stores.sql.engine import normalize_url

BASE = {"DATABASE_URL": "sqlite:///jobs.db"}
DAY = 86_400.0
TOML = str(Path(__file__).parents[2] / "pyproject.toml")  # any that exists


def read(**environ: str) -> Settings:
    return read_settings({**BASE, **environ})


def problems(environ: dict[str, str], **overrides: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        read_settings(environ, **overrides)
    return caught.value.problems


# -- defaults ----------------------------------------------------------------------------------

DEFAULTS = {
    "database_url": "sqlite:///jobs.db",
    "backend": "sql",
    "env": "production",
    "cron_secret": None,
    "cron_secret_previous": None,
    "handlers": (),
    "batch_size": 10,
    "concurrency": 5,
    "max_attempts": 3,
    "retry_delay": 10.0,
    "timeout": 60.0,
    "time_budget": 25.0,
    "tick_limit": 60.0,
    "poll_interval": 5.0,
    "auto_start": None,
    "kick_url": None,
    "kick_debounce": 0.2,
    "chain_limit": 1000,
    "chain_per_hour": 3600,
    "bypass_secret": None,
    "heartbeat_url": None,
    "namespace": "",
    "table_prefix": "tickwork_",
    "schema": None,
    "payload_max_bytes": 100_000,
    "keep_completed": DAY,
    "keep_failed": 7 * DAY,
    "sqs_queue_url": None,
    "blob_url": None,
    "smtp_url": None,
    "email_from": None,
    "resend_api_key": None,
    "export_datasets": None,
    "export_source_url": None,
    "admin_token": None,
    "secret_key": None,
}


@pytest.mark.parametrize(("name", "value"), DEFAULTS.items())
def test_default(name: str, value: object) -> None:
    assert getattr(read(), name) == value


@pytest.mark.parametrize("blank", ["", " ", "\t\n"], ids=repr)
def test_a_blank_variable_is_not_set(blank: str) -> None:
    names = ("JOBS_BATCH_SIZE", "JOBS_BACKEND", "CRON_SECRET", "JOBS_HANDLERS", "JOBS_AUTO_START")

    assert read(**dict.fromkeys(names, blank)) == read()


# -- one row each ------------------------------------------------------------------------------

PARSED: list[tuple[str, str, str, object]] = [
    ("DATABASE_URL", "postgres://u:p@h/db", "database_url", "postgres://u:p@h/db"),
    ("DATABASE_URL", " postgresql://h/db ", "database_url", "postgresql://h/db"),
    ("DATABASE_URL", "mysql://h/db", "database_url", "mysql://h/db"),
    ("DATABASE_URL", "mariadb://h/db", "database_url", "mariadb://h/db"),
    ("DATABASE_URL", "postgresql+psycopg://h/db", "database_url", "postgresql+psycopg://h/db"),
    ("JOBS_BACKEND", "memory", "backend", "memory"),
    ("JOBS_BACKEND", "SQL", "backend", "sql"),
    ("JOBS_ENV", "development", "env", "development"),
    ("JOBS_ENV", "Production", "env", "production"),
    ("CRON_SECRET", "s3cret", "cron_secret", "s3cret"),
    ("JOB_PROCESSOR_SECRET_TOKEN", "s3cret", "cron_secret", "s3cret"),
    ("CRON_SECRET_PREVIOUS", "old", "cron_secret_previous", "old"),
    ("JOBS_HANDLERS", "shop.tasks", "handlers", ("shop.tasks",)),
    ("JOBS_HANDLERS", " a , b.c ,, ", "handlers", ("a", "b.c")),
    ("JOBS_BATCH_SIZE", "20", "batch_size", 20),
    ("JOBS_BATCH_SIZE", "1000", "batch_size", 1000),
    ("JOBS_CONCURRENCY", "10", "concurrency", 10),
    ("QUEUE_CONCURRENCY", "2", "concurrency", 2),
    ("JOBS_MAX_ATTEMPTS", "5", "max_attempts", 5),
    ("QUEUE_MAX_RETRIES", "4", "max_attempts", 4),
    ("JOBS_RETRY_DELAY", "2.5", "retry_delay", 2.5),
    ("QUEUE_BACKOFF_DELAY", "5000", "retry_delay", 5.0),
    ("JOBS_TIMEOUT", "300", "timeout", 300.0),
    ("JOBS_TIME_BUDGET", "9", "time_budget", 9.0),
    ("JOBS_TICK_LIMIT", "300", "tick_limit", 300.0),
    ("JOBS_POLL_INTERVAL", "0.5", "poll_interval", 0.5),
    ("JOBS_AUTO_START", "1", "auto_start", True),
    ("JOBS_AUTO_START", "Yes", "auto_start", True),
    ("JOBS_AUTO_START", "off", "auto_start", False),
    ("JOBS_KICK_URL", "https://shop.example/", "kick_url", "https://shop.example"),
    ("JOBS_KICK_URL", "http://127.0.0.1:8000/app", "kick_url", "http://127.0.0.1:8000/app"),
    ("JOBS_KICK_URL", "off", "kick_url", None),
    ("JOBS_KICK_DEBOUNCE", "1.5", "kick_debounce", 1.5),
    ("JOBS_CHAIN_LIMIT", "0", "chain_limit", 0),
    ("JOBS_CHAIN_PER_HOUR", "60", "chain_per_hour", 60),
    ("VERCEL_AUTOMATION_BYPASS_SECRET", "b" * 32, "bypass_secret", "b" * 32),
    ("JOBS_HEARTBEAT_URL", "http://watch.example/x", "heartbeat_url", "http://watch.example/x"),
    ("JOBS_NAMESPACE", "preview-42", "namespace", "preview-42"),
    ("JOBS_TABLE_PREFIX", "shop_", "table_prefix", "shop_"),
    ("JOBS_SCHEMA", "jobs", "schema", "jobs"),
    ("JOBS_PAYLOAD_MAX_BYTES", "250000", "payload_max_bytes", 250_000),
    ("JOBS_KEEP_COMPLETED", "0", "keep_completed", 0.0),
    ("JOBS_KEEP_FAILED", "1209600", "keep_failed", 14 * DAY),
    ("SQS_QUEUE_URL", "https://sqs.example/q", "sqs_queue_url", "https://sqs.example/q"),
    ("BLOB_URL", "s3://bucket/prefix", "blob_url", "s3://bucket/prefix"),
    ("SMTP_URL", "smtp://u:p@mail:587", "smtp_url", "smtp://u:p@mail:587"),
    ("EMAIL_FROM", "Shop <shop@example.org>", "email_from", "Shop <shop@example.org>"),
    ("RESEND_API_KEY", "re_123", "resend_api_key", "re_123"),
    ("BLOB_URL", ".tickwork/blobs", "blob_url", ".tickwork/blobs"),
    (
        "BLOB_URL",
        "file:///srv/blobs?public_url=https://f",
        "blob_url",
        "file:///srv/blobs?public_url=https://f",
    ),
    ("SMTP_URL", "smtps://mail.example?timeout=5", "smtp_url", "smtps://mail.example?timeout=5"),
    ("SMTP_URL", "/var/outbox", "smtp_url", "/var/outbox"),
    ("EXPORT_DATASETS", TOML, "export_datasets", TOML),
    ("EXPORT_SOURCE_URL", "sqlite:///shop.db", "export_source_url", "sqlite:///shop.db"),
    ("ADMIN_TOKEN", "adm", "admin_token", "adm"),
    ("SECRET_KEY", "key", "secret_key", "key"),
]


@pytest.mark.parametrize(("variable", "raw", "name", "value"), PARSED, ids=lambda v: str(v)[:30])
def test_variable(variable: str, raw: str, name: str, value: object) -> None:
    assert getattr(read(**{variable: raw}), name) == value


def test_every_setting_has_a_row() -> None:
    assert {name for _, _, name, _ in PARSED} == set(DEFAULTS)
    shown = {each.name for each in msgspec.structs.fields(Settings)}
    assert set(DEFAULTS) <= shown


@pytest.mark.parametrize(
    ("ours", "seeds", "name", "value"),
    [
        (("JOBS_CONCURRENCY", "7"), ("QUEUE_CONCURRENCY", "2"), "concurrency", 7),
        (("JOBS_MAX_ATTEMPTS", "7"), ("QUEUE_MAX_RETRIES", "2"), "max_attempts", 7),
        (("JOBS_RETRY_DELAY", "7"), ("QUEUE_BACKOFF_DELAY", "2000"), "retry_delay", 7.0),
        (("CRON_SECRET", "a"), ("JOB_PROCESSOR_SECRET_TOKEN", "b"), "cron_secret", "a"),
    ],
)
def test_our_own_name_wins_over_the_seeds(
    ours: tuple[str, str], seeds: tuple[str, str], name: str, value: object
) -> None:
    assert getattr(read(**dict([ours, seeds])), name) == value
    assert getattr(read(**dict([seeds, ours])), name) == value


REFUSED: list[tuple[str, str]] = [
    ("DATABASE_URL", "mongodb://h/db"),
    ("DATABASE_URL", "shop.db"),
    ("DATABASE_URL", "postgres:u:p@h/db"),
    ("JOBS_BACKEND", "redis"),
    ("JOBS_ENV", "staging"),
    ("JOBS_HANDLERS", "shop/tasks.py"),
    ("JOBS_HANDLERS", "shop.tasks, 1st"),
    ("JOBS_HANDLERS", "shop..tasks"),
    ("JOBS_BATCH_SIZE", "0"),
    ("JOBS_BATCH_SIZE", "1001"),
    ("JOBS_BATCH_SIZE", "ten"),
    ("JOBS_BATCH_SIZE", "2.5"),
    ("JOBS_BATCH_SIZE", "1e3"),
    ("JOBS_BATCH_SIZE", "9" * 5000),
    ("JOBS_CONCURRENCY", "-1"),
    ("JOBS_CONCURRENCY", "257"),
    ("QUEUE_CONCURRENCY", "many"),
    ("JOBS_MAX_ATTEMPTS", "0"),
    ("QUEUE_MAX_RETRIES", "x"),
    ("JOBS_RETRY_DELAY", "-1"),
    ("JOBS_RETRY_DELAY", "10s"),
    ("QUEUE_BACKOFF_DELAY", "-5"),
    ("JOBS_TIMEOUT", "0"),
    ("JOBS_TIMEOUT", "nan"),
    ("JOBS_TIMEOUT", "inf"),
    ("JOBS_TIME_BUDGET", "0"),
    ("JOBS_TICK_LIMIT", "0"),
    ("JOBS_TICK_LIMIT", "1e400"),
    ("JOBS_POLL_INTERVAL", "0"),
    ("JOBS_AUTO_START", "perhaps"),
    ("JOBS_KICK_URL", "shop.example"),
    ("JOBS_KICK_URL", "https://user:word@shop.example"),
    ("JOBS_KICK_URL", "https://shop.example?x=1"),
    ("JOBS_KICK_URL", "https://shop.example#x"),
    ("JOBS_KICK_URL", "https://shop.example:none"),
    ("JOBS_KICK_URL", "https://shop.example/a b"),
    ("JOBS_KICK_URL", "https://:443"),
    ("JOBS_KICK_DEBOUNCE", "-1"),
    ("JOBS_CHAIN_LIMIT", "-1"),
    ("JOBS_CHAIN_PER_HOUR", "many"),
    ("JOBS_HEARTBEAT_URL", "ftp://watch"),
    ("JOBS_NAMESPACE", "a b"),
    ("JOBS_NAMESPACE", "é"),
    ("JOBS_TABLE_PREFIX", "x-y"),
    ("JOBS_TABLE_PREFIX", "tickwork; drop"),
    ("JOBS_TABLE_PREFIX", "x" * 31),
    ("JOBS_SCHEMA", "a.b"),
    ("JOBS_PAYLOAD_MAX_BYTES", "999"),
    ("JOBS_KEEP_COMPLETED", "-1"),
    ("JOBS_KEEP_FAILED", "forever"),
    ("SQS_QUEUE_URL", "arn:aws:sqs:eu-west-1:1:q"),
    ("EXPORT_SOURCE_URL", "https://h/db"),
    ("BLOB_URL", "gs://bucket"),
    ("BLOB_URL", "s3:bucket/prefix"),
    ("BLOB_URL", "s3:///prefix"),
    ("BLOB_URL", "file://srv/blobs"),
    ("SMTP_URL", "https://mail.example"),
    ("SMTP_URL", "mail.example:587"),
    ("SMTP_URL", "me@mail.example"),
    ("SMTP_URL", "smtp://"),
    ("SMTP_URL", "smtp://mail:many"),
    ("SMTP_URL", "smtp://[mail"),
    ("EXPORT_DATASETS", "no-such-file.toml"),
    ("EXPORT_DATASETS", "pyproject"),
    ("EXPORT_DATASETS", "x" * 5000 + ".toml"),
]


@pytest.mark.parametrize(("variable", "raw"), REFUSED, ids=lambda value: value[:30])
def test_a_mistake_is_named_by_its_variable(variable: str, raw: str) -> None:
    found = [each for each in problems({**BASE, variable: raw}) if each.startswith(variable)]

    assert len(found) == 1
    assert len(found[0]) < 5_200


def test_every_mistake_is_told_at_once() -> None:
    names = [
        *("DATABASE_URL", "JOBS_BACKEND", "JOBS_ENV", "JOBS_HANDLERS", "JOBS_BATCH_SIZE"),
        *("JOBS_CONCURRENCY", "JOBS_MAX_ATTEMPTS", "JOBS_RETRY_DELAY", "JOBS_TIMEOUT"),
        *("JOBS_TIME_BUDGET", "JOBS_TICK_LIMIT", "JOBS_POLL_INTERVAL", "JOBS_AUTO_START"),
        *("JOBS_KICK_URL", "JOBS_HEARTBEAT_URL", "JOBS_NAMESPACE", "JOBS_TABLE_PREFIX"),
        *("JOBS_SCHEMA", "JOBS_PAYLOAD_MAX_BYTES", "JOBS_KEEP_COMPLETED", "JOBS_KEEP_FAILED"),
        *("SQS_QUEUE_URL", "BLOB_URL", "SMTP_URL", "EXPORT_DATASETS", "EXPORT_SOURCE_URL"),
    ]
    told = problems(dict.fromkeys(names, "?!://"))

    assert [each.split(":")[0] for each in told[: len(names)]] == sorted(
        names, key=[each.split(":")[0] for each in told].index
    )
    assert all(any(each.startswith(f"{name}:") for each in told) for name in names)


def test_a_budget_past_the_limit_is_told_with_the_rest() -> None:
    told = problems({**BASE, "JOBS_TICK_LIMIT": "10", "JOBS_BATCH_SIZE": "0"})

    assert [each.split()[0] for each in told] == ["JOBS_BATCH_SIZE:", "JOBS_TIME_BUDGET"]
    assert "JOBS_TICK_LIMIT (10 s)" in told[1]
    assert problems({**BASE, "JOBS_TIME_BUDGET": "60"})
    assert read(JOBS_TICK_LIMIT="10", JOBS_TIME_BUDGET="8").time_budget == 8


# -- backend and environment -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "backend"),
    [
        ({"JOBS_ENV": "development"}, "memory"),
        ({"DATABASE_URL": "sqlite:///a"}, "sql"),
        ({"DATABASE_URL": "sqlite:///a", "SQS_QUEUE_URL": "https://q.example"}, "sqs"),
        (
            {"DATABASE_URL": "sqlite:///a", "SQS_QUEUE_URL": "https://q.example"}
            | {"JOBS_BACKEND": "sql"},
            "sql",
        ),
        ({"JOBS_BACKEND": "memory"}, "memory"),
        ({"JOBS_BACKEND": "memory", "DATABASE_URL": "sqlite:///a"}, "memory"),
    ],
    ids=str,
)
def test_backend_by_what_is_set(environ: dict[str, str], backend: str) -> None:
    assert read_settings(environ).backend == backend


@pytest.mark.parametrize(
    "environ", [{}, {"JOBS_ENV": "production"}, {"SQS_QUEUE_URL": "https://q"}]
)
def test_production_needs_a_database(environ: dict[str, str]) -> None:
    (told,) = problems(environ)

    assert told.startswith("DATABASE_URL is not set")
    assert "JOBS_ENV=development" in told


@pytest.mark.parametrize(
    ("environ", "needed"),
    [
        ({"JOBS_BACKEND": "sql", "JOBS_ENV": "development"}, ["DATABASE_URL"]),
        ({"JOBS_BACKEND": "sqs", "DATABASE_URL": "sqlite:///a"}, ["SQS_QUEUE_URL"]),
        ({"JOBS_BACKEND": "sqs", "JOBS_ENV": "development"}, ["DATABASE_URL", "SQS_QUEUE_URL"]),
    ],
)
def test_a_backend_needs_its_urls(environ: dict[str, str], needed: list[str]) -> None:
    told = problems(environ)

    assert len(told) == len(needed)
    assert all(name in each for name, each in zip(needed, told, strict=True))


@pytest.mark.parametrize(
    ("environ", "env"),
    [
        ({}, "production"),
        ({"FLASK_RUN_FROM_CLI": "true"}, "development"),
        ({"FLASK_RUN_FROM_CLI": "false"}, "production"),
        ({"FLASK_RUN_FROM_CLI": "true", "JOBS_ENV": "production"}, "production"),
        ({"FLASK_RUN_FROM_CLI": "true", "VERCEL": "1"}, "production"),
        ({"FLASK_RUN_FROM_CLI": "true", "AWS_LAMBDA_FUNCTION_NAME": "f"}, "production"),
        (
            {"FLASK_RUN_FROM_CLI": "true", "VERCEL": "1", "VERCEL_ENV": "development"},
            "development",
        ),
        ({"FLASK_DEBUG": "1"}, "production"),
    ],
    ids=str,
)
def test_environment(environ: dict[str, str], env: str) -> None:
    settings = read_settings({**BASE, **environ})

    assert settings.env == env
    assert settings.is_development == (env == "development")


def test_flask_in_development_may_do_without_a_database() -> None:
    assert read_settings({"FLASK_RUN_FROM_CLI": "true"}).backend == "memory"


@pytest.mark.parametrize(
    "environ",
    [
        {"VERCEL": "1"},
        {"VERCEL": "1", "VERCEL_ENV": "preview"},
        {"VERCEL_REGION": "fra1"},
        {"AWS_LAMBDA_FUNCTION_NAME": "jobs"},
        {"K_SERVICE": "jobs"},
        {"NETLIFY": "true"},
    ],
    ids=str,
)
def test_on_platform(environ: dict[str, str]) -> None:
    assert on_platform(environ)


@pytest.mark.parametrize(
    "environ", [{}, {"VERCEL": ""}, {"VERCEL": "1", "VERCEL_ENV": "development"}], ids=str
)
def test_not_on_platform(environ: dict[str, str]) -> None:
    assert not on_platform(environ)


# -- overrides ---------------------------------------------------------------------------------


def test_overrides_win_and_none_does_not_count() -> None:
    settings = read_settings({**BASE, "JOBS_BATCH_SIZE": "20"}, batch_size=30, concurrency=None)

    assert (settings.batch_size, settings.concurrency) == (30, 5)


def test_an_unknown_override_is_told() -> None:
    assert problems(BASE, batchsize=3) == ("no setting is called 'batchsize'",)


def test_the_process_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**BASE, "JOBS_BATCH_SIZE": "33"}.items():
        monkeypatch.setenv(name, value)

    assert read_settings().batch_size == 33


def test_settings_are_frozen() -> None:
    with pytest.raises(AttributeError):
        read().batch_size = 3  # type: ignore[misc]


# -- nothing leaks -----------------------------------------------------------------------------

SECRET = "hunter2xyz"
LEAKY = {
    "DATABASE_URL": f"postgres://jobs:{SECRET}@db.example:5432/shop?sslmode=require&token={SECRET}",
    "CRON_SECRET": SECRET,
    "CRON_SECRET_PREVIOUS": SECRET,
    "VERCEL_AUTOMATION_BYPASS_SECRET": SECRET,
    "JOBS_HEARTBEAT_URL": f"https://watch.example/ping?key={SECRET}",
    "SQS_QUEUE_URL": f"https://key:{SECRET}@sqs.example/q",
    "BLOB_URL": f"s3://key:{SECRET}@bucket/prefix",
    "SMTP_URL": f"smtp://mailer:{SECRET}@mail.example:587",
    "RESEND_API_KEY": SECRET,
    "EXPORT_SOURCE_URL": f"mysql://reader:{SECRET}@db.example/shop",
    "ADMIN_TOKEN": SECRET,
    "SECRET_KEY": SECRET,
}


def everything_shown(settings: Settings) -> str:
    record = logging.LogRecord("x", logging.INFO, "", 0, "%s", (settings,), None)
    error = ConfigurationError(f"cannot start with {settings}")
    shown = [repr(settings), str(settings), f"{settings}", f"{[settings]!r}", record.getMessage()]
    return "\n".join([*shown, *traceback.format_exception(error)])


def test_no_secret_is_shown() -> None:
    shown = everything_shown(read_settings(LEAKY))

    assert SECRET not in shown
    assert "postgres://jobs:***@db.example:5432/shop" in shown, "the rest helps to find a mistake"
    assert "cron_secret='***'" in shown
    assert "batch_size=10" in shown


def test_what_is_not_set_is_not_masked() -> None:
    assert "cron_secret=None" in repr(read())


@pytest.mark.parametrize(
    "url",
    [
        f"postgres://jobs:{SECRET}@h/db",
        f"postgres://jobs:{SECRET}/x@h/db",
        f"postgres://jobs:x@{SECRET}@h/db",
        f"postgres://jobs:x?{SECRET}@h/db",
        f"postgres://jobs:x#{SECRET}@h/db",
        f"postgres://jo/bs:{SECRET}@h/db",
        f"postgres://jobs:{SECRET}\n@h/db",
        f"postgres://:{SECRET}@h/db",
        f"postgresql+psycopg://jobs:{SECRET}@[::1]:5432/db",
        f"postgres://h/db?user=jobs&password={SECRET}",
        f"postgres://h/db?a=b\n&password={SECRET}",
        f"mysql://a:{SECRET}@h1,b:{SECRET}@h2/db",
    ],
)
def test_a_password_is_masked_however_it_is_spelt(url: str) -> None:
    assert SECRET not in mask_url(url)
    assert SECRET not in repr(Settings(database_url=url))


@pytest.mark.parametrize(
    "url", ["postgres:jobs:hunter2xyz@h/db", "jobs:hunter2xyz@h", "smtp:u:hunter2xyz@h"]
)
def test_what_is_hardly_a_url_is_not_shown(url: str) -> None:
    assert SECRET not in repr(Settings(database_url=url, smtp_url=url, blob_url=url))


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("sqlite:///dev.db", "sqlite:///dev.db"),
        ("https://shop.example:8443/jobs", "https://shop.example:8443/jobs"),
        ("postgres://u:p@h:1/d?x=y", "postgres://u:***@h:1/d?***"),
        ("postgres://u@h/d", "postgres://u@h/d"),
    ],
)
def test_mask_url_leaves_the_rest(url: str, masked: str) -> None:
    assert mask_url(url) == masked


@pytest.mark.parametrize(
    "variable", ["DATABASE_URL", "EXPORT_SOURCE_URL", "JOBS_KICK_URL", "BLOB_URL", "SMTP_URL"]
)
@pytest.mark.parametrize("raw", [f"postgrs//jobs:{SECRET}@h/db", f"smpt://h:{SECRET}"])
def test_a_mistyped_url_is_not_repeated(variable: str, raw: str) -> None:
    told = problems({**BASE, variable: raw})

    assert any(each.startswith(variable) for each in told)
    assert SECRET not in "\n".join(told)


def test_a_copy_hides_as_well() -> None:
    settings = msgspec.structs.replace(read_settings(LEAKY), batch_size=3)

    assert SECRET not in repr(settings)
    assert SECRET not in repr(copy.deepcopy(settings))


# -- the platforms' spellings of a database URL ------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("sqlite:///dev.db", "sqlite:///dev.db"),
        ("sqlite:////var/dev.db", "sqlite:////var/dev.db"),
        # Heroku, Railway, Vercel, Neon, Supabase, Render
        ("postgres://u:p@h:5432/db", "postgresql+psycopg://u:p@h:5432/db"),
        ("postgresql://u:p@h/db", "postgresql+psycopg://u:p@h/db"),
        ("postgresql+psycopg://u:p@h/db", "postgresql+psycopg://u:p@h/db"),
        ("postgresql+asyncpg://u:p@h/db", "postgresql+asyncpg://u:p@h/db"),
        (
            "postgres://u:p@ep-x-pooler.eu.aws.neon.tech/db?sslmode=require&channel_binding=require",
            "postgresql+psycopg://u:p@ep-x-pooler.eu.aws.neon.tech/db"
            "?channel_binding=require&sslmode=require",
        ),
        (
            "postgres://postgres.ref:p@pooler.supabase.com:6543/postgres?pgbouncer=true"
            "&connection_limit=1&sslmode=require",
            "postgresql+psycopg://postgres.ref:p@pooler.supabase.com:6543/postgres?sslmode=require",
        ),
        (
            "postgres://u:p@h/db?supa=base-pooler.x&pool_timeout=0&schema=public"
            "&workaround=supabase-pooler.vercel",
            "postgresql+psycopg://u:p@h/db",
        ),
        ("mysql://u:p@h:3306/db", "mysql+pymysql://u:p@h:3306/db"),
        ("mariadb://u:p@h/db", "mysql+pymysql://u:p@h/db"),
        ("mysql+pymysql://u:p@h/db", "mysql+pymysql://u:p@h/db"),
        (
            "mysql://u:p@aws.connect.psdb.cloud/db?sslaccept=strict",
            "mysql+pymysql://u:p@aws.connect.psdb.cloud/db?sslaccept=strict",
        ),
        ("postgres://u:p%40ss%2Fw%3F@h/db", "postgresql+psycopg://u:p%40ss%2Fw%3F@h/db"),
    ],
    ids=lambda url: url[:40],
)
def test_normalize_url(raw: str, normal: str) -> None:
    assert normalize_url(raw).render_as_string(hide_password=False) == normal


@pytest.mark.parametrize("raw", [f"jobs:{SECRET}@h/db", f"://{SECRET}", "", f"postgres:{SECRET}"])
def test_an_unreadable_url_is_not_repeated(raw: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        normalize_url(raw)

    assert "DATABASE_URL" in str(caught.value)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


# -- where a kick goes -------------------------------------------------------------------------

VERCEL = {
    "VERCEL": "1",
    "VERCEL_ENV": "production",
    "VERCEL_PROJECT_PRODUCTION_URL": "shop.example.vercel.app",
    "VERCEL_URL": "shop-git-abc.vercel.app",
}


@pytest.mark.parametrize(
    ("environ", "kick_url"),
    [
        (VERCEL, "https://shop.example.vercel.app"),
        ({**VERCEL, "JOBS_KICK_URL": "https://own.example"}, "https://own.example"),
        ({**VERCEL, "JOBS_KICK_URL": "off"}, None),
        ({**VERCEL, "VERCEL_ENV": "preview"}, None),
        ({**VERCEL, "VERCEL_ENV": "development"}, None),
        ({**VERCEL, "VERCEL": ""}, None),
        ({**VERCEL, "VERCEL_PROJECT_PRODUCTION_URL": "evil.example/?x="}, None),
    ],
)
def test_production_on_vercel_knows_its_own_address(
    environ: dict[str, str], kick_url: str | None
) -> None:
    assert read(**environ).kick_url == kick_url


def test_several_in_code_may_be_written_as_in_the_environment() -> None:
    """A text is several, and not its letters."""
    settings = read_settings(
        {},
        env="development",
        handlers="shop.tasks, shop.mail",
        alert_email="ops@shop.example",
        redact=["card"],
    )

    assert settings.handlers == ("shop.tasks", "shop.mail")
    assert settings.alert_email == ("ops@shop.example",)
    assert settings.redact == ["card"]
    with pytest.raises(ConfigurationError, match="alert_email: 'ops' is not one or more mail"):
        read_settings({}, env="development", alert_email="ops")
