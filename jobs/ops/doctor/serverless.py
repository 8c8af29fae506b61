"""``serverless.yml``: the queue against the function that is fed from it."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jobs.core.settings import Settings
from jobs.ops.doctor.base import Family, Finding, Surroundings, error, note, warning

DEFAULT_TIMEOUT_SECONDS = 6
DEFAULT_VISIBILITY_SECONDS = 30
DEFAULT_RETENTION_SECONDS = 4 * 86_400
VISIBILITY_TIMES = 6
LEAST_RECEIVES = 5
RECEIVES_OVER_ATTEMPTS = 10
_FILES = ("serverless.yml", "serverless.yaml")
_SECRETS = re.compile(r"DATABASE_URL|SECRET|TOKEN|PASSWORD|API_KEY")
_PLAIN = re.compile(r"\$\{(?:env|ssm|opt|param):|://[^/\s:]*:[^@\s]+@")
# What holds where the environment says nothing.
_DEFAULTS = Settings()


@dataclass
class _Fed:
    """A function that SQS feeds: its name, its timeout, its event, and its queue if it is here."""

    name: str
    timeout: float | None
    event: Mapping[str, Any]
    queue_name: str
    queue: Mapping[str, Any] | None


def readable(around: Surroundings) -> Iterator[Finding]:
    """A file that cannot be looked at."""
    if _path(around) is None:
        return
    if importlib.util.find_spec("yaml") is None:
        yield note(
            "serverless-unread",
            "serverless.yml was not looked at: PyYAML is not installed",
            "pip install pyyaml, and ask again",
        )
        return
    try:
        _read(around)
    except ValueError as failure:
        yield error("serverless-unreadable", str(failure), "mend the YAML")


def queues(around: Surroundings) -> Iterator[Finding]:
    """Visibility, partial batches and the dead-letter queue of each queue that feeds a function."""
    document = _document(around)
    for fed in _fed(document):
        yield from _batches(fed)
        if fed.queue is not None:
            yield from _visibility(fed, fed.queue)
            yield from _redrive(around, document, fed, fed.queue)


def _batches(fed: _Fed) -> Iterator[Finding]:
    if fed.event.get("functionResponseType") != "ReportBatchItemFailures":
        yield error(
            "partial-batch-off",
            f"function {fed.name!r} in serverless.yml takes batches without functionResponseType: "
            "its answer about single messages is ignored, and the whole batch deleted",
            "add functionResponseType: ReportBatchItemFailures to its sqs event",
        )


def _visibility(fed: _Fed, queue: Mapping[str, Any]) -> Iterator[Finding]:
    visibility = _number(queue.get("VisibilityTimeout", DEFAULT_VISIBILITY_SECONDS))
    window = _number(fed.event.get("maximumBatchingWindow", 0)) or 0
    if visibility is None or fed.timeout is None:
        return
    if visibility < fed.timeout:
        yield error(
            "visibility-below-timeout",
            f"queue {fed.queue_name} hides messages for {visibility:g} s, less than the "
            f"{fed.timeout:g} s that function {fed.name!r} may take: AWS refuses this",
            f"set its VisibilityTimeout to {VISIBILITY_TIMES * fed.timeout + window:g}",
        )
    elif visibility < VISIBILITY_TIMES * fed.timeout + window:
        yield warning(
            "visibility-short",
            f"queue {fed.queue_name} hides messages for {visibility:g} s; with a function timeout "
            f"of {fed.timeout:g} s, messages that wait for a throttled function come back too soon",
            f"set its VisibilityTimeout to {VISIBILITY_TIMES * fed.timeout + window:g} (six times "
            "the timeout, and the batching window)",
        )


def _redrive(
    around: Surroundings, document: Mapping[str, Any], fed: _Fed, queue: Mapping[str, Any]
) -> Iterator[Finding]:
    policy = queue.get("RedrivePolicy")
    if not isinstance(policy, Mapping):
        yield warning(
            "redrive-missing",
            f"queue {fed.queue_name} has no dead-letter queue: a message that nobody can read "
            "comes back until it expires",
            "add a RedrivePolicy with a queue of its own",
        )
        return
    receives = _number(policy.get("maxReceiveCount"))
    wanted = _most_attempts(around) + RECEIVES_OVER_ATTEMPTS
    if receives is not None and receives < LEAST_RECEIVES:
        yield error(
            "receive-count-low",
            f"queue {fed.queue_name} gives messages up after {receives:g} receives; throttled ones "
            "count, too, and so does every retry and every wait",
            f"set maxReceiveCount to {wanted} or more: attempts are counted in the rows",
        )
    elif receives is not None and receives < wanted:
        yield warning(
            "receive-count-low",
            f"queue {fed.queue_name} gives messages up after {receives:g} receives, but a healthy "
            f"job may need {wanted}",
            f"set maxReceiveCount to {wanted} or more: attempts are counted in the rows",
        )
    name = _referred(policy.get("deadLetterTargetArn"))
    dead = _resource(document, name)
    if dead is None:
        return
    kept = _number(dead.get("MessageRetentionPeriod", DEFAULT_RETENTION_SECONDS))
    source = _number(queue.get("MessageRetentionPeriod", DEFAULT_RETENTION_SECONDS))
    if kept is not None and source is not None and kept <= source:
        yield warning(
            "dead-letter-retention",
            f"queue {name} keeps messages for {kept / 86_400:g} days and {fed.queue_name} for "
            f"{source / 86_400:g}: their age counts from the first send, so they may be gone at "
            "once",
            f"set MessageRetentionPeriod of {name} to 1209600 (14 days)",
        )
    if bool(dead.get("FifoQueue")) != bool(queue.get("FifoQueue")):
        yield error(
            "dead-letter-type",
            f"{fed.queue_name} and its dead-letter queue {name} are not of the same type",
            "make both FIFO, or neither",
        )


def throttling(around: Surroundings) -> Iterator[Finding]:
    """Reserved concurrency under the mapping's: it throttles, and throttled receives count."""
    document = _document(around)
    for fed in _fed(document):
        function = _mapping(_mapping(document.get("functions")).get(fed.name))
        reserved = _number(function.get("reservedConcurrency"))
        at_once = _number(fed.event.get("maximumConcurrency"))
        if reserved is not None and (at_once is None or reserved < at_once):
            yield warning(
                "reserved-concurrency",
                f"function {fed.name!r} has a reservedConcurrency of {reserved:g} below what its "
                "queue may call at once: what is throttled counts as received",
                "set maximumConcurrency in its sqs event to that number or less",
            )


