"""The job kind `tenant-onboarding`: a new customer's steps, one after the other, each remembered.

    @onboarding_step("create-organization")
    def create_organization(onboarding: TenantOnboarding, step: Step) -> dict[str, str]:
        row = organizations.create(onboarding.organizationName, key=step.idempotency_key)
        return {"organizationId": row.id}

    @onboarding_step("welcome-admin")
    def welcome_admin(onboarding: TenantOnboarding, step: Step) -> None:
        organization_id = step.results["create-organization"]["organizationId"]
        ...

    queue_tenant_onboarding(organization_name="Acme Corp", admin_email="admin@acme.com",
                            admin_name="John Doe", tier="professional")

Steps run in the order in which they were declared. What a step returned is saved with the job
before the next one begins, so a crash, a retry or another tick goes on from there; a step that
fails is retried alone. A runner can die after a step's effect and before that save: the step then
runs once more, with the same `step.idempotency_key`. Each step must know that key again.

The result is `{"organizationName", "steps": {name: what it returned}}`. With this module in
JOBS_HANDLERS, `POST /api/jobs/tenant-onboarding` makes such a job.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Unpack

from jobs.core.backoff import exponential
from jobs.core.codec import encode
from jobs.core.context import JobContext
from jobs.core.errors import ConfigurationError, Continue, Discard, PayloadError, Retry, Steering
from jobs.core.names import check_kind
from jobs.core.registry import handler
from jobs.handlers.errors import HandlerError, MailRefused, PermanentError
from jobs.handlers.mail.message import check_address
from jobs.handlers.queueing import enqueue, from_outside
from jobs.runtime.enqueue import EnqueueOptions

if TYPE_CHECKING:
    from jobs.core.job import Job
    from jobs.core.settings import Settings

QUEUE: Final = "tenant-onboarding"
RESULT_MAX_BYTES: Final = 4_000
"""Of what a step returns: all of them together are saved with the job, which has 100,000."""


@dataclass(frozen=True)
class TenantOnboarding:
    """The payload of the kind; the names are forerunners'."""

    organizationName: str  # noqa: N815
    adminEmail: str  # noqa: N815
    adminName: str  # noqa: N815
    tier: str
    stripeCustomerId: str | None = None  # noqa: N815
    stripeSubscriptionId: str | None = None  # noqa: N815

    def __post_init__(self) -> None:
        for name in ("organizationName", "adminName", "tier"):
            if not getattr(self, name).strip():
                raise PayloadError(f"$.{name}", "is empty")
        try:
            check_address(self.adminEmail, "adminEmail")
        except MailRefused as error:
            raise PayloadError("$.adminEmail", str(error)) from None


@dataclass(frozen=True)
class Step:
    """What a step is given beside the payload.

    name: its own
    idempotency_key: `<job id>:<name>`, the same however often the step runs for this job
    results: what the steps before it returned, by their names
    attempt: of the job, from 1
    """

    name: str
    idempotency_key: str
    results: Mapping[str, Any]
    attempt: int
    _ctx: JobContext

    @property
    def settings(self) -> Settings:
        """The system's settings, to send mail or store files with."""
        return self._ctx.settings

    def checkpoint(self) -> None:
        """A safe place to stop within a long step; raises as `ctx.checkpoint()` does."""
        self._ctx.checkpoint()

    def time_left(self) -> float:
        """Seconds until the job's attempt is given up on."""
        return self._ctx.time_left()


StepFunction = Callable[[TenantOnboarding, Step], Any]


class StepFailed(HandlerError):
    """A step failed; the job's next attempt begins with it."""


class Steps:
    """The steps of a deployment, in order. There is one for the module: `STEPS`."""

    def __init__(self) -> None:
        self._functions: dict[str, StepFunction] = {}

    def add(self, name: str, function: StepFunction) -> None:
        """Put a step at the end. Raises ConfigurationError for a name that is taken."""
        check_kind(name)
        if inspect.iscoroutinefunction(function):
            raise ConfigurationError(f"onboarding step {name!r} is async: write a plain function")
        present = self._functions.get(name)
        # A module imported twice (a reloader, `python -m`) declares the same function again.
        if present is not None and _place(present) != _place(function):
            raise ConfigurationError(
                f"onboarding step {name!r} is there twice: {_place(present)} and {_place(function)}"
            )
        self._functions[name] = function

    def clear(self) -> None:
        """Forget all steps, for tests."""
        self._functions.clear()

    def items(self) -> list[tuple[str, StepFunction]]:
        """Names and functions, in order."""
        return list(self._functions.items())


