"""Secrets named in the environment are read from a Parameter Store over HTTP."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from jobs.core.errors import ConfigurationError
from jobs.core.settings import read_settings
from jobs.ssm import fill_from_parameters
from tests.support.servers import free_port
from tests.support.web import ROOT

SECRET = "correct-horse-battery-staple"
URL = "postgresql://shop:hush-hush@db.example/shop"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    started = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    started.start()
    host, port = started.get_host_and_port()
    yield f"http://{host}:{port}"
    started.stop()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")


@pytest.fixture
def ssm(server: str, aws: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", server)
    client = boto3.session.Session().client("ssm")
    yield client
    reset = urllib.request.Request(f"{server}/moto-api/reset", method="POST")  # noqa: S310
    urllib.request.urlopen(reset).close()  # noqa: S310 - loopback
    client.close()


def put(ssm: Any, name: str, value: str) -> None:
    ssm.put_parameter(Name=name, Value=value, Type="SecureString", Overwrite=True)


def test_what_is_named_is_filled_and_nothing_else_is_touched(ssm: Any) -> None:
    put(ssm, "/shop/prod/database-url", URL)
    put(ssm, "/shop/prod/cron-secret", SECRET)
    environ = {
        "DATABASE_URL": "ssm:/shop/prod/database-url",
        "CRON_SECRET": "  ssm:/shop/prod/cron-secret ",
        "JOBS_HANDLERS": "shop.tasks",
        "SHOP_MOTTO": "look for ssm:/shop/motto",
    }

    assert fill_from_parameters(environ) == ("CRON_SECRET", "DATABASE_URL")
    assert environ == {
        "DATABASE_URL": URL,
        "CRON_SECRET": SECRET,
        "JOBS_HANDLERS": "shop.tasks",
        "SHOP_MOTTO": "look for ssm:/shop/motto",
    }
    settings = read_settings(environ)
    assert (settings.database_url, settings.cron_secret) == (URL, SECRET)
    assert fill_from_parameters(environ) == ()


def test_the_process_s_own_environment_is_the_default(
    ssm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(ssm, "cron-secret", SECRET)
    monkeypatch.setenv("CRON_SECRET", "ssm:cron-secret")

    fill_from_parameters()

    assert read_settings(backend="memory", env="development").cron_secret == SECRET


def test_more_than_one_call_s_worth_and_one_parameter_twice(ssm: Any) -> None:
    environ = {}
    for number in range(23):
        put(ssm, f"/shop/{number}", f"value-{number}")
        environ[f"SHOP_{number}"] = f"ssm:/shop/{number}"
    environ["SHOP_AGAIN"] = "ssm:/shop/7"

    assert len(fill_from_parameters(environ)) == 24
    assert environ == {f"SHOP_{n}": f"value-{n}" for n in range(23)} | {"SHOP_AGAIN": "value-7"}


def test_every_missing_parameter_is_named_and_nothing_is_filled(ssm: Any) -> None:
    put(ssm, "/shop/there", SECRET)
    environ = {"A": "ssm:/shop/there", "B": "ssm:/shop/gone", "C": "ssm:/shop/lost"}

    with pytest.raises(ConfigurationError) as caught:
        fill_from_parameters(environ)

    first, second = caught.value.problems
    assert first.startswith("B: there is no SSM parameter '/shop/gone' in eu-central-1;")
    assert first.endswith("put-parameter --type SecureString --name /shop/gone --value ...")
    assert second.startswith("C: ")
    assert SECRET not in str(caught.value)
    assert environ["A"] == "ssm:/shop/there"


@pytest.mark.parametrize("value", ["ssm:", "ssm://shop", "ssm:/shop/", "ssm:/a b", "ssm:/a:3"])
def test_what_is_no_name_is_refused_before_anybody_is_asked(value: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^DATABASE_URL: ssm:"):
        fill_from_parameters({"DATABASE_URL": value})


def test_a_store_out_of_reach_is_told_as_such(aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", f"http://127.0.0.1:{free_port()}")

    with pytest.raises(ConfigurationError) as caught:
        fill_from_parameters({"CRON_SECRET": "ssm:/shop/prod/cron-secret"})

    (problem,) = caught.value.problems
    assert problem.startswith("CRON_SECRET (ssm:/shop/prod/cron-secret): cannot read")
    assert "NAT gateway" in problem


def test_without_a_region_the_region_is_asked_for(
    aws: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))

    with pytest.raises(ConfigurationError, match=r"CRON_SECRET .* must specify a region"):
        fill_from_parameters({"CRON_SECRET": "ssm:/shop/prod/cron-secret"})


def test_a_role_that_may_not_is_told_what_to_allow(
    server: str, aws: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """moto checks permissions from the first request on when it is told to."""
    iam = boto3.session.Session().client("iam", endpoint_url=server)
    iam.create_user(UserName="function")
    key = iam.create_access_key(UserName="function")["AccessKey"]
    iam.close()
    _check_permissions_after(server, 0)
    try:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
        monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", server)

        with pytest.raises(ConfigurationError, match="give the function's role ssm:GetParameters"):
            fill_from_parameters({"CRON_SECRET": "ssm:/shop/prod/cron-secret"})
    finally:
        _check_permissions_after(server, float("inf"))


def _check_permissions_after(server: str, requests: float) -> None:
    call = urllib.request.Request(  # noqa: S310 - loopback
        f"{server}/moto-api/reset-auth",
        data=str(requests).encode(),
        headers={"Content-Type": "text/plain"},
        method="POST",
    )
    urllib.request.urlopen(call).close()  # noqa: S310 - loopback


def test_without_a_name_to_look_up_boto3_stays_away() -> None:
    program = (
        "import sys; from jobs.ssm import fill_from_parameters; "
        "print(fill_from_parameters({'A': 'b'}), 'boto3' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)

    assert run.stdout.split() == ["()", "False"], run.stderr