def time_limits(around: Surroundings) -> Iterator[Finding]:
    """Whether a function's tick limit is within its timeout, and its time budget within both."""
    document = _document(around)
    for name, function in _mapping(document.get("functions")).items():
        timeout = _timeout(document, _mapping(function))
        said = _environment(document, _mapping(function))
        given, budget = _number(said.get("JOBS_TICK_LIMIT")), _number(said.get("JOBS_TIME_BUDGET"))
        # Over HTTP nobody tells the tick how long it has; the others ask Lambda.
        by_http = any({"httpApi", "http"} & each.keys() for each in _events(_mapping(function)))
        by_http = by_http or bool(_mapping(function).get("url"))
        limit = given if given is not None or "JOBS_TICK_LIMIT" in said else _DEFAULTS.tick_limit
        if timeout is not None and limit is not None and limit > timeout and (by_http or given):
            sentence = (
                f"function {name!r} has JOBS_TICK_LIMIT {limit:g} s, but Lambda kills it after "
                f"{timeout:g} s"
            )
            mend = f"set JOBS_TICK_LIMIT to {timeout:g} for it, or raise the timeout"
            if by_http:
                sentence += ": jobs are started that it kills, and wait for their leases"
                yield error("limit-over-timeout", sentence, mend)
            else:
                yield note("limit-over-timeout", f"{sentence}, and it goes by that", mend)
        starts = _DEFAULTS.time_budget if "JOBS_TIME_BUDGET" not in said else budget
        if limit is not None and starts is not None and starts >= limit:
            yield error(
                "budget-over-limit",
                f"function {name!r} has JOBS_TICK_LIMIT {limit:g} s and starts jobs for "
                f"{starts:g} s (JOBS_TIME_BUDGET): it refuses to start",
                f"set JOBS_TIME_BUDGET to {round(limit * 2 / 3):g} for it",
            )


def _environment(document: Mapping[str, Any], function: Mapping[str, Any]) -> dict[str, Any]:
    shared = _mapping(_mapping(document.get("provider")).get("environment"))
    return {**shared, **_mapping(function.get("environment"))}


def ticks(around: Surroundings) -> Iterator[Finding]:
    """Whether a schedule calls a function, and repeats it in vain."""
    document = _document(around)
    functions = _mapping(document.get("functions"))
    if not functions:
        return
    scheduled = {
        name: _mapping(function)
        for name, function in functions.items()
        if any("schedule" in event for event in _events(_mapping(function)))
    }
    if not scheduled:
        yield warning(
            "cron-missing",
            "serverless.yml has no function with a schedule: delayed jobs, retries and lost "
            "messages wait for a tick that does not come",
            "add a function with the event schedule: rate(1 minute) that runs a tick",
        )
    for name, function in scheduled.items():
        if _number(function.get("maximumRetryAttempts", 2)):
            yield note(
                "tick-retried",
                f"Lambda repeats a failed call of {name!r} twice, though the schedule calls it "
                "again anyway",
                "set maximumRetryAttempts: 0",
            )


