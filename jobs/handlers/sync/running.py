"""A sync: page after page into the database, over as many ticks as it takes.

Each page is fetched with no connection held, then its items and the place where to go on are
written in one transaction. So a crash repeats at most the fetching of a page, and an upsert that
is repeated (an overlap, a page that came twice) changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import time
from datetime import datetime, timedelta
from typing import Any, Final

from jobs.core.context import JobContext
from jobs.core.errors import Continue
from jobs.handlers.sync.contract import (
    Connector,
    DataSync,
    Page,
    Platform,
    PlatformRefused,
    RateLimited,
)
from jobs.handlers.sync.integrations import Integration, Integrations

_MARGIN_SECONDS: Final = 5.0


class Sync:
    """One execution of a sync.

    platform: how to read and where to save
    integrations: the rows of the database that `platform` saves to
    """

    def __init__(
        self, request: DataSync, platform: Platform, integrations: Integrations, ctx: JobContext
    ) -> None:
        self._request = request
        self._platform = platform
        self._integrations = integrations
        self._ctx = ctx

    def run(self, integration: Integration) -> Integration:
        """Sync what is left, and return the row as it is then.

        integration: as `Integrations.begin` gave it
        Raises Continue for the next tick, or when the platform said "later"; Overtaken when
        another runner is at it; the connector's and the database's own errors as they are.
        """
        connector = self._platform.connect(self._request)
        slowest = 0.0
        try:
            while not integration.run_is_over:
                self._ctx.checkpoint()
                begun = time.monotonic()
                integration = self._page(integration, connector)
                slowest = max(slowest, time.monotonic() - begun)
                if not integration.run_is_over and self._ctx.should_stop(_MARGIN_SECONDS + slowest):
                    raise Continue
        except RateLimited as error:
            self._ctx.log(f"later: {error}", afterSeconds=error.after_seconds)
            raise Continue(after=error.after_seconds) from error
        return integration

    def _page(self, integration: Integration, connector: Connector) -> Integration:
        since, until = self._bounds(integration)
        page = connector.page(integration.cursor, since, until)
        pages = integration.run_pages + 1
        items = integration.run_items + len(page.items)
        digest = _digest(page, integration.cursor)
        is_last = page.next_cursor is None
        if not is_last and (page.next_cursor == integration.cursor or digest == integration.seen):
            raise PlatformRefused(
                f"{self._request.platform} repeats itself: page {pages} is one that came before. "
                "See how the next page is asked for, then enqueue a new sync"
            )
        after = self._integrations.advance(
            integration,
            lambda connection: self._save(connection, page),
            cursor=page.next_cursor,
            run_pages=pages,
            run_items=items,
            run_is_over=is_last,
            # Brent's way to find a cycle: compare with the page at the last power of two, so that
            # a cycle of any length is found and one digest is all that is kept.
            seen=digest if pages & (pages - 1) == 0 else integration.seen,
            synced_until=self._mark(integration) if is_last else integration.synced_until,
        )
        percent = 100.0 if is_last else 100.0 * items / page.total if page.total else 0.0
        self._ctx.progress(percent, f"{items:,} items, {pages:,} pages")
        return after

    def _save(self, connection: Any, page: Page) -> None:
        if page.items:
            self._platform.save(connection, page.items, self._request)

    def _bounds(self, integration: Integration) -> tuple[datetime | None, datetime | None]:
        request, synced_until = self._request, integration.synced_until
        since = request.start
        if since is None and request.syncType == "incremental" and synced_until is not None:
            since = synced_until - timedelta(seconds=self._platform.overlap_seconds)
        return since, request.end

    def _mark(self, integration: Integration) -> datetime | None:
        """What the next incremental sync begins from: when this one began asking."""
        if self._request.startDate is not None or self._request.endDate is not None:
            return integration.synced_until
        return integration.run_began_at


def _digest(page: Page, cursor: str | None) -> str:
    """What two pages that are the same have in common; empty ones are told by their cursors."""
    said = json.dumps(list(page.items), default=repr, sort_keys=True) if page.items else cursor
    return hashlib.sha256(str(said).encode("utf-8", "surrogatepass")).hexdigest()
