"""AWS: jobs that arrive by SQS, ticks by EventBridge, and the application behind a function URL.

``records``, ``tick`` and ``http`` are what a Lambda function names as its handler; they stand on
the environment's system. :class:`~jobs.aws.consumer.Consumer` is ``records`` around any other.
"""

from jobs.aws.lambdas import http, records, tick

__all__ = ["http", "records", "tick"]
