"""Calls made up from the OpenAPI document itself: no 500, no answer that it does not tell of."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from jsonschema_rs import validator_for
from schemathesis import GenerationMode

from jobs.http import create_app
from tests.manage.conftest import ADMIN, Office, open_office
from tests.manage.test_map import open_alert

BEARER = {"Authorization": f"Bearer {ADMIN}"}
SHORT, LONG = 6, 60


def stocked() -> Office:
    """With a job in each state, a schedule and a token, so that calls find something."""
    office = open_office()
    tickwork = office.tickwork
    for n in range(3):
        office.failed(n=n)
    tickwork.enqueue("note", {"n": 1}, job_id="mine")
    tickwork.enqueue("note", {"n": 2}, delay=60)
    tickwork.schedules.add("nightly", "0 8 * * *", "note")
    tickwork.schedules.add("hourly", "0 * * * *", "note")
    office.caller("viewer", "a")
    open_alert(office)
    # Made-up calls come faster than people's.
    office.app.extensions["tickwork.access"]._rates._most = 1e9
    office.app.extensions["tickwork.access"]._rates._left.clear()
    return office


def operations() -> list[Any]:
    app = create_app(open_office().tickwork)
    schema = schemathesis.openapi.from_wsgi("/openapi.json", app, headers=BEARER)
    return [each.ok() for each in schema.get_all_operations()]


OPERATIONS = operations()


def aim(case: Any, office: Office, data: st.DataObject) -> None:
    """Call for what is there: made-up names never hit anything."""
    jobs = [job.id for job in office.tickwork.list(limit=100)]
    there = {
        "queue": ["notes", "bad", "all"],
        "job_id": ["mine", *jobs],
        "name": ["nightly", "hourly"],
        "alert": ["depth"],
        "token_id": [token.id for token in office.tickwork.store.tokens()],
    }
    for name in case.path_parameters or {}:
        case.path_parameters[name] = data.draw(st.sampled_from(there[name]))
    if isinstance(case.body, dict) and "kind" in case.body:
        case.body["kind"] = data.draw(st.sampled_from(["note", "card"]))


def exercise(operation: Any, examples: int, mode: GenerationMode = GenerationMode.POSITIVE) -> None:
    office = stocked()
    name = operation.definition.raw["operationId"]

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), real=st.booleans(), data=st.data())
    def call(case: Any, real: bool, data: st.DataObject) -> None:
        operation.schema.app = office.app
        if real:
            aim(case, office, data)
        response = case.call(headers=BEARER, app=office.app)
        assert response.status_code != 500, (name, response.text)
        case.validate_response(response, headers=BEARER, excluded_checks=EXCLUDED)

    call()
    office.tickwork.close()


# What a made-up call that fits must be answered with, this cannot know: names that are not there,
# and rules across fields, are refused with documented answers.
EXCLUDED = [
    schemathesis.checks.positive_data_acceptance,
    # Numbers in other spellings are taken, and a made-up path is replaced by one that is there;
    # what is refused, and with which place, has tests of its own.
    schemathesis.checks.negative_data_rejection,
]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.label)
def test_made_up_calls_get_documented_answers(operation: Any) -> None:
    exercise(operation, SHORT)


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.label)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_many_made_up_calls_get_documented_answers(operation: Any, mode: GenerationMode) -> None:
    exercise(operation, LONG, mode)


def test_the_document_is_openapi_3_1(office: Office) -> None:
    document = office.admin.get("/openapi.json")
    assert document["openapi"] == "3.1.0"
    for schema in document["components"]["schemas"].values():
        validator_for({**schema, "components": document["components"]})
    for path, methods in document["paths"].items():
        for method, each in methods.items():
            assert each["summary"], (method, path)
            assert each["description"].count("Needs the role") == 1


def test_the_page_for_people_names_every_route(office: Office) -> None:
    answer = office.admin("GET", "/api/explorer")
    assert answer.status_code == 200
    assert "<script" not in answer.text
    assert "//" not in answer.text.replace("https://", "").replace("http://", "")
    for path in office.admin.get("/openapi.json")["paths"]:
        assert path in answer.text
