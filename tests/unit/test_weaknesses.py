"""`make audit` says what it looked up, and never that all is well where it saw nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

AUDIT = Path(__file__).parents[2] / "packaging" / "audit.py"
CLEAN = {"name": "click", "version": "8.3.0", "vulns": []}
UNKNOWN = {"name": "rich", "skip_reason": "Dependency not found on PyPI"}
WEAK = {
    "name": "urllib3",
    "version": "1.0",
    "vulns": [{"id": "CVE-2021-1", "fix_versions": ["1.1", "2.0"], "aliases": []}],
}


def audit(tmp_path, answer: str, *flags: str, code: int = 0) -> tuple[int, str]:
    """Run it with a pip-audit that gives this answer."""
    (tmp_path / "answer").write_text(answer, encoding="utf-8")
    program = tmp_path / "pip-audit"
    program.write_text(
        f"#!/bin/sh\ncat '{tmp_path}/answer'; echo why >&2; exit {code}\n", encoding="utf-8"
    )
    program.chmod(0o755)
    done = subprocess.run(
        [sys.executable, AUDIT, program, "lock.txt", *flags],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("found", "code", "words"),
    [
        ([CLEAN], 0, "0 of 1 packages have known weaknesses"),
        ([CLEAN, UNKNOWN], 0, "NOT CHECKED, 1 packages: rich"),
        ([CLEAN, WEAK, UNKNOWN], 1, "urllib3 1.0: CVE-2021-1, mended in 1.1, 2.0"),
        ([UNKNOWN, UNKNOWN], 3, "NOT CHECKED: the index has no data"),
        ([], 3, "nothing was shown"),
    ],
)
def test_the_exit_code_and_the_line_say_what_was_shown(tmp_path, found, code, words):
    ended, said = audit(tmp_path, json.dumps({"dependencies": found, "fixes": []}))
    assert ended == code
    assert words in said


def test_what_could_not_be_looked_up_may_pass_and_a_weakness_never(tmp_path):
    flag = "--unchecked-is-no-failure"
    ended, said = audit(tmp_path, json.dumps({"dependencies": [UNKNOWN]}), flag)
    assert ended == 0
    assert "NOT CHECKED" in said
    assert audit(tmp_path, json.dumps({"dependencies": [WEAK]}), flag)[0] == 1


def test_an_auditor_that_fails_is_no_clean_audit(tmp_path):
    ended, said = audit(tmp_path, "", "--unchecked-is-no-failure", code=1)
    assert ended == 2
    assert "ended with 1: why" in said
