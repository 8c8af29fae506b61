"""docs/producers.md: each recipe runs as it stands, in a process of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from werkzeug.serving import make_server

from jobs import Job, Tickwork
from jobs.http import create_app
from tests.support.requirements import missing
from tests.support.web import ROOT

PAGE = (ROOT / "docs" / "producers.md").read_text("utf-8")
# By the name in the first line of each.
BLOCKS = dict(re.findall(r"```(?:python|js)\n(?:#|//) (\S+)\n(.*?)```", PAGE, re.DOTALL))
ADMIN = "an-operator-has-a-long-token"


def run(folder: Path, command: list[str], **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environ}
    return subprocess.run(command, cwd=folder, env=kept, capture_output=True, text=True, timeout=60)


@pytest.fixture
def play(tmp_path: Path, sqlite_url: str) -> Callable[[str, str], list[Job]]:
    """Writes a recipe down, runs a program that uses it, and returns the jobs that it made."""

    def played(name: str, program: str) -> list[Job]:
        (tmp_path / name).write_text(BLOCKS[name])
        with closing(Tickwork(sqlite_url)) as tickwork:
            tickwork.create_schema()
            done = run(tmp_path, [sys.executable, "-c", program], DATABASE_URL=sqlite_url)
            assert done.returncode == 0, done.stderr
            return list(tickwork.list())

    return played


FASTAPI = """
import sqlalchemy as sa
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session
import fastapi_shop as shop

with shop.tickwork.engine.begin() as connection:
    connection.execute(sa.text("CREATE TABLE orders (number TEXT)"))
client = TestClient(shop.app, raise_server_exceptions=False)
placed = client.post("/orders/n1")
assert placed.status_code == 201, placed.text
assert shop.tickwork.get(placed.json()["jobId"]).payload == {"number": "n1"}

@sa.event.listens_for(Session, "before_commit")
def break_down(session):
    raise RuntimeError("the last moment")

assert client.post("/orders/n2").status_code == 500
with shop.tickwork.engine.connect() as connection:
    assert connection.scalars(sa.select(shop.orders.c.number)).all() == ["n1"]
"""


@pytest.mark.slow
def test_fastapi(play: Callable[[str, str], list[Job]]) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("httpx")

    assert [job.payload for job in play("fastapi_shop.py", FASTAPI)] == [{"number": "n1"}]


DJANGO = """
import os
import django
from django.conf import settings

path = os.environ["DATABASE_URL"].removeprefix("sqlite:///")
settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": path}})
django.setup()

from django.db import connection, transaction
from django.test import RequestFactory
import django_shop as shop

with connection.cursor() as cursor:
    cursor.execute("CREATE TABLE orders (number TEXT)")
request = RequestFactory().post("/orders")
assert shop.place_order(request, "n1").status_code == 201
try:
    with transaction.atomic():
        shop.place_order(request, "n2")
        raise RuntimeError("the last moment")
except RuntimeError:
    pass
shop.confirm("n1")  # as the schedule would
with connection.cursor() as cursor:
    assert cursor.execute("SELECT number FROM orders").fetchall() == [("n1",)]
"""


@pytest.mark.slow
def test_django(play: Callable[[str, str], list[Job]]) -> None:
    pytest.importorskip("django")

    assert [job.payload for job in play("django_shop.py", DJANGO)] == [{"number": "n1"}]


def test_a_script(play: Callable[[str, str], list[Job]]) -> None:
    twice = "import runpy\nfor _ in range(2): runpy.run_path('nightly.py')"

    assert sorted(job.payload["store"] for job in play("nightly.py", twice)) == ["athens", "koeln"]


# --- over HTTP


@contextmanager
def serving(application: Any) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, application, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        server.server_close()


def javascript(folder: Path, url: str, token: str) -> subprocess.CompletedProcess[str]:
    node = shutil.which("node")
    if node is None:
        missing("node", "the recipe for Next.js needs node (Debian: apt install nodejs)")
    route = BLOCKS["app/api/orders/route.js"].replace("../../../lib/", "./")
    (folder / "jobs.mjs").write_text(BLOCKS["lib/jobs.mjs"])
    (folder / "route.mjs").write_text(f"{route}\nconst saveOrder = async (order) => order;\n")
    (folder / "play.mjs").write_text(
        'import { POST } from "./route.mjs";\n'
        'const request = new Request("http://shop/", '
        '{ method: "POST", body: JSON.stringify({ number: "n1" }) });\n'
        "console.log((await (await POST(request)).json()).jobId);\n"
    )
    return run(folder, [node, "play.mjs"], TICKWORK_URL=url, TICKWORK_TOKEN=token)


def test_nextjs_asks_again_when_an_answer_is_lost(tmp_path: Path, sqlite_url: str) -> None:
    with closing(Tickwork(sqlite_url, admin_token=ADMIN)) as tickwork:
        tickwork.create_schema()
        tickwork.register_handler("confirm-order", lambda payload: None, api=True)
        app = create_app(tickwork)
        inner, asked = app.wsgi_app, []

        def losing_the_first(environ: Any, start: Any) -> Any:
            asked.append(environ["HTTP_IDEMPOTENCY_KEY"])
            answer = inner(environ, start if len(asked) > 1 else lambda *_: None)
            if len(asked) == 1:
                start("502 Bad Gateway", [("Content-Length", "0")])
                return [b""]
            return answer

        app.wsgi_app = losing_the_first  # type: ignore[method-assign]
        with serving(app) as url:
            done = javascript(tmp_path, url, ADMIN)
            refused = javascript(tmp_path, url, "somebody-elses-token")
        (job,) = tickwork.list()

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == job.id
    assert asked[:2] == ["confirm-n1"] * 2
    assert "401" in refused.stderr
    assert len(asked) == 3  # who is refused is not asked again


def test_every_recipe_is_run() -> None:
    assert set(BLOCKS) == {
        "fastapi_shop.py",
        "django_shop.py",
        "nightly.py",
        "lib/jobs.mjs",
        "app/api/orders/route.js",
    }
