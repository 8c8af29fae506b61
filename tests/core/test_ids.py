"""Ids: UUID version 7, sorted by creation, never the same twice."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest

from jobs.core.ids import new_id, new_ids

ROOT = Path(__file__).parents[2]
SHAPE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def milliseconds(job_id: str) -> int:
    """RFC 9562, section 5.7: the first 48 bits are milliseconds since 1970."""
    return uuid.UUID(job_id).int >> 80


def test_the_shape_is_rfc_9562() -> None:
    for job_id in new_ids(1_000):
        assert SHAPE.fullmatch(job_id)
        read = uuid.UUID(job_id)
        assert str(read) == job_id
        assert read.version == 7
        assert read.variant == uuid.RFC_4122


def test_the_time_is_now() -> None:
    before = time.time_ns() // 1_000_000
    job_id = new_id()
    after = time.time_ns() // 1_000_000

    # A burst of ids may run ahead of nothing, but a clock set back is not followed.
    assert before - 1 <= milliseconds(job_id) <= after + 1


def test_ids_sort_by_creation() -> None:
    made = [new_id() for _ in range(2_000)] + new_ids(2_000) + [new_id() for _ in range(2_000)]

    assert made == sorted(made)
    assert len(set(made)) == len(made)


@pytest.mark.parametrize("count", [0, 1, 2, 257])
def test_as_many_as_asked_for(count: int) -> None:
    assert len(new_ids(count)) == count


def test_a_clock_set_back_does_not_set_back_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    first = new_id()
    back = time.time_ns() - 3_600 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: back)

    later = [new_id() for _ in range(100)]

    assert [first, *later] == sorted({first, *later})


def test_no_two_threads_get_the_same_id() -> None:
    made: list[list[str]] = [[] for _ in range(8)]
    ready = threading.Barrier(len(made))

    def work(own: list[str]) -> None:
        ready.wait()
        for _ in range(300):
            own.append(new_id())
            own.extend(new_ids(3))

    threads = [threading.Thread(target=work, args=(own,)) for own in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert all(own == sorted(own) for own in made), "each thread sees its own in order"
    everything = [job_id for own in made for job_id in own]
    assert len(set(everything)) == len(everything) == 8 * 300 * 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_does_not_repeat_its_parents_ids() -> None:
    """In a process of its own: forking one that runs tests in threads is asking for trouble."""
    program = """
import os
from jobs.core import ids
ids.time.time_ns = lambda: 1_800_000_000 * 10**9  # both sides in the same millisecond
ids.new_id()
reader, writer = os.pipe()
if os.fork() == 0:
    with os.fdopen(writer, "w") as pipe:
        pipe.write("\\n".join(ids.new_ids(500)))
    os._exit(0)
os.close(writer)
own = ids.new_ids(500)
with os.fdopen(reader) as pipe:
    other = pipe.read().split()
os.wait()
assert len(other) == 500
print(len({*own, *other}))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)

    assert run.stdout.strip() == "1000", run.stderr


def test_a_million_ids_are_fast() -> None:
    before = time.perf_counter()
    for _ in range(10):
        made = new_ids(100_000)
        assert made[0] < made[-1]
    each_us = time.perf_counter() - before

    # In microseconds per id; the standard library's uuid4 is the measure of a slow machine.
    before = time.perf_counter()
    for _ in range(10_000):
        str(uuid.uuid4())
    assert each_us < 2 * (time.perf_counter() - before) * 100
