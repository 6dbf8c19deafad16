"""A file on which the kernel kills the daemon for its memory is isolated; a hand's kill -9 is not."""

from __future__ import annotations

import struct

from between import GoBetween
from daemon import Station, age, drop_files
from daemon import under_prefix as under

from sensordrop.adapters.trail import left_in_work

CARD = {f"950349/{n:02}.WAV": b"RIFF recording %d" % n for n in range(30)}
WORKERS = 2
AT_KILLS = 8
"""Where the trail keeps how many processes the kernel had killed when ours was last seen alive."""


def crashes(station: Station) -> list[int]:
    rows = station.ledger.rows("SELECT crashes FROM upload_queue WHERE crashes > 0")
    return [row["crashes"] for row in rows]


def killed(station: Station, *, by_the_kernel: bool) -> None:
    """Kill the daemon with uploads under way, and start it again.

    A test can't raise the kernel's own count, so what was last seen of it is set below all.
    """
    trail = station.state / "in-work"
    station.wait_for(
        lambda: (left := left_in_work(trail)) and len(left.upload_ids) >= WORKERS,
        what="uploads under way",
    )
    station.daemon.kill9()
    if by_the_kernel:
        content = bytearray(trail.read_bytes())
        struct.pack_into("<q", content, AT_KILLS, -1)
        trail.write_bytes(content)
    station.start()


def test_only_what_was_in_work_is_charged_and_only_where_the_kernel_did_it(station):
    digests = drop_files(station.drop, CARD)
    age(station.drop)
    with GoBetween(station.server.endpoint_url) as between:
        between.gate.clear()
        station.delivery(endpoint_url=between.endpoint_url, max_workers=WORKERS)
        station.start()
        killed(station, by_the_kernel=False)
        assert station.daemon.logs("predecessor_killed") == []
        assert crashes(station) == [], "a kill by hand charges nobody"

        killed(station, by_the_kernel=True)
        (told,) = station.daemon.logs("predecessor_killed")
        charged = crashes(station)
        assert set(charged) == {1}
        assert len(charged) == told["files_in_work"] <= 2 * WORKERS, "those that were in work alone"

        between.gate.set()
        # What the store may have got before a kill is found stored.
        station.wait_for(
            lambda: (
                len(station.ledger.states()) == len(digests)
                and set(station.ledger.states().values()) <= {"uploaded", "skipped"}
            ),
            what="all is stored",
        )
    assert left_in_work(station.state / "in-work") is not None, "it works"
    assert station.daemon.stop() == 0
    assert left_in_work(station.state / "in-work") is None, "nothing is left in order"
    assert station.bucket.digests() == under(digests)
