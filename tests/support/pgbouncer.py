"""A real PgBouncer in transaction mode: what the pooled URLs of serverless PostgreSQL are like."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import make_url

from tests.support import postgresql
from tests.support.servers import home, running

# `*` lets every database of the server through, those made for a single test included. Two server
# connections for each are few enough that clients do have to share them.
CONFIGURATION = """\
[databases]
* = host={host} port={port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = transaction
default_pool_size = 2
max_client_conn = 200
server_round_robin = 1
"""


class PgbouncerMissingError(Exception):
    """No PgBouncer program on this machine."""


@contextmanager
def server(postgresql_url: str) -> Iterator[str]:
    """Run a PgBouncer before the server of `postgresql_url`; yields the URL through it.

    Raises:
        PgbouncerMissingError: it is not installed.
        ServerError: it is installed and does not start.
    """
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"
    program = shutil.which("pgbouncer", path=path)
    if program is None:
        raise PgbouncerMissingError("found no pgbouncer; install it to run behind a pooler")
    behind = make_url(postgresql_url)
    with home("pgbouncer") as place:
        quoted = [(text or "").replace('"', '""') for text in (behind.username, behind.password)]
        users = place.write("users", '"{}" "{}"\n'.format(*quoted))

        def command(port: int) -> list[str | Path]:
            text = CONFIGURATION.format(
                host=behind.host, port=behind.port or 5432, own_port=port, users=users
            )
            return [program, place.write("pgbouncer.ini", text)]

        def answers(port: int) -> None:
            postgresql.connect(behind.set(host="127.0.0.1", port=port)).close()

        with running(place, command, answers) as port:
            pooled = behind.set(host="127.0.0.1", port=port)
            yield pooled.render_as_string(hide_password=False)


def pooled(url: str, pooler_url: str) -> str:
    """The database of ``url``, reached through the pooler."""
    through = make_url(pooler_url).set(database=make_url(url).database)
    return through.render_as_string(hide_password=False)
