"""What is under way when another configuration comes: after a kill, to other addresses, over a
breaker that is open, and while the ledger is away.
"""

from __future__ import annotations

import signal
from datetime import datetime

import pytest
from between import GoBetween
from daemon import WAIT_SECONDS, Station, age, drop_files, sha256, under_prefix
from receivers import answer, receiving
from s3_servers import Reply
from test_registration import drop, outbox, told_to
from test_reload import CONTENT, LARGE, Held, held, is_stored, reload  # noqa: F401 — a fixture
from test_trouble import StoppablePostgres, stoppable  # noqa: F401 — a fixture


@pytest.mark.parametrize("noticed", [True, False])
def test_what_a_delivery_had_in_work_when_it_was_pointed_elsewhere_is_seen_off_after_a_kill(
    held: tuple[Station, Held],  # noqa: F811
    noticed: bool,
):
    """The kill comes after the reload, or before anybody saw that the delivery goes elsewhere."""
    station, holding = held
    station.delivery(s3_prefix="C9")
    if noticed:
        reload(station)
    station.daemon.kill9()
    holding.go_on.set()
    station.start()
    station.wait_for(
        lambda: is_stored(station, f"C9/{LARGE}"), what="it is stored at its new place"
    )
    station.wait_for(
        lambda: [s["state"] for s in station.ledger.sessions()] == ["ended"] * 2,
        what="the session of before has ended, too",
    )
    assert station.ledger.rows("SELECT 1 FROM upload_queue") == []
    assert sorted(row["state"] for row in station.ledger.uploads()) == ["superseded", "uploaded"]
    assert station.bucket.digests()[f"C9/{LARGE}"] == sha256(CONTENT)


def test_who_is_told_is_whom_the_configuration_names_now(station):
    with receiving() as before, receiving() as after:
        before.always = answer(503)
        station.delivery(endpoint=told_to(before))
        drop(station)
        station.start()
        station.wait_for(lambda: before.heard, what="the first address is tried")
        station.delivery(endpoint=told_to(after))
        reload(station)
        station.wait_for(lambda: after.heard, what="the second address is told")
        asked = len(before.heard)
        assert after.heard[0].key == before.heard[0].key, "it is the same letter"
        drop(station, "950350")
        station.wait_for(
            lambda: [row["state"] for row in outbox(station)] == ["told"] * 2, what="both are told"
        )
        assert [heard.told["session_id"] for heard in after.heard] == [1, 2]
        assert len(before.heard) == asked, "the first one is left alone"


def test_an_endpoint_that_was_mended_is_tried_at_once_after_a_reload(station):
    """The store had said when to come back: nobody asks it before then, but for a reload."""
    down = True

    def refuse(method: str, _path: str) -> Reply | None:
        if down and method == "PUT":
            return Reply(status=503, headers={"Retry-After": "3600"})
        return None

    with GoBetween(station.server.endpoint_url, refuse) as between:
        station.delivery(endpoint_url=between.endpoint_url)
        digests = drop_files(station.drop, {"950349/a.WAV": b"a", "950349/b.WAV": b"b"})
        age(station.drop)
        station.start()
        (breaker,) = station.wait_for(
            lambda: station.status_json()["breakers"], what="the breaker is open"
        )
        opened, probe = (
            datetime.fromisoformat(breaker[key]) for key in ("opened_at", "next_probe_at")
        )
        assert (probe - opened).total_seconds() > 2 * WAIT_SECONDS, "or this would show nothing"
        down = False
        station.delivery(endpoint_url=between.endpoint_url, max_workers=3)
        reload(station)
        station.wait_for_states(dict.fromkeys(digests, "uploaded"))
        station.wait_for(lambda: station.status_json()["breakers"] == [], what="it is closed")
    assert station.bucket.digests() == under_prefix(digests)


def test_a_reload_while_the_ledger_is_away_is_done_when_it_is_back(
    make_station,
    moto,
    stoppable: StoppablePostgres,  # noqa: F811
):
    station: Station = make_station(moto, database=stoppable.url)
    station.configure()
    station.delivery()
    station.start()
    stoppable.stop()
    other = station.folder / "other"
    later = drop_files(other, {"950350/b.WAV": b"b"})
    age(other)
    station.delivery("later", local_directory=str(other), s3_prefix="C2")
    done = station.sensordrop("reload")
    assert (done.returncode, "the ledger is away" in done.stderr) == (3, True), done.stderr
    assert station.daemon.running
    assert station.daemon.logs("configuration_reloaded") == []
    stoppable.start()
    station.wait_for(
        lambda: station.daemon.logs("configuration_reloaded"), what="it is taken after all"
    )
    station.wait_for(lambda: is_stored(station, "C2/950350/b.WAV"), what="the new delivery's file")
    assert station.bucket.digests() == under_prefix(later, "C2")
    station.daemon.signal(signal.SIGTERM)
    assert station.daemon.wait_for_end() == 0
