"""The job kind `export`: a dataset into a CSV, JSON Lines or JSON file.

    tickwork.enqueue("export", {"dataset": "orders", "format": "csv", "filters": {"year": 2024},
                                "notify_email": "ann@example.com"})

The result is `{"file_url", "total_rows", "bytes", "sha256"}`, with `email` if a mail was asked for,
and `download_url` and `expires_at` where a link can be signed.
The work is in `exporting.py`.
"""

from __future__ import annotations

from typing import Any

from jobs.core.context import JobContext
from jobs.core.errors import Discard
from jobs.core.registry import handler
from jobs.handlers.errors import PermanentError
from jobs.handlers.exporting import ExportRequest, ExportResult, run_export
from jobs.handlers.watching import Watch

__all__ = ["ExportRequest", "ExportResult", "export", "run_export"]


@handler("export", queue="exports", max_attempts=2, timeout=600, metrics="export")
def export(request: ExportRequest, ctx: JobContext) -> dict[str, Any]:
    """Export a dataset; a mistake in the request or the configuration gives the job up at once."""
    try:
        result = run_export(
            request,
            settings=ctx.settings,
            job_id=ctx.job_id,
            watch=Watch(ctx.progress, ctx.checkpoint),
            tenant=ctx.tenant,
        )
    except PermanentError as error:
        raise Discard(str(error)) from error
    return result.as_dict()
