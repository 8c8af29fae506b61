"""What a sync is asked for, and what a platform has to bring: a connector, and where to save."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, Protocol

import sqlalchemy as sa

from jobs.core.errors import ConfigurationError, PayloadError
from jobs.core.names import check_concurrency_key, check_kind, check_tenant
from jobs.handlers.errors import HandlerError, PermanentError

DEFAULT_OVERLAP_SECONDS: Final = 60.0
"""How far an incremental sync reaches back behind the last: clocks differ, commits come late."""


@dataclass(frozen=True)
class DataSync:
    """The payload of the kind `data-sync`; the names are forerunners'.

    syncType: `full` asks for everything, `incremental` for what changed since the last sync
    startDate, endDate: ISO 8601; without an offset they are UTC. A sync with dates of its own does
        not move the mark from which the next incremental one begins.
    """

    integrationId: str  # noqa: N815
    organizationId: str  # noqa: N815
    platform: str
    syncType: Literal["full", "incremental"] = "incremental"  # noqa: N815
    startDate: str | None = None  # noqa: N815
    endDate: str | None = None  # noqa: N815

    def __post_init__(self) -> None:
        for name, check in (
            ("integrationId", check_concurrency_key),
            ("organizationId", check_tenant),
            ("platform", check_kind),
        ):
            try:
                check(getattr(self, name))
            except ConfigurationError as error:
                raise PayloadError(f"$.{name}", str(error)) from None
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise PayloadError("$.endDate", "is not after startDate")

    @property
    def start(self) -> datetime | None:
        """`startDate` as an aware datetime."""
        return _instant("startDate", self.startDate)

    @property
    def end(self) -> datetime | None:
        """`endDate` as an aware datetime."""
        return _instant("endDate", self.endDate)


def _instant(name: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise PayloadError(f"$.{name}", f"{text!r:.40} is no ISO 8601 date") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


@dataclass(frozen=True)
class Page:
    """A part of what a platform has.

    items: whatever `save` understands; empty is allowed
    next_cursor: what the next page is asked for with, None after the last one
    total: how many items there are in all, if the platform says
    """

    items: Sequence[Any]
    next_cursor: str | None
    total: int | None = None


class Connector(Protocol):
    """Reads one integration of a platform, page by page."""

    def page(self, cursor: str | None, since: datetime | None, until: datetime | None) -> Page:
        """Return a page.

        cursor: `next_cursor` of the page before, None for the first
        since, until: aware datetimes: what changed from then on, and before then; None is open
        Raises AuthRefused, RateLimited, PlatformRefused (a retry cannot help) or PlatformDown.
        """
        ...


Save = Callable[[sa.Connection, Sequence[Any], DataSync], object]


@dataclass(frozen=True)
class Platform:
    """How a platform is read, and where its items go.

    name: as payloads say it, for example `shopify`
    connect: makes the connector of one integration
    save: writes items by upsert through the connection; it commits together with the cursor, so
        do not commit it, and write through nothing else
    database: a URL or an engine for that connection; None is the one of the jobs. The table of
        `create_sync_tables` stands there as well.
    overlap_seconds: how far an incremental sync reaches back behind the last one
    """

    name: str
    connect: Callable[[DataSync], Connector]
    save: Save
    database: str | sa.Engine | None = None
    overlap_seconds: float = DEFAULT_OVERLAP_SECONDS

    def __post_init__(self) -> None:
        check_kind(self.name)
        if not 0 <= self.overlap_seconds < 10**9:
            raise ConfigurationError(f"platform {self.name!r}: overlap_seconds is 0 or more")


_platforms: dict[str, Platform] = {}


def add_platform(platform: Platform) -> Platform:
    """Make a platform known to this process; one of that name is replaced."""
    _platforms[platform.name] = platform
    return platform


def find_platform(name: str) -> Platform:
    """Return a platform. Raises PlatformRefused that lists those there are."""
    try:
        return _platforms[name]
    except KeyError:
        known = ", ".join(sorted(_platforms)) or "none"
        raise PlatformRefused(
            f"no platform is called {name!r} here (there are: {known}): name the module that calls "
            "add_platform(...) in JOBS_HANDLERS"
        ) from None


class AuthRefused(PermanentError):
    """The platform does not take the credentials (401, 403): a person must connect it again."""


class PlatformRefused(PermanentError):
    """The platform said no for good, or the integration is set up wrongly."""


class PlatformDown(HandlerError):
    """The platform was away, too slow, or sent what cannot be read. Worth a retry."""


class RateLimited(HandlerError):
    """The platform said "later": go on after so many seconds, without using an attempt."""

    def __init__(self, text: str, after_seconds: float) -> None:
        self.after_seconds = after_seconds
        super().__init__(text)
