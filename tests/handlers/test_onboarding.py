"""The kind `tenant-onboarding`: each step's effect once, whatever ends in between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs import (
    ConfigurationError,
    Continue,
    Discard,
    Job,
    PayloadError,
    Retry,
    Snooze,
    State,
    Tickwork,
)
from jobs.core.clock import ManualClock
from jobs.handlers.onboarding import (
    STEPS,
    Step,
    TenantOnboarding,
    onboarding_step,
    queue_tenant_onboarding,
    tenant_onboarding,
)
from jobs.http import create_app
from tests.handlers import onboarding_steps
from tests.handlers.onboarding_steps import EXIT_CODE, FOLDER, NAMES, effects
from tests.support.crashing import Crasher
from tests.test_crashes import tick_to_the_end

ACME = {
    "organizationName": "Acme Corp",
    "adminEmail": "admin@acme.com",
    "adminName": "John Doe",
    "tier": "professional",
}
ADMIN = "an-admin-token-of-some-length"


@pytest.fixture(autouse=True)
def no_steps() -> Iterator[None]:
    STEPS.clear()
    yield
    STEPS.clear()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def tickwork(clock: ManualClock) -> Iterator[Tickwork]:
    system = Tickwork(
        handlers=["jobs.handlers.onboarding"],
        clock=clock,
        env="production",
        backend="memory",
        admin_token=ADMIN,
    )
    yield system
    system.close()


class Effects(list[str]):
    """What steps did, in order; a step asked to fail does so before or after its effect."""

    def declare(self, *names: str, fail: Callable[[Step], None] | None = None) -> None:
        def do(onboarding: TenantOnboarding, step: Step) -> dict[str, Any]:
            self.append(step.idempotency_key)
            if fail is not None:
                fail(step)
            return {"of": step.name, "before": list(step.results)}

        for name in names:
            onboarding_step(name)(do)


def run(tickwork: Tickwork, clock: ManualClock, job: Job, ticks: int = 10) -> Job:
    """Tick, with time for every backoff in between, until the job has ended."""
    for _ in range(ticks):
        tickwork.tick()
        found = tickwork.get(job.id)
        assert found is not None
        if found.finished_at is not None:
            return found
        clock.advance(3600)
    raise AssertionError("never ended")


def test_steps_run_in_order_and_hand_on_what_they_returned(
    tickwork: Tickwork, clock: ManualClock
) -> None:
    done = Effects()
    done.declare("a", "b", "c")
    job = queue_tenant_onboarding(
        organization_name="Acme Corp",
        admin_email="admin@acme.com",
        admin_name="John Doe",
        tier="professional",
        stripe_customer_id="cus_1",
        tickwork=tickwork,
    )
    assert (job.queue, job.max_attempts) == ("tenant-onboarding", 3)
    assert job.payload == {**ACME, "stripeCustomerId": "cus_1"}

    ended = run(tickwork, clock, job)

    assert done == [f"{job.id}:{name}" for name in "abc"]
    assert ended.result == {
        "organizationName": "Acme Corp",
        "steps": {
            "a": {"of": "a", "before": []},
            "b": {"of": "b", "before": ["a"]},
            "c": {"of": "c", "before": ["a", "b"]},
        },
    }
    assert ended.progress == 100


@pytest.mark.parametrize("failing", NAMES)
def test_a_step_that_fails_is_retried_alone(
    tickwork: Tickwork, clock: ManualClock, failing: str
) -> None:
    done = Effects()

    def fail(step: Step) -> None:
        if step.name == failing and step.attempt < 3:
            raise OSError("billing is away")

    done.declare(*NAMES, fail=fail)
    job = tickwork.enqueue("tenant-onboarding", ACME)
    ended = run(tickwork, clock, job)

    assert ended.state == State.COMPLETED
    assert Counter(done) == {f"{job.id}:{name}": 3 if name == failing else 1 for name in NAMES}
    assert f"step {failing!r}: OSError: billing is away" in str(ended.errors[0])


@pytest.mark.parametrize("failing", [NAMES[0], NAMES[2]])
def test_discard_ends_it_and_names_the_step(
    tickwork: Tickwork, clock: ManualClock, failing: str
) -> None:
    done = Effects()

    def fail(step: Step) -> None:
        if step.name == failing:
            raise Discard("the name is taken")

    done.declare(*NAMES, fail=fail)
    job = tickwork.enqueue("tenant-onboarding", ACME)
    ended = run(tickwork, clock, job)

    assert ended.state == State.FAILED
    assert ended.error is not None
    assert f"step {failing!r}: the name is taken" in ended.error
    assert len(done) == NAMES.index(failing) + 1


def test_steering_of_a_step_keeps_what_is_done(tickwork: Tickwork, clock: ManualClock) -> None:
    done = Effects()
    ways: list[Exception] = [Snooze(5), Retry("soon", after=5), Continue({"x": 1}, after=5)]

    def fail(step: Step) -> None:
        if step.name == "b" and ways:
            raise ways.pop(0)

    done.declare("a", "b", fail=fail)
    job = tickwork.enqueue("tenant-onboarding", ACME)
    ended = run(tickwork, clock, job)

    assert ended.state == State.COMPLETED
    assert ended.attempts == 2
    assert Counter(done) == {f"{job.id}:a": 1, f"{job.id}:b": 4}


def test_what_cannot_be_kept_is_told_with_its_step(tickwork: Tickwork, clock: ManualClock) -> None:
    onboarding_step("big")(lambda onboarding, step: "x" * 5_000)
    onboarding_step("none")(lambda onboarding, step: None)
    ended = run(tickwork, clock, tickwork.enqueue("tenant-onboarding", ACME))
    assert ended.state == State.FAILED
    assert ended.error is not None
    assert "step 'big' ran, but" in ended.error

    onboarding_step("big2")(lambda onboarding, step: None)
    STEPS.clear()
    onboarding_step("big")(lambda onboarding, step: {"id": 1})
    tickwork.retry(ended.id)
    assert run(tickwork, clock, ended).state == State.COMPLETED


def test_without_steps_it_is_a_dead_letter_that_says_so(
    tickwork: Tickwork, clock: ManualClock
) -> None:
    ended = run(tickwork, clock, tickwork.enqueue("tenant-onboarding", ACME))
    assert ended.state == State.FAILED
    assert ended.error is not None
    assert "JOBS_HANDLERS" in ended.error


@pytest.mark.parametrize(
    "wrong",
    [
        {"organizationName": " "},
        {"adminEmail": "nobody"},
        {"adminEmail": "a@b.example, c@d.example"},
        {"tier": 3},
        {"stripeCustomerId": 3},
    ],
    ids=str,
)
def test_a_mistake_is_refused_at_once(tickwork: Tickwork, wrong: dict[str, Any]) -> None:
    with pytest.raises(PayloadError, match=next(iter(wrong))):
        tickwork.enqueue("tenant-onboarding", {**ACME, **wrong})


def test_names_of_steps_are_unique_and_steps_are_plain() -> None:
    onboarding_step("a")(lambda onboarding, step: None)
    with pytest.raises(ConfigurationError, match="there twice"):
        onboarding_step("a")(Effects.declare)  # type: ignore[arg-type]

    async def later(onboarding: TenantOnboarding, step: Step) -> None: ...

    with pytest.raises(ConfigurationError, match="async"):
        onboarding_step("b")(later)
    assert not tenant_onboarding.api  # only its own path is open


def test_the_route(tickwork: Tickwork) -> None:
    client = create_app(tickwork).test_client()
    headers = {"Authorization": f"Bearer {ADMIN}"}

    def post(body: Any) -> Any:
        return client.post("/api/jobs/tenant-onboarding", json=body, headers=headers)

    made = post(ACME)
    assert made.status_code == 201, made.text
    assert made.json["kind"] == "tenant-onboarding"
    assert tickwork.get(made.json["id"]).payload == ACME  # type: ignore[union-attr]
    assert post({**ACME, "adminEmail": "nobody"}).status_code == 422
    assert post({**ACME, "colour": "red"}).status_code == 422
    assert post({**ACME, "organizationName": None}).status_code == 422
    assert client.post("/api/jobs/tenant-onboarding", json=ACME).status_code == 401
    assert len(tickwork.list()) == 1


# --- processes that die


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the processes' steps have their effects."""
    return tmp_path_factory.mktemp("onboarding")


