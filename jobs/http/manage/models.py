"""What the management API reads and answers, as pydantic models; OpenAPI is made of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from jobs.core.errors import LONGEST_DELAY_SECONDS

PAGE_MAX, PAGE = 200, 50
BullState = Literal["waiting", "active", "completed", "failed", "delayed", "paused", "cancelled"]
StoredState = Literal["pending", "processing", "completed", "failed", "cancelled"]
Seconds = Annotated[float, Field(ge=0, le=LONGEST_DELAY_SECONDS, allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:@+-]{0,99}$")]
Text = Annotated[str, Field(min_length=1, max_length=200)]
Tenant = Annotated[str, Field(max_length=100, description="Whose; for access to all tenants.")]
Reason = Annotated[str, Field(max_length=500, description="Why; kept in the audit log.")]
Cursor = Annotated[str, Field(max_length=36, description="`next_cursor` of the page before.")]
Limit = Annotated[int, Field(ge=1, le=PAGE_MAX)]
Attempts = Annotated[int, Field(ge=1, le=100_000)]


class Asked(BaseModel):
    """Input: an unknown field is refused, so that a misspelt one is not ignored."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class Told(BaseModel):
    """Output: later versions may add fields."""

    model_config = ConfigDict(extra="allow")


# -- jobs ------------------------------------------------------------------------------------------


class TenantQuery(Asked):
    tenant: Tenant | None = None


class ListQuery(TenantQuery):
    status: BullState | None = None
    kind: Name | None = None
    error: Text | None = Field(None, description="Text that the last error holds.")
    limit: Limit = PAGE
    cursor: Cursor | None = None


class NewJobBody(Asked):
    kind: Name = Field(validation_alias=AliasChoices("kind", "type"))
    payload: dict[str, Any] = Field({}, validation_alias=AliasChoices("payload", "data"))
    queue: Name | None = None
    delay: Seconds | None = Field(None, description="Seconds from now.")
    run_at: AwareDatetime | None = None
    priority: int | None = Field(None, ge=1, le=5, description="1 goes first.")
    dedupe_key: Text | None = None
    dedupe_window: Seconds | None = None
    max_attempts: Attempts | None = None
    timeout: Annotated[float, Field(gt=0, le=7 * 86_400, allow_inf_nan=False)] | None = None
    expires_in: Seconds | None = None
    concurrency_key: Text | None = None
    job_id: Text | None = Field(None, description="A name of the caller's own, unique.")
    tenant: Tenant | None = None

    @model_validator(mode="before")
    @classmethod
    def one_spelling(cls, given: Any) -> Any:
        """Two spellings of a field at once leave open which is meant."""
        if isinstance(given, dict):
            for own, other in (("kind", "type"), ("payload", "data")):
                if own in given and other in given:
                    raise ValueError(f"{own} and {other} are the same: send one of them")
        return given


class RetryBody(Asked):
    run_at: AwareDatetime | None = None
    attempts: Attempts | None = None
    force: bool = Field(False, description="A completed job as well.")
    reason: Reason | None = None


class ReasonBody(Asked):
    reason: Reason | None = None


class BulkFilter(Asked):
    state: StoredState
    kind: Name | None = None
    error: Text | None = None
    older_than: Seconds | None = Field(
        None, description="Seconds since they ended, or since they were enqueued."
    )
    tenant: Tenant | None = None


class BulkBody(Asked):
    action: Literal["retry", "cancel", "delete"]
    filter: BulkFilter
    confirm: str | None = Field(
        None, max_length=64, description="As the count answered; without it, jobs are counted."
    )
    attempts: Attempts | None = None
    per_second: float | None = Field(None, gt=0, le=1e6, description="Spread retries over time.")
    reason: Reason | None = None


class JobTold(Told):
    id: str
    kind: str
    queue: str
    tenant: str
    state: StoredState
    status: str = Field(description="In Bull's words: waiting, active, delayed, ...")
    shown_state: str
    payload: dict[str, Any]
    result: Any
    error: str | None
    errors: list[dict[str, Any]]
    attempts: int
    max_attempts: int
    priority: int
    progress: float
    created_at: str
    run_at: str
    started_at: str | None
    finished_at: str | None


class CreatedTold(JobTold):
    existing: bool


class JobsTold(Told):
    jobs: list[JobTold]
    next_cursor: str | None


class WhyTold(Told):
    id: str
    state: str
    claimable: bool
    reason: str
    sentence: str
    mend: str
    reasons: list[dict[str, Any]]


class BulkTold(Told):
    action: str
    count: int
    done: bool
    confirm: str | None = None
    more: bool | None = Field(
        None, description="There are more: the oldest 100,000 are changed at once."
    )


# -- overviews -------------------------------------------------------------------------------------


class StateCounts(Told):
    waiting: int
    active: int
    completed: int
    failed: int
    delayed: int
    paused: int
    more: bool | None = Field(
        None, description="Told where a state has more than the 10,000 jobs that are counted."
    )


class QueueCounts(StateCounts):
    total: int


class MonitoringData(Told):
    queues: dict[str, StateCounts]
    totals: StateCounts


class MonitoringTold(Told):
    success: Literal[True]
    data: MonitoringData


class FailedJob(Told):
    id: str
    data: dict[str, Any]
    failedReason: str | None  # noqa: N815 - forerunners' answer
    attemptsMade: int  # noqa: N815


class QueueData(Told):
    queueName: str  # noqa: N815
    stats: StateCounts
    failedJobs: list[FailedJob]  # noqa: N815


