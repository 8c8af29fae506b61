"""What is known of each integration: how far it is synced, and whether its credentials still work.

One row for each, in a table of this battery's own. The row stands in the database that items are
saved to, so that a page's items and the place where to go on commit together: a runner that dies
has written both or neither. Every write names the version that it read; a runner that was overtaken
(its lease ran out, another went on) changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from jobs.core.codec import clean_text
from jobs.core.errors import TickworkError
from jobs.handlers.sync.contract import DataSync, PlatformRefused
from jobs.stores.sql.tables import Timestamp, ascii_text, exact_text, long_text

ACTIVE: Final = "active"
AUTH_ERROR: Final = "auth_error"
_ERROR_CHARACTERS: Final = 500

metadata = sa.MetaData()
"""For your own migrations: name it in Alembic's `target_metadata`."""

integrations_table = sa.Table(
    "tickwork_integrations",
    metadata,
    sa.Column("namespace", ascii_text(100), primary_key=True),
    sa.Column("organization_id", exact_text(100), primary_key=True),
    sa.Column("integration_id", exact_text(200), primary_key=True),
    sa.Column("platform", ascii_text(100), nullable=False),
    sa.Column("status", ascii_text(20), nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("synced_until", Timestamp),
    sa.Column("run_id", ascii_text(36)),
    sa.Column("run_began_at", Timestamp),
    sa.Column("run_is_over", sa.Boolean, nullable=False),
    sa.Column("run_items", sa.BigInteger, nullable=False),
    sa.Column("run_pages", sa.BigInteger, nullable=False),
    sa.Column("cursor", long_text()),
    sa.Column("seen", ascii_text(64)),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("last_error", exact_text(_ERROR_CHARACTERS)),
)
_columns = integrations_table.c


@dataclass(frozen=True)
class Integration:
    """A row of the table.

    status: `active`, or `auth_error` until somebody connects it again
    synced_until: what the next incremental sync begins from; None before the first one has ended
    run_id: the job that syncs, or synced last; `run_began_at`, `run_is_over`, `run_items` and
        `run_pages` are about it
    cursor: of the next page; None at the beginning
    seen: a digest of an earlier page, by which pages that repeat are noticed
    failures: syncs in a row that failed an attempt; `last_error` is the last one's text
    """

    namespace: str
    organization_id: str
    integration_id: str
    platform: str
    status: str
    version: int
    synced_until: datetime | None
    run_id: str | None
    run_began_at: datetime | None
    run_is_over: bool
    run_items: int
    run_pages: int
    cursor: str | None
    seen: str | None
    failures: int
    last_error: str | None

    def as_dict(self) -> dict[str, Any]:
        """What people may see, JSON-ready: no cursor, which may be a URL with a secret in it."""
        until = self.synced_until
        return {
            "integrationId": self.integration_id,
            "organizationId": self.organization_id,
            "platform": self.platform,
            "status": self.status,
            "syncedUntil": None if until is None else until.isoformat().replace("+00:00", "Z"),
            "failures": self.failures,
            "lastError": self.last_error,
        }


class Overtaken(TickworkError):
    """Somebody else changed the row meanwhile: another runner goes on with this sync."""


def create_sync_tables(engine: sa.Engine) -> None:
    """Make the battery's table where it is missing. Safe to call again."""
    metadata.create_all(engine)


class Integrations:
    """The rows of one namespace.

    engine: the database that items are saved to
    namespace: the system's (JOBS_NAMESPACE)
    """

    def __init__(self, engine: sa.Engine, namespace: str = "") -> None:
        self.engine = engine
        self._namespace = namespace

    def get(self, organization_id: str, integration_id: str) -> Integration | None:
        """One integration, or None. Raises PlatformRefused where the table is missing."""
        where = self._where(organization_id, integration_id)
        try:
            with self.engine.connect() as connection:
                row = connection.execute(sa.select(integrations_table).where(where)).first()
        except sa.exc.DBAPIError as error:
            if sa.inspect(self.engine).has_table(integrations_table.name):
                raise
            raise PlatformRefused(
                f"the table {integrations_table.name} is missing: call create_sync_tables(engine) "
                "once, or add jobs.handlers.sync.metadata to your migrations; then retry this job"
            ) from error
        return None if row is None else Integration(*row)

    def list(self, organization_id: str | None = None, limit: int = 1000) -> list[Integration]:
        """Integrations (of an organisation), by organisation and id."""
        chosen = sa.select(integrations_table).where(_columns.namespace == self._namespace)
        if organization_id is not None:
            chosen = chosen.where(_columns.organization_id == organization_id)
        ordered = chosen.order_by(_columns.organization_id, _columns.integration_id).limit(limit)
        with self.engine.connect() as connection:
            return [Integration(*row) for row in connection.execute(ordered)]

    def reconnect(self, organization_id: str, integration_id: str) -> bool:
        """Say that the credentials work again; returns whether the integration is known."""
        changed = (
            sa.update(integrations_table)
            .where(self._where(organization_id, integration_id))
            .values(status=ACTIVE, failures=0, last_error=None, version=_columns.version + 1)
        )
        with self.engine.begin() as connection:
            return connection.execute(changed).rowcount == 1

    # -- a run ---------------------------------------------------------------------------------

    def begin(self, request: DataSync, run_id: str, now: datetime) -> Integration:
        """Return the row, for this run: begun now, or as an earlier attempt left it.

        A row whose status is `auth_error` is returned as it is.
        """
        known = self.get(request.organizationId, request.integrationId)
        if known is None:
            known = self._add(request)
        if known.status == AUTH_ERROR or known.run_id == run_id:
            return known
        with self.engine.begin() as connection:
            return self._change(
                connection,
                known,
                platform=request.platform,
                run_id=run_id,
                run_began_at=now,
                run_is_over=False,
                run_items=0,
                run_pages=0,
                cursor=None,
                seen=None,
            )

    def advance(
        self, known: Integration, save: Callable[[sa.Connection], object], **values: Any
    ) -> Integration:
        """Save a page's items and change the row, in one transaction.

        Raises Overtaken, with nothing written.
        """
        with self.engine.begin() as connection:
            # First the row: whoever was overtaken waits here and then writes nothing.
            after = self._change(connection, known, failures=0, last_error=None, **values)
            save(connection)
        return after

    def note_failure(
        self, request: DataSync, run_id: str, text: str, *, status: str = ACTIVE
    ) -> Integration | None:
        """Count a failure of a run and keep its text; `status` may become `auth_error`.

        Returns the row, or None if it is another run's by now.
        """
        where = self._where(request.organizationId, request.integrationId)
        changed = (
            sa.update(integrations_table)
            .where(where, _columns.run_id == run_id)
            .values(
                version=_columns.version + 1,
                status=status,
                failures=_columns.failures + 1,
                last_error=clean_text(text)[:_ERROR_CHARACTERS],
            )
        )
        with self.engine.begin() as connection:
            if connection.execute(changed).rowcount != 1:
                return None
        return self.get(request.organizationId, request.integrationId)

    def _add(self, request: DataSync) -> Integration:
        fresh = Integration(
            self._namespace,
            request.organizationId,
            request.integrationId,
            request.platform,
            ACTIVE,
            version=1,
            synced_until=None,
            run_id=None,
            run_began_at=None,
            run_is_over=True,
            run_items=0,
            run_pages=0,
            cursor=None,
            seen=None,
            failures=0,
            last_error=None,
        )
        try:
            with self.engine.begin() as connection:
                connection.execute(sa.insert(integrations_table).values(**asdict(fresh)))
        except sa.exc.IntegrityError:  # somebody else was first
            found = self.get(request.organizationId, request.integrationId)
            if found is None:
                raise
            return found
        return fresh

    def _change(self, connection: sa.Connection, known: Integration, **values: Any) -> Integration:
        values["version"] = known.version + 1
        where = self._where(known.organization_id, known.integration_id)
        changed = sa.update(integrations_table).where(where, _columns.version == known.version)
        if connection.execute(changed.values(**values)).rowcount != 1:
            raise Overtaken(f"integration {known.integration_id} is being synced by somebody else")
        return replace(known, **values)

    def _where(self, organization_id: str, integration_id: str) -> sa.ColumnElement[bool]:
        return sa.and_(
            _columns.namespace == self._namespace,
            _columns.organization_id == organization_id,
            _columns.integration_id == integration_id,
        )
