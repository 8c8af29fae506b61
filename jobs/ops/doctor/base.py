"""What a check is given, what it says, and how it is kept from breaking the others."""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from jobs.core.clock import Clock, SystemClock
from jobs.core.registry import Registry
from jobs.core.settings import SECRET_FIELDS, Settings
from jobs.core.store import Store

if TYPE_CHECKING:
    from jobs.stores.sql.store import SqlStore

log = logging.getLogger("tickwork.doctor")
_SECRET_NAME = re.compile(
    r"SECRET|TOKEN|PASSWORD|API_KEY|PRIVATE|DATABASE_URL|SMTP_URL|_SOURCE_URL"
)
_SHORTEST_SECRET = 4


class Level(StrEnum):
    """How bad a finding is: ``error`` breaks things, ``warning`` may, ``note`` is to be known."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check found: a stable ``code``, a sentence, and what mends it."""

    code: str
    level: Level
    sentence: str
    mend: str

    def as_dict(self) -> dict[str, str]:
        """Plain JSON-ready values."""
        return {name: str(value) for name, value in asdict(self).items()}


def error(code: str, sentence: str, mend: str) -> Finding:
    """Something that breaks things."""
    return Finding(code, Level.ERROR, sentence, mend)


def warning(code: str, sentence: str, mend: str) -> Finding:
    """Something that may break things, or makes jobs late."""
    return Finding(code, Level.WARNING, sentence, mend)


def note(code: str, sentence: str, mend: str) -> Finding:
    """Something to be known."""
    return Finding(code, Level.NOTE, sentence, mend)


@dataclass
class Surroundings:
    """What the checks look at.

    ``folder`` is where ``vercel.json`` and ``serverless.yml`` lie. ``settings``, ``registry`` and
    ``store`` are ``None`` where they could not be had: the checks that need them are left out.
    ``plan`` is the platform's (``hobby``, ``pro``), if it is known. ``temporary`` are the folders
    whose files are lost at will; ``idle_seconds`` is how long a transaction may lie idle and
    ``late_seconds`` how long a due job may wait before a check speaks of it.
    """

    environ: Mapping[str, str]
    folder: Path
    settings: Settings | None = None
    registry: Registry | None = None
    store: Store | None = None
    plan: str | None = None
    clock: Clock = field(default_factory=SystemClock)
    temporary: tuple[Path, ...] = field(default_factory=lambda: (Path(tempfile.gettempdir()),))
    idle_seconds: float = 60.0
    late_seconds: float = 900.0

    @property
    def sql(self) -> SqlStore | None:
        """The store, if its rows lie in a database."""
        store: Any = self.store
        return store if hasattr(store, "engine") else None

    @cached_property
    def counts(self) -> dict[tuple[str, str, str], int]:
        """Jobs by queue, kind and shown state; counted once."""
        return {} if self.store is None else self.store.counts()

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds that have a handler here."""
        return frozenset() if self.registry is None else self.registry.kinds


Check = Callable[[Surroundings], Iterable[Finding]]


class Family(NamedTuple):
    """Checks of one thing. Where one of them finds an error and ``bars`` is set, the families
    behind it are left out: they could only say the same again."""

    name: str
    checks: tuple[Check, ...]
    bars: bool = False


def contained(check: Check, around: Surroundings) -> Iterator[Finding]:
    """What a check finds; one that fails itself is a finding, too."""
    try:
        yield from check(around)
    except Exception as failure:
        log.debug("the check %s failed", check.__name__, exc_info=True)
        name = check.__name__.strip("_").replace("_", " ")
        yield warning(
            "check-failed",
            f"the check of {name} could not be made: {first_line(failure)}",
            "mend what it says; if it says nothing to you, report it as a mistake of the doctor",
        )


def examine(around: Surroundings, families: Iterable[Family]) -> list[Finding]:
    """Everything the families find, the worst first, without secrets."""
    found: list[Finding] = []
    for family in families:
        own = [finding for check in family.checks for finding in contained(check, around)]
        found += own
        if family.bars and any(finding.level is Level.ERROR for finding in own):
            break
    order = list(Level)
    hide = Veil(around.environ, around.settings)
    return [hide.over(each) for each in sorted(found, key=lambda each: order.index(each.level))]


def first_line(failure: BaseException) -> str:
    """Class and first line of an error: of SQLAlchemy's, the driver's words without the values."""
    failure = getattr(failure, "orig", None) or failure
    lines = (line.strip() for line in str(failure).splitlines())
    said = next(filter(None, lines), "")
    return f"{type(failure).__name__}: {said}" if said else type(failure).__name__


def _each(secret: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return secret if isinstance(secret, tuple) else (secret or "",)


class Veil:
    """Hides the values of secrets, and the passwords of URLs, in whatever a check says."""

    def __init__(self, environ: Mapping[str, str], settings: Settings | None) -> None:
        values = {value for name, value in environ.items() if _SECRET_NAME.search(name)}
        urls = [value for value in environ.values() if "://" in value]
        if settings is not None:
            values |= {value for name in SECRET_FIELDS for value in _each(getattr(settings, name))}
            urls += [settings.database_url or ""]
        for url in urls:
            values |= set(_passwords(url))
        shown = {value for value in values if len(value) >= _SHORTEST_SECRET}
        # The longest first: one may be part of another.
        self._values = sorted(shown, key=len, reverse=True)

    def over(self, finding: Finding) -> Finding:
        """The finding with secrets hidden."""
        return Finding(
            finding.code, finding.level, self.hide(finding.sentence), self.hide(finding.mend)
        )

    def hide(self, text: str) -> str:
        """``text`` with secrets hidden."""
        for value in self._values:
            text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", "***", text)
        return re.sub(r"(://[^\s/@:]*):[^\s/]*@", r"\1:***@", text)


def _passwords(url: str) -> Iterator[str]:
    try:
        raw = urlsplit(url.strip()).password
    except ValueError:
        return
    if raw:
        yield raw
        yield unquote(raw)
