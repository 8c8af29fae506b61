"""The house has floors: a file imports only from below, or from what stands before it on its own.

The imports are read and not run, those inside functions and behind `TYPE_CHECKING` included: a late
import is for an optional package of somebody else, never for going up a floor.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

CORE = ("core",)
STORAGE = (*CORE, "stores", "doorbells")
BELOW_SYSTEM = (*STORAGE, "runtime", "ops", "handlers")
# `jobs` is what `import jobs` gives: the facade in `jobs/__init__.py`.
BELOW_HTTP = (*BELOW_SYSTEM, "system", "choosing", "managing", "jobs")
BELOW_TOP = (*BELOW_HTTP, "http")

# What stands directly in `jobs/`, from the bottom up, with the floors it may import from.
MAY_IMPORT = {
    "core": (),
    "stores": CORE,
    "doorbells": CORE,
    "runtime": STORAGE,
    "ops": (*STORAGE, "runtime"),
    "handlers": (*STORAGE, "runtime", "ops"),
    "parts": (*STORAGE, "runtime"),
    "scheduling": (*STORAGE, "runtime", "parts"),
    "steering": (*BELOW_SYSTEM, "parts"),
    "measuring": (*STORAGE, "runtime", "parts"),
    "alarms": (*BELOW_SYSTEM, "parts"),
    "system": (*BELOW_SYSTEM, "alarms", "parts", "scheduling", "steering", "measuring"),
    "choosing": (*BELOW_SYSTEM, "system"),
    "managing": (*BELOW_SYSTEM, "system", "choosing"),
    "jobs": (*CORE, "system"),
    "http": BELOW_HTTP,
    "testing": BELOW_HTTP,
    "ssm": CORE,
    "aws": (*BELOW_TOP, "ssm"),
    "cli": (*BELOW_TOP, "aws", "demo"),
    "demo": (*BELOW_TOP, "testing", "aws"),
    "__main__": ("cli",),
}

# The order on a floor where there is one. A name not listed may stand anywhere, as long as it makes
# no circle and is no detour from an earlier file to a later one.
ORDER = {
    "jobs.core": (
        *("errors", "names", "clock", "ids", "codec", "job", "keys", "backoff", "payload"),
        *("access", "sealed", "redact"),
        *(
            "flow",
            "limits",
            "chain",
            "settings",
            "mailing",
            "deadline",
            "masking",
            "loglines",
            "context",
        ),
        *("enqueuer", "registry"),
        *("schedule", "shown", "cron", "slots", "queues", "presets", "controls", "steps", "group"),
        *(
            "measure",
            "look",
            "rules",
            "alerts",
            "store",
            "outcome",
            "ring",
            "doorbell",
            "events",
            "delivery",
        ),
    ),
    "jobs.stores.memory": (
        *("rows", "keys", "limits", "schedules", "groups", "base"),
        *("controls", "people", "timetable", "upkeep", "records", "alerting", "access", "store"),
    ),
    "jobs.stores.sql": (
        *("tables", "dialects", "lines", "engine", "rowlist", "lanes", "texts", "upkeep_texts"),
        *("statements", "rows", "claim", "limits", "bulk", "sessions", "inspect", "schema"),
        *("writer", "claiming", "attempts", "rings", "chains", "schedules", "controls", "keys"),
        *("edits", "commits", "transaction"),
        *("groups", "ticks", "base", "browse", "reading", "browsing", "records", "enqueueing"),
        *("steering", "upkeep", "alerting", "access", "store"),
    ),
    "jobs.stores.sql.limits": ("wanted", "rows", "usage", "breakers", "turns"),
    "jobs.runtime": (
        *("tracing", "loop", "gate", "terms", "recorder", "pulse", "base", "ring", "unique"),
        *("enqueue", "chains", "groups", "settle", "breakers", "run", "execute", "record"),
        *("schedules", "timetable", "upkeep", "apart", "steer", "give_up", "alerts", "watch"),
        *("tick", "chain", "drain", "deliver", "trouble", "stream", "worker", "local"),
    ),
    "jobs.handlers.mail": (
        *("message", "attach", "render", "transport"),
        *("pool", "smtp", "ses", "resend", "outbox", "send", "deliver"),
    ),
    "jobs.aws": ("event", "emf", "queue", "consumer", "lambdas", "source", "redrive"),
}

NEVER = ("api", "benchmarks", "examples", "tests")  # outside the wheel

HEAVY = (
    *("alembic", "boto3", "botocore", "flask", "opentelemetry", "pydantic", "rich", "sentry_sdk"),
    "sqlalchemy.orm",
)


@dataclass
class House:
    """The modules of one package and what each imports of it, by full name."""

    imports: dict[str, set[str]] = field(default_factory=dict)
    outside: dict[str, set[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, package: Path) -> House:
        files = {_module_name(package, path): path for path in sorted(package.rglob("*.py"))}
        house = cls()
        for module, path in files.items():
            is_package = path.name == "__init__.py"
            tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
            named = set(_imported(tree, module, is_package=is_package, known=files))
            inside = {name for name in named if name.split(".")[0] == package.name}
            house.imports[module] = {_owner(name, files) for name in inside} - {module}
            house.outside[module] = {name.split(".")[0] for name in named - inside}
        return house

    def reach(self, module: str, through: frozenset[str]) -> set[str]:
        """What `module` imports, also by way of the modules in `through`."""
        seen: set[str] = set()
        ahead = list(self.imports[module])
        while ahead:
            target = ahead.pop()
            if target not in seen:
                seen.add(target)
                if target in through:
                    ahead.extend(self.imports.get(target, ()))
        return seen


def _module_name(package: Path, path: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(
    tree: ast.AST, module: str, *, is_package: bool, known: dict[str, Path]
) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                around = module.split(".")
                kept = len(around) - node.level + is_package
                base = ".".join([*around[:kept], *([base] if base else [])])
            # `from jobs.core import errors` names a module; `from jobs.core.errors import X` no.
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield whole if whole in known else base
        elif isinstance(node, ast.Call):
            yield from _imported_by_name(node)


def _imported_by_name(call: ast.Call) -> Iterator[str]:
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if name in {"import_module", "__import__"} and call.args:
        target = call.args[0]
        if isinstance(target, ast.Constant) and isinstance(target.value, str):
            yield target.value


def _owner(name: str, known: dict[str, Path]) -> str:
    """The module that holds `name`: itself, or the nearest one above it."""
    while name not in known and "." in name:
        name = name.rpartition(".")[0]
    return name


def _floor(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def floor_breaches(house: House) -> list[str]:
    """Imports that go up a floor, or across to a neighbour."""
    breaches = []
    for module, imports in house.imports.items():
        floor = _floor(module)
        if floor not in MAY_IMPORT:
            breaches.append(f"{module} has no floor: give {floor!r} one in MAY_IMPORT")
            continue
        breaches += [
            f"{module} imports {target}, but {floor} may import from"
            f" {', '.join(MAY_IMPORT[floor]) or 'nothing of ours'} only"
            for target in sorted(imports)
            if _floor(target) not in (floor, *MAY_IMPORT[floor])
        ]
        breaches += [
            f"{module} imports {target}, which is not in the wheel"
            for target in sorted(house.outside[module].intersection(NEVER))
        ]
    return breaches


def order_breaches(house: House) -> list[str]:
    """Imports from a file that stands later on the same floor."""
    breaches = []
    for package, names in ORDER.items():
        listed = {f"{package}.{name}": place for place, name in enumerate(names)}

        def step(module: str, package: str = package, listed: dict[str, int] = listed) -> str:
            """The listed file or folder that `module` is, or lies in."""
            inside = module.removeprefix(f"{package}.").split(".")[0]
            name = f"{package}.{inside}"
            return name if name in listed else ""

        within = [name for name in house.imports if name.startswith(f"{package}.")]
        unlisted = frozenset([*(name for name in within if not step(name)), package])
        for module in within:
            own = step(module)
            if not own:
                continue
            breaches += [
                f"{module} leads to {target}, which stands after it in {package}:"
                " turn the import round, or mend ORDER if the drawing is wrong"
                for target in sorted(house.reach(module, unlisted))
                if target.startswith(f"{package}.")
                and step(target)
                and listed[step(target)] > listed[own]
            ]
    return breaches


def circle(house: House) -> list[str]:
    """A circle of imports, if there is one."""
    try:
        TopologicalSorter(house.imports).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


@pytest.fixture(scope="module")
def house() -> House:
    read = House.read(ROOT / "jobs")
    assert read.imports, "found no module in jobs/: these tests would pass on nothing"
    return read


def test_nothing_imports_from_a_higher_floor(house: House) -> None:
    assert floor_breaches(house) == []


def test_nothing_imports_from_what_stands_after_it(house: House) -> None:
    assert order_breaches(house) == []


def test_no_imports_go_in_a_circle(house: House) -> None:
    assert circle(house) == []


def test_the_floors_agree_with_each_other() -> None:
    """Whoever may be imported stands lower, so that MAY_IMPORT itself has no circle."""
    assert set(TopologicalSorter(MAY_IMPORT).static_order()) == set(MAY_IMPORT)


def test_import_jobs_is_light() -> None:
    """A cold start pays for every import; these are loaded when something needs them."""
    program = "import jobs, sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    loaded = set(run.stdout.split())

    assert "jobs" in loaded, run.stderr
    assert sorted(loaded.intersection(HEAVY)) == []


# What the reader of imports must see. Each house is written to a folder and read like the real one.

BREACHES = {
    "up": {"core/retry.py": "from jobs.runtime import tick", "runtime/tick.py": ""},
    "up inside a function": {
        "ops/why.py": "def why():\n    from jobs.http.app import create_app",
        "http/app.py": "",
    },
    "up for types": {
        "runtime/tick.py": "if TYPE_CHECKING:\n    import jobs.system",
        "system.py": "",
    },
    "up, relative": {"core/retry.py": "from ..stores import memory", "stores/memory.py": ""},
    "up, by name": {"core/retry.py": "import_module('jobs.stores')", "stores/__init__.py": ""},
    "the facade from below": {"runtime/tick.py": "from jobs import Tickwork"},
    "across": {"stores/memory.py": "import jobs.doorbells", "doorbells/__init__.py": ""},
    "production from testing": {"http/app.py": "import jobs.testing", "testing/__init__.py": ""},
    "testing from http": {"testing/__init__.py": "import jobs.http", "http/__init__.py": ""},
    "the facade from http": {"__init__.py": "from jobs.http import app", "http/app.py": ""},
    "what is not shipped": {"core/retry.py": "from tests.support import servers"},
    "no floor": {"attic.py": ""},
}


def _build(folder: Path, files: dict[str, str]) -> House:
    for name, text in {"__init__.py": "", **files}.items():
        path = folder / "jobs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return House.read(folder / "jobs")


@pytest.mark.parametrize("files", BREACHES.values(), ids=BREACHES)
def test_a_breach_is_seen(files: dict[str, str], tmp_path: Path) -> None:
    assert len(floor_breaches(_build(tmp_path, files))) == 1


def test_a_sound_house_is_left_in_peace(tmp_path: Path) -> None:
    files = {
        "__init__.py": "def __getattr__(name):\n    from jobs.system import Tickwork",
        "core/__init__.py": "from .errors import A\nfrom jobs.core.retry import b",
        "core/errors.py": "import enum",
        "core/helpers.py": "from . import errors",
        "core/retry.py": "from jobs.core.errors import A\nfrom jobs.core import helpers",
        "stores/sql/store.py": "from .tables import t\nfrom ...core import errors",
        "stores/sql/tables.py": "",
        "system.py": "from jobs.stores.sql import store",
        "http/app.py": "from jobs import Tickwork\nimport flask",
        "testing/__init__.py": "from jobs.system import Tickwork",
    }
    house = _build(tmp_path, files)

    assert floor_breaches(house) == []
    assert order_breaches(house) == []
    assert circle(house) == []
    assert house.imports["jobs.stores.sql.store"] == {"jobs.stores.sql.tables", "jobs.core.errors"}


@pytest.mark.parametrize(
    "files",
    [
        {"runtime/enqueue.py": "from jobs.runtime.settle import x", "runtime/settle.py": ""},
        {
            "core/backoff.py": "from . import helpers",
            "core/helpers.py": "from .settings import y",
            "core/settings.py": "",
        },
        {
            "core/backoff.py": "from jobs.core import Settings",
            "core/__init__.py": "from .settings import Settings",
            "core/settings.py": "",
        },
        {"stores/sql/tables.py": "import jobs.stores.sql.store", "stores/sql/store.py": ""},
    ],
    ids=["straight", "by a detour", "through the package", "on an inner floor"],
)
def test_going_to_a_later_file_is_seen(files: dict[str, str], tmp_path: Path) -> None:
    breaches = order_breaches(_build(tmp_path, files))

    assert len(breaches) == 1
    assert "stands after it" in breaches[0]


def test_a_circle_is_seen(tmp_path: Path) -> None:
    files = {"ops/why.py": "from . import doctor", "ops/doctor.py": "import jobs.ops.why"}

    assert set(circle(_build(tmp_path, files))) == {"jobs.ops.why", "jobs.ops.doctor"}
