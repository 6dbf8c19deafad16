"""`make mutation`: changes the rules in core/ in small ways, and sees that a unit test notices each.

A change that no test notices (a survivor) is a rule that nobody holds. Every survivor is listed in
survivors.txt beside this file with the reason why it may live, or it ends the run red; so does a
reason without a survivor. ONLY names modules, divided by commas. The code is changed in a copy;
.mutation/ keeps copy and tools.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import venv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
WORK = ROOT / ".mutation"
TOOLS = WORK / "tools"
COPY = WORK / "copy"
SURVIVORS = HERE / "survivors.txt"
TESTS: Mapping[str, Sequence[str]] = {
    "breaker": ("test_breaker.py",),
    "failure": ("test_failure.py", "test_lifecycle.py", "test_breaker.py"),
    "guard": ("test_guard.py",),
    "keys": ("test_keys.py",),
    "letters": ("test_letters.py",),
    "lifecycle": ("test_lifecycle.py",),
    "receipt": ("test_receipt_sums.py", "test_receipt.py"),
    "session": ("test_session.py",),
    "settle": ("test_settle.py",),
    "taking": ("test_taking_rules.py",),
    "verification": ("test_verification_rules.py",),
}
"""The modules of core/ that are changed, and the unit tests that are asked about each."""
TIMEOUT_SECONDS = 120
"""A change that makes a loop endless is noticed by this."""
CONFIGURATION = """
[cosmic-ray]
module-path = "daemon/sensordrop/core/{module}.py"
timeout = {timeout}.0
excluded-modules = []
test-command = "{python} -m pytest -c quick.ini -x -q -p no:cacheprovider {tests}"
[cosmic-ray.distributor]
name = "local"
[cosmic-ray.filters.operators-filter]
exclude-operators = [
  "core/ReplaceBinaryOperator_BitOr_.*",
  "core/ReplaceComparisonOperator_Is_Eq",
  "core/ReplaceComparisonOperator_IsNot_NotEq",
]
"""
"""In core/ a bar stands between types only, and those are never computed; and `is` beside members
of an enumeration only, each of which is equal to itself alone.
"""

QUICK_INI = """
[pytest]
addopts = --noconftest --strict-markers --assert=plain
markers =
    timeout: of a plugin that is not loaded
"""
"""What pytest needs for tests of rules alone: without plugins and servers it starts five times as
fast, and it starts for every change. Hypothesis itself looks at CI, and takes the same examples.
"""


@dataclass(frozen=True, kw_only=True)
class Survivor:
    """A change that no test noticed: where, which operator, and the lines that it made."""

    module: str
    operator: str
    diff: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name it by what it changes, so that the name outlives changes elsewhere."""
        return f"{self.module}: {' '.join(self.diff)}"


def install() -> None:
    """Make the tools' virtual environment, which sees that of the project."""
    if (TOOLS / "bin" / "cosmic-ray").exists():
        return
    venv.create(TOOLS, with_pip=True)
    subprocess.run(
        [TOOLS / "bin" / "python", "-m", "pip", "install", "--quiet", "--require-hashes",
         "-r", HERE / "tools.txt"],
        check=True,
    )  # fmt: skip


def copy() -> None:
    """Copy what is changed and what asks about it."""
    shutil.rmtree(COPY, ignore_errors=True)
    for folder in ("daemon", "tests"):
        shutil.copytree(ROOT / folder, COPY / folder, symlinks=True)
    for each in ("sql", "docs"):
        (COPY / each).symlink_to(ROOT / each)
    (COPY / "quick.ini").write_text(QUICK_INI)


def cosmic_ray(*arguments: str) -> str:
    done = subprocess.run(
        ["nice", "-n", "10", str(TOOLS / "bin" / "cosmic-ray"), *arguments],
        cwd=COPY,
        env=os.environ
        | {
            "PYTHONPATH": str(COPY / "daemon"),
            "CI": "true",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout


def survivors_of(module: str) -> tuple[int, list[Survivor]]:
    """Change a module in every way; give the number of changes, and those nobody noticed."""
    tests = " ".join(f"tests/unit/{name}" for name in TESTS[module])
    configuration = COPY / f"{module}.toml"
    configuration.write_text(
        CONFIGURATION.format(
            module=module, tests=tests, python=sys.executable, timeout=TIMEOUT_SECONDS
        )
    )
    session = COPY / f"{module}.sqlite"
    # Tests that fail without any change would take every change for noticed: this ends it.
    cosmic_ray("baseline", configuration.name)
    cosmic_ray("init", configuration.name, session.name)
    subprocess.run(
        [TOOLS / "bin" / "cr-filter-operators", session.name, configuration.name],
        cwd=COPY,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    leave_out_declarations(session, COPY / "daemon/sensordrop/core" / f"{module}.py")
    cosmic_ray("exec", configuration.name, session.name)
    found = [*_outcomes(module, cosmic_ray("dump", session.name))]
    return len(found), [each for outcome, each in found if outcome == "survived"]


def leave_out_declarations(session: Path, source: Path) -> None:
    """Leave alone how classes and functions are declared: that is held by mypy, which no test of
    this run asks.
    """
    declares = re.compile(r"@dataclass|def |self, |\*,$|.*, \*, ")
    rows = [
        row
        for row, line in enumerate(source.read_text(encoding="utf-8").splitlines(), start=1)
        if declares.match(line.strip())
    ]
    marks = ",".join("?" * len(rows))
    left_out = f"SELECT job_id FROM mutation_specs WHERE start_pos_row IN ({marks})"
    with contextlib.closing(sqlite3.connect(session)) as connection, connection:
        for table in ("work_results", "work_items", "mutation_specs"):
            connection.execute(f"DELETE FROM {table} WHERE job_id IN ({left_out})", rows)


def _outcomes(module: str, dump: str) -> Iterator[tuple[str, Survivor]]:
    for line in dump.splitlines():
        work, result = json.loads(line)
        if result is None or result["test_outcome"] is None:
            continue  # what the filter left out
        (mutation,) = work["mutations"]
        changed = [
            text for text in (result["diff"] or "").splitlines() if re.match(r"[+-](?![+-])", text)
        ]
        yield (
            result["test_outcome"],
            Survivor(
                module=module,
                operator=mutation["operator_name"],
                diff=tuple(f"{text[0]} {text[1:].strip()}" for text in changed),
            ),
        )


def excused() -> set[str]:
    """Read the survivors that may live. Lines that begin with # say why."""
    lines = SURVIVORS.read_text(encoding="utf-8").splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def main() -> int:
    """Change every module, and tell what nobody noticed."""
    chosen = [name for name in os.environ.get("ONLY", "").split(",") if name] or list(TESTS)
    install()
    copy()
    allowed = excused()
    strangers = 0
    for module in chosen:
        number, survivors = survivors_of(module)
        names = {each.name for each in survivors}
        unknown = [each for each in survivors if each.name not in allowed]
        stale = sorted(each for each in allowed - names if each.startswith(f"{module}: "))
        strangers += len(unknown) + len(stale)
        sys.stdout.write(
            f"core/{module}.py: {number} changes, {number - len(survivors)} noticed, "
            f"{len(survivors) - len(unknown)} explained, {len(unknown)} not noticed\n"
        )
        for each in unknown:
            sys.stdout.write(f"{each.name}\n")
        for line in stale:
            sys.stdout.write(f"explained, and no longer there or noticed now: {line}\n")
        sys.stdout.flush()
    return 1 if strangers else 0


if __name__ == "__main__":
    sys.exit(main())
