"""The three handlers of a deployment on Lambda. What one needs is loaded for that one alone."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from jobs.aws import emf
from jobs.aws.consumer import Consumer, room_seconds, seconds_left
from jobs.core.deadline import start_seconds
from jobs.core.errors import ConfigurationError
from jobs.ops import sentry
from jobs.system import Tickwork


def records(event: object, context: Any = None) -> dict[str, Any]:
    """For an SQS trigger with ``ReportBatchItemFailures``: run the jobs that messages name.

    Returns ``{"batchItemFailures": [{"itemIdentifier": messageId}, ...]}``, and never raises for
    what a message says. Raises :class:`~jobs.core.errors.ConfigurationError` if the environment
    describes no system.
    """
    return _consumer().handle(event, context)


def tick(event: object = None, context: Any = None) -> dict[str, Any]:
    """For an EventBridge schedule: one run of the loop within this invocation's time.

    Returns the tick's answer, as over HTTP. Raises only if the tick itself failed, for alarms to
    see; jobs that fail are counted in the answer.
    """
    tickwork = Tickwork.from_env()
    left = seconds_left(tickwork.settings, context)
    starts = start_seconds(left, room_seconds(tickwork.settings))
    try:
        result = tickwork.tick(time_budget=starts, tick_limit=left, trigger="cron")
    finally:
        sentry.flush()
    emf.write(emf.of_tick(result), tickwork.settings, at_seconds=tickwork.clock.now().timestamp())
    return result.as_dict()


def http(event: dict[str, Any], context: Any = None) -> dict[str, Any]:
    """For a function URL or an HTTP API (payload format 2.0): the application."""
    return _application()(event, context)


@functools.cache
def _consumer() -> Consumer:
    return Consumer(Tickwork.from_env())


@functools.cache
def _application() -> Callable[[dict[str, Any], Any], dict[str, Any]]:
    try:
        from apig_wsgi import make_lambda_handler  # late: the two others need neither
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "the application behind a function URL needs apig-wsgi: pip install 'tickwork[aws]'"
        ) from error
    from jobs.http import create_app

    return make_lambda_handler(create_app(Tickwork.from_env()))
