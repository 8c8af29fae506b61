"""`serverless.yml` as the real tools read it: the CloudFormation template is what gets deployed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.node import run

ROOT = Path(__file__).parents[2]
CONFIG = (ROOT / "serverless.yml").read_text("utf-8")
FUNCTIONS = {"records": "Records", "tick": "Tick", "http": "Http"}
SECRET = "correct-horse-battery-staple"
TEMPLATE = "cloudformation-template-update-stack.json"

Template = dict[str, Any]


# What needs no tool.


def test_the_functions_are_there() -> None:
    named = re.findall(r"handler: (\S+)", CONFIG)
    # Lambda's runtime reads a slash before the last dot as a dot.
    asked = "; ".join(
        f"assert callable(importlib.import_module({module.replace('/', '.')!r}).{name})"
        for module, _, name in (each.rpartition(".") for each in named)
    )
    done = subprocess.run([sys.executable, "-c", f"import importlib; {asked}"], cwd=ROOT)

    assert named == [f"api/lambda_handlers.{name}" for name in FUNCTIONS]
    assert done.returncode == 0


def test_the_runtime_is_the_one_that_is_packed_for() -> None:
    (packed,) = re.findall(
        r"^PYTHON_LAMBDA \?= (\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE
    )

    assert f"runtime: python{packed} " in CONFIG


def test_no_key_is_one_that_a_single_tool_knows() -> None:
    for key in ("frameworkVersion", "build", "stages", "plugins", "org", "app", "licenseKey"):
        assert not re.search(rf"^{key}:", CONFIG, re.MULTILINE), key


# What the tools make of it.


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as a tool sees it, with a secret in the environment and in a file."""
    folder = tmp_path_factory.mktemp("service")
    (folder / "serverless.yml").write_text(CONFIG)
    (folder / ".env").write_text(f"DATABASE_URL=postgresql://shop:{SECRET}@db.example/shop\n")
    (folder / "build").mkdir()
    with zipfile.ZipFile(folder / "build" / "lambda.zip", "w") as artifact:
        artifact.writestr("api/lambda_handlers.py", "records = tick = http = print\n")
    return folder


def package(tool: str, folder: Path, home: Path, *options: str) -> Template:
    """The template for stage `prod`, made by one of the tools."""
    out = home / "out"
    run(
        *(tool, "package", "--stage", "prod", "--package", str(out), *options),
        folder=folder,
        home=home,
        environ={
            "JOBS_HANDLERS": "shop.tasks",
            "CRON_SECRET": SECRET,
            "DATABASE_URL": f"postgresql://shop:{SECRET}@db.example/shop",
        },
    )
    read: Template = json.loads((out / TEMPLATE).read_text())
    # The one thing that changes from run to run: the artifact's place, with the time in it.
    for each in read["Resources"].values():
        each["Properties"].get("Code", {}).pop("S3Key", None)
    return read


