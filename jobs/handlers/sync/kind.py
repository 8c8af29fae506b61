"""The job kind `data-sync`, and what follows when a platform refuses the credentials."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, Unpack

import sqlalchemy as sa

from jobs.core.backoff import exponential
from jobs.core.context import JobContext
from jobs.core.errors import CapabilityError, Discard, Retry, Snooze, Steering
from jobs.core.job import TERMINAL
from jobs.core.registry import handler
from jobs.handlers.alert import alert, queue_alert
from jobs.handlers.errors import PermanentError
from jobs.handlers.queueing import enqueue
from jobs.handlers.sync.contract import (
    AuthRefused,
    DataSync,
    Platform,
    PlatformRefused,
    find_platform,
)
from jobs.handlers.sync.integrations import (
    AUTH_ERROR,
    Integration,
    Integrations,
    Overtaken,
)
from jobs.handlers.sync.running import Sync
from jobs.runtime.enqueue import EnqueueOptions
from jobs.stores.sql.engine import make_engine

if TYPE_CHECKING:
    from jobs.core.job import Job

log = logging.getLogger("jobs.handlers.sync")
QUEUE: Final = "data-sync"
_WAIT_SECONDS: Final = 60.0
_LATER_SECONDS: Final = 30.0

AuthHook = Callable[[Integration], object]
AUTH_HOOKS: Final[dict[str, AuthHook]] = {}


def on_auth_error(function: AuthHook) -> AuthHook:
    """Declare a function that is told when a platform refuses an integration's credentials.

    It takes the Integration, and may be called again for the same refusal if its runner dies.
    """
    AUTH_HOOKS[f"{function.__module__}.{function.__qualname__}"] = function
    return function


@handler(
    "data-sync",
    queue=QUEUE,
    max_attempts=3,
    backoff=exponential(2),
    timeout=45,
    concurrency_key=lambda request: request.integrationId,
    max_concurrency_per_key=1,
    log_context=["integrationId", "platform", "syncType"],
    metrics="data-sync",
)
def data_sync(request: DataSync, ctx: JobContext) -> dict[str, Any]:
    """Sync one integration; the result counts items and pages."""
    if ctx.tenant not in ("", request.organizationId):
        raise Discard("organizationId is not the tenant that this job belongs to")
    try:
        platform = find_platform(request.platform)
        integrations = _integrations(platform, ctx)
        return _sync(request, platform, integrations, ctx)
    except PermanentError as error:
        raise Discard(str(error)) from error


def _sync(
    request: DataSync, platform: Platform, integrations: Integrations, ctx: JobContext
) -> dict[str, Any]:
    _wait_for_another(request, integrations, ctx)
    try:
        integration = integrations.begin(request, ctx.job_id, data_sync.system.store.now())
        if integration.status == AUTH_ERROR:
            if integration.run_id == ctx.job_id:  # an earlier attempt died before it told of that
                _refused(integration, ctx)
            return {"status": AUTH_ERROR, "skipped": True, "items": 0, "pages": 0}
        integration = Sync(request, platform, integrations, ctx).run(integration)
    except Steering:
        raise
    except Overtaken as error:
        raise Retry(str(error), after=_LATER_SECONDS) from error
    except AuthRefused as error:
        refused = integrations.note_failure(request, ctx.job_id, str(error), status=AUTH_ERROR)
        if refused is None:
            raise Retry(str(error), after=_LATER_SECONDS) from error
        _refused(refused, ctx)
    except Exception as error:
        _note_failure(request, integrations, error, ctx)
        raise
    return {
        "status": integration.status,
        "items": integration.run_items,
        "pages": integration.run_pages,
    }


def _wait_for_another(request: DataSync, integrations: Integrations, ctx: JobContext) -> None:
    """Let a sync of the same integration end that is between two ticks.

    Its concurrency key is free meanwhile. Two that took turns would each begin anew, for ever.
    """
    known = integrations.get(request.organizationId, request.integrationId)
    if known is None or known.run_is_over or known.run_id in (None, ctx.job_id):
        return
    other = data_sync.system.store.get(known.run_id)
    if other is not None and other.state not in TERMINAL:
        raise Snooze(_WAIT_SECONDS)


def _note_failure(
    request: DataSync, integrations: Integrations, error: Exception, ctx: JobContext
) -> None:
    try:
        integrations.note_failure(request, ctx.job_id, f"{type(error).__name__}: {error}")
    except sa.exc.SQLAlchemyError:
        # The database may be what failed; the job's own error is the one to tell.
        log.exception("integration %s: a failure was not counted", request.integrationId)


def _refused(integration: Integration, ctx: JobContext) -> NoReturn:
    """Tell people and hooks that the credentials are no good, and give the job up."""
    said = (
        f"{integration.platform} no longer takes the credentials of integration "
        f"{integration.integration_id} ({integration.last_error}): connect it again"
    )
    system = data_sync.system
    if system.registry.find(alert.kind) is not None:
        queue_alert(
            tickwork=system,
            organization_id=integration.organization_id,
            alert_type="INTEGRATION_AUTH_ERROR",
            severity="HIGH",
            message=said,
            metadata={"integrationId": integration.integration_id},
            job_id=f"sync-auth:{ctx.job_id}",  # once, however often this attempt is repeated
        )
    for name, hook in AUTH_HOOKS.items():
        try:
            hook(integration)
        except Exception:
            log.exception("the hook %s failed for %s", name, integration.integration_id)
    raise Discard(said)


def _integrations(platform: Platform, ctx: JobContext) -> Integrations:
    database = platform.database
    if isinstance(database, str):
        engine = _engine(database)
    elif database is not None:
        engine = database
    else:
        try:
            engine = data_sync.system.engine
        except CapabilityError:
            raise PlatformRefused(
                f"there is no database to save {platform.name} to: set DATABASE_URL, or give the "
                "Platform a database="
            ) from None
    return Integrations(engine, ctx.settings.namespace)


@functools.lru_cache(maxsize=8)
def _engine(url: str) -> sa.Engine:
    return make_engine(url, pool_size=1)


def integrations_of(tickwork: Any, platform: str | None = None) -> Integrations:
    """The integrations in the database of the jobs, or of a platform, to look at or reconnect.

    tickwork: the system
    platform: the name of one that brings a database of its own
    """
    found = None if platform is None else find_platform(platform).database
    engine = _engine(found) if isinstance(found, str) else found
    return Integrations(tickwork.engine if engine is None else engine, tickwork.settings.namespace)


# --- producers


class SyncOptions(EnqueueOptions, total=False):
    """What `queue_data_sync` takes: the payload, and the options of `enqueue`."""

    integration_id: str
    organization_id: str
    platform: str
    sync_type: Literal["full", "incremental"]
    start_date: str | None
    end_date: str | None


def queue_data_sync(
    *, session: Any = None, tickwork: Any = None, **said: Unpack[SyncOptions]
) -> Job:
    """Enqueue a sync now and return its job.

    session: the caller's SQLAlchemy session or connection; the job commits with it or not at all
    tickwork: the system; the one that this module is registered with if not given
    said: the fields of DataSync in snake case, and the options of `Tickwork.enqueue`;
        `organization_id` is the tenant
    Raises PayloadError for a mistake in the fields, ConfigurationError for one in the options.
    """
    return enqueue(data_sync, said, session=session, tickwork=tickwork)
