"""Real processes that run a tick, and may die in it or live by a wrong clock.

A zygote that has everything imported forks one child per scenario: a fresh process in a few
milliseconds, with no thread or connection inherited.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[2]


class Crasher:
    """Starts children of the zygote; a scenario is a function of `tests.support.scenarios`.

    ``environment`` holds variables for the zygote, and so for its children.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = {**os.environ, **(environment or {})}

    def __enter__(self) -> Self:
        self._zygote = subprocess.Popen(
            [sys.executable, "-m", "tests.support.crashing"],
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._alive: set[int] = set()
        return self

    def _ask(self, **question: Any) -> int:
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        self._zygote.stdin.write(json.dumps(question) + "\n")
        self._zygote.stdin.flush()
        answer = self._zygote.stdout.readline()
        assert answer, "the zygote has died"
        return int(answer)

    def start(self, scenario: str, **arguments: Any) -> int:
        """The process id of a child that runs the scenario."""
        pid = self._ask(scenario=scenario, arguments=arguments)
        self._alive.add(pid)
        return pid

    def freeze(self, pid: int) -> None:
        """Stop it where it stands; on return it really does.

        The signal is only sent by then: on a busy machine its threads may run on for a while.
        """
        os.kill(pid, signal.SIGSTOP)
        threads = Path(f"/proc/{pid}/task")
        deadline = time.monotonic() + 30
        while any(_state(each) != "T" for each in threads.glob("*/stat")):
            if time.monotonic() > deadline:
                raise TimeoutError("it does not stop")
            time.sleep(0.001)

    def wait(self, pid: int) -> int:
        """Its exit code; the negative number of the signal that ended it."""
        self._alive.discard(pid)
        return self._ask(wait=pid)

    def run(self, scenario: str, **arguments: Any) -> int:
        """Run a scenario to its end; its exit code."""
        return self.wait(self.start(scenario, **arguments))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for pid in list(self._alive):
            os.kill(pid, signal.SIGKILL)
            self.wait(pid)
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        self._zygote.stdin.close()
        self._zygote.wait(10)
        self._zygote.stdout.close()


def _state(status: Path) -> str:
    """The letter for what a thread does; that of a stopped one if it has gone."""
    try:
        return status.read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "T"


def _serve() -> None:
    scenarios = importlib.import_module("tests.support.scenarios")
    for line in sys.stdin:
        question = json.loads(line)
        if "wait" in question:
            answer = os.waitstatus_to_exitcode(os.waitpid(question["wait"], 0)[1])
        elif answer := os.fork():
            pass
        else:
            _be_child(getattr(scenarios, question["scenario"]), question["arguments"])
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def _be_child(scenario: Any, arguments: dict[str, Any]) -> None:
    code = 1
    try:
        # The zygote's pipes are not the child's to read or keep open.
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        scenario(**arguments)
        code = 0
    except BaseException:  # noqa: BLE001 - whatever it was, the child ends here
        traceback.print_exc()
    finally:
        os._exit(code)


if __name__ == "__main__":
    _serve()
