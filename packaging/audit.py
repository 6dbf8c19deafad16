"""Known weaknesses in what is pinned, as the package index tells them: `make audit`.

Exit codes: 0 all that was looked up is clean, 1 something has a known weakness, 2 pip-audit itself
failed, 3 nothing could be looked up, so nothing was shown.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

LIMIT_SECONDS = 60.0
"""For all packages together. An index that does not answer must not hold anybody up for longer."""
NAMED = 5
"""So many packages that were not looked up are named; the rest is counted."""
CLEAN, WEAK, BROKEN, UNCHECKED = 0, 1, 2, 3


def verdict(dependencies: Sequence[Mapping[str, Any]]) -> tuple[int, list[str]]:
    """Weigh what pip-audit tells of each package. Pure."""
    unchecked = [str(each["name"]) for each in dependencies if "skip_reason" in each]
    weak = [each for each in dependencies if each.get("vulns")]
    lines = [
        f"{each['name']} {each['version']}: {found['id']}, mended in "
        f"{', '.join(found['fix_versions']) or 'no version yet'}"
        for each in weak
        for found in each["vulns"]
    ]
    checked = len(dependencies) - len(unchecked)
    if checked == 0:
        none = f"the index has no data on known weaknesses for any of {len(dependencies)} packages"
        return UNCHECKED, [f"NOT CHECKED: {none}; nothing was shown"]
    lines.append(f"{len(weak)} of {checked} packages have known weaknesses")
    if unchecked:
        more = f" and {len(unchecked) - NAMED} more" if len(unchecked) > NAMED else ""
        lines.append(
            f"NOT CHECKED, {len(unchecked)} packages: {', '.join(unchecked[:NAMED])}{more}"
        )
    return (WEAK if weak else CLEAN), lines


def main() -> int:
    """Ask pip-audit, and say in one line what was shown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", help="pip-audit")
    parser.add_argument("lock", help="what is pinned, with hashes")
    parser.add_argument("--unchecked-is-no-failure", action="store_true", help="exit 0 for 3")
    wanted = parser.parse_args()
    asked = [wanted.program, "-r", wanted.lock, "--disable-pip", "--require-hashes",
             "--progress-spinner", "off", "--format", "json"]  # fmt: skip
    try:
        done = subprocess.run(
            asked, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
        )
        dependencies = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        code, lines = UNCHECKED, [
            f"NOT CHECKED: the index did not answer within {LIMIT_SECONDS:g} s; nothing was shown"
        ]  # fmt: skip
    except (json.JSONDecodeError, KeyError):
        code, lines = BROKEN, [f"pip-audit ended with {done.returncode}: {done.stderr[-2000:]}"]
        if "ConnectionError" in done.stderr or "Max retries" in done.stderr:
            code, lines = (
                UNCHECKED,
                ["NOT CHECKED: the index could not be reached; nothing was shown"],
            )
    else:
        code, lines = verdict(dependencies)
    for line in lines:
        sys.stdout.write(line + "\n")
    return 0 if code == UNCHECKED and wanted.unchecked_is_no_failure else code


if __name__ == "__main__":
    sys.exit(main())
