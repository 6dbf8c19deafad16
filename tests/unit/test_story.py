"""What keeps a file from being stored, said in the order in which it helps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sensordrop.core.controls import Control, ControlKind
from sensordrop.core.model import Fingerprint
from sensordrop.core.story import (
    DeliveryPlace,
    FailedAttempt,
    FileStory,
    FileVersion,
    OnDisk,
    blockers,
    shown_state,
)

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
SEEN = Fingerprint(size_bytes=10, mtime_ns=1, ctime_ns=1)
CHANGED = Fingerprint(size_bytes=11, mtime_ns=2, ctime_ns=2)
HERE = OnDisk(fingerprint=SEEN)
PAUSE = Control(kind=ControlKind.PAUSE, delivery_id=1, value="on", reason="a call",
                set_by="ann@hut", set_at=NOW, until=None)  # fmt: skip
FAILURE = FailedAttempt(begun_at=NOW, ended_at=NOW, attempts=1, scope="file",
                        error_class="rejected", message="not today", hint="ask the store",
                        charged=True, final=False)  # fmt: skip


def place(**changes: object) -> DeliveryPlace:
    settings: dict[str, object] = {
        "delivery_id": 1, "name": "card", "station": "hut", "local_directory": "/drop",
        "endpoint_url": "", "bucket_name": "b", "s3_prefix": "C1", "enabled": True,
        "state": "watching", "reason": None, "last_sweep_ended_at": NOW,
        "last_sweep_complete": True, "last_complete_sweep_at": NOW, "session_id": 1,
        "quiet_seconds": 5.0, "daemon_alive": True,
    }  # fmt: skip
    return DeliveryPlace(**{**settings, **changes})  # type: ignore[arg-type]


def version(state: str = "pending", **changes: object) -> FileVersion:
    settings: dict[str, object] = {
        "upload_id": 1, "state": state, "session_id": 1, "sensor": "s", "size_bytes": 10,
        "fingerprint": SEEN, "seen_at": None, "enrolled_at": NOW, "finished_at": None,
        "object_key": None, "reason": None, "attempts": 0, "crashes": 0, "claimed": False,
        "next_at": None,
    }  # fmt: skip
    return FileVersion(**{**settings, **changes})  # type: ignore[arg-type]


def told(story: FileStory, disk: OnDisk = HERE) -> tuple[str, list[str]]:
    found = blockers(story, disk, retry="RETRY", resume="RESUME")
    return shown_state(story, disk), [each.what for each in found]


WAITING = {"next_at": NOW + timedelta(hours=1), "failures": [FAILURE]}

HELD = datetime(9999, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("state", "held", "story", "disk"),
    [
        ("uploaded", [], {"versions": [version("uploaded")]}, HERE),
        ("uploaded", [], {"versions": [version("uploaded")]}, OnDisk()),
        ("pending", [], {"versions": [version()]}, HERE),
        ("uploading", [], {"versions": [version(claimed=True)]}, HERE),
        ("pending", ["wait"], {"versions": [version(**WAITING)]}, HERE),
        ("pending", ["missing"], {"versions": [version(next_at=HELD)]}, OnDisk()),
        ("pending", ["crashes"], {"versions": [version(crashes=2)]}, HERE),
        ("failed", ["quarantine"], {"versions": [version("failed")], "pauses": [PAUSE]}, HERE),
        ("pending", ["pause"], {"versions": [version()], "pauses": [PAUSE]}, HERE),
        ("pending", ["daemon", "pause"],
         {"place": place(daemon_alive=False), "versions": [version()], "pauses": [PAUSE]}, HERE),
        ("pending", ["disabled"],
         {"place": place(enabled=False, daemon_alive=False), "versions": [version()]}, HERE),
        ("pending", ["breaker", "wait"],
         {"place": place(state="blocked", reason="down"), "versions": [version(**WAITING)]}, HERE),
        ("pending", ["offline"],
         {"place": place(state="offline", reason="gone"), "versions": [version()]}, OnDisk()),
        ("settling", ["settling"], {}, HERE),
        ("settling", ["settling", "pause"], {"pauses": [PAUSE]}, HERE),
        ("settling", ["settling"], {"versions": [version("uploaded")]},
         OnDisk(fingerprint=CHANGED)),
        ("pending", [], {"versions": [version()]}, OnDisk(fingerprint=CHANGED)),
        ("ignored", ["ignored"], {"ignored": "junk", "pauses": [PAUSE]}, HERE),
        ("missing", ["missing"], {"pauses": [PAUSE]}, OnDisk()),
        ("missing", ["unknown"], {}, OnDisk(problem="no right to look")),
    ],
)  # fmt: skip
def test_what_holds_a_file_up(state, held, story, disk):
    settings = {"place": place(), "path": "s/a.wav", **story}
    assert told(FileStory(**settings), disk) == (state, held)


def test_a_quarantined_file_says_what_to_mend_and_how_to_go_on():
    failed = version("failed", reason="not today", failures=[FAILURE])
    story = FileStory(place=place(), path="s/a.wav", versions=[failed])
    (held,) = blockers(story, HERE, retry="RETRY", resume="RESUME")
    assert held.reason == "not today"
    assert held.hint == "ask the store; then: RETRY"
