"""`make bench`: measures sensordrop and its peers in one run, and writes down what it saw.

Environment: `ONLY` (names of groups, with commas between), `QUICK` (1: small numbers), `ROUNDS`,
`BENCH_WORK` (the folder for files, peers and servers; default `.bench`).
Ends with 1 where a group could not be measured, with 2 where the environment makes no sense.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import batch
import parts
import peers
import receipts
import scrapes
import sweeps
import uploads
import views
import watching
from costs import ProgramFailedError
from figures import Row, as_json, between_markers, in_order, markdown, merged
from plan import QUICK, Bench, Sizes
from station import StationError
from stores import StoreError, running_sink

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results.json"
PAGE = ROOT / "docs" / "performance.md"
MEASURED = ("daemon", "sql", "bench", "setup.cfg", "packaging/requirements")
"""What the figures depend on: changes here that are not committed are told with the commit."""
NOT_MEASURED = ":(exclude)bench/results.json"

GROUPS: dict[str, Callable[[Bench], list[Row]]] = {
    "small": uploads.small,
    "medium": uploads.medium,
    "large": uploads.large,
    "far": uploads.far,
    "batch": batch.batch,
    "parts": parts.parts,
    "stored": uploads.stored,
    "sweeps": sweeps.sweeps,
    "ledger": sweeps.ledger,
    "single": watching.single,
    "moved": watching.moved,
    "idle": watching.idle,
    "scrape": scrapes.scrape,
    "views": views.views,
    "receipts": receipts.receipts,
}
WITHOUT_SINK = ("stored", "sweeps", "scrape", "views", "receipts")
"""Groups that need no nginx."""


def main() -> int:
    """Measure what the environment asks for."""
    quick = os.environ.get("QUICK", "") not in ("", "0", "no")
    only = [name for name in os.environ.get("ONLY", "").replace(",", " ").split() if name]
    unknown = [name for name in only if name not in GROUPS]
    if unknown:
        print(f"ONLY={' '.join(unknown)}: there are {', '.join(GROUPS)}", file=sys.stderr)
        return 2
    sizes = QUICK if quick else Sizes()
    if rounds := os.environ.get("ROUNDS"):
        if not rounds.isdecimal() or not int(rounds):
            print(f"ROUNDS={rounds}: a whole number from 1 on is wanted", file=sys.stderr)
            return 2
        sizes = replace(sizes, rounds=int(rounds))
    work = Path(os.environ.get("BENCH_WORK") or ROOT / ".bench").absolute()
    work.mkdir(parents=True, exist_ok=True)
    there = peers.install(work)
    for name, why in there.missing.items():
        print(f"without {name}: {why}")
    with ExitStack() as stack:
        sink = None
        try:
            sink = stack.enter_context(running_sink(work / "sink", as_root=os.geteuid() == 0))
        except StoreError as error:
            print(f"without the sink: {error}")
        bench = Bench(work=work, peers=there, sizes=sizes, sink=sink)
        failed = _measure(bench, only or list(GROUPS), quick=quick)
    print(f"written to {RESULTS.relative_to(ROOT)} and {PAGE.relative_to(ROOT)}")
    return 1 if failed else 0


def _measure(bench: Bench, names: Sequence[str], *, quick: bool) -> dict[str, str]:
    """Run the groups one after the other, each written down at once; give what failed and why.

    A group that fails does not keep the others away.
    """
    failed: dict[str, str] = {}
    commit = _commit()
    for name in names:
        if bench.sink is None and name not in WITHOUT_SINK:
            failed[name] = "the sink (nginx) is missing"
            print(f"{name}: left out, {failed[name]}")
            continue
        print(f"{name} …", flush=True)
        began = time.monotonic()
        rows: list[Row] = []
        try:
            rows = [replace(row, quick=quick, commit=commit) for row in GROUPS[name](bench)]
        except (ProgramFailedError, StationError, StoreError) as error:
            failed[name] = str(error).splitlines()[0]
            print(f"  {name} failed: {error}")
        _write_down(_results(rows, bench, failed, commit=commit, quick=quick))
        table = markdown([asdict(row) for row in rows])
        print(f"  {name} took {time.monotonic() - began:.0f} s\n\n{table}\n", flush=True)
    return failed


def _results(
    rows: Sequence[Row], bench: Bench, failed: dict[str, str], *, commit: str, quick: bool
) -> dict[str, Any]:
    earlier = []
    if RESULTS.exists():
        earlier = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]
    return {
        "commit": commit,
        "quick": quick,
        "rounds": bench.sizes.rounds,
        "machine": {
            "cores": os.cpu_count(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
            "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
        },
        "peers": bench.peers.versions,
        "missing": bench.peers.missing,
        "failed": failed,
        "rows": in_order(merged(earlier, rows), list(GROUPS)),
    }


def _write_down(results: dict[str, Any]) -> None:
    RESULTS.write_text(as_json(results), encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    table = _page(results, markdown(results["rows"]))
    PAGE.write_text(between_markers(page, table), encoding="utf-8")


def _page(results: dict[str, Any], table: str) -> str:
    """Give what stands in docs/performance.md: the table, and what it was measured with."""
    machine = results["machine"]
    commits = sorted({str(row["commit"]) for row in results["rows"]})
    lines = [
        f"Measured at commit {', '.join(commits)} on {machine['cores']} cores with Python "
        f"{machine['python']}; rounds: {results['rounds']}. Peers: "
        + ", ".join(f"{name} {version}" for name, version in results["peers"].items())
        + ".",
    ]
    if any(row["quick"] for row in results["rows"]):
        lines.append("**Rows that say so are from a quick run (`QUICK=1`): too small to go by.**")
    lines += [f"Without {name}: {why}." for name, why in results["missing"].items()]
    lines += [f"Group `{name}` failed: {why}." for name, why in results["failed"].items()]
    return "\n\n".join([*lines, table])


def _commit() -> str:
    git = shutil.which("git")
    if git is None:
        return "unknown"

    def said(*words: str) -> str:
        done = subprocess.run(
            [git, "-C", str(ROOT), *words], capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    commit = said("rev-parse", "--short", "HEAD") or "unknown"
    changed = said("status", "--porcelain", "--", *MEASURED, NOT_MEASURED)
    return commit + (" with changes" if changed else "")


if __name__ == "__main__":
    sys.exit(main())
