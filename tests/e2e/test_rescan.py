"""Files that wait and are missing: kept until they are back, or until somebody says so."""

from __future__ import annotations

import json
import shutil

from daemon import drop_files
from daemon import under_prefix as under

CARD = {f"950349/{n:03}.WAV": b"RIFF recording %d" % n for n in range(40)}


def states(*, gone: int, here: str, missing: str) -> dict[str, str]:
    names = sorted(CARD)
    return dict.fromkeys(names[:gone], missing) | dict.fromkeys(names[gone:], here)


def test_a_mass_deletion_is_asked_about_and_ends_when_it_is_confirmed(station):
    station.start()
    assert station.sensordrop("pause", "card").returncode == 0
    digests = drop_files(station.drop, CARD)
    station.wait_for_states(states(gone=0, here="pending", missing=""))
    aside = station.folder / "aside"
    shutil.copytree(station.drop, aside)
    for name in sorted(CARD)[:30]:
        (station.drop / name).unlink()
    assert station.sensordrop("rescan").returncode == 0
    held = "SELECT count(*) AS files FROM upload_queue WHERE next_at = '9999-01-01 00:00+00'"
    station.wait_for(lambda: station.ledger.rows(held)[0]["files"] == 30, what="they are held")
    assert station.sensordrop("resume", "card").returncode == 0
    # What is there is stored; what is missing is told, and waits, also over a restart.
    station.wait_for_states(states(gone=30, here="uploaded", missing="pending"))
    told = station.wait_for_published("watching", reason="30 of the files that wait")
    assert "sensordrop rescan card --confirm-vanished" in told["reason"]
    assert station.daemon.logs("files_missing")[-1]["files"] == 30
    assert station.daemon.stop() == 0
    done = station.sensordrop("rescan", "card")
    assert "not running" in done.stdout
    station.start()
    station.wait_for_published("watching", reason="30 of the files that wait")
    # Some are back: they are stored without anybody's doing.
    for name in sorted(CARD)[20:30]:
        shutil.copy2(aside / name, station.drop / name)
    station.wait_for_states(states(gone=20, here="uploaded", missing="pending"))
    assert station.ledger.sessions()[0]["state"] == "open"
    done = station.sensordrop("rescan", "card", "--confirm-vanished", "--json")
    assert json.loads(done.stdout) == {
        "station": "teststation",
        "rescan": ["card"],
        "running": True,
    }
    station.wait_for_states(states(gone=20, here="uploaded", missing="vanished"))
    station.wait_for_session_end()
    station.wait_for(lambda: station.published()["reason"] is None, what="nothing is amiss")
    kept = {path: digest for path, digest in digests.items() if path in sorted(CARD)[20:]}
    assert station.bucket.digests() == under(kept)
    ended = "SELECT value, ended_by FROM controls WHERE kind = 'rescan' ORDER BY id"
    asked = [(row["value"], row["ended_by"]) for row in station.ledger.rows(ended)]
    assert asked == [
        ("sweep", "sensordropd"),
        ("sweep", "sensordropd"),
        ("confirm-vanished", "sensordropd"),
    ]


def test_files_that_go_while_they_are_uploaded_are_asked_about_too(station):
    """The uploader finds them missing one by one: still nobody calls them gone."""
    station.start()
    assert station.sensordrop("pause", "card").returncode == 0
    drop_files(station.drop, CARD)
    station.wait_for_states(states(gone=0, here="pending", missing=""))
    (station.drop / "950349").rename(station.folder / "aside")
    (station.drop / "950349").mkdir()
    assert station.sensordrop("resume", "card").returncode == 0
    station.wait_for_published("watching", reason="40 of the files that wait")
    assert set(station.ledger.states().values()) == {"pending"}
    (station.drop / "950349").rmdir()
    (station.folder / "aside").rename(station.drop / "950349")
    station.wait_for_states(states(gone=0, here="uploaded", missing=""))
    station.wait_for_session_end()


def test_a_slip_of_the_pen_asks_for_nothing(station):
    station.start()
    station.wait_for_sweep()
    done = station.sensordrop("rescan", "--confirm-vanished")
    assert (done.returncode, "needs the DELIVERY" in done.stderr) == (2, True)
    done = station.sensordrop("rescan", "crad")
    assert (done.returncode, "did you mean" in done.stderr) == (2, True)
    assert station.ledger.rows("SELECT * FROM controls WHERE kind = 'rescan'") == []
