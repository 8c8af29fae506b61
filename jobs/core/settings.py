"""Settings: one frozen object read from the environment, every mistake reported at once."""

from __future__ import annotations

import base64
import math
import os
import re
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from msgspec import Struct
from msgspec.structs import fields

from jobs.core.codec import DEFAULT_MAX_BYTES
from jobs.core.errors import ConfigurationError
from jobs.core.names import NAME

ENVIRONMENTS = ("production", "development")
BACKENDS = ("memory", "sql", "sqs")
LOG_FORMATS = ("json", "text", "off")
LOG_LEVELS = ("debug", "info", "warning", "error")
STUB_CONCURRENCY = 3
WEAK_SECRET_CHARS = 16
CONSOLE_URL = "console://"
# What templates, shells and JavaScript write where there is no value: these are no secrets.
NO_SECRETS = frozenset({"none", "null", "nil", "undefined", "false"})


class Settings(Struct, frozen=True):
    """What the environment says. Durations are seconds; ``None`` means not set."""

    database_url: str | None = None
    backend: str = "memory"
    env: str = "production"
    cron_secret: str | None = None
    cron_secret_previous: str | None = None
    handlers: tuple[str, ...] = ()
    batch_size: int = 10
    concurrency: int = 5
    stub_concurrency: int = STUB_CONCURRENCY
    max_attempts: int = 3
    retry_delay: float = 10.0
    timeout: float = 60.0
    time_budget: float = 25.0
    tick_limit: float = 60.0
    poll_interval: float = 5.0
    auto_start: bool | None = None
    kick_url: str | None = None
    kick_debounce: float = 0.2
    notify: bool = False
    chain_limit: int = 1000
    chain_per_hour: int = 3600
    bypass_secret: str | None = None
    heartbeat_url: str | None = None
    tick_every: float | None = None
    namespace: str = ""
    table_prefix: str = "tickwork_"
    schema: str | None = None
    payload_max_bytes: int = DEFAULT_MAX_BYTES
    keep_completed: float = 86_400.0
    keep_failed: float = 7 * 86_400.0
    sqs_queue_url: str | None = None
    sqs_overdue: float = 300.0
    blob_url: str | None = None
    smtp_url: str | None = None
    email_from: str | None = None
    email_templates: str | None = None
    resend_api_key: str | None = None
    resend_api_url: str | None = None
    export_datasets: str | None = None
    export_source_url: str | None = None
    webhook_allow: tuple[str, ...] = ()
    stripe_webhook_secrets: tuple[str, ...] = ()
    shopify_webhook_secrets: tuple[str, ...] = ()
    razorpay_webhook_secrets: tuple[str, ...] = ()
    github_webhook_secrets: tuple[str, ...] = ()
    standard_webhook_secrets: tuple[str, ...] = ()
    report_fonts: tuple[str, ...] = ()
    admin_token: str | None = None
    metrics_token: str | None = None
    secret_key: str | None = None
    redact: tuple[str, ...] = ()
    encryption_keys: tuple[str, ...] = ()
    log_format: str | None = None
    log_level: str = "info"
    emf_namespace: str = "Tickwork"
    alerts: bool = True
    alert_webhook_url: str | None = None
    alert_webhook_secret: str | None = None
    alert_slack_url: str | None = None
    alert_email: tuple[str, ...] = ()

    @property
    def is_development(self) -> bool:
        return self.env == "development"

    @property
    def alert_channels(self) -> list[str]:
        """The names of the channels that alerts are delivered by."""
        named = (
            ("webhook", self.alert_webhook_url),
            ("slack", self.alert_slack_url),
            ("email", self.alert_email),
        )
        return [name for name, place in named if place]

    def __repr__(self) -> str:
        # Secrets must not reach a log by way of a settings object in a message or a traceback.
        shown = []
        for each in fields(self):
            value = getattr(self, each.name)
            if value and each.name in SECRET_FIELDS:
                value = "***"
            elif isinstance(value, str) and (each.name.endswith("_url") or "://" in value):
                value = mask_url(value)
            shown.append(f"{each.name}={value!r}")
        return f"Settings({', '.join(shown)})"