def _place(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{getattr(function, '__qualname__', repr(function))}"


STEPS: Final = Steps()


def onboarding_step(name: str) -> Callable[[StepFunction], StepFunction]:
    """Declare a function as the next step.

    name: its name, which is what a job remembers it by: do not change it while jobs run
    Returns the decorator. The function takes the payload and a Step, and returns any JSON of up to
    RESULT_MAX_BYTES, or None. It may raise `Retry(after=)`, `Snooze(seconds)`, and `Discard(why)`
    to end the onboarding for good.
    """

    def declare(function: StepFunction) -> StepFunction:
        STEPS.add(name, function)
        return function

    return declare


@handler(
    "tenant-onboarding",
    queue=QUEUE,
    max_attempts=3,
    backoff=exponential(5, factor=5),
    log_context=["organizationName", "tier"],
)
def tenant_onboarding(onboarding: TenantOnboarding, ctx: JobContext) -> dict[str, Any]:
    """Run the steps that are not done yet."""
    steps = STEPS.items()
    if not steps:
        raise Discard(
            "no onboarding step is declared here: name the module with @onboarding_step(...) in "
            "JOBS_HANDLERS, then retry this job"
        )
    results: dict[str, Any] = dict(ctx.state or {})
    ahead = [(name, function) for name, function in steps if name not in results]
    for index, (name, function) in enumerate(ahead):
        if index and ctx.should_stop():
            raise Continue(results)
        ctx.progress(100.0 * (len(steps) - len(ahead) + index) / len(steps), name)
        results[name] = _run(name, function, onboarding, results, ctx)
        ctx.checkpoint(state=results)
    ctx.progress(100, "done")
    done = {name: results[name] for name, _ in steps}
    return {"organizationName": onboarding.organizationName, "steps": done}


def _run(
    name: str,
    function: StepFunction,
    onboarding: TenantOnboarding,
    results: Mapping[str, Any],
    ctx: JobContext,
) -> Any:
    step = Step(name, f"{ctx.job_id}:{name}", dict(results), ctx.attempt, ctx)
    try:
        result = function(onboarding, step)
    except Discard as error:
        raise Discard(f"step {name!r}: {error.reason}") from error
    except Retry as error:
        raise Retry(f"step {name!r}: {error.reason}", after=error.after) from error
    except Continue as error:
        # Its state would take the place of what the job remembers.
        raise Continue(dict(results), after=error.after) from error
    except Steering:
        raise
    except PermanentError as error:
        raise Discard(f"step {name!r}: {error}") from error
    except Exception as error:
        raise StepFailed(f"step {name!r}: {type(error).__name__}: {error}") from error
    try:
        encode(result, RESULT_MAX_BYTES)
    except PayloadError as error:
        raise Discard(
            f"step {name!r} ran, but what it returned cannot be kept ({error}): return ids, and "
            "retry this job"
        ) from error
    return result


# --- producers


class OnboardingOptions(EnqueueOptions, total=False):
    """What `queue_tenant_onboarding` takes: the payload, and the options of `enqueue`."""

    organization_name: str
    admin_email: str
    admin_name: str
    tier: str
    stripe_customer_id: str | None
    stripe_subscription_id: str | None


def queue_tenant_onboarding(
    *, session: Any = None, tickwork: Any = None, **said: Unpack[OnboardingOptions]
) -> Job:
    """Enqueue an onboarding and return its job.

    session: the caller's SQLAlchemy session or connection; the job commits with it or not at all
    tickwork: the system; the one that this module is registered with if not given
    said: the fields of TenantOnboarding in snake case, and the options of `Tickwork.enqueue`
        (`dedupe_key` or `job_id` keep a sign-up sent twice from being two customers)
    Raises PayloadError for a mistake in the fields, ConfigurationError for one in the options.
    """
    return enqueue(tenant_onboarding, said, session=session, tickwork=tickwork)


producers = {
    QUEUE: from_outside(tenant_onboarding, tuple(TenantOnboarding.__dataclass_fields__)),
}
