"""Runs by hand on other systems than Linux, as far as this one can play them (elsewhere.py)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from batch_hand import LINE, Hand
from daemon import WAIT_SECONDS

HERE = Path(__file__).parent


class Elsewhere:
    """Somebody at the shell of another system."""

    def __init__(self, hand: Hand, system: str) -> None:
        self.hand = hand
        self.system = system
        programs = hand.folder / "programs"
        programs.mkdir()
        other_find = programs / "find"
        # What a find that is not GNU's says to -printf, and what Windows' says to anything.
        other_find.write_text('#!/bin/sh\necho "find: -printf: unknown primary" >&2\nexit 1\n')
        other_find.chmod(0o755)
        hand.environment["PATH"] = f"{programs}:{hand.environment['PATH']}"

    def run(self, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(HERE / "elsewhere.py"), self.system, verb, *arguments],
            env=self.hand.environment, cwd=self.hand.folder, stdin=subprocess.DEVNULL,
            capture_output=True, encoding="utf-8", timeout=2 * WAIT_SECONDS, check=False,
        )  # fmt: skip


@pytest.fixture(params=["macos", "windows"])
def elsewhere(request, hand) -> Elsewhere:
    return Elsewhere(hand, request.param)


def test_a_folder_is_uploaded_by_hand(elsewhere):
    hand = elsewhere.hand
    use_find = "no" if elsewhere.system == "windows" else "yes"
    hand.write(use_find=use_find)
    stored = hand.record(5)
    stored |= hand.record(1, first=5, size=9_000_000)  # more than is read at once
    (hand.card / "950349" / "away").symlink_to("/etc")
    flags = ("--config", hand.file.name)
    planned = elsewhere.run("upload", *flags, "--dry-run")
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert f"6 files would be uploaded to {hand.bucket.name}/C2" in planned.stdout
    done = elsewhere.run("upload", *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert LINE.findall(done.stdout)[-1][:3] == ("100.0", "6", "6")
    assert hand.bucket.digests() == stored
    listed = elsewhere.run("sessions", "--json")
    assert listed.returncode == 0, listed.stdout + listed.stderr
    (session,) = json.loads(listed.stdout)["sessions"]
    assert session["counts"]["uploaded"] == 6


def test_an_embedded_ledger_is_refused_in_one_line(elsewhere):
    del elsewhere.hand.environment["SENSORDROP_DATABASE_URL"]
    done = elsewhere.run("upload", "--config", elsewhere.hand.file.name)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "PostgreSQL can be embedded on Linux only" in done.stderr
    assert "--database URL" in done.stderr
    assert len(done.stderr.splitlines()) == 1