SECRET_FIELDS = frozenset(
    {
        *("cron_secret", "cron_secret_previous", "bypass_secret"),
        *("resend_api_key", "admin_token", "metrics_token", "secret_key", "encryption_keys"),
        # Whoever knows these URLs can post there.
        *("alert_webhook_url", "alert_webhook_secret", "alert_slack_url"),
        *("stripe_webhook_secrets", "shopify_webhook_secrets", "razorpay_webhook_secrets"),
        *("github_webhook_secrets", "standard_webhook_secrets"),
    }
)


def passwords_of(settings: Settings) -> set[str]:
    """The passwords in the URLs of these settings, as written and as decoded.

    One that is also the user's or the database's name is no secret to keep by hiding a word.
    """
    found: set[str] = set()
    for each in fields(settings):
        value = getattr(settings, each.name)
        if isinstance(value, str) and "://" in value and "@" in value:
            try:
                url = urlsplit(value)
                known = {url.username, url.hostname, url.path.strip("/")}
            except ValueError:
                continue
            if url.password and url.password not in known:
                found |= {url.password, unquote(url.password)}
    return found


def mask_url(url: str) -> str:
    """The URL with its password and query hidden, for logs and messages.

    Up to the last ``@``: a password pasted without escapes may hold any character.
    """
    if "://" not in url and ("@" in url or ":" in url):
        return "***"
    masked = re.sub(r"(://[^:@?]*):.*@", r"\1:***@", url, flags=re.DOTALL)
    return re.sub(r"\?.*", "?***", masked, flags=re.DOTALL)


