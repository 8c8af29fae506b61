"""Mail servers, and a system that sends by them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobs.handlers.mail import smtp
from tests.support.certificates import self_signed, serving_tls
from tests.support.postman import Postman, serving

Open = Callable[..., AbstractContextManager[int]]


@pytest.fixture
def postman() -> Postman:
    return Postman()


@pytest.fixture
def open_port(postman: Postman) -> Open:
    """Opens the postman's server; what is pooled is closed before the server is."""

    @contextmanager
    def opened(**options: Any) -> Iterator[int]:
        with serving(postman, **options) as port:
            try:
                yield port
            finally:
                smtp._pool.close_all()

    return opened


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return self_signed(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def plain_port(open_port: Open) -> Iterator[int]:
    with open_port() as port:
        yield port


@pytest.fixture
def starttls_port(open_port: Open, certificate: Path) -> Iterator[int]:
    context = serving_tls(certificate)
    with open_port(tls_context=context, auth_require_tls=True) as port:
        yield port
