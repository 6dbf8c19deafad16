"""kill -9 at every step of taking a file away: no byte is lost, and the log says what became of it."""

from __future__ import annotations

import pytest
from daemon import Station, age, drop_files, under_prefix
from test_crash_points import kill_at

TAKING = "sensordrop.adapters.taking:FolderTaking"
POINTS = [
    "sql:after commit:INSERT INTO taken_files",
    "call:after:sensordrop.adapters.target:_place",
    f"call:before:{TAKING}._same_still",
    f"call:after:{TAKING}._remove",
    "sql:before commit:UPDATE taken_files",
]


@pytest.mark.timeout(900)
def test_killed_at_every_step_of_taking_files_away(make_station, moto):
    station: Station = make_station(moto)
    done = station.folder / "done"
    done.mkdir()
    station.configure()
    station.delivery(after_verified=f"move:{done}")
    digests: dict[str, str] = {}
    contents: dict[str, bytes] = {}
    for number, point in enumerate(POINTS):
        card = station.folder / f"card{number}"
        files = {f"{number:02}/a.wav": b"a%d" % number, f"{number:02}/b.wav": b"b%d" % number}
        digests |= drop_files(card, files)
        contents |= files
        age(card)
        (card / f"{number:02}").rename(station.drop / f"{number:02}")
        kill_at(station, point)
        for path, content in contents.items():
            places = [station.drop / path, done / path]
            at_rest = [each.read_bytes() for each in places if each.exists()]
            on_its_way = [
                each.read_bytes()
                for each in (station.drop / path).parent.glob(".sensordrop-taking-*")
            ]
            assert content in [*at_rest, *on_its_way], (point, path)
    station.start()
    station.wait_for(
        lambda: (
            {each for each in digests if (done / each).exists()} == digests.keys()
            and not list(station.drop.iterdir())
        ),
        what="all is moved",
    )
    station.wait_for(
        lambda: not station.ledger.rows("SELECT 1 FROM taken_files WHERE ended_at IS NULL"),
        what="the log has ended",
    )
    assert station.daemon.stop() == 0
    assert {path: (done / path).read_bytes() for path in contents} == contents
    assert not [each for each in done.rglob("*") if each.name.startswith(".sensordrop")]
    assert station.bucket.digests() == under_prefix(digests), "nothing of ours was stored"
    rows = station.ledger.rows(
        "SELECT f.path, t.moved_to FROM taken_files t JOIN file_uploads f ON f.id = t.upload_id"
        " WHERE t.outcome = 'taken'"
    )
    assert sorted((row["path"], row["moved_to"]) for row in rows) == sorted(
        (path, path) for path in digests
    )
    assert not station.ledger.rows("SELECT 1 FROM taken_files WHERE outcome = 'missing'")
    station.assert_sound()