def read_settings(environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Settings from ``environ`` (the process's by default); ``overrides`` win by field name.

    Raises :class:`ConfigurationError` listing every mistake by the name of its variable.
    """
    reader = _Reader(os.environ if environ is None else environ)
    values: dict[str, Any] = {}
    for name, variables, parse in _VARIABLES:
        reader.read(values, name, variables, parse)
    parsers = {name: parse for name, _, parse in _VARIABLES}
    known = {each.name: each.default for each in fields(Settings)}
    for name, value in overrides.items():
        if name not in known:
            reader.problems.append(f"no setting is called {name!r}")
        elif isinstance(value, str) and isinstance(known[name], tuple):
            # Several, written as in the environment; a text would count as its letters.
            reader.take(values, name, name, value, parsers[name])
        elif value is not None:
            values[name] = value
    if "env" not in values:
        values["env"] = "development" if reader.under_development_server() else "production"
    # The local runner is gentler than a worker, unless somebody said how many.
    values.setdefault("stub_concurrency", values.get("concurrency", STUB_CONCURRENCY))
    _choose_backend(values, reader.problems)
    _choose_kick(values, reader.environ)
    settings = Settings(**values)
    if settings.time_budget >= settings.tick_limit:
        reader.problems.append(
            f"JOBS_TIME_BUDGET ({settings.time_budget:g} s) must be below JOBS_TICK_LIMIT "
            f"({settings.tick_limit:g} s): jobs started last need time to end"
        )
    if settings.notify and not re.match("postgres", settings.database_url or ""):
        reader.problems.append("JOBS_NOTIFY=1 needs PostgreSQL: NOTIFY is what it says")
    if settings.alert_webhook_url and not settings.alert_webhook_secret:
        reader.problems.append(
            "JOBS_ALERT_WEBHOOK_URL needs JOBS_ALERT_WEBHOOK_SECRET, which alerts are signed with: "
            "whsec_ and 32 random bytes in base64"
        )
    if reader.problems:
        raise ConfigurationError(reader.problems)
    return settings


def _choose_backend(values: dict[str, Any], problems: list[str]) -> None:
    # One that was refused is not missing as well.
    mistyped = any(problem.startswith("DATABASE_URL:") for problem in problems)
    has_database = mistyped or bool(values.get("database_url"))
    production = values["env"] == "production"
    backend = values.get("backend")
    if backend is None:
        if not has_database and production:
            problems.append(
                "DATABASE_URL is not set: production keeps jobs in a database. Set it, or set "
                "JOBS_ENV=development for the in-memory stub of a laptop"
            )
        backend = "memory" if not has_database else "sql"
        if has_database and values.get("sqs_queue_url"):
            backend = "sqs"
    elif backend in ("sql", "sqs") and not has_database:
        problems.append(f"JOBS_BACKEND={backend} needs DATABASE_URL: the row in SQL is the truth")
    if backend == "sqs" and not values.get("sqs_queue_url"):
        problems.append("JOBS_BACKEND=sqs needs SQS_QUEUE_URL as well as DATABASE_URL")
    values["backend"] = backend


def _choose_kick(values: dict[str, Any], environ: Mapping[str, str]) -> None:
    """On Vercel the production deployment knows its own address, and previews kick nobody."""
    host = environ.get("VERCEL_PROJECT_PRODUCTION_URL", "").strip()
    on_vercel = environ.get("VERCEL") == "1" and environ.get("VERCEL_ENV") == "production"
    if "kick_url" not in values and on_vercel and re.fullmatch(r"[A-Za-z0-9.-]+", host):
        values["kick_url"] = f"https://{host}"
    values["kick_url"] = values.get("kick_url") or None  # "" is JOBS_KICK_URL=off


def known_variables() -> frozenset[str]:
    """The names of all variables that are read."""
    return frozenset(name for _, names, _ in _VARIABLES for name in names)


class _Reader:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.problems: list[str] = []

    def read(
        self,
        values: dict[str, Any],
        name: str,
        variables: tuple[str, ...],
        parse: Callable[[str], Any],
    ) -> None:
        for variable in variables:
            raw = self.environ.get(variable)
            if raw is None or not raw.strip():
                continue
            self.take(values, name, variable, raw, parse)
            return

    def take(
        self,
        values: dict[str, Any],
        name: str,
        variable: str,
        raw: str,
        parse: Callable[[str], Any],
    ) -> None:
        try:
            values[name] = parse(raw.strip())
        except ValueError as error:
            # A mistyped database URL may hold a password: only plain settings are shown.
            shown = "its value" if parse in _UNSHOWN else repr(raw)
            self.problems.append(f"{variable}: {shown} {error}")

    def under_development_server(self) -> bool:
        """Flask's own development server: it says so in its environment."""
        return self.environ.get("FLASK_RUN_FROM_CLI") == "true" and not on_platform(self.environ)


def on_platform(environ: Mapping[str, str]) -> bool:
    """Whether this process runs on a serverless platform, where nothing may start by itself."""
    return any(
        environ.get(name)
        for name in ("VERCEL_REGION", "AWS_LAMBDA_FUNCTION_NAME", "K_SERVICE", "NETLIFY")
    ) or (environ.get("VERCEL") == "1" and environ.get("VERCEL_ENV") != "development")


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(raw: str) -> int:
        if not re.fullmatch(r"[+-]?\d{1,12}", raw):
            raise ValueError(f"is not a whole number of {low} to {high}")
        if not low <= int(raw) <= high:
            raise ValueError(f"is not within {low} to {high}")
        return int(raw)

    return parse


def _seconds(low: float, high: float, *, milliseconds: bool = False) -> Callable[[str], float]:
    unit = "milliseconds" if milliseconds else "seconds"

    def parse(raw: str) -> float:
        try:
            number = float(raw)
        except ValueError:
            number = math.nan
        seconds = number / 1000 if milliseconds else number
        if not low <= seconds <= high:
            scale = 1000 if milliseconds else 1
            raise ValueError(
                f"is not a number of {unit} within {low * scale:g} to {high * scale:g}"
            )
        return seconds

    return parse


def _choice(*allowed: str) -> Callable[[str], str]:
    def parse(raw: str) -> str:
        if raw.lower() not in allowed:
            raise ValueError(f"is not one of {', '.join(allowed)}")
        return raw.lower()

    return parse


def _flag(raw: str) -> bool:
    if raw.lower() in {"1", "true", "yes", "on"}:
        return True
    if raw.lower() in {"0", "false", "no", "off"}:
        return False
    raise ValueError("is not 1 or 0")


def _modules(raw: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in raw.split(",") if part.strip())
    for name in names:
        if not all(part.isidentifier() for part in name.split(".")):
            raise ValueError(f"names {name!r}, which is not a module (as in shop.tasks)")
    return names


def _words(raw: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in raw.split(",") if part.strip())


def _hosts(raw: str) -> tuple[str, ...]:
    """Host names, addresses and networks."""
    found = _words(raw)
    for entry in found:
        try:
            ip_network(entry.strip("[]"), strict=False)
        except ValueError:
            if not re.fullmatch(r"[A-Za-z0-9_.-]*[A-Za-z][A-Za-z0-9_.-]*", entry):
                raise ValueError(
                    f"has {entry!r}, which is no host name, address or network (10.1.0.0/16)"
                ) from None
    return found


def _name(raw: str) -> str:
    if not NAME.fullmatch(raw):
        raise ValueError("is not a name of ASCII letters, digits and _ . : @ + -")
    return raw


def _webhook_secret(raw: str) -> str:
    """As Standard Webhooks has it."""
    wrong = ValueError("is not whsec_ and 24 to 64 random bytes in base64")
    try:
        key = base64.b64decode(raw.removeprefix("whsec_"), validate=True)
    except ValueError:
        raise wrong from None
    if not raw.startswith("whsec_") or not 24 <= len(key) <= 64:
        raise wrong
    return raw


def _addresses(raw: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in raw.split(",") if part.strip())
    if not all(re.fullmatch(r"[^@\s]+@[^@\s]+", each) for each in found):
        raise ValueError("is not one or more mail addresses, comma-separated")
    return found


def _emf_namespace(raw: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._/#-][A-Za-z0-9._/#:-]{0,254}", raw) or raw.startswith("AWS/"):
        raise ValueError("is not a namespace of CloudWatch, nor off")
    return "off" if raw.lower() == "off" else raw


def _prefix(raw: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,29}", raw):
        raise ValueError("is not a table prefix: up to 30 ASCII letters, digits and _")
    return raw


def _url(raw: str) -> str:
    if not re.match(r"https?://[^/]+", raw):
        raise ValueError("is not an http(s) URL")
    return raw.rstrip("/")


def _own_url(raw: str) -> str:
    """The base of one's own URLs, or ``off``."""
    if raw.lower() in {"off", "0", "none"}:
        return ""
    wrong = ValueError("is not this application's own URL (as in https://example.org), or off")
    try:
        parts = urlsplit(_url(raw))
        usable = parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        raise wrong from None  # its text holds a part of the URL
    if not usable or parts.username is not None or parts.query or parts.fragment:
        raise wrong
    if not re.fullmatch(r"[!-~]+", raw):
        raise ValueError("holds a character that no URL has: percent-encode it")
    return raw.rstrip("/")


def _database(raw: str) -> str:
    if not re.match(r"(sqlite|postgres|postgresql|mysql|mariadb)(\+\w+)?://", raw):
        raise ValueError("is not a database URL: use sqlite:///, postgresql:// or mysql://")
    return raw


def _place(what: str, *schemes: str) -> Callable[[str], str]:
    """A directory, as a path or ``file://``, or a URL of one of the schemes with a host."""

    def parse(raw: str) -> str:
        wrong = ValueError(f"is not {what}")
        # Without //, what looks like a URL or an address is one mistyped, not a directory.
        if "://" not in raw:
            if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", raw) or "@" in raw or "\0" in raw:
                raise wrong
            return raw
        try:
            parts = urlsplit(raw)
            port_is_known = parts.port is None or parts.port > 0
        except ValueError:
            raise wrong from None  # its text holds a part of the URL
        if parts.scheme == "file":
            if parts.netloc not in ("", "localhost") or not parts.path.strip("/"):
                raise wrong
        elif parts.scheme not in schemes or not parts.hostname or not port_is_known:
            raise wrong
        return raw

    return parse


_blobs = _place("a directory, file:///directory or s3://bucket/prefix", "s3")
_mail_place = _place(
    "smtp://host:port, smtps://host, ses://region, console://, or a directory for the outbox",
    *("smtp", "smtps", "ses"),
)


def _mail(raw: str) -> str:
    return raw if raw == CONSOLE_URL else _mail_place(raw)


def _folder(raw: str) -> str:
    if not Path(raw).is_dir():
        raise ValueError("is not there: no such directory, seen from the working directory")
    return raw


def _toml(raw: str) -> str:
    if not raw.endswith(".toml"):
        raise ValueError("is not the path of a .toml file")
    try:
        found = Path(raw).is_file()
    except (OSError, ValueError):  # too long for a path, or no text for one
        found = False
    if not found:
        raise ValueError("is not there: no such file, seen from the working directory")
    return raw


_UNSHOWN: tuple[Callable[[str], Any], ...] = (
    *(str, _database, _url, _own_url, _blobs, _mail),
    _webhook_secret,
)
_ATTEMPTS = _whole(1, 100_000)
_CONCURRENCY = _whole(1, 256)
_Variable = tuple[str, tuple[str, ...], Callable[[str], Any]]
# Field, variables in order of precedence, parser. Forerunners' names stand behind our own.
_VARIABLES: tuple[_Variable, ...] = (
    ("database_url", ("DATABASE_URL",), _database),
    ("backend", ("JOBS_BACKEND",), _choice(*BACKENDS)),
    ("env", ("JOBS_ENV",), _choice(*ENVIRONMENTS)),
    ("cron_secret", ("CRON_SECRET", "JOB_PROCESSOR_SECRET_TOKEN"), str),
    ("cron_secret_previous", ("CRON_SECRET_PREVIOUS",), str),
    ("handlers", ("JOBS_HANDLERS",), _modules),
    ("batch_size", ("JOBS_BATCH_SIZE",), _whole(1, 1000)),
    ("concurrency", ("JOBS_CONCURRENCY", "QUEUE_CONCURRENCY"), _CONCURRENCY),
    ("max_attempts", ("JOBS_MAX_ATTEMPTS", "QUEUE_MAX_RETRIES"), _ATTEMPTS),
    # Milliseconds, as in forerunners; our own variable comes after it and so wins.
    ("retry_delay", ("QUEUE_BACKOFF_DELAY",), _seconds(0, 30 * 86_400, milliseconds=True)),
    ("retry_delay", ("JOBS_RETRY_DELAY",), _seconds(0, 30 * 86_400)),
    ("timeout", ("JOBS_TIMEOUT",), _seconds(0.001, 7 * 86_400)),
    ("time_budget", ("JOBS_TIME_BUDGET",), _seconds(0.1, 7 * 86_400)),
    ("tick_limit", ("JOBS_TICK_LIMIT",), _seconds(1, 7 * 86_400)),
    ("poll_interval", ("JOBS_POLL_INTERVAL",), _seconds(0.05, 3600)),
    ("auto_start", ("JOBS_AUTO_START",), _flag),
    ("kick_url", ("JOBS_KICK_URL",), _own_url),
    ("kick_debounce", ("JOBS_KICK_DEBOUNCE",), _seconds(0, 60)),
    ("notify", ("JOBS_NOTIFY",), _flag),
    ("chain_limit", ("JOBS_CHAIN_LIMIT",), _whole(0, 1_000_000)),
    ("chain_per_hour", ("JOBS_CHAIN_PER_HOUR",), _whole(0, 10_000_000)),
    ("bypass_secret", ("VERCEL_AUTOMATION_BYPASS_SECRET",), str),
    ("heartbeat_url", ("JOBS_HEARTBEAT_URL",), _url),
    ("tick_every", ("JOBS_TICK_EVERY",), _seconds(1, 31 * 86_400)),
    ("namespace", ("JOBS_NAMESPACE",), _name),
    ("table_prefix", ("JOBS_TABLE_PREFIX",), _prefix),
    ("schema", ("JOBS_SCHEMA",), _prefix),
    ("payload_max_bytes", ("JOBS_PAYLOAD_MAX_BYTES",), _whole(1_000, 10_000_000)),
    ("keep_completed", ("JOBS_KEEP_COMPLETED",), _seconds(0, 3650 * 86_400)),
    ("keep_failed", ("JOBS_KEEP_FAILED",), _seconds(0, 3650 * 86_400)),
    ("sqs_queue_url", ("SQS_QUEUE_URL",), _url),
    ("sqs_overdue", ("JOBS_SQS_OVERDUE",), _seconds(0, 7 * 86_400)),
    ("blob_url", ("BLOB_URL",), _blobs),
    ("smtp_url", ("SMTP_URL",), _mail),
    ("email_from", ("EMAIL_FROM",), str),
    ("email_templates", ("EMAIL_TEMPLATES",), _folder),
    ("resend_api_key", ("RESEND_API_KEY",), str),
    ("resend_api_url", ("RESEND_API_URL",), _url),
    ("export_datasets", ("EXPORT_DATASETS",), _toml),
    ("export_source_url", ("EXPORT_SOURCE_URL",), _database),
    ("webhook_allow", ("JOBS_WEBHOOK_ALLOW",), _hosts),
    ("stripe_webhook_secrets", ("STRIPE_WEBHOOK_SECRET",), _words),
    ("shopify_webhook_secrets", ("SHOPIFY_WEBHOOK_SECRET",), _words),
    ("razorpay_webhook_secrets", ("RAZORPAY_WEBHOOK_SECRET",), _words),
    ("github_webhook_secrets", ("GITHUB_WEBHOOK_SECRET",), _words),
    ("standard_webhook_secrets", ("STANDARD_WEBHOOK_SECRET",), _words),
    ("report_fonts", ("REPORT_FONTS",), _words),
    ("admin_token", ("ADMIN_TOKEN",), str),
    ("metrics_token", ("METRICS_TOKEN",), str),
    ("secret_key", ("SECRET_KEY",), str),
    ("redact", ("JOBS_REDACT",), _words),
    ("encryption_keys", ("JOBS_ENCRYPTION_KEYS",), _words),
    ("log_format", ("JOBS_LOG_FORMAT",), _choice(*LOG_FORMATS)),
    ("log_level", ("JOBS_LOG_LEVEL",), _choice(*LOG_LEVELS)),
    ("emf_namespace", ("JOBS_EMF_NAMESPACE",), _emf_namespace),
    ("alerts", ("JOBS_ALERTS",), _flag),
    ("alert_webhook_url", ("JOBS_ALERT_WEBHOOK_URL",), _url),
    ("alert_webhook_secret", ("JOBS_ALERT_WEBHOOK_SECRET",), _webhook_secret),
    ("alert_slack_url", ("JOBS_ALERT_SLACK_URL",), _url),
    ("alert_email", ("JOBS_ALERT_EMAIL",), _addresses),
)
