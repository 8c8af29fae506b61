"""AWS Lambda's entries: name `api/lambda_handlers.records` (or `tick`, `http`) as the handler."""

from jobs.aws import http, records, tick
from jobs.ssm import fill_from_parameters

__all__ = ["http", "records", "tick"]

fill_from_parameters()  # the first call reads the settings
