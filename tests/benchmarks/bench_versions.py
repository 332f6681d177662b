"""The frameworks' tests on the lowest versions that pyproject.toml allows, and on the newest that pip finds.

    python tests/benchmarks/bench_versions.py [--only lowest|newest] [--at directory]

Each run has a virtual environment of its own, in a temporary directory or below --at, where it is kept and used again. What belongs to
no framework (torch, transformers, faiss, pytest) is linked from the environment that runs this, so that little is downloaded; what
belongs to one is installed anew, with its dependencies. langchain-tests, whose suites are part of the tests, comes as the development
group states it. Tests on the real model are left out. Ends with 1 if a test fails or the stated bounds cannot be installed together, and
with 0 and a line that says so where nothing can be installed, as without a network.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent.parent
FRAMEWORKS = ("langchain-core", "langchain", "langchain-classic", "langgraph", "langchain-tests", "llama-index-core")
OF_A_FRAMEWORK = re.compile(r"(langchain|langgraph|langsmith|llama-index|memos-integrations)\b")
# what pip would take beside their lowest versions, and they cannot live with: VCR.py 7, which langchain-tests 1.1.0 brings, patches what
# newer ones of aiohttp have no more, and langgraph-prebuilt 1.0.9 and 1.0.10 import what LangGraph has only from 1.1.5 on
BESIDE_THE_LOWEST = ("aiohttp<3.14", "langgraph-prebuilt<1.0.9")
TESTS = ("test_langchain*.py", "test_langgraph.py", "test_llamaindex*.py")


def bounds() -> dict[str, Requirement]:
    """The frameworks' requirements as pyproject.toml states them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    stated = [line for lines in project["project"]["optional-dependencies"].values() for line in lines]
    stated += project["dependency-groups"]["dev"]
    found = {requirement.name: requirement for requirement in map(Requirement, stated) if requirement.name in FRAMEWORKS}
    if missing := set(FRAMEWORKS) - found.keys():
        raise SystemExit(f"pyproject.toml states no version of {', '.join(sorted(missing))}")
    return found


def wanted(which: str) -> list[str]:
    """What pip is asked for."""
    if which == "newest":
        return [str(requirement) for requirement in bounds().values()]
    lowest = {name: [each.version for each in requirement.specifier if each.operator == ">="] for name, requirement in bounds().items()}
    if unbound := [name for name, versions in lowest.items() if len(versions) != 1]:
        raise SystemExit(f"pyproject.toml must state one lower bound (>=) of {', '.join(unbound)}")
    return [*(f"{name}=={versions[0]}" for name, versions in lowest.items()), *BESIDE_THE_LOWEST]


def installed(path: Path) -> dict[str, str]:
    """The frameworks' packages in a directory, and their versions."""
    found = {each.name.lower().replace("_", "-"): each.version for each in distributions(path=[str(path)])}
    return {name: version for name, version in sorted(found.items()) if OF_A_FRAMEWORK.match(name)}


def make(place: Path) -> Path:
    """An environment that sees this one's packages but those of the frameworks. Its interpreter."""
    base = Path(sysconfig.get_path("purelib"))
    theirs = {
        file.parts[0]
        for each in distributions(path=[str(base)])
        if OF_A_FRAMEWORK.match(each.name.lower().replace("_", "-"))
        for file in each.files or ()
    }
    python = place / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    linked = place / "linked"
    linked.mkdir()
    for entry in base.iterdir():
        if entry.name not in theirs and entry.suffix != ".pth":
            (linked / entry.name).symlink_to(entry)
    (next((place / "lib").glob("python*")) / "site-packages" / "linked.pth").write_text(f"{linked}\n")
    return python


def install(python: Path, packages: list[str]) -> str | None:
    """Install them. None, or what pip says against it."""
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--disable-pip-version-check", *packages]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return None if done.returncode == 0 else done.stderr.strip()


def tested(python: Path, report: Path) -> tuple[bool, str]:
    """Whether the frameworks' tests pass under an interpreter, and how many did what."""
    files = sorted(str(path.relative_to(ROOT)) for pattern in TESTS for path in (ROOT / "tests").glob(pattern))
    command = [
        str(python),
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "--no-header",
        "-m",
        "not real and not bench",
        f"--junitxml={report}",
        *files,
    ]
    report.unlink(missing_ok=True)
    done = subprocess.run(command, check=False, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    if done.returncode not in (0, 1) or not report.exists():
        return False, f"pytest ended with {done.returncode}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    suite = next(ElementTree.parse(report).iter("testsuite"))
    ran, failed, errors, skipped = (int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped"))
    counts = f"{ran - failed - errors - skipped} passed, {failed} failed, {errors} errors, {skipped} skipped, {float(suite.get('time', 0)):.0f} s"
    return done.returncode == 0, counts if done.returncode == 0 else f"{counts}\n{done.stdout[-12000:]}"


@contextmanager
def directory(at: Path | None) -> Iterator[Path]:
    if at is not None:
        at.mkdir(parents=True, exist_ok=True)
        yield at.resolve()
        return
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=("lowest", "newest"))
    parser.add_argument("--at", type=Path)
    given = parser.parse_args()
    well = True
    with directory(given.at) as where:
        for which in (given.only,) if given.only else ("lowest", "newest"):
            place = where / which
            there = place.exists()
            python = place / "bin" / "python" if there else make(place)
            packages = wanted(which)
            refused = install(python, ["--upgrade", *packages] if which == "newest" else packages)
            if refused is not None:
                clash = "ResolutionImpossible" in refused
                well &= not clash
                print(f"{which}: {'the bounds contradict each other' if clash else 'not measured, these cannot be installed'}: {packages}")
                print("   " + refused.replace("\n", "\n   "), flush=True)
                continue
            versions = installed(next((place / "lib").glob("python*")) / "site-packages")
            print(f"{which}: {', '.join(f'{name} {version}' for name, version in versions.items())}", flush=True)
            passed, counts = tested(python, where / f"{which}.xml")
            well &= passed
            print(f"   {counts}", flush=True)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
