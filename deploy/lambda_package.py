"""Build the zip that the Lambda functions of `serverless.yml` run: `make package-lambda`.

Neither osls nor the Serverless Framework installs Python packages. This does, for Lambda's platform
and not for the one it runs on, and puts in the project's own entry and the modules with handlers.

    python deploy/lambda_package.py --handlers shop.tasks --requirements requirements.txt

Why it is made this way: docs/decisions/0022-lambda-package.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).resolve().parents[1]
ENTRY = "api/lambda_handlers.py"
EXTRAS = ("aws", "mysql")
# Lambda's own runtime has them; a requirement of yours that names one brings it in all the same.
IN_THE_RUNTIME = ("boto3",)
ARCHITECTURES = {"x86_64": "x86_64", "arm64": "aarch64"}
# Amazon Linux 2023 has glibc 2.34.
PLATFORM = "{machine}-manylinux_2_28"
# Lambda refuses what is larger than this when unpacked.
LIMIT_BYTES = 250 * 1024 * 1024
RECORDS = ("INSTALLER", "RECORD", "REQUESTED", "direct_url.json", "uv_cache.json")
# Where Lambda unpacks it: tracebacks name files there.
HOME_ON_LAMBDA = "/var/task"
# Zip files know no time before this, and a fixed one makes the same content the same file.
EPOCH = (1980, 1, 1, 0, 0, 0)
NEVER = shutil.ignore_patterns(
    *("__pycache__", "*.py[co]", ".*", "*.db", "*.db-*", "*.sqlite", "*.sqlite3", "node_modules")
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Build it and say what came out."""
    asked = _parse(arguments)
    with tempfile.TemporaryDirectory(prefix="tickwork-lambda-") as temporary:
        stage = Path(temporary, "package")
        _install(stage, Path(temporary), asked)
        _bring(stage, asked)
        size = sum(path.stat().st_size for path in _files(stage))
        if size > LIMIT_BYTES:
            _refuse(f"the package is {_mb(size)} unpacked, and Lambda takes {_mb(LIMIT_BYTES)}")
        _compile(stage, asked)
        size = sum(path.stat().st_size for path in _files(stage))
        if size > LIMIT_BYTES:
            _refuse(
                f"the package is {_mb(size)} unpacked with its bytecode, and Lambda takes "
                f"{_mb(LIMIT_BYTES)}: leave the bytecode out with --no-bytecode"
            )
        _zip(stage, asked.output)
    print(
        f"{_shown(asked.output)}: {_mb(asked.output.stat().st_size)}, {_mb(size)} unpacked, "
        f"for Python {asked.python} on {asked.architecture}"
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="lambda_package.py", description="Build the zip for AWS Lambda."
    )
    parser.add_argument(
        "--handlers",
        default=os.environ.get("JOBS_HANDLERS", ""),
        help="modules with handlers, as in JOBS_HANDLERS, which is the default",
    )
    parser.add_argument(
        "--requirements", type=Path, help="a requirements.txt with what they need beside Tickwork"
    )
    parser.add_argument(
        "--include",
        action="append",
        default=[],
        metavar="PATH",
        help="a further file or folder, seen from --source; may be given several times",
    )
    parser.add_argument(
        "--source", type=Path, default=ROOT, help="where modules and files are (default: here)"
    )
    parser.add_argument("--python", default="3.12", help="of the functions' runtime")
    parser.add_argument("--architecture", default="x86_64", choices=ARCHITECTURES)
    parser.add_argument("--no-bytecode", dest="bytecode", action="store_false")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "lambda.zip")
    return parser.parse_args(arguments)


def _install(stage: Path, temporary: Path, asked: argparse.Namespace) -> None:
    """Put Tickwork and what it needs into ``stage``, as wheels for Lambda's platform."""
    # A wheel first: a folder would be taken from uv's cache while only its modules have changed.
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(temporary), versions=["standard"])
    requirements: list[str | Path] = [wheel, *_of_extras()]
    if asked.requirements is not None:
        if not asked.requirements.is_file():
            _refuse(f"--requirements: there is no file {asked.requirements}")
        requirements += ["--requirement", asked.requirements]
    platform = PLATFORM.format(machine=ARCHITECTURES[asked.architecture])
    options = (
        *("--target", stage, "--python-platform", platform, "--python-version", asked.python),
        # A source package would be built for this machine.
        *("--only-binary", ":all:", "--quiet"),
    )
    command = [sys.executable, "-m", "uv", "pip", "install", *options, *requirements]
    # uv asks for an interpreter to install with, but none of the target's is needed.
    environ = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    done = subprocess.run([*command, "--python", sys.executable], env=environ, check=False)
    if done.returncode != 0:
        _refuse("the dependencies could not be installed: uv says why, above")
    shutil.rmtree(stage / "bin", ignore_errors=True)
    # Of use to installers only, and they name folders of this machine.
    for name in (".lock", *(f"*.dist-info/{record}" for record in RECORDS)):
        for path in stage.glob(name):
            path.unlink()