@pytest.fixture(scope="module")
def template(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Template:
    return package("osls", packed, tmp_path_factory.mktemp("osls"))


@pytest.fixture(scope="module")
def resources(template: Template) -> dict[str, Any]:
    found: dict[str, Any] = template["Resources"]
    return found


def properties(resources: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = resources[name]["Properties"]
    return found


def of_type(resources: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    return {
        name: each["Properties"]
        for name, each in resources.items()
        if each["Type"] == f"AWS::{kind}"
    }


@pytest.mark.slow
def test_both_tools_make_the_same_of_it(
    template: Template, packed: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Version 3 warns of a runtime younger than itself, and packages all the same."""
    assert package("serverless", packed, tmp_path_factory.mktemp("serverless")) == template


@pytest.mark.slow
def test_the_template_is_sound(template: Template, tmp_path: Path) -> None:
    file = tmp_path / "template.json"
    file.write_text(json.dumps(template))
    # W3005: the tools name dependencies that a reference implies already.
    command = [Path(sys.executable).with_name("cfn-lint"), "--ignore-checks", "W3005", "--", file]
    done = subprocess.run(command, capture_output=True, text=True)

    assert (done.stdout, done.returncode) == ("", 0)


@pytest.mark.slow
def test_no_secret_is_in_it(template: Template, packed: Path) -> None:
    text = json.dumps(template)

    assert SECRET not in text
    assert "resolve:" not in text
    for function in of_type(template["Resources"], "Lambda::Function").values():
        variables = function["Environment"]["Variables"]
        assert variables["DATABASE_URL"] == "ssm:/tickwork/prod/database-url"
        assert variables["CRON_SECRET"] == "ssm:/tickwork/prod/cron-secret"


@pytest.mark.slow
def test_the_functions_have_their_settings(resources: dict[str, Any]) -> None:
    functions = of_type(resources, "Lambda::Function")

    assert sorted(functions) == sorted(f"{name}LambdaFunction" for name in FUNCTIONS.values())
    for name, logical in FUNCTIONS.items():
        function = functions[f"{logical}LambdaFunction"]
        variables = function["Environment"]["Variables"]
        assert function["Handler"] == f"api/lambda_handlers.{name}"
        assert function["Architectures"] == ["x86_64"]
        assert variables["JOBS_TICK_LIMIT"] == str(function["Timeout"])
        assert variables["JOBS_HANDLERS"] == "shop.tasks"
        assert variables["JOBS_BACKEND"] == "sqs"
        assert variables["SQS_QUEUE_URL"] == {"Ref": "JobsQueue"}
    assert functions["HttpLambdaFunction"]["Timeout"] < 30  # an HTTP API gives up then


@pytest.mark.slow
def test_the_queue_hides_messages_for_six_times_the_function_s_timeout(
    resources: dict[str, Any],
) -> None:
    queue = properties(resources, "JobsQueue")
    function = properties(resources, "RecordsLambdaFunction")
    mapping = properties(resources, "RecordsEventSourceMappingSQSJobsQueue")
    window = mapping.get("MaximumBatchingWindowInSeconds", 0)

    assert function["Timeout"] <= 900
    assert queue["VisibilityTimeout"] >= 6 * function["Timeout"] + window
    assert queue["VisibilityTimeout"] <= 43_200
    assert queue["SqsManagedSseEnabled"] is True


@pytest.mark.slow
def test_failed_messages_are_reported_one_by_one(resources: dict[str, Any]) -> None:
    mapping = properties(resources, "RecordsEventSourceMappingSQSJobsQueue")

    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": 10}
    assert mapping["BatchSize"] == 10
    assert mapping["EventSourceArn"] == {"Fn::GetAtt": ["JobsQueue", "Arn"]}
    # Reserved concurrency would throttle, and throttled receives count.
    assert "ReservedConcurrentExecutions" not in properties(resources, "RecordsLambdaFunction")


@pytest.mark.slow
def test_what_nobody_can_read_ends_in_the_dead_letter_queue(resources: dict[str, Any]) -> None:
    queue = properties(resources, "JobsQueue")
    redrive = queue["RedrivePolicy"]
    dead = properties(resources, "DeadLetterQueue")

    assert redrive["deadLetterTargetArn"] == {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}
    assert 100 <= redrive["maxReceiveCount"] <= 1000
    assert dead["MessageRetentionPeriod"] == 14 * 86_400
    # It must get there while it lives, and the age counts from the first send.
    all_looks = redrive["maxReceiveCount"] * queue["VisibilityTimeout"]
    assert all_looks < queue["MessageRetentionPeriod"] < dead["MessageRetentionPeriod"]


@pytest.mark.slow
def test_a_tick_comes_every_minute_and_is_never_repeated(resources: dict[str, Any]) -> None:
    (rule,) = of_type(resources, "Events::Rule").values()
    (invoking,) = of_type(resources, "Lambda::EventInvokeConfig").values()

    assert (rule["ScheduleExpression"], rule["State"]) == ("rate(1 minute)", "ENABLED")
    assert [target["Arn"] for target in rule["Targets"]] == [
        {"Fn::GetAtt": ["TickLambdaFunction", "Arn"]}
    ]
    assert invoking["FunctionName"] == {"Ref": "TickLambdaFunction"}
    assert invoking["MaximumRetryAttempts"] == 0
    assert invoking["MaximumEventAgeInSeconds"] == 60


def statements(resources: dict[str, Any], role: str) -> Iterator[dict[str, Any]]:
    """What a role allows, by its own policies and the managed ones it names."""
    policies = [each["PolicyDocument"] for each in properties(resources, role)["Policies"]]
    for managed in properties(resources, role)["ManagedPolicyArns"]:
        policies.append(properties(resources, managed["Ref"])["PolicyDocument"])
    for policy in policies:
        for statement in policy["Statement"]:
            assert statement["Effect"] == "Allow"
            yield {
                key: value if isinstance(value, list) else [value]
                for key, value in statement.items()
            }


@pytest.mark.slow
@pytest.mark.parametrize("logical", FUNCTIONS.values())
def test_a_role_may_do_no_more_than_its_function_does(
    logical: str, resources: dict[str, Any]
) -> None:
    function = properties(resources, f"{logical}LambdaFunction")
    allowed = list(statements(resources, f"{logical}Role"))
    actions = {action for statement in allowed for action in statement["Action"]}
    everything = {"logs:CreateLogStream", "logs:PutLogEvents", "ssm:GetParameters"}
    everything |= {"sqs:SendMessage"}
    if logical == "Records":
        everything |= {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}
        everything |= {"sqs:ChangeMessageVisibility"}

    assert function["Role"] == {"Fn::GetAtt": [f"{logical}Role", "Arn"]}
    assert actions == everything
    for statement in allowed:
        service = statement["Action"][0].split(":")[0]
        for resource in statement["Resource"]:
            # By reference, or by a name that is written out; a log group's own ARN ends in `:*`.
            assert "*" not in json.dumps(resource)
            if service == "logs":
                assert resource == {"Fn::GetAtt": [f"{logical}LogGroup", "Arn"]}
            elif service == "sqs":
                assert resource == {"Fn::GetAtt": ["JobsQueue", "Arn"]}
            else:
                assert re.fullmatch(
                    r"arn:\S+:ssm:\S+:parameter/tickwork/prod/[a-z-]+", resource["Fn::Sub"]
                )


@pytest.mark.slow
def test_the_parameters_that_are_named_may_be_read(resources: dict[str, Any]) -> None:
    variables = properties(resources, "TickLambdaFunction")["Environment"]["Variables"]
    named = {
        value.removeprefix("ssm:")
        for value in variables.values()
        if isinstance(value, str) and value.startswith("ssm:")
    }
    readable = {
        resource["Fn::Sub"].partition(":parameter")[2]
        for statement in statements(resources, "TickRole")
        if statement["Action"] == ["ssm:GetParameters"]
        for resource in statement["Resource"]
    }

    assert named == readable != set()


@pytest.mark.slow
def test_no_role_is_made_beside_ours(resources: dict[str, Any]) -> None:
    assert sorted(of_type(resources, "IAM::Role")) == ["HttpRole", "RecordsRole", "TickRole"]
    assert sorted(of_type(resources, "IAM::ManagedPolicy")) == ["JobsPolicy"]
    for role in of_type(resources, "IAM::Role").values():
        (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert trust["Principal"] == {"Service": "lambda.amazonaws.com"}


@pytest.mark.slow
def test_the_application_stands_behind_an_http_api_that_is_throttled(
    resources: dict[str, Any],
) -> None:
    (route,) = of_type(resources, "ApiGatewayV2::Route").values()
    (integration,) = of_type(resources, "ApiGatewayV2::Integration").values()
    (stage,) = of_type(resources, "ApiGatewayV2::Stage").values()

    assert route["RouteKey"] == "$default"
    assert integration["PayloadFormatVersion"] == "2.0"
    assert integration["IntegrationUri"] == {"Fn::GetAtt": ["HttpLambdaFunction", "Arn"]}
    assert 0 < stage["DefaultRouteSettings"]["ThrottlingRateLimit"] <= 100
    assert of_type(resources, "Lambda::Url") == {}


@pytest.mark.slow
def test_logs_are_kept_for_a_month(resources: dict[str, Any]) -> None:
    groups = of_type(resources, "Logs::LogGroup")

    assert {group["RetentionInDays"] for group in groups.values()} == {30}
    assert sorted(groups) == sorted(f"{name}LogGroup" for name in FUNCTIONS.values())


ALARMS = {
    "DeadLetterAlarm": ("AWS/SQS", "ApproximateNumberOfMessagesVisible", "notBreaching"),
    "OldestMessageAlarm": ("AWS/SQS", "ApproximateAgeOfOldestMessage", "notBreaching"),
    "TicksMissingAlarm": ("AWS/Lambda", "Invocations", "breaching"),
    "TicksFailingAlarm": ("AWS/Lambda", "Errors", "notBreaching"),
}
WATCHED = {
    "DeadLetterAlarm": {"Fn::GetAtt": ["DeadLetterQueue", "QueueName"]},
    "OldestMessageAlarm": {"Fn::GetAtt": ["JobsQueue", "QueueName"]},
    "TicksMissingAlarm": {"Ref": "TickLambdaFunction"},
    "TicksFailingAlarm": {"Ref": "TickLambdaFunction"},
}


@pytest.mark.slow
def test_the_alarms_watch_the_dead_the_old_and_the_missing(resources: dict[str, Any]) -> None:
    alarms = of_type(resources, "CloudWatch::Alarm")
    assert {
        name: (each["Namespace"], each["MetricName"], each["TreatMissingData"])
        for name, each in alarms.items()
    } == ALARMS
    assert {name: each["Dimensions"][0]["Value"] for name, each in alarms.items()} == WATCHED

    missing = alarms["TicksMissingAlarm"]
    assert missing["ComparisonOperator"] == "LessThanThreshold"
    # A tick a minute: a period without any is longer than one that is late.
    assert (missing["Threshold"], missing["Statistic"], missing["Period"]) == (1, "Sum", 300)
    dead = alarms["DeadLetterAlarm"]
    assert (dead["ComparisonOperator"], dead["Threshold"]) == ("GreaterThanThreshold", 0)


@pytest.mark.slow
def test_the_alarms_go_to_a_topic_if_one_is_named(
    template: Template, packed: Path, tmp_path: Path
) -> None:
    topic = "arn:aws:sns:eu-central-1:123456789012:oncall"
    other = package("osls", packed, tmp_path, "--param", f"alarmTopicArn={topic}")

    assert template["Parameters"]["AlarmTopicArn"]["Default"] == ""
    assert other["Parameters"]["AlarmTopicArn"]["Default"] == topic
    for alarm in of_type(template["Resources"], "CloudWatch::Alarm").values():
        actions = {"Fn::If": ["HasAlarmTopic", [{"Ref": "AlarmTopicArn"}], {"Ref": "AWS::NoValue"}]}
        assert alarm["AlarmActions"] == alarm["OKActions"] == actions


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["osls", "serverless"])
def test_without_handlers_nothing_is_deployed(tool: str, packed: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"provider\.environment\.JOBS_HANDLERS"):
        run(tool, "package", folder=packed, home=tmp_path)


@pytest.mark.slow
def test_the_architecture_is_a_parameter(packed: Path, tmp_path: Path) -> None:
    made = package("osls", packed, tmp_path, "--param", "architecture=arm64")

    for function in of_type(made["Resources"], "Lambda::Function").values():
        assert function["Architectures"] == ["arm64"]
