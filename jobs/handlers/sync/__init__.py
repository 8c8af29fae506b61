"""The battery `data-sync`: what a platform has, into your database, page by page.

- `kind`: the job kind, alerts and hooks when credentials are refused
- `contract`: the payload, connectors, platforms, and the errors that connectors raise
- `integrations`: how far each integration is, and its status
- `running`: one sync
- `rest`, `paging`, `credentials`: a connector for REST APIs
- `schedules`: every how many hours, by platform and plan

Named in JOBS_HANDLERS as `jobs.handlers.sync`, with `jobs.handlers.alert` for the alerts.
"""

from jobs.handlers.sync.contract import (
    AuthRefused,
    Connector,
    DataSync,
    Page,
    Platform,
    PlatformDown,
    PlatformRefused,
    RateLimited,
    add_platform,
)
from jobs.handlers.sync.credentials import Basic, Bearer, Credentials, HeaderToken
from jobs.handlers.sync.integrations import (
    Integration,
    Integrations,
    create_sync_tables,
    metadata,
)
from jobs.handlers.sync.kind import data_sync, integrations_of, on_auth_error, queue_data_sync
from jobs.handlers.sync.paging import (
    LastItem,
    LinkHeader,
    NextCursor,
    NextUrl,
    Offset,
    OnePage,
    PageNumber,
)
from jobs.handlers.sync.rest import RestConnector, Window
from jobs.handlers.sync.schedules import (
    SyncSchedule,
    install_sync_schedules,
    remove_sync_schedule,
)

__all__ = [
    "AuthRefused",
    "Basic",
    "Bearer",
    "Connector",
    "Credentials",
    "DataSync",
    "HeaderToken",
    "Integration",
    "Integrations",
    "LastItem",
    "LinkHeader",
    "NextCursor",
    "NextUrl",
    "Offset",
    "OnePage",
    "Page",
    "PageNumber",
    "Platform",
    "PlatformDown",
    "PlatformRefused",
    "RateLimited",
    "RestConnector",
    "SyncSchedule",
    "Window",
    "add_platform",
    "create_sync_tables",
    "data_sync",
    "install_sync_schedules",
    "integrations_of",
    "metadata",
    "on_auth_error",
    "queue_data_sync",
    "remove_sync_schedule",
]
