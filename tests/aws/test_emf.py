"""The metrics on Lambda's stdout: documents that CloudWatch takes for what they are."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from jobs import ConfigurationError
from jobs.aws import emf
from jobs.core.settings import read_settings
from jobs.runtime.tick import TickResult

ROOT = Path(__file__).parents[2]
UNITS = {
    *("Seconds", "Microseconds", "Milliseconds", "Bytes", "Kilobytes", "Megabytes", "Gigabytes"),
    *("Terabytes", "Bits", "Kilobits", "Megabits", "Gigabits", "Terabits", "Percent", "Count"),
    *("Bytes/Second", "Count/Second", "None"),
}


def sound(line: str) -> dict[str, Any]:
    """The document, held against what CloudWatch's specification asks of one."""
    document: dict[str, Any] = json.loads(line)
    assert isinstance(document, dict)
    assert "\n" not in line
    assert len(line) <= 256_000
    head = document["_aws"]
    assert set(head) == {"Timestamp", "CloudWatchMetrics"}
    assert isinstance(head["Timestamp"], int)
    assert -14 * 86_400_000 <= head["Timestamp"] - time.time() * 1000 <= 2 * 3_600_000
    for directive in head["CloudWatchMetrics"]:
        assert set(directive) == {"Namespace", "Dimensions", "Metrics"}
        assert 1 <= len(directive["Namespace"]) <= 1024
        assert directive["Dimensions"]
        for names in directive["Dimensions"]:
            assert 1 <= len(names) <= 30
            for name in names:
                assert isinstance(document[name], str)
                assert 1 <= len(document[name]) <= 1024
        assert 1 <= len(directive["Metrics"]) <= 100
        for metric in directive["Metrics"]:
            assert set(metric) <= {"Name", "Unit", "StorageResolution"}
            assert metric["Unit"] in UNITS
            value = document[metric["Name"]]
            assert isinstance(value, int | float)
            assert not isinstance(value, bool)
    return document


def values(document: dict[str, Any]) -> dict[str, float]:
    (directive,) = document["_aws"]["CloudWatchMetrics"]
    return {metric["Name"]: document[metric["Name"]] for metric in directive["Metrics"]}


PROGRAM = """
import json, sys
from jobs import Tickwork
from jobs.aws import lambdas

tickwork = Tickwork.from_env()
tickwork.create_schema()

@tickwork.handler("work", max_attempts=2, backoff=[60])
def work(payload):
    if payload["fails"]:
        raise ValueError("no")

tickwork.handler("dies", max_attempts=1)(lambda: 1 / 0)
event = json.loads(sys.argv[1])
"""
IN_LAMBDA = {"AWS_LAMBDA_FUNCTION_NAME": "shop-tick", "JOBS_LOG_FORMAT": "off"}


def lines(tmp_path: Path, program: str, event: object = None, **environ: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + program, json.dumps(event)],
        env={"DATABASE_URL": f"sqlite:///{tmp_path}/jobs.db", **environ},
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_tick_writes_one_document(tmp_path: Path) -> None:
    program = """
tickwork.enqueue_many([("work", {"fails": n % 2}) for n in range(8)])
tickwork.enqueue("dies", priority=1)
lambdas.tick()
"""
    written = lines(tmp_path, program, **IN_LAMBDA, JOBS_BATCH_SIZE="5", JOBS_NAMESPACE="preview-1")
    (line,) = written
    document = sound(line)
    measured = values(document)
    (directive,) = document["_aws"]["CloudWatchMetrics"]

    assert directive["Namespace"] == "Tickwork"
    assert document["FunctionName"] == "shop-tick"
    assert document["JobsNamespace"] == "preview-1"
    assert measured["Processed"] == 5
    assert measured["Failed"] == 1
    assert measured["Succeeded"] + measured["Retried"] == 4
    assert measured["Depth"] == 4
    assert measured["Duration"] > 0


def test_a_batch_of_messages_writes_one_document(tmp_path: Path) -> None:
    program = """
from tests.support.sqs import record
jobs = [tickwork.enqueue("work", {"fails": n == 1}) for n in range(3)]
lambdas.records({"Records": [record({"jobId": job.id}, f"m{n}") for n, job in enumerate(jobs)]})
"""
    (line,) = lines(tmp_path, program, **IN_LAMBDA)
    measured = values(sound(line))

    assert measured.pop("Duration") > 0
    assert measured == {"Processed": 3, "Succeeded": 2, "Failed": 0, "Retried": 1}


@pytest.mark.parametrize(
    "environ",
    [
        {"JOBS_LOG_FORMAT": "off"},
        {**IN_LAMBDA, "JOBS_EMF_NAMESPACE": "off"},
    ],
    ids=["not on Lambda", "switched off"],
)
def test_elsewhere_nothing_is_written(environ: dict[str, str], tmp_path: Path) -> None:
    assert lines(tmp_path, "lambdas.tick()", **environ) == []


def test_a_message_left_to_a_tick_was_tried_all_the_same() -> None:
    assert emf.of_batch({"retried, left to a tick": 2, "retried": 1, "ended": 5}, 1.0) == {
        "Processed": 3,
        "Succeeded": 0,
        "Failed": 0,
        "Retried": 3,
        "Duration": 1.0,
    }


def test_every_metric_has_a_unit() -> None:
    assert set(emf.of_tick(TickResult())) | set(emf.of_batch({}, 0)) == set(emf.UNITS)


@pytest.mark.parametrize("name", [":jobs", "AWS/Lambda", "a b", "x" * 256])
def test_a_namespace_that_cloudwatch_refuses_is_refused_here(name: str) -> None:
    with pytest.raises(ConfigurationError, match="JOBS_EMF_NAMESPACE"):
        read_settings({"JOBS_ENV": "development", "JOBS_EMF_NAMESPACE": name})
