"""The filter of a list of jobs, as it stands in the address and as the store takes it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from jobs.core.job import SHOWN_STATES
from jobs.core.names import NAME
from jobs.core.store import JobFilter
from jobs.http.dashboard.desk import link

# Rows that are looked at for what no index finds: text, times, two names at once.
WINDOW = 5000
TEXT_MAX_CHARS = 200
LAST = {
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "24h": timedelta(days=1),
    "7d": timedelta(days=7),
}


class Asked(NamedTuple):
    """What somebody asked for. Texts as they came, cut to what makes sense."""

    state: str = ""
    kind: str = ""
    queue: str = ""
    tenant: str = ""
    last: str = ""
    since: str = ""
    until: str = ""
    q: str = ""
    before: str = ""
    after: str = ""
    problem: str = ""

    @classmethod
    def of(cls, values: Mapping[str, str]) -> Asked:
        """From an address or a form; what makes no sense is left out and said."""
        given = {
            name: values.get(name, "").strip()[:TEXT_MAX_CHARS]
            for name in cls._fields
            if name != "problem"
        }
        problems = []
        if given["state"] not in ("", *SHOWN_STATES):
            problems.append(f"There is no state {given['state']!r}.")
            given["state"] = ""
        if given["last"] not in ("", *LAST):
            given["last"] = ""
        for name in ("since", "until"):
            if given[name] and _instant(given[name]) is None:
                problems.append(f"{given[name]!r} is no time: write 2026-01-31T08:00.")
                given[name] = ""
        for name in ("before", "after"):
            if given[name] and not NAME.fullmatch(given[name]):
                given[name] = ""
        return cls(**given, problem=" ".join(problems))

    def filter(self, tenant: str | None, now: datetime) -> JobFilter:
        """The store's filter; ``tenant`` is that of the one who asks, if they have one."""
        since = _instant(self.since)
        if self.last:
            since = now - LAST[self.last]
        return JobFilter(
            shown=self.state or None,
            kind=self.kind or None,
            queue=self.queue or None,
            tenant=tenant if tenant is not None else self.tenant or None,
            since=since,
            until=_instant(self.until),
            text=self.q or None,
            before_id=self.before or None,
            after_id=self.after or None,
            window=WINDOW,
        )

    @property
    def is_any(self) -> bool:
        """Whether nothing is asked for but a page."""
        return not any(getattr(self, name) for name in self.named)

    @property
    def named(self) -> tuple[str, ...]:
        """The fields that choose jobs, beside the page."""
        return ("state", "kind", "queue", "tenant", "last", "since", "until", "q")

    @property
    def fields(self) -> dict[str, str]:
        """Those that say something, for hidden fields of a form."""
        return {name: getattr(self, name) for name in self.named if getattr(self, name)}

    def link(self, path: str = "/jobs", **changes: str | None) -> str:
        """The address of the same filter with changes, at its first page unless one is named."""
        return link(path, **{**self.fields, **changes})


def _instant(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