@pytest.fixture(scope="module")
def dying(place: Path) -> Iterator[Crasher]:
    with Crasher({FOLDER: str(place)}) as crasher:
        yield crasher


@pytest.fixture
def durable(place: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tickwork]:
    monkeypatch.setenv(FOLDER, str(place))
    (place / "effects").unlink(missing_ok=True)
    for name in NAMES:
        onboarding_step(name)(onboarding_steps.note_effect)
    system = Tickwork(sqlite_url, handlers=["jobs.handlers.onboarding"], retry_delay=1)
    system.create_schema()
    yield system
    system.close()


SETTINGS = {
    "handlers": ["jobs.handlers.onboarding", "tests.handlers.onboarding_steps"],
    "concurrency": 1,
}


@pytest.mark.parametrize("name", NAMES)
def test_a_runner_that_dies_after_an_effect_repeats_that_step_alone(
    durable: Tickwork, dying: Crasher, sqlite_url: str, place: Path, name: str
) -> None:
    (place / "die-once").write_text(name)
    job = durable.enqueue("tenant-onboarding", ACME)
    log = str(place / "log")
    assert dying.run("tick", url=sqlite_url, log=log, settings=SETTINGS) == EXIT_CODE

    tick_to_the_end(durable)

    assert durable.get(job.id).state == State.COMPLETED  # type: ignore[union-attr]
    assert Counter(effects(place)) == {
        f"{job.id}:{each}": 2 if each == name else 1 for each in NAMES
    }


@pytest.mark.parametrize(
    "step", [17, pytest.param(1, marks=pytest.mark.slow)], ids=["sampled", "every"]
)
def test_a_crash_at_a_statement_repeats_one_step_at_most(
    durable: Tickwork, dying: Crasher, sqlite_url: str, place: Path, step: int
) -> None:
    log = str(place / "log")
    for crash_at in range(1, 400, step):
        durable.clear(force=True)
        (place / "effects").unlink(missing_ok=True)
        job = durable.enqueue("tenant-onboarding", ACME)
        code = dying.run("tick", url=sqlite_url, log=log, crash_at=crash_at, settings=SETTINGS)
        tick_to_the_end(durable)
        ended = durable.get(job.id)
        assert ended is not None
        assert ended.state == State.COMPLETED, crash_at
        assert set(ended.result["steps"]) == set(NAMES)
        counts = Counter(effects(place))
        assert set(counts) == {f"{job.id}:{name}" for name in NAMES}
        assert sorted(counts.values())[:-1] == [1] * (len(NAMES) - 1), (crash_at, counts)
        assert max(counts.values()) <= 2, crash_at
        if code == 0:
            assert crash_at > 30
            return
        assert code == EXIT_CODE
    raise AssertionError("the tick never came to its end")