class QueueTold(Told):
    success: Literal[True]
    data: QueueData


class MeTold(Told):
    name: str
    role: Literal["viewer", "operator", "admin"]
    tenant: str | None


class KindTold(Told):
    kind: str
    queue: str
    api: bool
    payload_schema: dict[str, Any] | None


class KindsTold(Told):
    kinds: list[KindTold]


# -- queues ----------------------------------------------------------------------------------------


class ActionQuery(TenantQuery):
    action: Literal["pause", "resume", "empty", "clean"] | None = None


class CleanBody(Asked):
    grace: float | None = Field(
        None,
        ge=0,
        le=LONGEST_DELAY_SECONDS * 1000,
        allow_inf_nan=False,
        description="Milliseconds: what ended later stays. By default a day, failed ones a week.",
    )
    status: Literal["completed", "failed", "cancelled"] = "completed"
    reason: Reason | None = None
    tenant: Tenant | None = None


class RetryFailedBody(Asked):
    queueName: Name  # noqa: N815 - forerunners' body
    jobId: Annotated[str, Field(min_length=1, max_length=200)] | None = None  # noqa: N815


class ActedTold(Told):
    success: Literal[True]


class QueueSettingsBody(Asked):
    max_attempts: Attempts | None = None
    timeout: float | None = Field(None, gt=0, le=7 * 86_400, allow_inf_nan=False)
    priority: int | None = Field(None, ge=1, le=5)
    max_concurrency: int | None = Field(None, ge=1, le=1_000_000)
    rate_limit: str | None = Field(None, max_length=40, description="As in 100/s, 10/m, 3/10s.")
    concurrency_in_process: int | None = Field(None, ge=1, le=1_000_000)

    @model_validator(mode="after")
    def something(self) -> QueueSettingsBody:
        """A change changes something; ``null`` takes a setting back."""
        if not self.model_fields_set:
            raise ValueError("name a setting")
        return self


class QueueSettingsTold(Told):
    queue: str
    paused: bool
    counts: QueueCounts | None
    settings: dict[str, Any]


class QueuesTold(Told):
    queues: list[QueueSettingsTold]


class LimitsTold(Told):
    limits: list[dict[str, Any]]


class BreakerBody(Asked):
    name: Annotated[str, Field(min_length=1, max_length=230)]


class AlertTold(Told):
    name: str
    subject: str | None
    level: Literal["ok", "warning", "alert"]
    since: str
    detail: str
    acknowledged_by: str | None
    acknowledged_at: str | None


class AlertsTold(Told):
    alerts: list[AlertTold]


class AlertsQuery(Asked):
    all: bool = Field(False, description="Those of the last week that are over as well.")


class AcknowledgeBody(ReasonBody):
    subject: Annotated[str, Field(max_length=100)] | None = Field(
        None, description="Only that of this queue or kind; without it, all of the rule."
    )


class AcknowledgedTold(ActedTold):
    name: str
    acknowledged: int


# -- schedules -------------------------------------------------------------------------------------


class ScheduleFields(Asked):
    cron: Text | None = None
    every: Annotated[float, Field(gt=0, le=LONGEST_DELAY_SECONDS, allow_inf_nan=False)] | None = (
        Field(None, description="Seconds.")
    )
    at: AwareDatetime | None = None
    start: AwareDatetime | None = None
    timezone: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    missed: Annotated[str, Field(max_length=20)] | None = None
    jitter: Seconds | None = None
    queue: Name | None = None
    priority: int | None = Field(None, ge=1, le=5)
    max_attempts: Attempts | None = None
    timeout: float | None = Field(None, gt=0, le=7 * 86_400, allow_inf_nan=False)
    expires_in: Seconds | None = None
    tenant: Tenant | None = None


class NewScheduleBody(ScheduleFields):
    name: Name
    kind: Name
    payload: dict[str, Any] = {}


class EditScheduleBody(ScheduleFields):
    kind: Name | None = None
    payload: dict[str, Any] | None = None


class NextQuery(TenantQuery):
    count: int = Field(5, ge=1, le=100)


class ScheduleTold(Told):
    name: str
    tenant: str
    kind: str
    rule: str
    words: str
    enabled: bool
    next_at: str | None


class SchedulesTold(Told):
    schedules: list[ScheduleTold]


class NextTold(Told):
    words: str
    slots: list[str]


class RemovedTold(Told):
    removed: str


# -- access ----------------------------------------------------------------------------------------


class NewTokenBody(Asked):
    role: Literal["viewer", "operator", "admin"]
    tenant: Tenant | None = None
    all_tenants: bool = False
    name: Text | None = None
    expires_in: Annotated[float, Field(gt=0, le=LONGEST_DELAY_SECONDS)] | None = Field(
        None, description="Seconds; without it, until it is revoked."
    )


class TokenTold(Told):
    id: str
    name: str
    role: str
    tenant: str | None
    state: str


class NewTokenTold(TokenTold):
    token: str = Field(description="Told this once.")


class TokensTold(Told):
    tokens: list[TokenTold]


class AuditQuery(TenantQuery):
    by: Text | None = None
    action: Text | None = None
    subject: Annotated[str, Field(min_length=1, max_length=500)] | None = None
    limit: Limit = PAGE
    cursor: Cursor | None = None


class ChangeTold(Told):
    id: str
    at: str
    by: str
    action: str
    subject: str
    tenant: str | None
    count: int
    reason: str | None


class AuditTold(Told):
    changes: list[ChangeTold]
    next_cursor: str | None


class Problem(Told):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
