"""Secrets of a function on AWS: the environment names SSM parameters, a cold start reads them.

In the process's own environment ``DATABASE_URL=ssm:/shop/prod/database-url`` becomes that
parameter's decrypted value, before the settings are read. So a secret stands neither in a template
nor in the function's configuration.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, MutableMapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING

from jobs.core.errors import ConfigurationError

if TYPE_CHECKING:
    from mypy_boto3_ssm import SSMClient

PREFIX = "ssm:"
BATCH = 10  # names in one GetParameters call
# The init phase of a function ends after ten seconds; an answer takes a few hundredths of one.
TIMEOUT_SECONDS = 2.0
TRIES = 2
_NAME = re.compile(r"/?[A-Za-z0-9_.\-]+(/[A-Za-z0-9_.\-]+)*")


def fill_from_parameters(environ: MutableMapping[str, str] | None = None) -> tuple[str, ...]:
    """Replace every ``ssm:<name>`` in ``environ`` (the process's by default) by that parameter.

    Returns the names of the variables that were filled; with none to fill, boto3 is not loaded. All
    are filled or none. Region and credentials are those of the process: on Lambda, the function's.

    Raises :class:`~jobs.core.errors.ConfigurationError` naming every variable whose parameter is
    missing or misspelt, or saying why none could be read. Values are in no message.
    """
    environ = os.environ if environ is None else environ
    names = _named(environ)
    if not names:
        return ()
    values = _read(sorted(set(names.values())), names)
    problems = [
        f"{variable}: there is no SSM parameter {name!r} in {_region()}; make it with: aws ssm "
        f"put-parameter --type SecureString --name {name} --value ..."
        for variable, name in names.items()
        if name not in values
    ]
    if problems:
        raise ConfigurationError(problems)
    environ.update({variable: values[name] for variable, name in names.items()})
    return tuple(names)


def _named(environ: Mapping[str, str]) -> dict[str, str]:
    """Variable -> the parameter that it names."""
    named = {
        variable: value.strip().removeprefix(PREFIX)
        for variable, value in sorted(environ.items())
        if value.strip().startswith(PREFIX)
    }
    problems = [
        f"{variable}: {PREFIX}{name} is not {PREFIX} and the name of a parameter, as in "
        f"{PREFIX}/shop/prod/database-url"
        for variable, name in named.items()
        if not _NAME.fullmatch(name)
    ]
    if problems:
        raise ConfigurationError(problems)
    return named


def _read(parameters: Sequence[str], names: Mapping[str, str]) -> dict[str, str]:
    """The parameters' values, by the names asked for; those that are not there are left out."""
    from botocore.exceptions import BotoCoreError, ClientError  # late: only AWS needs it

    values: dict[str, str] = {}
    try:
        client = _client()
        for first in range(0, len(parameters), BATCH):
            answer = client.get_parameters(
                Names=parameters[first : first + BATCH], WithDecryption=True
            )
            values |= {found["Name"]: found["Value"] for found in answer["Parameters"]}
    except (BotoCoreError, ClientError) as error:
        raise ConfigurationError(_unreadable(error, names)) from error
    return values


def _client() -> SSMClient:
    import boto3
    from botocore.config import Config

    return boto3.session.Session().client(
        "ssm",
        region_name=os.environ.get("AWS_REGION"),  # boto3 itself reads AWS_DEFAULT_REGION only
        config=Config(
            connect_timeout=TIMEOUT_SECONDS,
            read_timeout=TIMEOUT_SECONDS,
            retries={"total_max_attempts": TRIES, "mode": "standard"},
        ),
    )


def _unreadable(error: Exception, names: Mapping[str, str]) -> str:
    from botocore.exceptions import ConnectionError as NoConnection
    from botocore.exceptions import HTTPClientError

    answer = getattr(error, "response", {})
    code = answer.get("Error", {}).get("Code", "")
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if code.startswith("AccessDenied") or status == HTTPStatus.FORBIDDEN:
        mend = (
            "give the function's role ssm:GetParameters on exactly these parameters, and "
            "kms:Decrypt if they are encrypted with a key of your own"
        )
    elif code:
        mend = f"AWS says {code}"
    elif isinstance(error, (NoConnection, HTTPClientError)):
        mend = (
            f"{type(error).__name__}; a function inside a VPC reaches SSM through a NAT gateway or "
            "an interface endpoint for ssm"
        )
    else:  # no region, no credentials: its text says so
        mend = str(error)
    listed = ", ".join(f"{variable} ({PREFIX}{name})" for variable, name in names.items())
    return f"{listed}: cannot read from the SSM Parameter Store: {mend}"


def _region() -> str:
    return (
        os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "the region in use"
    )
