"""CloudWatch's embedded metric format: a line on stdout that becomes metrics, without an API call.

One line for a tick and one for a batch of messages. ``JOBS_EMF_NAMESPACE=off`` leaves them out:
CloudWatch charges for each metric by the month.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Mapping

from jobs.core.settings import Settings
from jobs.runtime.tick import TickResult

# Metrics and their units, as CloudWatch knows them.
UNITS = {
    "Processed": "Count",
    "Succeeded": "Count",
    "Failed": "Count",
    "Retried": "Count",
    "Depth": "Count",
    "Duration": "Milliseconds",
}
DIMENSION = "FunctionName"


def of_tick(result: TickResult) -> dict[str, float]:
    """What a tick did; ``Depth`` is how many due jobs it left, counted up to 1,000."""
    return {
        "Processed": result.processed,
        "Succeeded": result.succeeded,
        "Failed": result.failed,
        "Retried": result.retried,
        "Depth": result.remaining,
        "Duration": result.duration_ms,
    }


def of_batch(reasons: Mapping[str, int], duration_ms: float) -> dict[str, float]:
    """What became of a batch's messages, by the reasons of their fates."""
    ends: Counter[str] = Counter()
    for reason, count in reasons.items():
        ends[reason.partition(",")[0]] += count  # "retried, left to a tick" is one as well
    succeeded, failed, retried = ends["completed"], ends["failed"], ends["retried"]
    return {
        "Processed": succeeded + failed + retried,
        "Succeeded": succeeded,
        "Failed": failed,
        "Retried": retried,
        "Duration": round(duration_ms, 1),
    }


def write(values: Mapping[str, float], settings: Settings, *, at_seconds: float) -> None:
    """Write the line, if this is Lambda and it is wanted; ``at_seconds`` since 1970."""
    function = os.environ.get("AWS_LAMBDA_FUNCTION_NAME")
    if not function or settings.emf_namespace == "off" or sys.stdout is None:
        return
    more = {"JobsNamespace": settings.namespace} if settings.namespace else {}
    document = line_of(values, settings.emf_namespace, function, at_seconds, more)
    sys.stdout.write(document + "\n")
    sys.stdout.flush()


def line_of(
    values: Mapping[str, float],
    namespace: str,
    function: str,
    at_seconds: float,
    more: Mapping[str, str],
) -> str:
    """The document as one line; ``more`` are properties that are no metrics."""
    directive = {
        "Namespace": namespace,
        "Dimensions": [[DIMENSION]],
        "Metrics": [{"Name": name, "Unit": UNITS[name]} for name in values],
    }
    head = {"Timestamp": round(at_seconds * 1000), "CloudWatchMetrics": [directive]}
    return json.dumps({"_aws": head, DIMENSION: function, **more, **values})