def plain_secrets(around: Surroundings) -> Iterator[Finding]:
    """Secrets that a deployment writes into its template."""
    document = _document(around)
    functions = _mapping(document.get("functions"))
    named: set[str] = set()
    for where in (document.get("provider"), *functions.values()):
        for name, value in _mapping(_mapping(where).get("environment")).items():
            if _SECRETS.search(str(name)) and isinstance(value, str) and _PLAIN.search(value):
                named.add(str(name))
    if named:
        yield warning(
            "secret-in-template",
            f"serverless.yml writes {', '.join(sorted(named))} into the CloudFormation template as "
            "plain text",
            "name an SSM parameter instead: ssm:/path/of/it (see docs/deploy/aws.md)",
        )


def _fed(document: Mapping[str, Any]) -> Iterator[_Fed]:
    for name, function in _mapping(document.get("functions")).items():
        function = _mapping(function)
        for each in _events(function):
            event = each.get("sqs")
            if event is None:
                continue
            event = event if isinstance(event, Mapping) else {"arn": event}
            queue = _referred(event.get("arn"))
            yield _Fed(
                str(name), _timeout(document, function), event, queue, _resource(document, queue)
            )


def _events(function: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    events = function.get("events")
    listed = events if isinstance(events, list) else []
    return [each for each in listed if isinstance(each, Mapping)]


def _timeout(document: Mapping[str, Any], function: Mapping[str, Any]) -> float | None:
    default = _mapping(document.get("provider")).get("timeout", DEFAULT_TIMEOUT_SECONDS)
    return _number(function.get("timeout", default))


def _resource(document: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    resources = _mapping(_mapping(document.get("resources")).get("Resources"))
    found = _mapping(resources.get(name))
    if found.get("Type") != "AWS::SQS::Queue":
        return None
    return _mapping(found.get("Properties"))


def _referred(value: Any) -> str:
    """The resource that ``!GetAtt Queue.Arn`` speaks of, in any of its spellings."""
    if isinstance(value, Mapping):
        value = value.get("Fn::GetAtt")
    if isinstance(value, list) and value:
        return str(value[0])
    return value.partition(".")[0] if isinstance(value, str) else ""


def _number(value: Any) -> float | None:
    """A number, also as text; ``None`` for a variable that only a deployment resolves."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    return None if isinstance(value, bool) or not isinstance(value, int | float) else value


def _most_attempts(around: Surroundings) -> int:
    default = 3 if around.settings is None else around.settings.max_attempts
    registry = around.registry
    said = [] if registry is None else [registry.get(k).max_attempts for k in registry.kinds]
    return max([default, *(attempts for attempts in said if attempts)])


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _path(around: Surroundings) -> Any:
    return next((p for name in _FILES if (p := around.folder / name).is_file()), None)


def _read(around: Surroundings) -> Mapping[str, Any]:
    path = _path(around)
    if path is None or importlib.util.find_spec("yaml") is None:
        return {}
    yaml: Any = importlib.import_module("yaml")  # only where it is: a deployment needs none

    def plain(loader: Any, _suffix: str, node: Any) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return loader.construct_scalar(node)
        if isinstance(node, yaml.SequenceNode):
            return loader.construct_sequence(node, deep=True)
        return loader.construct_mapping(node, deep=True)

    # Takes CloudFormation's `!GetAtt` and the like for what they are given.
    loader: Any = type("Loader", (yaml.SafeLoader,), {})
    loader.add_multi_constructor("!", plain)
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), loader)
    except yaml.YAMLError as failure:
        at = getattr(failure, "problem_mark", None)
        where = "" if at is None else f" (line {at.line + 1})"
        # Without the text around the place, which may hold a secret.
        raise ValueError(f"{path.name} cannot be read as YAML{where}") from None
    if not isinstance(document, Mapping):
        raise ValueError(f"{path.name} is not a mapping")
    return document


def _document(around: Surroundings) -> Mapping[str, Any]:
    try:
        return _read(around)
    except ValueError:  # said by `readable`
        return {}


FAMILY = Family("serverless", (readable, queues, throttling, time_limits, ticks, plain_secrets))
