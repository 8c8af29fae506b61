"""The secrets that prove the right to run a tick."""

from __future__ import annotations

from collections.abc import Iterator

from jobs.core.settings import NO_SECRETS, WEAK_SECRET_CHARS
from jobs.ops.doctor.base import Family, Finding, Surroundings, error, note, warning

_NAMES = ("CRON_SECRET", "JOB_PROCESSOR_SECRET_TOKEN", "CRON_SECRET_PREVIOUS")
_MAKE_ONE = "make one with `openssl rand -hex 32` and set it on the platform"
# What examples, tutorials and hurried people write.
# Hyphens stand for underscores, too.
SAMPLES = frozenset(
    {
        *("changeme", "change-me", "please-change-me", "changethis", "replace-me", "replaceme"),
        *("secret", "supersecret", "super-secret", "super-secret-token", "mysecret", "my-secret"),
        *("your-secret", "your-secret-here", "your-cron-secret", "your-secret-token"),
        *("your-super-secret-token", "your-secret-key", "cron-secret", "placeholder", "example"),
        *("password", "password123", "secret123", "test", "testtest", "xxxxxxxxxxxxxxxx"),
        *("1234567890123456", "0123456789abcdef", "abcdefghijklmnop"),
    }
)
_FEWEST_CHARACTERS = 6


def missing_secret(around: Surroundings) -> Iterator[Finding]:
    """Without a secret no tick is served in production."""
    settings = around.settings
    if settings is None or settings.is_development or settings.backend == "sqs":
        return
    if not (settings.cron_secret or "").strip():
        yield error(
            "secret-missing",
            "CRON_SECRET is not set: every tick over HTTP is refused with 503, and no job runs",
            _MAKE_ONE,
        )


def weak_secrets(around: Surroundings) -> Iterator[Finding]:
    """Secrets that are none, or can be guessed."""
    for name in _NAMES:
        secret = around.environ.get(name, "").strip()
        if not secret:
            continue
        if secret.lower() in NO_SECRETS:
            yield error(
                "secret-placeholder",
                f"{name} is a placeholder for no value, not a secret: it is ignored",
                _MAKE_ONE,
            )
        elif is_sample(secret):
            yield error(
                "secret-sample",
                f"{name} is the sample of an example or a tutorial: anybody may run ticks",
                _MAKE_ONE,
            )
        elif is_guessable(secret):
            yield warning(
                "secret-weak",
                f"{name} has {len(secret)} characters, {len(set(secret))} different ones: it can "
                "be guessed",
                f"{_MAKE_ONE}: {WEAK_SECRET_CHARS} or more random characters",
            )


def is_guessable(secret: str) -> bool:
    """Whether it is short, or of few different characters."""
    return len(secret) < WEAK_SECRET_CHARS or len(set(secret)) < _FEWEST_CHARACTERS


def is_sample(secret: str) -> bool:
    """Whether it is what examples write."""
    bare = secret.strip("<>[]{}\"'").lower()
    return bare.replace("_", "-") in SAMPLES


def unsendable_secrets(around: Surroundings) -> Iterator[Finding]:
    """Secrets that no header can carry as they are."""
    for name in _NAMES:
        raw = around.environ.get(name, "")
        secret = raw.strip()
        if secret and not all("!" <= character <= "~" for character in secret):
            yield error(
                "secret-unsendable",
                f"{name} has white space, control characters or letters outside ASCII inside: "
                "such a header is not sent, or not as it was meant",
                _MAKE_ONE,
            )
        elif secret != raw and secret:
            yield warning(
                "secret-white-space",
                f"{name} begins or ends with white space: it is ignored here, but the platform's "
                "cron may not send a header that holds it",
                "set it again without the white space (a line break at the end, most likely)",
            )


def old_secret(around: Surroundings) -> Iterator[Finding]:
    """A rotation that was not ended."""
    previous = around.environ.get("CRON_SECRET_PREVIOUS", "").strip()
    if not previous:
        return
    same = previous == around.environ.get("CRON_SECRET", "").strip()
    yield note(
        "secret-previous",
        "CRON_SECRET_PREVIOUS is the same as CRON_SECRET: it does nothing"
        if same
        else "CRON_SECRET_PREVIOUS is still set: the old secret runs ticks, too",
        "unset it once every caller sends the new one",
    )


def shared_secret(around: Surroundings) -> Iterator[Finding]:
    """One secret for several doors."""
    secret = around.environ.get("CRON_SECRET", "").strip()
    for name in ("ADMIN_TOKEN", "SECRET_KEY"):
        if secret and around.environ.get(name, "").strip() == secret:
            yield warning(
                "secret-shared",
                f"CRON_SECRET and {name} are the same: who may call the cron may do everything",
                f"give {name} a value of its own",
            )


FAMILY = Family(
    "secrets", (missing_secret, weak_secrets, unsendable_secrets, old_secret, shared_secret)
)
