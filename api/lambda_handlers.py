"""AWS Lambda's entries: name `api.lambda_handlers.records` (or `tick`, `http`) as the handler."""

from jobs.aws import http, records, tick

__all__ = ["http", "records", "tick"]