def _of_extras() -> Iterator[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for extra in EXTRAS:
        for requirement in project["optional-dependencies"][extra]:
            if not requirement.startswith(IN_THE_RUNTIME):
                yield requirement


def _bring(stage: Path, asked: argparse.Namespace) -> None:
    """Copy the entry, the modules with handlers and what was included."""
    (stage / ENTRY).parent.mkdir()
    shutil.copy2(ROOT / ENTRY, stage / ENTRY)
    modules = (part.strip().split(".")[0] for part in asked.handlers.split(","))
    for name in dict.fromkeys(filter(None, modules)):
        if (stage / name).is_dir() or (stage / f"{name}.py").is_file():
            continue  # `jobs` itself, or one that a requirement brought
        found = [
            path for path in (Path(name), Path(f"{name}.py")) if (asked.source / path).exists()
        ]
        if not found:
            _refuse(
                f"JOBS_HANDLERS names {name!r}, and there is neither {name}/ nor {name}.py in "
                f"{asked.source}, nor does a requirement bring it"
            )
        _copy(asked.source, stage, found[0])
    for path in map(Path, asked.include):
        if path.is_absolute() or ".." in path.parts or not (asked.source / path).exists():
            _refuse(f"--include: there is no {path} in {asked.source}")
        _copy(asked.source, stage, path)


def _copy(source: Path, stage: Path, path: Path) -> None:
    target = stage / path
    if (source / path).is_dir():
        shutil.copytree(source / path, target, ignore=NEVER, dirs_exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / path, target)


def _compile(stage: Path, asked: argparse.Namespace) -> None:
    """Compile for the target: the deployed folder is read-only, so Lambda cannot keep any."""
    shutil.rmtree(stage / "__pycache__", ignore_errors=True)
    if not asked.bytecode:
        return
    interpreter = _interpreter(asked.python)
    if interpreter is None:
        _refuse(
            f"found no Python {asked.python} to compile with: install it, or build without "
            "bytecode (--no-bytecode), which makes cold starts several times slower"
        )
    # Never checked against the source: the times in a zip are not those of the files.
    options = ("-qq", "-f", "-j", "0", "--invalidation-mode", "unchecked-hash")
    where = ("-s", str(stage), "-p", HOME_ON_LAMBDA, str(stage))
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([interpreter, "-m", "compileall", *options, *where], env=environ, check=False)
    # A file that does not compile is one that is not imported (a template); none at all is a fault.
    if not any(stage.glob("jobs/__pycache__/*.pyc")):
        _refuse(f"{interpreter} compiled nothing")


def _interpreter(version: str) -> str | None:
    """A Python of this version that runs: a version manager's shim may have nothing behind it."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [
        Path(sys.executable),
        *(Path(folder, f"python{version}") for folder in os.get_exec_path()),
        *sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"), reverse=True),
    ]
    asking = "import sys; print('%d.%d' % sys.version_info[:2])"
    for candidate in candidates:
        if Path(candidate).is_file():
            answer = subprocess.run(
                [candidate, "-c", asking], capture_output=True, text=True, check=False
            )
            if answer.stdout.strip() == version:
                return str(candidate)
    return None


def _zip(stage: Path, output: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_name(f"{output.name}.part")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for path in sorted(_files(stage)):
            entry = zipfile.ZipInfo(path.relative_to(stage).as_posix(), EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            # Lambda runs it as another user than the one it belongs to.
            entry.external_attr = (0o755 if path.stat().st_mode & 0o100 else 0o644) << 16
            packed.writestr(entry, path.read_bytes())
    unfinished.replace(output)


def _files(stage: Path) -> Iterator[Path]:
    return (path for path in stage.rglob("*") if path.is_file())


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB"


def _shown(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _refuse(problem: str) -> NoReturn:
    print(f"lambda_package.py: {problem}", file=sys.stderr)
    raise SystemExit(1)


if __name__ == "__main__":
    main()
