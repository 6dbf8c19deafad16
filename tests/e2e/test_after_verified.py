"""`after_verified`, by the real daemon: stored files leave the folder, and nothing else does."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from daemon import age, drop_files, settle_accounts

CARD = {
    "S1/a.wav": b"recording a",
    "S1/DCIM/b.jpg": b"image b",
    "S2/c.wav": b"recording c",
}
STORED = dict.fromkeys(CARD, "uploaded")


@pytest.fixture
def elsewhere(tmp_path):
    """Give a folder on another file system."""
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no other file system here")
    folder = Path(tempfile.mkdtemp(prefix="sensordrop-", dir=other))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def card(make_station, moto, ledger_url):
    """Give a function that makes a station whose delivery has a card and a wish."""
    assert ledger_url, "it must be there until the accounts are settled"
    made = []

    def make(wish: str, **keys):
        station = make_station(moto)
        station.configure()
        station.delivery(after_verified=wish, **keys)
        drop_files(station.drop, CARD)
        age(station.drop)
        made.append(station)
        return station

    yield make
    for station in made:
        settle_accounts(station)


def files_in(folder: Path) -> dict[str, bytes]:
    found = {}
    for each in folder.rglob("*"):
        try:
            if each.is_file():
                found[str(each.relative_to(folder))] = each.read_bytes()
        except FileNotFoundError:
            continue  # taken away just now
    return found


def wait_until_taken(station, *sets: dict[str, bytes]) -> None:
    """Wait until the log has as many files taken, and all of it has ended."""
    files = sum(map(len, sets))
    rows = "SELECT count(*) FILTER (WHERE outcome = 'taken') AS taken, count(*) AS files FROM taken_files"
    station.wait_for(
        lambda: station.ledger.rows(rows) == [{"taken": files, "files": files}],
        what=f"{files} files taken away",
    )


def test_deleted_files_stay_stored_everywhere_and_a_card_filled_again_is_new(card):
    station = card("delete")
    station.start()
    wait_until_taken(station, CARD)
    station.wait_for(lambda: not list(station.drop.iterdir()), what="the empty folders are gone")
    assert station.ledger.states() == STORED
    told = json.loads(station.sensordrop("why", "S1/a.wav", "--json").stdout)
    assert (told["state"], told["taken"]["outcome"]) == ("uploaded", "taken")
    words = station.sensordrop("why", "S1/a.wav").stdout
    assert "deleted from the folder after receipt" in words

    again = {"S1/a.wav": b"another recording", "S2/c.wav": CARD["S2/c.wav"]}
    drop_files(station.folder / "second", again)
    age(station.folder / "second")
    for folder in ("S1", "S2"):
        (station.folder / "second" / folder).rename(station.drop / folder)
    station.wait_for(
        lambda: len(station.ledger.uploads("S1/a.wav")) == 2 and not files_in(station.drop),
        what="the second card was stored and taken",
    )
    wait_until_taken(station, CARD, again)
    assert station.sensordrop("verify", "--source").returncode == 0
    held = station.bucket.digests().values()
    assert {row["digest"] for row in station.ledger.uploads()} <= {*held}
    assert not [line for line in station.daemon.logs() if line["event"] in
                ("watch_missed", "look_failed", "taking_failed", "files_missing")]  # fmt: skip
    counts = station.delivery_status()["counts"]
    assert (counts["vanished"], counts["failed"], counts["settling"]) == (0, 0, 0)
    assert station.delivery_status()["state"] == "watching"


def test_moved_files_are_in_the_target_whichever_disk_it_is_on(card, elsewhere):
    station = card(f"move:{elsewhere}")
    station.start()
    wait_until_taken(station, CARD)
    assert files_in(elsewhere) == CARD
    assert station.daemon.stop() == 0
    assert files_in(station.drop) == {}
    done = station.folder / "done"
    done.mkdir()
    station.delivery(after_verified=f"move:{done}")
    more = {"S3/d.wav": b"recording d"}
    drop_files(station.drop, more)
    station.start()
    wait_until_taken(station, CARD, more)
    assert files_in(done) == more
    assert "moved to" in station.sensordrop("why", "S3/d.wav").stdout


def test_where_the_verdict_is_not_safe_it_is_told_and_nothing_is_touched(card):
    station = card("delete")
    link = station.drop / "S2" / "link.wav"
    link.symlink_to("c.wav")
    station.start()
    refused = station.daemon.wait_for_log("taking_refused")
    assert "S2/link.wav" in refused["problem"]
    station.wait_for_published(
        "watching", reason="stored files stay in the folder: the verdict is NOT"
    )
    assert files_in(station.drop).keys() == {*CARD, "S2/link.wav"}
    assert station.ledger.rows("SELECT 1 FROM taken_files") == []
    link.unlink()
    assert station.sensordrop("rescan", "card").returncode == 0
    wait_until_taken(station, CARD)
    station.wait_for(
        lambda: station.published()["reason"] is None, what="nothing is in the way any more"
    )


def test_what_is_kept_is_never_touched_and_a_reload_begins_and_ends_it(card):
    station = card("keep", session_receipt=True)
    station.start()
    station.wait_for_session_end()
    rows = station.ledger.rows("SELECT verdict FROM receipts")
    assert [row["verdict"] for row in rows] == ["SAFE"]
    assert files_in(station.drop) == CARD
    station.delivery(after_verified="delete")
    assert station.sensordrop("reload").returncode == 0
    wait_until_taken(station, CARD)
    station.delivery(after_verified="keep")
    assert station.sensordrop("reload").returncode == 0
    drop_files(station.drop, {"S9/kept.wav": b"kept"})
    station.wait_for_session_end(2)
    assert station.daemon.stop() == 0
    assert files_in(station.drop) == {"S9/kept.wav": b"kept"}
    assert station.ledger.rows("SELECT count(*) AS n FROM taken_files") == [{"n": len(CARD)}]


def test_a_run_by_hand_takes_nothing_away(card):
    station = card("delete")
    done = station.sensordrop("upload", "--quiet")
    assert done.returncode == 0, done.stderr
    assert files_in(station.drop) == CARD
    assert os.listdir(station.drop)  # noqa: PTH208 — the folders, too
